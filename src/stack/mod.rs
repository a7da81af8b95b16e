//! The frames of compiled code, and the references in them.
//!
//! Knows frame pointers, return addresses and stack maps; not how the maps were made nor what the
//! references refer to. Use it with any heap: register maps in a [`MapTable`], keep [`Activation`]s
//! as the trampolines of [`crate::jit`] do, and visit [`FrameRoots`].

pub mod activation;
pub mod frame_roots;
pub mod map;
pub mod thread;
pub mod walk;

pub use activation::{Activation, Landing};
pub use frame_roots::FrameRoots;
pub use map::{CallSite, MapTable};
pub use thread::with_stack;
pub use walk::{Frame, frames, frames_of};

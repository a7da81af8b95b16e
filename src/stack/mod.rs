//! The frames of compiled code, and the references in them.
//!
//! Knows frame pointers, return addresses and stack maps; not how the maps were made nor what the
//! references refer to. Use it with any heap: register maps in a [`MapTable`], keep [`Activation`]s
//! as the trampolines of [`crate::jit`] do, and visit [`FrameRoots`].

pub mod activation;
pub mod fault;
pub mod frame_roots;
pub mod map;
pub mod thread;
pub mod unmapped;
pub mod walk;

pub use activation::{Activation, Landing};
pub use fault::{Fault, Watch};
pub use frame_roots::FrameRoots;
pub use map::{CallSite, MapTable};
pub use thread::{STACK_RESERVE, with_stack};
pub use unmapped::{Spot, unmapped_words};
pub use walk::{Frame, find_frame, frames, frames_of};

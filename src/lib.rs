#![doc = include_str!("../README.md")]
//!
//! # The way of one root
//!
//! The modules in the order in which a root meets them:
//!
//! 1. [`mutator`], `call`: [`Mutator::call`] enters compiled code through the entry trampoline.
//! 2. [`jit::trampoline`]: which keeps an [`stack::Activation`] in its own frame and calls the function.
//! 3. [`jit::emit`]: compiled code bumps a cursor; past the limit it calls the exit trampoline. A live
//!    reference is already in its slot.
//! 4. [`jit::trampoline`]: which notes its caller's FP and return address and calls the slow path.
//! 5. [`mutator`], `collect`: the heap is full; collect.
//! 6. [`stack::walk`]: newest activation first, from its exit up the frame pointers to its entry;
//!    [`stack::map`] finds each frame's map by its return address.
//! 7. [`stack::frame_roots`]: a [`heap::Slot`] for each entry; the collector forwards what is in it.
//! 8. [`collector::semispace`]: scan meets free; from-space is retired.
//! 9. [`heap::allocation`]: the cursor and the limit are new; compiled code reloads the moved
//!    reference from its slot.
//!
//! # Invariants
//!
//! - **I1** A reference that is live across a safepoint is in a slot that the stack map names.
//! - **I2** No derived pointer crosses a safepoint.
//! - **I3** Compiled code enters the host only through an exit trampoline.
//! - **I4** After roots and trace, no slot refers to from-space.
//! - **I5** scan <= free <= limit; the grey objects are those from scan to free.
//! - **I6** The first word of an object is a header or a forwarding pointer, and one bit tells.
//! - **I7** A layout does not change once compiled code uses it.
//! - **I8** Host code holds references only where the collector updates them.
//! - **I9** The list of activations is the nesting of entry trampolines on the stack, also after a trap
//!   or a panic.
//!
//! # Who vouches for what
//!
//! The host's side is safe: handles, scopes and host functions cannot reach a stale reference or write
//! beyond an object. Compiled code is trusted: whoever emits it vouches for it, as whoever writes `unsafe`
//! does. What [`jit::Emit`] does by itself keeps I1 and I2, and [`jit::check()`] finds what
//! [`jit::Emit::ins`] broke; nobody checks that a reference is to an object of the layout that its
//! fields are of.

pub mod collector;
pub mod debug;
pub mod handle;
pub mod heap;
pub mod jit;
pub mod mutator;
pub mod scope;
pub mod stack;
pub mod trap;
pub mod val;
pub mod workloads;

/// The version of Cranelift that this crate's interface is made of.
pub use {cranelift_codegen, cranelift_frontend};

pub use handle::Handle;
pub use mutator::{CallError, MissedRoot, Mutator, Statistics};
pub use scope::Scope;
pub use trap::{HostError, Trap, TrapKind};
pub use val::Val;

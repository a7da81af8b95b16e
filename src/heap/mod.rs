//! Objects and the memory they live in: what a reference, a slot, a header and a layout are.
//!
//! Plain Rust: nothing here knows Cranelift, a stack frame, or which collector runs. Every word of
//! the heap is read and written through [`Slot`] (references) and [`header`] (header words).

pub mod allocation;
pub mod copy;
pub mod gc_ref;
pub mod header;
pub mod layout;
pub mod observer;
pub mod options;
pub(crate) mod pages;
pub mod prefetch;
pub mod reservation;
pub mod roots;
pub mod slot;
pub mod space;
pub mod verify;

pub use allocation::AllocationBuffer;
pub use gc_ref::GcRef;
pub use header::{Header, HeaderWord};
pub use layout::{ArrayLayout, Field, LayoutError, LayoutId, Layouts, Record, RefField};
pub use observer::{Cycle, Observer, Phase};
pub use options::{GRANULE, HeapError, HeapOptions, POISON};
pub use reservation::Reservation;
pub use roots::{Roots, RootsVisited};
pub use slot::Slot;
pub use space::{Bounds, Space};
pub use verify::{Place, Violation, verify};

/// Bytes in a word: the size of a reference, a header, and the alignment of every object.
pub const WORD: usize = 8;

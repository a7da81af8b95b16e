//! The collectors, and what they have in common.
//!
//! Plain Rust over [`crate::heap`]: a collector sees roots as [`Roots`] and never knows where their
//! slots are. What it wants of compiled code it says as data, [`CollectorAttrs`]; the emitter obeys
//! without asking which collector it is.

pub mod mark_sweep;
pub mod never_free;
pub mod semispace;

pub use mark_sweep::MarkSweep;
pub use never_free::NeverFree;
pub use semispace::Semispace;

use crate::heap::{
    AllocationBuffer, Cycle, GcRef, HeapError, HeapOptions, Layouts, Observer, Place, Roots,
};

/// How compiled code allocates without a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InlineAllocation {
    /// Advance [`AllocationBuffer::cursor`] up to its limit.
    Bump,
    /// Take the first cell of the list for the object's size, up to
    /// [`crate::heap::allocation::MAX_INLINE_CELL`] bytes.
    FreeLists,
    /// Not at all: every allocation calls the collector.
    Call,
}

/// What compiled code has to do after it stored a reference in an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Barrier {
    /// Nothing.
    None,
}

/// What a collector demands of compiled code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CollectorAttrs {
    /// The collector's name, as the command line and the results spell it.
    pub name: &'static str,
    /// Whether objects change their addresses.
    pub moves: bool,
    /// Whether memory that no object occupies is ever used again.
    pub frees: bool,
    /// How compiled code allocates.
    pub allocation: InlineAllocation,
    /// What follows a store of a reference.
    pub barrier: Barrier,
}

/// A collector's memory in bytes, so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Everything that the collector may use.
    pub heap_bytes: u64,
    /// How much of it was ever touched: for objects, copies, or side tables.
    pub peak_bytes: u64,
    /// All objects ever allocated, headers included, as their layouts size them.
    pub allocated_bytes: u64,
    /// What can still be allocated without a collection, at the most.
    pub free_bytes: u64,
}

/// A garbage collector.
///
/// # Safety
/// [`Collector::allocate`] returns memory that belongs to no object, and after
/// [`Collector::collect`] every object reachable from the roots is intact at the address that the
/// slots now hold (invariant I4).
pub unsafe trait Collector: Sized {
    /// What compiled code must do for this collector.
    const ATTRS: CollectorAttrs;

    /// A collector with an empty heap.
    ///
    /// # Errors
    /// [`HeapError`] if the size is no heap or the system does not have it.
    fn new(options: HeapOptions) -> Result<Self, HeapError>;

    /// Finds `bytes` bytes (a multiple of eight, at least eight) without collecting, and fills
    /// `buffer` so that compiled code can go on by itself. `None` if a collection is due.
    ///
    /// # Safety
    /// `buffer` is empty or was filled by this collector since it was last reset, and nothing but
    /// allocation has changed it.
    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Option<GcRef>;

    /// Finds what is reachable from `roots` and frees the rest.
    ///
    /// # Safety
    /// Every word that the roots and the objects' layouts name holds null, an immediate, a
    /// reference to an object of this heap, or a reference to memory outside of it. `buffer` is as
    /// for [`Collector::allocate`].
    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle;

    /// How much memory is in use.
    ///
    /// # Safety
    /// `buffer` is as for [`Collector::allocate`].
    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage;

    /// What is at the address of `reference`. Asked right after a collection, by the verifier.
    fn place(&self, reference: GcRef, buffer: &AllocationBuffer) -> Place;

    /// Forgets every object and every count: the heap is as new, its pages stay touched.
    ///
    /// # Safety
    /// No reference into the heap is used again.
    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer);
}

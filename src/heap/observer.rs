//! What a collection tells the outside: its phases as they begin, its counts when it is over.
//!
//! Collectors neither time nor print. An observer is statically dispatched, so the one that ignores
//! everything, `()`, costs nothing.

use super::GcRef;

/// What the process works on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Phase {
    /// The program itself.
    Mutator,
    /// Walking frames and globals, and what a collector does before that.
    Roots,
    /// Following references through the heap; copying, where the collector copies.
    Trace,
    /// Finding the free cells of a block (mark-sweep), also outside of a collection.
    Sweep,
}

/// The exact counts of one collection. The same on every run and every target.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cycle {
    /// Frames of compiled code that were walked.
    pub frames_walked: u64,
    /// Slots outside the heap that were visited.
    pub slots_visited: u64,
    /// Objects that were copied; 0 if the collector does not move.
    pub copied_objects: u64,
    /// Bytes that were copied, headers included.
    pub copied_bytes: u64,
    /// Bytes of the objects that survived, headers included.
    pub live_bytes: u64,
    /// Bytes that can be allocated until the next collection is due, at the most.
    pub free_bytes: u64,
    /// Bytes that no object occupied when the collection began: the space's tail, free cells, side
    /// tables. If the heap was full, they could not serve the allocation that made the collection
    /// necessary; one that was asked for, or came of stress, finds all that was free here.
    pub fragmentation_bytes: u64,
}

/// Hears what a collector does.
pub trait Observer {
    /// Whether [`Observer::copied`] is to be called at all.
    const OBJECTS: bool = false;

    /// `phase` begins; the one before it is over.
    #[inline(always)]
    fn enter(&mut self, _phase: Phase) {}

    /// A collection is over. These are its counts.
    #[inline(always)]
    fn collected(&mut self, _cycle: &Cycle) {}

    /// An object of `bytes` bytes has been copied.
    #[inline(always)]
    fn copied(&mut self, _from: GcRef, _to: GcRef, _bytes: usize) {}
}

impl Observer for () {}

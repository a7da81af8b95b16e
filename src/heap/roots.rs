//! Where tracing starts.

use super::Slot;

/// How much a visit of the roots covered.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RootsVisited {
    /// Frames of compiled code that were walked.
    pub frames: u64,
    /// Slots that were visited, wherever they are.
    pub slots: u64,
}

/// The slots outside the heap that hold references.
///
/// There is no list of roots: a visit walks the frames and hands each slot over as it is found. It
/// can be repeated, so a verifier shares the walk with the collector.
///
/// # Safety
/// Every slot handed to `visit` meets the promise of [`Slot::at`] during the visit, and every
/// reference that the mutator will use again is in one of them (invariant I1).
pub unsafe trait Roots {
    /// Calls `visit` on each slot, in an order that is the same every time.
    fn visit(&self, visit: impl FnMut(Slot)) -> RootsVisited;
}

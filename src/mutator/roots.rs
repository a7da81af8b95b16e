//! The roots of a mutator.

use std::cell::Cell;

use crate::heap::{Roots, RootsVisited, Slot};
use crate::stack::FrameRoots;

/// Frames, then handles, then globals, then what was thrown.
pub(super) struct MutatorRoots<'a> {
    pub frames: FrameRoots<'a>,
    pub handles: &'a [Cell<usize>],
    pub globals: &'a [Cell<usize>],
    /// Not counted as long as nothing is in them.
    pub exceptions: [&'a Cell<usize>; 2],
}

// SAFETY: the frames' slots are what the maps name; handles, globals and the thrown reference are
// words that only the mutator and compiled code write, which wait.
unsafe impl Roots for MutatorRoots<'_> {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let mut visited = self.frames.visit(&mut visit);
        let mut visit_cell = |cell: &Cell<usize>| {
            visit(slot_of(cell));
            visited.slots += 1;
        };
        self.handles.iter().for_each(&mut visit_cell);
        self.globals.iter().for_each(&mut visit_cell);
        self.exceptions.into_iter().filter(|cell| cell.get() != 0).for_each(visit_cell);
        visited
    }
}

/// A cell as a slot. Nobody else writes to it while compiled code waits.
pub(super) fn slot_of(cell: &Cell<usize>) -> Slot {
    // SAFETY: a cell may be written to through a shared reference, on its one thread.
    unsafe { Slot::at(cell.as_ptr().expose_provenance()) }
}

//! The roots of a mutator.

use std::cell::Cell;

use crate::heap::{Roots, RootsVisited, Slot};
use crate::stack::FrameRoots;

/// Frames, then globals.
pub(super) struct MutatorRoots<'a> {
    pub frames: FrameRoots<'a>,
    pub globals: &'a [Cell<usize>],
}

// SAFETY: the frames' slots are what the maps name; the globals are words of a table that only
// compiled code writes, which waits.
unsafe impl Roots for MutatorRoots<'_> {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let mut visited = self.frames.visit(&mut visit);
        for global in self.globals {
            // SAFETY: a cell may be written to through a shared reference, and compiled code waits.
            visit(unsafe { Slot::at(global.as_ptr().expose_provenance()) });
        }
        visited.slots += self.globals.len() as u64;
        visited
    }
}

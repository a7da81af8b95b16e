//! The roots in the frames of compiled code: where the walk and the maps meet.

use super::{Activation, Frame, MapTable, frames};
use crate::heap::{Roots, RootsVisited, Slot};

/// The slots of every frame of every activation, newest first.
#[derive(Debug)]
pub struct FrameRoots<'a> {
    maps: &'a MapTable,
    newest: *const Activation,
}

impl<'a> FrameRoots<'a> {
    /// The roots in `newest` and the activations before it.
    ///
    /// # Safety
    /// For as long as the result is used, what [`frames`] demands of `newest` holds, and `maps` has
    /// the call sites of all code that is active.
    pub unsafe fn new(maps: &'a MapTable, newest: *const Activation) -> Self {
        Self { maps, newest }
    }
}

// SAFETY: the compiler's maps name every stack slot of a frame that holds a live reference (I1), and
// a waiting frame's slots are its own.
unsafe impl Roots for FrameRoots<'_> {
    /// # Panics
    /// If a frame would continue at an address that is no registered call site (I3).
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let mut visited = RootsVisited::default();
        // SAFETY: the promise made to `new`.
        unsafe {
            frames(self.newest, |Frame { pc, fp }| {
                let Some(site) = self.maps.get(pc) else { unknown_return_address(pc, fp) };
                let sp = fp - site.span;
                for &offset in site.offsets {
                    visit(Slot::at(sp + offset as usize));
                }
                visited.frames += 1;
                visited.slots += site.offsets.len() as u64;
            });
        }
        visited
    }
}

#[cold]
fn unknown_return_address(pc: usize, fp: usize) -> ! {
    panic!(
        "a frame (FP {fp:#x}) returns to {pc:#x}, which is no call site of registered code: was the \
         host entered other than through an exit trampoline, or is the code's map not registered?"
    )
}

//! The words of frames that no stack map names: where a reference is that nobody declared.
//!
//! Most of them are nothing: scalars, return addresses, what an earlier use of the slot left. Whoever
//! reads them has to know what a reference looks like.

use super::walk::RETURN_ADDRESS;
use super::{Activation, Frame, MapTable, frames_of};
use crate::heap::WORD;

/// Where an unmapped word is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Spot {
    /// So many bytes below the frame's FP: what the function keeps there, or a register that it saved
    /// for one of its callers.
    Frame {
        /// FP - address.
        below_fp: usize,
    },
    /// In a callee-saved register, when the frame called the host: its own, or one of its callers'.
    Register {
        /// Its number, in the order in which the exit trampoline saves them.
        number: usize,
    },
}

/// Calls `visit` for each frame, of each activation from `newest` on, with the words of it that no map
/// names; and before that for each newest frame, with `true` and the callee-saved registers.
///
/// # Safety
/// As for [`super::frames`]; the exit trampolines save all registers
/// ([`crate::jit::ModuleOptions::missed_roots`]).
pub unsafe fn unmapped_words(
    maps: &MapTable,
    newest: *const Activation,
    mut visit: impl FnMut(Frame, bool, &mut dyn Iterator<Item = (Spot, usize)>),
) {
    let mut next = newest;
    // SAFETY: I9: the record is in the frame of an entry trampoline that has not returned.
    while let Some(activation) = unsafe { next.as_ref() } {
        let Activation { exit_pc: pc, exit_fp: fp, exit_sp, trampoline_fp, .. } = *activation;
        let registers = (exit_sp..trampoline_fp).step_by(WORD);
        let mut registers = registers
            .enumerate()
            .map(|(number, address)| (Spot::Register { number }, word_at(address)));
        visit(Frame { pc, fp }, true, &mut registers);

        let mut newer_fp = trampoline_fp;
        // SAFETY: the caller's promise.
        unsafe {
            frames_of(activation, |frame| {
                let site = maps.get(frame.pc);
                let is_mapped = |address: usize| {
                    site.is_some_and(|site| {
                        let slots = site.offsets.iter();
                        slots.map(|at| frame.fp - site.span + *at as usize).any(|at| at == address)
                    })
                };
                let lowest = newer_fp + RETURN_ADDRESS + WORD;
                let words = (lowest..frame.fp).step_by(WORD);
                let mut words = words.filter(|&address| !is_mapped(address)).map(|address| {
                    (Spot::Frame { below_fp: frame.fp - address }, word_at(address))
                });
                visit(frame, false, &mut words);
                newer_fp = frame.fp;
            });
        }
        next = activation.previous;
    }
}

/// A word of a frame on this stack, which waits.
fn word_at(address: usize) -> usize {
    // SAFETY: the callers step through frames between an exit and its entry.
    unsafe { std::ptr::with_exposed_provenance::<usize>(address).read() }
}

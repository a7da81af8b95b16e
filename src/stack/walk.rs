//! The walk: every frame of compiled code, newest first.
//!
//! Only between an activation's exit and its entry are frame pointers followed: there every frame is
//! Cranelift's, compiled with `preserve_frame_pointers`. The host's own frames, which promise
//! nothing, are stepped over by the list of activations.

use std::convert::Infallible;

use super::Activation;
use crate::heap::WORD;

/// Where a frame keeps its caller's return address, relative to its FP. The caller's FP is at 0.
pub const RETURN_ADDRESS: usize = WORD;

/// A frame of compiled code that is waiting for a call to return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where it will continue: the return address of the call.
    pub pc: usize,
    /// Its own frame pointer.
    pub fp: usize,
}

/// Calls `visit` on each frame of each activation from `newest` on.
///
/// # Safety
/// `newest` is null or heads a list of activations that are all on this thread's stack, each of them
/// left through an exit trampoline (invariants I3 and I9).
#[inline(always)]
pub unsafe fn frames(newest: *const Activation, mut visit: impl FnMut(Frame)) {
    let mut next = newest;
    // SAFETY: I9: the record is in the frame of an entry trampoline that has not returned.
    while let Some(activation) = unsafe { next.as_ref() } {
        // SAFETY: the caller's promise.
        unsafe { frames_of(activation, &mut visit) };
        next = activation.previous;
    }
}

/// Calls `visit` on each frame of one activation.
///
/// # Safety
/// The activation is on this thread's stack and was left through an exit trampoline.
#[inline(always)]
pub unsafe fn frames_of(activation: &Activation, mut visit: impl FnMut(Frame)) {
    // SAFETY: the caller's promise.
    unsafe {
        find_frame(activation, |frame| {
            visit(frame);
            None::<Infallible>
        });
    }
}

/// What `find` finds in the newest frame of an activation that it finds something in.
///
/// # Safety
/// As for [`frames_of`].
#[inline(always)]
pub unsafe fn find_frame<T>(
    activation: &Activation,
    mut find: impl FnMut(Frame) -> Option<T>,
) -> Option<T> {
    let mut frame = Frame { pc: activation.exit_pc, fp: activation.exit_fp };
    while frame.fp != activation.entry_fp {
        if let Some(found) = find(frame) {
            return Some(found);
        }
        // SAFETY: I3: between exit and entry each frame is compiled and keeps its caller's FP and
        // return address here.
        frame = unsafe { caller(frame.fp) };
    }
    None
}

/// # Safety
/// `fp` is the frame pointer of a live frame that was compiled with `preserve_frame_pointers`.
#[inline(always)]
unsafe fn caller(fp: usize) -> Frame {
    let word = |address| std::ptr::with_exposed_provenance::<usize>(address);
    // SAFETY: the caller's promise.
    unsafe { Frame { pc: word(fp + RETURN_ADDRESS).read(), fp: word(fp).read() } }
}

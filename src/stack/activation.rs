//! Activations: the stretches of compiled frames on the stack, each between an entry and an exit.
//!
//! ```text
//!   high addresses
//!     host frames                      no promise about frame pointers: never walked
//!     entry trampoline      <--------- entry_fp     holds the Activation record
//!     compiled frame                 \
//!     compiled frame                  > walked, by frame pointers that Cranelift promises
//!     compiled frame        <--------/ exit_fp, stopped at exit_pc
//!     exit trampoline
//!     host frames
//!     entry trampoline                 the next activation; its `previous` is the one above
//!     ...
//!   low addresses
//! ```

use std::arch::asm;

/// A record in the entry trampoline's own frame. The list of them, newest first, is the nesting of
/// entry trampolines on the stack (invariant I9): no allocation keeps it.
#[derive(Debug)]
#[repr(C)]
pub struct Activation {
    /// The activation that was the newest when this one was entered, or null.
    pub previous: *const Activation,
    /// The entry trampoline's frame pointer: the walk ends when it gets here.
    pub entry_fp: usize,
    /// The frame pointer of the compiled frame that last called an exit trampoline; `entry_fp`
    /// before that.
    pub exit_fp: usize,
    /// Where that frame is going to continue.
    pub exit_pc: usize,
    /// The exit trampoline's SP and FP, if it was compiled to save all registers between them: see
    /// [`crate::jit::ModuleOptions::missed_roots`].
    pub exit_sp: usize,
    /// See `exit_sp`.
    pub trampoline_fp: usize,
    /// How to leave this activation abruptly.
    pub landing: *const Landing,
}

/// A place in a waiting frame of compiled code, other than its return address, where it can go on: an
/// exception handler.
///
/// The exceptional edge of a call of a function with the `tail` convention clobbers every register,
/// so a handler expects none to be restored but FP and SP. An entry trampoline's own epilogue then
/// gives the host its callee-saved registers back.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Landing {
    /// The handler's address.
    pub pc: usize,
    /// FP - SP at the call.
    pub frame_bytes: usize,
}

impl Landing {
    /// Abandons all frames that are newer than the one whose frame pointer is `fp`, which goes on
    /// here, with `payload` as the handler's first parameter.
    ///
    /// # Safety
    /// The frame is on this thread's stack, waits at the call that this handler belongs to, and no
    /// newer frame has a destructor to run.
    pub unsafe fn land(self, fp: usize, payload: usize) -> ! {
        let sp = fp - self.frame_bytes;
        // SAFETY: SP and FP are those of the frame at its call, as the caller promises, and the
        // handler takes two payload words.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov rsp, {sp}", "mov rbp, {fp}", "jmp {pc}",
                sp = in(reg) sp, fp = in(reg) fp, pc = in(reg) self.pc,
                in("rax") payload, in("rdx") 0,
                options(noreturn)
            )
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "mov sp, {sp}", "mov x29, {fp}", "br {pc}",
                sp = in(reg) sp, fp = in(reg) fp, pc = in(reg) self.pc,
                in("x0") payload, in("x1") 0,
                options(noreturn)
            )
        }
    }
}

impl Activation {
    /// Abandons all frames that are newer than this activation's entry trampoline, which returns to
    /// the host.
    ///
    /// # Safety
    /// This is the newest activation, its entry trampoline is on this thread's stack, and no frame
    /// in between has a destructor to run.
    pub unsafe fn abandon(&self) -> ! {
        // SAFETY: `landing` was given to the entry trampoline, which outlives its activation, and is
        // its handler.
        unsafe { (*self.landing).land(self.entry_fp, 0) }
    }
}

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
    /// How to leave this activation abruptly.
    pub landing: *const Landing,
}

/// Where an abrupt exit continues: the exception handler of the entry trampoline's `try_call`.
#[derive(Debug)]
#[repr(C)]
pub struct Landing {
    /// The handler's address.
    pub pc: usize,
    /// The entry trampoline's FP - SP at the call.
    pub frame_bytes: usize,
}

impl Activation {
    /// Abandons all frames that are newer than this activation's entry trampoline and continues at
    /// its landing.
    ///
    /// The exceptional edge of a call with the `tail` convention clobbers every register, so the
    /// landing expects none to be restored but FP and SP, and the trampoline's epilogue gives the
    /// host its callee-saved registers back.
    ///
    /// # Safety
    /// This is the newest activation, its entry trampoline is on this thread's stack, and no frame
    /// in between has a destructor to run.
    pub unsafe fn abandon(&self) -> ! {
        // SAFETY: `landing` was given to the entry trampoline, which outlives its activation.
        let landing = unsafe { &*self.landing };
        let (fp, sp) = (self.entry_fp, self.entry_fp - landing.frame_bytes);
        // SAFETY: SP and FP are those of the entry trampoline at its call, as the caller promises,
        // and the landing takes two payload words, which are not used.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            asm!(
                "mov rsp, {sp}", "mov rbp, {fp}", "jmp {pc}",
                sp = in(reg) sp, fp = in(reg) fp, pc = in(reg) landing.pc,
                in("rax") 0, in("rdx") 0,
                options(noreturn)
            )
        }
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        unsafe {
            asm!(
                "mov sp, {sp}", "mov x29, {fp}", "br {pc}",
                sp = in(reg) sp, fp = in(reg) fp, pc = in(reg) landing.pc,
                in("x0") 0, in("x1") 0,
                options(noreturn)
            )
        }
    }
}

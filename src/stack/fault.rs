//! Faults of compiled code: an illegal instruction, a division, an access to memory that is not there.
//!
//! The processor tells the system, the system raises a signal, and one handler for the process looks
//! where it happened. In compiled code that this thread has entered, it lets the thread go on in a
//! function of the host; anywhere else, and if it was no fault but a signal that somebody sent, it
//! leaves it to whoever handled it before.
//!
//! The fault may be that the stack is at its end: a page that is no memory follows it. So the handler
//! runs on the thread's alternate stack, and what goes on after it, on one of the watch's own.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr::{self, NonNull};

use super::Frame;
use crate::heap::pages::{self, Access};
use std::sync::OnceLock;

/// What the processor did not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The instruction's address.
    pub pc: usize,
    /// The frame pointer.
    pub fp: usize,
    /// At a function's first instruction, where its return address is: the word that this is the
    /// address of on x86-64, and this itself on aarch64.
    pub link: usize,
    /// The signal's number.
    pub signal: c_int,
    /// What it tried to access, if that is what went wrong; [`UNKNOWN_ADDRESS`] if the processor does
    /// not say.
    pub address: usize,
}

/// What x86-64 says of an address that is none: nothing.
pub const UNKNOWN_ADDRESS: usize = usize::MAX;

/// Where faults are looked for, and where a thread goes on after one.
#[derive(Debug)]
pub struct Watch {
    /// The addresses that compiled code lies between.
    pub code: Cell<(usize, usize)>,
    /// What goes on. It does not return.
    pub resume: extern "C" fn(*mut c_void) -> !,
    /// What it is given.
    pub argument: *mut c_void,
    /// The fault, once there is one.
    pub fault: Cell<Option<Fault>>,
    /// What `resume` runs on.
    stack: ResumeStack,
}

/// A stack for a backtrace, and for a panic of whoever makes one; what overflows it faults.
#[derive(Debug)]
struct ResumeStack(NonNull<u8>);

impl ResumeStack {
    const BYTES: usize = 512 << 10;
    const GUARD: usize = 64 << 10;

    fn new() -> Self {
        let mapped = pages::map(Self::BYTES, Access::Closed).expect("address space for a stack");
        let stack = Self(mapped);
        // SAFETY: the upper part of the mapping.
        let opened = unsafe { pages::open(mapped.add(Self::GUARD), Self::BYTES - Self::GUARD) };
        opened.expect("memory for a stack");
        stack
    }

    fn top(&self) -> usize {
        self.0.addr().get() + Self::BYTES
    }
}

impl Drop for ResumeStack {
    fn drop(&mut self) {
        // SAFETY: its own mapping, on which nothing runs: `resume` has left it for good.
        unsafe { pages::unmap(self.0, Self::BYTES) }
    }
}

thread_local! {
    /// What the innermost entry into compiled code has set up on this thread.
    static WATCH: Cell<*const Watch> = const { Cell::new(ptr::null()) };
}

impl Fault {
    /// The frame that waits for the function whose first instruction this is the fault of.
    ///
    /// # Safety
    /// It is such an instruction, in a thread that waits.
    pub unsafe fn caller(&self) -> Frame {
        // SAFETY: the call has just left the return address there.
        #[cfg(target_arch = "x86_64")]
        let pc = unsafe { ptr::with_exposed_provenance::<usize>(self.link).read() };
        #[cfg(target_arch = "aarch64")]
        let pc = self.link;
        Frame { pc, fp: self.fp }
    }
}

impl Watch {
    /// A watch over no code yet: `resume` goes on after a fault, and is given `argument`.
    pub fn new(resume: extern "C" fn(*mut c_void) -> !, argument: *mut c_void) -> Self {
        Self {
            code: Cell::new((0, 0)),
            resume,
            argument,
            fault: Cell::new(None),
            stack: ResumeStack::new(),
        }
    }

    fn contains(&self, pc: usize) -> bool {
        let (start, end) = self.code.get();
        (start..end).contains(&pc)
    }

    /// Runs `body`, in which faults of this thread's compiled code are looked for.
    pub fn during<T>(&self, body: impl FnOnce() -> T) -> T {
        struct Restore(*const Watch);
        impl Drop for Restore {
            fn drop(&mut self) {
                WATCH.set(self.0);
            }
        }
        handle_signals();
        ALTERNATE_STACK.with(|_| ());
        let _restore = Restore(WATCH.replace(self));
        body()
    }
}

const SIGNALS: [c_int; 4] = [libc::SIGILL, libc::SIGFPE, libc::SIGSEGV, libc::SIGBUS];

/// What handled each of [`SIGNALS`] before.
static BEFORE: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

fn handle_signals() {
    BEFORE.get_or_init(|| {
        SIGNALS.map(|signal| {
            // SAFETY: `on_signal` does only what a signal handler may; both structures are valid.
            unsafe {
                let mut action = mem::zeroed::<libc::sigaction>();
                action.sa_sigaction = on_signal as *const () as usize;
                // Nested: a fault of the host's, while it deals with one of compiled code's.
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                let mut before = mem::zeroed::<libc::sigaction>();
                let set = libc::sigaction(signal, &action, &mut before);
                assert_eq!(set, 0, "signal {signal} can be handled");
                before
            }
        })
    });
}

extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, ucontext: *mut c_void) {
    // SAFETY: the system gives both; a watch outlives its stay in `WATCH`.
    unsafe {
        let mut registers = Registers((*ucontext.cast::<libc::ucontext_t>()).uc_mcontext);
        let pc = registers.pc();
        match WATCH.get().as_ref() {
            Some(watch) if watch.contains(pc) && is_fault(info) => {
                let address = match (*info).si_code {
                    SI_KERNEL => UNKNOWN_ADDRESS,
                    _ => (*info).si_addr().addr(),
                };
                watch.fault.set(Some(Fault {
                    pc,
                    fp: registers.fp(),
                    link: registers.link(),
                    signal,
                    address,
                }));
                let resume = watch.resume as *const () as usize;
                registers.call(resume, watch.argument.addr(), watch.stack.top());
                (*ucontext.cast::<libc::ucontext_t>()).uc_mcontext = registers.0;
            }
            _ => pass_on(signal, info, ucontext),
        }
    }
}

/// The code of a fault that the system knows no more of.
const SI_KERNEL: c_int = 0x80;

/// Whether an instruction is why there is a signal, and not somebody who sent it.
///
/// # Safety
/// `info` is what a signal handler was given.
unsafe fn is_fault(info: *mut libc::siginfo_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*info).si_code > 0 }
}

/// Does what would have been done without us.
///
/// # Safety
/// The arguments are what a signal handler was given.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, ucontext: *mut c_void) {
    let index = SIGNALS.iter().position(|&ours| ours == signal);
    let before = BEFORE.get().zip(index).map(|(before, index)| before[index]);
    // SAFETY: the handler that was there gets what it would have got. Without one, the default
    // action is restored, and meets the signal that is sent again, or the instruction that faults again.
    unsafe {
        let is_fault = is_fault(info);
        match before {
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                    mem::transmute(before.sa_sigaction);
                handler(signal, info, ucontext);
            }
            Some(before) if !matches!(before.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) => {
                let handler: extern "C" fn(c_int) = mem::transmute(before.sa_sigaction);
                handler(signal);
            }
            Some(before) if before.sa_sigaction == libc::SIG_IGN && !is_fault => {}
            _ => {
                libc::signal(signal, libc::SIG_DFL);
                if !is_fault {
                    libc::raise(signal);
                }
            }
        }
    }
}

/// The stack that this thread's signal handlers run on: the one that it has, as every thread of the
/// standard library's does, or else one that is given back when the thread ends.
struct AlternateStack(Option<Box<[MaybeUninit<u8>]>>);

thread_local! {
    static ALTERNATE_STACK: AlternateStack = AlternateStack::new();
}

impl AlternateStack {
    fn new() -> Self {
        const BYTES: usize = 64 << 10;
        // SAFETY: the structures are valid, and the memory is this thread's until it ends.
        unsafe {
            let mut present = mem::zeroed::<libc::stack_t>();
            libc::sigaltstack(ptr::null(), &mut present);
            if present.ss_flags & libc::SS_DISABLE == 0 {
                return Self(None);
            }
            let mut memory = Box::new_uninit_slice(BYTES);
            let stack =
                libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: BYTES };
            let set = libc::sigaltstack(&stack, ptr::null_mut());
            assert_eq!(set, 0, "an alternate stack of {BYTES} bytes can be set");
            Self(Some(memory))
        }
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        if self.0.is_some() {
            // SAFETY: no handler runs while the thread drops its locals.
            unsafe {
                let mut none = mem::zeroed::<libc::stack_t>();
                none.ss_flags = libc::SS_DISABLE;
                libc::sigaltstack(&none, ptr::null_mut());
            }
        }
    }
}

/// The registers of an interrupted thread.
struct Registers(libc::mcontext_t);

#[cfg(target_arch = "x86_64")]
impl Registers {
    fn pc(&self) -> usize {
        self.0.gregs[libc::REG_RIP as usize] as usize
    }

    fn fp(&self) -> usize {
        self.0.gregs[libc::REG_RBP as usize] as usize
    }

    fn link(&self) -> usize {
        self.0.gregs[libc::REG_RSP as usize] as usize
    }

    /// Makes the thread call `function` with one argument, on the stack that ends at `top`, with
    /// nowhere to return to.
    fn call(&mut self, function: usize, argument: usize, top: usize) {
        let registers = &mut self.0.gregs;
        // As after a call instruction: a return address above an aligned stack. The pages are zero, and
        // so is the frame pointer: whoever unwinds ends here.
        registers[libc::REG_RSP as usize] = (top - size_of::<usize>()) as i64;
        registers[libc::REG_RBP as usize] = 0;
        registers[libc::REG_RIP as usize] = function as i64;
        registers[libc::REG_RDI as usize] = argument as i64;
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers {
    fn pc(&self) -> usize {
        self.0.pc as usize
    }

    fn fp(&self) -> usize {
        self.0.regs[29] as usize
    }

    fn link(&self) -> usize {
        self.0.regs[30] as usize
    }

    /// Makes the thread call `function` with one argument, on the stack that ends at `top`, with
    /// nowhere to return to.
    fn call(&mut self, function: usize, argument: usize, top: usize) {
        self.0.sp = top as u64;
        // Whoever unwinds ends here.
        (self.0.regs[29], self.0.regs[30]) = (0, 0);
        self.0.pc = function as u64;
        self.0.regs[0] = argument as u64;
    }
}

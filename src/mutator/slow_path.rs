//! What exit trampolines call when compiled code cannot go on by itself, and what a fault of compiled
//! code becomes.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::slice;

use cranelift_codegen::ir::TrapCode;

use super::Mutator;
use crate::collector::Collector;
use crate::heap::header::MAX_LENGTH;
use crate::heap::{GcRef, Header, Observer, Place, WORD};
use crate::jit::Context;
use crate::jit::emit::{NULL_REFERENCE, UNREACHABLE};
use crate::scope::Scope;
use crate::stack::{Fault, Frame, Landing, find_frame, frames_of};
use crate::trap::{HostError, Location, TrapKind};

/// The addresses that the fields of null would have.
const NULL_PAGES: usize = 64 << 10;
/// How far beyond a stack's end an access is still an overflow: the system keeps 1 MiB free below the
/// main thread's.
const STACK_GUARD: usize = 2 << 20;

/// What leaves compiled code abruptly.
pub(super) enum Exit {
    Trap(TrapKind),
    Panic(Box<dyn Any + Send>),
    /// To the nearest handler; [`Mutator::thrown`] is what was thrown.
    Throw,
}

impl<E: Into<TrapKind>> From<E> for Exit {
    fn from(error: E) -> Self {
        Self::Trap(error.into())
    }
}

impl<C: Collector, O: Observer> Mutator<C, O> {
    /// Runs a slow path; if it fails or panics, leaves the frames that called it.
    ///
    /// # Safety
    /// An `extern "C"` function that an exit trampoline called does nothing else than this, with the
    /// context that it was given: no frame with a destructor lies between `self` and compiled code.
    unsafe fn host<T>(context: *mut Context, body: impl FnOnce(&mut Self) -> Result<T, Exit>) -> T {
        // SAFETY: the caller is a host function with this context.
        let mutator = unsafe { Self::from_context(context) };
        let exit = match panic::catch_unwind(AssertUnwindSafe(|| body(mutator))) {
            Ok(Ok(value)) => return value,
            Ok(Err(exit)) => exit,
            Err(panic) => Exit::Panic(panic),
        };
        // SAFETY: all Rust code but the caller's frame has returned.
        unsafe { Self::leave(context, exit) }
    }

    /// Leaves the newest activation, or the part of it below the handler of what was thrown.
    ///
    /// # Safety
    /// No frame with a destructor lies between the caller and compiled code, which the newest
    /// activation's exit describes.
    unsafe fn leave(context: *mut Context, exit: Exit) -> ! {
        // SAFETY: compiled code waits, so the context is this mutator's; the landings are those of
        // frames that wait at the calls that they belong to.
        unsafe {
            let mutator = Self::from_context(context);
            let exit = match exit {
                Exit::Throw => match mutator.handler() {
                    Some((handler, fp)) => handler.land(fp, mutator.thrown.take()),
                    None => {
                        mutator.uncaught.set(mutator.thrown.take());
                        Exit::Trap(TrapKind::Uncaught)
                    }
                },
                exit => exit,
            };
            let fault = mutator.watch.fault.take();
            mutator.exit = Some((exit, mutator.backtrace(fault)));
            (*(*context).activation).abandon()
        }
    }

    /// The frames of the newest activation, newest first.
    fn newest_frames(&self, visit: impl FnMut(Frame)) {
        // SAFETY: I9, and compiled code waits at an exit trampoline (I3), or was interrupted where its
        // frame was whole.
        unsafe {
            if let Some(newest) = (*self.context).activation.as_ref() {
                frames_of(newest, visit);
            }
        }
    }

    /// The handler of what is thrown now, and the frame pointer of the frame that it is in.
    fn handler(&self) -> Option<(Landing, usize)> {
        // SAFETY: as in `newest_frames`.
        unsafe {
            find_frame((*self.context).activation.as_ref()?, |Frame { pc, fp }| {
                let site = self.module.maps().get(pc)?;
                Some((Landing { pc: site.handler?, frame_bytes: site.span }, fp))
            })
        }
    }

    /// The functions of the newest activation, newest first; after a fault, that of the instruction
    /// before those that wait.
    fn backtrace(&self, fault: Option<Fault>) -> Vec<Location> {
        let mut backtrace = Vec::new();
        // A return address may be the end of its function; an instruction's is not.
        let faulting = fault.and_then(|fault| self.module.locate(fault.pc + 1));
        if let Some((function, offset)) = faulting {
            backtrace.push(Location { function: function.clone(), offset: offset - 1 });
        }
        let mut is_faulting = faulting.is_some_and(|(_, offset)| offset > 1);
        self.newest_frames(|frame| {
            if std::mem::take(&mut is_faulting) {
                return;
            }
            if let Some((function, offset)) = self.module.locate(frame.pc) {
                backtrace.push(Location { function: function.clone(), offset });
            }
        });
        backtrace
    }

    /// What a fault of compiled code means.
    fn trap_kind(&self, fault: Fault) -> TrapKind {
        if matches!(fault.signal, libc::SIGSEGV | libc::SIGBUS) {
            return self.bad_access(fault.address);
        }
        match self.module.trap_at(fault.pc) {
            Some(TrapCode::STACK_OVERFLOW) => self.stack_overflow(),
            Some(TrapCode::INTEGER_DIVISION_BY_ZERO) => TrapKind::DivisionByZero,
            Some(TrapCode::INTEGER_OVERFLOW) => TrapKind::IntegerOverflow,
            Some(TrapCode::BAD_CONVERSION_TO_INTEGER) => TrapKind::BadConversion,
            Some(TrapCode::HEAP_OUT_OF_BOUNDS) => TrapKind::OutOfBounds,
            Some(NULL_REFERENCE) => TrapKind::NullReference,
            Some(UNREACHABLE) | None => TrapKind::IllegalInstruction,
            Some(code) => TrapKind::User(code.as_raw().get()),
        }
    }

    fn bad_access(&self, address: usize) -> TrapKind {
        if address < NULL_PAGES {
            return TrapKind::NullReference;
        }
        // All of the stack is memory but the pages that guard its end.
        if (self.stack.start.saturating_sub(STACK_GUARD)..self.stack.end).contains(&address) {
            return self.stack_overflow();
        }
        let aligned = GcRef::from_word(address & !(WORD - 1));
        let place = aligned.map(|at| self.collector.place(at, self.buffer()));
        let stale = place == Some(Place::Stale);
        let missed_root = self.missed_roots.of(address).filter(|_| stale).map(Box::new);
        TrapKind::BadAccess { address, stale, missed_root }
    }
}

/// Goes on after a fault of compiled code.
pub(super) extern "C" fn fault<C: Collector, O: Observer>(context: *mut c_void) -> ! {
    let context = context.cast::<Context>();
    // SAFETY: the signal handler let compiled code, which the newest activation is of, call this with
    // its context; the frame that it interrupted is whole.
    unsafe {
        let mutator = Mutator::<C, O>::from_context(context);
        let exit = panic::catch_unwind(AssertUnwindSafe(|| {
            let fault = mutator.watch.fault.get().expect("the signal handler noted it");
            let activation = (*context).activation.cast_mut();
            let frame = match mutator.module.starts_at(fault.pc) {
                true => fault.caller(),
                false => Frame { pc: fault.pc, fp: fault.fp },
            };
            ((*activation).exit_fp, (*activation).exit_pc) = (frame.fp, frame.pc);
            Exit::Trap(mutator.trap_kind(fault))
        }));
        Mutator::<C, O>::leave(context, exit.unwrap_or_else(Exit::Panic))
    }
}

pub(super) extern "C" fn allocate<C: Collector, O: Observer>(
    context: *mut Context,
    header: u64,
) -> usize {
    // SAFETY: the exit trampoline's host function, with its context.
    unsafe {
        Mutator::<C, O>::host(context, |mutator| {
            let header = Header::from_bits(header).expect("compiled code passes a header");
            Ok(mutator.allocate(header).map(GcRef::address)?)
        })
    }
}

pub(super) extern "C" fn allocate_array<C: Collector, O: Observer>(
    context: *mut Context,
    template: u64,
    length: i64,
) -> usize {
    // SAFETY: the exit trampoline's host function, with its context.
    unsafe {
        Mutator::<C, O>::host(context, |mutator| {
            let template = Header::from_bits(template).expect("compiled code passes a header");
            if !(0..=MAX_LENGTH as i64).contains(&length) {
                return Err(TrapKind::ArrayLength { length }.into());
            }
            Ok(mutator.allocate(template.with_length(length as u32)).map(GcRef::address)?)
        })
    }
}

pub(super) extern "C" fn collect<C: Collector, O: Observer>(context: *mut Context) {
    // SAFETY: the exit trampoline's host function, with its context.
    unsafe {
        Mutator::<C, O>::host(context, |mutator| {
            mutator.collect();
            Ok(())
        })
    }
}

/// Calls the closure that is host function `number`. `words` has one for each argument, and room for
/// each result.
pub(super) extern "C" fn call_host<C: Collector, O: Observer>(
    context: *mut Context,
    number: usize,
    words: *mut u64,
) {
    // SAFETY: the exit trampoline's host function, with its context; `words` is in its frame, and the
    // references in it are not used after the handles have been made.
    unsafe {
        Mutator::<C, O>::host(context, |mutator| {
            mutator.assert_usable();
            mutator.throwing = 0;
            let host = mutator.module.host_body(number);
            let (params, results) = (&host.signature.params, &host.signature.results);
            let mut scope = Scope::new(mutator);
            let arguments = scope.vals(params, slice::from_raw_parts(words, params.len()));
            let given = (host.body)(&mut scope, &arguments).map_err(|error: HostError| {
                let is_own = error.exception() == Some(scope.throwing());
                if is_own { Exit::Throw } else { Exit::Trap(error.into()) }
            })?;
            if !given.iter().map(|val| val.ty()).eq(results.iter().copied()) {
                let message = format!("`{}` gives {results:?}, not {given:?}", host.name);
                return Err(Exit::Trap(TrapKind::Host(HostError::new(message))));
            }
            let given = scope.words(&given);
            ptr::copy_nonoverlapping(given.as_ptr(), words, given.len());
            Ok(())
        })
    }
}

pub(super) extern "C" fn throw<C: Collector, O: Observer>(context: *mut Context, exception: usize) {
    // SAFETY: the exit trampoline's host function, with its context.
    unsafe {
        Mutator::<C, O>::host(context, |mutator| {
            mutator.thrown.set(exception);
            Err(Exit::Throw)
        })
    }
}

pub(super) extern "C" fn out_of_bounds<C: Collector, O: Observer>(
    context: *mut Context,
    index: i64,
    length: u64,
) {
    // SAFETY: the exit trampoline's host function, with its context.
    unsafe {
        Mutator::<C, O>::host(context, |_| Err(TrapKind::IndexOutOfBounds { index, length }.into()))
    }
}

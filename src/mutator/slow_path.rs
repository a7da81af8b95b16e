//! What exit trampolines call when compiled code cannot go on by itself.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};

use super::Mutator;
use crate::collector::Collector;
use crate::heap::header::MAX_LENGTH;
use crate::heap::{GcRef, Header, Observer};
use crate::jit::Context;
use crate::stack::frames_of;
use crate::trap::{Location, TrapKind};

/// What leaves compiled code abruptly.
pub(super) enum Exit {
    Trap(TrapKind),
    Panic(Box<dyn Any + Send>),
}

impl<C: Collector, O: Observer> Mutator<C, O> {
    /// Runs a slow path; if it fails or panics, leaves the activation that called it.
    ///
    /// # Safety
    /// An `extern "C"` function that an exit trampoline called does nothing else than this, with the
    /// context that it was given: no frame with a destructor lies between `self` and compiled code.
    unsafe fn host<T>(
        context: *mut Context,
        body: impl FnOnce(&mut Self) -> Result<T, TrapKind>,
    ) -> T {
        // SAFETY: the caller is a host function with this context.
        let mutator = unsafe { Self::from_context(context) };
        let exit = match panic::catch_unwind(AssertUnwindSafe(|| body(mutator))) {
            Ok(Ok(value)) => return value,
            Ok(Err(trap)) => Exit::Trap(trap),
            Err(panic) => Exit::Panic(panic),
        };
        // SAFETY: all Rust code but the caller's frame has returned, and the newest activation is
        // the one that called it.
        unsafe {
            mutator.exit = Some((exit, mutator.backtrace()));
            (*(*context).activation).abandon()
        }
    }

    /// The frames of the newest activation.
    fn backtrace(&self) -> Vec<Location> {
        let mut backtrace = Vec::new();
        // SAFETY: I9, and compiled code waits at an exit trampoline (I3).
        unsafe {
            if let Some(newest) = (*self.context).activation.as_ref() {
                frames_of(newest, |frame| {
                    if let Some((function, offset)) = self.module.locate(frame.pc) {
                        backtrace.push(Location { function: function.clone(), offset });
                    }
                });
            }
        }
        backtrace
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
            mutator.allocate(header).map(GcRef::address)
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
                return Err(TrapKind::ArrayLength { length });
            }
            mutator.allocate(template.with_length(length as u32)).map(GcRef::address)
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

//! Into compiled code: calls, and the scopes that they are made from.

use std::panic;
use std::ptr;
use std::rc::Rc;

use thiserror::Error;

use super::Mutator;
use super::roots::slot_of;
use super::slow_path::Exit;
use super::statistics::Statistics;
use crate::collector::Collector;
use crate::handle::Handles;
use crate::heap::{Cycle, GcRef, Header, Observer, Slot};
use crate::jit::trampoline::Outcome;
use crate::jit::{Error, Func, Global, Module, REF, Signature, Ty};
use crate::scope::{Heap, Scope, check_arguments};
use crate::stack::STACK_RESERVE;
use crate::trap::{Trap, TrapKind};
use crate::val::Val;

/// Why a call did not return.
#[derive(Clone, PartialEq, Debug, Error)]
pub enum CallError {
    /// Something went wrong in compiled code. The mutator can be used again.
    #[error(transparent)]
    Trap(#[from] Trap),
    /// The arguments are not the function's. It was not called.
    #[error("`{function}` takes ({}); ({}) given", list(.expected), list(.given))]
    Arguments {
        /// The function's name.
        function: String,
        /// Its parameters.
        expected: Vec<Ty>,
        /// What the call had for them.
        given: Vec<Ty>,
    },
    /// The function was never defined.
    #[error("`{0}` is declared and not defined")]
    Undefined(String),
    /// The function is the host's own: it has no code to enter.
    #[error("`{0}` is a host function: only compiled code calls it")]
    HostFunction(String),
    /// The function takes or gives something that does not cross to the host.
    #[error("`{function}` takes or gives a {ty}, which does not cross to the host")]
    Type {
        /// The function's name.
        function: String,
        /// The type that does not.
        ty: Ty,
    },
    /// A function that gives a reference, called where there is no scope to hold it.
    #[error("`{0}` gives a reference: call it in a scope")]
    NoScope(String),
}

fn list(types: &[Ty]) -> String {
    let types: Vec<String> = types.iter().map(Ty::to_string).collect();
    types.join(", ")
}

impl<C: Collector, O: Observer> Mutator<C, O> {
    /// Calls a compiled function that takes and gives scalars. [`Scope::call`] also takes and gives
    /// references.
    ///
    /// # Errors
    /// [`CallError::Trap`] with what went wrong in compiled code. The mutator can be used afterwards.
    ///
    /// # Panics
    /// With the panic of a host function or a slow path, carried over the compiled frames.
    pub fn call(
        &mut self,
        func: Func,
        arguments: &[Val<'_>],
    ) -> Result<Vec<Val<'static>>, CallError> {
        self.assert_usable();
        if self.module.signature(func).results.contains(&REF) {
            return Err(CallError::NoScope(self.module.name(func).to_owned()));
        }
        check_arguments(&self.module, func, arguments)?;
        let words = Scope::new(self).words(arguments);
        let words = self.enter(func, words)?;
        let types = &self.module.signature(func).results;
        let val = |(ty, word): (&Ty, u64)| Val::from_word(*ty, word).expect("`enter` checks types");
        Ok(types.iter().zip(words).map(val).collect())
    }

    /// Uses the heap from the host: `body` gets a scope, in which references are handles.
    ///
    /// ```
    /// # use tospace::collector::{Collector, Semispace};
    /// # use tospace::cranelift_codegen::ir::types::I64;
    /// # use tospace::heap::{HeapOptions, Record};
    /// # use tospace::jit::{Module, ModuleOptions};
    /// # use tospace::{Mutator, TrapKind, Val};
    /// let mut module = Module::new(ModuleOptions::new(Semispace::ATTRS))?;
    /// let mut pair = Record::new("pair");
    /// let (number, next) = (pair.scalar("number", 8)?, pair.reference("next"));
    /// let pair = module.record(pair)?;
    /// let mut mutator = Mutator::new(module, Semispace::new(HeapOptions::new(1 << 20))?)?;
    /// mutator.scope(|scope| -> Result<(), TrapKind> {
    ///     let null = scope.null();
    ///     let second = scope.new_record(pair, &[Val::I64(2), Val::Ref(null)])?;
    ///     let first = scope.new_record(pair, &[Val::I64(1), Val::Ref(second)])?;
    ///     scope.collect(); // both move
    ///     let after_first = scope.load_ref(first, next);
    ///     assert!(scope.is_same(after_first, second));
    ///     assert_eq!(scope.load(second, number, I64), Val::I64(2));
    ///     Ok(())
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn scope<T>(&mut self, body: impl for<'s> FnOnce(&mut Scope<'s>) -> T) -> T {
        body(&mut Scope::new(self))
    }

    /// Enters compiled code. There is one word for each argument, and one for each result.
    fn enter(&mut self, func: Func, mut words: Vec<u64>) -> Result<Vec<u64>, CallError> {
        self.assert_usable();
        let function = || self.module.name(func).to_owned();
        let Signature { params, results } = self.module.signature(func);
        if let Some(&ty) = params.iter().chain(results).find(|ty| !Val::can_be(**ty)) {
            return Err(CallError::Type { function: function(), ty });
        }
        if self.module.is_host_function(func) {
            return Err(CallError::HostFunction(function()));
        }
        let entry = self.module.entry(func).ok_or_else(|| CallError::Undefined(function()))?;
        if !self.has_stack() {
            return Err(Trap { kind: self.stack_overflow(), backtrace: Vec::new() }.into());
        }
        let count = results.len();
        // What a host function is about to throw stays its own, whatever it calls before.
        let throwing = std::mem::take(&mut self.throwing);
        let thrown = self.thrown.take();
        let pending = (thrown != 0).then(|| self.handles.push(thrown));
        let running = self.module.running();
        words.resize(words.len().max(count), 0);

        let (context, this) = (self.context, ptr::from_mut(self));
        let watch = Rc::clone(&self.watch);
        let outcome = watch.during(|| {
            // Compiled code reaches this mutator through the context, by a pointer that derives from
            // `self`, which is not used until the call is over; then the pointer of the call further
            // up the stack, if any, is valid again.
            // SAFETY: the trampoline was made for this signature, and `words` has one for each
            // argument and each result; I9 holds before the call and after it.
            unsafe {
                let outer = std::mem::replace(&mut (*context).mutator, this.cast());
                let before = (*context).activation;
                let outcome =
                    (entry.trampoline)(context, entry.landing, entry.callee, words.as_mut_ptr());
                (*context).mutator = outer;
                assert!((*context).activation == before, "I9: the activation list is out of step");
                outcome
            }
        });
        drop(running);
        self.thrown.set(pending.map_or(0, |pending| self.handles.pop(pending)));
        self.throwing = throwing;
        match outcome {
            Outcome::Returned => {
                words.truncate(count);
                Ok(words)
            }
            Outcome::Abandoned => match self.exit.take() {
                Some((Exit::Trap(kind), backtrace)) => Err(Trap { kind, backtrace }.into()),
                Some((Exit::Panic(panic), _)) => panic::resume_unwind(panic),
                Some((Exit::Throw, _)) | None => {
                    unreachable!("compiled code left without a reason")
                }
            },
        }
    }

    /// Whether the stack has as much left as calls to and from the host shall find.
    fn has_stack(&self) -> bool {
        let here = 0_u8;
        // SAFETY: `context` is this mutator's own.
        ptr::from_ref(&here).addr() >= unsafe { (*self.context).stack_limit }
    }

    pub(super) fn stack_overflow(&self) -> TrapKind {
        TrapKind::StackOverflow { bytes: self.stack.len(), reserve: STACK_RESERVE }
    }
}

impl<C: Collector, O: Observer> Heap for Mutator<C, O> {
    fn module(&self) -> &Module {
        self.assert_usable();
        &self.module
    }

    fn handles(&self) -> &Handles {
        &self.handles
    }

    fn handles_mut(&mut self) -> &mut Handles {
        &mut self.handles
    }

    fn allocate(&mut self, header: Header) -> Result<GcRef, TrapKind> {
        Mutator::allocate(self, header)
    }

    fn collect(&mut self) -> Cycle {
        Mutator::collect(self)
    }

    fn enter(&mut self, func: Func, words: Vec<u64>) -> Result<Vec<u64>, CallError> {
        Mutator::enter(self, func, words)
    }

    fn global(&self, global: Global) -> Slot {
        self.assert_usable();
        slot_of(&self.globals[global.index()])
    }

    fn throw(&mut self, exception: usize) -> u64 {
        self.thrown.set(exception);
        self.throws += 1;
        self.throwing = self.throws;
        self.throwing
    }

    fn throwing(&self) -> u64 {
        self.throwing
    }

    fn take_uncaught(&mut self) -> usize {
        self.uncaught.take()
    }

    fn statistics(&self) -> Statistics {
        Mutator::statistics(self)
    }

    fn compile(
        &mut self,
        body: &mut dyn FnMut(&mut Module) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Mutator::compile(self, body)
    }
}

//! The mutator: ties compiled code to a collector.
//!
//! `call` enters compiled code through an entry trampoline. The slow paths are what exit trampolines
//! call when compiled code cannot go on by itself; they collect when they must, and turn what goes
//! wrong into a [`Trap`].

mod missed_roots;
mod roots;
mod slow_path;
mod statistics;

use std::cell::Cell;
use std::ffi::c_void;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::rc::Rc;

use thiserror::Error;

pub use self::missed_roots::MissedRoot;
use self::missed_roots::MissedRoots;
use self::roots::{MutatorRoots, slot_of};
use self::slow_path::{
    Exit, allocate, allocate_array, call_host, collect, fault, out_of_bounds, throw,
};
pub use self::statistics::Statistics;
use crate::collector::{Collector, Usage};
use crate::debug::DebugModes;
use crate::handle::Handles;
use crate::heap::{self, AllocationBuffer, Cycle, GcRef, Header, Observer, Phase, Slot, WORD};
use crate::jit::module::{ALLOCATE, ALLOCATE_ARRAY, CALL_HOST, COLLECT, OUT_OF_BOUNDS, THROW};
use crate::jit::trampoline::Outcome;
use crate::jit::{Context, Error, Func, Global, Module, REF, Signature, Ty};
use crate::scope::{Heap, Scope, check_arguments};
use crate::stack::{FrameRoots, STACK_RESERVE, Watch, thread::stack_bounds};
use crate::trap::{Location, Trap, TrapKind};
use crate::val::Val;

/// Collections in a row that may come after next to no allocation.
const MOST_FUTILE: u32 = 8;
/// The part of the live bytes, which every collection looks at again, in 1/n, below which allocation
/// is next to nothing.
const LEAST_PROGRESS: u64 = 64;

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

/// A thread of execution in compiled code, with its heap.
///
/// It belongs to the thread that made it, on whose stack compiled code runs: see
/// [`crate::stack::with_stack`] for a larger one. The first call of a process installs a handler for
/// SIGILL, SIGFPE, SIGSEGV and SIGBUS, which leaves what is not a fault of compiled code to the handlers
/// that were there before.
pub struct Mutator<C: Collector, O: Observer = ()> {
    module: Module,
    /// The module's, as long as nobody has put another one in its place.
    identity: u32,
    collector: C,
    observer: O,
    /// Compiled code holds this address while it runs.
    context: *mut Context,
    host_functions: Vec<*const c_void>,
    /// Written by compiled code and by collections.
    globals: Vec<Cell<usize>>,
    handles: Handles,
    /// What was thrown and is not yet caught; 0 if nothing.
    thrown: Cell<usize>,
    /// What nobody caught, until the host takes it; 0 if nothing.
    uncaught: Cell<usize>,
    /// How often host functions have thrown, and the number of what the running one is going to; 0 if
    /// nothing.
    throws: u64,
    throwing: u64,
    /// Where the signal handler notes what compiled code did that the processor refuses.
    watch: Rc<Watch>,
    /// The stack that this mutator's thread has.
    stack: Range<usize>,
    /// Where allocation goes on under stress, when compiled code's own buffer stays empty.
    withheld: AllocationBuffer,
    stress: Option<Stress>,
    verify: bool,
    /// Still set after a collection that panicked.
    is_collecting: bool,
    missed_roots: MissedRoots,
    statistics: Statistics,
    /// The last collections in a row that the heap filled up again too soon after.
    futile: u32,
    /// What had been allocated when the heap was full the last time.
    allocated_when_full: u64,
    exit: Option<(Exit, Vec<Location>)>,
}

/// Collect at every nth allocation.
#[derive(Clone, Copy, Debug)]
struct Stress {
    every: u64,
    until_next: u64,
}

impl<C: Collector> Mutator<C> {
    /// A mutator that runs the module's code on the collector's heap.
    ///
    /// # Errors
    /// If code cannot be made final, or was emitted for another collector.
    pub fn new(module: Module, collector: C) -> Result<Self, Error> {
        Self::observed(module, collector, ())
    }
}

impl<C: Collector, O: Observer> Mutator<C, O> {
    /// A mutator whose collections `observer` hears, in the debug modes that the environment says.
    ///
    /// # Errors
    /// If code cannot be made final, or was emitted for another collector; or if the environment
    /// asks for a debug mode that there is not.
    pub fn observed(mut module: Module, collector: C, observer: O) -> Result<Self, Error> {
        let DebugModes { stress, verify, .. } = DebugModes::from_env()?;
        if module.attrs() != C::ATTRS {
            return Err(Error::Attrs { code: module.attrs(), collector: C::ATTRS });
        }
        module.finalize()?;
        let stack = stack_bounds();
        let context = Box::into_raw(Box::new(Context {
            buffer: AllocationBuffer::EMPTY,
            activation: ptr::null(),
            globals: ptr::null_mut(),
            host_functions: ptr::null(),
            stack_limit: stack.end.min(stack.start + STACK_RESERVE),
            allocated_objects: 0,
            mutator: ptr::null_mut(),
        }));
        let mut mutator = Self {
            identity: module.identity(),
            handles: Handles::new(module.identity()),
            thrown: Cell::new(0),
            uncaught: Cell::new(0),
            throws: 0,
            throwing: 0,
            watch: Rc::new(Watch::new(fault::<C, O>, context.cast())),
            stack,
            module,
            collector,
            observer,
            context,
            host_functions: Vec::new(),
            globals: Vec::new(),
            withheld: AllocationBuffer::EMPTY,
            stress: None,
            verify,
            is_collecting: false,
            missed_roots: MissedRoots::default(),
            statistics: Statistics::default(),
            futile: 0,
            allocated_when_full: 0,
            exit: None,
        };
        mutator.publish_tables();
        mutator.set_stress(stress);
        Ok(mutator)
    }

    /// Defines more functions, host functions, layouts or globals, and makes their code final. Also
    /// while compiled code is active, from a host function.
    ///
    /// ```
    /// use tospace::collector::{Collector, Semispace};
    /// use tospace::heap::HeapOptions;
    /// use tospace::jit::{Module, ModuleOptions, Signature};
    /// use tospace::Mutator;
    ///
    /// let module = Module::new(ModuleOptions::new(Semispace::ATTRS))?;
    /// let mut mutator = Mutator::new(module, Semispace::new(HeapOptions::new(1 << 20))?)?;
    /// let nothing = mutator.compile(|module| module.function("nothing", Signature::default(), |_| {}))?;
    /// assert!(mutator.call(nothing, &[])?.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If `body` puts another module in this one's place.
    ///
    /// # Errors
    /// What `body` fails with, or [`Error::Undefined`] if code calls a function that is not defined.
    /// Nothing is lost: what is missing can be defined by the next call.
    pub fn compile<T>(
        &mut self,
        body: impl FnOnce(&mut Module) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let made = panic::catch_unwind(AssertUnwindSafe(|| body(&mut self.module)));
        self.assert_usable();
        let made = match made {
            Ok(Ok(made)) => self.module.finalize().map(|()| Ok(made)),
            Ok(Err(error)) => Err(error),
            Err(panic) => Ok(Err(panic)),
        };
        // Also after a failure: what the body defined and made final by itself can be called.
        self.publish_tables();
        made.map(|made| made.unwrap_or_else(|panic| panic::resume_unwind(panic)))
    }

    /// Code and layouts that are in use have to stay, and a collection that has begun has to end. After
    /// anything else the mutator is lost, and nothing is done with it any more.
    fn assert_usable(&self) {
        assert!(!self.is_collecting, "a collection has ended in a panic: the heap is lost");
        assert!(
            self.module.identity() == self.identity,
            "the module is this mutator's own, to add to: it must not be exchanged"
        );
    }

    /// Makes the tables of globals and host functions as large as the module wants them, and tells
    /// compiled code where they are.
    fn publish_tables(&mut self) {
        self.globals.resize(self.module.globals(), Cell::new(0));
        self.host_functions = self.module.host_functions().to_vec();
        for (func, slow_path) in [
            (ALLOCATE, allocate::<C, O> as *const c_void),
            (ALLOCATE_ARRAY, allocate_array::<C, O> as *const c_void),
            (COLLECT, collect::<C, O> as *const c_void),
            (CALL_HOST, call_host::<C, O> as *const c_void),
            (THROW, throw::<C, O> as *const c_void),
            (OUT_OF_BOUNDS, out_of_bounds::<C, O> as *const c_void),
        ] {
            self.host_functions[func.number()] = slow_path;
        }
        self.watch.code.set(self.module.code_range());
        // SAFETY: `context` is this mutator's, alive as long as it. If compiled code is active, it
        // waits, and will load the tables' addresses again when it needs them.
        unsafe {
            (*self.context).globals = self.globals.as_ptr().cast_mut().cast();
            (*self.context).host_functions = self.host_functions.as_ptr();
        }
    }

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

    /// The mutator that compiled code was entered from, for a host function to use.
    ///
    /// # Safety
    /// `context` is what an exit trampoline gave to the host function that is running, the mutator
    /// has these types, and the result is not used once the host function has returned, nor while
    /// another one that came from the same context is.
    pub unsafe fn from_context<'a>(context: *mut Context) -> &'a mut Self {
        // SAFETY: `call` put it there, and it is not used until the exit trampoline returns.
        unsafe { &mut *(*context).mutator.cast() }
    }

    /// Whether the stack has as much left as calls to and from the host shall find.
    fn has_stack(&self) -> bool {
        let here = 0_u8;
        // SAFETY: `context` is this mutator's own.
        ptr::from_ref(&here).addr() >= unsafe { (*self.context).stack_limit }
    }

    fn stack_overflow(&self) -> TrapKind {
        TrapKind::StackOverflow { bytes: self.stack.len(), reserve: STACK_RESERVE }
    }

    /// Collects garbage now.
    pub fn collect(&mut self) -> Cycle {
        self.assert_usable();
        if self.module.options().missed_roots {
            self.detect_missed_roots();
        }
        // SAFETY: `context` is this mutator's own, and compiled code waits at an exit trampoline, if
        // it is active at all.
        let (activation, shared) =
            unsafe { ((*self.context).activation, &mut (*self.context).buffer) };
        let buffer = if self.stress.is_some() { &mut self.withheld } else { shared };
        let roots = MutatorRoots {
            // SAFETY: I9: the list is what the entry trampolines made it; all code is registered.
            frames: unsafe { FrameRoots::new(self.module.maps(), activation) },
            handles: self.handles.slots(),
            globals: &self.globals,
            exceptions: [&self.thrown, &self.uncaught],
        };
        let layouts = self.module.layouts();
        self.is_collecting = true;
        self.observer.enter(Phase::Roots);
        // SAFETY: every reference is in a mapped slot (I1), a handle (I8), a global, or a field that its
        // layout names (I7): so says whoever emitted the code.
        let cycle = unsafe { self.collector.collect(&roots, layouts, buffer, &mut self.observer) };
        self.is_collecting = false;
        self.observer.collected(&cycle);
        self.observer.enter(Phase::Mutator);
        self.statistics.add(&cycle);
        if self.verify {
            let number = self.statistics.collections;
            let place = |reference| self.collector.place(reference, buffer);
            // SAFETY: what the collector calls live lies in its memory; the layouts are those that
            // the objects were allocated with (I7).
            match unsafe { heap::verify(&roots, layouts, place) } {
                Ok(bytes) if bytes == cycle.live_bytes || !C::ATTRS.frees => {}
                Ok(bytes) => panic!(
                    "after collection {number}: {bytes} bytes are reachable, and the collector found {}",
                    cycle.live_bytes
                ),
                Err(violation) => panic!("after collection {number}: {violation}"),
            }
        }
        cycle
    }

    /// Allocates, collecting if it has to.
    fn allocate(&mut self, header: Header) -> Result<GcRef, TrapKind> {
        self.assert_usable();
        self.statistics.slow_allocations += 1;
        let bytes = header.bytes(self.module.layouts());
        if self.stress.as_mut().is_some_and(Stress::is_due) {
            self.collect();
        }
        let object = match self.try_allocate(bytes) {
            Some(object) => object,
            None => {
                let cycle = self.collect();
                self.note_progress(&cycle, bytes)?;
                self.try_allocate(bytes).ok_or_else(|| self.heap_full(bytes))?
            }
        };
        // SAFETY: the collector gave `bytes` bytes that belong to no object.
        unsafe {
            let payload = ptr::with_exposed_provenance_mut::<u8>(object.address() + WORD);
            payload.write_bytes(0, bytes - WORD);
            header.write(object);
        }
        Ok(object)
    }

    fn try_allocate(&mut self, bytes: usize) -> Option<GcRef> {
        // SAFETY: as in `collect`.
        let shared = unsafe { &mut (*self.context).buffer };
        let buffer = if self.stress.is_some() { &mut self.withheld } else { shared };
        // SAFETY: this collector has filled both buffers, and only compiled code has taken from them.
        unsafe { self.collector.allocate(bytes, buffer, &mut self.observer) }
    }

    /// Gives up when collecting has become all there is left to do.
    ///
    /// What was allocated since the heap was full the last time tells, not what is free: free memory
    /// may be of no use to this program.
    fn note_progress(&mut self, cycle: &Cycle, asked: usize) -> Result<(), TrapKind> {
        let allocated = self.usage().allocated_bytes;
        let progress = allocated - self.allocated_when_full;
        self.allocated_when_full = allocated;
        let least = cycle.live_bytes / LEAST_PROGRESS;
        self.futile = if progress < least { self.futile + 1 } else { 0 };
        if self.futile < MOST_FUTILE {
            return Ok(());
        }
        Err(self.heap_full(asked))
    }

    fn heap_full(&mut self, asked: usize) -> TrapKind {
        // What the program does next is another matter.
        self.futile = 0;
        let usage = self.usage();
        TrapKind::HeapFull {
            asked: asked as u64,
            free: usage.free_bytes,
            live: self.statistics.live_bytes_last,
            heap: usage.heap_bytes,
            collections: self.statistics.collections,
        }
    }

    /// Collects at every `every`th allocation from now on; 0 collects only when the heap is full.
    ///
    /// Compiled code stays as it is: its buffer is kept empty, so that each allocation takes the
    /// slow path.
    pub fn set_stress(&mut self, every: u64) {
        // SAFETY: as in `collect`.
        let shared = unsafe { &mut (*self.context).buffer };
        let is_withheld = self.stress.is_some();
        self.stress = (every > 0).then_some(Stress { every, until_next: every });
        if is_withheld != self.stress.is_some() {
            std::mem::swap(shared, &mut self.withheld);
        }
    }

    /// Follows all references again after each collection from now on, and checks them; or no more.
    /// What is wrong ends the collection with a panic that says where.
    pub fn set_verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// Forgets all objects and counts; globals become null.
    ///
    /// # Panics
    /// If compiled code is active.
    pub fn reset(&mut self) {
        // SAFETY: `context` is this mutator's own.
        let context = unsafe { &mut *self.context };
        assert!(context.activation.is_null(), "compiled code is active");
        self.globals.fill(Cell::new(0));
        self.thrown.set(0);
        self.uncaught.set(0);
        self.missed_roots = MissedRoots::default();
        context.allocated_objects = 0;
        (self.statistics, self.futile, self.allocated_when_full) = (Statistics::default(), 0, 0);
        self.stress = self.stress.map(|Stress { every, .. }| Stress { every, until_next: every });
        // SAFETY: no frame and no global holds a reference any more.
        unsafe { self.collector.reset(&mut context.buffer) };
        self.withheld = AllocationBuffer::EMPTY;
    }

    /// What the collector allocates from, to be looked at.
    fn buffer(&self) -> &AllocationBuffer {
        // SAFETY: as in `collect`.
        let shared = unsafe { &(*self.context).buffer };
        if self.stress.is_some() { &self.withheld } else { shared }
    }

    fn usage(&self) -> Usage {
        // SAFETY: as in `try_allocate`.
        unsafe { self.collector.usage(self.buffer()) }
    }

    /// What happened so far.
    pub fn statistics(&self) -> Statistics {
        // SAFETY: as in `collect`.
        let counted = unsafe { (*self.context).allocated_objects };
        let allocated_objects = self.module.options().count_allocations.then_some(counted);
        Statistics { usage: self.usage(), allocated_objects, ..self.statistics }
    }

    /// The code that this mutator runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What hears the collections.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
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

impl<C: Collector, O: Observer> Drop for Mutator<C, O> {
    fn drop(&mut self) {
        // SAFETY: the box that `observed` made, dropped once; compiled code is not running, or this
        // mutator would be borrowed.
        drop(unsafe { Box::from_raw(self.context) });
    }
}

impl Stress {
    fn is_due(&mut self) -> bool {
        self.until_next -= 1;
        let due = self.until_next == 0;
        if due {
            self.until_next = self.every;
        }
        due
    }
}

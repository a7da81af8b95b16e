//! The mutator: ties compiled code to a collector.
//!
//! | file | what it has |
//! |---|---|
//! | this one | what a mutator is made of, and the code that it runs |
//! | `call` | into compiled code, through an entry trampoline |
//! | `slow_path` | what exit trampolines call when compiled code cannot go on by itself; how it is left |
//! | `collect` | allocation and collection; when the heap is full |
//! | `roots` | where a collection begins: frames, handles, globals, exceptions |
//! | `missed_roots` | the detector of references that are no roots |
//! | `statistics` | what happened so far |

mod call;
mod collect;
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

pub use self::call::CallError;
use self::collect::Stress;
pub use self::missed_roots::MissedRoot;
use self::missed_roots::MissedRoots;
use self::slow_path::{
    Exit, allocate, allocate_array, call_host, collect, fault, out_of_bounds, throw,
};
pub use self::statistics::Statistics;
use crate::collector::Collector;
use crate::debug::DebugModes;
use crate::handle::Handles;
use crate::heap::{AllocationBuffer, Observer};
use crate::jit::module::{ALLOCATE, ALLOCATE_ARRAY, CALL_HOST, COLLECT, OUT_OF_BOUNDS, THROW};
use crate::jit::{Context, Error, Module};
use crate::stack::{STACK_RESERVE, Watch, thread::stack_bounds};
use crate::trap::Location;

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
        self.stress = self.stress.map(Stress::again);
        // SAFETY: no frame and no global holds a reference any more.
        unsafe { self.collector.reset(&mut context.buffer) };
        self.withheld = AllocationBuffer::EMPTY;
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

impl<C: Collector, O: Observer> Drop for Mutator<C, O> {
    fn drop(&mut self) {
        // SAFETY: the box that `observed` made, dropped once; compiled code is not running, or this
        // mutator would be borrowed.
        drop(unsafe { Box::from_raw(self.context) });
    }
}

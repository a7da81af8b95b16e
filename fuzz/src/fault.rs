//! Seeded faults: what has to be found. A test set that cannot fail proves nothing.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use clap::ValueEnum;
use tospace::collector::{Collector, CollectorAttrs, Usage};
use tospace::heap::{
    AllocationBuffer, Cycle, GcRef, HeapError, HeapOptions, Layouts, Observer, Place, Roots,
    RootsVisited, Slot, WORD,
};

/// Something that an implementation may get wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Fault {
    /// One slot of the frames is not visited.
    SkipSlot,
    /// SP is one word off: so is every slot of the frames.
    SpanOff,
    /// Activations other than the newest are not walked.
    ForgetActivations,
    /// The host's handles are not visited.
    ForgetHandles,
    /// An object is copied once more for the second slot that refers to it.
    ForwardTwice,
    /// Code keeps references in variables that no stack map names.
    NoReload,
    /// Objects are scanned with the slots of another layout.
    WrongLayout,
}

thread_local! {
    static ACTIVE: Cell<Option<Fault>> = const { Cell::new(None) };
    /// Where on the stack the host re-entered compiled code, oldest first.
    static BOUNDARIES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
    /// An address above all frames of compiled code.
    static STACK_TOP: Cell<usize> = const { Cell::new(0) };
}

/// Makes this thread's programs run with a fault from now on, or without.
pub fn activate(fault: Option<Fault>) {
    ACTIVE.set(fault);
}

/// The fault that this thread's programs run with.
pub fn active() -> Option<Fault> {
    ACTIVE.get()
}

/// Whether it is this one.
pub fn is_active(fault: Fault) -> bool {
    active() == Some(fault)
}

impl Fault {
    /// Whether it is a fault of what [`Faulty`] does to the roots.
    fn is_of_roots(self) -> bool {
        use Fault::{ForgetActivations, ForgetHandles, SkipSlot, SpanOff};
        matches!(self, SkipSlot | SpanOff | ForgetActivations | ForgetHandles)
    }
}

/// Runs `body` with all frames of compiled code below this one's.
pub fn on_the_stack<T>(body: impl FnOnce() -> T) -> T {
    let top = 0;
    STACK_TOP.set(std::hint::black_box(&raw const top).addr());
    body()
}

/// Runs `body`, which enters compiled code while other compiled code waits.
pub fn re_entering<T>(body: impl FnOnce() -> T) -> T {
    struct Left;
    impl Drop for Left {
        fn drop(&mut self) {
            BOUNDARIES.with_borrow_mut(Vec::pop);
        }
    }
    let boundary = 0;
    let boundary = std::hint::black_box(&raw const boundary).addr();
    BOUNDARIES.with_borrow_mut(|boundaries| boundaries.push(boundary));
    let _left = Left;
    body()
}

/// A collector that is given the wrong roots, if such a fault is active.
pub struct Faulty<C> {
    inner: C,
    /// The addresses of the globals: all slots outside of the stack at the first collection, which
    /// comes before there are handles.
    globals: Option<HashSet<usize>>,
}

struct WrongRoots<'a, R> {
    roots: &'a R,
    globals: &'a HashSet<usize>,
    fault: Option<Fault>,
}

fn is_on_the_stack(slot: Slot) -> bool {
    let here = 0;
    (std::hint::black_box(&raw const here).addr()..STACK_TOP.get()).contains(&slot.address())
}

// SAFETY: it is not what it promises: that is the fault.
unsafe impl<R: Roots> Roots for WrongRoots<'_, R> {
    fn visit(&self, mut visit: impl FnMut(Slot)) -> RootsVisited {
        let boundary = BOUNDARIES.with_borrow(|boundaries| boundaries.last().copied());
        let mut first = true;
        self.roots.visit(|slot| {
            let in_frame = is_on_the_stack(slot);
            match self.fault {
                Some(Fault::SkipSlot) if in_frame && std::mem::take(&mut first) => {}
                // SAFETY: the word above a slot is on the stack, too.
                Some(Fault::SpanOff) if in_frame => unsafe {
                    visit(Slot::at(slot.address() + WORD));
                },
                Some(Fault::ForgetActivations)
                    if in_frame && boundary.is_some_and(|boundary| slot.address() > boundary) => {}
                Some(Fault::ForgetHandles)
                    if !in_frame && !self.globals.contains(&slot.address()) => {}
                _ => visit(slot),
            }
        })
    }
}

// SAFETY: without a fault, what the inner collector promises.
unsafe impl<C: Collector> Collector for Faulty<C> {
    const ATTRS: CollectorAttrs = C::ATTRS;

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        Ok(Self { inner: C::new(options)?, globals: None })
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Option<GcRef> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.allocate(bytes, buffer, observer) }
    }

    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        let globals = self.globals.get_or_insert_with(|| {
            let mut globals = HashSet::new();
            roots.visit(|slot| {
                globals.insert(slot.address());
            });
            globals
        });
        let fault = active().filter(|fault| fault.is_of_roots());
        let roots = WrongRoots { roots, globals, fault };
        // SAFETY: the caller's promise, or a fault.
        unsafe { self.inner.collect(&roots, layouts, buffer, observer) }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        // SAFETY: the caller's promise.
        unsafe { self.inner.usage(buffer) }
    }

    fn place(&self, reference: GcRef, buffer: &AllocationBuffer) -> Place {
        self.inner.place(reference, buffer)
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        // SAFETY: the caller's promise.
        unsafe { self.inner.reset(buffer) }
    }
}

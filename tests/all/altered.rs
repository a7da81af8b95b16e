//! A collector of somebody else's: semispace, with collections that go another way.

use std::marker::PhantomData;

use tospace::collector::{Collector, CollectorAttrs, Semispace, Usage};
use tospace::heap::{
    AllocationBuffer, Cycle, GcRef, HeapError, HeapOptions, Layouts, Observer, Place, Roots,
};

/// What becomes of a collection.
pub trait Alteration {
    /// # Safety
    /// As for [`Collector::collect`].
    unsafe fn collect(
        semispace: &mut Semispace,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle;
}

pub struct Altered<A>(Semispace, PhantomData<A>);

// SAFETY: it does what `Semispace` does, but for what the test wants to go wrong.
unsafe impl<A: Alteration> Collector for Altered<A> {
    const ATTRS: CollectorAttrs = Semispace::ATTRS;

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        Ok(Self(Semispace::new(options)?, PhantomData))
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Option<GcRef> {
        // SAFETY: the caller's promise.
        unsafe { self.0.allocate(bytes, buffer, observer) }
    }

    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        // SAFETY: the caller's promise.
        unsafe { A::collect(&mut self.0, roots, layouts, buffer, observer) }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        // SAFETY: the caller's promise.
        unsafe { self.0.usage(buffer) }
    }

    fn place(&self, reference: GcRef, buffer: &AllocationBuffer) -> Place {
        self.0.place(reference, buffer)
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        // SAFETY: the caller's promise.
        unsafe { self.0.reset(buffer) }
    }
}

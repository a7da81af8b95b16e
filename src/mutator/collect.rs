//! Allocation and collection, as the slow paths and the host ask for them, and when to give up.

use std::ptr;

use super::Mutator;
use super::roots::MutatorRoots;
use crate::collector::{Collector, Usage};
use crate::heap::{self, AllocationBuffer, Cycle, GcRef, Header, Observer, Phase, WORD};
use crate::stack::FrameRoots;
use crate::trap::TrapKind;

/// Collections in a row that may come after next to no allocation.
const MOST_FUTILE: u32 = 8;
/// The part of the live bytes, which every collection looks at again, in 1/n, below which allocation
/// is next to nothing.
const LEAST_PROGRESS: u64 = 64;

/// Collect at every nth allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stress {
    every: u64,
    until_next: u64,
}

impl Stress {
    fn new(every: u64) -> Self {
        Self { every, until_next: every }
    }

    /// As new.
    pub fn again(self) -> Self {
        Self::new(self.every)
    }

    fn is_due(&mut self) -> bool {
        self.until_next -= 1;
        let due = self.until_next == 0;
        if due {
            self.until_next = self.every;
        }
        due
    }
}

impl<C: Collector, O: Observer> Mutator<C, O> {
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
    pub(super) fn allocate(&mut self, header: Header) -> Result<GcRef, TrapKind> {
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
        self.stress = (every > 0).then(|| Stress::new(every));
        if is_withheld != self.stress.is_some() {
            std::mem::swap(shared, &mut self.withheld);
        }
    }

    /// Follows all references again after each collection from now on, and checks them; or no more.
    /// What is wrong ends the collection with a panic that says where.
    pub fn set_verify(&mut self, verify: bool) {
        self.verify = verify;
    }

    /// What the collector allocates from, to be looked at.
    pub(super) fn buffer(&self) -> &AllocationBuffer {
        // SAFETY: as in `collect`.
        let shared = unsafe { &(*self.context).buffer };
        if self.stress.is_some() { &self.withheld } else { shared }
    }

    pub(super) fn usage(&self) -> Usage {
        // SAFETY: as in `try_allocate`.
        unsafe { self.collector.usage(self.buffer()) }
    }
}

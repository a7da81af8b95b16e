//! A copying collector as a textbook has it, written against nothing but [`tospace`]'s interface for
//! collectors: whoever brings one of their own starts like this. It can be made wrong, which is what
//! it is for.
//!
//! Cheney's algorithm: see [`tospace::collector::semispace`].

use tospace::collector::{Barrier, Collector, CollectorAttrs, InlineAllocation, Usage};
use tospace::heap::{
    AllocationBuffer, Cycle, GcRef, Header, HeaderWord, HeapError, HeapOptions, Layouts, Observer,
    POISON, Phase, Place, Roots, Slot, Space, copy::copy_words, header,
};

use crate::fault::{self, Fault};

/// Two spaces.
pub struct Textbook {
    current: Space,
    other: Space,
    protect: bool,
    /// What the mutator had allocated when it began to allocate at `cycle_start`.
    allocated_bytes: u64,
    cycle_start: usize,
}

// SAFETY: allocation is behind all objects; a collection copies each object that it reaches once, and
// updates each slot that refers to it; unless a fault is active.
unsafe impl Collector for Textbook {
    const ATTRS: CollectorAttrs = CollectorAttrs {
        name: "textbook",
        moves: true,
        frees: true,
        allocation: InlineAllocation::Bump,
        barrier: Barrier::None,
    };

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        let half = options.granular_bytes()? / 2;
        let (current, other) = (Space::map(half, false)?, Space::map(half, false)?);
        let cycle_start = current.start();
        let protect = options.protect;
        Ok(Self { current, other, protect, allocated_bytes: 0, cycle_start })
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        _observer: &mut impl Observer,
    ) -> Option<GcRef> {
        if buffer.cursor == 0 {
            (buffer.cursor, buffer.limit) = (self.current.start(), end(&self.current));
        }
        buffer.bump(bytes)
    }

    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        let (unused, retired) = (buffer.remaining() as u64, buffer.cursor);
        self.allocated_bytes += (buffer.cursor.max(self.cycle_start) - self.cycle_start) as u64;
        let mut copies = Copies {
            from: &self.current,
            layouts,
            free: self.other.start(),
            limit: end(&self.other),
            count: 0,
            copied_again: false,
        };
        let visited = roots.visit(|slot| copies.forward(slot));
        observer.enter(Phase::Trace);
        copies.scan(self.other.start());
        let (free, copied_objects) = (copies.free, copies.count);
        if self.protect {
            poison(self.current.start(), retired);
        }
        std::mem::swap(&mut self.current, &mut self.other);
        self.cycle_start = free;
        (buffer.cursor, buffer.limit) = (free, end(&self.current));
        let live_bytes = (free - self.current.start()) as u64;
        Cycle {
            frames_walked: visited.frames,
            slots_visited: visited.slots,
            copied_objects,
            copied_bytes: live_bytes,
            live_bytes,
            free_bytes: buffer.remaining() as u64,
            fragmentation_bytes: unused,
        }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        let cursor = buffer.cursor.max(self.cycle_start);
        let heap_bytes = 2 * self.current.bytes() as u64;
        Usage {
            heap_bytes,
            peak_bytes: heap_bytes,
            allocated_bytes: self.allocated_bytes + (cursor - self.cycle_start) as u64,
            free_bytes: (end(&self.current) - cursor) as u64,
        }
    }

    fn place(&self, reference: GcRef, buffer: &AllocationBuffer) -> Place {
        let address = reference.address();
        match self.current.bounds().contains(address) {
            true if address < buffer.cursor => Place::Live,
            false if !self.other.bounds().contains(address) => Place::Elsewhere,
            _ => Place::Stale,
        }
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        *buffer = AllocationBuffer::EMPTY;
        (self.allocated_bytes, self.cycle_start) = (0, self.current.start());
    }
}

fn end(space: &Space) -> usize {
    space.start() + space.bytes()
}

fn poison(start: usize, end: usize) {
    for address in (start..end).step_by(size_of::<usize>()) {
        // SAFETY: I4: nobody refers to from-space any more; it is this collector's.
        unsafe { std::ptr::with_exposed_provenance_mut::<usize>(address).write(POISON) }
    }
}

/// A collection in progress.
struct Copies<'a> {
    from: &'a Space,
    layouts: &'a Layouts,
    free: usize,
    limit: usize,
    count: u64,
    /// Whether [`Fault::ForwardTwice`] has had its way: more than once might not end.
    copied_again: bool,
}

impl Copies<'_> {
    /// Scans the copies, from the first one to the last, which scanning moves on.
    fn scan(&mut self, first: usize) {
        let (mut scan, mut before) = (first, None);
        while scan < self.free {
            // SAFETY: I5: a copy, which has the size that its header says, starts here.
            unsafe {
                let object = GcRef::at(scan);
                let header = header::of(object);
                let taken_for = self.taken_for(header, before.replace(header));
                scan += taken_for.visit_slots(object, self.layouts, |slot| self.forward(slot));
            }
        }
    }

    /// The header that an object is scanned with: its own, or by a fault that of the object before,
    /// if that has the same size.
    fn taken_for(&self, header: Header, before: Option<Header>) -> Header {
        let is_wrong = |before: &Header| {
            let same_size = before.bytes(self.layouts) == header.bytes(self.layouts);
            fault::is_active(Fault::WrongLayout) && same_size
        };
        before.filter(is_wrong).unwrap_or(header)
    }

    fn forward(&mut self, slot: Slot) {
        if !self.from.bounds().contains(slot.word()) {
            return;
        }
        // SAFETY: a reference into from-space is to an object (the promise made to `collect`), which
        // starts with a header or a forwarding pointer (I6).
        let copy = unsafe {
            let object = GcRef::at(slot.word());
            match header::read(object) {
                HeaderWord::Header(header) => {
                    let copy = self.copy(object, header);
                    header::forward(object, copy);
                    copy
                }
                HeaderWord::Forwarded(copy) if self.copies_again() => {
                    self.copy(copy, header::of(copy))
                }
                HeaderWord::Forwarded(copy) => copy,
            }
        };
        slot.store(copy);
    }

    fn copies_again(&mut self) -> bool {
        fault::is_active(Fault::ForwardTwice) && !std::mem::replace(&mut self.copied_again, true)
    }

    /// # Safety
    /// `object` is an object with this header.
    unsafe fn copy(&mut self, object: GcRef, header: Header) -> GcRef {
        let bytes = header.bytes(self.layouts);
        assert!(bytes <= self.limit - self.free, "to-space is full: the heap is damaged");
        // SAFETY: the object has `bytes` bytes, and as many are unused at `free`.
        let copy = unsafe {
            copy_words(object.address(), self.free, bytes);
            GcRef::at(self.free)
        };
        self.free += bytes;
        self.count += 1;
        copy
    }
}

//! A semispace collector that copies as Cheney did.
//!
//! Half of the heap is in use. When it is full, its live objects move to the other half and the rest
//! is forgotten:
//!
//! ```text
//!   from-space   | A . . B C . . D . |        each copied object leaves a forwarding pointer
//!                  |     |
//!                  v     v
//!   to-space     | A'    | B'  D' |             |
//!                ^       ^        ^             ^
//!                start   scan     free          limit
//!                 black    grey      unused
//! ```
//!
//! Objects below `scan` are black: their slots refer to copies. Those between `scan` and `free` are
//! grey: copied, but their slots still refer to from-space. The queue of a breadth-first traversal is
//! to-space itself, so that no stack is needed; it is empty when `scan` meets `free` (I5).
//!
//! C. J. Cheney, "A nonrecursive list compacting algorithm", CACM 13(11), 1970;
//! Jones, Hosking, Moss, "The Garbage Collection Handbook", 2nd ed., section 4.1.

use super::{Barrier, Collector, CollectorAttrs, InlineAllocation, Usage};
use crate::heap::{
    AllocationBuffer, Bounds, Cycle, GcRef, Header, HeaderWord, HeapError, HeapOptions, Layouts,
    Observer, Phase, Place, Reservation, Roots, Slot, Space, copy::copy_words, header,
};

/// Two equal spaces, of which the mutator allocates in the first.
#[derive(Debug)]
pub struct Semispace {
    current: Half,
    other: Half,
    /// Where the mutator began to allocate after the last collection.
    cycle_start: usize,
    /// What it had allocated before that.
    allocated_bytes: u64,
    /// The most that was touched of the two spaces, before one was replaced.
    most_touched: usize,
    /// Where spaces come from under [`HeapOptions::protect`].
    reservation: Option<Reservation>,
}

/// One of the two spaces, and how far it has ever been filled.
#[derive(Debug)]
struct Half {
    space: Space,
    high_water: usize,
}

impl Half {
    fn new(space: Space) -> Self {
        Self { high_water: space.start(), space }
    }

    fn limit(&self) -> usize {
        self.space.start() + self.space.bytes()
    }

    fn touched_bytes(&self) -> usize {
        self.high_water - self.space.start()
    }
}

// SAFETY: `allocate` advances through a space that holds no object beyond the cursor; `collect`
// copies each reachable object once and updates each slot that refers to it.
unsafe impl Collector for Semispace {
    const ATTRS: CollectorAttrs = CollectorAttrs {
        name: "semispace",
        moves: true,
        frees: true,
        allocation: InlineAllocation::Bump,
        barrier: Barrier::None,
    };

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        let half = options.granular_bytes()? / 2;
        let mut reservation = options.protect.then(|| Reservation::new(half)).transpose()?;
        let mut space = || match &mut reservation {
            Some(reservation) => reservation.take(),
            None => Space::map(half, options.prefault),
        };
        let (current, other) = (Half::new(space()?), Half::new(space()?));
        let cycle_start = current.space.start();
        Ok(Self { current, other, cycle_start, allocated_bytes: 0, most_touched: 0, reservation })
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        _observer: &mut impl Observer,
    ) -> Option<GcRef> {
        if buffer.cursor == 0 {
            (buffer.cursor, buffer.limit) = (self.current.space.start(), self.current.limit());
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
        let tail = buffer.remaining();
        self.note_allocation(buffer);
        self.flip();

        let mut cheney = Cheney::new(&self.other.space, &self.current.space, layouts, observer);
        let visited = roots.visit(|slot| cheney.forward(slot));
        cheney.observer.enter(Phase::Trace);
        let Cheney { free, copied_objects, .. } = cheney.scan_grey();
        let live = (free - self.current.space.start()) as u64;
        self.resume_at(free, buffer);
        self.retire();
        Cycle {
            frames_walked: visited.frames,
            slots_visited: visited.slots,
            copied_objects,
            copied_bytes: live,
            live_bytes: live,
            free_bytes: buffer.remaining() as u64,
            fragmentation_bytes: tail as u64,
        }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        let cursor = buffer.cursor.max(self.cycle_start);
        let ahead = cursor.saturating_sub(self.current.high_water);
        let touched = (self.touched_bytes() + ahead).max(self.most_touched);
        Usage {
            heap_bytes: (self.current.space.bytes() + self.other.space.bytes()) as u64,
            peak_bytes: touched as u64,
            allocated_bytes: self.allocated_bytes + (cursor - self.cycle_start) as u64,
            free_bytes: (self.current.limit() - cursor) as u64,
        }
    }

    fn place(&self, reference: GcRef, buffer: &AllocationBuffer) -> Place {
        let address = reference.address();
        let is_in = |half: &Half| half.space.bounds().contains(address);
        let is_reserved = |reserved: &Reservation| reserved.bounds().contains(address);
        match is_in(&self.current) {
            true if address < buffer.cursor => Place::Live,
            true => Place::Stale,
            false if is_in(&self.other) => Place::Stale,
            // Retired in an earlier cycle.
            false if self.reservation.as_ref().is_some_and(is_reserved) => Place::Stale,
            false => Place::Elsewhere,
        }
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        *buffer = AllocationBuffer::EMPTY;
        for half in [&mut self.current, &mut self.other] {
            half.high_water = half.space.start();
        }
        self.cycle_start = self.current.space.start();
        (self.allocated_bytes, self.most_touched) = (0, 0);
    }
}

impl Semispace {
    fn note_allocation(&mut self, buffer: &AllocationBuffer) {
        let cursor = buffer.cursor.max(self.cycle_start);
        self.allocated_bytes += (cursor - self.cycle_start) as u64;
        self.current.high_water = self.current.high_water.max(cursor);
    }

    fn flip(&mut self) {
        std::mem::swap(&mut self.current, &mut self.other);
    }

    /// Gives up from-space: nobody refers to it any more (I4). Under protection, whoever still does
    /// will fault, now and after any number of collections.
    fn retire(&mut self) {
        self.most_touched = self.most_touched.max(self.touched_bytes());
        if let Some(reservation) = &mut self.reservation {
            reservation.retire(&self.other.space);
            let fresh = reservation.take().expect("a debug mode may fail for lack of memory");
            self.other = Half::new(fresh);
        }
    }

    fn touched_bytes(&self) -> usize {
        self.current.touched_bytes() + self.other.touched_bytes()
    }

    /// Lets the mutator go on after the last copy.
    fn resume_at(&mut self, free: usize, buffer: &mut AllocationBuffer) {
        self.current.high_water = self.current.high_water.max(free);
        self.cycle_start = free;
        (buffer.cursor, buffer.limit) = (free, self.current.limit());
    }
}

/// One cycle of Cheney's algorithm.
struct Cheney<'a, O> {
    from: Bounds,
    layouts: &'a Layouts,
    observer: &'a mut O,
    scan: usize,
    free: usize,
    limit: usize,
    copied_objects: u64,
}

impl<'a, O: Observer> Cheney<'a, O> {
    fn new(from: &'a Space, to: &'a Space, layouts: &'a Layouts, observer: &'a mut O) -> Self {
        let (start, limit) = (to.start(), to.start() + to.bytes());
        Self {
            from: from.bounds(),
            layouts,
            observer,
            scan: start,
            free: start,
            limit,
            copied_objects: 0,
        }
    }

    /// Scans grey objects until none is left.
    ///
    /// By value: what nobody else has a reference to, the compiler keeps in registers.
    fn scan_grey(mut self) -> Self {
        while self.scan < self.free {
            self.scan_object();
        }
        self
    }

    /// Makes the first grey object black.
    #[inline(always)]
    fn scan_object(&mut self) {
        let layouts = self.layouts;
        // SAFETY: I5: `scan` stands at the start of a copy, which has the layout and the size that
        // its header says, and which nobody forwards.
        unsafe {
            let object = GcRef::at(self.scan);
            let header = header::of(object);
            self.scan += header.visit_slots(object, layouts, |slot| self.forward(slot));
        }
    }

    /// Makes `slot` refer to the copy of what it refers to. Doing it twice does nothing more: a
    /// reference to to-space is not into from-space.
    #[inline(always)]
    fn forward(&mut self, slot: Slot) {
        let word = slot.word();
        if !self.from.contains(word) {
            return;
        }
        // SAFETY: an aligned word inside from-space, in a slot, refers to the start of an object (the
        // promise made to `collect`), whose first word is a header or a forwarding pointer (I6).
        let copy = unsafe {
            let object = GcRef::at(word);
            match header::read(object) {
                HeaderWord::Header(header) => self.copy(object, header),
                HeaderWord::Forwarded(copy) => copy,
            }
        };
        slot.store(copy);
    }

    /// Copies `object` to the end of the grey objects and leaves a forwarding pointer.
    ///
    /// # Safety
    /// `object` is an object in from-space with this header, not yet copied.
    #[inline(always)]
    unsafe fn copy(&mut self, object: GcRef, header: Header) -> GcRef {
        let bytes = header.bytes(self.layouts);
        let end = self.free + bytes;
        assert!(end <= self.limit, "to-space is full: the heap is damaged");
        // SAFETY: the object has `bytes` bytes, and as many are unused at `free`.
        let copy = unsafe {
            let copy = GcRef::at(self.free);
            copy_words(object.address(), self.free, bytes);
            header::forward(object, copy);
            copy
        };
        self.free = end;
        self.copied_objects += 1;
        if O::OBJECTS {
            self.observer.copied(object, copy, bytes);
        }
        copy
    }
}

//! Marking: bits beside the heap, a stack of objects to scan, and the traversal.

use super::blocks::{BLOCK, BlockTable};
use crate::heap::{
    Bounds, GcRef, HeapError, Layouts, Slot, Space, WORD, header, prefetch::prefetch,
};

/// One bit for each word of the heap, set if a marked object starts there.
#[derive(Debug)]
pub struct MarkBits(Space);

/// The heap bytes that one word of mark bits covers.
const COVERED: usize = u64::BITS as usize * WORD;

impl MarkBits {
    pub fn map(bytes: usize, prefault: bool) -> Result<Self, HeapError> {
        Space::map(bytes, prefault).map(Self)
    }

    fn words(&self) -> &[u64] {
        let start = std::ptr::with_exposed_provenance(self.0.start());
        // SAFETY: the space is mapped, zeroed when it was made, and only `words_mut` writes to it.
        unsafe { std::slice::from_raw_parts(start, self.0.bytes() / WORD) }
    }

    pub fn words_mut(&mut self) -> &mut [u64] {
        let start = std::ptr::with_exposed_provenance_mut(self.0.start());
        // SAFETY: as in `words`; the exclusive borrow makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(start, self.0.bytes() / WORD) }
    }

    pub fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    /// Whether the object `offset` bytes into the heap is marked.
    pub fn is_marked(&self, offset: usize) -> bool {
        self.words()[offset / COVERED] & bit(offset) != 0
    }

    /// How many objects in the block are marked.
    pub fn count(&self, block: usize) -> usize {
        let words = BLOCK / COVERED;
        self.words()[block * words..][..words].iter().map(|word| word.count_ones() as usize).sum()
    }
}

#[inline(always)]
fn bit(offset: usize) -> u64 {
    1 << (offset / WORD % u64::BITS as usize)
}

/// How many objects are being fetched at a time.
const AHEAD: usize = 8;

/// Objects that are marked and not yet scanned: a stack, and a short queue in front of it that gives
/// the memory system time to bring the header.
pub struct MarkStack<'a> {
    memory: &'a Space,
    depth: usize,
    queue: [usize; AHEAD],
    first: usize,
    queued: usize,
}

impl<'a> MarkStack<'a> {
    pub fn new(memory: &'a Space) -> Self {
        Self { memory, depth: 0, queue: [0; AHEAD], first: 0, queued: 0 }
    }

    #[inline(always)]
    fn entry(&self, depth: usize) -> *mut usize {
        std::ptr::with_exposed_provenance_mut(self.memory.start() + depth * WORD)
    }

    /// False if there is no room.
    #[inline(always)]
    fn push(&mut self, object: usize) -> bool {
        if self.depth == self.memory.bytes() / WORD {
            return false;
        }
        // SAFETY: `depth` is below the number of words in `memory`, which belongs to the stack.
        unsafe { self.entry(self.depth).write(object) };
        self.depth += 1;
        true
    }

    /// The object that has waited longest in the queue, which is filled from the stack before.
    #[inline(always)]
    fn pop(&mut self) -> Option<GcRef> {
        while self.queued < AHEAD && self.depth > 0 {
            self.depth -= 1;
            // SAFETY: entries below `depth` have been written.
            let object = unsafe { self.entry(self.depth).read() };
            prefetch(object);
            self.queue[(self.first + self.queued) % AHEAD] = object;
            self.queued += 1;
        }
        if self.queued == 0 {
            return None;
        }
        let object = self.queue[self.first];
        self.first = (self.first + 1) % AHEAD;
        self.queued -= 1;
        GcRef::from_word(object)
    }
}

/// One traversal of the heap.
pub struct Marker<'a> {
    pub space: Bounds,
    /// The mark bits' words.
    pub bits: &'a mut [u64],
    pub blocks: &'a mut BlockTable,
    pub stack: MarkStack<'a>,
    pub layouts: &'a Layouts,
    /// Bytes of the objects scanned so far.
    pub live_bytes: u64,
}

impl Marker<'_> {
    /// Marks what `slot` refers to, and remembers to scan it.
    #[inline(always)]
    pub fn mark(&mut self, slot: Slot) {
        let word = slot.word();
        if !self.space.contains(word) {
            return;
        }
        let offset = word - self.space.start();
        let bits = &mut self.bits[offset / COVERED];
        let unmarked = *bits & bit(offset) == 0;
        *bits |= bit(offset);
        if unmarked && !self.stack.push(word) {
            self.blocks.note_overflow(offset / BLOCK);
        }
    }

    /// Scans marked objects until all that is reachable is marked. The bytes of all of them.
    pub fn trace(mut self) -> u64 {
        self.drain();
        let mut overflowed = false;
        while let Some(block) = self.blocks.take_overflowed() {
            overflowed = true;
            self.marked_in(block, |marker, object| marker.scan(object));
            self.drain();
        }
        if overflowed {
            // Some objects were scanned twice.
            self.live_bytes = 0;
            for block in 0..self.blocks.len() {
                self.marked_in(block, |marker, object| {
                    marker.live_bytes += marker.bytes_of(object)
                });
            }
        }
        self.live_bytes
    }

    fn drain(&mut self) {
        while let Some(object) = self.stack.pop() {
            self.scan(object);
        }
    }

    fn marked_in(&mut self, block: usize, mut action: impl FnMut(&mut Self, GcRef)) {
        for offset in self.blocks.cells(block) {
            if self.bits[offset / COVERED] & bit(offset) != 0
                && let Some(object) = GcRef::from_word(self.space.start() + offset)
            {
                action(self, object);
            }
        }
    }

    /// Marks what the slots of `object` refer to.
    #[inline(always)]
    fn scan(&mut self, object: GcRef) {
        let layouts = self.layouts;
        // SAFETY: a marked object is one (the promise made to `Collector::collect`: slots refer to
        // objects), and has the layout and the size that its header says.
        let bytes =
            unsafe { header::of(object).visit_slots(object, layouts, |slot| self.mark(slot)) };
        self.live_bytes += bytes as u64;
    }

    fn bytes_of(&self, object: GcRef) -> u64 {
        // SAFETY: as in `scan`.
        unsafe { header::of(object) }.bytes(self.layouts) as u64
    }
}

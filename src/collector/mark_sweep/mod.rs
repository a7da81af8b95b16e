//! A mark-sweep collector, as strong as the comparison with semispace needs it to be.
//!
//! The heap is an array of 16 KiB blocks. A block holds cells of one size; objects above 4 KiB take
//! whole blocks. Compiled code takes cells from a free list per size. Marking sets bits in a side
//! table, so that dead objects are never touched; sweeping is lazy: a block's free list is built from
//! its mark bits when the mutator runs out of cells of that size.
//!
//! | file | what it does |
//! |---|---|
//! | this one | allocation, sweeping, and the account of every byte |
//! | `blocks` | the block table and the size classes |
//! | `mark` | the mark bits, the mark stack, tracing |
//!
//! Jones, Hosking, Moss, "The Garbage Collection Handbook", 2nd ed., sections 2.4 (bitmap marking),
//! 2.5 (lazy sweeping), 2.6 (prefetching the mark stack), 7.4 (segregated fits).

mod blocks;
mod mark;

use self::blocks::{BLOCK, BlockTable, Taken, class_bytes, class_of};
use self::mark::{MarkBits, MarkStack, Marker};
use super::{Barrier, Collector, CollectorAttrs, InlineAllocation, Usage};
use crate::heap::{
    AllocationBuffer, Cycle, GcRef, HeapError, HeapOptions, Layouts, Observer, POISON, Phase,
    Place, Roots, Slot, Space, WORD, allocation::FREE_LISTS,
};

/// The largest object that lives in a cell; a larger one takes whole blocks.
const MAX_CELL: usize = BLOCK / 4;
/// Bytes of mark stack for each block: one entry for each 128 bytes of heap is far more than a
/// depth-first traversal of most graphs needs, and [`Marker`] copes with the others.
const MARK_STACK: usize = BLOCK / 128;
/// Bytes of mark bits for each block: a bit for each word.
const MARK_BITS: usize = BLOCK / WORD / 8;

/// Blocks of equal cells, mark bits beside them.
#[derive(Debug)]
pub struct MarkSweep {
    heap_bytes: usize,
    space: Space,
    blocks: BlockTable,
    bits: MarkBits,
    mark_stack: Space,
    account: Account,
    /// See [`HeapOptions::protect`].
    poisons: bool,
}

/// Where the bytes went that are not in a free list or a free block.
#[derive(Debug, Default)]
struct Account {
    /// Cells given to free lists, and large objects, in bytes of cells.
    handed_out: u64,
    /// What rounding to cells and blocks wasted, of `handed_out`.
    rounding: u64,
    /// `rounding` at the last collection.
    rounding_before: u64,
    /// The bytes of objects that had been allocated at the last collection.
    allocated_before: u64,
    /// Bytes of objects that survived the last collection.
    live_bytes: u64,
    /// Bytes of cells and blocks that those objects occupy.
    live_cells: u64,
}

// SAFETY: a free list holds only cells of blocks that no object occupies: those never used since the
// block was free, and those whose mark bit is unset after a complete trace.
unsafe impl Collector for MarkSweep {
    const ATTRS: CollectorAttrs = CollectorAttrs {
        name: "mark-sweep",
        moves: false,
        frees: true,
        allocation: InlineAllocation::FreeLists,
        barrier: Barrier::None,
    };

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        let heap_bytes = options.granular_bytes()?;
        let blocks = heap_bytes / (BLOCK + MARK_BITS + MARK_STACK + BlockTable::BYTES_PER_BLOCK);
        Ok(Self {
            heap_bytes,
            space: Space::map(blocks * BLOCK, options.prefault)?,
            bits: MarkBits::map(blocks * MARK_BITS, options.prefault)?,
            mark_stack: Space::map(blocks * MARK_STACK, options.prefault)?,
            blocks: BlockTable::new(blocks),
            account: Account::default(),
            poisons: options.protect,
        })
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Option<GcRef> {
        if bytes > MAX_CELL {
            return self.allocate_large(bytes);
        }
        let class = class_of(bytes);
        if buffer.free_lists[class] == 0 {
            observer.enter(Phase::Sweep);
            buffer.free_lists[class] = self.refill(class);
            observer.enter(Phase::Mutator);
        }
        let cell = GcRef::from_word(buffer.free_lists[class])?;
        // SAFETY: a cell on a free list is free and its first word is the link.
        buffer.free_lists[class] = unsafe { Slot::at(cell.address()) }.word();
        self.account.rounding += (class_bytes(class) - bytes) as u64;
        Some(cell)
    }

    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        let fragmentation = self.unused_bytes(buffer);
        let allocated = self.allocated(buffer);
        debug_assert_eq!(
            self.heap_bytes as u64,
            self.account.live_bytes + (allocated - self.account.allocated_before) + fragmentation,
            "each byte is a live object's, a new object's, or unused"
        );
        self.account.handed_out -= listed_bytes(buffer);
        buffer.free_lists = [0; FREE_LISTS];

        self.bits.clear();
        let mut marker = Marker {
            space: self.space.bounds(),
            bits: self.bits.words_mut(),
            blocks: &mut self.blocks,
            stack: MarkStack::new(&self.mark_stack),
            layouts,
            live_bytes: 0,
        };
        let visited = roots.visit(|slot| marker.mark(slot));
        observer.enter(Phase::Trace);
        let live_bytes = marker.trace();
        observer.enter(Phase::Sweep);
        if self.poisons {
            self.poison_unmarked();
        }
        let live_cells = self.blocks.sort_by_occupancy(&self.bits);

        let account = &mut self.account;
        account.allocated_before = allocated;
        account.rounding_before = account.rounding;
        (account.live_bytes, account.live_cells) = (live_bytes, live_cells);
        Cycle {
            frames_walked: visited.frames,
            slots_visited: visited.slots,
            copied_objects: 0,
            copied_bytes: 0,
            live_bytes,
            free_bytes: self.blocks.free_bytes(),
            fragmentation_bytes: fragmentation,
        }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        Usage {
            heap_bytes: self.heap_bytes as u64,
            peak_bytes: (self.blocks.touched() * BLOCK + self.side_bytes()) as u64,
            allocated_bytes: self.allocated(buffer),
            free_bytes: self.blocks.free_bytes() + listed_bytes(buffer),
        }
    }

    fn place(&self, reference: GcRef, _buffer: &AllocationBuffer) -> Place {
        if !self.space.bounds().contains(reference.address()) {
            return Place::Elsewhere;
        }
        let offset = reference.address() - self.space.start();
        if self.blocks.is_cell(offset) && self.bits.is_marked(offset) {
            Place::Live
        } else {
            Place::Stale
        }
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        *buffer = AllocationBuffer::EMPTY;
        self.blocks = BlockTable::new(self.blocks.len());
        self.account = Account::default();
    }
}

impl MarkSweep {
    /// A free list of one block's cells of this class, or 0: the next block that has some, or else a
    /// free one.
    fn refill(&mut self, class: usize) -> usize {
        let Some(taken) = self.blocks.take(class) else { return 0 };
        let (list, cells) = self.link_free_cells(taken, class_bytes(class));
        self.account.handed_out += (cells * class_bytes(class)) as u64;
        list
    }

    /// Links the free cells of a block in address order: all if it was free, the unmarked ones if
    /// it holds objects. Returns the first cell and how many there are.
    fn link_free_cells(&mut self, taken: Taken, cell_bytes: usize) -> (usize, usize) {
        let (index, all) = match taken {
            Taken::Free(index) => (index, true),
            Taken::Unswept(index) => (index, false),
        };
        let (mut first, mut count) = (0, 0);
        for offset in (0..BLOCK / cell_bytes).rev().map(|i| index * BLOCK + i * cell_bytes) {
            if all || !self.bits.is_marked(offset) {
                let cell = self.space.start() + offset;
                // SAFETY: the cell lies in a block of this space and no object occupies it.
                unsafe { std::ptr::with_exposed_provenance_mut::<usize>(cell).write(first) };
                (first, count) = (cell, count + 1);
            }
        }
        (first, count)
    }

    /// Overwrites every cell that holds no live object.
    fn poison_unmarked(&mut self) {
        for block in 0..self.blocks.len() {
            let cell_words = self.blocks.cell_bytes(block) / WORD;
            for offset in self.blocks.cells(block).filter(|&at| !self.bits.is_marked(at)) {
                let cell =
                    std::ptr::with_exposed_provenance_mut::<usize>(self.space.start() + offset);
                // SAFETY: the cell lies in a block of this space and no object occupies it.
                unsafe { std::slice::from_raw_parts_mut(cell, cell_words) }.fill(POISON);
            }
        }
    }

    fn allocate_large(&mut self, bytes: usize) -> Option<GcRef> {
        let count = bytes.div_ceil(BLOCK);
        let index = self.blocks.take_run(count)?;
        self.account.handed_out += (count * BLOCK) as u64;
        self.account.rounding += (count * BLOCK - bytes) as u64;
        GcRef::from_word(self.space.start() + index * BLOCK)
    }

    /// Bytes of all objects ever allocated.
    fn allocated(&self, buffer: &AllocationBuffer) -> u64 {
        self.account.handed_out - listed_bytes(buffer) - self.account.rounding
    }

    /// Bytes of the side tables, and what the heap's size leaves over after whole blocks.
    fn side_bytes(&self) -> usize {
        self.heap_bytes - self.space.bytes()
    }

    /// Bytes that no object occupies now.
    fn unused_bytes(&self, buffer: &AllocationBuffer) -> u64 {
        let rounding_of_live = self.account.live_cells - self.account.live_bytes;
        self.side_bytes() as u64
            + self.blocks.tail_bytes()
            + self.blocks.free_bytes()
            + listed_bytes(buffer)
            + (self.account.rounding - self.account.rounding_before)
            + rounding_of_live
    }
}

/// Bytes of the cells that are on free lists.
fn listed_bytes(buffer: &AllocationBuffer) -> u64 {
    let mut bytes = 0;
    for (class, &list) in buffer.free_lists.iter().enumerate() {
        let mut cell = list;
        while cell != 0 {
            bytes += class_bytes(class) as u64;
            // SAFETY: a cell on a free list is free and its first word is the link.
            cell = unsafe { Slot::at(cell) }.word();
        }
    }
    bytes
}

//! The block table: what each 16 KiB of the heap is used for, and the size classes of cells.

use super::mark::MarkBits;
use crate::heap::{
    WORD,
    allocation::{FREE_LISTS, MAX_INLINE_CELL},
};

/// Bytes in a block.
pub const BLOCK: usize = 16 * 1024;

const EXACT_CLASSES: usize = MAX_INLINE_CELL / WORD;
const NONE: u32 = u32::MAX;

/// The size class of objects of `bytes` bytes: exact up to 256 bytes, then four to a doubling.
pub fn class_of(bytes: usize) -> usize {
    let words = bytes / WORD;
    if words <= EXACT_CLASSES {
        return words;
    }
    let log2 = (words - 1).ilog2();
    let (base, step) = (1 << log2, 1 << (log2 - 2));
    EXACT_CLASSES + 4 * (log2 - EXACT_CLASSES.ilog2()) as usize + (words - base).div_ceil(step)
}

/// Bytes in a cell of this class.
pub fn class_bytes(class: usize) -> usize {
    if class <= EXACT_CLASSES {
        return class * WORD;
    }
    let (doubling, quarter) = ((class - EXACT_CLASSES - 1) / 4, (class - EXACT_CLASSES - 1) % 4);
    let base = EXACT_CLASSES << doubling;
    (base + (quarter + 1) * base / 4) * WORD
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// No object. May become anything.
    Free,
    /// Cells of the block's class. `count` of them are free and not on a free list yet.
    Cells,
    /// The first of `count` blocks of a large object.
    Large,
    /// A further block of a large object.
    Continued,
}

#[derive(Clone, Copy, Debug)]
struct Block {
    state: State,
    class: u8,
    /// Whether it was ever in use since the heap was made.
    touched: bool,
    /// Whether a marked object in it may have unmarked children: the mark stack had no room for it.
    overflowed: bool,
    count: u32,
    /// The next unswept block of the class.
    next: u32,
}

const UNTOUCHED: Block =
    Block { state: State::Free, class: 0, touched: false, overflowed: false, count: 0, next: NONE };

/// A block that the mutator gets cells from.
#[derive(Clone, Copy, Debug)]
pub enum Taken {
    /// It was free: so are all its cells.
    Free(usize),
    /// It holds objects: the unmarked cells are free.
    Unswept(usize),
}

/// All blocks of a heap, in address order.
#[derive(Debug)]
pub struct BlockTable {
    blocks: Vec<Block>,
    /// The first unswept block of each class; address order.
    unswept: [u32; FREE_LISTS],
    /// Below this index no block is free.
    first_free: usize,
    touched: usize,
}

impl BlockTable {
    /// What an entry costs.
    pub const BYTES_PER_BLOCK: usize = size_of::<Block>();

    pub fn new(blocks: usize) -> Self {
        let blocks = vec![UNTOUCHED; blocks];
        Self { blocks, unswept: [NONE; FREE_LISTS], first_free: 0, touched: 0 }
    }

    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that were ever in use.
    pub fn touched(&self) -> usize {
        self.touched
    }

    /// The next block with free cells of `class`: one that holds objects if there is one, else the
    /// free one at the lowest address.
    pub fn take(&mut self, class: usize) -> Option<Taken> {
        let index = self.unswept[class];
        if index != NONE {
            let block = &mut self.blocks[index as usize];
            self.unswept[class] = block.next;
            block.count = 0;
            return Some(Taken::Unswept(index as usize));
        }
        let rest = &self.blocks[self.first_free..];
        let free = rest.iter().position(|block| block.state == State::Free);
        self.first_free += free.unwrap_or(rest.len());
        free?;
        self.occupy(self.first_free, State::Cells, class, 0);
        Some(Taken::Free(self.first_free))
    }

    /// `count` adjacent free blocks at the highest address that has them: small objects grow from
    /// the other end.
    pub fn take_run(&mut self, count: usize) -> Option<usize> {
        let mut run = 0;
        for index in (self.first_free..self.blocks.len()).rev() {
            run = if self.blocks[index].state == State::Free { run + 1 } else { 0 };
            if run == count {
                self.occupy(index, State::Large, 0, count as u32);
                (index + 1..index + count)
                    .for_each(|rest| self.occupy(rest, State::Continued, 0, 0));
                return Some(index);
            }
        }
        None
    }

    fn occupy(&mut self, index: usize, state: State, class: usize, count: u32) {
        let block = &mut self.blocks[index];
        self.touched += usize::from(!block.touched);
        *block = Block { state, class: class as u8, touched: true, count, ..UNTOUCHED };
    }

    /// After marking: frees each block without a marked object and queues for sweeping each that
    /// has some free cells. Returns the bytes of the cells and blocks that live objects occupy.
    pub fn sort_by_occupancy(&mut self, bits: &MarkBits) -> u64 {
        self.unswept = [NONE; FREE_LISTS];
        self.first_free = 0;
        let mut live = 0;
        for index in (0..self.blocks.len()).rev() {
            let Block { state, class, count, .. } = self.blocks[index];
            let marked = bits.count(index);
            match state {
                State::Cells if marked > 0 => {
                    let cell_bytes = class_bytes(class as usize);
                    live += marked * cell_bytes;
                    let block = &mut self.blocks[index];
                    block.count = (BLOCK / cell_bytes - marked) as u32;
                    if block.count > 0 {
                        block.next = self.unswept[class as usize];
                        self.unswept[class as usize] = index as u32;
                    }
                }
                State::Large if marked > 0 => live += count as usize * BLOCK,
                State::Cells => self.blocks[index].state = State::Free,
                State::Large => {
                    self.blocks[index..index + count as usize]
                        .iter_mut()
                        .for_each(|block| block.state = State::Free);
                }
                State::Free | State::Continued => {}
            }
        }
        live as u64
    }

    /// Bytes of free blocks and of free cells that are not on a free list.
    pub fn free_bytes(&self) -> u64 {
        let free = self.blocks.iter().map(|block| match block.state {
            State::Free => BLOCK,
            State::Cells => block.count as usize * class_bytes(block.class as usize),
            State::Large | State::Continued => 0,
        });
        free.sum::<usize>() as u64
    }

    /// Bytes at the ends of blocks that are too few for a cell.
    pub fn tail_bytes(&self) -> u64 {
        let cells = self.blocks.iter().filter(|block| block.state == State::Cells);
        cells.map(|block| BLOCK % class_bytes(block.class as usize)).sum::<usize>() as u64
    }

    /// Remembers that a marked object in this block still has to be scanned.
    pub fn note_overflow(&mut self, index: usize) {
        self.blocks[index].overflowed = true;
    }

    /// The lowest block that [`BlockTable::note_overflow`] named, once.
    pub fn take_overflowed(&mut self) -> Option<usize> {
        let index = self.blocks.iter().position(|block| block.overflowed)?;
        self.blocks[index].overflowed = false;
        Some(index)
    }

    /// Bytes from one place where an object may start to the next, or to the end of the last object.
    pub fn cell_bytes(&self, index: usize) -> usize {
        let Block { state, class, count, .. } = self.blocks[index];
        match state {
            State::Cells => class_bytes(class as usize),
            State::Large => count as usize * BLOCK,
            State::Free | State::Continued => BLOCK,
        }
    }

    fn cell_count(&self, index: usize) -> usize {
        match self.blocks[index].state {
            State::Cells => BLOCK / self.cell_bytes(index),
            State::Large => 1,
            State::Free | State::Continued => 0,
        }
    }

    /// The offsets, from the start of the heap, at which objects may start in a block.
    pub fn cells(&self, index: usize) -> impl Iterator<Item = usize> + use<> {
        let bytes = self.cell_bytes(index);
        (0..self.cell_count(index)).map(move |cell| index * BLOCK + cell * bytes)
    }

    /// Whether an object may start at this offset from the start of the heap.
    pub fn is_cell(&self, offset: usize) -> bool {
        let (index, within, bytes) =
            (offset / BLOCK, offset % BLOCK, self.cell_bytes(offset / BLOCK));
        within.is_multiple_of(bytes) && within / bytes < self.cell_count(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_the_smallest_that_holds_the_object() {
        for bytes in (WORD..=BLOCK / 4).step_by(WORD) {
            let class = class_of(bytes);
            assert!(class < FREE_LISTS);
            assert!(
                class_bytes(class) >= bytes,
                "{bytes} bytes in cells of {}",
                class_bytes(class)
            );
            assert!(class_bytes(class - 1) < bytes, "{bytes} bytes fit the class below {class}");
        }
        assert_eq!(class_of(BLOCK / 4), FREE_LISTS - 1);
    }
}

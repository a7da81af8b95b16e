//! What compiled code allocates from without asking: a bump cursor, or free lists.
//!
//! The collector fills it, compiled code drains it by the offsets of this struct, and the collector
//! reads back what is left. It is the whole protocol between the two.

use super::{GcRef, WORD};

/// The largest object, header included, that compiled code takes from a free list by itself. Up to
/// this size there is one list for each multiple of eight bytes.
pub const MAX_INLINE_CELL: usize = 256;

/// One free list for each number of words up to 32, and 16 for larger cells that only the collector
/// takes from.
pub const FREE_LISTS: usize = MAX_INLINE_CELL / WORD + 1 + 16;

/// The allocation state that compiled code shares with the collector.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct AllocationBuffer {
    /// Bump allocation: where the next object goes.
    pub cursor: usize,
    /// Bump allocation: the first address that it must not reach beyond.
    pub limit: usize,
    /// Free-list allocation: the first free cell of each size class, or 0. The first word of a free
    /// cell links to the next.
    pub free_lists: [usize; FREE_LISTS],
}

impl AllocationBuffer {
    /// A buffer with nothing in it: every allocation goes to the collector.
    pub const EMPTY: Self = Self { cursor: 0, limit: 0, free_lists: [0; FREE_LISTS] };

    /// Takes `bytes` bytes at the cursor, if they are there.
    #[inline]
    pub fn bump(&mut self, bytes: usize) -> Option<GcRef> {
        if self.limit - self.cursor < bytes || self.cursor == 0 {
            return None;
        }
        let object = GcRef::from_word(self.cursor);
        self.cursor += bytes;
        object
    }

    /// Bytes left between cursor and limit.
    pub fn remaining(&self) -> usize {
        self.limit - self.cursor
    }
}

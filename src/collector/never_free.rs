//! No collector at all: memory is handed out and never comes back.
//!
//! What the others are compared with. [`bumpalo`] owns the memory; compiled code
//! bumps through pieces of it.

use std::alloc::Layout;
use std::ops::Range;

use bumpalo::Bump;

use super::{Barrier, Collector, CollectorAttrs, InlineAllocation, Usage};
use crate::heap::{
    AllocationBuffer, Cycle, GRANULE, GcRef, HeapError, HeapOptions, Layouts, Observer, Place,
    Roots, WORD,
};

/// How much compiled code gets at a time.
const PIECE: usize = GRANULE;

/// An arena that objects are never freed from.
#[derive(Debug)]
pub struct NeverFree {
    arena: Bump,
    heap_bytes: usize,
    /// Handed out, and not left unused at the end of a piece.
    allocated_bytes: usize,
    /// Handed out altogether.
    handed_out: usize,
    /// Where that lies: from the lowest address to the end of the highest piece.
    handed_out_at: Range<usize>,
}

// SAFETY: every piece is the arena's and handed out once; nothing is ever moved or freed.
unsafe impl Collector for NeverFree {
    const ATTRS: CollectorAttrs = CollectorAttrs {
        name: "never-free",
        moves: false,
        frees: false,
        allocation: InlineAllocation::Bump,
        barrier: Barrier::None,
    };

    fn new(options: HeapOptions) -> Result<Self, HeapError> {
        let heap_bytes = options.granular_bytes()?;
        let arena = Bump::try_with_capacity(heap_bytes).map_err(|_| HeapError::Refused {
            bytes: heap_bytes,
            source: std::io::ErrorKind::OutOfMemory.into(),
        })?;
        if options.prefault {
            arena.try_alloc_slice_fill_copy(heap_bytes, 0_u8).expect("the arena has that capacity");
        }
        let mut never_free =
            Self { arena, heap_bytes, allocated_bytes: 0, handed_out: 0, handed_out_at: 0..0 };
        // SAFETY: no object has been allocated yet.
        unsafe { never_free.reset(&mut AllocationBuffer::EMPTY.clone()) };
        Ok(never_free)
    }

    unsafe fn allocate(
        &mut self,
        bytes: usize,
        buffer: &mut AllocationBuffer,
        _observer: &mut impl Observer,
    ) -> Option<GcRef> {
        if let Some(object) = buffer.bump(bytes) {
            return Some(object);
        }
        if bytes > PIECE {
            let object = self.hand_out(bytes)?;
            self.allocated_bytes += bytes;
            return GcRef::from_word(object);
        }
        // The last piece is what is left, if that is enough.
        let piece = PIECE.min(self.heap_bytes - self.handed_out);
        if piece < bytes {
            return None;
        }
        let start = self.hand_out(piece)?;
        // What the old piece had left stays unused; the new one counts until `usage` takes off
        // what it has left.
        self.allocated_bytes += piece - buffer.remaining();
        (buffer.cursor, buffer.limit) = (start, start + piece);
        buffer.bump(bytes)
    }

    unsafe fn collect(
        &mut self,
        roots: &impl Roots,
        _layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        _observer: &mut impl Observer,
    ) -> Cycle {
        let visited = roots.visit(|_| {});
        // SAFETY: the caller's promise about the buffer.
        let usage = unsafe { self.usage(buffer) };
        Cycle {
            frames_walked: visited.frames,
            slots_visited: visited.slots,
            live_bytes: usage.allocated_bytes,
            free_bytes: usage.free_bytes,
            ..Cycle::default()
        }
    }

    unsafe fn usage(&self, buffer: &AllocationBuffer) -> Usage {
        Usage {
            heap_bytes: self.heap_bytes as u64,
            peak_bytes: self.handed_out as u64,
            allocated_bytes: (self.allocated_bytes - buffer.remaining()) as u64,
            free_bytes: (self.heap_bytes - self.handed_out + buffer.remaining()) as u64,
        }
    }

    fn place(&self, reference: GcRef, _buffer: &AllocationBuffer) -> Place {
        if self.handed_out_at.contains(&reference.address()) {
            Place::Live
        } else {
            Place::Elsewhere
        }
    }

    unsafe fn reset(&mut self, buffer: &mut AllocationBuffer) {
        *buffer = AllocationBuffer::EMPTY;
        // `Bump::reset` keeps the arena's one chunk and its touched pages.
        self.arena.reset();
        (self.allocated_bytes, self.handed_out, self.handed_out_at) = (0, 0, 0..0);
    }
}

impl NeverFree {
    fn hand_out(&mut self, bytes: usize) -> Option<usize> {
        if bytes > self.heap_bytes - self.handed_out {
            return None;
        }
        let layout = Layout::from_size_align(bytes, WORD).ok()?;
        let piece = self.arena.try_alloc_layout(layout).ok()?;
        self.handed_out += bytes;
        piece.as_ptr().expose_provenance();
        let (start, at) = (piece.addr().get(), &mut self.handed_out_at);
        *at = if at.start == at.end {
            start..start + bytes
        } else {
            at.start.min(start)..at.end.max(start + bytes)
        };
        Some(start)
    }
}

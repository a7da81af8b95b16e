//! Address space for many spaces of one size, each used once before any is used again.
//!
//! For [`super::HeapOptions::protect`]: a stale reference into a retired space faults, however many
//! collections ago it was retired. Two spaces in turn would not do: every second cycle they are
//! where they were.

use std::ptr::NonNull;

use super::pages::{self, Access};
use super::{Bounds, GRANULE, HeapError, Space};

/// How many pieces there are at the most. They cost no memory, and few are ever accessible; but
/// emulators and checkers keep accounts of every page. Under Miri, addresses are memory.
const MOST_PIECES: usize = if cfg!(miri) { LEAST_PIECES } else { 16 << 10 };
/// How much address space they take at the most, if that is enough for the least.
const MOST_BYTES: usize = 64 << 30;
/// How many pieces there are at the least: more than are ever in use at a time.
const LEAST_PIECES: usize = 4;

/// A range of inaccessible addresses, of which pieces are made accessible in turn.
#[derive(Debug)]
pub struct Reservation {
    base: NonNull<u8>,
    bytes: usize,
    piece_bytes: usize,
    /// From piece to piece: whole granules, which are whole pages everywhere.
    stride: usize,
    taken: usize,
}

impl Reservation {
    /// Reserves addresses for pieces of `piece_bytes`.
    ///
    /// # Errors
    /// [`HeapError::Refused`] with the system's reason.
    pub fn new(piece_bytes: usize) -> Result<Self, HeapError> {
        let stride = piece_bytes.next_multiple_of(GRANULE);
        let pieces = (MOST_BYTES / stride).clamp(LEAST_PIECES, MOST_PIECES);
        let bytes = pieces * stride;
        let base = pages::map(bytes, Access::Closed)
            .map_err(|source| HeapError::Refused { bytes, source })?;
        Ok(Self { base, bytes, piece_bytes, stride, taken: 0 })
    }

    /// Where the whole reservation lies.
    pub fn bounds(&self) -> Bounds {
        Bounds::new(self.base.addr().get(), self.bytes)
    }

    /// The next piece, with zeros in it: one that was never used, or else the one that was retired
    /// longest ago.
    ///
    /// # Errors
    /// [`HeapError::Refused`] with the system's reason.
    pub fn take(&mut self) -> Result<Space, HeapError> {
        let pieces = self.bytes / self.stride;
        let offset = self.taken % pieces * self.stride;
        self.taken += 1;
        let bytes = self.piece_bytes;
        // SAFETY: the piece lies in the reservation. Its owner has two pieces at the most before it
        // takes another, the last two that were taken; there are more than three, so this one is free.
        unsafe {
            let piece = self.base.add(offset);
            pages::open(piece, bytes).map_err(|source| HeapError::Refused { bytes, source })?;
            Ok(Space::reserved(piece, bytes))
        }
    }

    /// Makes a piece inaccessible and gives its memory back.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn retire(&self, piece: &Space) {
        // SAFETY: the addresses are those of one piece of this reservation; its owner gives it up, and
        // no object in it is used again (I4).
        unsafe { pages::close(piece.base(), piece.bytes()) }
            .expect("the pages are the piece's own");
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: whoever dropped the reservation uses none of its pieces any more.
        unsafe { pages::unmap(self.base, self.bytes) }
    }
}

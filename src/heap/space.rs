//! A contiguous piece of memory from the operating system.

use std::io;
use std::ptr::NonNull;

use super::pages::{self, Access};
use super::{HeapError, WORD};

/// Zeroed pages at a fixed address, given back when dropped.
#[derive(Debug)]
pub struct Space {
    base: NonNull<u8>,
    bytes: usize,
    /// Whether it belongs to a [`super::Reservation`], which gives it back.
    reserved: bool,
}

impl Space {
    /// Maps `bytes` bytes; with `prefault`, touches each page, so that no later access faults.
    ///
    /// # Errors
    /// [`HeapError::Refused`] with the system's reason.
    pub fn map(bytes: usize, prefault: bool) -> Result<Self, HeapError> {
        let refused = |source: io::Error| HeapError::Refused { bytes, source };
        let base = pages::map(bytes, Access::Open).map_err(refused)?;
        let space = Self { base, bytes, reserved: false };
        if prefault {
            space.prefault().map_err(refused)?;
        }
        Ok(space)
    }

    /// A piece of a reservation.
    ///
    /// # Safety
    /// The `bytes` bytes at `base` are mapped, readable, writable, zero, and nobody else's for as
    /// long as the space is used.
    pub(super) unsafe fn reserved(base: NonNull<u8>, bytes: usize) -> Self {
        Self { base, bytes, reserved: true }
    }

    fn prefault(&self) -> io::Result<()> {
        // SAFETY: the mapping is this space's own.
        unsafe { pages::populate(self.base, self.bytes) }?;
        // Emulators accept the advice and ignore it: nothing shows but touching.
        for offset in (0..self.bytes).step_by(4096) {
            // SAFETY: inside the mapping, which holds zeros: it is fresh.
            unsafe { self.base.add(offset).write_volatile(0) }
        }
        Ok(())
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The first address.
    #[inline(always)]
    pub fn start(&self) -> usize {
        self.base.addr().get()
    }

    /// The size in bytes.
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the space lies.
    #[inline(always)]
    pub fn bounds(&self) -> Bounds {
        Bounds::new(self.start(), self.bytes)
    }
}

const WORD_SHIFT: u32 = WORD.ilog2();

/// Where a space lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    start: usize,
    words: usize,
}

impl Bounds {
    /// The `bytes` bytes from `start` on.
    pub(super) fn new(start: usize, bytes: usize) -> Self {
        Self { start, words: bytes >> WORD_SHIFT }
    }

    /// The first address.
    #[inline(always)]
    pub fn start(self) -> usize {
        self.start
    }

    /// Whether `word`, read from a slot, is a reference into the space. Null, immediates and
    /// references to elsewhere are not.
    ///
    /// One comparison decides: rotating moves the low bits that only an immediate has to the top,
    /// where they make the word too large, just as an address below the start does by wrapping.
    #[inline(always)]
    pub fn contains(self, word: usize) -> bool {
        word.wrapping_sub(self.start).rotate_right(WORD_SHIFT) < self.words
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if self.reserved {
            return;
        }
        // SAFETY: the mapping is this space's own, and whoever dropped it has no reference into it.
        unsafe { pages::unmap(self.base, self.bytes) }
    }
}

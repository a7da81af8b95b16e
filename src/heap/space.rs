//! A contiguous piece of memory from the operating system.

use std::ptr::{self, NonNull};

use rustix::io::Errno;
use rustix::mm::{self, Advice, MapFlags, ProtFlags};

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
        let refused = |error: Errno| HeapError::Refused { bytes, source: error.into() };
        let (prot, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping at an address of the system's choice disturbs nothing.
        let base =
            unsafe { mm::mmap_anonymous(ptr::null_mut(), bytes, prot, flags) }.map_err(refused)?;
        base.expose_provenance();
        let base = NonNull::new(base.cast()).expect("the system maps nothing at address 0");
        let space = Self { base, bytes, reserved: false };
        if prefault {
            space.prefault()?;
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

    fn prefault(&self) -> Result<(), HeapError> {
        // SAFETY: populating this mapping's own pages does not change what they hold.
        let populated = unsafe {
            mm::madvise(self.base.as_ptr().cast(), self.bytes, Advice::LinuxPopulateWrite)
        };
        match populated {
            // Kernels before 5.14 do not know the advice.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => {
                return Err(HeapError::Refused { bytes: self.bytes, source: error.into() });
            }
        }
        // Emulators accept the advice and ignore it: nothing shows but touching.
        for offset in (0..self.bytes).step_by(4096) {
            // SAFETY: inside the mapping, which holds zeros: it is fresh.
            unsafe { self.base.add(offset).write_volatile(0) }
        }
        Ok(())
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
        // A failure to unmap leaves the pages mapped, which harms nobody.
        let _ = unsafe { mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

//! How much memory a collector gets.

use rustix::system::sysinfo;
use thiserror::Error;

use crate::debug::DebugModes;

/// Heap sizes are multiples of this, whatever the page size: counts are the same on every machine.
pub const GRANULE: usize = 64 * 1024;

/// The size of a heap, and how its pages are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapOptions {
    /// Everything that the collector uses for objects: both semispaces, side tables, mark stack.
    /// Rounded down to a multiple of [`GRANULE`].
    pub bytes: usize,
    /// Touch every page when the heap is made, so that no page fault is timed later. Without effect
    /// on a moving collector under `protect`, whose spaces are always new.
    pub prefault: bool,
    /// A debug mode: make whatever uses a stale reference fail at once. A collector that moves takes
    /// fresh memory for each cycle and makes the retired one inaccessible, until 16,384 pieces or 64 GiB of addresses
    /// have been used up; one that does not move overwrites what a collection frees with [`POISON`].
    /// What [`crate::Mutator::reset`] forgets is not protected.
    pub protect: bool,
}

/// What freed cells are filled with under [`HeapOptions::protect`]: neither a header nor a reference
/// nor an address that a processor accepts.
pub const POISON: usize = 0xdead_dead_dead_deaa;

impl HeapOptions {
    /// A heap of `bytes`, whose pages are touched as they are first used; under `protect` if the
    /// environment says so.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, prefault: false, protect: DebugModes::from_env_or_none().protect }
    }

    /// The heap's size in whole granules.
    ///
    /// # Errors
    /// [`HeapError::TooSmall`] if that is none, [`HeapError::TooLarge`] if the machine has less memory.
    pub fn granular_bytes(&self) -> Result<usize, HeapError> {
        let Self { bytes, .. } = *self;
        let memory = machine_bytes();
        if bytes as u64 > memory {
            return Err(HeapError::TooLarge { bytes, memory });
        }
        match bytes / GRANULE * GRANULE {
            0 => Err(HeapError::TooSmall { bytes }),
            bytes => Ok(bytes),
        }
    }
}

/// What the machine has, swap included. The system would promise more, and end the process later.
fn machine_bytes() -> u64 {
    if cfg!(miri) {
        return u64::MAX;
    }
    let info = sysinfo();
    (info.totalram as u64 + info.totalswap as u64) * u64::from(info.mem_unit)
}

/// A heap that cannot be made.
#[derive(Debug, Error)]
pub enum HeapError {
    /// Not one granule.
    #[error("a heap of {bytes} bytes is too small: the least is {GRANULE} bytes (64K)")]
    TooSmall {
        /// The size asked for.
        bytes: usize,
    },
    /// More than the machine has.
    #[error("a heap of {bytes} bytes is beyond this machine, which has {memory} bytes of memory")]
    TooLarge {
        /// The size asked for.
        bytes: usize,
        /// Memory and swap.
        memory: u64,
    },
    /// The operating system does not have it.
    #[error("the operating system refuses {bytes} bytes of memory")]
    Refused {
        /// The size of the refused piece.
        bytes: usize,
        /// What the system said.
        source: std::io::Error,
    },
}

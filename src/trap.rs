//! What goes wrong in compiled code, as a value.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Why compiled code was left before it returned, and where it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trap {
    /// What went wrong.
    pub kind: TrapKind,
    /// The frames of compiled code that were abandoned, newest first.
    pub backtrace: Vec<Location>,
}

/// A place in compiled code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// The function's name.
    pub function: Arc<str>,
    /// The return address's offset from the function's start, in bytes.
    pub offset: usize,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TrapKind {
    /// The objects that are in use leave no room for another one.
    #[error(
        "heap full: {asked} bytes asked, {free} free of {heap} after collection {collections}; \
         {live} live"
    )]
    HeapFull {
        /// The size of the object that does not fit, header included.
        asked: u64,
        /// What could still be allocated, though perhaps not in one piece.
        free: u64,
        /// Bytes of the objects that survived the last collection.
        live: u64,
        /// The heap's size.
        heap: u64,
        /// How many collections there have been.
        collections: u64,
    },
    /// An array cannot have this length.
    #[error("an array of {length} elements: the length is from 0 to {max}", max = u32::MAX)]
    ArrayLength {
        /// The length asked for.
        length: i64,
    },
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Deep recursion ends in many equal frames: the newest and the oldest tell the story.
        const SHOWN: usize = 8;
        write!(f, "{}", self.kind)?;
        let count = self.backtrace.len();
        for (index, Location { function, offset }) in self.backtrace.iter().enumerate() {
            if count > 2 * SHOWN && index == SHOWN {
                write!(f, "\n    ... {} frames", count - 2 * SHOWN)?;
            }
            if count <= 2 * SHOWN || index < SHOWN || index >= count - SHOWN {
                write!(f, "\n    in {function} +{offset:#x}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Trap {}

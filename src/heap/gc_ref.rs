//! A reference to an object: an address that is never null.
//!
//! Not a handle: a collection that moves the object does not update it. Only collectors and the code
//! between two safepoints hold one (invariant I8).

use std::num::NonZeroUsize;

use super::WORD;

/// The address of an object's header. Word-aligned, never null.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct GcRef(NonZeroUsize);

impl GcRef {
    /// The reference that a word of a slot holds; `None` for null and for immediates, which are
    /// the words that are not a multiple of eight.
    #[inline(always)]
    pub fn from_word(word: usize) -> Option<Self> {
        if !word.is_multiple_of(WORD) {
            return None;
        }
        NonZeroUsize::new(word).map(Self)
    }

    /// The reference at an address that is known to be an object's.
    ///
    /// # Safety
    /// `address` is a non-zero multiple of eight.
    #[inline(always)]
    pub unsafe fn at(address: usize) -> Self {
        debug_assert!(address != 0 && address.is_multiple_of(WORD));
        // SAFETY: the caller promises a non-zero address.
        Self(unsafe { NonZeroUsize::new_unchecked(address) })
    }

    /// The object's address in bytes.
    #[inline(always)]
    pub fn address(self) -> usize {
        self.0.get()
    }
}

//! The one place where references are read from and written to memory.
//!
//! A slot is eight bytes in a stack frame, a field, an array element, a global, anywhere a reference
//! can live. It holds null, an immediate (any word that is not a multiple of eight), or a reference.

use std::ptr;

use super::GcRef;

/// The address of a word that may hold a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(*mut usize);

impl Slot {
    /// The slot at `address`.
    ///
    /// # Safety
    /// For as long as the slot is used, `address` is word-aligned and its eight bytes can be read
    /// and written, and nothing else writes to them.
    #[inline(always)]
    pub unsafe fn at(address: usize) -> Self {
        debug_assert!(address.is_multiple_of(super::WORD));
        Self(ptr::with_exposed_provenance_mut(address))
    }

    /// Where the slot is.
    #[inline(always)]
    pub fn address(self) -> usize {
        self.0.addr()
    }

    /// The slot's word as it stands: null, an immediate, or a reference.
    #[inline(always)]
    pub fn word(self) -> usize {
        // SAFETY: readable by the promise of `at`.
        unsafe { self.0.read() }
    }

    /// The reference in the slot, if it holds one.
    #[inline(always)]
    pub fn load(self) -> Option<GcRef> {
        GcRef::from_word(self.word())
    }

    /// Makes the slot hold what another one held.
    #[inline(always)]
    pub fn store_word(self, word: usize) {
        // SAFETY: writable by the promise of `at`.
        unsafe { self.0.write(word) }
    }

    /// Makes the slot hold `reference`.
    #[inline(always)]
    pub fn store(self, reference: GcRef) {
        self.store_word(reference.address());
    }
}

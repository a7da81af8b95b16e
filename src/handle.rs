//! References that the host holds: in a table that the collector updates, behind numbers that do not
//! change (invariant I8).

use std::cell::Cell;
use std::marker::PhantomData;

use crate::heap::GcRef;

/// A reference to an object, or null, that the host holds for as long as its scope lasts.
///
/// It is the number of a slot, not an address: whatever moves the object updates the slot. It cannot
/// leave the scope that it was made in, which is what its lifetime is for; see [`crate::scope`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Handle<'s> {
    index: u32,
    /// The table that it is a number of.
    table: u32,
    scope: PhantomData<&'s ()>,
}

/// The slots of all handles of one mutator: a stack, whose top part is the newest scope's.
#[derive(Debug)]
pub(crate) struct Handles {
    identity: u32,
    slots: Vec<Cell<usize>>,
}

impl Handles {
    /// An empty table; no other table of the process has this identity.
    pub fn new(identity: u32) -> Self {
        Self { identity, slots: Vec::new() }
    }

    /// A handle of what a word of a slot holds.
    ///
    /// # Panics
    /// If there are 2^32 handles already.
    pub fn push<'s>(&mut self, word: usize) -> Handle<'s> {
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 handles");
        self.slots.push(Cell::new(word));
        Handle { index, table: self.identity, scope: PhantomData }
    }

    /// Takes the newest handle away; the word in its slot.
    ///
    /// # Panics
    /// If there are newer ones.
    pub fn pop(&mut self, newest: Handle<'_>) -> usize {
        assert_eq!(newest.index as usize + 1, self.slots.len(), "scopes end in order");
        self.slots.pop().map_or(0, Cell::into_inner)
    }

    /// The word in a handle's slot. It is stale after the next safepoint.
    ///
    /// # Panics
    /// If the handle is another mutator's.
    pub fn word(&self, handle: Handle<'_>) -> usize {
        assert!(handle.table == self.identity, "a handle of another mutator");
        self.slots[handle.index as usize].get()
    }

    /// The reference in a handle's slot, as [`Handles::word`]; `None` for null and immediates.
    pub fn reference(&self, handle: Handle<'_>) -> Option<GcRef> {
        GcRef::from_word(self.word(handle))
    }

    /// How many there are: what a scope that begins now has below it.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Ends the scopes that began when there were more than `len`.
    pub fn truncate(&mut self, len: usize) {
        self.slots.truncate(len);
    }

    /// All slots, as roots.
    pub fn slots(&self) -> &[Cell<usize>] {
        &self.slots
    }
}

//! A debug mode: after a collection, follow every reference again and check what it refers to.
//!
//! Shares nothing with the collectors but the roots: it keeps its own list of what it has seen.

use std::collections::HashSet;
use std::fmt;

use super::{GcRef, Header, Layouts, Roots, Slot, WORD};

/// What a collector says of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// An object that survived may start here: its header will tell.
    Live,
    /// In the collector's memory, where it knows that no object starts: in a retired space, behind
    /// the last object, in a free cell.
    Stale,
    /// Not in the collector's memory.
    Elsewhere,
}

/// A slot that holds what it must not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The slot's address.
    pub slot: usize,
    /// The object that the slot is in, by its layout's name and its address; `None` for a root.
    pub object: Option<(String, usize)>,
    /// The word in the slot.
    pub word: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// It refers into the heap, but to no live object (invariant I4).
    Stale,
    /// What it refers to does not start with a header (I6).
    NoHeader,
    /// The header names a layout that there is not, or is not that layout's (I7).
    WrongLayout,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            None => write!(f, "the root at {:#x}", self.slot)?,
            Some((layout, object)) => {
                write!(f, "the slot at +{} of `{layout}` at {object:#x}", self.slot - object)?;
            }
        }
        let problem = match self.problem {
            Problem::Stale => "in the heap, where no live object starts",
            Problem::NoHeader => "where an object should start, but no header is",
            Problem::WrongLayout => "at a header of no registered layout",
        };
        write!(f, " holds {:#x}: {problem}", self.word)
    }
}

/// Follows all references from the roots; the bytes of all objects that were found.
///
/// # Errors
/// The first slot that holds what it must not.
///
/// # Safety
/// What `place` calls [`Place::Live`] can be read, and the objects there over the sizes that their
/// layouts give.
pub unsafe fn verify(
    roots: &impl Roots,
    layouts: &Layouts,
    place: impl Fn(GcRef) -> Place,
) -> Result<u64, Violation> {
    let mut verifier =
        Verifier { layouts, place, seen: HashSet::new(), grey: Vec::new(), bytes: 0 };
    let mut violation = None;
    roots.visit(|slot| {
        // SAFETY: the caller's promise.
        let checked = unsafe { verifier.check(slot, None) };
        violation = violation.take().or(checked.err());
    });
    while let (None, Some((object, header))) = (&violation, verifier.grey.pop()) {
        // SAFETY: the caller's promise; the header has been checked.
        unsafe {
            header.visit_slots(object, layouts, |slot| {
                let checked = verifier.check(slot, Some((object, header)));
                violation = violation.take().or(checked.err());
            });
        }
    }
    violation.map_or(Ok(verifier.bytes), Err)
}

struct Verifier<'a, P> {
    layouts: &'a Layouts,
    place: P,
    seen: HashSet<GcRef>,
    grey: Vec<(GcRef, Header)>,
    bytes: u64,
}

impl<P: Fn(GcRef) -> Place> Verifier<'_, P> {
    /// # Safety
    /// What `place` calls live can be read.
    unsafe fn check(
        &mut self,
        slot: Slot,
        holder: Option<(GcRef, Header)>,
    ) -> Result<(), Violation> {
        let Some(object) = slot.load() else { return Ok(()) };
        let violation = |problem| Violation {
            slot: slot.address(),
            object: holder.map(|(object, header)| {
                (self.layouts.name(header.layout()).to_owned(), object.address())
            }),
            word: object.address(),
            problem,
        };
        match (self.place)(object) {
            Place::Elsewhere => return Ok(()),
            Place::Stale => return Err(violation(Problem::Stale)),
            Place::Live if self.seen.contains(&object) => return Ok(()),
            Place::Live => {}
        }
        // SAFETY: the caller's promise.
        let first_word = unsafe { Slot::at(object.address()) }.word();
        // Not `header::read`: the word may be anything.
        let Some(header) = Header::from_bits(first_word as u64) else {
            return Err(violation(Problem::NoHeader));
        };
        if !self.layouts.describes(header) {
            return Err(violation(Problem::WrongLayout));
        }
        self.bytes += header.bytes(self.layouts) as u64;
        debug_assert!(header.bytes(self.layouts) >= WORD);
        self.seen.insert(object);
        self.grey.push((object, header));
        Ok(())
    }
}

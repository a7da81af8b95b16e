//! The detector of missed roots: before a collection, whatever looks like a reference to an object and
//! is in no stack map.
//!
//! It cannot know what is still used: a word may be left from an earlier use of its place. What is left
//! in a slot that other maps of the function name is not reported: a declared reference was there.
//! All else is reported and stops nothing. The likelier bugs come first: a reference that no map of
//! any frame names, and that is there each time.
//!
//! Under [`crate::heap::HeapOptions::protect`], where no address is used twice, a guess becomes a
//! proof: when the stale reference is used, the trap says where it was when it was missed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::Mutator;
use crate::collector::Collector;
use crate::heap::{GcRef, Header, Observer, Place, Roots, Slot};
use crate::jit::Module;
use crate::stack::{Frame, FrameRoots, Spot, unmapped_words};
use crate::trap::Location;

/// A reference that was in no stack map when the heap was collected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissedRoot {
    /// The function whose frame it was in, and where that would go on.
    pub location: Location,
    /// Where in the frame it was.
    pub spot: Spot,
    /// The name of the object's layout.
    pub layout: Arc<str>,
    /// Whether a mapped slot of some frame held the same reference each time: then this may be a copy
    /// that is not used any more.
    pub is_mapped_elsewhere: bool,
    /// How many frames that would go on there had such a reference there, of [`MissedRoot::frames`].
    pub seen: u64,
    /// How many frames that would go on there were looked at.
    pub frames: u64,
}

impl fmt::Display for MissedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { function, offset } = &self.location;
        write!(f, "a reference to a `{}` ", self.layout)?;
        match self.spot {
            Spot::Frame { below_fp } => {
                write!(f, "in the frame of {function} +{offset:#x}, at FP - {below_fp:#x}, ")?;
            }
            Spot::Register { number } => {
                write!(
                    f,
                    "in saved register {number} of {function} +{offset:#x} or of one of its callers, "
                )?;
            }
        }
        match self.is_mapped_elsewhere {
            false => write!(f, "is in no stack map")?,
            true => write!(f, "is in no stack map there, but the same one is in one elsewhere")?,
        }
        write!(f, " ({} of {} times)", self.seen, self.frames)
    }
}

/// What was found so far, by where it was found.
#[derive(Debug, Default)]
pub(super) struct MissedRoots {
    found: BTreeMap<(usize, Spot), MissedRoot>,
    /// How many frames were looked at, by their return addresses; with `true`, for registers.
    frames: HashMap<(usize, bool), u64>,
    /// The objects that were referred to, by the addresses that they then had: their sizes, and what
    /// referred to them. The oldest are forgotten.
    objects: BTreeMap<usize, (usize, (usize, Spot))>,
    /// The slots that some map of a function names: the function's address, and FP - the slot's.
    declared: HashSet<(usize, usize)>,
    /// How many call sites `declared` was made from.
    call_sites: usize,
}

/// How many objects are remembered.
const MOST_OBJECTS: usize = 1 << 20;

impl MissedRoots {
    /// What referred to the object that had this address in it, when it was missed last.
    pub fn of(&self, address: usize) -> Option<MissedRoot> {
        let (start, (bytes, at)) = self.objects.range(..=address).next_back()?;
        (address < start + bytes).then(|| self.counted(at, &self.found[at]))
    }

    fn remember(&mut self, object: usize, bytes: usize, at: (usize, Spot)) {
        self.objects.insert(object, (bytes, at));
        if self.objects.len() > MOST_OBJECTS {
            // New objects have higher addresses, as long as addresses are not used twice.
            self.objects.pop_first();
        }
    }

    fn counted(&self, &(pc, spot): &(usize, Spot), missed: &MissedRoot) -> MissedRoot {
        let frames = self.frames[&(pc, matches!(spot, Spot::Register { .. }))];
        MissedRoot { frames, ..missed.clone() }
    }

    fn update(&mut self, module: &Module) {
        if self.call_sites == module.maps().len() {
            return;
        }
        self.call_sites = module.maps().len();
        self.declared = HashSet::new();
        for (return_address, site) in module.maps().iter() {
            let start = module.start(return_address);
            let slots = site.offsets.iter().map(|&offset| (start, site.span - offset as usize));
            self.declared.extend(slots);
        }
    }

    /// The likelier bugs first, then in the order of the code.
    pub fn list(&self) -> Vec<MissedRoot> {
        let found = self.found.iter();
        let mut list: Vec<_> = found.map(|(at, missed)| self.counted(at, missed)).collect();
        let rare =
            |missed: &MissedRoot| missed.frames.saturating_sub(missed.seen) * 1000 / missed.frames;
        list.sort_by_key(|missed| (missed.is_mapped_elsewhere, rare(missed)));
        list
    }
}

impl<C: Collector, O: Observer> Mutator<C, O> {
    /// Looks at all frames as they are before a collection.
    pub(super) fn detect_missed_roots(&mut self) {
        // SAFETY: compiled code waits at an exit trampoline, if it is active at all (I3, I9), and was
        // compiled to save all registers there.
        let (activation, frames) = unsafe {
            let activation = (*self.context).activation;
            (activation, FrameRoots::new(self.module.maps(), activation))
        };
        let mut mapped = HashSet::new();
        frames.visit(|slot| _ = mapped.insert(slot.word()));
        let mut missed_roots = std::mem::take(&mut self.missed_roots);
        missed_roots.update(&self.module);
        type Words<'a> = dyn Iterator<Item = (Spot, usize)> + 'a;
        let note = |frame: Frame, is_registers: bool, words: &mut Words<'_>| {
            // An entry trampoline's, if the function that it called has called the host in its place.
            let Some((function, offset)) = self.module.locate(frame.pc) else { return };
            let start = frame.pc - offset;
            *missed_roots.frames.entry((frame.pc, is_registers)).or_default() += 1;
            for (spot, word) in words {
                let Some(header) = self.object_at(word) else { continue };
                let is_leftover = |below_fp| missed_roots.declared.contains(&(start, below_fp));
                if matches!(spot, Spot::Frame { below_fp } if is_leftover(below_fp)) {
                    continue;
                }
                let at = (frame.pc, spot);
                let missed = missed_roots.found.entry(at).or_insert_with(|| MissedRoot {
                    location: Location { function: function.clone(), offset },
                    spot,
                    layout: self.module.layouts().name(header.layout()).into(),
                    is_mapped_elsewhere: true,
                    seen: 0,
                    frames: 0,
                });
                missed.seen += 1;
                missed.is_mapped_elsewhere &= mapped.contains(&word);
                missed_roots.remember(word, header.bytes(self.module.layouts()), at);
            }
        };
        // SAFETY: as above.
        unsafe { unmapped_words(self.module.maps(), activation, note) };
        self.missed_roots = missed_roots;
    }

    /// The header of the object that starts at the address `word`, if it is one's.
    fn object_at(&self, word: usize) -> Option<Header> {
        let object = GcRef::from_word(word)?;
        match self.collector.place(object, self.buffer()) {
            Place::Elsewhere => return None,
            // Retired memory may be inaccessible.
            Place::Stale if C::ATTRS.moves => return None,
            Place::Stale | Place::Live => {}
        }
        // SAFETY: a word of the collector's memory.
        let first_word = unsafe { Slot::at(object.address()) }.word();
        Header::from_bits(first_word as u64)
            .filter(|&header| self.module.layouts().describes(header))
    }

    /// What the detector has found, the likelier bugs first, if the module was compiled with
    /// [`crate::jit::ModuleOptions::missed_roots`].
    pub fn missed_roots(&self) -> Vec<MissedRoot> {
        self.missed_roots.list()
    }
}

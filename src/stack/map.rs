//! From a return address to the frame's span and the slots that hold references.
//!
//! A stack map is valid at exactly one return address, not in an interval. Every call site of
//! compiled code is registered, also those where nothing is live: a miss therefore means that the
//! walk has left compiled code, which is an error (I3), and never that there is nothing to visit.

use std::collections::HashMap;

use crate::heap::WORD;

/// What a frame looks like while it waits at one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallSite<'a> {
    /// FP - SP in bytes. Known only where there are slots or a handler; 0 where there are none.
    pub span: usize,
    /// Where the slots are, in bytes from SP.
    pub offsets: &'a [u32],
    /// Where an exception that comes out of the call is handled, as an address.
    pub handler: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    return_address: usize,
    span: u32,
    first: u32,
    count: u32,
    /// The handler's distance from the return address; [`NO_HANDLER`] if there is none.
    handler: i32,
}

const NO_HANDLER: i32 = i32::MIN;

const VACANT: Entry = Entry { return_address: 0, span: 0, first: 0, count: 0, handler: NO_HANDLER };

/// All call sites of all registered code: a hash table with linear probing, at most half full.
///
/// Equal lists of slots are stored once.
#[derive(Debug, Default)]
pub struct MapTable {
    /// A power of two of them, or none.
    entries: Vec<Entry>,
    len: usize,
    offsets: Vec<u32>,
    shared: HashMap<Box<[u32]>, u32>,
}

impl MapTable {
    /// Registers the call site that returns to `return_address`.
    ///
    /// # Panics
    /// If the return address is registered already, or 0.
    pub fn insert(&mut self, return_address: usize, site: CallSite<'_>) {
        assert!(return_address != 0, "0 is no return address");
        assert!(self.get(return_address).is_none(), "{return_address:#x} is registered twice");
        if (self.len + 1) * 2 > self.entries.len() {
            self.grow();
        }
        let first = self.share(site.offsets);
        let handler = site.handler.map_or(NO_HANDLER, |handler| {
            let distance = handler.wrapping_sub(return_address) as isize;
            i32::try_from(distance).expect("a function is below 2 GiB")
        });
        let index = self.find(return_address);
        self.entries[index] = Entry {
            return_address,
            span: u32::try_from(site.span).expect("a frame is below 4 GiB"),
            first,
            count: site.offsets.len() as u32,
            handler,
        };
        self.len += 1;
    }

    /// The call site that returns to `return_address`, if that is one.
    #[inline]
    pub fn get(&self, return_address: usize) -> Option<CallSite<'_>> {
        if self.entries.is_empty() {
            return None;
        }
        let entry = &self.entries[self.find(return_address)];
        // A vacant entry has return address 0, which is not registered.
        (entry.return_address == return_address && return_address != 0).then(|| CallSite {
            span: entry.span as usize,
            offsets: &self.offsets[entry.first as usize..][..entry.count as usize],
            handler: (entry.handler != NO_HANDLER)
                .then(|| return_address.wrapping_add_signed(entry.handler as isize)),
        })
    }

    /// All call sites with their return addresses, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, CallSite<'_>)> {
        let addresses = self.entries.iter().map(|entry| entry.return_address);
        addresses.filter_map(|address| Some((address, self.get(address)?)))
    }

    /// How many call sites are registered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no call site is registered.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that a walk reads from: entries, vacant ones included, and lists of slots. Not what
    /// finding equal lists takes when code is registered.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>() + self.offsets.len() * size_of::<u32>()
    }

    /// The entry of `return_address`, or the vacant one where it would go.
    #[inline(always)]
    fn find(&self, return_address: usize) -> usize {
        let mask = self.entries.len() - 1;
        // Fibonacci hashing: the upper half of the product depends on every bit of the address.
        let hash = (return_address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let mut index = hash as usize & mask;
        loop {
            let found = self.entries[index].return_address;
            if found == return_address || found == 0 {
                return index;
            }
            index = (index + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let capacity = (self.entries.len() * 2).max(64);
        for entry in std::mem::replace(&mut self.entries, vec![VACANT; capacity]) {
            if entry.return_address != 0 {
                let index = self.find(entry.return_address);
                self.entries[index] = entry;
            }
        }
    }

    fn share(&mut self, offsets: &[u32]) -> u32 {
        debug_assert!(offsets.iter().all(|offset| (*offset as usize).is_multiple_of(WORD)));
        if let Some(&first) = self.shared.get(offsets) {
            return first;
        }
        let first = self.offsets.len() as u32;
        self.offsets.extend_from_slice(offsets);
        self.shared.insert(offsets.into(), first);
        first
    }
}

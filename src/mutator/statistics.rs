//! What happened in a mutator so far.

use crate::collector::Usage;
use crate::heap::Cycle;

/// The sums over all collections, and what the collector uses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Statistics {
    /// Collections so far.
    pub collections: u64,
    /// The counts of all of them, added up; [`Cycle::free_bytes`] is the last one's.
    pub total: Cycle,
    /// Live bytes after the last collection.
    pub live_bytes_last: u64,
    /// The most live bytes after any collection.
    pub live_bytes_most: u64,
    /// Calls of the allocation slow path.
    pub slow_allocations: u64,
    /// Objects that compiled code allocated, if it was compiled to count them.
    pub allocated_objects: Option<u64>,
    /// The collector's memory.
    pub usage: Usage,
}

impl Statistics {
    pub(super) fn add(&mut self, cycle: &Cycle) {
        self.collections += 1;
        self.live_bytes_last = cycle.live_bytes;
        self.live_bytes_most = self.live_bytes_most.max(cycle.live_bytes);
        let total = &mut self.total;
        total.frames_walked += cycle.frames_walked;
        total.slots_visited += cycle.slots_visited;
        total.copied_objects += cycle.copied_objects;
        total.copied_bytes += cycle.copied_bytes;
        total.live_bytes += cycle.live_bytes;
        total.fragmentation_bytes += cycle.fragmentation_bytes;
        total.free_bytes = cycle.free_bytes;
    }
}

//! What was allocated is what the collections made room for. With f the part of the heap H that
//! holds objects, N collections, S the sum of the live bytes after each, F the sum of the unused
//! bytes before each, and A the bytes allocated:
//!
//! ```text
//!     N f H - S - F <= A < (N + 1) f H - S
//! ```
//!
//! where a semispace's F is at most N times the largest object.

use tospace::Statistics;
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::workloads::{Compiled, HeapSize, Instance, Params, Setup, Workload};

/// A semispace needs more than 2x.
const MULTIPLES: [f64; 5] = [2.25, 3.0, 4.0, 6.0, 8.0];
const TIGHT_MULTIPLES: [f64; 2] = [1.5, 2.0];

fn run<C: Collector>(workload: &Workload, params: &Params, multiple: f64) -> Statistics {
    let setup = Setup::new(HeapSize::Multiple(multiple));
    let compiled = Compiled::new(workload, params, &setup, C::ATTRS).unwrap();
    let mut instance = Instance::<C>::new(compiled, &setup, ()).unwrap();
    instance.run().unwrap_or_else(|error| panic!("{} {multiple}x: {error}", workload.name));
    instance.mutator().statistics()
}

/// The workloads, their parameters, and the bytes of their largest object.
fn workloads() -> [(&'static Workload, Params, u64); 2] {
    let binary_trees = Workload::named("binary-trees").unwrap();
    let gcbench = Workload::named("gcbench").unwrap();
    let mut trees = binary_trees.quick();
    binary_trees.set(&mut trees, "depth", 12).unwrap();
    let mut bench = gcbench.quick();
    for (name, value) in [("stretch", 13), ("long_lived", 11), ("array", 20_000), ("max", 12)] {
        gcbench.set(&mut bench, name, value).unwrap();
    }
    [(binary_trees, trees, 24), (gcbench, bench, 8 + 8 * 20_000)]
}

fn for_each_run(check: impl Fn(Statistics, Statistics, u64)) {
    for (workload, params, largest) in workloads() {
        for multiple in MULTIPLES {
            let semispace = run::<Semispace>(workload, &params, multiple);
            let mark_sweep = run::<MarkSweep>(workload, &params, multiple);
            for statistics in [semispace, mark_sweep] {
                assert!(statistics.collections > 1, "{} at {multiple}x", workload.name);
            }
            check(semispace, mark_sweep, largest);
        }
    }
}

/// `N f H - S`, and the same for one collection more.
fn bounds(statistics: &Statistics, usable: u64) -> (i64, i64) {
    let room = |collections: u64| (collections * usable) as i64;
    let survived = statistics.total.live_bytes as i64;
    let collections = statistics.collections;
    (room(collections) - survived, room(collections + 1) - survived)
}

#[test]
fn semispace_allocates_what_half_the_heap_allows() {
    for_each_run(|semispace, _, largest| {
        let (least, below) = bounds(&semispace, semispace.usage.heap_bytes / 2);
        let allocated = semispace.usage.allocated_bytes as i64;
        let tails = (semispace.collections * largest) as i64;
        assert!(least - tails <= allocated && allocated < below, "{semispace:?}");
        let unused = semispace.total.fragmentation_bytes as i64;
        assert!(unused <= tails, "{unused} bytes unused, {tails} at the most");
        assert!(least - unused <= allocated, "{semispace:?}");
    });
}

#[test]
fn mark_sweep_allocates_what_the_whole_heap_allows() {
    let check = |mark_sweep: Statistics| {
        let (least, below) = bounds(&mark_sweep, mark_sweep.usage.heap_bytes);
        let allocated = mark_sweep.usage.allocated_bytes as i64;
        let unused = mark_sweep.total.fragmentation_bytes as i64;
        assert!(least - unused <= allocated && allocated < below, "{mark_sweep:?}");
        // What is called unused must not hide a collector that wastes memory: side tables, block
        // ends and a few partly used blocks.
        let heaps = (mark_sweep.collections * mark_sweep.usage.heap_bytes) as i64;
        assert!(unused * 4 < heaps, "{unused} bytes unused of {heaps}");
    };
    for_each_run(|_, mark_sweep, _| check(mark_sweep));
    for (workload, params, _) in workloads() {
        for multiple in TIGHT_MULTIPLES {
            check(run::<MarkSweep>(workload, &params, multiple));
        }
    }
}

#[test]
fn no_collector_uses_more_than_its_heap() {
    for_each_run(|semispace, mark_sweep, _| {
        for Statistics { usage, .. } in [semispace, mark_sweep] {
            assert!(usage.peak_bytes <= usage.heap_bytes, "{usage:?}");
            assert!(usage.peak_bytes * 2 > usage.heap_bytes, "it filled it once: {usage:?}");
        }
    });
}

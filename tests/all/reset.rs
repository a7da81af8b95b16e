//! A mutator that was reset is as new: the same run gives the same exact counts.

use tospace::Statistics;
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::workloads::{Compiled, HeapSize, Instance, Setup, Workload};

fn counts<C: Collector>(stress: u64) -> Vec<Statistics> {
    let workload = Workload::named("gcbench").unwrap();
    let setup = Setup { count: true, stress, ..Setup::new(HeapSize::Multiple(3.0)) };
    let params = workload.quick();
    // A stress that divides the number of objects would hide a countdown that goes on.
    assert!(stress == 0 || !workload.oracle(&params).objects.is_multiple_of(stress));
    let compiled = Compiled::new(workload, &params, &setup, C::ATTRS).unwrap();
    let mut instance = Instance::<C>::new(compiled, &setup, ()).unwrap();
    let runs = (0..3).map(|_| {
        instance.mutator().reset();
        instance.run().unwrap();
        let mut statistics = instance.mutator().statistics();
        // Memory once touched stays so: mark-sweep's blocks are untouched after a reset, though.
        statistics.usage.peak_bytes = 0;
        statistics
    });
    runs.collect()
}

#[test]
fn runs_repeat_exactly() {
    for stress in [0, 1009] {
        for runs in
            [counts::<Semispace>(stress), counts::<MarkSweep>(stress), counts::<NeverFree>(stress)]
        {
            let collects = stress > 0 || runs[0].total.copied_bytes > 0;
            assert!(runs[0].collections > 0 || !collects);
            assert_eq!(runs[0], runs[1]);
            assert_eq!(runs[0], runs[2]);
        }
    }
}

#[test]
fn counting_changes_no_other_count() {
    fn run<C: Collector>(count: bool) -> Statistics {
        let workload = Workload::named("deep").unwrap();
        let setup = Setup { count, ..Setup::new(HeapSize::Multiple(4.0)) };
        let params = workload.quick();
        let compiled = Compiled::new(workload, &params, &setup, C::ATTRS).unwrap();
        let mut instance = Instance::<C>::new(compiled, &setup, ()).unwrap();
        instance.run().unwrap();
        instance.mutator().statistics()
    }
    fn check<C: Collector>() {
        let (plain, counted) = (run::<C>(false), run::<C>(true));
        assert_eq!(plain.allocated_objects, None);
        assert!(counted.allocated_objects.is_some());
        assert_eq!(Statistics { allocated_objects: None, ..counted }, plain);
    }
    check::<Semispace>();
    check::<MarkSweep>();
    check::<NeverFree>();
}

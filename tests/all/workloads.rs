//! Every workload gives the oracle's result and allocates exactly what the oracle says, under every
//! collector, heap size and debug mode.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::jit::OptLevel;
use tospace::stack::with_stack;
use tospace::workloads::{self, Compiled, HeapSize, Instance, Setup, Workload};
use tospace::{Statistics, workloads::RunError};

fn run<C: Collector>(workload: &'static Workload, setup: Setup) -> Result<Statistics, RunError> {
    let params = workload.quick();
    with_stack(workload.oracle(&params).stack_bytes, || {
        let compiled = Compiled::new(workload, &params, &setup, C::ATTRS)?;
        let mut instance = Instance::<C>::new(compiled, &setup, ())?;
        // `run` compares result, bytes and objects with the oracle.
        instance.run()?;
        Ok(instance.mutator().statistics())
    })
    .expect("the system has that stack")
}

fn every_workload(setup: Setup, check: impl Fn(&Workload, &str, Statistics)) {
    fn one<C: Collector>(setup: Setup, check: &impl Fn(&Workload, &str, Statistics)) {
        for workload in workloads::ALL {
            let statistics = run::<C>(workload, setup)
                .unwrap_or_else(|error| panic!("{} {}: {error}", workload.name, C::ATTRS.name));
            check(workload, C::ATTRS.name, statistics);
        }
    }
    one::<Semispace>(setup, &check);
    one::<MarkSweep>(setup, &check);
    one::<NeverFree>(setup, &check);
}

#[test]
fn plain_at_several_heap_sizes() {
    for multiple in [2.5, 3.0, 6.0] {
        for count in [false, true] {
            let setup = Setup { count, ..Setup::new(HeapSize::Multiple(multiple)) };
            every_workload(setup, |workload, _, statistics| {
                let counted = count.then(|| workload.oracle(&workload.quick()).objects);
                assert_eq!(statistics.allocated_objects, counted);
            });
        }
    }
}

#[test]
fn without_optimisation() {
    let setup = Setup { opt_level: OptLevel::None, ..Setup::new(HeapSize::Multiple(3.0)) };
    every_workload(setup, |_, _, _| {});
}

#[test]
fn collecting_at_every_allocation() {
    let setup = Setup { count: true, stress: 1, ..Setup::new(HeapSize::Multiple(4.0)) };
    every_workload(setup, |workload, collector, statistics| {
        let oracle = workload.oracle(&workload.quick());
        assert_eq!(statistics.collections, oracle.objects, "{} {collector}", workload.name);
        if collector != NeverFree::ATTRS.name {
            // The oracle's peak includes the object that is about to be allocated.
            let most = statistics.live_bytes_most;
            assert!(most <= oracle.peak_live_bytes, "{}: {most} live", workload.name);
            assert!(most * 10 >= oracle.peak_live_bytes * 9, "{}: {most} live", workload.name);
        }
    });
}

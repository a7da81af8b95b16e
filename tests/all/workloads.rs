//! Every workload gives the oracle's result and allocates exactly what the oracle says, under every
//! collector, heap size and debug mode.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::jit::OptLevel;
use tospace::stack::with_stack;
use tospace::workloads::{self, Compiled, HeapSize, Instance, Params, Setup, Workload};
use tospace::{Statistics, workloads::RunError};

/// Parameters for a few thousand objects: collecting at each of them takes time.
fn tiny(workload: &Workload) -> Params {
    let mut params = workload.defaults();
    let settings: &[_] = match workload.name {
        "binary-trees" => &[("depth", 7)],
        "gcbench" => &[("stretch", 9), ("long_lived", 7), ("array", 1_000), ("max", 7)],
        "list" => &[("nodes", 1_000), ("rounds", 4)],
        "deep" => &[("depth", 60), ("refs", 3)],
        other => panic!("say what is tiny for {other}"),
    };
    for (name, value) in settings {
        workload.set(&mut params, name, *value).expect("a parameter of the workload");
    }
    params
}

fn run<C: Collector>(
    workload: &'static Workload,
    params: &Params,
    setup: Setup,
) -> Result<Statistics, RunError> {
    with_stack(workload.oracle(params).stack_bytes, || {
        let compiled = Compiled::new(workload, params, &setup, C::ATTRS)?;
        let mut instance = Instance::<C>::new(compiled, &setup, ())?;
        // `run` compares result, bytes and objects with the oracle.
        instance.run()?;
        Ok(instance.mutator().statistics())
    })
    .expect("the system has that stack")
}

fn every_workload(
    params: impl Fn(&Workload) -> Params,
    setup: Setup,
    check: impl Fn(&Workload, &str, Statistics),
) {
    fn one<C: Collector>(
        params: &impl Fn(&Workload) -> Params,
        setup: Setup,
        check: &impl Fn(&Workload, &str, Statistics),
    ) {
        for workload in workloads::ALL {
            let statistics = run::<C>(workload, &params(workload), setup)
                .unwrap_or_else(|error| panic!("{} {}: {error}", workload.name, C::ATTRS.name));
            check(workload, C::ATTRS.name, statistics);
        }
    }
    one::<Semispace>(&params, setup, &check);
    one::<MarkSweep>(&params, setup, &check);
    one::<NeverFree>(&params, setup, &check);
}

#[test]
fn plain_at_several_heap_sizes() {
    for multiple in [2.5, 3.0, 6.0] {
        for count in [false, true] {
            let setup = Setup { count, ..Setup::new(HeapSize::Multiple(multiple)) };
            every_workload(Workload::quick, setup, |workload, _, statistics| {
                let counted = count.then(|| workload.oracle(&workload.quick()).objects);
                assert_eq!(statistics.allocated_objects, counted);
            });
        }
    }
}

#[test]
fn without_optimisation() {
    let setup = Setup { opt_level: OptLevel::None, ..Setup::new(HeapSize::Multiple(3.0)) };
    every_workload(tiny, setup, |_, _, _| {});
}

#[test]
fn collecting_at_every_allocation() {
    let stressed = Setup { count: true, stress: 1, ..Setup::new(HeapSize::Multiple(4.0)) };
    collect_at_every_allocation(stressed);
}

#[test]
fn collecting_at_every_allocation_and_protecting() {
    let stressed = Setup { count: true, stress: 1, ..Setup::new(HeapSize::Multiple(4.0)) };
    collect_at_every_allocation(Setup { protect: true, ..stressed });
}

#[test]
fn verifying_each_collection() {
    for stress in [0, 100] {
        for protect in [false, true] {
            let heap = HeapSize::Multiple(3.0);
            let setup = Setup { stress, protect, verify: true, ..Setup::new(heap) };
            every_workload(tiny, setup, |_, _, _| {});
        }
    }
}

fn collect_at_every_allocation(setup: Setup) {
    every_workload(tiny, setup, |workload, collector, statistics| {
        let oracle = workload.oracle(&tiny(workload));
        assert_eq!(statistics.collections, oracle.objects, "{} {collector}", workload.name);
        if collector != NeverFree::ATTRS.name {
            // The oracle's peak includes the object that is about to be allocated.
            let most = statistics.live_bytes_most;
            assert!(most <= oracle.peak_live_bytes, "{}: {most} live", workload.name);
            assert!(most * 10 >= oracle.peak_live_bytes * 9, "{}: {most} live", workload.name);
        }
    });
}

/// The peak live size is what heaps are measured in: it has to be right for all parameters.
#[test]
fn peak_live_sizes_of_unusual_parameters() {
    let cases: [(&str, &[(&str, u64)]); 6] = [
        ("gcbench", &[("stretch", 4), ("long_lived", 0), ("array", 2), ("max", 12)]),
        ("gcbench", &[("stretch", 4), ("long_lived", 8), ("array", 100), ("max", 5)]),
        ("gcbench", &[("stretch", 6), ("long_lived", 2), ("array", 4_000), ("max", 7)]),
        ("list", &[("nodes", 700), ("rounds", 0)]),
        ("deep", &[("depth", 1), ("refs", 16)]),
        ("deep", &[("depth", 90), ("refs", 1)]),
    ];
    for (name, settings) in cases {
        let workload = Workload::named(name).unwrap();
        let mut params = workload.defaults();
        for (name, value) in settings {
            workload.set(&mut params, name, *value).unwrap();
        }
        let setup = Setup { stress: 1, ..Setup::new(HeapSize::Bytes(4 << 20)) };
        let statistics = run::<Semispace>(workload, &params, setup).expect("it fits");
        let (most, oracle) = (statistics.live_bytes_most, workload.oracle(&params));
        assert!(most <= oracle.peak_live_bytes, "{name} {settings:?}: {most} live");
        let slack = oracle.peak_live_bytes / 10 + 24;
        assert!(most + slack >= oracle.peak_live_bytes, "{name} {settings:?}: {most} live");
    }
}

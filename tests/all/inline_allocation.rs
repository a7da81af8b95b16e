//! Compiled code allocates without a call: the only calls to the collector are in cold blocks.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::jit::{Func, Module, ModuleOptions, Signature};
use tospace::workloads::{Compiled, HeapSize, Instance, Setup, Workload};

use crate::support::{boxes, emit_garbage};

/// The blocks of a function in CLIF: the header line and the instructions of each.
fn blocks(clif: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    for line in clif.lines().map(str::trim) {
        if line.starts_with("block") && line.ends_with(':') {
            blocks.push((line.to_owned(), Vec::new()));
        } else if let Some((_, instructions)) = blocks.last_mut() {
            instructions.push(line.to_owned());
        }
    }
    blocks
}

/// A function that allocates in a loop and calls nothing else.
fn allocating<C: Collector>() -> (Module, Func) {
    let mut boxes = boxes(C::ATTRS);
    let signature = Signature::new([], []);
    let allocate = boxes
        .module
        .function("allocate_boxes", signature, |e| emit_garbage(e, boxes.layout, 1000))
        .unwrap();
    (boxes.module, allocate)
}

/// The calls in cold blocks, the calls in others, and the stores in others.
fn count(clif: &str) -> (usize, usize, usize) {
    let (mut cold_calls, mut calls, mut stores) = (0, 0, 0);
    for (header, instructions) in blocks(clif) {
        let count = |what: &str| instructions.iter().filter(|line| line.contains(what)).count();
        if header.contains("cold") {
            cold_calls += count("call ");
        } else {
            calls += count("call ");
            stores += count("store");
        }
    }
    (cold_calls, calls, stores)
}

fn calls_only_in_cold_blocks<C: Collector>() {
    let (module, allocate) = allocating::<C>();
    let clif = module.clif(allocate).expect("text is kept");
    // One slow path; the stores are to the cursor or list, the header, the field.
    assert_eq!(count(clif), (1, 0, 3), "{clif}");

    // The same in a real program: `make` of binary-trees allocates a leaf or an inner node, and
    // calls nothing else than itself, twice.
    let options = ModuleOptions { keep_text: true, ..ModuleOptions::new(C::ATTRS) };
    let mut module = Module::new(options).unwrap();
    let workload = Workload::named("binary-trees").unwrap();
    workload.build(&mut module, &workload.quick()).unwrap();
    let make = module.find("make").expect("the workload has it");
    let clif = module.clif(make).expect("text is kept");
    let (cold_calls, calls, _) = count(clif);
    assert_eq!((cold_calls, calls), (2, 2), "{clif}");
}

#[test]
fn bump_allocation_is_inline() {
    calls_only_in_cold_blocks::<Semispace>();
    calls_only_in_cold_blocks::<NeverFree>();
}

#[test]
fn free_list_allocation_is_inline() {
    calls_only_in_cold_blocks::<MarkSweep>();
}

/// What the text shows, the counters confirm.
#[test]
fn the_slow_path_is_rare() {
    fn slow_allocations<C: Collector>() -> (u64, u64, u64) {
        let workload = Workload::named("binary-trees").unwrap();
        let setup = Setup { count: true, ..Setup::new(HeapSize::Multiple(4.0)) };
        let params = workload.quick();
        let compiled = Compiled::new(workload, &params, &setup, C::ATTRS).unwrap();
        let mut instance = Instance::<C>::new(compiled, &setup, ()).unwrap();
        instance.run().unwrap();
        let statistics = instance.mutator().statistics();
        let objects = statistics.allocated_objects.expect("counted");
        (statistics.slow_allocations, statistics.collections, objects)
    }
    let (slow, collections, objects) = slow_allocations::<Semispace>();
    assert_eq!(slow, collections + 1, "once at the start and once for each collection");
    assert!(objects > 1000 * slow);
    // A block of 16 KiB holds 682 nodes; most are recycled with survivors in them.
    let (slow, _, objects) = slow_allocations::<MarkSweep>();
    assert!(objects > 200 * slow, "{slow} of {objects}");
}

//! Compiled code allocates without a call: the only calls to the collector are in cold blocks.

use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::jit::{Func, Module};
use tospace::workloads::{Compiled, HeapSize, Instance, Setup, Workload};

use crate::support::{boxes, emit_garbage};
use tospace::jit::Signature;

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

fn calls_only_in_cold_blocks<C: Collector>() {
    let (module, allocate) = allocating::<C>();
    let clif = module.clif(allocate).expect("text is kept");
    let mut cold_calls = 0;
    let mut stores = 0;
    for (header, instructions) in blocks(clif) {
        let calls = instructions.iter().filter(|line| line.contains("call ")).count();
        if header.contains("cold") {
            cold_calls += calls;
        } else {
            assert_eq!(calls, 0, "{header} is not cold and calls:\n{clif}");
            stores += instructions.iter().filter(|line| line.starts_with("store")).count();
        }
    }
    assert_eq!(cold_calls, 1, "the slow path is there:\n{clif}");
    // The cursor or list, the header, the field.
    assert_eq!(stores, 3, "the fast path allocates and initialises:\n{clif}");
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

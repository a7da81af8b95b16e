//! A program that the heap has room for, but hardly more, ends as heap full and does not collect for
//! ever, also if much memory is free that is of no use to it.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::Record;
use tospace::jit::{Module, ModuleOptions, Signature};
use tospace::{CallError, TrapKind, Val, args};

use crate::support::mutator;

const HEAP: usize = 2 << 20;

/// Allocates small cells, of which one in 256 is kept (under mark-sweep no block of theirs is ever
/// free), then nodes, of which one in 50 is kept, until the heap is full of nodes.
fn crawl<C: Collector>(cells: i64) -> (u64, u64) {
    let mut module = Module::new(ModuleOptions::new(C::ATTRS)).unwrap();
    let mut cell = Record::new("cell");
    let _ = cell.reference("next");
    let cell = module.record(cell).unwrap();
    let mut node = Record::new("node");
    let _ = (node.scalar("number", 8).unwrap(), node.reference("next"));
    let node = module.record(node).unwrap();
    let run = module
        .function("run", Signature::new([I64.into(), I64.into()], []), |e| {
            let (cells, nodes, zero, null) = (e.param(0), e.param(1), e.int(I64, 0), e.null());
            let (kept_cells, kept_nodes) = (e.ref_var(null), e.ref_var(null));
            e.for_range(zero, cells, |e, index| {
                let rest = e.get_ref(kept_cells);
                let object = e.new_record(cell, args![rest]);
                let low = e.ins().band_imm_u(index, 255);
                e.if_else(low, |_| {}, |e| e.set_ref(kept_cells, object));
            });
            e.for_range(zero, nodes, |e, index| {
                let rest = e.get_ref(kept_nodes);
                let object = e.new_record(node, args![index, rest]);
                let fifty = e.int(I64, 50);
                let rest = e.ins().urem(index, fifty);
                e.if_else(rest, |_| {}, |e| e.set_ref(kept_nodes, object));
            });
            // Both lists live to the end.
            for kept in [kept_cells, kept_nodes] {
                let kept = e.get_ref(kept);
                e.is_present(kept);
            }
            e.collect();
            for kept in [kept_cells, kept_nodes] {
                let kept = e.get_ref(kept);
                let pair = e.new_record(cell, args![kept]);
                e.is_present(pair);
            }
        })
        .unwrap();
    let mut mutator = mutator::<C>(module, HEAP);
    let error = mutator.call(run, &[Val::I64(cells), Val::I64(1_000_000_000)]);
    let Err(CallError::Trap(trap)) = error else { panic!("heap full expected: {error:?}") };
    let TrapKind::HeapFull { free, collections, .. } = trap.kind else { panic!("{trap}") };
    (free, collections)
}

#[test]
fn a_full_heap_ends_soon() {
    // Each collection finds one in 50 of what was free still live, until 1/64 is left:
    // 50 ln 64 = 208 collections, and eight futile ones.
    for (_, collections) in [crawl::<Semispace>(0), crawl::<MarkSweep>(0)] {
        assert!((200..250).contains(&collections), "{collections}");
    }
}

#[test]
fn free_memory_of_no_use_does_not_hide_it() {
    let (free, collections) = crawl::<MarkSweep>(100_000);
    assert!(free > HEAP as u64 / 4, "only cells are free: {free}");
    assert!(collections < 250, "{collections}");
}

/// A heap of 15 blocks, and objects of 17 sizes in turn: each wants a block of its own, so that little
/// is allocated between collections. But nothing lives, and each is soon done.
#[test]
fn many_sizes_in_a_few_blocks() {
    let mut module = Module::new(ModuleOptions::new(MarkSweep::ATTRS)).unwrap();
    let words = module.scalars("words", 8).unwrap();
    let run = module
        .function("run", Signature::new([I64.into()], []), |e| {
            let (rounds, zero) = (e.param(0), e.int(I64, 0));
            e.for_range(zero, rounds, |e, _| {
                let seventeen = e.int(I64, 17);
                e.for_range(zero, seventeen, |e, length| {
                    e.new_array(words, length);
                });
            });
        })
        .unwrap();
    let mut mutator = mutator::<MarkSweep>(module, 256 << 10);
    assert_eq!(mutator.call(run, &[Val::I64(100)]), Ok(vec![]));
    assert!(mutator.statistics().collections > 50);
}

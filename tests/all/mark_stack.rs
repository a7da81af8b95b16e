//! Marking goes on when the mark stack has no room: objects are found again through their blocks.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::Record;
use tospace::jit::{Module, ModuleOptions, Signature};
use tospace::{Val, args};

use crate::support::{int, mutator};

const WIDTH: i64 = 20_000;

/// An array of references to boxes, each of which refers to a chain of another two, collected while
/// nothing else refers to them; the sum of the numbers in all boxes.
fn wide<C: Collector>(heap_bytes: usize) -> (i64, u64) {
    let mut module = Module::new(ModuleOptions::new(C::ATTRS)).unwrap();
    let mut node = Record::new("node");
    let (number, next) = (node.scalar("number", 8).unwrap(), node.reference("next"));
    let node = module.record(node).unwrap();
    let nodes = module.references("nodes").unwrap();
    let run = module
        .function("run", Signature::new([I64.into()], [I64.into()]), |e| {
            let (zero, width, null) = (e.int(I64, 0), e.param(0), e.null());
            let array = e.new_array(nodes, width);
            e.for_range(zero, width, |e, index| {
                let third = e.new_record(node, args![index, null]);
                let second = e.new_record(node, args![index, third]);
                let first = e.new_record(node, args![index, second]);
                e.array_store_ref(array, nodes, index, first);
            });
            e.collect();
            let sum = e.var(zero);
            e.for_range(zero, width, |e, index| {
                let first = e.array_load_ref(array, nodes, index);
                let second = e.load_ref(first, next);
                let third = e.load_ref(second, next);
                for object in [first, second, third] {
                    let (so_far, own) = (e.get(sum), e.load(object, number, I64));
                    let so_far = e.ins().iadd(so_far, own);
                    e.set(sum, so_far);
                }
            });
            let sum = e.get(sum);
            e.ret(args![sum]);
        })
        .unwrap();
    let mut mutator = mutator::<C>(module, heap_bytes);
    let sum = int(mutator.call(run, &[Val::I64(WIDTH)]).expect("it fits"));
    let statistics = mutator.statistics();
    assert_eq!(statistics.collections, 1);
    (sum, statistics.live_bytes_last)
}

#[test]
fn more_children_than_the_mark_stack_holds() {
    let expected = (3 * WIDTH * (WIDTH - 1) / 2, (3 * 24 + 8) * WIDTH as u64 + 8);
    // A heap of 2 MiB has a mark stack of 2,000 entries; 20,000 children are pushed at once.
    assert_eq!(wide::<MarkSweep>(2 << 20), expected);
    // One of 64 MiB has room for all.
    assert_eq!(wide::<MarkSweep>(64 << 20), expected);
    assert_eq!(wide::<Semispace>(4 << 20), expected);
}

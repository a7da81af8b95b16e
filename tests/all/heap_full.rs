//! A heap that is too small ends in an error with the numbers in it, and the mutator lives on.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::Record;
use tospace::jit::{Module, ModuleOptions, REF, Signature};
use tospace::{CallError, Mutator, Trap, TrapKind, Val, args};

use crate::support::{int, mutator};

const HEAP: usize = 1 << 20;
const NODE_BYTES: u64 = 24;

struct Lists<C: Collector> {
    mutator: Mutator<C>,
    /// length(n): the length of a list of n nodes, all live at once.
    length: tospace::jit::Func,
    /// array(n): the length of an array of n numbers.
    array: tospace::jit::Func,
    /// keep(n): makes a list of n nodes and keeps it, in the place of the one before.
    keep: tospace::jit::Func,
}

fn lists<C: Collector>() -> Lists<C> {
    let mut module = Module::new(ModuleOptions::new(C::ATTRS)).unwrap();
    let mut node = Record::new("node");
    let (_number, next) = (node.scalar("number", 8).unwrap(), node.reference("next"));
    let node = module.record(node).unwrap();
    let numbers = module.scalars("numbers", 8).unwrap();
    let int_to_int = || Signature::new([I64.into()], [I64.into()]);

    let build = module
        .function("build", Signature::new([I64.into()], [REF]), |e| {
            let (zero, count, null) = (e.int(I64, 0), e.param(0), e.null());
            let list = e.ref_var(null);
            e.for_range(zero, count, |e, number| {
                let rest = e.get_ref(list);
                let longer = e.new_record(node, args![number, rest]);
                e.set_ref(list, longer);
            });
            let list = e.get_ref(list);
            e.ret(args![list]);
        })
        .unwrap();
    let length = module
        .function("length", int_to_int(), |e| {
            let (count, zero) = (e.param(0), e.int(I64, 0));
            let list = e.call(build, args![count]).reference();
            let (rest, nodes) = (e.ref_var(list), e.var(zero));
            e.while_loop(
                |e| {
                    let rest = e.get_ref(rest);
                    e.is_present(rest)
                },
                |e| {
                    let first = e.get_ref(rest);
                    let tail = e.load_ref(first, next);
                    e.set_ref(rest, tail);
                    let so_far = e.get(nodes);
                    let so_far = e.ins().iadd_imm_s(so_far, 1);
                    e.set(nodes, so_far);
                },
            );
            let nodes = e.get(nodes);
            e.ret(args![nodes]);
        })
        .unwrap();
    let array = module
        .function("array", int_to_int(), |e| {
            let count = e.param(0);
            let array = e.new_array(numbers, count);
            let length = e.array_length(array);
            e.ret(args![length]);
        })
        .unwrap();
    let kept = module.global();
    let keep = module
        .function("keep", Signature::new([I64.into()], []), |e| {
            let count = e.param(0);
            let list = e.call(build, args![count]).reference();
            e.store_global(kept, list);
        })
        .unwrap();
    Lists { mutator: mutator::<C>(module, HEAP), length, array, keep }
}

fn trap(error: CallError) -> Trap {
    match error {
        CallError::Trap(trap) => trap,
        other => panic!("a trap expected: {other}"),
    }
}

fn too_small_and_then_not<C: Collector>(usable: u64) {
    let Lists { mut mutator, length, array, .. } = lists::<C>();
    let call =
        |mutator: &mut Mutator<C>, func, count: u64| mutator.call(func, &[Val::I64(count as i64)]);
    let fits = usable / NODE_BYTES * 9 / 10;
    let too_many = usable / NODE_BYTES + 1;

    for round in 0..3 {
        let trap = trap(call(&mut mutator, length, too_many).expect_err("does not fit"));
        let TrapKind::HeapFull { asked, free, live, heap, collections } = trap.kind else {
            panic!("heap full expected: {trap}");
        };
        assert_eq!((asked, heap), (NODE_BYTES, HEAP as u64), "round {round}");
        assert!(free < asked || free < heap / 64, "{trap}");
        assert!(live + free <= usable, "{trap}");
        if C::ATTRS != NeverFree::ATTRS {
            assert!(collections > round && live > usable * 9 / 10, "{trap}");
        }
        let names: Vec<&str> = trap.backtrace.iter().map(|at| &*at.function).collect();
        assert_eq!(names, ["build", "length"]);
        let text = trap.to_string();
        for number in [asked, free, live, heap] {
            assert!(text.contains(&number.to_string()), "{number} is not in: {text}");
        }

        if C::ATTRS == NeverFree::ATTRS {
            mutator.reset();
        }
        let counted = call(&mut mutator, length, fits).expect("fits again");
        assert_eq!(int(counted), fits as i64);
        if C::ATTRS == NeverFree::ATTRS {
            mutator.reset();
        }
    }

    // One object that no collection can make room for.
    let trap = trap(call(&mut mutator, array, HEAP as u64 / 8).expect_err("does not fit"));
    let TrapKind::HeapFull { asked, .. } = trap.kind else { panic!("heap full expected: {trap}") };
    assert_eq!(asked, HEAP as u64 + 8);
    // Half of the usable memory in one piece: nothing else is live.
    let elements = usable / 16;
    assert_eq!(int(call(&mut mutator, array, elements).expect("fits")), elements as i64);
}

#[test]
fn semispace() {
    too_small_and_then_not::<Semispace>(HEAP as u64 / 2);
}

#[test]
fn mark_sweep() {
    // 2.5% of the heap are side tables.
    too_small_and_then_not::<MarkSweep>(HEAP as u64 / 1000 * 975);
}

#[test]
fn never_free() {
    too_small_and_then_not::<NeverFree>(HEAP as u64);
}

#[test]
fn lengths_that_no_array_has() {
    let Lists { mut mutator, array, .. } = lists::<Semispace>();
    for length in [-1, i64::MIN, 1 << 32, i64::MAX] {
        let error = mutator.call(array, &[Val::I64(length)]).expect_err("no such length");
        assert_eq!(trap(error).kind, TrapKind::ArrayLength { length });
    }
    // The longest that is one, though it does not fit.
    let error = mutator.call(array, &[Val::I64(u32::MAX.into())]).expect_err("32 GiB");
    assert!(matches!(trap(error).kind, TrapKind::HeapFull { asked: 0x7_ffff_ffff.., .. }));
    assert_eq!(int(mutator.call(array, &[Val::I64(0)]).expect("an empty array")), 0);
}

/// Asking for too much again and again says nothing of what fits when the heap has been emptied.
#[test]
fn failed_allocations_do_not_count_against_later_ones() {
    let Lists { mut mutator, length, array, keep } = lists::<Semispace>();
    // Not even another node fits: the next one needs a collection.
    let nodes = HEAP as u64 / 2 / NODE_BYTES;
    mutator.call(keep, &[Val::I64(nodes as i64)]).expect("it just fits");
    for _ in 0..20 {
        let error = mutator.call(array, &[Val::I64(100)]).expect_err("the heap is full");
        assert!(matches!(trap(error).kind, TrapKind::HeapFull { .. }));
    }
    mutator.call(keep, &[Val::I64(0)]).expect("it keeps the empty list instead");
    assert_eq!(int(mutator.call(length, &[Val::I64(1)]).expect("the heap is empty")), 1);
}

//! Frames of every size: 100 KiB of them, 100,000 of them, and what lies beside the references.

use cranelift_codegen::ir::types::{F64, I32X4, I64, I128};
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::jit::{Emit, OptLevel, REF, Ref, Signature};
use tospace::stack::with_stack;
use tospace::{TrapKind, Val, args};

use crate::support::{boxes_at, int, mutator};

/// Every one of 100,000 frames has a reference of its own, which every collection rewrites.
fn deep<C: Collector>(opt_level: OptLevel) {
    const FRAMES: i64 = 100_000;
    const COLLECTIONS: u64 = 3;
    with_stack(64 << 20, || {
        let mut boxes = boxes_at(C::ATTRS, opt_level);
        let (layout, number) = (boxes.layout, boxes.number);
        let down =
            boxes.module.declare("down", Signature::new([I64.into(), REF], [I64.into()])).unwrap();
        let body = |e: &mut Emit| {
            let (depth, above) = (e.param(0), e.ref_param(1));
            let held = e.new_record(layout, args![depth]);
            let zero = e.int(I64, 0);
            let below = e.var(zero);
            e.if_else(
                depth,
                |e| {
                    let less = e.ins().iadd_imm_s(depth, -1);
                    let sum = e.call(down, args![less, held]).scalar();
                    e.set(below, sum);
                },
                |e| (0..COLLECTIONS).for_each(|_| e.collect()),
            );
            // Own number plus ten times the one above, which is a larger one.
            let (own, above) = (e.load(held, number, I64), e.load(above, number, I64));
            let above = e.ins().imul_imm_s(above, 10);
            let (sum, below) = (e.ins().iadd(own, above), e.get(below));
            let sum = e.ins().iadd(sum, below);
            e.ret(args![sum]);
        };
        boxes.module.define(down, body).unwrap();
        let start = boxes
            .module
            .function("start", Signature::new([I64.into()], [I64.into()]), |e| {
                let depth = e.param(0);
                let held = e.new_record(layout, args![depth]);
                let sum = e.call(down, args![depth, held]).scalar();
                e.ret(args![sum]);
            })
            .unwrap();
        let mut mutator = mutator::<C>(boxes.module, 16 << 20);
        mutator.set_verify(true);
        let last = FRAMES - 1;
        let own: i64 = (0..=last).sum();
        let above: i64 = (1..=last).sum::<i64>() + last;
        assert_eq!(int(mutator.call(start, &[Val::I64(last)]).unwrap()), own + 10 * above);
        let statistics = mutator.statistics();
        assert_eq!(statistics.collections, COLLECTIONS);
        assert_eq!(statistics.total.frames_walked, COLLECTIONS * (FRAMES as u64 + 1));
        if C::ATTRS.moves {
            assert_eq!(statistics.total.copied_objects, COLLECTIONS * (FRAMES as u64 + 1));
        }
    })
    .unwrap();
}

#[test]
fn a_hundred_thousand_frames() {
    deep::<Semispace>(OptLevel::Speed);
    deep::<Semispace>(OptLevel::None);
    deep::<MarkSweep>(OptLevel::Speed);
}

/// Frames of 100 KiB, with references, and an array of the function's own between them; and how their
/// stack overflows, which no guard page must be stepped over for.
#[test]
fn frames_of_100_kib() {
    const BYTES: u32 = 100 << 10;
    const REFS: i64 = 40;
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        with_stack(8 << 20, move || {
            let mut boxes = boxes_at(Semispace::ATTRS, opt_level);
            let (layout, number) = (boxes.layout, boxes.number);
            let signature = Signature::new([I64.into()], [I64.into()]);
            let down = boxes.module.declare("down", signature).unwrap();
            let body = |e: &mut Emit| {
                let depth = e.param(0);
                let own = StackSlotData::new(StackSlotKind::ExplicitSlot, BYTES, 4);
                let own = e.builder().create_sized_stack_slot(own);
                let ends = [0, BYTES as i32 - 8];
                for at in ends {
                    e.ins().stack_store(I64, depth, own, at);
                }
                let held: Vec<Ref> = (0..REFS)
                    .map(|index| {
                        let value = e.ins().iadd_imm_s(depth, index);
                        e.new_record(layout, args![value])
                    })
                    .collect();
                let zero = e.int(I64, 0);
                let total = e.var(zero);
                e.if_else(
                    depth,
                    |e| {
                        let less = e.ins().iadd_imm_s(depth, -1);
                        let sum = e.call(down, args![less]).scalar();
                        e.set(total, sum);
                    },
                    |e| e.collect(),
                );
                let add = |e: &mut Emit, value: Value| {
                    let so_far = e.get(total);
                    let so_far = e.ins().iadd(so_far, value);
                    e.set(total, so_far);
                };
                for held in held {
                    let value = e.load(held, number, I64);
                    add(e, value);
                }
                for at in ends {
                    let value = e.ins().stack_load(I64, I64, own, at);
                    add(e, value);
                }
                let total = e.get(total);
                e.ret(args![total]);
            };
            boxes.module.define(down, body).unwrap();
            let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
            mutator.set_verify(true);
            let depth = 50;
            let frame = |depth: i64| (0..REFS).map(|index| depth + index).sum::<i64>() + 2 * depth;
            let expected: i64 = (0..=depth).map(frame).sum();
            assert_eq!(int(mutator.call(down, &[Val::I64(depth)]).unwrap()), expected);
            assert_eq!(mutator.statistics().total.slots_visited, (depth as u64 + 1) * REFS as u64);
            let error = mutator.call(down, &[Val::I64(1 << 40)]).expect_err("8 MiB");
            let tospace::CallError::Trap(trap) = error else { panic!("{error}") };
            assert!(matches!(trap.kind, TrapKind::StackOverflow { .. }), "{trap}");
            assert!((70..=85).contains(&trap.backtrace.len()), "{trap}");
            assert_eq!(int(mutator.call(down, &[Val::I64(depth)]).unwrap()), expected);
        })
        .unwrap();
    }
}

/// Wide values and floats live across a collection beside references, all of them more than there are
/// registers.
#[test]
fn wide_values_beside_references() {
    const EACH: i64 = 24;
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        let mut boxes = boxes_at(Semispace::ATTRS, opt_level);
        let (layout, number) = (boxes.layout, boxes.number);
        let mixed = boxes
            .module
            .function("mixed", Signature::new([I64.into()], [I64.into()]), |e| {
                let first = e.param(0);
                let made: Vec<_> = (0..EACH)
                    .map(|index| {
                        let value = e.ins().iadd_imm_s(first, index);
                        let wide = e.ins().uextend(I128, value);
                        let wide = e.ins().imul(wide, wide);
                        let float = e.ins().fcvt_from_sint(F64, value);
                        let lane = e.ins().ireduce(cranelift_codegen::ir::types::I32, value);
                        let vector = e.ins().splat(I32X4, lane);
                        (e.new_record(layout, args![value]), wide, float, vector)
                    })
                    .collect();
                e.collect();
                let mut total = e.int(I64, 0);
                for (held, wide, float, vector) in made {
                    let float = e.ins().fcvt_to_sint(I64, float);
                    let lane = e.ins().extractlane(vector, 3);
                    let lane = e.ins().sextend(I64, lane);
                    let wide = e.ins().ireduce(I64, wide);
                    for value in [e.load(held, number, I64), wide, float, lane] {
                        total = e.ins().iadd(total, value);
                    }
                }
                e.ret(args![total]);
            })
            .unwrap();
        let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
        mutator.set_stress(1);
        mutator.set_verify(true);
        let each = |value: i64| 3 * value + value * value;
        let expected: i64 = (0..EACH).map(|index| each(1000 + index)).sum();
        assert_eq!(int(mutator.call(mixed, &[Val::I64(1000)]).unwrap()), expected);
        assert_eq!(mutator.statistics().live_bytes_last, EACH as u64 * 16);
    }
}

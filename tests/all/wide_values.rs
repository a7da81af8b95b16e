//! Values of 16 bytes live in objects, in arrays and beside references, and survive that all moves.

use cranelift_codegen::ir::{
    InstBuilder, Value,
    types::{I64, I64X2, I128},
};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::Record;
use tospace::jit::{Emit, Module, ModuleOptions, Signature};
use tospace::{Val, args};

use crate::support::{int, mutator};

fn both_halves(e: &mut Emit, low: Value, high: Value) -> Value {
    e.ins().iconcat(low, high)
}

fn survive<C: Collector>() {
    let mut module = Module::new(ModuleOptions::new(C::ATTRS)).unwrap();
    let mut record = Record::new("wide");
    let flag = record.scalar("flag", 1).unwrap();
    let wide = record.scalar("wide", 16).unwrap();
    let next = record.reference("next");
    let vector = record.scalar("vector", 16).unwrap();
    let layout = module.record(record).unwrap();
    let array = module.scalars("wides", 16).unwrap();
    let run = module
        .function("run", Signature::new([I64.into()], [I64.into()]), |e| {
            let (seed, null) = (e.param(0), e.null());
            let other = e.ins().imul_imm_s(seed, 3);
            let pair = both_halves(e, seed, other);
            let lanes = e.ins().splat(I64X2, seed);
            let lanes = e.ins().insertlane(lanes, other, 1);
            let small = e.ins().ireduce(cranelift_codegen::ir::types::I8, seed);
            let last = e.new_record(layout, args![small, pair, null, lanes]);
            let first = e.new_record(layout, args![small, pair, last, lanes]);
            let (two, one) = (e.int(I64, 2), e.int(I64, 1));
            let pairs = e.new_array(array, two);
            e.array_store(pairs, array, one, pair);
            // `pair` and `lanes` live in registers or the frame over this, next to references.
            e.collect();
            let second = e.load_ref(first, next);
            let mut sum = seed;
            for object in [first, second] {
                let held = e.load(object, wide, I128);
                let (low, high) = e.ins().isplit(held);
                let same = e.ins().isub(high, low);
                sum = e.ins().iadd(sum, same);
                let held = e.load(object, vector, I64X2);
                let high = e.ins().extractlane(held, 1);
                sum = e.ins().iadd(sum, high);
                let held = e.load(object, flag, cranelift_codegen::ir::types::I8);
                let held = e.ins().uextend(I64, held);
                sum = e.ins().iadd(sum, held);
            }
            let held = e.array_load(pairs, array, one, I128);
            let (_, high) = e.ins().isplit(held);
            sum = e.ins().iadd(sum, high);
            let (low, _) = e.ins().isplit(pair);
            sum = e.ins().iadd(sum, low);
            let high = e.ins().extractlane(lanes, 1);
            sum = e.ins().iadd(sum, high);
            e.ret(args![sum]);
        })
        .unwrap();
    let mut mutator = mutator::<C>(module, 1 << 20);
    for seed in [0, 1, 100] {
        // seed + 2 (2 + 3 + 1) seed + 3 seed + seed + 3 seed
        let sum = int(mutator.call(run, &[Val::I64(seed)]).unwrap());
        assert_eq!(sum, 20 * seed, "{}", C::ATTRS.name);
    }
}

#[test]
fn under_every_collector() {
    survive::<Semispace>();
    survive::<MarkSweep>();
    survive::<NeverFree>();
}

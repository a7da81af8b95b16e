//! Globals are roots: what they refer to survives, moves, and is found again.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::jit::Signature;
use tospace::{Val, args};

use crate::support::{boxes, emit_garbage, int, mutator};

fn survive<C: Collector>() {
    const GLOBALS: usize = 5;
    let mut boxes = boxes(C::ATTRS);
    let (module, layout, number) = (&mut boxes.module, boxes.layout, boxes.number);
    let globals: Vec<_> = (0..GLOBALS).map(|_| module.global()).collect();
    let int = || Signature::new([I64.into()], [I64.into()]);
    // Fills all globals but the last, and leaves the compiled frame.
    let fill = module
        .function("fill", Signature::new([I64.into()], []), |e| {
            let first = e.param(0);
            for (index, &global) in globals[..GLOBALS - 1].iter().enumerate() {
                let own = e.ins().iadd_imm_s(first, index as i64);
                let object = e.new_record(layout, args![own]);
                e.store_global(global, object);
            }
        })
        .unwrap();
    let sum = module
        .function("sum", int(), |e| {
            emit_garbage(e, layout, 100_000);
            let zero = e.param(0);
            let sum = e.var(zero);
            for &global in &globals {
                let object = e.load_global(global);
                let present = e.is_present(object);
                e.if_then(present, |e| {
                    let (so_far, own) = (e.get(sum), e.load(object, number, I64));
                    let so_far = e.ins().iadd(so_far, own);
                    e.set(sum, so_far);
                });
            }
            let sum = e.get(sum);
            e.ret(args![sum]);
        })
        .unwrap();

    let mut mutator = mutator::<C>(boxes.module, 8 << 20);
    mutator.set_stress(1000);
    for first in [100, 200] {
        mutator.call(fill, &[Val::I64(first)]).unwrap();
        let result = self::int(mutator.call(sum, &[Val::I64(0)]).unwrap());
        assert_eq!(result, 4 * first + 1 + 2 + 3);
    }
    let statistics = mutator.statistics();
    assert!(statistics.collections >= 200);
    if C::ATTRS != NeverFree::ATTRS {
        assert_eq!(statistics.live_bytes_last, 4 * 16);
    }
    mutator.reset();
    let result = self::int(mutator.call(sum, &[Val::I64(7)]).unwrap());
    assert_eq!(result, 7, "globals are null after a reset");
}

#[test]
fn under_every_collector() {
    survive::<Semispace>();
    survive::<MarkSweep>();
    survive::<NeverFree>();
}

//! Deep recursion with references in every frame, and much allocation at the bottom of it.
//!
//! Each collection has to walk all frames and to update all their slots.

use cranelift_codegen::ir::{InstBuilder, types::I64};

use super::{BuildError, Oracle, Param, Params, Program, SHALLOW_STACK, Workload};
use crate::args;
use crate::heap::Record;
use crate::jit::{Module, Ref, Signature};
use crate::val::Val;

const CELL_BYTES: u64 = 16;
/// Cells allocated at the bottom for each reference, and each frame, on the stack.
const CHURN: u64 = 16;

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "deep",
    stresses: "deep stack, references in every frame",
    params: &[
        Param { name: "depth", default: 10_000, quick: 1_000, range: 1..=1_000_000 },
        Param { name: "refs", default: 4, quick: 3, range: 0..=16 },
    ],
    build,
    oracle,
};

fn build(module: &mut Module, params: &Params) -> Result<Program, BuildError> {
    let refs = params.get("refs") as i64;
    let mut cell = Record::new("cell");
    let number = cell.scalar("number", 8)?;
    let cell = module.record(cell)?;

    // Allocates `count` cells that die at once; the sum of what they held.
    let churn = module.function("churn", Signature::new([I64.into()], [I64.into()]), |e| {
        let (zero, count) = (e.int(I64, 0), e.param(0));
        let sum = e.var(zero);
        e.for_range(zero, count, |e, index| {
            let short_lived = e.new_record(cell, args![index]);
            let (so_far, held) = (e.get(sum), e.load(short_lived, number, I64));
            let so_far = e.ins().iadd(so_far, held);
            e.set(sum, so_far);
        });
        let sum = e.get(sum);
        e.ret(args![sum]);
    })?;

    // descend(level, churn): holds `refs` cells, numbered from `level * refs`, while all lower levels
    // hold theirs; the sum of all numbers.
    let int = I64.into();
    let descend = module.declare("descend", Signature::new([int, int], [int]))?;
    module.define(descend, |e| {
        let (level, count) = (e.param(0), e.param(1));
        let first = e.ins().imul_imm_s(level, refs);
        let mut held: Vec<Ref> = Vec::new();
        for index in 0..refs {
            let own = e.ins().iadd_imm_s(first, index);
            held.push(e.new_record(cell, args![own]));
        }
        let zero = e.int(I64, 0);
        let sum = e.var(zero);
        e.if_else(
            level,
            |e| {
                let below = e.ins().iadd_imm_s(level, -1);
                let of_lower_levels = e.call(descend, args![below, count]).scalar();
                e.set(sum, of_lower_levels);
            },
            |e| {
                let of_churn = e.call(churn, args![count]).scalar();
                e.set(sum, of_churn);
            },
        );
        for cell in held {
            let (so_far, own) = (e.get(sum), e.load(cell, number, I64));
            let so_far = e.ins().iadd(so_far, own);
            e.set(sum, so_far);
        }
        let sum = e.get(sum);
        e.ret(args![sum]);
    })?;

    let run = module.function("run", Signature::new([int, int], [int]), |e| {
        let (depth, count) = (e.param(0), e.param(1));
        let top = e.ins().iadd_imm_s(depth, -1);
        let sum = e.call(descend, args![top, count]).scalar();
        e.ret(args![sum]);
    })?;

    let arguments = vec![params.int("depth"), Val::I64(churned(params) as i64)];
    Ok(Program { func: run, arguments })
}

fn churned(params: &Params) -> u64 {
    CHURN * params.get("depth") * (params.get("refs") + 1)
}

fn oracle(params: &Params) -> Oracle {
    let held = params.get("depth") * params.get("refs");
    let churned = churned(params);
    // A frame holds its slots twice at the most, and a few words besides.
    let frame_bytes = 2 * 8 * params.get("refs") as usize + 256;
    let sum_below = |count: u64| if count == 0 { 0 } else { count * (count - 1) / 2 };
    Oracle {
        result: (sum_below(held) + sum_below(churned)) as i64,
        objects: held + churned,
        bytes: (held + churned) * CELL_BYTES,
        peak_live_bytes: (held + 1) * CELL_BYTES,
        stack_bytes: SHALLOW_STACK + params.get("depth") as usize * frame_bytes,
    }
}

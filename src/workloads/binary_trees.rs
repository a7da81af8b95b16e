//! Many short-lived trees beside one that lives long.
//!
//! The program of the Computer Language Benchmarks Game: a stretch tree one level deeper than the
//! others, a long-lived tree, and for each second depth from 4 on, so many trees that each depth
//! allocates about the same. Every tree is counted.

use cranelift_codegen::ir::{InstBuilder, types::I64};

use super::{BuildError, Oracle, Param, Params, Program, SHALLOW_STACK, Workload, tree_nodes};
use crate::args;
use crate::heap::Record;
use crate::jit::{Module, REF, Signature};

const MIN_DEPTH: u64 = 4;
const NODE_BYTES: u64 = 24;

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "binary-trees",
    stresses: "high allocation rate, short lives, one long-lived tree",
    params: &[Param { name: "depth", default: 18, quick: 12, range: MIN_DEPTH + 2..=24 }],
    build,
    oracle,
};

fn build(module: &mut Module, params: &Params) -> Result<Program, BuildError> {
    let mut node = Record::new("node");
    let left = node.reference("left");
    let right = node.reference("right");
    let node = module.record(node)?;

    let make = module.declare("make", Signature::new([I64.into()], [REF]))?;
    module.define(make, |e| {
        let depth = e.param(0);
        e.if_then(depth, |e| {
            let below = e.ins().iadd_imm_s(depth, -1);
            let left = e.call(make, args![below]).reference();
            let right = e.call(make, args![below]).reference();
            let tree = e.new_record(node, args![left, right]);
            e.ret(args![tree]);
        });
        let null = e.null();
        let leaf = e.new_record(node, args![null, null]);
        e.ret(args![leaf]);
    })?;

    let check = module.declare("check", Signature::new([REF], [I64.into()]))?;
    module.define(check, |e| {
        let tree = e.ref_param(0);
        let child = e.load_ref(tree, left);
        let is_leaf = e.is_null(child);
        e.if_then(is_leaf, |e| {
            let one = e.int(I64, 1);
            e.ret(args![one]);
        });
        let below_left = e.call(check, args![child]).scalar();
        let child = e.load_ref(tree, right);
        let below_right = e.call(check, args![child]).scalar();
        let nodes = e.ins().iadd(below_left, below_right);
        let nodes = e.ins().iadd_imm_s(nodes, 1);
        e.ret(args![nodes]);
    })?;

    let run = module.function("run", Signature::new([I64.into()], [I64.into()]), |e| {
        let max_depth = e.param(0);
        let stretch_depth = e.ins().iadd_imm_s(max_depth, 1);
        let stretch = e.call(make, args![stretch_depth]).reference();
        let nodes = e.call(check, args![stretch]).scalar();
        let sum = e.var(nodes);

        let long_lived = e.call(make, args![max_depth]).reference();
        let (first, end) = (e.int(I64, MIN_DEPTH as i64), stretch_depth);
        e.for_range_step(first, end, 2, |e, depth| {
            let one = e.int(I64, 1);
            let doublings = e.ins().isub(max_depth, depth);
            let doublings = e.ins().iadd_imm_s(doublings, MIN_DEPTH as i64);
            let (zero, iterations) = (e.int(I64, 0), e.ins().ishl(one, doublings));
            e.for_range(zero, iterations, |e, _| {
                let tree = e.call(make, args![depth]).reference();
                let nodes = e.call(check, args![tree]).scalar();
                let so_far = e.get(sum);
                let so_far = e.ins().iadd(so_far, nodes);
                e.set(sum, so_far);
            });
        });

        let nodes = e.call(check, args![long_lived]).scalar();
        let so_far = e.get(sum);
        let total = e.ins().iadd(so_far, nodes);
        e.ret(args![total]);
    })?;
    Ok(Program { func: run, arguments: vec![params.int("depth")] })
}

fn oracle(params: &Params) -> Oracle {
    let max_depth = params.get("depth");
    let stretch = tree_nodes(max_depth + 1);
    let long_lived = tree_nodes(max_depth);
    let short_lived = (MIN_DEPTH..=max_depth)
        .step_by(2)
        .map(|depth| tree_nodes(depth) << (max_depth - depth + MIN_DEPTH));
    let nodes = stretch + long_lived + short_lived.sum::<u64>();
    Oracle {
        // Each tree is counted once, so the result is the number of nodes.
        result: nodes as i64,
        objects: nodes,
        bytes: nodes * NODE_BYTES,
        peak_live_bytes: stretch * NODE_BYTES,
        stack_bytes: SHALLOW_STACK,
    }
}

//! Trees of two lifetimes, built in both directions, and a large array of numbers.
//!
//! After the benchmark that John Ellis and Pete Kovac of Post Communications wrote and Hans Boehm
//! made known. Its trees are built top down (parents are older than children, so that stores make
//! old objects refer to young ones) and bottom up. Here every node also holds the depth of what is
//! below it, so that the result depends on the trees.

use cranelift_codegen::ir::{
    InstBuilder, MemFlagsData,
    types::{F64, I32, I64},
};

use super::{BuildError, Oracle, Param, Params, Program, SHALLOW_STACK, Workload, tree_nodes};
use crate::args;
use crate::heap::Record;
use crate::jit::{Func, Module, REF, Signature};

const MIN_DEPTH: u64 = 4;
const NODE_BYTES: u64 = 32;

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "gcbench",
    stresses: "two lifetimes, stores from old to young objects, one large array",
    params: &[
        Param { name: "stretch", default: 18, quick: 14, range: MIN_DEPTH..=24 },
        Param { name: "long_lived", default: 16, quick: 12, range: 0..=24 },
        Param { name: "array", default: 500_000, quick: 20_000, range: 2..=1_000_000_000 },
        Param { name: "max", default: 16, quick: 12, range: MIN_DEPTH..=24 },
    ],
    build,
    oracle,
};

fn build(module: &mut Module, params: &Params) -> Result<Program, BuildError> {
    let mut node = Record::new("node");
    let left = node.reference("left");
    let right = node.reference("right");
    let depth_below = node.scalar("depth", 4)?;
    let _unused = node.scalar("unused", 4)?;
    let node = module.record(node)?;
    let numbers = module.scalars("numbers", 8)?;

    // new_node(depth, left, right)
    let new_node = module.declare("new_node", Signature::new([I64.into(), REF, REF], [REF]))?;
    module.define(new_node, |e| {
        let (left, right) = (e.ref_param(1), e.ref_param(2));
        let depth = e.param(0);
        let (depth, zero) = (e.ins().ireduce(I32, depth), e.int(I32, 0));
        let node = e.new_record(node, args![left, right, depth, zero]);
        e.ret(args![node]);
    })?;

    // populate(depth, tree): makes `tree`, a leaf, one of `depth` levels below it.
    let populate = module.declare("populate", Signature::new([I64.into(), REF], []))?;
    module.define(populate, |e| {
        let (depth, tree) = (e.param(0), e.ref_param(1));
        e.if_then(depth, |e| {
            let (below, null) = (e.ins().iadd_imm_s(depth, -1), e.null());
            let child = e.call(new_node, args![below, null, null]).reference();
            e.store_ref(tree, left, child);
            let child = e.call(new_node, args![below, null, null]).reference();
            e.store_ref(tree, right, child);
            let child = e.load_ref(tree, left);
            e.call(populate, args![below, child]);
            let child = e.load_ref(tree, right);
            e.call(populate, args![below, child]);
        });
    })?;

    let top_down = module.function("top_down", Signature::new([I64.into()], [REF]), |e| {
        let (depth, null) = (e.param(0), e.null());
        let tree = e.call(new_node, args![depth, null, null]).reference();
        e.call(populate, args![depth, tree]);
        e.ret(args![tree]);
    })?;

    let bottom_up = module.declare("bottom_up", Signature::new([I64.into()], [REF]))?;
    module.define(bottom_up, |e| {
        let depth = e.param(0);
        e.if_then(depth, |e| {
            let below = e.ins().iadd_imm_s(depth, -1);
            let left = e.call(bottom_up, args![below]).reference();
            let right = e.call(bottom_up, args![below]).reference();
            let tree = e.call(new_node, args![depth, left, right]).reference();
            e.ret(args![tree]);
        });
        let null = e.null();
        let leaf = e.call(new_node, args![depth, null, null]).reference();
        e.ret(args![leaf]);
    })?;

    // The sum of the depths in all nodes.
    let sum_depths = module.declare("sum_depths", Signature::new([REF], [I64.into()]))?;
    module.define(sum_depths, |e| {
        let tree = e.ref_param(0);
        let is_null = e.is_null(tree);
        e.if_then(is_null, |e| {
            let zero = e.int(I64, 0);
            e.ret(args![zero]);
        });
        let child = e.load_ref(tree, left);
        let below_left = e.call(sum_depths, args![child]).scalar();
        let child = e.load_ref(tree, right);
        let below_right = e.call(sum_depths, args![child]).scalar();
        let own = e.load(tree, depth_below, I32);
        let own = e.ins().uextend(I64, own);
        let sum = e.ins().iadd(below_left, below_right);
        let sum = e.ins().iadd(sum, own);
        e.ret(args![sum]);
    })?;

    let int = I64.into();
    let run = module.function("run", Signature::new([int; 4], [int]), |e| {
        let [stretch, long_lived_depth, length, max_depth] = [0, 1, 2, 3].map(|at| e.param(at));
        let tree = e.call(bottom_up, args![stretch]).reference();
        let root_depth = e.load(tree, depth_below, I32);
        let root_depth = e.ins().uextend(I64, root_depth);
        let sum = e.var(root_depth);

        let long_lived = e.call(top_down, args![long_lived_depth]).reference();
        let array = e.new_array(numbers, length);
        let (zero, half) = (e.int(I64, 0), e.ins().ushr_imm_u(length, 1));
        e.for_range(zero, half, |e, index| {
            let one = e.ins().f64const(1.0);
            let divisor = e.ins().fcvt_from_sint(F64, index);
            let number = e.ins().fdiv(one, divisor);
            e.array_store(array, numbers, index, number);
        });

        let (first, end) = (e.int(I64, MIN_DEPTH as i64), e.ins().iadd_imm_s(max_depth, 1));
        e.for_range_step(first, end, 2, |e, depth| {
            let nodes = |e: &mut crate::jit::Emit, depth| {
                let two = e.int(I64, 2);
                let nodes = e.ins().ishl(two, depth);
                e.ins().iadd_imm_s(nodes, -1)
            };
            let (stretch_nodes, tree_nodes) = (nodes(e, stretch), nodes(e, depth));
            let twice = e.ins().ishl_imm_u(stretch_nodes, 1);
            let iterations = e.ins().udiv(twice, tree_nodes);
            let mut build_many = |build: Func| {
                e.for_range(zero, iterations, |e, _| {
                    let tree = e.call(build, args![depth]).reference();
                    let root_depth = e.load(tree, depth_below, I32);
                    let root_depth = e.ins().uextend(I64, root_depth);
                    let so_far = e.get(sum);
                    let so_far = e.ins().iadd(so_far, root_depth);
                    e.set(sum, so_far);
                });
            };
            build_many(top_down);
            build_many(bottom_up);
        });

        let depths = e.call(sum_depths, args![long_lived]).scalar();
        let last = e.ins().iadd_imm_s(half, -1);
        let number = e.array_load(array, numbers, last, F64);
        let number = e.ins().bitcast(I64, MemFlagsData::new(), number);
        let so_far = e.get(sum);
        let so_far = e.ins().iadd(so_far, depths);
        let total = e.ins().iadd(so_far, number);
        e.ret(args![total]);
    })?;
    let arguments = ["stretch", "long_lived", "array", "max"].map(|name| params.int(name)).to_vec();
    Ok(Program { func: run, arguments })
}

fn oracle(params: &Params) -> Oracle {
    let [stretch, long_lived, length, max_depth] =
        ["stretch", "long_lived", "array", "max"].map(|name| params.get(name));
    let (stretch_nodes, long_lived_nodes) = (tree_nodes(stretch), tree_nodes(long_lived));
    let mut nodes = stretch_nodes + long_lived_nodes;
    let mut sum = stretch;
    for depth in (MIN_DEPTH..=max_depth).step_by(2) {
        let trees = 2 * (2 * stretch_nodes / tree_nodes(depth));
        nodes += trees * tree_nodes(depth);
        sum += trees * depth;
    }
    // At each level there are 2^level nodes, with `long_lived - level` levels below.
    sum += (0..=long_lived).map(|level| (long_lived - level) << level).sum::<u64>();
    let last_number = 1.0 / (length / 2 - 1) as f64;

    let array_bytes = 8 + 8 * length;
    let deepest = max_depth - (max_depth - MIN_DEPTH) % 2;
    let later = (long_lived_nodes + tree_nodes(deepest)) * NODE_BYTES + array_bytes;
    Oracle {
        result: sum.wrapping_add(last_number.to_bits()) as i64,
        objects: nodes + 1,
        bytes: nodes * NODE_BYTES + array_bytes,
        peak_live_bytes: later.max(stretch_nodes * NODE_BYTES),
        stack_bytes: SHALLOW_STACK,
    }
}

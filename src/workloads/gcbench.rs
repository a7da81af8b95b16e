//! Trees of two lifetimes, built in both directions, and a large array of numbers.
//!
//! After the benchmark that John Ellis and Pete Kovac of Post Communications wrote and Hans Boehm
//! made known. Its trees are built top down (parents are older than children, so that stores make
//! old objects refer to young ones) and bottom up. Here every node also holds the depth of what is
//! below it, so that the result depends on the trees.

use cranelift_codegen::ir::{
    InstBuilder, MemFlagsData, Value,
    types::{F64, I32, I64},
};

use super::{BuildError, Oracle, Param, Params, Program, SHALLOW_STACK, Workload, tree_nodes};
use crate::args;
use crate::heap::{Field, LayoutId, Record, RefField};
use crate::jit::{self, Emit, Func, Module, REF, Ref, Signature};

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

/// A node's layout and fields.
#[derive(Clone, Copy)]
struct Node {
    layout: LayoutId,
    left: RefField,
    right: RefField,
    depth: Field,
}

fn build(module: &mut Module, params: &Params) -> Result<Program, BuildError> {
    let mut record = Record::new("node");
    let left = record.reference("left");
    let right = record.reference("right");
    let depth = record.scalar("depth", 4)?;
    let _unused = record.scalar("unused", 4)?;
    let node = Node { layout: module.record(record)?, left, right, depth };
    let numbers = module.scalars("numbers", 8)?;

    let new_node = new_node(module, node)?;
    let top_down = top_down(module, node, new_node)?;
    let bottom_up = bottom_up(module, new_node)?;
    let sum_depths = sum_depths(module, node)?;
    let churn = churn(module, node, [top_down, bottom_up])?;

    let int = I64.into();
    let run = module.function("run", Signature::new([int; 4], [int]), |e| {
        let [stretch, long_lived_depth, length, max_depth] = [0, 1, 2, 3].map(|at| e.param(at));
        let tree = e.call(bottom_up, args![stretch]).reference();
        let sum = depth_of(e, node, tree);

        let long_lived = e.call(top_down, args![long_lived_depth]).reference();
        let array = e.new_array(numbers, length);
        let (zero, half) = (e.int(I64, 0), e.ins().ushr_imm_u(length, 1));
        e.for_range(zero, half, |e, index| {
            let one = e.ins().f64const(1.0);
            let divisor = e.ins().fcvt_from_sint(F64, index);
            let number = e.ins().fdiv(one, divisor);
            e.array_store(array, numbers, index, number);
        });

        let of_churn = e.call(churn, args![stretch, max_depth]).scalar();
        let depths = e.call(sum_depths, args![long_lived]).scalar();
        let last = e.ins().iadd_imm_s(half, -1);
        let number = e.array_load(array, numbers, last, F64);
        let number = e.ins().bitcast(I64, MemFlagsData::new(), number);
        let sum = e.ins().iadd(sum, of_churn);
        let sum = e.ins().iadd(sum, depths);
        let sum = e.ins().iadd(sum, number);
        e.ret(args![sum]);
    })?;
    let arguments = ["stretch", "long_lived", "array", "max"].map(|name| params.int(name)).to_vec();
    Ok(Program { func: run, arguments })
}

/// new_node(depth, left, right)
fn new_node(module: &mut Module, node: Node) -> Result<Func, jit::Error> {
    module.function("new_node", Signature::new([I64.into(), REF, REF], [REF]), |e| {
        let (depth, left, right) = (e.param(0), e.ref_param(1), e.ref_param(2));
        let (depth, zero) = (e.ins().ireduce(I32, depth), e.int(I32, 0));
        let node = e.new_record(node.layout, args![left, right, depth, zero]);
        e.ret(args![node]);
    })
}

/// top_down(depth): a tree of which each node is older than its children.
fn top_down(module: &mut Module, node: Node, new_node: Func) -> Result<Func, jit::Error> {
    // populate(depth, tree): gives `tree`, a leaf, `depth` levels below it.
    let populate = module.declare("populate", Signature::new([I64.into(), REF], []))?;
    module.define(populate, |e| {
        let (depth, tree) = (e.param(0), e.ref_param(1));
        e.if_then(depth, |e| {
            let (below, null) = (e.ins().iadd_imm_s(depth, -1), e.null());
            for side in [node.left, node.right] {
                let child = e.call(new_node, args![below, null, null]).reference();
                e.store_ref(tree, side, child);
            }
            for side in [node.left, node.right] {
                let child = e.load_ref(tree, side);
                e.call(populate, args![below, child]);
            }
        });
    })?;
    module.function("top_down", Signature::new([I64.into()], [REF]), |e| {
        let (depth, null) = (e.param(0), e.null());
        let tree = e.call(new_node, args![depth, null, null]).reference();
        e.call(populate, args![depth, tree]);
        e.ret(args![tree]);
    })
}

/// bottom_up(depth): a tree of which each node is younger than its children.
fn bottom_up(module: &mut Module, new_node: Func) -> Result<Func, jit::Error> {
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
    Ok(bottom_up)
}

/// sum_depths(tree): the sum of the depths in all nodes.
fn sum_depths(module: &mut Module, node: Node) -> Result<Func, jit::Error> {
    let sum_depths = module.declare("sum_depths", Signature::new([REF], [I64.into()]))?;
    module.define(sum_depths, |e| {
        let (tree, zero) = (e.ref_param(0), e.int(I64, 0));
        let is_null = e.is_null(tree);
        e.if_then(is_null, |e| e.ret(args![zero]));
        let mut sum = depth_of(e, node, tree);
        for side in [node.left, node.right] {
            let child = e.load_ref(tree, side);
            let below = e.call(sum_depths, args![child]).scalar();
            sum = e.ins().iadd(sum, below);
        }
        e.ret(args![sum]);
    })?;
    Ok(sum_depths)
}

/// churn(stretch, max): for each second depth up to `max`, short-lived trees of twice as many nodes
/// as the stretch tree has, built by each of `builders`; the sum of the depths in their roots.
fn churn(module: &mut Module, node: Node, builders: [Func; 2]) -> Result<Func, jit::Error> {
    let int = I64.into();
    let tree_nodes = |e: &mut Emit, depth| {
        let two = e.int(I64, 2);
        let nodes = e.ins().ishl(two, depth);
        e.ins().iadd_imm_s(nodes, -1)
    };
    module.function("churn", Signature::new([int; 2], [int]), |e| {
        let (stretch, max_depth, zero) = (e.param(0), e.param(1), e.int(I64, 0));
        let sum = e.var(zero);
        let (first, end) = (e.int(I64, MIN_DEPTH as i64), e.ins().iadd_imm_s(max_depth, 1));
        e.for_range_step(first, end, 2, |e, depth| {
            let (stretch_nodes, nodes) = (tree_nodes(e, stretch), tree_nodes(e, depth));
            let twice = e.ins().ishl_imm_u(stretch_nodes, 1);
            let iterations = e.ins().udiv(twice, nodes);
            for build in builders {
                e.for_range(zero, iterations, |e, _| {
                    let tree = e.call(build, args![depth]).reference();
                    let (so_far, of_root) = (e.get(sum), depth_of(e, node, tree));
                    let so_far = e.ins().iadd(so_far, of_root);
                    e.set(sum, so_far);
                });
            }
        });
        let sum = e.get(sum);
        e.ret(args![sum]);
    })
}

/// The depth in a node, as an I64.
fn depth_of(e: &mut Emit, node: Node, tree: Ref) -> Value {
    let depth = e.load(tree, node.depth, I32);
    e.ins().uextend(I64, depth)
}

fn oracle(params: &Params) -> Oracle {
    let [stretch, long_lived, length, max_depth] =
        ["stretch", "long_lived", "array", "max"].map(|name| params.get(name));
    let (stretch_nodes, long_lived_nodes) = (tree_nodes(stretch), tree_nodes(long_lived));
    let mut nodes = stretch_nodes + long_lived_nodes;
    let mut sum = stretch;
    let mut largest_short_lived = 0;
    for depth in (MIN_DEPTH..=max_depth).step_by(2) {
        let trees = 2 * (2 * stretch_nodes / tree_nodes(depth));
        nodes += trees * tree_nodes(depth);
        if trees > 0 {
            largest_short_lived = tree_nodes(depth);
        }
        sum += trees * depth;
    }
    // At each level there are 2^level nodes, with `long_lived - level` levels below.
    sum += (0..=long_lived).map(|level| (long_lived - level) << level).sum::<u64>();
    let last_number = 1.0 / (length / 2 - 1) as f64;

    let array_bytes = 8 + 8 * length;
    let later = (long_lived_nodes + largest_short_lived) * NODE_BYTES + array_bytes;
    Oracle {
        result: sum.wrapping_add(last_number.to_bits()) as i64,
        objects: nodes + 1,
        bytes: nodes * NODE_BYTES + array_bytes,
        peak_live_bytes: later.max(stretch_nodes * NODE_BYTES),
        stack_bytes: SHALLOW_STACK,
    }
}

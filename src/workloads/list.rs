//! One long chain, copied in reverse again and again: no two loads of a traversal can overlap.

use cranelift_codegen::ir::{InstBuilder, types::I64};

use super::{BuildError, Oracle, Param, Params, Program, SHALLOW_STACK, Workload};
use crate::args;
use crate::heap::Record;
use crate::jit::{Module, REF, Signature};

const NODE_BYTES: u64 = 24;
/// The list's checksum is a polynomial in this, so that it depends on the order.
const BASE: i64 = 31;

/// See the module.
pub const WORKLOAD: Workload = Workload {
    name: "list",
    stresses: "one chain: no memory parallelism when it is traced",
    params: &[
        Param { name: "nodes", default: 1_000_000, quick: 20_000, range: 1..=100_000_000 },
        Param { name: "rounds", default: 20, quick: 10, range: 0..=10_000 },
    ],
    build,
    oracle,
};

fn build(module: &mut Module, params: &Params) -> Result<Program, BuildError> {
    let mut node = Record::new("node");
    let value = node.scalar("value", 8)?;
    let next = node.reference("next");
    let node = module.record(node)?;

    // The list of the numbers below `count`, the largest first.
    let count_down = module.function("count_down", Signature::new([I64.into()], [REF]), |e| {
        let (zero, count, null) = (e.int(I64, 0), e.param(0), e.null());
        let list = e.ref_var(null);
        e.for_range(zero, count, |e, number| {
            let rest = e.get_ref(list);
            let longer = e.new_record(node, args![number, rest]);
            e.set_ref(list, longer);
        });
        let list = e.get_ref(list);
        e.ret(args![list]);
    })?;

    let reverse = module.function("reverse", Signature::new([REF], [REF]), |e| {
        let (null, list) = (e.null(), e.ref_param(0));
        let (rest, reversed) = (e.ref_var(list), e.ref_var(null));
        e.while_loop(
            |e| {
                let rest = e.get_ref(rest);
                e.is_present(rest)
            },
            |e| {
                let first = e.get_ref(rest);
                let number = e.load(first, value, I64);
                let tail = e.load_ref(first, next);
                e.set_ref(rest, tail);
                let so_far = e.get_ref(reversed);
                let longer = e.new_record(node, args![number, so_far]);
                e.set_ref(reversed, longer);
            },
        );
        let reversed = e.get_ref(reversed);
        e.ret(args![reversed]);
    })?;

    let checksum = module.function("checksum", Signature::new([REF], [I64.into()]), |e| {
        let (zero, list) = (e.int(I64, 0), e.ref_param(0));
        let (rest, sum) = (e.ref_var(list), e.var(zero));
        e.while_loop(
            |e| {
                let rest = e.get_ref(rest);
                e.is_present(rest)
            },
            |e| {
                let first = e.get_ref(rest);
                let (number, so_far) = (e.load(first, value, I64), e.get(sum));
                let so_far = e.ins().imul_imm_s(so_far, BASE);
                let so_far = e.ins().iadd(so_far, number);
                e.set(sum, so_far);
                let tail = e.load_ref(first, next);
                e.set_ref(rest, tail);
            },
        );
        let sum = e.get(sum);
        e.ret(args![sum]);
    })?;

    let int = I64.into();
    let run = module.function("run", Signature::new([int, int], [int]), |e| {
        let (nodes, rounds, zero) = (e.param(0), e.param(1), e.int(I64, 0));
        let list = e.call(count_down, args![nodes]).reference();
        let list = e.ref_var(list);
        e.for_range(zero, rounds, |e, _| {
            let before = e.get_ref(list);
            let after = e.call(reverse, args![before]).reference();
            e.set_ref(list, after);
        });
        let list = e.get_ref(list);
        let sum = e.call(checksum, args![list]).scalar();
        e.ret(args![sum]);
    })?;
    let arguments = vec![params.int("nodes"), params.int("rounds")];
    Ok(Program { func: run, arguments })
}

fn oracle(params: &Params) -> Oracle {
    let (nodes, rounds) = (params.get("nodes"), params.get("rounds"));
    let fold = |sum: i64, number: u64| sum.wrapping_mul(BASE).wrapping_add(number as i64);
    let result = if rounds.is_multiple_of(2) {
        (0..nodes).rev().fold(0, fold)
    } else {
        (0..nodes).fold(0, fold)
    };
    let objects = nodes * (rounds + 1);
    Oracle {
        result,
        objects,
        bytes: objects * NODE_BYTES,
        // What is reversed already is garbage; one node is held while it is copied.
        peak_live_bytes: (nodes + u64::from(rounds > 0)) * NODE_BYTES,
        stack_bytes: SHALLOW_STACK,
    }
}

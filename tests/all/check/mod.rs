//! The check at definition time, on CLIF as text: each rule broken, and kept. Here, values over
//! safepoints, and what a finding is.

mod built;
mod derived;
mod slots;

use cranelift_codegen::ir::{Function, Value};
use cranelift_codegen::{settings, verify_function};
use tospace::jit::check;

/// A function with this body, two parameters, and something to call: `fn0` takes and gives nothing,
/// `fn1` takes a word, `fn2` gives one.
fn function(body: &str) -> Function {
    let text = format!(
        "function %f(i64, i64) -> i64 tail {{
            ss0 = explicit_slot 16
            ss1 = explicit_slot 16
            sig0 = () tail
            sig1 = (i64) tail
            sig2 = () -> i64 tail
            fn0 = %collect sig0
            fn1 = %take sig1
            fn2 = %give sig2
            {body}
        }}"
    );
    let functions = cranelift_reader::parse_functions(&text);
    let function = functions.unwrap_or_else(|error| panic!("{error}\n{text}")).remove(0);
    let flags = settings::Flags::new(settings::builder());
    verify_function(&function, &flags).unwrap_or_else(|error| panic!("{error}\n{text}"));
    function
}

/// What the check finds in a function in which `references` are references: kind, value, and the
/// instruction up to its arguments.
fn found(references: &[u32], body: &str) -> Vec<String> {
    let references = references.iter().map(|&number| Value::from_u32(number));
    let findings = check(&function(body), references).into_iter();
    let brief = findings.map(|finding| {
        let text = finding.text.split('(').next().unwrap();
        format!("{:?} {}, {text}", finding.kind, finding.value)
    });
    brief.collect()
}

/// `expected` is found in `body` with `wrong` for `{}`, and nothing with `right`.
fn wrong_and_right(references: &[u32], body: &str, wrong: &str, expected: &[&str], right: &str) {
    assert_eq!(found(references, &body.replace("{}", wrong)), expected, "{wrong}");
    assert_eq!(found(references, &body.replace("{}", right)), [""; 0], "{right}");
}

#[test]
fn a_value_over_a_call() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            {}",
        "call fn0()
            return v0",
        &["Reference v0, call fn0"],
        "v2 = stack_addr.i64 ss0
            store v0, v2
            call fn0(), stack_map=[i64 @ ss0+0]
            v3 = load.i64 v2
            return v3",
    );
}

#[test]
fn a_value_that_is_in_the_map_and_not_loaded_again() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v0, v2
            call fn0(), stack_map=[i64 @ ss0+0]
            v3 = load.i64 v2
            return {}",
        "v0",
        &["Reference v0, call fn0"],
        "v3",
    );
}

#[test]
fn arguments_and_what_is_dead_do_not_cross() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            call fn1(v0)
            {}
            return v1",
        "call fn1(v0)",
        &["Reference v0, call fn1"],
        "call fn1(v1)",
    );
    // What a call gives, it gives afterwards.
    wrong_and_right(
        &[0, 2],
        "block0(v0: i64, v1: i64):
            v2 = call fn2()
            {}
            return v2",
        "call fn0()",
        &["Reference v2, call fn0"],
        "",
    );
}

#[test]
fn a_tail_call_is_no_safepoint() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = call fn2()
            {}
            return_call_indirect sig2, v2()",
        "store v0, v1",
        &["Reference v0, v2 = call fn2"],
        "",
    );
}

#[test]
fn an_indirect_call_is_a_safepoint() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            call_indirect sig1, v1(v0)
            return {}",
        "v0",
        &["Reference v0, call_indirect.i64 sig1, v1"],
        "v1",
    );
}

#[test]
fn a_value_that_is_used_on_one_branch_only() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            call fn0()
            brif v1, block1, block2
        block1:
            return {}
        block2:
            return v1",
        "v0",
        &["Reference v0, call fn0"],
        "v1",
    );
    let call_on_the_other = "block0(v0: i64, v1: i64):
            brif v1, block1, block2
        block1:
            call fn0()
            return v1
        block2:
            return v0";
    assert_eq!(found(&[0], call_on_the_other), [""; 0]);
}

#[test]
fn a_value_over_the_edges_of_a_try_call() {
    let body = "block0(v0: i64, v1: i64):
            try_call fn0(), sig0, block1({normal}), [ default: block2(exn0, exn1, {handler}) ]
        block1(v2: i64):
            return v2
        block2(v3: i64, v4: i64, v5: i64):
            return v5";
    for (normal, handler, crosses) in
        [("v1", "v1", false), ("v0", "v1", true), ("v1", "v0", true), ("v0", "v0", true)]
    {
        let body = body.replace("{normal}", normal).replace("{handler}", handler);
        let expected = if crosses { &["Reference v0, try_call fn0"][..] } else { &[] };
        assert_eq!(found(&[0], &body), expected, "{body}");
    }
    // Only an argument of the call, not of its edges.
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            try_call fn1(v0), sig1, block1, [ default: block2(exn0, exn1) ]
        block1:
            return {}
        block2(v3: i64, v4: i64):
            return v1",
        "v0",
        &["Reference v0, try_call fn1"],
        "v1",
    );
    // A parameter that nobody uses needs nothing.
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            try_call_indirect v1(), sig0, block1(v0), [ tag1: block2(exn0, exn1) ]
        block1(v2: i64):
            return {}
        block2(v3: i64, v4: i64):
            return v1",
        "v2",
        &["Reference v0, try_call_indirect.i64 v1"],
        "v1",
    );
}

#[test]
fn the_context_of_an_exception_table_is_read_during_the_call() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            try_call fn0(), sig0, block1, [ context {}, default: block2(exn0, exn1) ]
        block1:
            return v1
        block2(v3: i64, v4: i64):
            return v1",
        "v0",
        &["Reference v0, try_call fn0"],
        "v1",
    );
}

#[test]
fn what_follows_from_a_reference_is_one() {
    let body = "block0(v0: i64, v1: i64):
            v9 = iconst.i64 0
            {}
            call fn0()
            return v2";
    for follows in [
        "v2 = select v1, v0, v9",
        "v2 = select_spectre_guard v1, v9, v0",
        "v3 = bitcast.f64 v0\n v2 = bitcast.i64 v3",
        "brif v1, block1(v0), block1(v9)\n block1(v2: i64):",
        "jump block1(v9, v0)\n block1(v2: i64, v4: i64):\n brif v1, block1(v4, v4), block2\n block2:",
        "v2 -> v0",
    ] {
        let right = "v2 = select v0, v1, v9";
        let value = if follows.contains("->") { "v0" } else { "v2" };
        let expected = format!("Reference {value}, call fn0");
        wrong_and_right(&[0], body, follows, &[&expected], right);
    }
}

#[test]
fn a_reference_around_a_loop() {
    wrong_and_right(
        &[0, 4],
        "block0(v0: i64, v1: i64):
            jump block1(v0, v1)
        block1(v2: i64, v3: i64):
            v4 = load.i64 notrap v2+8
            call fn0()
            v5 = iadd v3, v3
            brif v5, block1({}, v5), block2
        block2:
            return v5",
        "v4",
        &["Reference v4, call fn0"],
        "v5",
    );
    // It comes from nowhere else.
    wrong_and_right(
        &[4],
        "block0(v0: i64, v1: i64):
            v9 = iconst.i64 0
            jump block1(v9)
        block1(v2: i64):
            v3 = select v1, v9, v2
            call fn0()
            store v3, v1
            v4 = call fn2()
            brif v1, block1({}), block2
        block2:
            return v1",
        "v4",
        &["Reference v3, call fn0"],
        "v1",
    );
    // Nobody reads what goes around here.
    let unused = "block0(v0: i64, v1: i64):
            jump block1(v0)
        block1(v2: i64):
            call fn0()
            brif v1, block1(v2), block2
        block2:
            return v1";
    assert_eq!(found(&[0], unused), [""; 0]);
}

#[test]
fn loops_with_two_entries_and_tables() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            brif v1, block1, block2
        block1:
            call fn0()
            brif v1, block2, block3
        block2:
            v2 = ireduce.i32 v1
            br_table v2, block3, [block1, block4]
        block3:
            return v1
        block4:
            return {}",
        "v0",
        &["Reference v0, call fn0"],
        "v1",
    );
}

#[test]
fn unreachable_code_does_not_matter() {
    let body = "block0(v0: i64, v1: i64):
            return v1
        block1(v2: i64):
            call fn0()
            jump block1(v2)";
    assert_eq!(found(&[0, 2], body), [""; 0]);
}

#[test]
fn constants_do_not_matter() {
    wrong_and_right(
        &[2],
        "block0(v0: i64, v1: i64):
            v2 = {}
            v3 = stack_addr.i64 ss0
            store v2, v3
            call fn0(), stack_map=[i64 @ ss0+0]
            call fn0()
            return v2",
        "load.i64 v1",
        &["Reference v2, call fn0", "Reference v2, call fn0"],
        "iconst.i64 0",
    );
}

#[test]
fn loads_from_the_heap_that_can_move() {
    let body = "block0(v0: i64, v1: i64):
            v2 = iadd v0, v1
            v3 = stack_addr.i64 ss0
            store v1, v3
            v9 = load.i64 {}
            return v9";
    for (wrong, address) in [
        ("notrap aligned readonly can_move v0", "v0"),
        ("notrap can_move v0+16", "v0"),
        ("readonly can_move v2", "v2"),
    ] {
        let expected = format!("MovableLoad {address}, v9 = load.i64 {wrong}");
        for right in [
            "notrap aligned readonly v0",
            "notrap aligned readonly can_move v1",
            "notrap aligned readonly can_move v3",
        ] {
            wrong_and_right(&[0], body, wrong, &[&expected], right);
        }
    }
}

#[test]
fn each_value_at_each_safepoint_in_order() {
    let body = "block0(v0: i64, v1: i64):
            v3 -> v0
            v4 = load.i64 notrap readonly can_move v0
            call fn1(v4)
            jump block2
        block1:
            call fn0()
            return v0
        block2:
            call fn1(v3)
            brif v1, block1, block3
        block3:
            return v1";
    let expected = [
        "MovableLoad v0, v4 = load.i64 notrap readonly can_move v0",
        "Reference v0, call fn1",
        "Reference v1, call fn1",
        "Reference v0, call fn0",
        "Reference v0, call fn1",
        "Reference v1, call fn1",
    ];
    assert_eq!(found(&[0, 1, 0, 3], body), expected);
}

#[test]
fn a_finding_says_what_to_do() {
    let body = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = iadd v0, v1
            v4 = load.i64 can_move v0
            store v0, v2
            call fn1(v4)
            v5 = load.i64 v2
            store v5, v3
            return v0";
    let findings = check(&function(body), [Value::from_u32(0)]);
    let text: Vec<_> = findings.iter().map(|finding| finding.to_string()).collect();
    let expected = [
        "`v4 = load.i64 can_move v0` (inst2, block0) reads the heap through v0 and may be moved \
         over a safepoint: leave out `can_move`",
        "v0 is a reference and is used after `call fn1(v4)` (inst4, block0) without being in its \
         stack map: declare it, or load it again from where the map says",
        "v0 is a reference in ss0+0, which is loaded after `call fn1(v4)` (inst4, block0) without \
         being in its stack map: add the entry",
        "v3 is computed from a reference and is used after `call fn1(v4)` (inst4, block0), which \
         may move the object: compute it again from the reference",
    ];
    assert_eq!(text, expected);
}

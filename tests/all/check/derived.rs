//! What is computed from a reference: pointers, and numbers.

use super::{found, wrong_and_right};

/// `v9`, which `definition` makes of the reference `v0` and the number `v1`, is used after a call.
fn over_a_call(definition: &str) -> Vec<String> {
    let body = format!(
        "block0(v0: i64, v1: i64):
            {definition}
            call fn0()
            return v9"
    );
    found(&[0], &body)
}

#[test]
fn derived_pointers_over_a_call() {
    for derived in [
        "v9 = iadd v0, v1",
        "v9 = iadd v1, v0",
        "v9 = uadd_overflow_trap v0, v1, user1",
        "v9 = isub v0, v1",
        "v2 = iconst.i64 -8\n v9 = band v0, v2",
        "v2 = iconst.i64 0x0000_ffff_ffff_ffff\n v9 = band v2, v0",
        "v9 = band v0, v1",
        "v9 = bor v0, v1",
        "v9 = bxor v0, v1",
        "v9 = ishl v0, v1",
        "v2 = iconst.i64 3\n v3 = ushr v0, v2\n v4 = iconst.i64 3\n v9 = ishl v3, v4",
        "v2 = iconst.i64 16\n v3 = ishl v0, v2\n v9 = sshr v3, v2",
        "v2 = iadd v0, v1\n v3 = select v1, v2, v1\n v4 = bitcast.f64 v3\n v9 = bitcast.i64 v4",
        "v2 = iadd v0, v1\n jump block1(v2)\n block1(v9: i64):",
        "v2 = iadd v0, v1\n v3 = isub v2, v0\n v9 = iadd v0, v3",
    ] {
        assert_eq!(over_a_call(derived), ["Derived v9, call fn0"], "{derived}");
    }
}

#[test]
fn numbers_that_come_from_references() {
    for number in [
        "v9 = isub v0, v0",
        "v2 = iadd v0, v1\n v9 = isub v2, v0",
        "v9 = bxor v0, v0",
        "v2 = iconst.i64 7\n v9 = band v0, v2",
        "v2 = iconst.i64 0xffff_0000_0000_0000\n v9 = band v0, v2",
        "v2 = iconst.i64 1\n v9 = sshr v0, v2",
        "v2 = iconst.i64 1\n v3 = iconst.i64 3\n v4 = sshr v0, v2\n v9 = ishl v4, v3",
        "v2 = iconst.i64 3\n v3 = ushr v0, v2\n v9 = ushr v3, v2",
        "v2 = ushr v0, v1\n v3 = iadd v1, v1\n v9 = ishl v2, v3",
        "v2 = ireduce.i32 v0\n v9 = uextend.i64 v2",
        "v2 = icmp eq v0, v1\n v9 = uextend.i64 v2",
        "v9 = popcnt v0",
        "v9 = load.i64 v0",
    ] {
        assert_eq!(over_a_call(number), [""; 0], "{number}");
    }
    // Unless somebody says that they are references.
    let body = "block0(v0: i64, v1: i64):
            v2 = load.i64 v0
            call fn0()
            return v2";
    assert_eq!(found(&[0, 2], body), ["Reference v2, call fn0"]);
}

#[test]
fn references_that_are_packed() {
    for packed in
        ["iconcat v0, v1", "splat.i64x2 v0", "scalar_to_vector.i64x2 v0", "insertlane v3, v0, 1"]
    {
        let body = format!(
            "block0(v0: i64, v1: i64):
                v3 = load.i64x2 v1
                v4 = {packed}
                {{}}
                store v4, v1
                return v1"
        );
        wrong_and_right(&[0], &body, "call fn0()", &["Derived v4, call fn0"], "");
    }
}

/// In a register and in a slot: that is one finding.
#[test]
fn a_derived_pointer_in_two_places() {
    let body = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = iadd v0, v1
            store v3, v2
            call fn0()
            v4 = load.i64 v2
            store v4, v3
            return v1";
    assert_eq!(found(&[0], body), ["Derived v3, call fn0"]);
}

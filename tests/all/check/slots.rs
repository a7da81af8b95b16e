//! References in stack slots, and the maps that name them.

use super::{found, wrong_and_right};

#[test]
fn a_slot_and_the_map_that_should_name_it() {
    let body = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0+8
            store v0, v2
            call fn0(){}
            v3 = load.i64 v2
            return v3";
    let right = ", stack_map=[i64 @ ss0+8]";
    for wrong in
        ["", ", stack_map=[i64 @ ss0+0]", ", stack_map=[i64 @ ss1+8]", ", stack_map=[i32 @ ss0+8]"]
    {
        let expected = "Slot { slot: ss0, offset: 8 } v0, call fn0";
        wrong_and_right(&[0], body, wrong, &[expected], right);
    }
}

#[test]
fn a_slot_over_several_calls() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v0, v2
            call fn0(), stack_map=[i64 @ ss0+0]
            call fn1(v1){}
            v3 = load.i64 v2
            return v3",
        "",
        &["Slot { slot: ss0, offset: 0 } v0, call fn1"],
        ", stack_map=[i64 @ ss0+0]",
    );
}

#[test]
fn a_slot_that_nobody_reads_again() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v0, v2
            v3 = load.i64 v2
            call fn1(v3)
            {}
            v4 = load.i64 v2
            return v4",
        "",
        &["Slot { slot: ss0, offset: 0 } v0, call fn1"],
        "store v1, v2",
    );
}

#[test]
fn a_slot_that_holds_something_else_by_then() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v0, v2
            {}
            call fn0()
            v3 = load.i64 v2
            return v3",
        "store v1, v2+8",
        &["Slot { slot: ss0, offset: 0 } v0, call fn0"],
        "store v1, v2",
    );
}

#[test]
fn a_slot_around_a_loop() {
    wrong_and_right(
        &[3],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v1, v2
            jump block1
        block1:
            jump block2
        block2:
            call fn0()
            v4 = load.i64 v2
            v3 = call fn2()
            store {}, v2
            brif v1, block1, block3
        block3:
            return v1",
        "v3",
        &["Slot { slot: ss0, offset: 0 } v3, call fn0"],
        "v1",
    );
}

#[test]
fn a_slot_on_one_branch() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = iconst.i64 8
            v4 = iadd v3, v2
            store v1, v2+8
            brif v1, block1, block2
        block1:
            store v0, {}
            jump block2
        block2:
            call fn0()
            v5 = load.i64 v4
            return v5",
        "v4",
        &["Slot { slot: ss0, offset: 8 } v0, call fn0"],
        "v2",
    );
}

#[test]
fn what_a_slot_holds_is_what_was_stored() {
    wrong_and_right(
        &[0],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store {}, v2
            v3 = load.i64 v2
            call fn0()
            return v3",
        "v0",
        &["Reference v3, call fn0"],
        "v1",
    );
    let derived = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = iadd v0, v1
            store v3, v2
            call fn0()
            v4 = load.i64 v2
            return v4";
    assert_eq!(found(&[0], derived), ["Derived v3, call fn0"]);
}

/// Nobody says which values are references. The maps do.
#[test]
fn what_a_map_names_is_a_reference() {
    let stored = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store {}, v2
            call fn0(), stack_map=[i64 @ ss0+0]
            v3 = load.i64 v2
            return v0";
    wrong_and_right(&[], stored, "v0", &["Reference v0, call fn0"], "v1");
    let loaded = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            store v0, v2
            call fn0(), stack_map=[i64 @ ss0+0]
            v3 = load.i64 v2
            call fn1(v1)
            return {}";
    wrong_and_right(&[], loaded, "v3", &["Reference v3, call fn1"], "v1");
}

/// Others may read and write it: that is how a list of frames works that the collector knows.
#[test]
fn a_slot_whose_address_goes_elsewhere() {
    let body = "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = stack_addr.i64 ss1
            v4 = iconst.i64 8
            v5 = iadd v2, v4
            store v0, v2
            {}
            call fn0()
            v9 = load.i64 v2
            return v9";
    for elsewhere in ["call fn1(v5)", "store v2, v1", "store v2, v3", "v6 = iadd v2, v1"] {
        let expected = "Slot { slot: ss0, offset: 0 } v0, call fn0";
        wrong_and_right(&[0], body, "store v1, v5", &[expected], elsewhere);
    }
}

/// It holds null when its address is given away, and what the collector finds there comes back.
#[test]
fn a_slot_that_others_fill() {
    wrong_and_right(
        &[],
        "block0(v0: i64, v1: i64):
            v2 = stack_addr.i64 ss0
            v3 = iconst.i64 0
            store v3, v2
            call fn1(v2), stack_map=[i64 @ ss0+0]
            v4 = load.i64 {}
            call fn0()
            return v4",
        "v2",
        &["Reference v4, call fn0"],
        "v2+8",
    );
}

#[test]
fn references_of_other_sizes() {
    let narrow = "block0(v0: i64, v1: i64):
            v2 = load.i32 v1
            v3 = stack_addr.i64 ss1+4
            store v2, v3
            call fn0(), stack_map=[i32 @ ss1+4]
            v4 = load.i32 v3
            v5 = uextend.i64 {}
            v6 = iadd v1, v5
            return v6";
    wrong_and_right(&[2], narrow, "v2", &["Reference v2, call fn0"], "v4");
    let expanded = "block0(v0: i64, v1: i64):
            v2 = load.i32 v1
            v3 = uextend.i64 v2
            v4 = iadd v1, v3
            call fn0()
            return {}";
    wrong_and_right(&[2], expanded, "v4", &["Derived v4, call fn0"], "v1");
    let wide = "block0(v0: i64, v1: i64):
            v2 = iconcat v0, v1
            v3 = stack_addr.i64 ss0
            store v2, v3
            call fn0(){}
            v4 = load.i128 v3
            v5, v6 = isplit v4
            return v5";
    let expected = "Slot { slot: ss0, offset: 0 } v2, call fn0";
    wrong_and_right(
        &[2],
        wide,
        ", stack_map=[i64 @ ss0+0]",
        &[expected],
        ", stack_map=[i128 @ ss0+0]",
    );
    let without_a_map = wide.replace("{}", "");
    assert_eq!(found(&[0], &without_a_map), ["Derived v2, call fn0"]);
}

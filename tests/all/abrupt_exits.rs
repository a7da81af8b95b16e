//! Leaving compiled code abruptly: the activations are right afterwards, whoever is still active goes
//! on, and the next collection finds every root.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, Semispace};
use tospace::heap::{AllocationBuffer, Cycle, Layouts, Observer, Roots};
use tospace::jit::{Context, Func, Signature};
use tospace::{CallError, Mutator, TrapKind, Val, args};

use crate::altered::{Alteration, Altered};
use crate::support::{boxes, int, mutator};

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
    static INNER: Cell<Option<Func>> = const { Cell::new(None) };
}

/// Collections panic when they are half done.
struct Panics;

impl Alteration for Panics {
    unsafe fn collect(
        semispace: &mut Semispace,
        roots: &impl Roots,
        layouts: &Layouts,
        buffer: &mut AllocationBuffer,
        observer: &mut impl Observer,
    ) -> Cycle {
        // SAFETY: the caller's promise.
        unsafe { semispace.collect(roots, layouts, buffer, observer) };
        panic!("in the middle");
    }
}

type Fragile = Altered<Panics>;

/// Enters `inner`, which does not return; says how it ended.
extern "C" fn enter_inner(context: *mut Context) -> i64 {
    // SAFETY: the host function that the exit trampoline called, with its context.
    let mutator = unsafe { Mutator::<Semispace>::from_context(context) };
    let inner = INNER.get().expect("set before the call");
    match panic::catch_unwind(AssertUnwindSafe(|| mutator.call(inner, &[]))) {
        Ok(Ok(_)) => 0,
        Ok(Err(CallError::Trap(trap))) if matches!(trap.kind, TrapKind::ArrayLength { .. }) => 1,
        Ok(Err(_)) => 2,
        Err(_) => 3,
    }
}

struct Program {
    mutator: Mutator<Semispace>,
    outer: Func,
}

/// outer(n): holds box n while `inner` ends abruptly, collects, and gives 10 n plus how it ended.
/// inner: holds a box and asks for an array of negative length, after a collection if `collects`.
fn program(collects: bool) -> Program {
    let mut boxes = boxes(Semispace::ATTRS);
    let (module, layout, number) = (&mut boxes.module, boxes.layout, boxes.number);
    let numbers = module.scalars("numbers", 8).unwrap();
    let may_panic = module
        .host_function("may_panic", Signature::default(), |_, _| {
            assert!(!PANICS.get(), "the host panics");
            Ok(vec![])
        })
        .unwrap();
    let inner = module
        .function("inner", Signature::default(), |e| {
            let own = e.int(I64, 77);
            let held = e.new_record(layout, args![own]);
            e.call(may_panic, args![]);
            if collects {
                e.collect();
            }
            let minus = e.int(I64, -1);
            e.new_array(numbers, minus);
            e.load(held, number, I64);
        })
        .unwrap();
    INNER.set(Some(inner));
    let enter = Signature::new([], [I64.into()]);
    // SAFETY: the function has this signature and does not unwind.
    let enter =
        unsafe { module.declare_host("enter_inner", enter, enter_inner as *const c_void) }.unwrap();
    let outer = module
        .function("outer", Signature::new([I64.into()], [I64.into()]), |e| {
            let own = e.param(0);
            let held = e.new_record(layout, args![own]);
            let ended = e.call(enter, args![]).scalar();
            e.collect();
            let own = e.load(held, number, I64);
            let tens = e.ins().imul_imm_s(own, 10);
            let sum = e.ins().iadd(tens, ended);
            e.ret(args![sum]);
        })
        .unwrap();
    Program { mutator: mutator::<Semispace>(boxes.module, 1 << 20), outer }
}

#[test]
fn an_inner_trap_leaves_the_outer_activation_intact() {
    PANICS.set(false);
    let Program { mut mutator, outer } = program(true);
    for round in 0..100 {
        let result = int(mutator.call(outer, &[Val::I64(round)]).expect("the outer call returns"));
        assert_eq!(result, 10 * round + 1);
        // Round by round: one collection in `inner`, one after it with only the outer box.
        let statistics = mutator.statistics();
        assert_eq!(statistics.collections, 2 * (round as u64 + 1));
        assert_eq!(statistics.live_bytes_last, 16);
    }
}

#[test]
fn an_inner_panic_leaves_the_outer_activation_intact() {
    let Program { mut mutator, outer } = program(true);
    PANICS.set(true);
    let result = int(mutator.call(outer, &[Val::I64(5)]).expect("the outer call returns"));
    assert_eq!(result, 53);
    assert_eq!(mutator.statistics().live_bytes_last, 16);
    PANICS.set(false);
    let result = int(mutator.call(outer, &[Val::I64(6)]).expect("the outer call returns"));
    assert_eq!(result, 61);
}

#[test]
fn a_panic_comes_out_of_call_as_the_same_panic() {
    let Program { mut mutator, outer } = program(false);
    let inner = INNER.get().expect("the program sets it");
    PANICS.set(true);
    let call = AssertUnwindSafe(|| mutator.call(inner, &[]));
    let panic = panic::catch_unwind(call).expect_err("the host panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the host panics"));
    PANICS.set(false);
    let result = int(mutator.call(outer, &[Val::I64(6)]).expect("it can be used again"));
    assert_eq!(result, 61);
}

#[test]
fn out_of_a_function_with_arguments_on_the_stack() {
    const COUNT: usize = 24;
    let mut boxes = boxes(Semispace::ATTRS);
    let numbers = boxes.module.scalars("numbers", 8).unwrap();
    let signature = || Signature::new([I64.into(); COUNT], [I64.into(); 3]);
    // Sums up its arguments; the last one is also an array's length.
    let many = boxes
        .module
        .function("many", signature(), |e| {
            let length = e.param(COUNT - 1);
            e.new_array(numbers, length);
            let mut sum = length;
            for index in 0..COUNT - 1 {
                let argument = e.param(index);
                sum = e.ins().iadd(sum, argument);
            }
            let (first, one_before) = (e.param(0), e.param(COUNT - 2));
            e.ret(args![sum, first, one_before]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    for _ in 0..50 {
        let mut arguments: Vec<Val> = (1..=COUNT as i64).map(Val::I64).collect();
        let sum = (COUNT * (COUNT + 1) / 2) as i64;
        let results = mutator.call(many, &arguments).expect("a length of 24");
        assert_eq!(results, [Val::I64(sum), Val::I64(1), Val::I64(COUNT as i64 - 1)]);
        arguments[COUNT - 1] = Val::I64(-1);
        assert!(matches!(mutator.call(many, &arguments), Err(CallError::Trap(_))));
    }
}

/// A collection that panics has moved some objects and not others: nobody sees them any more.
#[test]
fn a_collector_that_panics() {
    let mut boxes = boxes(Fragile::ATTRS);
    let (layout, global) = (boxes.layout, boxes.module.global());
    let collects = boxes
        .module
        .function("collects", Signature::default(), |e| {
            let zero = e.int(I64, 0);
            let held = e.new_record(layout, args![zero]);
            e.collect();
            e.store_global(global, held);
        })
        .unwrap();
    let mut mutator = mutator::<Fragile>(boxes.module, 1 << 20);
    let message = |call: &mut dyn FnMut()| {
        let panic = panic::catch_unwind(AssertUnwindSafe(call)).expect_err("it is lost");
        (*panic.downcast_ref::<&str>().expect("a message")).to_owned()
    };
    assert_eq!(message(&mut || drop(mutator.call(collects, &[]))), "in the middle");
    let lost = "a collection has ended in a panic: the heap is lost";
    assert_eq!(message(&mut || drop(mutator.call(collects, &[]))), lost);
    assert_eq!(message(&mut || _ = mutator.collect()), lost);
    assert_eq!(message(&mut || mutator.scope(|scope| _ = scope.load_global(global))), lost);
}

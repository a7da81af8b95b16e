//! Compiled code calls the host, which calls compiled code, and so on; the innermost collects. The
//! root in each frame of each activation is rewritten, although the host's frames in between have
//! frame pointers that lead nowhere.

use std::arch::asm;
use std::cell::RefCell;
use std::ffi::c_void;

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::jit::{Context, Func, ModuleOptions, REF, Signature};
use tospace::{CallError, HostError, Mutator, TrapKind, Val, args};

use crate::support::{boxes, boxes_with, int, mutator};

const LEVELS: i64 = 5;
/// Frames of compiled code in each activation.
const FRAMES: i64 = 3;

thread_local! {
    /// The address of each frame's object, by its number: before and after the collection.
    static SEEN: RefCell<Vec<(i64, usize)>> = const { RefCell::new(Vec::new()) };
    static OUTER: RefCell<Option<Func>> = const { RefCell::new(None) };
}

extern "C" fn note(_context: *mut Context, number: i64, object: usize) {
    SEEN.with_borrow_mut(|seen| seen.push((number, object)));
}

/// Enters compiled code again, below host frames whose frame pointer register holds garbage.
extern "C" fn reenter<C: Collector>(context: *mut Context, level: i64) -> i64 {
    extern "C" fn enter<C: Collector>(context: *mut Context, level: i64) -> i64 {
        // SAFETY: the host function that the exit trampoline called is `reenter`, which only waits.
        let mutator = unsafe { Mutator::<C>::from_context(context) };
        let outer = OUTER.with_borrow(|outer| outer.expect("set before the call"));
        int(mutator.call(outer, &[Val::I64(level)]).expect("no trap"))
    }
    let result: i64;
    // SAFETY: calls `enter` as the C ABI wants, with an aligned stack, and restores the frame
    // pointer register, which is the only one it changes that is not declared.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "push rbp", "push rbp", "mov rbp, 0x0bad0bad", "call {enter}", "pop rbp", "pop rbp",
            enter = in(reg) enter::<C> as *const c_void,
            inlateout("rdi") context => _, inlateout("rsi") level => _, lateout("rax") result,
            clobber_abi("C"),
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "stp x29, x30, [sp, #-16]!", "mov x29, #0x0bad", "blr {enter}", "ldp x29, x30, [sp], #16",
            enter = in(reg) enter::<C> as *const c_void,
            inlateout("x0") context => result, inlateout("x1") level => _,
            clobber_abi("C"),
        );
    }
    result
}

/// Runs the program; the addresses that `note` saw, by object number, in order.
fn run<C: Collector>() -> Vec<(i64, usize, usize)> {
    let mut boxes = boxes(C::ATTRS);
    let (module, layout, number) = (&mut boxes.module, boxes.layout, boxes.number);
    let int_to_int = || Signature::new([I64.into()], [I64.into()]);
    // SAFETY: both functions have these signatures, and `note` lets no collection happen.
    let (note, reenter) = unsafe {
        let note_signature = Signature::new([I64.into(), REF], []);
        let reenter = reenter::<C> as *const c_void;
        (
            module.declare_host("note", note_signature, note as *const c_void).unwrap(),
            module.declare_host("reenter", int_to_int(), reenter).unwrap(),
        )
    };

    // inner(n): n = level * FRAMES + frame. Holds box n over everything that happens below it.
    let inner = module.declare("inner", int_to_int()).unwrap();
    module
        .define(inner, |e| {
            let own_number = e.param(0);
            let own = e.new_record(layout, args![own_number]);
            e.call(note, args![own_number, own]);
            let frames = e.int(I64, FRAMES);
            let frame = e.ins().urem(own_number, frames);
            let zero = e.int(I64, 0);
            let below = e.var(zero);
            e.if_else(
                frame,
                |e| {
                    let next = e.ins().iadd_imm_s(own_number, -1);
                    let sum = e.call(inner, args![next]).scalar();
                    e.set(below, sum);
                },
                |e| {
                    let level = e.ins().udiv(own_number, frames);
                    let sum = e.call(reenter, args![level]).scalar();
                    e.set(below, sum);
                },
            );
            e.call(note, args![own_number, own]);
            let (held, below) = (e.load(own, number, I64), e.get(below));
            let sum = e.ins().iadd(held, below);
            e.ret(args![sum]);
        })
        .unwrap();

    // outer(level): collects at level 0, else holds the boxes of level - 1.
    let outer = module
        .function("outer", int_to_int(), |e| {
            let level = e.param(0);
            e.if_then(level, |e| {
                let deepest = e.ins().imul_imm_s(level, FRAMES);
                let first = e.ins().iadd_imm_s(deepest, -1);
                let sum = e.call(inner, args![first]).scalar();
                e.ret(args![sum]);
            });
            e.collect();
            let zero = e.int(I64, 0);
            e.ret(args![zero]);
        })
        .unwrap();

    OUTER.with_borrow_mut(|slot| *slot = Some(outer));
    SEEN.with_borrow_mut(Vec::clear);
    let mut mutator = mutator::<C>(boxes.module, 1 << 20);
    let sum = int(mutator.call(outer, &[Val::I64(LEVELS)]).expect("no trap"));
    let objects = LEVELS * FRAMES;
    assert_eq!(sum, objects * (objects - 1) / 2, "each frame finds the number in its own object");

    let statistics = mutator.statistics();
    assert_eq!(statistics.collections, 1);
    // Each level has its frames of `inner` and one of `outer`; the last one only `outer`.
    assert_eq!(statistics.total.frames_walked as i64, LEVELS * (FRAMES + 1) + 1);
    assert_eq!(statistics.total.slots_visited as i64, objects);
    assert_eq!(statistics.total.live_bytes as i64, objects * 16);

    let seen = SEEN.with_borrow(Vec::clone);
    (0..objects)
        .map(|number| {
            let mut addresses = seen.iter().filter(|(n, _)| *n == number).map(|(_, at)| *at);
            (number, addresses.next().unwrap(), addresses.next().unwrap())
        })
        .collect()
}

#[test]
fn each_frames_root_is_rewritten_when_objects_move() {
    let seen = run::<Semispace>();
    for (number, before, after) in &seen {
        assert_ne!(before, after, "object {number} was moved");
    }
    let mut after: Vec<usize> = seen.iter().map(|(_, _, after)| *after).collect();
    after.sort_unstable();
    after.dedup();
    assert_eq!(after.len() as i64, LEVELS * FRAMES, "each object is still a distinct one");
}

#[test]
fn no_root_is_rewritten_when_objects_stay() {
    for (number, before, after) in run::<MarkSweep>() {
        assert_eq!(before, after, "object {number} stayed");
    }
}

/// A function that calls the host in its own place leaves no frame of compiled code: its activation
/// has nothing to walk, and those before it have what they had.
#[test]
fn activations_without_a_frame() {
    let mut options = ModuleOptions::new(Semispace::ATTRS);
    options.missed_roots = true;
    let mut boxes = boxes_with(options);
    let (layout, number, module) = (boxes.layout, boxes.number, &mut boxes.module);
    let signature = || Signature::new([I64.into()], [I64.into()]);
    let ends = module
        .host_function("ends", signature(), |scope, given| {
            scope.collect();
            match given[0] {
                Val::I64(1) => Err(HostError::new("one")),
                Val::I64(2) => {
                    let exception = scope.null();
                    Err(scope.throw(exception))
                }
                _ => Ok(given.to_vec()),
            }
        })
        .unwrap();
    let frameless = module
        .function("frameless", signature(), |e| {
            let how = e.param(0);
            e.tail_call(ends, args![how]);
        })
        .unwrap();
    let reenter = module
        .host_function("reenter", signature(), move |scope, given| {
            let results = scope.call(frameless, given);
            scope.collect();
            Ok(vec![Val::I64(match results {
                Ok(results) => results[0].as_i64().expect("an i64"),
                Err(CallError::Trap(trap)) => {
                    assert!(trap.backtrace.is_empty(), "{trap}");
                    if trap.kind == TrapKind::Uncaught { -2 } else { -1 }
                }
                Err(error) => return Err(error.into()),
            })])
        })
        .unwrap();
    let holds = module
        .function("holds", signature(), |e| {
            let how = e.param(0);
            let held = e.new_record(layout, args![how]);
            let ended = e.call(reenter, args![how]).scalar();
            let own = e.load(held, number, I64);
            let tens = e.ins().imul_imm_s(own, 10);
            let sum = e.ins().iadd(tens, ended);
            e.ret(args![sum]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    mutator.set_verify(true);
    for (how, expected) in [(0, 0), (1, 9), (2, 18), (3, 33)] {
        assert_eq!(int(mutator.call(holds, &[Val::I64(how)]).unwrap()), expected);
    }
    let statistics = mutator.statistics();
    assert_eq!((statistics.collections, statistics.total.frames_walked), (8, 8));
    // The host can enter it, too.
    assert_eq!(int(mutator.call(frameless, &[Val::I64(7)]).unwrap()), 7);
    assert_eq!(mutator.statistics().total.frames_walked, 8);
}

//! Tail calls, indirect calls, exceptions: whatever a call is, the references in it and beside it are
//! found.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::HeapOptions;
use tospace::jit::{Arg, Callee, Emit, Func, Module, OptLevel, REF, Ref, Signature, Ty};
use tospace::{CallError, Mutator, TrapKind, Val, args};

use crate::support::{Boxes, boxes_at, int};

type Run = fn(Module, Func, i64) -> Result<i64, CallError>;

/// Runs a test with what is stale showing itself, under both collectors and at both ends of the
/// optimiser.
fn each(test: fn(Boxes, Run)) {
    fn run<C: Collector>(module: Module, func: Func, argument: i64) -> Result<i64, CallError> {
        let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
        let mut mutator: Mutator<C> = Mutator::new(module, C::new(options).unwrap()).unwrap();
        mutator.set_stress(1);
        mutator.set_verify(true);
        mutator.call(func, &[Val::I64(argument)]).map(int)
    }
    for opt_level in [OptLevel::None, OptLevel::Speed, OptLevel::SpeedAndSize] {
        test(boxes_at(Semispace::ATTRS, opt_level), run::<Semispace>);
        test(boxes_at(MarkSweep::ATTRS, opt_level), run::<MarkSweep>);
    }
}

fn int_to_int() -> Signature {
    Signature::new([I64.into()], [I64.into()])
}

/// The sum of the numbers in boxes.
fn sum(e: &mut Emit, boxes: &[Ref], number: tospace::heap::Field) -> cranelift_codegen::ir::Value {
    let mut sum = e.int(I64, 0);
    for &held in boxes {
        let number = e.load(held, number, I64);
        sum = e.ins().iadd(sum, number);
    }
    sum
}

/// A loop of tail calls needs no stack: with a frame for each, this would overflow.
#[test]
fn a_loop_of_tail_calls() {
    each(|mut boxes, run| {
        let (layout, number) = (boxes.layout, boxes.number);
        let step = Signature::new([I64.into(), REF], [I64.into()]);
        let [even, odd] =
            ["even", "odd"].map(|name| boxes.module.declare(name, step.clone()).unwrap());
        for (own, other) in [(even, odd), (odd, even)] {
            let body = |e: &mut Emit| {
                let (left, held) = (e.param(0), e.ref_param(1));
                e.if_then(left, |e| {
                    let so_far = e.load(held, number, I64);
                    let more = e.ins().iadd_imm_s(so_far, 1);
                    let held = e.new_record(layout, args![more]);
                    let left = e.ins().iadd_imm_s(left, -1);
                    e.tail_call(other, args![left, held]);
                });
                let counted = e.load(held, number, I64);
                e.ret(args![counted]);
            };
            boxes.module.define(own, body).unwrap();
        }
        let start = boxes
            .module
            .function("start", int_to_int(), |e| {
                let (zero, count) = (e.int(I64, 0), e.param(0));
                let held = e.new_record(layout, args![zero]);
                e.tail_call(even, args![count, held]);
            })
            .unwrap();
        // 50,000 frames of at least 32 bytes would fill most of a test's stack.
        assert_eq!(run(boxes.module, start, 50_001), Ok(50_001));
    });
}

/// A callee whose tail call needs more room for arguments than its caller gave it sits lower on the
/// stack than its caller expects; the caller's slots are where they were.
#[test]
fn a_tail_call_that_grows_its_arguments() {
    const MANY: usize = 20;
    each(|mut boxes, run| {
        let (layout, number) = (boxes.layout, boxes.number);
        let types: Vec<Ty> = (0..MANY).flat_map(|_| [I64.into(), REF]).collect();
        let many = boxes
            .module
            .function("many", Signature::new(types, [I64.into()]), |e| {
                e.collect();
                let refs: Vec<Ref> = (0..MANY).map(|index| e.ref_param(2 * index + 1)).collect();
                let mut total = sum(e, &refs, number);
                for index in 0..MANY {
                    let scalar = e.param(2 * index);
                    total = e.ins().iadd(total, scalar);
                }
                e.ret(args![total]);
            })
            .unwrap();
        let one = Signature::new([REF], [I64.into()]);
        let grows = boxes
            .module
            .function("grows", one, |e| {
                let held = e.ref_param(0);
                e.collect();
                let arguments: Vec<Arg> = (0..MANY)
                    .flat_map(|index| {
                        let scalar = e.int(I64, index as i64 * 1000);
                        let new = e.new_record(layout, args![scalar]);
                        [scalar.into(), if index % 2 == 0 { held.into() } else { new.into() }]
                    })
                    .collect();
                e.tail_call(many, &arguments);
            })
            .unwrap();
        let caller = boxes
            .module
            .function("caller", int_to_int(), |e| {
                let value = e.param(0);
                let kept = e.new_record(layout, args![value]);
                let passed = e.new_record(layout, args![value]);
                let result = e.call(grows, args![passed]).scalar();
                let kept = e.load(kept, number, I64);
                let tens = e.ins().imul_imm_s(kept, 10_000_000);
                let total = e.ins().iadd(result, tens);
                e.ret(args![total]);
            })
            .unwrap();
        // Scalars 0 + .. + 19,000; half of the references are the new ones (1, 3, .. thousand).
        let expected = 190_000 + 100_000 + 7 * MANY as i64 / 2 + 7 * 10_000_000;
        assert_eq!(run(boxes.module, caller, 7), Ok(expected));
    });
}

/// What a function value refers to is decided while the code runs; also for a tail call.
#[test]
fn indirect_calls() {
    each(|mut boxes, run| {
        let (layout, number) = (boxes.layout, boxes.number);
        let signature = Signature::new([REF, I64.into()], [REF]);
        let adds = [1, 10, 100].map(|step| {
            boxes
                .module
                .function(&format!("add {step}"), signature.clone(), |e| {
                    let (held, value) = (e.ref_param(0), e.param(1));
                    e.new_record(layout, args![value]);
                    let so_far = e.load(held, number, I64);
                    let value = e.ins().imul_imm_s(value, step);
                    let more = e.ins().iadd(so_far, value);
                    let held = e.new_record(layout, args![more]);
                    e.ret(args![held]);
                })
                .unwrap()
        });
        // apply(which, held, value): tail calls one of them.
        let apply = Signature::new([I64.into(), REF, I64.into()], [REF]);
        let apply = boxes
            .module
            .function("apply", apply, |e| {
                let (address, held, value) = (e.param(0), e.ref_param(1), e.param(2));
                e.collect();
                e.tail_call(Callee::indirect(&signature, address), args![held, value]);
            })
            .unwrap();
        let all = boxes
            .module
            .function("all", int_to_int(), |e| {
                let value = e.param(0);
                let zero = e.int(I64, 0);
                let mut held = e.new_record(layout, args![zero]);
                let first = held;
                for add in adds {
                    let address = e.func_addr(add);
                    let callee = Callee::indirect(&signature, address);
                    held = e.call(callee, args![held, value]).reference();
                    held = e.call(apply, args![address, held, value]).reference();
                }
                let total = sum(e, &[first, held], number);
                e.ret(args![total]);
            })
            .unwrap();
        assert_eq!(run(boxes.module, all, 3), Ok(3 * 222));
    });
}

/// thrower(n): throws a box of n if n is positive; gives -1 otherwise. By way of two more frames.
fn thrower(boxes: &mut Boxes) -> Func {
    let layout = boxes.layout;
    let mut inner = boxes
        .module
        .function("throws", int_to_int(), |e| {
            let value = e.param(0);
            e.if_then(value, |e| {
                let error = e.new_record(layout, args![value]);
                e.collect();
                e.throw(error);
            });
            let minus = e.int(I64, -1);
            e.ret(args![minus]);
        })
        .unwrap();
    for name in ["between", "first"] {
        inner = boxes
            .module
            .function(name, int_to_int(), |e| {
                let value = e.param(0);
                let held = e.new_record(layout, args![value]);
                let result = e.call(inner, args![value]).scalar();
                e.is_null(held);
                e.ret(args![result]);
            })
            .unwrap();
    }
    inner
}

/// The handler has what was thrown, and what was there before the call: in slots, in variables that
/// the call's arms change, in arguments passed on its edges.
#[test]
fn exceptions_some_frames_up() {
    each(|mut boxes, run| {
        let thrower = thrower(&mut boxes);
        let (layout, number) = (boxes.layout, boxes.number);
        let guarded = boxes
            .module
            .function("guarded", int_to_int(), |e| {
                let value = e.param(0);
                let thousand = e.int(I64, 1000);
                let before = e.new_record(layout, args![thousand]);
                let changed = e.ref_var(before);
                let seen = e.var(thousand);
                e.try_call(
                    thrower,
                    args![value],
                    |e, results| {
                        let result = results.scalar();
                        e.set(seen, result);
                        let other = e.new_record(layout, args![result]);
                        e.set_ref(changed, other);
                    },
                    |e, thrown| {
                        e.collect();
                        let code = e.load(thrown, number, I64);
                        e.set(seen, code);
                        e.set_ref(changed, thrown);
                        e.new_record(layout, args![code]);
                    },
                );
                e.collect();
                let changed = e.get_ref(changed);
                let total = sum(e, &[before, changed], number);
                let seen = e.get(seen);
                let seen = e.ins().imul_imm_s(seen, 1_000_000);
                let total = e.ins().iadd(total, seen);
                e.ret(args![total]);
            })
            .unwrap();
        // Again and again, so that what is left behind would add up.
        let often = boxes
            .module
            .function("often", int_to_int(), |e| {
                let (zero, count) = (e.int(I64, 0), e.param(0));
                let total = e.var(zero);
                let kept = e.new_record(layout, args![count]);
                e.for_range(zero, count, |e, index| {
                    let result = e.call(guarded, args![index]).scalar();
                    let so_far = e.get(total);
                    let so_far = e.ins().iadd(so_far, result);
                    e.set(total, so_far);
                });
                let (kept, total) = (e.load(kept, number, I64), e.get(total));
                let total = e.ins().iadd(total, kept);
                e.ret(args![total]);
            })
            .unwrap();
        // 0 does not throw: -1 instead.
        let each = |index: i64| 1000 + 1_000_001 * if index == 0 { -1 } else { index };
        let expected = (0..20).map(each).sum::<i64>() + 20;
        assert_eq!(run(boxes.module, often, 20), Ok(expected));
    });
}

/// What a guarded call returns: references, in its arm and behind it, past other collections.
#[test]
fn references_out_of_guarded_calls() {
    each(|mut boxes, run| {
        let (layout, number) = (boxes.layout, boxes.number);
        let makes = boxes
            .module
            .function("makes", Signature::new([I64.into()], [REF, I64.into(), REF]), |e| {
                let value = e.param(0);
                let more = e.ins().iadd_imm_s(value, 100);
                let one = e.new_record(layout, args![value]);
                let other = e.new_record(layout, args![more]);
                e.ret(args![one, value, other]);
            })
            .unwrap();
        let guarded = boxes
            .module
            .function("guarded", int_to_int(), |e| {
                let value = e.param(0);
                let total = e.var(value);
                let mut kept = None;
                e.try_call(
                    makes,
                    args![value],
                    |e, results| {
                        let [Arg::Ref(one), Arg::Scalar(given), Arg::Ref(other)] = results[..]
                        else {
                            unreachable!("as the signature says")
                        };
                        e.collect();
                        let numbers = sum(e, &[one, other], number);
                        let numbers = e.ins().iadd(numbers, given);
                        e.set(total, numbers);
                        kept = Some(e.ref_var(other));
                    },
                    |e, thrown| {
                        let code = e.load(thrown, number, I64);
                        e.ret(args![code]);
                    },
                );
                let kept = kept.expect("the arm was emitted");
                e.collect();
                let kept = e.get_ref(kept);
                e.collect();
                let (kept, total) = (e.load(kept, number, I64), e.get(total));
                let total = e.ins().iadd(total, kept);
                e.ret(args![total]);
            })
            .unwrap();
        assert_eq!(run(boxes.module, guarded, 7), Ok(7 + 107 + 7 + 107));
    });
}

/// The nearest handler gets it; what that one throws, the next one.
#[test]
fn exceptions_through_handlers() {
    each(|mut boxes, run| {
        let mut inner = thrower(&mut boxes);
        let (layout, number) = (boxes.layout, boxes.number);
        for level in 1..=3 {
            let name = format!("level {level}");
            inner = boxes
                .module
                .function(&name, int_to_int(), |e| {
                    let value = e.param(0);
                    e.try_call(
                        inner,
                        args![value],
                        |e, results| e.ret(&results),
                        |e, thrown| {
                            let code = e.load(thrown, number, I64);
                            let code = e.ins().imul_imm_s(code, 10);
                            let code = e.ins().iadd_imm_s(code, level);
                            if level < 3 {
                                let error = e.new_record(layout, args![code]);
                                e.throw(error);
                            } else {
                                e.ret(args![code]);
                            }
                        },
                    );
                })
                .unwrap();
        }
        assert_eq!(run(boxes.module, inner, 7), Ok(7123));
    });
}

/// What nobody catches comes out of `call`, also if an activation further up has a handler: host
/// frames are between. The host can look at it, and throw it again.
#[test]
fn exceptions_and_the_host() {
    each(|mut boxes, run| {
        let thrower = thrower(&mut boxes);
        let (layout, number) = (boxes.layout, boxes.number);
        let by_host = boxes
            .module
            .host_function("by_host", int_to_int(), move |scope, given| {
                let error = scope.call(thrower, given).expect_err("it throws");
                let CallError::Trap(trap) = error else { panic!("{error}") };
                assert_eq!(trap.kind, TrapKind::Uncaught);
                let functions: Vec<_> = trap.backtrace.iter().map(|at| &*at.function).collect();
                assert_eq!(functions, ["throws", "between", "first"]);
                scope.collect();
                let thrown = scope.take_thrown();
                let again = scope.take_thrown();
                assert!(scope.is_null(again), "it is taken once");
                let Val::I64(code) = scope.load(thrown, number, I64) else { unreachable!() };
                let other = scope.new_record(layout, &[Val::I64(code + 1)])?;
                Err(scope.throw(other))
            })
            .unwrap();
        let guarded = boxes
            .module
            .function("guarded", int_to_int(), |e| {
                let value = e.param(0);
                let held = e.new_record(layout, args![value]);
                e.try_call(
                    by_host,
                    args![value],
                    |e, results| e.ret(&results),
                    |e, thrown| {
                        e.collect();
                        let total = sum(e, &[held, thrown], number);
                        e.ret(args![total]);
                    },
                );
            })
            .unwrap();
        assert_eq!(run(boxes.module, guarded, 50), Ok(101));
    });
}

/// What the host is going to throw stays what it is, whatever it calls before; and what it has kept from
/// an earlier call is no exception any more.
#[test]
fn exceptions_that_the_host_holds_back() {
    each(|mut boxes, run| {
        let thrower = thrower(&mut boxes);
        let (layout, number) = (boxes.layout, boxes.number);
        let kept = std::cell::RefCell::new(None);
        let holds_back = boxes
            .module
            .host_function("holds_back", int_to_int(), move |scope, given| {
                if let Some(kept) = kept.take() {
                    return Err(kept);
                }
                let own = scope.new_record(layout, given)?;
                let error = scope.throw(own);
                for uncaught in [0, 7] {
                    let result = scope.call(thrower, &[Val::I64(uncaught)]);
                    assert_eq!(result.is_err(), uncaught > 0);
                }
                *kept.borrow_mut() = Some(error.clone());
                Err(error)
            })
            .unwrap();
        let guarded = boxes
            .module
            .function("guarded", int_to_int(), |e| {
                let value = e.param(0);
                e.try_call(
                    holds_back,
                    args![value],
                    |e, results| e.ret(&results),
                    |e, thrown| {
                        let own = e.load(thrown, number, I64);
                        let again = e.call(holds_back, args![own]);
                        e.ret(&again);
                    },
                );
            })
            .unwrap();
        let Err(CallError::Trap(trap)) = run(boxes.module, guarded, 5) else { panic!("a trap") };
        assert!(trap.to_string().starts_with("an exception of an earlier call"), "{trap}");
    });
}

#[test]
fn an_exception_that_nobody_catches() {
    each(|mut boxes, run| {
        let thrower = thrower(&mut boxes);
        let Err(CallError::Trap(trap)) = run(boxes.module, thrower, 5) else { panic!("it throws") };
        assert_eq!(trap.kind, TrapKind::Uncaught);
    });
}

/// More results than registers, references among them.
#[test]
fn many_results() {
    const MANY: usize = 12;
    each(|mut boxes, run| {
        let (layout, number) = (boxes.layout, boxes.number);
        let types: Vec<Ty> = (0..MANY).flat_map(|_| [REF, I64.into()]).collect();
        let make = |e: &mut Emit| -> Vec<Arg> {
            let first = e.param(0);
            (0..MANY)
                .flat_map(|index| {
                    let value = e.ins().iadd_imm_s(first, index as i64);
                    [e.new_record(layout, args![value]).into(), value.into()]
                })
                .collect()
        };
        let signature = || Signature::new([I64.into()], types.clone());
        let makes = boxes
            .module
            .function("makes", signature(), |e| {
                let results = make(e);
                e.ret(&results);
            })
            .unwrap();
        let tail = boxes
            .module
            .function("tail", signature(), |e| {
                let first = e.param(0);
                e.collect();
                e.tail_call(makes, args![first]);
            })
            .unwrap();
        let caller = boxes
            .module
            .function("caller", int_to_int(), |e| {
                let first = e.param(0);
                let mut total = e.int(I64, 0);
                let mut add = |e: &mut Emit, results: &[Arg]| {
                    for result in results {
                        let value = match *result {
                            Arg::Ref(held) => e.load(held, number, I64),
                            Arg::Scalar(value) => value,
                        };
                        total = e.ins().iadd(total, value);
                    }
                };
                for callee in [makes, tail] {
                    let results = e.call(callee, args![first]);
                    e.collect();
                    add(e, &results);
                }
                e.ret(args![total]);
            })
            .unwrap();
        let once = 2 * (0..MANY as i64).map(|index| 100 + index).sum::<i64>();
        assert_eq!(run(boxes.module, caller, 100), Ok(2 * once));
    });
}

#[test]
#[should_panic(expected = "the results of a tail call")]
fn a_tail_call_that_returns_something_else() {
    let mut boxes = boxes_at(Semispace::ATTRS, OptLevel::None);
    let nothing = boxes.module.function("nothing", Signature::default(), |_| {}).unwrap();
    let _ = boxes.module.function("wrong", int_to_int(), |e| e.tail_call(nothing, args![]));
}

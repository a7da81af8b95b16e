//! What compiled code does wrong comes out of `call` as a trap with its kind and a backtrace; whoever
//! is still active goes on, and the next call works.

use cranelift_codegen::ir::types::{F64, I8, I64};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, TrapCode};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::{HeapOptions, Record};
use tospace::jit::{Emit, Func, Module, ModuleOptions, OptLevel, REF, Signature};
use tospace::stack::{STACK_RESERVE, with_stack};
use tospace::{CallError, HostError, Mutator, Scope, Trap, TrapKind, Val, args};

use crate::support::{Boxes, boxes, emit_garbage, int, mutator};

fn trap(result: Result<Vec<Val<'_>>, CallError>) -> Trap {
    match result {
        Err(CallError::Trap(trap)) => trap,
        other => panic!("a trap expected: {other:?}"),
    }
}

/// How a function goes wrong, and the trap that must come of it. `None` if only the kind's variant
/// can be told beforehand.
type Wrong = (&'static str, fn(&mut Emit, &Layouts), Option<TrapKind>);

struct Layouts {
    number: tospace::heap::Field,
    far: tospace::heap::RefField,
    numbers: tospace::heap::ArrayLayout,
    references: tospace::heap::ArrayLayout,
}

const WILD: i64 = 0x1234_5678_0000;

fn wrongs() -> Vec<Wrong> {
    fn divide(e: &mut Emit, dividend: i64, divisor: i64) {
        // Not known when the code is compiled.
        let (zero, left, right) = (e.param(0), e.int(I64, dividend), e.int(I64, divisor));
        let left = e.ins().iadd(left, zero);
        let right = e.ins().iadd(right, zero);
        let quotient = e.ins().sdiv(left, right);
        e.ret(args![quotient]);
    }
    fn index(e: &mut Emit, layouts: &Layouts, length: i64, index: i64) {
        let (length, index) = (e.int(I64, length), e.int(I64, index));
        let array = e.new_array(layouts.numbers, length);
        let element = e.array_load(array, layouts.numbers, index, I64);
        e.ret(args![element]);
    }
    vec![
        (
            "null_load",
            |e, layouts| {
                let null = e.null();
                let number = e.load(null, layouts.number, I64);
                e.ret(args![number]);
            },
            Some(TrapKind::NullReference),
        ),
        (
            "null_store_far",
            |e, layouts| {
                let null = e.null();
                e.store_ref(null, layouts.far, null);
                let zero = e.int(I64, 0);
                e.ret(args![zero]);
            },
            Some(TrapKind::NullReference),
        ),
        (
            "null_unused_load",
            |e, layouts| {
                let null = e.null();
                e.load(null, layouts.number, I64);
                let zero = e.int(I64, 0);
                e.ret(args![zero]);
            },
            Some(TrapKind::NullReference),
        ),
        (
            "null_array",
            |e, layouts| {
                let (null, zero) = (e.null(), e.int(I64, 0));
                e.array_store_ref(null, layouts.references, zero, null);
                e.ret(args![zero]);
            },
            Some(TrapKind::NullReference),
        ),
        (
            "index_behind",
            |e, layouts| index(e, layouts, 5, 5),
            Some(TrapKind::IndexOutOfBounds { index: 5, length: 5 }),
        ),
        (
            "index_negative",
            |e, layouts| index(e, layouts, 5, -1),
            Some(TrapKind::IndexOutOfBounds { index: -1, length: 5 }),
        ),
        (
            "index_of_nothing",
            |e, layouts| index(e, layouts, 0, i64::MAX),
            Some(TrapKind::IndexOutOfBounds { index: i64::MAX, length: 0 }),
        ),
        ("by_zero", |e, _| divide(e, 7, 0), Some(TrapKind::DivisionByZero)),
        ("overflow", |e, _| divide(e, i64::MIN, -1), Some(TrapKind::IntegerOverflow)),
        (
            "remainder",
            |e, _| {
                let zero = e.param(0);
                let seven = e.int(I64, 7);
                let remainder = e.ins().urem(seven, zero);
                e.ret(args![remainder]);
            },
            Some(TrapKind::DivisionByZero),
        ),
        (
            "conversion",
            |e, _| {
                let zero = e.param(0);
                let zero = e.ins().fcvt_from_sint(F64, zero);
                let nan = e.ins().fdiv(zero, zero);
                let number = e.ins().fcvt_to_sint(I64, nan);
                e.ret(args![number]);
            },
            Some(TrapKind::BadConversion),
        ),
        (
            "own_trap",
            |e, _| {
                let zero = e.param(0);
                e.ins().trapz(zero, TrapCode::unwrap_user(42));
                e.ret(args![zero]);
            },
            Some(TrapKind::User(42)),
        ),
        (
            "cranelifts_own_trap",
            |e, _| {
                let zero = e.param(0);
                e.ins().trapz(zero, TrapCode::HEAP_OUT_OF_BOUNDS);
                e.ret(args![zero]);
            },
            Some(TrapKind::OutOfBounds),
        ),
        (
            "wild_access",
            |e, _| {
                let wild = e.int(I64, WILD);
                let number = e.ins().load(I64, MemFlagsData::trusted(), wild, 8);
                e.ret(args![number]);
            },
            Some(TrapKind::BadAccess {
                address: WILD as usize + 8,
                stale: false,
                missed_root: None,
            }),
        ),
        (
            "negative_length",
            |e, layouts| {
                let minus = e.int(I64, -5);
                e.new_array(layouts.numbers, minus);
                e.ret(args![minus]);
            },
            Some(TrapKind::ArrayLength { length: -5 }),
        ),
    ]
}

/// outer(0) -> middle -> what goes wrong, each holding a box; and `fine`, which does not go wrong.
struct Program {
    module: Module,
    outers: Vec<(Wrong, Func)>,
    fine: Func,
}

fn program(attrs: tospace::collector::CollectorAttrs, opt_level: OptLevel) -> Program {
    let options = ModuleOptions { opt_level, ..ModuleOptions::new(attrs) };
    let mut module = Module::new(options).unwrap();
    let mut small = Record::new("small");
    let number = small.scalar("number", 8).unwrap();
    let small = module.record(small).unwrap();
    let mut large = Record::new("large");
    let mut far = large.reference("first");
    for index in 0..8190 {
        far = large.reference(&format!("field {index}"));
    }
    module.record(large).unwrap();
    let numbers = module.scalars("numbers", 8).unwrap();
    let references = module.references("references").unwrap();
    let layouts = Layouts { number, far, numbers, references };
    let signature = || Signature::new([I64.into()], [I64.into()]);

    let calls = |module: &mut Module, name: &str, callee: Func| {
        module.function(name, signature(), |e| {
            let value = e.param(0);
            let held = e.new_record(small, args![value]);
            let result = e.call(callee, args![value]).scalar();
            let held = e.load(held, number, I64);
            let sum = e.ins().iadd(result, held);
            e.ret(args![sum]);
        })
    };
    let outers = wrongs()
        .into_iter()
        .map(|wrong| {
            let inner = module.function(wrong.0, signature(), |e| (wrong.1)(e, &layouts)).unwrap();
            let middle = calls(&mut module, "middle", inner).unwrap();
            (wrong, calls(&mut module, "outer", middle).unwrap())
        })
        .collect();
    let same = module
        .function("same", signature(), |e| {
            emit_garbage(e, small, 10_000);
            let value = e.param(0);
            e.ret(args![value]);
        })
        .unwrap();
    let fine = calls(&mut module, "fine", same).unwrap();
    Program { module, outers, fine }
}

fn each_kind<C: Collector>(opt_level: OptLevel) {
    let Program { module, outers, fine } = program(C::ATTRS, opt_level);
    let mut mutator = mutator::<C>(module, 1 << 17);
    for ((name, _, kind), outer) in &outers {
        for _ in 0..3 {
            let trap = trap(mutator.call(*outer, &[Val::I64(0)]));
            assert_eq!(Some(&trap.kind), kind.as_ref(), "{name}");
            let functions: Vec<&str> = trap.backtrace.iter().map(|at| &*at.function).collect();
            assert_eq!(functions, [*name, "middle", "outer"]);
            assert!(trap.backtrace.iter().all(|at| at.offset > 0), "{trap}");
            // With collections, which walk nothing but this activation.
            assert_eq!(int(mutator.call(fine, &[Val::I64(21)]).unwrap()), 42, "after {name}");
        }
    }
    let statistics = mutator.statistics();
    assert!(statistics.collections > 3);
    // `fine` has up to two frames, what goes wrong up to three: no activation is left behind.
    assert!(statistics.total.frames_walked <= 3 * statistics.collections, "{statistics:?}");
}

#[test]
fn each_kind_in_optimised_code() {
    each_kind::<Semispace>(OptLevel::Speed);
    each_kind::<MarkSweep>(OptLevel::Speed);
}

#[test]
fn each_kind_in_plain_code() {
    each_kind::<Semispace>(OptLevel::None);
}

/// down(n): n frames deep, each with a box of its number, whose sum it gives.
fn down(boxes: &mut Boxes) -> Func {
    let (layout, number) = (boxes.layout, boxes.number);
    let down = boxes.module.declare("down", Signature::new([I64.into()], [I64.into()])).unwrap();
    let define = |e: &mut Emit| {
        let depth = e.param(0);
        let held = e.new_record(layout, args![depth]);
        let zero = e.int(I64, 0);
        let below = e.var(zero);
        e.if_then(depth, |e| {
            let less = e.ins().iadd_imm_s(depth, -1);
            let sum = e.call(down, args![less]).scalar();
            e.set(below, sum);
        });
        let (held, below) = (e.load(held, number, I64), e.get(below));
        let sum = e.ins().iadd(held, below);
        e.ret(args![sum]);
    };
    boxes.module.define(down, define).unwrap();
    down
}

#[test]
fn a_stack_that_overflows() {
    const STACK: usize = 1 << 20;
    with_stack(STACK, || {
        let mut boxes = boxes(Semispace::ATTRS);
        let down = down(&mut boxes);
        let mut mutator = mutator::<Semispace>(boxes.module, 64 << 20);
        let mut depths = Vec::new();
        for _ in 0..3 {
            let trap = trap(mutator.call(down, &[Val::I64(1 << 40)]));
            let TrapKind::StackOverflow { bytes, reserve } = trap.kind else { panic!("{trap}") };
            // More, if the C library hands out a stack that another thread has had.
            assert!(bytes > STACK && reserve == STACK_RESERVE, "{trap}");
            assert!(trap.backtrace.iter().all(|at| &*at.function == "down"));
            assert!(trap.to_string().lines().count() < 20, "{trap}");
            depths.push(trap.backtrace.len());
            mutator.collect();
            assert_eq!(int(mutator.call(down, &[Val::I64(100)]).unwrap()), 5050);
        }
        // At least a quarter of the stack, in frames of up to 100 bytes.
        assert!(depths.iter().all(|&depth| depth > STACK / 4 / 100), "{depths:?}");
    })
    .unwrap();
}

/// The stack may also run out between compiled code and the host, which call each other.
#[test]
fn a_stack_that_overflows_by_way_of_the_host() {
    let mut boxes = boxes(Semispace::ATTRS);
    let (layout, module) = (boxes.layout, &mut boxes.module);
    let again = module.declare("again", Signature::new([I64.into()], [I64.into()])).unwrap();
    let reenter = module
        .host_function(
            "reenter",
            Signature::new([I64.into()], [I64.into()]),
            move |scope, given| Ok(scope.call(again, given)?),
        )
        .unwrap();
    module
        .define(again, |e| {
            let depth = e.param(0);
            e.new_record(layout, args![depth]);
            let more = e.ins().iadd_imm_s(depth, 1);
            let result = e.call(reenter, args![more]).scalar();
            e.ret(args![result]);
        })
        .unwrap();
    let fine =
        module.function("fine", Signature::default(), |e| emit_garbage(e, layout, 10_000)).unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 17);
    let outermost = trap(mutator.call(again, &[Val::I64(0)]));
    // One `call` at a time: each trap's reason is the one further in.
    let (mut depth, mut innermost) = (0, &outermost);
    while let TrapKind::Host(error) = &innermost.kind {
        let error = error.error().expect("an error").downcast_ref::<CallError>();
        let Some(CallError::Trap(inner)) = error else { panic!("{innermost}") };
        assert_eq!(innermost.backtrace.len(), 1);
        (depth, innermost) = (depth + 1, inner);
    }
    assert!(matches!(innermost.kind, TrapKind::StackOverflow { .. }), "{innermost}");
    assert!(depth > 100, "{depth} levels");
    mutator.call(fine, &[]).unwrap();
    let statistics = mutator.statistics();
    assert!(statistics.collections > 0);
    assert_eq!(statistics.total.frames_walked, statistics.collections);
}

/// Under protect, a reference that was not declared is a trap that says so, with the function.
#[test]
fn a_stale_reference_under_protect() {
    let mut options = ModuleOptions::new(Semispace::ATTRS);
    options.check = false;
    let mut unchecked = Module::new(options).unwrap();
    let mut record = Record::new("box");
    let number = record.scalar("number", 8).unwrap();
    let layout = unchecked.record(record).unwrap();
    let forgets = unchecked
        .function("forgets", Signature::new([REF], [I64.into()]), |e| {
            let object = e.ref_param(0);
            // The same address by another name, which nobody declared.
            let address = e.ins().iadd_imm_s(object.value(), 8);
            e.collect();
            let object = e.ins().iadd_imm_s(address, -8);
            let object = e.undeclared_ref(object);
            let number = e.load(object, number, I64);
            e.ret(args![number]);
        })
        .unwrap();
    let protect = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
    let mut mutator = Mutator::new(unchecked, Semispace::new(protect).unwrap()).unwrap();
    mutator.scope(|scope| {
        for _ in 0..3 {
            let object = scope.new_record(layout, &[Val::I64(5)]).unwrap();
            let trap = trap(scope.call(forgets, &[Val::Ref(object)]));
            assert!(matches!(trap.kind, TrapKind::BadAccess { stale: true, .. }), "{trap}");
            assert_eq!(&*trap.backtrace[0].function, "forgets");
            assert_eq!(scope.load(object, number, I64), Val::I64(5), "the handle was updated");
        }
    });
}

/// A host function's error is the trap's source; its panic goes on behind `call`.
#[test]
fn host_functions_that_fail() {
    #[derive(Debug, thiserror::Error)]
    #[error("number {0} is no good")]
    struct NoGood(i64);

    let mut boxes = boxes(Semispace::ATTRS);
    let signature = || Signature::new([I64.into()], [I8.into()]);
    let picky = boxes
        .module
        .host_function("picky", signature(), |scope, given| match given[0] {
            Val::I64(0) => Ok(vec![Val::I8(1)]),
            Val::I64(1) => Ok(vec![Val::I64(1)]),
            Val::I64(2) => Err(HostError::new("two is too many")),
            Val::I64(3) => panic!("three panics"),
            Val::I64(4) => Err(TrapKind::DivisionByZero.into()),
            Val::I64(number) => {
                scope.collect();
                Err(NoGood(number).into())
            }
            _ => unreachable!("as the signature says"),
        })
        .unwrap();
    let layout = boxes.layout;
    let asks = boxes
        .module
        .function("asks", signature(), |e| {
            let number = e.param(0);
            e.new_record(layout, args![number]);
            let answer = e.call(picky, args![number]).scalar();
            e.ret(args![answer]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let mut ask = |number| mutator.call(asks, &[Val::I64(number)]);
    assert_eq!(ask(0), Ok(vec![Val::I8(1)]));
    let wrong_result = trap(ask(1));
    assert!(wrong_result.to_string().contains("`picky` gives"), "{wrong_result}");
    assert!(trap(ask(2)).to_string().starts_with("two is too many\n    in asks +0x"));
    assert_eq!(trap(ask(4)).kind, TrapKind::DivisionByZero);
    let trap = trap(ask(5));
    let source = std::error::Error::source(&trap).expect("the error is kept");
    assert_eq!(source.downcast_ref::<NoGood>().expect("as it was").0, 5);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(3)));
    let panic = panic.expect_err("it panics");
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"three panics"));
    assert_eq!(ask(0), Ok(vec![Val::I8(1)]));
}

/// Code that is compiled later, even by a host function of the activation that then traps; and a trap
/// after an inner activation has come and gone.
#[test]
fn traps_after_the_host_did_something() {
    let mut boxes = boxes(Semispace::ATTRS);
    let signature = || Signature::new([I64.into()], [I64.into()]);
    fn divides(e: &mut Emit) {
        let by = e.param(0);
        let seven = e.int(I64, 7);
        let quotient = e.ins().sdiv(seven, by);
        e.ret(args![quotient]);
    }
    let first = boxes.module.function("first", signature(), divides).unwrap();
    let calls_first =
        boxes
            .module
            .host_function("calls_first", signature(), move |scope, given| {
                Ok(scope.call(first, given)?)
            })
            .unwrap();
    let compiles = boxes
        .module
        .host_function("compiles", signature(), move |scope, given| {
            let later = scope.compile(|module| module.function("later", signature(), divides))?;
            Ok(scope.call(later, given)?)
        })
        .unwrap();
    let both = boxes
        .module
        .function("both", Signature::new([I64.into(); 3], [I64.into()]), |e| {
            let [one, other, own] = [0, 1, 2].map(|index| e.param(index));
            let one = e.call(calls_first, args![one]).scalar();
            let other = e.call(compiles, args![other]).scalar();
            let quotient = e.ins().sdiv(one, own);
            let sum = e.ins().iadd(quotient, other);
            e.ret(args![sum]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let mut call = |numbers: [i64; 3]| mutator.call(both, &numbers.map(Val::I64));
    assert_eq!(int(call([1, 1, 1]).unwrap()), 14);
    let own = trap(call([1, 1, 0]));
    assert_eq!((own.kind, &*own.backtrace[0].function), (TrapKind::DivisionByZero, "both"));
    for numbers in [[0, 1, 1], [1, 0, 1]] {
        let outer = trap(call(numbers));
        let TrapKind::Host(error) = outer.kind else { panic!("{outer}") };
        let inner = error.error().expect("an error").downcast_ref::<CallError>();
        let Some(CallError::Trap(inner)) = inner else { panic!("{error}") };
        assert_eq!(inner.kind, TrapKind::DivisionByZero);
        let name = if numbers[0] == 0 { "first" } else { "later" };
        assert_eq!(&*inner.backtrace[0].function, name);
    }
}

/// A host function that leaves too little stack calls compiled code: it is not entered.
#[test]
fn a_stack_that_the_host_has_used_up() {
    /// Calls from deeper and deeper, up to so many KiB, as long as that goes well.
    fn eat(scope: &mut Scope<'_>, func: Func, kib: usize) -> Result<(), CallError> {
        let eaten = std::hint::black_box([0_u8; 8 << 10]);
        scope.call(func, &[])?;
        let result = if kib == 0 { Ok(()) } else { eat(scope, func, kib - 8) };
        std::hint::black_box(&eaten);
        result
    }
    with_stack(1 << 20, || {
        let mut boxes = boxes(Semispace::ATTRS);
        let module = &mut boxes.module;
        let nothing = module.function("nothing", Signature::default(), |_| {}).unwrap();
        let eats = module
            .host_function("eats", Signature::new([I64.into()], []), move |scope, given| {
                let kib = given[0].as_i64().expect("an i64");
                eat(scope, nothing, kib as usize)?;
                Ok(vec![])
            })
            .unwrap();
        let calls = module
            .function("calls", Signature::new([I64.into()], []), |e| {
                let kib = e.param(0);
                e.call(eats, args![kib]);
                e.ret(args![]);
            })
            .unwrap();
        let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
        for kib in [80, 1 << 30, 80, 1 << 30] {
            let result = mutator.call(calls, &[Val::I64(kib)]);
            if kib == 80 {
                assert_eq!(result, Ok(vec![]));
                continue;
            }
            let TrapKind::Host(error) = trap(result).kind else { panic!("the host's error") };
            let inner = error.error().expect("an error").downcast_ref::<CallError>();
            let Some(CallError::Trap(inner)) = inner else { panic!("{error}") };
            assert!(matches!(inner.kind, TrapKind::StackOverflow { .. }), "{inner}");
        }
    })
    .unwrap();
}

/// The backtrace of a stack's overflow has every frame, also if the fault is a function's first
/// instruction, before it has a frame of its own.
#[test]
fn the_backtrace_of_an_overflow_is_complete() {
    with_stack(1 << 20, || {
        let mut boxes = boxes(Semispace::ATTRS);
        let signature = || Signature::new([I64.into(); 4], [I64.into()]);
        let names = ["ping", "pong", "pang"];
        let funcs = names.map(|name| boxes.module.declare(name, signature()).unwrap());
        for index in 0..3 {
            let body = |e: &mut Emit| {
                // Frames of different sizes, so that each function meets the end sooner or later.
                let values: Vec<_> = (0..4).map(|param| e.param(param)).collect();
                let more = e.ins().iadd_imm_s(values[0], 1);
                let rest = &values[1..];
                let next = funcs[(index + 1) % 3];
                let result = e.call(next, args![more, rest[0], rest[1], rest[2]]).scalar();
                let kept = rest.iter().take(index).fold(result, |sum, &v| e.ins().iadd(sum, v));
                e.ret(args![kept]);
            };
            boxes.module.define(funcs[index], body).unwrap();
        }
        let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
        for (first, func) in funcs.into_iter().enumerate() {
            let trap = trap(mutator.call(func, &[1, 2, 3, 4].map(Val::I64)));
            assert!(matches!(trap.kind, TrapKind::StackOverflow { .. }), "{trap}");
            let oldest_first = trap.backtrace.iter().rev().enumerate();
            for (depth, location) in oldest_first {
                assert_eq!(
                    &*location.function,
                    names[(first + depth) % 3],
                    "frame {depth}: {trap}"
                );
            }
        }
    })
    .unwrap();
}

//! The detector of missed roots names the function, the place and the layout of a reference that was
//! not declared; and has little to say of code that declares all.

use cranelift_codegen::ir::{InstBuilder, Value, types::I64};
use cranelift_frontend::Variable;
use tospace::collector::{Collector, CollectorAttrs, MarkSweep, Semispace};
use tospace::heap::{Field, HeapOptions, LayoutId};
use tospace::jit::{Emit, Func, Module, ModuleOptions, OptLevel, Ref, Signature};
use tospace::stack::Spot;
use tospace::workloads::{ALL, Compiled, Instance, Setup};
use tospace::{CallError, MissedRoot, Mutator, Trap, TrapKind, Val, args};

use crate::support::{Boxes, boxes_with, int};

fn watched(attrs: CollectorAttrs, opt_level: OptLevel) -> Boxes {
    let options = ModuleOptions::new(attrs);
    boxes_with(ModuleOptions { missed_roots: true, check: false, opt_level, ..options })
}

fn run<C: Collector>(module: Module, func: Func) -> (i64, Vec<MissedRoot>) {
    let mut mutator = Mutator::new(module, C::new(HeapOptions::new(1 << 20)).unwrap()).unwrap();
    let result = int(mutator.call(func, &[Val::I64(5)]).unwrap());
    (result, mutator.missed_roots())
}

/// The same function, right and wrong: `count` boxes live over a collection and the frames of two
/// more functions.
fn forgetful(boxes: &mut Boxes, count: i64, forgets: bool) -> Func {
    let (layout, number) = (boxes.layout, boxes.number);
    let signature = || Signature::new([I64.into()], [I64.into()]);
    let mut below = boxes
        .module
        .function("collects", signature(), |e| {
            let value = e.param(0);
            e.collect();
            e.ret(args![value]);
        })
        .unwrap();
    for name in ["busy", "calls"] {
        below = boxes
            .module
            .function(name, signature(), |e| {
                // Needs callee-saved registers itself, so that it saves its caller's.
                let value = e.param(0);
                let values: Vec<_> = (0..8).map(|i| e.ins().imul_imm_s(value, 3 + i)).collect();
                let result = e.call(below, args![value]).scalar();
                let total = values.into_iter().fold(result, |sum, value| e.ins().bxor(sum, value));
                e.ret(args![total]);
            })
            .unwrap();
    }
    boxes
        .module
        .function("holds", signature(), |e| {
            let value = e.param(0);
            let held: Vec<Ref> = (0..count)
                .map(|index| {
                    let number = e.ins().iadd_imm_s(value, index);
                    let held = e.new_record(layout, args![number]);
                    if forgets { forget(e, held) } else { held }
                })
                .collect();
            e.call(below, args![value]);
            let mut total = e.int(I64, 0);
            for held in held {
                let own = e.load(held, number, I64);
                total = e.ins().iadd(total, own);
            }
            e.ret(args![total]);
        })
        .unwrap()
}

/// The same reference as a value that nobody declared.
fn forget(e: &mut Emit, held: Ref) -> Ref {
    let value = e.ins().bxor_imm_s(held.value(), 0);
    e.undeclared_ref(value)
}

fn suspicious(missed: &[MissedRoot]) -> Vec<&MissedRoot> {
    missed.iter().filter(|missed| !missed.is_mapped_elsewhere).collect()
}

fn in_each_place<C: Collector>(opt_level: OptLevel) {
    // A few fit into registers, which the functions below save; many are spilled.
    for count in [1, 3, 30] {
        let mut boxes = watched(C::ATTRS, opt_level);
        let holds = forgetful(&mut boxes, count, true);
        let (_, missed) = run::<C>(boxes.module, holds);
        let missed = suspicious(&missed);
        // Copies may be left in other registers.
        assert!(missed.len() >= count as usize, "{missed:#?}");
        assert!(
            missed.iter().all(|missed| &*missed.layout == "box" && missed.seen == missed.frames)
        );
        if count == 30 {
            let spilled = missed.iter().filter(|missed| &*missed.location.function == "holds");
            assert!(spilled.count() > 20, "{missed:#?}");
        }

        let mut boxes = watched(C::ATTRS, opt_level);
        let holds = forgetful(&mut boxes, count, false);
        let (result, missed) = run::<C>(boxes.module, holds);
        assert_eq!(result, count * 5 + count * (count - 1) / 2);
        assert_eq!(suspicious(&missed), Vec::<&MissedRoot>::new());
    }
}

#[test]
fn in_registers_and_in_frames() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        in_each_place::<Semispace>(opt_level);
        in_each_place::<MarkSweep>(opt_level);
    }
}

/// A reference that is in a register when the host is called is only where the exit trampoline saved
/// it.
#[test]
fn in_a_register_at_the_exit() {
    let mut boxes = watched(Semispace::ATTRS, OptLevel::Speed);
    let (layout, number) = (boxes.layout, boxes.number);
    let holds = boxes
        .module
        .function("holds", Signature::new([I64.into()], [I64.into()]), |e| {
            let value = e.param(0);
            let held = e.new_record(layout, args![value]);
            let held = forget(e, held);
            e.collect();
            let own = e.load(held, number, I64);
            e.ret(args![own]);
        })
        .unwrap();
    let (_, missed) = run::<Semispace>(boxes.module, holds);
    assert_eq!(missed.len(), 1, "{missed:#?}");
    assert!(matches!(missed[0].spot, Spot::Register { .. }));
    let text = missed[0].to_string();
    assert!(
        text.contains("reference to a `box` in saved register ") && text.contains("of holds +0x"),
        "{text}"
    );
}

/// Under protect, the trap that the stale reference's use ends in says where it was.
#[test]
fn the_trap_names_the_missed_root() {
    for count in [1, 30] {
        let mut boxes = watched(Semispace::ATTRS, OptLevel::Speed);
        let holds = forgetful(&mut boxes, count, true);
        let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
        let collector = Semispace::new(options).unwrap();
        let mut mutator = Mutator::new(boxes.module, collector).unwrap();
        let error = mutator.call(holds, &[Val::I64(5)]).expect_err("it is stale");
        let CallError::Trap(trap) = error else { panic!("{error}") };
        let TrapKind::BadAccess { stale: true, missed_root: Some(missed), .. } = &trap.kind else {
            panic!("{trap}")
        };
        assert_eq!((&*missed.layout, missed.is_mapped_elsewhere), ("box", false));
        // The first one used: in the frame of the function, or in a register, which is still one or was
        // saved by a function further down.
        let said = trap.to_string();
        let places = ["the frame of holds +0x", "the frame of calls +0x", "of collects +0x"];
        assert!(places.iter().any(|place| said.contains(place)), "{trap}");
        assert_eq!(&*trap.backtrace[0].function, "holds");
    }
}

/// Where references flow: each shape keeps a box with the number 7 over a collection, in a build that
/// declares it and in one that forgets to.
type Shape = (&'static str, fn(&mut Emit, &Kit));

struct Kit {
    layout: LayoutId,
    number: Field,
    /// Collects and gives its argument.
    collects: Func,
    forgets: bool,
}

impl Kit {
    /// A box whose reference is a plain value, which nobody has declared.
    fn make(&self, e: &mut Emit, number: i64) -> Value {
        let number = e.int(I64, number);
        let made = e.new_record(self.layout, args![number]);
        forget(e, made).value()
    }

    /// The value as a reference: declared, unless this build forgets it.
    fn declare(&self, e: &mut Emit, value: Value) -> Ref {
        if self.forgets { e.undeclared_ref(value) } else { e.adopt_ref(value) }
    }

    fn variable(&self, e: &mut Emit, first: Value) -> Variable {
        let variable = e.builder().declare_var(I64);
        if !self.forgets {
            e.builder().declare_var_needs_stack_map(variable);
        }
        e.builder().def_var(variable, first);
        variable
    }

    fn number(&self, e: &mut Emit, variable: Variable) -> Value {
        let value = e.builder().use_var(variable);
        let held = e.undeclared_ref(value);
        e.load(held, self.number, I64)
    }
}

const SHAPES: [Shape; 7] = [
    ("block_param", |e, kit| {
        let (one, other) = (kit.make(e, 7), kit.make(e, 8));
        let (one, other) = (kit.declare(e, one), kit.declare(e, other));
        let condition = e.param(0);
        let builder = e.builder();
        let (join, otherwise) = (builder.create_block(), builder.create_block());
        let param = builder.append_block_param(join, I64);
        builder.ins().brif(condition, join, &[one.value().into()], otherwise, &[]);
        builder.seal_block(otherwise);
        builder.switch_to_block(otherwise);
        builder.ins().jump(join, &[other.value().into()]);
        builder.seal_block(join);
        builder.switch_to_block(join);
        let held = kit.declare(e, param);
        e.collect();
        let number = e.load(held, kit.number, I64);
        e.ret(args![number]);
    }),
    ("variable_redefined", |e, kit| {
        let first = kit.make(e, 0);
        let variable = kit.variable(e, first);
        let (zero, eight) = (e.int(I64, 0), e.int(I64, 8));
        e.for_range(zero, eight, |e, index| {
            // Twice in a block.
            for number in [100, 0] {
                let number = e.ins().iadd_imm_s(index, number);
                let made = e.new_record(kit.layout, args![number]);
                let made = forget(e, made).value();
                e.builder().def_var(variable, made);
                e.collect();
                kit.number(e, variable);
            }
        });
        let number = kit.number(e, variable);
        e.ret(args![number]);
    }),
    ("select", |e, kit| {
        let (one, other) = (kit.make(e, 7), kit.make(e, 8));
        let condition = e.param(0);
        let chosen = e.ins().select(condition, one, other);
        let held = kit.declare(e, chosen);
        e.collect();
        let number = e.load(held, kit.number, I64);
        e.ret(args![number]);
    }),
    ("loop_invariant_and_local", |e, kit| {
        let invariant = kit.make(e, 4);
        let invariant = kit.declare(e, invariant);
        let (zero, three) = (e.int(I64, 0), e.int(I64, 3));
        let last = e.var(zero);
        e.for_range(zero, three, |e, _| {
            let local = kit.make(e, 3);
            let local = kit.declare(e, local);
            e.collect();
            let (one, other) = (e.load(invariant, kit.number, I64), e.load(local, kit.number, I64));
            let sum = e.ins().iadd(one, other);
            e.set(last, sum);
        });
        let last = e.get(last);
        e.ret(args![last]);
    }),
    ("alias", |e, kit| {
        let made = kit.make(e, 7);
        let variable = kit.variable(e, made);
        let condition = e.param(0);
        // In both arms, and behind them, the variable is another name of the same value.
        e.if_else(condition, |e| e.collect(), |e| _ = kit.number(e, variable));
        e.collect();
        let number = kit.number(e, variable);
        e.ret(args![number]);
    }),
    ("try_call_normal_edge", |e, kit| try_call(e, kit, 0)),
    ("try_call_handler_edge", |e, kit| try_call(e, kit, 1)),
];

/// A reference that lives over a guarded call, which throws or does not.
fn try_call(e: &mut Emit, kit: &Kit, throws: i64) {
    let made = kit.make(e, 7);
    let variable = kit.variable(e, made);
    let throws = e.int(I64, throws);
    let read = |e: &mut Emit| {
        let number = kit.number(e, variable);
        e.ret(args![number]);
    };
    e.try_call(kit.collects, args![throws], |e, _| read(e), |e, _| read(e));
}

fn shape(shape: Shape, opt_level: OptLevel, forgets: bool) -> Result<i64, Trap> {
    let mut boxes = watched(Semispace::ATTRS, opt_level);
    let (layout, number) = (boxes.layout, boxes.number);
    let signature = || Signature::new([I64.into()], [I64.into()]);
    let collects = boxes
        .module
        .function("collects", signature(), |e| {
            let throws = e.param(0);
            e.collect();
            e.if_then(throws, |e| {
                let exception = e.null();
                e.throw(exception);
            });
            e.ret(args![throws]);
        })
        .unwrap();
    let kit = Kit { layout, number, collects, forgets };
    let func = boxes.module.function(shape.0, signature(), |e| shape.1(e, &kit)).unwrap();
    let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
    let mut mutator = Mutator::new(boxes.module, Semispace::new(options).unwrap()).unwrap();
    mutator.set_verify(!forgets);
    match mutator.call(func, &[Val::I64(1)]) {
        Ok(results) => Ok(int(results)),
        Err(CallError::Trap(trap)) => Err(trap),
        Err(error) => panic!("{}: {error}", shape.0),
    }
}

#[test]
fn each_shape_that_is_forgotten_is_named() {
    for opt_level in [OptLevel::None, OptLevel::Speed] {
        for one in SHAPES {
            let name = one.0;
            assert_eq!(shape(one, opt_level, false), Ok(7), "{name} at {opt_level:?}");
            let trap = shape(one, opt_level, true).expect_err(name);
            assert_eq!(&*trap.backtrace[0].function, name);
            let TrapKind::BadAccess { missed_root: Some(missed), .. } = &trap.kind else {
                panic!("{name} at {opt_level:?}: {trap}")
            };
            assert_eq!(&*missed.layout, "box");
        }
    }
}

/// What the workloads, which declare everything, are reported for.
#[test]
fn the_workloads_declare_everything() {
    for workload in ALL {
        let params = workload.quick();
        let mut setup = Setup::new("3x".parse().unwrap());
        setup.missed_roots = true;
        let stack = workload.oracle(&params).stack_bytes;
        let missed = tospace::stack::with_stack(stack, || {
            let compiled = Compiled::new(workload, &params, &setup, Semispace::ATTRS).unwrap();
            let mut instance = Instance::<Semispace>::new(compiled, &setup, ()).unwrap();
            instance.run().unwrap();
            instance.mutator().missed_roots()
        })
        .unwrap();
        println!("{}: {missed:#?}", workload.name);
        // A leftover in a register now and then, but never each time.
        let each_time = |missed: &&MissedRoot| missed.frames > 3 && missed.seen == missed.frames;
        let suspicious = suspicious(&missed);
        assert_eq!(suspicious.into_iter().find(each_time), None, "{}", workload.name);
    }
}

//! The detector of missed roots names the function, the place and the layout of a reference that was
//! not declared; and has little to say of code that declares all.

use cranelift_codegen::ir::{InstBuilder, types::I64};
use tospace::collector::{Collector, CollectorAttrs, MarkSweep, Semispace};
use tospace::heap::HeapOptions;
use tospace::jit::{Emit, Module, ModuleOptions, OptLevel, Ref, Signature};
use tospace::stack::Spot;
use tospace::workloads::{ALL, Compiled, Instance, Setup};
use tospace::{CallError, MissedRoot, Mutator, TrapKind, Val, args};

use crate::support::{Boxes, boxes_with, int};

fn watched(attrs: CollectorAttrs, opt_level: OptLevel) -> Boxes {
    let options = ModuleOptions::new(attrs);
    boxes_with(ModuleOptions { missed_roots: true, check: false, opt_level, ..options })
}

fn run<C: Collector>(module: Module, func: tospace::jit::Func) -> (i64, Vec<MissedRoot>) {
    let mut mutator = Mutator::new(module, C::new(HeapOptions::new(1 << 20)).unwrap()).unwrap();
    let result = int(mutator.call(func, &[Val::I64(5)]).unwrap());
    (result, mutator.missed_roots())
}

/// The same function, right and wrong: `count` boxes live over a collection and the frames of two
/// more functions.
fn forgetful(boxes: &mut Boxes, count: i64, forgets: bool) -> tospace::jit::Func {
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
        // The first one used: one of many is in the frame of the function, one alone in a register,
        // which a function further down has saved.
        let place = if count == 30 { "in the frame of holds +0x" } else { " of c" };
        assert!(trap.to_string().contains(place), "{trap}");
        assert_eq!(&*trap.backtrace[0].function, "holds");
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

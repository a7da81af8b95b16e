//! Mistakes with modules and calls are errors that name what is wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cranelift_codegen::ir::types::{F64, I8, I64};
use tospace::collector::{Collector, MarkSweep, Semispace};
use tospace::heap::HeapOptions;
use tospace::jit::{Error, REF, Signature};
use tospace::{CallError, Mutator, Val, args};

use crate::support::{boxes, mutator};

#[test]
fn a_function_that_is_called_and_never_defined() {
    let mut boxes = boxes(Semispace::ATTRS);
    let forgotten = boxes.module.declare("forgotten", Signature::default()).unwrap();
    let caller = boxes
        .module
        .function("caller", Signature::default(), |e| {
            e.call(forgotten, args![]);
        })
        .unwrap();
    let error = boxes.module.finalize().expect_err("not defined");
    let names = "function `caller` calls `forgotten`, which is declared and not defined";
    assert_eq!(error.to_string(), names);
    // Nothing is lost: once it is defined, all is well.
    boxes.module.define(forgotten, |_| {}).unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    assert_eq!(mutator.call(caller, &[]), Ok(vec![]));
}

#[test]
fn a_function_that_only_the_host_calls_and_nobody_defined() {
    let mut boxes = boxes(Semispace::ATTRS);
    let forgotten = boxes.module.declare("forgotten", Signature::default()).unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let error = mutator.call(forgotten, &[]).expect_err("not defined");
    assert_eq!(error, CallError::Undefined("forgotten".to_owned()));
    mutator.compile(|module| module.define(forgotten, |_| {})).unwrap();
    assert_eq!(mutator.call(forgotten, &[]), Ok(vec![]));
}

#[test]
fn a_function_that_is_wrong_says_why_and_can_be_mended() {
    use cranelift_codegen::ir::InstBuilder;
    let mut mutator = mutator::<Semispace>(boxes(Semispace::ATTRS).module, 1 << 20);
    let signature = || Signature::new([I64.into(), I8.into()], [I64.into()]);
    let wrong = mutator.compile(|module| module.declare("wrong", signature())).unwrap();
    let error = mutator.compile(|module| {
        module.define(wrong, |e| {
            let (wide, narrow) = (e.param(0), e.param(1));
            let sum = e.ins().iadd(wide, narrow);
            e.ret(args![sum]);
        })
    });
    let text = error.expect_err("an i64 and an i8").to_string();
    assert!(text.contains("`wrong`") && text.contains("iadd v1, v2"), "{text}");
    mutator
        .compile(|module| {
            module.define(wrong, |e| {
                let wide = e.param(0);
                e.ret(args![wide]);
            })
        })
        .unwrap();
    let results = mutator.call(wrong, &[Val::I64(7), Val::I8(1)]).unwrap();
    assert_eq!(results, [Val::I64(7)]);
}

#[test]
fn host_functions_take_what_crosses_the_c_abi() {
    use cranelift_codegen::ir::types::{I16, I32X4, I128};
    let mut boxes = boxes(Semispace::ATTRS);
    for ty in [I8, I16, I128, I32X4] {
        for signature in [Signature::new([ty.into()], []), Signature::new([], [ty.into()])] {
            // SAFETY: it is refused, and never called.
            let declared = unsafe { boxes.module.declare_host("odd", signature, std::ptr::null()) };
            let error = declared.expect_err("it does not cross");
            assert!(matches!(error, Error::HostType { ty: refused, .. } if refused == ty));
        }
    }
}

#[test]
fn a_function_that_is_defined_twice() {
    let mut boxes = boxes(Semispace::ATTRS);
    let func = boxes.module.function("twice", Signature::default(), |_| {}).unwrap();
    let error = boxes.module.define(func, |_| {}).expect_err("defined already");
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn code_for_another_collector() {
    let boxes = boxes(Semispace::ATTRS);
    let collector = MarkSweep::new(HeapOptions::new(1 << 20)).unwrap();
    let error = Mutator::new(boxes.module, collector).err().expect("bump is not a free list");
    assert!(matches!(error, Error::Attrs { .. }), "{error}");
}

#[test]
fn arguments_that_are_not_the_functions() {
    let mut boxes = boxes(Semispace::ATTRS);
    let signature = Signature::new([I64.into(), F64.into()], [F64.into(), I8.into()]);
    let func = boxes
        .module
        .function("takes_two", signature, |e| {
            let (number, float) = (e.param(0), e.param(1));
            use cranelift_codegen::ir::InstBuilder;
            let small = e.ins().ireduce(I8, number);
            e.ret(args![float, small]);
        })
        .unwrap();
    let reference = boxes.module.function("takes_ref", Signature::new([REF], []), |_| {}).unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);

    let results = mutator.call(func, &[Val::I64(-3), Val::F64(0.5)]).unwrap();
    assert_eq!(results, [Val::F64(0.5), Val::I8(-3)]);
    for given in [
        &[][..],
        &[Val::I64(1)],
        &[Val::F64(1.0), Val::I64(1)],
        &[Val::I64(1), Val::F64(1.0), Val::I64(1)],
    ] {
        let error = mutator.call(func, given).expect_err("not its arguments");
        assert!(matches!(&error, CallError::Arguments { function, .. } if function == "takes_two"));
        assert!(error.to_string().contains("takes_two"), "{error}");
    }
    let error = mutator.call(reference, &[Val::I64(0)]).expect_err("a reference is no integer");
    assert!(matches!(error, CallError::Arguments { .. }), "{error}");
}

#[test]
#[should_panic(expected = "values for the fields of `box`")]
fn a_record_without_its_fields() {
    let mut boxes = boxes(Semispace::ATTRS);
    let layout = boxes.layout;
    let _ = boxes.module.function("forgetful", Signature::default(), |e| {
        e.new_record(layout, args![]);
    });
}

#[test]
#[should_panic(expected = "`box.number`")]
fn a_reference_in_a_scalars_place() {
    let mut boxes = boxes(Semispace::ATTRS);
    let layout = boxes.layout;
    let _ = boxes.module.function("mistaken", Signature::default(), |e| {
        let null = e.null();
        e.new_record(layout, args![null]);
    });
}

#[test]
#[should_panic(expected = "without returning its 1 results")]
fn a_function_that_does_not_return_what_it_promises() {
    let mut boxes = boxes(Semispace::ATTRS);
    let _ = boxes.module.function("endless", Signature::new([], [I64.into()]), |_| {});
}

/// Code that is compiled later calls what was there before, has globals and layouts of its own, and
/// its frames are walked like the others.
#[test]
fn code_that_is_compiled_later() {
    let mut boxes = boxes(Semispace::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let first = boxes.module.global();
    let signature = || Signature::new([I64.into()], [I64.into()]);
    // Keeps its argument in a global, collects, and gives it back.
    let keep = boxes
        .module
        .function("keep", signature(), |e| {
            let value = e.param(0);
            let object = e.new_record(layout, args![value]);
            e.store_global(first, object);
            e.collect();
            let object = e.load_global(first);
            let value = e.load(object, number, I64);
            e.ret(args![value]);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    assert_eq!(mutator.call(keep, &[Val::I64(1)]).unwrap(), [Val::I64(1)]);

    let keep_two = mutator
        .compile(|module| {
            let globals: Vec<_> = (0..100).map(|_| module.global()).collect();
            let mut wrapper = tospace::heap::Record::new("wrapper");
            let inner = wrapper.reference("inner");
            let wrapper = module.record(wrapper).expect("a small record");
            module.function("keep_two", signature(), |e| {
                use cranelift_codegen::ir::InstBuilder;
                let value = e.param(0);
                let object = e.new_record(layout, args![value]);
                let wrapped = e.new_record(wrapper, args![object]);
                e.store_global(globals[99], wrapped);
                let kept = e.call(keep, args![value]).scalar();
                let wrapped_now = e.load_global(globals[99]);
                let object = e.load_ref(wrapped_now, inner);
                let own = e.load(object, number, I64);
                let sum = e.ins().iadd(kept, own);
                // The reference on the stack is the one in the global.
                let same = e.is_same(wrapped, wrapped_now);
                let same = e.ins().uextend(I64, same);
                let sum = e.ins().iadd(sum, same);
                e.ret(args![sum]);
            })
        })
        .unwrap();
    assert_eq!(mutator.call(keep_two, &[Val::I64(10)]).unwrap(), [Val::I64(21)]);
    assert_eq!(mutator.statistics().collections, 2);
    assert_eq!(mutator.statistics().live_bytes_last, 16 + 16 + 16);
}

/// Whatever becomes of a compilation, what it made final can be called.
#[test]
fn a_compilation_that_fails_after_making_code_final() {
    let boxes = boxes(Semispace::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let mut made = None;
    let result = mutator.compile(|module| {
        let globals: Vec<_> = (0..1000).map(|_| module.global()).collect();
        let signature = Signature::new([I64.into()], [I64.into()]);
        made = Some(module.function("keep", signature, |e| {
            let value = e.param(0);
            let object = e.new_record(layout, args![value]);
            e.store_global(globals[999], object);
            let object = e.load_global(globals[999]);
            let value = e.load(object, number, I64);
            e.ret(args![value]);
        })?);
        module.finalize()?;
        Err::<(), _>(Error::Host("changed my mind"))
    });
    assert!(result.is_err());
    let keep = made.expect("it was defined");
    assert_eq!(mutator.call(keep, &[Val::I64(5)]), Ok(vec![Val::I64(5)]));
}

/// As above, with a panic.
#[test]
fn a_compilation_that_panics_after_making_code_final() {
    let boxes = boxes(Semispace::ATTRS);
    let (layout, number) = (boxes.layout, boxes.number);
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let mut made = None;
    let compile = AssertUnwindSafe(|| {
        mutator.compile(|module| -> Result<(), Error> {
            let global = (0..1000).map(|_| module.global()).last().expect("a thousand");
            let signature = Signature::new([I64.into()], [I64.into()]);
            made = Some(module.function("keep", signature, |e| {
                let value = e.param(0);
                let object = e.new_record(layout, args![value]);
                e.store_global(global, object);
                let object = e.load_global(global);
                let value = e.load(object, number, I64);
                e.ret(args![value]);
            })?);
            module.finalize()?;
            panic!("changed my mind")
        })
    });
    assert!(catch_unwind(compile).is_err());
    let keep = made.expect("it was defined");
    assert_eq!(mutator.call(keep, &[Val::I64(5)]), Ok(vec![Val::I64(5)]));
}

/// While its code is active: what is active gets out, and nothing else is done with what is lost.
#[test]
fn a_module_that_is_exchanged_by_a_host_function() {
    let mut boxes = boxes(Semispace::ATTRS);
    let layout = boxes.layout;
    let exchanges = boxes
        .module
        .host_function("exchanges", Signature::default(), |scope, _| {
            scope.compile(|module| {
                *module = crate::support::boxes(Semispace::ATTRS).module;
                Ok(())
            })?;
            Ok(vec![])
        })
        .unwrap();
    let calls = boxes
        .module
        .function("calls", Signature::default(), |e| {
            let zero = e.int(I64, 0);
            let held = e.new_record(layout, args![zero]);
            e.call(exchanges, args![]);
            e.is_null(held);
        })
        .unwrap();
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    let panics = |result: Result<(), Box<dyn std::any::Any + Send>>| {
        let panic = result.expect_err("it is lost");
        let message = panic.downcast_ref::<&str>().expect("a message");
        assert!(message.contains("this mutator's own"), "{message}");
    };
    panics(catch_unwind(AssertUnwindSafe(|| drop(mutator.call(calls, &[])))));
    panics(catch_unwind(AssertUnwindSafe(|| drop(mutator.call(calls, &[])))));
    panics(catch_unwind(AssertUnwindSafe(|| _ = mutator.collect())));
    panics(catch_unwind(AssertUnwindSafe(|| {
        mutator.scope(|scope| drop(scope.new_record(layout, &[Val::I64(1)])));
    })));
}

/// The crate's own trampolines have names, but no program means them.
#[test]
fn finding_functions() {
    let mut boxes = boxes(Semispace::ATTRS);
    assert_eq!(boxes.module.find("allocate"), None);
    let own = boxes.module.function("allocate", Signature::default(), |_| {}).unwrap();
    let host =
        boxes.module.host_function("throw", Signature::default(), |_, _| Ok(vec![])).unwrap();
    assert_eq!(boxes.module.find("allocate"), Some(own));
    assert_eq!(boxes.module.find("throw"), Some(host));
    let mut mutator = mutator::<Semispace>(boxes.module, 1 << 20);
    assert_eq!(mutator.module().find("entry"), None);
    assert_eq!(mutator.call(own, &[]), Ok(vec![]));
    let error = mutator.call(host, &[]).expect_err("it has no code");
    assert_eq!(error.to_string(), "`throw` is a host function: only compiled code calls it");
}

/// A map may have entries of any type for Cranelift; here references have 64 bits.
#[test]
fn a_map_with_a_narrow_entry() {
    use cranelift_codegen::ir::{InstBuilder, types::I32};
    let mut boxes = boxes(Semispace::ATTRS);
    let result = boxes.module.function("narrow", Signature::new([I64.into()], [I64.into()]), |e| {
        let wide = e.param(0);
        let narrow = e.ins().ireduce(I32, wide);
        e.builder().declare_value_needs_stack_map(narrow);
        e.collect();
        let wide = e.ins().uextend(I64, narrow);
        e.ret(args![wide]);
    });
    let error = result.expect_err("half a reference");
    let expected = "function `narrow` keeps a i32 in a stack map; references are i64";
    assert_eq!(error.to_string(), expected);
}

#[test]
#[should_panic(expected = "this mutator's own")]
fn a_module_that_is_exchanged() {
    let mut mutator = mutator::<Semispace>(boxes(Semispace::ATTRS).module, 1 << 20);
    let _ = mutator.compile(|module| {
        *module = boxes(Semispace::ATTRS).module;
        Ok(())
    });
}

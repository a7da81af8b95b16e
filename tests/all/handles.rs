//! References that the host holds: handles are updated, scopes end, what is wrong panics with a name.

use std::panic::{self, AssertUnwindSafe};

use cranelift_codegen::ir::Type;
use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::heap::{ArrayLayout, Field, HeapOptions, LayoutId, Record, RefField};
use tospace::jit::{Module, ModuleOptions, REF, Signature, Ty};
use tospace::{CallError, Mutator, Scope, TrapKind, Val, args};

use crate::support::{boxes, mutator};

struct Node {
    id: LayoutId,
    number: Field,
    left: RefField,
    right: RefField,
    numbers: ArrayLayout,
    nodes: ArrayLayout,
    text: ArrayLayout,
}

fn node(module: &mut Module) -> Node {
    let mut node = Record::new("node");
    let (number, left) = (node.scalar("number", 8).unwrap(), node.reference("left"));
    let right = node.reference("right");
    let id = module.record(node).unwrap();
    let numbers = module.scalars("numbers", 4).unwrap();
    let nodes = module.references("nodes").unwrap();
    let text = module.scalars("text", 1).unwrap();
    Node { id, number, left, right, numbers, nodes, text }
}

fn module<C: Collector>() -> (Module, Node) {
    let mut module = Module::new(ModuleOptions::new(C::ATTRS)).unwrap();
    let node = node(&mut module);
    (module, node)
}

/// A mutator in which whatever is stale shows.
fn strict<C: Collector>(module: Module) -> Mutator<C> {
    let options = HeapOptions { protect: true, ..HeapOptions::new(1 << 20) };
    let mut mutator = Mutator::new(module, C::new(options).unwrap()).unwrap();
    mutator.set_stress(1);
    mutator.set_verify(true);
    mutator
}

/// Builds a tree whose nodes are numbered from 1 in the order of a heap, by handles alone.
fn tree<'s>(scope: &mut Scope<'s>, node: &Node, number: i64, depth: u32) -> tospace::Handle<'s> {
    let kids = [2 * number, 2 * number + 1].map(|number| match depth {
        0 => scope.null(),
        _ => tree(scope, node, number, depth - 1),
    });
    scope.new_record(node.id, &[Val::I64(number), kids[0].into(), kids[1].into()]).unwrap()
}

/// The sum of a tree's numbers, by handles that last as long as one node.
fn sum(scope: &mut Scope<'_>, node: &Node, tree: tospace::Handle<'_>) -> i64 {
    if scope.is_null(tree) {
        return 0;
    }
    let own = scope.load(tree, node.number, I64).as_i64().expect("an i64");
    own + scope.scope(|scope| {
        let (left, right) = (scope.load_ref(tree, node.left), scope.load_ref(tree, node.right));
        sum(scope, node, left) + sum(scope, node, right)
    })
}

fn trees<C: Collector>() {
    let (module, node) = module::<C>();
    let mut mutator = strict::<C>(module);
    mutator.scope(|scope| {
        let tree = tree(scope, &node, 1, 5);
        let kept = scope.copy(tree);
        let (count, bytes) = (63, 63 * 32);
        assert_eq!(sum(scope, &node, tree), count * (count + 1) / 2);
        assert!(scope.is_same(tree, kept));
        let null = scope.null();
        scope.store_ref(tree, node.left, null);
        // Each node has a handle still.
        assert_eq!(scope.collect().live_bytes, bytes);
        scope.store(tree, node.number, Val::I64(-7));
        assert_eq!(scope.load(kept, node.number, I64), Val::I64(-7));
    });
    // Nothing of it is a root any more.
    let live = mutator.collect().live_bytes;
    assert_eq!(live, if C::ATTRS.frees { 0 } else { 63 * 32 });
}

#[test]
fn trees_of_handles() {
    trees::<Semispace>();
    trees::<MarkSweep>();
    trees::<NeverFree>();
}

#[test]
fn arrays_of_everything() {
    let (module, node) = module::<Semispace>();
    let mut mutator = strict::<Semispace>(module);
    mutator.scope(|scope| {
        let numbers = scope.new_array(node.numbers, 3).unwrap();
        let nodes = scope.new_array(node.nodes, 2).unwrap();
        let text = scope.new_array(node.text, 5).unwrap();
        scope.array_store(numbers, node.numbers, 2, Val::F32(1.5));
        scope.array_store(numbers, node.numbers, 1, Val::I32(-3));
        scope.array_store_ref(nodes, node.nodes, 1, numbers);
        scope.bytes_mut(text).copy_from_slice(b"hello");
        scope.collect();
        assert_eq!(scope.bytes(text), b"hello");
        let element = scope.array_load_ref(nodes, node.nodes, 1);
        assert!(scope.is_same(element, numbers));
        let first = scope.array_load_ref(nodes, node.nodes, 0);
        assert!(scope.is_null(first));
        assert_eq!(scope.array_load(element, node.numbers, 2, F32), Val::F32(1.5));
        assert_eq!(scope.array_load(element, node.numbers, 1, I32), Val::I32(-3));
        assert_eq!([numbers, nodes, text].map(|array| scope.array_length(array)), [3, 2, 5]);
        let error = scope.new_array(node.text, 1 << 32).expect_err("too long");
        assert_eq!(error, TrapKind::ArrayLength { length: 1 << 32 });
        let error = scope.new_array(node.text, u32::MAX as usize).expect_err("too large");
        assert!(matches!(error, TrapKind::HeapFull { asked: 0x1_0000_0008, .. }), "{error}");
        assert_eq!(scope.bytes(text), b"hello");
    });
}

/// Compiled code gets references from the host and gives some back, with scalars of every type
/// between them: more than there are registers.
#[test]
fn calls_with_many_of_each() {
    const EACH: usize = 6;
    let types: [Ty; 7] = [I8, I16, I32, I64, F32, F64]
        .map(Ty::from)
        .into_iter()
        .chain([REF])
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let (mut module, node) = module::<Semispace>();
    let all: Vec<Ty> = (0..EACH).flat_map(|_| types).collect();
    let reversed: Vec<Ty> = all.iter().rev().copied().collect();
    let turn = module
        .function("turn", Signature::new(all.clone(), reversed.clone()), |e| {
            e.collect();
            let results: Vec<_> = (0..all.len())
                .rev()
                .map(|index| match all[index] {
                    Ty::Ref => e.ref_param(index).into(),
                    Ty::Scalar(_) => e.param(index).into(),
                })
                .collect();
            e.collect();
            e.ret(&results);
        })
        .unwrap();
    let mut mutator = strict::<Semispace>(module);
    mutator.scope(|scope| {
        let arguments: Vec<Val<'_>> = (0..all.len())
            .map(|index| match all[index] {
                Ty::Ref => tree(scope, &node, index as i64, 0).into(),
                Ty::Scalar(I8) => Val::I8(index as i8 - 100),
                Ty::Scalar(I16) => Val::I16(index as i16 * -100),
                Ty::Scalar(I32) => Val::I32(index as i32 * -100_000),
                Ty::Scalar(I64) => Val::I64(index as i64 * -10_000_000_000),
                Ty::Scalar(F32) => Val::F32(index as f32 / 4.0),
                Ty::Scalar(_) => Val::F64(index as f64 / -8.0),
            })
            .collect();
        let results = scope.call(turn, &arguments).unwrap();
        assert_eq!(results.len(), all.len());
        for (index, (result, argument)) in results.iter().rev().zip(&arguments).enumerate() {
            match (result, argument) {
                (Val::Ref(result), Val::Ref(argument)) => {
                    assert!(scope.is_same(*result, *argument));
                    let number = scope.load(*result, node.number, I64);
                    assert_eq!(number, Val::I64(index as i64));
                }
                _ => assert_eq!(result, argument),
            }
        }
    });
    let call: &[Val<'_>] = &[];
    let error = mutator.call(turn, call).expect_err("there is no scope");
    assert_eq!(error, CallError::NoScope("turn".to_owned()));
}

/// A host function gets references as handles, which live through collections, calls of compiled
/// code, and calls of itself; what it returns arrives as it is then.
#[test]
fn host_functions_with_references() {
    let (mut module, node) = module::<Semispace>();
    let Node { id, number, left, right, .. } = node;
    let tree_to_tree = || Signature::new([REF, I64.into()], [REF]);
    let mirror = module.declare("mirror", tree_to_tree()).unwrap();
    // mirrored(tree, depth): a copy of the tree, turned around: the host and compiled code take turns.
    let by_host = module
        .host_function("by_host", tree_to_tree(), move |scope, given| {
            let [Val::Ref(tree), Val::I64(depth)] = given[..] else { unreachable!() };
            if scope.is_null(tree) {
                return Ok(vec![Val::Ref(tree)]);
            }
            scope.collect();
            let own = scope.load(tree, number, I64);
            let kids = [right, left].map(|field| scope.load_ref(tree, field));
            let mut turned = Vec::new();
            for kid in kids {
                turned.extend(scope.call(mirror, &[Val::Ref(kid), Val::I64(depth + 1)])?);
            }
            let copy = scope.new_record(id, &[own, turned[0], turned[1]])?;
            assert_eq!(scope.load(tree, number, I64), own);
            Ok(vec![Val::Ref(copy)])
        })
        .unwrap();
    module
        .define(mirror, |e| {
            let (tree, depth) = (e.ref_param(0), e.param(1));
            let null = e.null();
            e.new_record(id, args![depth, null, null]);
            let copy = e.call(by_host, args![tree, depth]).reference();
            e.new_record(id, args![depth, tree, copy]);
            e.ret(args![copy]);
        })
        .unwrap();
    let mut mutator = strict::<Semispace>(module);
    mutator.scope(|scope| {
        let tree = tree(scope, &node, 1, 4);
        let before = sum(scope, &node, tree);
        let mirrored = scope.call(mirror, &[Val::Ref(tree), Val::I64(0)]).unwrap();
        let mirrored = mirrored[0].as_ref().expect("a reference");
        assert_eq!(sum(scope, &node, mirrored), before);
        let right = scope.load_ref(mirrored, node.right);
        assert_eq!(scope.load(right, node.number, I64), Val::I64(2));
        let again = scope.call(mirror, &[Val::Ref(mirrored), Val::I64(0)]).unwrap();
        let left = scope.load_ref(again[0].as_ref().unwrap(), node.left);
        assert_eq!(scope.load(left, node.number, I64), Val::I64(2));
        assert_eq!(scope.collect().live_bytes, 3 * 31 * 32);
    });
    // The handles of the host functions are gone too.
    assert_eq!(mutator.collect().slots_visited, 0);
}

#[test]
fn globals_outlive_scopes() {
    let (mut module, node) = module::<Semispace>();
    let global = module.global();
    let mut mutator = strict::<Semispace>(module);
    mutator.scope(|scope| {
        let tree = tree(scope, &node, 1, 2);
        scope.store_global(global, tree);
    });
    assert_eq!(mutator.collect().live_bytes, 7 * 32);
    mutator.scope(|scope| {
        let tree = scope.load_global(global);
        assert_eq!(sum(scope, &node, tree), 28);
    });
}

/// A scope ends also by a panic.
#[test]
fn a_scope_that_panics() {
    let (module, node) = module::<Semispace>();
    let mut mutator = mutator::<Semispace>(module, 1 << 20);
    let panics = AssertUnwindSafe(|| {
        mutator.scope(|scope| {
            tree(scope, &node, 1, 3);
            panic!("in the middle");
        })
    });
    assert!(panic::catch_unwind(panics).is_err());
    assert_eq!(mutator.collect().live_bytes, 0);
}

fn message(wrong: impl FnOnce(&mut Scope<'_>, &Node)) -> String {
    let (module, node) = module::<Semispace>();
    let mut mutator = mutator::<Semispace>(module, 1 << 20);
    let call = AssertUnwindSafe(|| mutator.scope(|scope| wrong(scope, &node)));
    let panic = panic::catch_unwind(call).expect_err("a mistake");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast_ref::<&str>().expect("a message")).to_owned(),
    }
}

#[test]
fn mistakes_say_what_is_wrong() {
    fn one<'s>(scope: &mut Scope<'s>, node: &Node) -> tospace::Handle<'s> {
        tree(scope, node, 1, 0)
    }
    let wide: Type = I8;
    for (found, expected) in [
        (
            message(|scope, node| {
                let null = scope.null();
                scope.load(null, node.number, I64);
            }),
            "refers to an object",
        ),
        (
            message(|scope, node| {
                let array = scope.new_array(node.text, 16).unwrap();
                scope.load(array, node.number, I64);
            }),
            "`text` has no Scalar",
        ),
        (
            message(|scope, node| {
                let node_ref = one(scope, node);
                scope.load(node_ref, node.number, wide);
            }),
            "from 8 bytes",
        ),
        (
            message(|scope, node| {
                let node_ref = one(scope, node);
                scope.store(node_ref, node.number, Val::Ref(node_ref));
            }),
            "in the place of a scalar",
        ),
        (
            message(|scope, node| {
                let array = scope.new_array(node.numbers, 3).unwrap();
                scope.array_load(array, node.numbers, 3, I32);
            }),
            "`numbers`[3] of 3 elements",
        ),
        (
            message(|scope, node| {
                let array = scope.new_array(node.numbers, 3).unwrap();
                scope.array_load_ref(array, node.nodes, 0);
            }),
            "`numbers` as an array of something else",
        ),
        (
            message(|scope, node| {
                let array = scope.new_array(node.numbers, 3).unwrap();
                scope.bytes(array);
            }),
            "`numbers` is no array of bytes",
        ),
        (message(|scope, node| _ = scope.new_record(node.id, &[Val::I64(1)])), "values for `node`"),
        (
            message(|scope, node| {
                let node_ref = one(scope, node);
                scope.array_length(node_ref);
            }),
            "`node` is no array",
        ),
        (
            message(|scope, node| {
                // The same number as `numbers`, in a module where that has other elements.
                let mut others = Module::new(ModuleOptions::new(Semispace::ATTRS)).unwrap();
                others.record(Record::new("none")).unwrap();
                let foreign = others.scalars("foreign", 8).unwrap();
                assert_eq!(foreign.id(), node.numbers.id());
                let array = scope.new_array(node.numbers, 3).unwrap();
                scope.array_store(array, foreign, 2, Val::I64(-1));
            }),
            "`numbers` as an array of something else",
        ),
        (
            message(|scope, node| {
                let mut others = Module::new(ModuleOptions::new(Semispace::ATTRS)).unwrap();
                let foreign = others.scalars("foreign", 8).unwrap();
                assert_eq!(foreign.id(), node.id);
                _ = scope.new_array(foreign, 3);
            }),
            "an array layout of another module",
        ),
        (
            message(|scope, node| {
                let node_ref = one(scope, node);
                let mut others = mutator::<Semispace>(boxes(Semispace::ATTRS).module, 1 << 20);
                others.scope(|others| others.is_null(node_ref));
            }),
            "a handle of another mutator",
        ),
    ] {
        assert!(found.contains(expected), "{found}, not: {expected}");
    }
}

#[test]
fn a_heap_that_is_full_of_handles() {
    let (module, node) = module::<Semispace>();
    let mut mutator = mutator::<Semispace>(module, 1 << 17);
    mutator.scope(|scope| {
        let mut handles = Vec::new();
        let error = loop {
            let null = scope.null();
            let number = Val::I64(handles.len() as i64);
            match scope.new_record(node.id, &[number, null.into(), null.into()]) {
                Ok(handle) => handles.push(handle),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, TrapKind::HeapFull { asked: 32, .. }), "{error}");
        assert_eq!(handles.len(), (1 << 16) / 32);
        for (number, handle) in handles.into_iter().enumerate() {
            assert_eq!(scope.load(handle, node.number, I64), Val::I64(number as i64));
        }
    });
    mutator.scope(|scope| scope.new_array(node.text, 1000).map(drop)).expect("it is empty again");
}

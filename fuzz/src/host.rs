//! The host functions of random programs, as [`crate::interpret`] models them.

use std::rc::Rc;

use tospace::cranelift_codegen::ir::types::I64;
use tospace::heap::{Field, LayoutId, RefField};
use tospace::jit::{Error, Func, Module};
use tospace::{CallError, Handle, HostError, Scope, TrapKind, Val};

use crate::cells::Cells;
use crate::compile::signature;
use crate::fault::re_entering;
use crate::heap_layout::{Layout, Place};
use crate::program::Host;

/// What [`Host::Fail`] fails with.
pub const AS_ASKED: &str = "as asked";
/// What [`Host::CallBack`] fails with.
pub const CALLED_BACK_FAILED: &str = "what was called back failed";

/// What host functions know of a program: all of it can be copied into a closure.
#[derive(Clone)]
struct Nodes {
    layout: LayoutId,
    number: Field,
    left: RefField,
    right: RefField,
    cells: Rc<Cells>,
    called_back: Func,
}

/// Declares all host functions.
///
/// # Errors
/// If one cannot be compiled.
pub fn declare(
    module: &mut Module,
    node: &Layout,
    cells: &Rc<Cells>,
    called_back: Func,
) -> Result<Vec<(Host, Func)>, Error> {
    let Layout::Record { id, number, places } = node else { unreachable!("a node is a record") };
    let &[Place::Ref(left), Place::Ref(right), _] = &places[..] else {
        unreachable!("the fields of a node")
    };
    let (layout, number, cells) = (*id, *number, Rc::clone(cells));
    let nodes = Nodes { layout, number, left, right, cells, called_back };
    let declared = Host::ALL.map(|host| {
        let (params, results) = host.signature();
        let (name, nodes) = (format!("{host:?}"), nodes.clone());
        let func =
            module.host_function(&name, signature(params, results), move |scope, given| {
                nodes.run(host, scope, given)
            })?;
        Ok((host, func))
    });
    declared.into_iter().collect()
}

impl Nodes {
    fn run<'s>(
        &self,
        host: Host,
        scope: &mut Scope<'s>,
        given: &[Val<'s>],
    ) -> Result<Vec<Val<'s>>, HostError> {
        Ok(match (host, given) {
            (Host::Link, &[Val::I64(number), Val::Ref(left), Val::Ref(right)]) => {
                vec![Val::Ref(self.link(scope, number, left, right)?)]
            }
            (Host::Walk, &[Val::Ref(node)]) => vec![Val::I64(self.walk(scope, node))],
            (Host::CallBack, &[Val::I64(depth), Val::Ref(node)]) => {
                vec![Val::Ref(self.call_back(scope, depth, node)?)]
            }
            (Host::Fail, &[Val::I64(number), Val::Ref(node)]) => {
                if number & 15 == 13 {
                    return Err(HostError::new(AS_ASKED));
                }
                if number & 15 == 3 {
                    return Err(scope.throw(node));
                }
                vec![Val::I64(number.wrapping_add(1))]
            }
            (Host::Churn, &[Val::I64(number)]) => {
                for _ in 0..Host::churned(number) {
                    scope.scope(|scope| self.garbage(scope))?;
                }
                Vec::new()
            }
            _ => unreachable!("{host:?} was given {given:?}"),
        })
    }

    fn node<'s>(
        &self,
        scope: &mut Scope<'s>,
        left: Handle<'_>,
        right: Handle<'_>,
        value: i64,
    ) -> Result<Handle<'s>, TrapKind> {
        let number = Val::I64(self.cells.take_number());
        let fields = [number, Val::Ref(left), Val::Ref(right), Val::I64(value)];
        scope.new_record(self.layout, &fields)
    }

    fn garbage(&self, scope: &mut Scope<'_>) -> Result<(), TrapKind> {
        let null = scope.null();
        self.node(scope, null, null, 0).map(|_| ())
    }

    fn link<'s>(
        &self,
        scope: &mut Scope<'s>,
        value: i64,
        left: Handle<'_>,
        right: Handle<'_>,
    ) -> Result<Handle<'s>, TrapKind> {
        if value & 3 == 0 {
            scope.collect();
        }
        let node = self.node(scope, left, right, value)?;
        self.garbage(scope)?;
        if value & 3 == 1 {
            scope.collect();
        }
        // As they were, wherever they are.
        scope.store_ref(node, self.left, left);
        scope.store_ref(node, self.right, right);
        Ok(node)
    }

    fn walk<'s>(&self, scope: &mut Scope<'s>, first: Handle<'s>) -> i64 {
        let (mut sum, mut at) = (0i64, first);
        for walked in 0..Host::WALKED {
            if scope.is_null(at) {
                break;
            }
            if walked == 1 {
                scope.collect();
            }
            let number = scope.load(at, self.number, I64).as_i64().expect("an i64");
            sum = sum.wrapping_mul(31).wrapping_add(number);
            at = scope.load_ref(at, self.left);
        }
        sum
    }

    fn call_back<'s>(
        &self,
        scope: &mut Scope<'s>,
        depth: i64,
        given: Handle<'s>,
    ) -> Result<Handle<'s>, HostError> {
        let null = scope.null();
        let node = self.node(scope, given, null, depth)?;
        let arguments = [Val::I64(depth.wrapping_sub(1)), Val::Ref(node)];
        let kind = match re_entering(|| scope.call(self.called_back, &arguments)) {
            Ok(results) => {
                let &[Val::Ref(result)] = &results[..] else { unreachable!("it gives a node") };
                scope.store_ref(node, self.right, result);
                return Ok(node);
            }
            Err(CallError::Trap(trap)) => trap.kind,
            Err(error) => unreachable!("{error}"),
        };
        let odd = depth & 1 == 1;
        match kind {
            TrapKind::Uncaught => {
                // What was thrown waits in the mutator.
                scope.collect();
                let thrown = scope.take_thrown();
                if odd { Ok(thrown) } else { Err(scope.throw(thrown)) }
            }
            TrapKind::NullReference
            | TrapKind::IndexOutOfBounds { .. }
            | TrapKind::DivisionByZero
            | TrapKind::IntegerOverflow
            | TrapKind::Host(_) => {
                if odd {
                    Ok(given)
                } else {
                    Err(HostError::new(CALLED_BACK_FAILED))
                }
            }
            // Nothing that a program does.
            unexpected => Err(unexpected.into()),
        }
    }
}

//! Walks the heap at the end of a program, in step with the interpreter's.

use std::collections::HashMap;

use tospace::cranelift_codegen::ir::types::I64;
use tospace::{Handle, Scope, Val};

use crate::compile::Symbols;
use crate::heap_layout::{Layout, Place, ir_type};
use crate::interpret::Expected;
use crate::model::{Object, Value};
use crate::program::{Program, Scalar, Storage};

/// Compares what globals and the host's handles refer to: objects, what is in them, which slots refer
/// to the same one. How many objects there are.
///
/// # Errors
/// A way to the first difference, and what it is.
pub fn compare_heaps(
    scope: &mut Scope<'_>,
    program: &Program,
    symbols: &Symbols,
    expected: &Expected,
    kept: &[Handle<'_>],
) -> Result<usize, String> {
    scope.scope(|scope| {
        let mut walk =
            Walk { program, symbols, expected, found: HashMap::new(), steps: Vec::new() };
        for (index, value) in expected.globals.iter().enumerate() {
            let global = scope.load_global(symbols.globals[index]);
            walk.meet(scope, global, *value, Step { from: None, index })?;
        }
        for (index, (handle, (_, value))) in kept.iter().zip(&expected.kept).enumerate() {
            let handle = scope.copy(*handle);
            let index = program.globals.len() + index;
            walk.meet(scope, handle, *value, Step { from: None, index })?;
        }
        let mut next = 0;
        while let Some(&(_, object, handle)) = walk.steps.get(next) {
            walk.visit(scope, next, object, handle)?;
            next += 1;
        }
        Ok(walk.steps.len())
    })
}

/// How an object was reached: from which one, or from the roots, by which field, element or root.
#[derive(Clone, Copy)]
struct Step {
    from: Option<usize>,
    index: usize,
}

struct Walk<'a, 's> {
    program: &'a Program,
    symbols: &'a Symbols,
    expected: &'a Expected,
    found: HashMap<Object, Handle<'s>>,
    /// The objects in the order in which they were reached, breadth first.
    steps: Vec<(Step, Object, Handle<'s>)>,
}

impl<'s> Walk<'_, 's> {
    /// A reference, and the one that it should be.
    fn meet(
        &mut self,
        scope: &mut Scope<'s>,
        handle: Handle<'s>,
        value: Value,
        step: Step,
    ) -> Result<(), String> {
        let Some(object) = value.reference() else {
            let is_null = scope.is_null(handle);
            return is_null.then_some(()).ok_or_else(|| self.at(step, "not null".to_owned()));
        };
        if scope.is_null(handle) {
            return Err(self.at(step, format!("null, not object {object}")));
        }
        if let Some(&before) = self.found.get(&object) {
            let is_same = scope.is_same(before, handle);
            let message = || format!("two objects, which should be one: {object}");
            return is_same.then_some(()).ok_or_else(|| self.at(step, message()));
        }
        let layout = &self.symbols.layouts[self.expected.model.shape(object)];
        if scope.layout(handle) != layout.id() {
            let name = scope.module().layouts().name(scope.layout(handle)).to_owned();
            return Err(self.at(step, format!("an object of `{name}`, not {object}")));
        }
        // Records are told apart by their numbers.
        if let Layout::Array(..) = layout {
            let mut others =
                self.steps.iter().filter(|(_, _, other)| scope.is_same(*other, handle));
            if let Some((_, other, _)) = others.next() {
                return Err(self.at(step, format!("object {other}, not {object}")));
            }
        }
        self.found.insert(object, handle);
        self.steps.push((step, object, handle));
        Ok(())
    }

    /// What is in an object.
    fn visit(
        &mut self,
        scope: &mut Scope<'s>,
        from: usize,
        object: Object,
        handle: Handle<'s>,
    ) -> Result<(), String> {
        let (expected, symbols) = (self.expected, self.symbols);
        let shape = expected.model.shape(object);
        let values = expected.model.values(object);
        if let Layout::Array(..) = symbols.layouts[shape] {
            let length = scope.array_length(handle);
            if length != values.len() {
                let message = format!("{length} elements, not {}", values.len());
                return Err(self.at(self.steps[from].0, message));
            }
        } else if let Layout::Record { number, .. } = symbols.layouts[shape] {
            let number = scope.load(handle, number, I64);
            if number != Val::I64(object as i64) {
                return Err(self.at(self.steps[from].0, format!("{number:?}, not {object}")));
            }
        }
        for (index, &value) in values.iter().enumerate() {
            let step = Step { from: Some(from), index };
            match self.load(scope, handle, shape, index) {
                Loaded::Ref(reference) => self.meet(scope, reference, value, step)?,
                Loaded::Scalar(found) if found == value => {}
                Loaded::Scalar(found) => {
                    return Err(self.at(step, format!("{found:?}, not {value:?}")));
                }
            }
        }
        Ok(())
    }

    fn load(
        &self,
        scope: &mut Scope<'s>,
        handle: Handle<'s>,
        shape: usize,
        index: usize,
    ) -> Loaded<'s> {
        let peek = |scope: &mut Scope<'s>, offset: usize| {
            let arguments = [Val::Ref(handle), Val::I64(offset as i64)];
            let results = scope.call(self.symbols.peek, &arguments).expect("it only loads");
            results[0].as_i64().expect("a word")
        };
        let (scalar, offset) = match &self.symbols.layouts[shape] {
            Layout::Record { places, .. } => match places[index] {
                Place::Ref(field) => return Loaded::Ref(scope.load_ref(handle, field)),
                Place::Scalar(field, scalar) if scalar.bytes() <= 8 => {
                    return Loaded::Scalar(value(scope.load(handle, field, ir_type(scalar))));
                }
                Place::Scalar(field, scalar) => (scalar, field.offset() as usize),
            },
            &Layout::Array(layout, element) => match element {
                Storage::Ref(_) => {
                    return Loaded::Ref(scope.array_load_ref(handle, layout, index));
                }
                Storage::Scalar(scalar) if scalar.bytes() <= 8 => {
                    let loaded = scope.array_load(handle, layout, index, ir_type(scalar));
                    return Loaded::Scalar(value(loaded));
                }
                Storage::Scalar(scalar) => (scalar, 8 + 16 * index),
            },
        };
        let (low, high) = (peek(scope, offset), peek(scope, offset + 8));
        Loaded::Scalar(match scalar {
            Scalar::I64X2 => Value::Vector([low, high]),
            _ => Value::Wide(i128::from(high) << 64 | i128::from(low as u64)),
        })
    }

    /// Where a difference is, and what it is.
    fn at(&self, step: Step, difference: String) -> String {
        let (mut path, mut next) = (Vec::new(), step);
        while let Some(from) = next.from {
            path.push(format!(".{}", next.index));
            next = self.steps[from].0;
        }
        let globals = self.program.globals.len();
        let root = match next.index.checked_sub(globals) {
            None => format!("global {}", next.index),
            Some(index) => format!("kept {index}"),
        };
        path.reverse();
        format!("{root}{}: {difference}", path.concat())
    }
}

/// What is in a field or an element.
enum Loaded<'s> {
    Ref(Handle<'s>),
    Scalar(Value),
}

/// What the host has got, as the interpreter has it.
///
/// # Panics
/// If it is a reference.
pub fn value(val: Val<'_>) -> Value {
    match val {
        Val::I8(value) => Value::Int(value.into()),
        Val::I16(value) => Value::Int(value.into()),
        Val::I32(value) => Value::Int(value.into()),
        Val::I64(value) => Value::Int(value),
        Val::F32(value) => Value::Float(value.into()),
        Val::F64(value) => Value::Float(value),
        Val::Ref(_) => panic!("a reference in the place of a scalar"),
    }
}

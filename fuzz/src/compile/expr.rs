//! Expressions.

use tospace::cranelift_codegen::ir::{
    BlockArg, InstBuilder, Value,
    condcodes::IntCC,
    types::{F32, F64, I64, I64X2},
};
use tospace::jit::{Arg, Emit, Ref};

use super::{Code, reference};
use crate::heap_layout::{Layout, Place, ir_type};
use crate::program::{Expr, LENGTHS, Op, Scalar, ShapeId, Storage, Type};

impl Code<'_> {
    pub(super) fn int(&self, e: &mut Emit, expr: &Expr) -> Value {
        self.expr(e, expr).value()
    }

    pub(super) fn reference(&self, e: &mut Emit, expr: &Expr) -> Ref {
        reference(self.expr(e, expr))
    }

    pub(super) fn all(&self, e: &mut Emit, exprs: &[Expr]) -> Vec<Arg> {
        exprs.iter().map(|expr| self.expr(e, expr)).collect()
    }

    pub(super) fn expr(&self, e: &mut Emit, expr: &Expr) -> Arg {
        match expr {
            Expr::Const(value) => e.int(I64, *value).into(),
            Expr::Local(local) => self.get(e, *local),
            Expr::Bound(index) => self.bound.borrow()[*index],
            Expr::Global(global) => e.load_global(self.symbols.globals[*global]).into(),
            Expr::Binary(op, left, right) => {
                let (left, right) = (self.int(e, left), self.int(e, right));
                binary(e, *op, left, right).into()
            }
            Expr::Make(ty, first, second) => {
                let (first, second) = (self.int(e, first), self.int(e, second));
                make(e, *ty, first, second).into()
            }
            Expr::Sum(ty, left, right) => {
                let (left, right) = (self.int(e, left), self.int(e, right));
                match ty {
                    Type::Float => e.ins().fadd(left, right).into(),
                    _ => e.ins().iadd(left, right).into(),
                }
            }
            Expr::ToInt(ty, value) => {
                let value = self.int(e, value);
                to_int(e, *ty, value).into()
            }
            Expr::Null(_) => e.null().into(),
            Expr::New(shape, fields) => self.new_record(e, *shape, fields).into(),
            Expr::NewArray(shape, length, first) => {
                self.new_array(e, *shape, length, first.as_deref()).into()
            }
            Expr::Field(shape, field, object) => {
                let object = self.reference(e, object);
                self.load_field(e, *shape, *field, object)
            }
            Expr::Element(shape, array, index) => {
                let (array, index) = (self.reference(e, array), self.int(e, index));
                self.load_element(e, *shape, array, index)
            }
            Expr::Number(shape, object) => {
                let object = self.reference(e, object);
                let Layout::Record { number, .. } = &self.symbols.layouts[*shape] else {
                    unreachable!("only records have numbers")
                };
                e.load(object, *number, I64).into()
            }
            Expr::Length(array) => {
                let array = self.reference(e, array);
                e.array_length(array).into()
            }
            Expr::IsNull(value) => {
                let value = self.reference(e, value);
                let is_null = e.is_null(value);
                e.ins().uextend(I64, is_null).into()
            }
            Expr::IsSame(left, right) => {
                let (left, right) = (self.reference(e, left), self.reference(e, right));
                let is_same = e.is_same(left, right);
                e.ins().uextend(I64, is_same).into()
            }
            Expr::Select(condition, yes, no) => {
                let condition = self.int(e, condition);
                let (yes, no) = (self.expr(e, yes), self.expr(e, no));
                let value = e.ins().select(condition, yes.value(), no.value());
                match yes {
                    Arg::Scalar(_) => value.into(),
                    Arg::Ref(_) => e.adopt_ref(value).into(),
                }
            }
            Expr::Or(first, second) => self.or(e, first, second).into(),
            Expr::Call(callee, arguments, index) => {
                let callee = self.callee(e, callee);
                let arguments = self.all(e, arguments);
                e.call(callee, &arguments)[*index]
            }
        }
    }

    /// By a block parameter of its own, which has to be declared.
    fn or(&self, e: &mut Emit, first: &Expr, second: &Expr) -> Ref {
        let first = self.reference(e, first).value();
        let builder = e.builder();
        let (absent, join) = (builder.create_block(), builder.create_block());
        let either = builder.append_block_param(join, I64);
        builder.ins().brif(first, join, &[BlockArg::Value(first)], absent, &[]);
        builder.seal_block(absent);
        builder.switch_to_block(absent);
        let second = self.reference(e, second).value();
        e.ins().jump(join, &[BlockArg::Value(second)]);
        e.builder().seal_block(join);
        e.builder().switch_to_block(join);
        e.adopt_ref(either)
    }

    fn new_record(&self, e: &mut Emit, shape: ShapeId, fields: &[Expr]) -> Ref {
        let Layout::Record { id, places, .. } = &self.symbols.layouts[shape] else {
            unreachable!("a record's shape")
        };
        let mut values = self.all(e, fields);
        for (value, place) in values.iter_mut().zip(places) {
            if let (&mut Arg::Scalar(wide), Place::Scalar(_, scalar)) = (&mut *value, place) {
                *value = stored(e, *scalar, wide).into();
            }
        }
        values.insert(0, self.take_number(e).into());
        e.new_record(*id, &values)
    }

    fn new_array(&self, e: &mut Emit, shape: ShapeId, length: &Expr, first: Option<&Expr>) -> Ref {
        let length = self.int(e, length);
        let length = e.ins().band_imm_s(length, LENGTHS.end - 1);
        let first = first.map(|first| self.expr(e, first));
        self.take_number(e);
        let Layout::Array(layout, _) = self.symbols.layouts[shape] else {
            unreachable!("an array's shape")
        };
        let array = e.new_array(layout, length);
        if let Some(first) = first {
            let index = e.int(I64, 0);
            self.store_element(e, shape, (array, index), first);
        }
        array
    }

    fn load_field(&self, e: &mut Emit, shape: ShapeId, field: usize, object: Ref) -> Arg {
        match self.place(shape, field) {
            Place::Ref(field) => e.load_ref(object, field).into(),
            Place::Scalar(field, scalar) => {
                let value = e.load(object, field, ir_type(scalar));
                loaded(e, scalar, value).into()
            }
        }
    }

    pub(super) fn store_field(
        &self,
        e: &mut Emit,
        (shape, field): (ShapeId, usize),
        object: Ref,
        value: Arg,
    ) {
        match (self.place(shape, field), value) {
            (Place::Ref(field), Arg::Ref(value)) => e.store_ref(object, field, value),
            (Place::Scalar(field, scalar), Arg::Scalar(value)) => {
                let value = stored(e, scalar, value);
                e.store(object, field, value);
            }
            (place, value) => unreachable!("{value:?} for {place:?}"),
        }
    }

    fn load_element(&self, e: &mut Emit, shape: ShapeId, array: Ref, index: Value) -> Arg {
        let Layout::Array(layout, element) = self.symbols.layouts[shape] else {
            unreachable!("an array's shape")
        };
        match element {
            Storage::Ref(_) => e.array_load_ref(array, layout, index).into(),
            Storage::Scalar(scalar) => {
                let value = e.array_load(array, layout, index, ir_type(scalar));
                loaded(e, scalar, value).into()
            }
        }
    }

    pub(super) fn store_element(
        &self,
        e: &mut Emit,
        shape: ShapeId,
        (array, index): (Ref, Value),
        value: Arg,
    ) {
        let Layout::Array(layout, element) = self.symbols.layouts[shape] else {
            unreachable!("an array's shape")
        };
        match (element, value) {
            (Storage::Ref(_), Arg::Ref(value)) => e.array_store_ref(array, layout, index, value),
            (Storage::Scalar(scalar), Arg::Scalar(value)) => {
                let value = stored(e, scalar, value);
                e.array_store(array, layout, index, value);
            }
            (element, value) => unreachable!("{value:?} for {element:?}"),
        }
    }

    fn place(&self, shape: ShapeId, field: usize) -> Place {
        match &self.symbols.layouts[shape] {
            Layout::Record { places, .. } => places[field],
            Layout::Array(..) => unreachable!("an array has no fields"),
        }
    }
}

fn binary(e: &mut Emit, op: Op, left: Value, right: Value) -> Value {
    let condition = match op {
        Op::Add => return e.ins().iadd(left, right),
        Op::Subtract => return e.ins().isub(left, right),
        Op::Multiply => return e.ins().imul(left, right),
        Op::Xor => return e.ins().bxor(left, right),
        Op::Divide => return e.ins().sdiv(left, right),
        Op::Remainder => return e.ins().urem(left, right),
        Op::Less => IntCC::SignedLessThan,
        Op::Equal => IntCC::Equal,
    };
    let holds = e.ins().icmp(condition, left, right);
    e.ins().uextend(I64, holds)
}

fn make(e: &mut Emit, ty: Type, first: Value, second: Value) -> Value {
    match ty {
        Type::Float => {
            let (first, second) =
                (e.ins().fcvt_from_sint(F64, first), e.ins().fcvt_from_sint(F64, second));
            e.ins().fadd(first, second)
        }
        Type::Wide => e.ins().iconcat(first, second),
        Type::Vector => {
            let lanes = e.ins().splat(I64X2, first);
            e.ins().insertlane(lanes, second, 1)
        }
        Type::Int | Type::Ref(_) => unreachable!("made of no integers"),
    }
}

fn to_int(e: &mut Emit, ty: Type, value: Value) -> Value {
    match ty {
        Type::Float => e.ins().fcvt_to_sint_sat(I64, value),
        Type::Wide => {
            let (low, high) = e.ins().isplit(value);
            e.ins().bxor(low, high)
        }
        Type::Vector => {
            let (low, high) = (e.ins().extractlane(value, 0), e.ins().extractlane(value, 1));
            e.ins().isub(low, high)
        }
        Type::Int | Type::Ref(_) => unreachable!("not converted to an integer"),
    }
}

/// From a variable's type to a field's.
fn stored(e: &mut Emit, scalar: Scalar, value: Value) -> Value {
    match scalar {
        Scalar::I8 | Scalar::I16 | Scalar::I32 => e.ins().ireduce(ir_type(scalar), value),
        Scalar::F32 => e.ins().fdemote(F32, value),
        Scalar::I64 | Scalar::F64 | Scalar::I128 | Scalar::I64X2 => value,
    }
}

/// From a field's type to a variable's.
fn loaded(e: &mut Emit, scalar: Scalar, value: Value) -> Value {
    match scalar {
        Scalar::I8 | Scalar::I16 | Scalar::I32 => e.ins().sextend(I64, value),
        Scalar::F32 => e.ins().fpromote(F64, value),
        Scalar::I64 | Scalar::F64 | Scalar::I128 | Scalar::I64X2 => value,
    }
}

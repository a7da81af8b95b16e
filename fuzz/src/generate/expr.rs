//! Expressions.

use super::{Body, Expr, Op, Shape, ShapeId, Storage, Type};
use crate::program::Callee;

impl Body<'_> {
    pub(super) fn expr(&mut self, ty: Type, depth: usize) -> Expr {
        match ty {
            Type::Int => self.int(depth),
            Type::Ref(shape) => self.reference(shape, depth),
            _ => self.big(ty, depth),
        }
    }

    fn boxed(&mut self, ty: Type, depth: usize) -> Box<Expr> {
        Box::new(self.expr(ty, depth))
    }

    pub(super) fn condition(&mut self) -> Expr {
        match self.choices.below(4) {
            0 | 1 => {
                let (left, right) = (self.boxed(Type::Int, 1), self.boxed(Type::Int, 1));
                Expr::Binary(Op::Less, left, right)
            }
            2 => {
                let shape = self.choices.below(self.program.shapes.len());
                Expr::IsNull(self.boxed(Type::Ref(shape), 1))
            }
            _ => self.expr(Type::Int, 2),
        }
    }

    /// An integer that tells much about an object.
    pub(super) fn observation(&mut self) -> Expr {
        let shape = self.choices.below(self.program.shapes.len());
        let object = Box::new(self.object(shape, 2));
        match self.program.is_record(shape) {
            true => Expr::Number(shape, object),
            false => Expr::Length(object),
        }
    }

    fn int(&mut self, depth: usize) -> Expr {
        if depth == 0 {
            return self.leaf_int();
        }
        let less = depth - 1;
        match self.choices.below(20) {
            0..=5 => self.leaf_int(),
            6..=10 => {
                use Op::{Add, Equal, Less, Multiply, Subtract, Xor};
                let op = self.choices.one_of(&[Add, Subtract, Multiply, Xor, Less, Equal]);
                Expr::Binary(op, self.boxed(Type::Int, less), self.boxed(Type::Int, less))
            }
            11 => self.division(less),
            12 => self.observation(),
            13..=14 => self.loaded(Type::Int, less).unwrap_or_else(|| self.leaf_int()),
            15 => {
                let ty = self.choices.one_of(&[Type::Float, Type::Wide, Type::Vector]);
                Expr::ToInt(ty, self.boxed(ty, less))
            }
            16 => {
                let ty = Type::Ref(self.choices.below(self.program.shapes.len()));
                Expr::IsSame(self.boxed(ty, less), self.boxed(ty, less))
            }
            17 => self.select(Type::Int, less),
            _ => self.called(Type::Int, less).unwrap_or_else(|| self.leaf_int()),
        }
    }

    fn leaf_int(&mut self) -> Expr {
        let leaves = self.leaves_of(Type::Int);
        match self.choices.below(3) {
            0 => Expr::Const([0, 1, -1, 2, 3, 13, 100, i64::MIN][self.choices.below(8)]),
            // The last ones are the innermost loops' indices.
            _ => leaves[leaves.len() - 1 - self.choices.below(leaves.len())].clone(),
        }
    }

    fn division(&mut self, depth: usize) -> Expr {
        let op = self.choices.one_of(&[Op::Divide, Op::Remainder]);
        let dividend = match self.choices.below(8) {
            // Minus this does not exist.
            7 => Box::new(Expr::Const(i64::MIN)),
            _ => self.boxed(Type::Int, depth),
        };
        let divisor = match self.choices.below(12) {
            11 => self.expr(Type::Int, depth),
            _ => Expr::Const([1, 2, 3, 7, 1000, -1, -2][self.choices.below(7)]),
        };
        Expr::Binary(op, dividend, Box::new(divisor))
    }

    fn select(&mut self, ty: Type, depth: usize) -> Expr {
        let condition = Box::new(self.condition());
        Expr::Select(condition, self.boxed(ty, depth), self.boxed(ty, depth))
    }

    /// A float, a wide integer, or a vector.
    fn big(&mut self, ty: Type, depth: usize) -> Expr {
        let less = depth.saturating_sub(1);
        let leaves = self.leaves_of(ty);
        match self.choices.below(if depth == 0 { 4 } else { 10 }) {
            1..=3 if !leaves.is_empty() => leaves[self.choices.below(leaves.len())].clone(),
            4..=5 => Expr::Sum(ty, self.boxed(ty, less), self.boxed(ty, less)),
            6..=7 => self.loaded(ty, less).unwrap_or_else(|| self.big(ty, 0)),
            8 => self.called(ty, less).unwrap_or_else(|| self.big(ty, 0)),
            9 => self.select(ty, less),
            _ => Expr::Make(ty, self.boxed(Type::Int, less), self.boxed(Type::Int, less)),
        }
    }

    fn reference(&mut self, shape: ShapeId, depth: usize) -> Expr {
        if depth == 0 {
            return self.leaf_reference(shape);
        }
        let (ty, less) = (Type::Ref(shape), depth - 1);
        match self.choices.below(16) {
            0..=3 => self.leaf_reference(shape),
            4..=7 => self.new_object(shape, less),
            8..=10 => self.loaded(ty, less).unwrap_or_else(|| self.leaf_reference(shape)),
            11 => self.select(ty, less),
            12..=13 => self.called(ty, less).unwrap_or_else(|| self.new_object(shape, less)),
            _ => self.or_new(shape, less),
        }
    }

    fn leaf_reference(&mut self, shape: ShapeId) -> Expr {
        let mut leaves = vec![Expr::Null(shape)];
        leaves.extend(self.leaves_of(Type::Ref(shape)));
        let globals = 0..self.program.globals.len();
        leaves.extend(globals.filter(|&at| self.program.globals[at] == shape).map(Expr::Global));
        let index = self.choices.below(2 * leaves.len() - 1);
        leaves.swap_remove(index.div_ceil(2))
    }

    /// An object to use: seldom null.
    pub(super) fn object(&mut self, shape: ShapeId, depth: usize) -> Expr {
        match self.choices.below(100) {
            99 => self.reference(shape, depth),
            _ => self.or_new(shape, depth),
        }
    }

    fn or_new(&mut self, shape: ShapeId, depth: usize) -> Expr {
        let first = self.reference(shape, depth);
        match first {
            Expr::New(..) | Expr::NewArray(..) | Expr::Or(..) => first,
            _ => Expr::Or(Box::new(first), Box::new(self.new_object(shape, 0))),
        }
    }

    fn new_object(&mut self, shape: ShapeId, depth: usize) -> Expr {
        match &self.program.shapes[shape] {
            Shape::Record(fields) => {
                // Large records have simple fields.
                let depth = if fields.len() > 6 { 0 } else { depth };
                Expr::New(shape, fields.iter().map(|field| self.expr(field.ty(), depth)).collect())
            }
            Shape::Array(_) if self.choices.chance(1, 8) => {
                Expr::NewArray(shape, self.boxed(Type::Int, depth), None)
            }
            Shape::Array(element) => {
                let length = Expr::Const(1 + self.choices.below(15) as i64);
                let first = match *element {
                    // By itself, so that it seldom is null.
                    Storage::Ref(element) if depth > 0 || self.program.is_record(element) => {
                        self.new_object(element, depth.saturating_sub(1))
                    }
                    _ => self.expr(element.ty(), depth),
                };
                Expr::NewArray(shape, Box::new(length), Some(Box::new(first)))
            }
        }
    }

    pub(super) fn array_of(&mut self, fits: impl Fn(Storage) -> bool) -> Option<ShapeId> {
        let shapes = &self.program.shapes;
        let fitting: Vec<ShapeId> = (0..shapes.len())
            .filter(|&shape| matches!(shapes[shape], Shape::Array(element) if fits(element)))
            .collect();
        (!fitting.is_empty()).then(|| self.choices.one_of(&fitting))
    }

    /// An array, and an index that is seldom out of bounds.
    pub(super) fn array_and_index(&mut self, shape: ShapeId, depth: usize) -> (Expr, Expr) {
        let array = self.object(shape, depth);
        let index = match self.choices.below(30) {
            28 => self.expr(Type::Int, 1),
            29 => Expr::Const(self.choices.below(4) as i64),
            _ => Expr::Const(0),
        };
        (array, index)
    }

    /// A value of a type, out of an object that has some.
    fn loaded(&mut self, ty: Type, depth: usize) -> Option<Expr> {
        let has = |place: &Storage| place.ty() == ty;
        let shapes = &self.program.shapes;
        let fitting: Vec<ShapeId> = (0..shapes.len())
            .filter(|&shape| match &shapes[shape] {
                Shape::Record(fields) => fields.iter().any(has),
                Shape::Array(element) => has(element),
            })
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let shape = self.choices.one_of(&fitting);
        Some(match &shapes[shape] {
            Shape::Record(fields) => {
                let fields: Vec<usize> =
                    (0..fields.len()).filter(|&field| has(&fields[field])).collect();
                let field = self.choices.one_of(&fields);
                Expr::Field(shape, field, Box::new(self.object(shape, depth)))
            }
            Shape::Array(_) => {
                let (array, index) = self.array_and_index(shape, depth);
                Expr::Element(shape, Box::new(array), Box::new(index))
            }
        })
    }

    /// A value of a type, out of the results of a call.
    fn called(&mut self, ty: Type, depth: usize) -> Option<Expr> {
        let gives = |callee: &Callee| self.program.signature(callee).1.contains(&ty);
        let callees: Vec<Callee> = self.callees().into_iter().filter(gives).collect();
        if callees.is_empty() {
            return None;
        }
        let (callee, arguments) = self.call_one_of(&callees, depth);
        let results = self.program.signature(&callee).1;
        let index = results.iter().position(|result| *result == ty).expect("it gives one");
        Some(Expr::Call(callee, arguments, index))
    }
}

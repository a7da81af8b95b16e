//! The interpreter's heap: objects in a vector, with indices for pointers, and no collector.

use crate::program::{Program, Scalar, Shape, ShapeId, Storage, Type};

/// An object, by its place in the order of allocation: also its number.
pub type Object = usize;

/// What a variable, a field or an element holds.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// 128 bits.
    Wide(i128),
    /// Two lanes.
    Vector([i64; 2]),
    /// A reference, or null.
    Ref(Option<Object>),
}

impl PartialEq for Value {
    /// Bit by bit, but one NaN is like another.
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Int(left), Self::Int(right)) => left == right,
            (Self::Float(left), Self::Float(right)) => {
                left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan()
            }
            (Self::Wide(left), Self::Wide(right)) => left == right,
            (Self::Vector(left), Self::Vector(right)) => left == right,
            (Self::Ref(left), Self::Ref(right)) => left == right,
            _ => false,
        }
    }
}

impl Value {
    /// Zero, or null.
    pub fn zero(ty: Type) -> Self {
        match ty {
            Type::Int => Self::Int(0),
            Type::Float => Self::Float(0.0),
            Type::Wide => Self::Wide(0),
            Type::Vector => Self::Vector([0; 2]),
            Type::Ref(_) => Self::Ref(None),
        }
    }

    /// The integer.
    ///
    /// # Panics
    /// If it is something else.
    pub fn int(self) -> i64 {
        match self {
            Self::Int(value) => value,
            _ => panic!("{self:?} is no integer"),
        }
    }

    /// The reference.
    ///
    /// # Panics
    /// If it is something else.
    pub fn reference(self) -> Option<Object> {
        match self {
            Self::Ref(value) => value,
            _ => panic!("{self:?} is no reference"),
        }
    }

    /// What is left of it once it was stored.
    pub fn stored(self, storage: Storage) -> Self {
        match (storage, self) {
            (Storage::Scalar(Scalar::I8), Self::Int(value)) => Self::Int(i64::from(value as i8)),
            (Storage::Scalar(Scalar::I16), Self::Int(value)) => Self::Int(i64::from(value as i16)),
            (Storage::Scalar(Scalar::I32), Self::Int(value)) => Self::Int(i64::from(value as i32)),
            (Storage::Scalar(Scalar::F32), Self::Float(value)) => {
                Self::Float(f64::from(value as f32))
            }
            _ => self,
        }
    }
}

/// The objects of a program.
#[derive(Clone, Debug, Default)]
pub struct Model {
    objects: Vec<(ShapeId, Vec<Value>)>,
    /// The bytes of all of them, as the heap would lay them out.
    pub bytes: u64,
}

impl Model {
    /// A new record.
    pub fn record(&mut self, program: &Program, shape: ShapeId, fields: Vec<Value>) -> Object {
        let storages = program.fields(shape);
        // The header, and the number.
        let end = storages.iter().fold(16, |end: u64, storage| {
            let bytes = u64::from(storage.bytes());
            end.next_multiple_of(bytes.min(8)) + bytes
        });
        self.bytes += end.next_multiple_of(8);
        let stored = fields.into_iter().zip(storages).map(|(value, &to)| value.stored(to));
        self.push(shape, stored.collect())
    }

    /// A new array of zeros or nulls.
    pub fn array(&mut self, program: &Program, shape: ShapeId, length: usize) -> Object {
        let element = program.element(shape);
        self.bytes += 8 + (length as u64 * u64::from(element.bytes())).next_multiple_of(8);
        self.push(shape, vec![Value::zero(element.ty()); length])
    }

    fn push(&mut self, shape: ShapeId, values: Vec<Value>) -> Object {
        self.objects.push((shape, values));
        self.objects.len() - 1
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.objects.len()
    }

    /// An object's shape.
    pub fn shape(&self, object: Object) -> ShapeId {
        self.objects[object].0
    }

    /// An object's fields, without its number, or its elements.
    pub fn values(&self, object: Object) -> &[Value] {
        &self.objects[object].1
    }

    /// Stores in a field or an element.
    pub fn store(&mut self, program: &Program, object: Object, index: usize, value: Value) {
        let (shape, values) = &mut self.objects[object];
        let storage = match &program.shapes[*shape] {
            Shape::Record(fields) => fields[index],
            Shape::Array(element) => *element,
        };
        values[index] = value.stored(storage);
    }
}

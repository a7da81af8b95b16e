//! A program's shapes as layouts of the heap.

use tospace::cranelift_codegen::ir::{self, types};
use tospace::heap::{ArrayLayout, Field, LayoutError, LayoutId, Record, RefField};
use tospace::jit::Module;

use crate::program::{Program, Scalar, Shape, Storage};

/// A shape's layout.
#[derive(Clone, Debug)]
pub enum Layout {
    /// A record.
    Record {
        /// The layout.
        id: LayoutId,
        /// The field of the object's number.
        number: Field,
        /// The other fields.
        places: Vec<Place>,
    },
    /// An array of these.
    Array(ArrayLayout, Storage),
}

/// Where a field is.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A scalar.
    Scalar(Field, Scalar),
    /// A reference.
    Ref(RefField),
}

/// Registers a layout for each shape.
///
/// # Errors
/// If the heap cannot have such a layout.
pub fn register(module: &mut Module, program: &Program) -> Result<Vec<Layout>, LayoutError> {
    let shapes = program.shapes.iter().enumerate();
    let register = |(index, shape): (usize, &Shape)| match shape {
        Shape::Record(fields) => {
            let mut record = Record::new(format!("shape {index}"));
            let number = record.scalar("number", 8)?;
            let place = |(index, storage): (usize, &Storage)| match *storage {
                Storage::Ref(_) => Ok(Place::Ref(record.reference(&format!("f{index}")))),
                Storage::Scalar(scalar) => record
                    .scalar(&format!("f{index}"), scalar.bytes())
                    .map(|field| Place::Scalar(field, scalar)),
            };
            let places = fields.iter().enumerate().map(place).collect::<Result<_, _>>()?;
            Ok(Layout::Record { id: module.record(record)?, number, places })
        }
        Shape::Array(element) => {
            let name = format!("shape {index}");
            let layout = match element {
                Storage::Ref(_) => module.references(&name)?,
                Storage::Scalar(scalar) => module.scalars(&name, scalar.bytes())?,
            };
            Ok(Layout::Array(layout, *element))
        }
    };
    shapes.map(register).collect()
}

impl Layout {
    /// The layout's number.
    pub fn id(&self) -> LayoutId {
        match self {
            Self::Record { id, .. } => *id,
            Self::Array(layout, _) => layout.id(),
        }
    }
}

/// What Cranelift calls it.
pub fn ir_type(scalar: Scalar) -> ir::Type {
    match scalar {
        Scalar::I8 => types::I8,
        Scalar::I16 => types::I16,
        Scalar::I32 => types::I32,
        Scalar::I64 => types::I64,
        Scalar::F32 => types::F32,
        Scalar::F64 => types::F64,
        Scalar::I128 => types::I128,
        Scalar::I64X2 => types::I64X2,
    }
}

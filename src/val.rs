//! Values that the host passes to compiled code and gets from it.

use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};

use crate::jit::Ty;

/// A scalar argument or result.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Val {
    /// An eight-bit integer.
    I8(i8),
    /// A 16-bit integer.
    I16(i16),
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
}

impl From<i64> for Val {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f64> for Val {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl Val {
    /// The value's type in compiled code.
    pub fn ty(self) -> Ty {
        Ty::Scalar(match self {
            Self::I8(_) => I8,
            Self::I16(_) => I16,
            Self::I32(_) => I32,
            Self::I64(_) => I64,
            Self::F32(_) => F32,
            Self::F64(_) => F64,
        })
    }

    /// The integer, if it is a 64-bit one.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// Whether a value of this type can be a `Val`.
    pub(crate) fn can_be(ty: Ty) -> bool {
        matches!(ty, Ty::Scalar(I8 | I16 | I32 | I64 | F32 | F64))
    }

    /// The value in the low bytes of a word.
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::I8(value) => value as u64,
            Self::I16(value) => value as u64,
            Self::I32(value) => value as u64,
            Self::I64(value) => value as u64,
            Self::F32(value) => u64::from(value.to_bits()),
            Self::F64(value) => value.to_bits(),
        }
    }

    /// # Panics
    /// If the type is one that cannot be.
    pub(crate) fn from_word(ty: Ty, word: u64) -> Self {
        match ty {
            Ty::Scalar(I8) => Self::I8(word as i8),
            Ty::Scalar(I16) => Self::I16(word as i16),
            Ty::Scalar(I32) => Self::I32(word as i32),
            Ty::Scalar(I64) => Self::I64(word as i64),
            Ty::Scalar(F32) => Self::F32(f32::from_bits(word as u32)),
            Ty::Scalar(F64) => Self::F64(f64::from_bits(word)),
            _ => panic!("no value of type {ty:?} crosses from compiled code to the host"),
        }
    }
}

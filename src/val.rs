//! Values that the host passes to compiled code and gets from it.

use cranelift_codegen::ir::types::{F32, F64, I8, I16, I32, I64};

use crate::handle::Handle;
use crate::jit::{REF, Ty};

/// An argument or a result: a scalar, or a reference in a handle of scope `'s`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Val<'s> {
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
    /// A reference, or null.
    Ref(Handle<'s>),
}

impl From<i64> for Val<'_> {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f64> for Val<'_> {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl<'s> From<Handle<'s>> for Val<'s> {
    fn from(handle: Handle<'s>) -> Self {
        Self::Ref(handle)
    }
}

impl<'s> Val<'s> {
    /// The value's type in compiled code.
    pub fn ty(self) -> Ty {
        Ty::Scalar(match self {
            Self::I8(_) => I8,
            Self::I16(_) => I16,
            Self::I32(_) => I32,
            Self::I64(_) => I64,
            Self::F32(_) => F32,
            Self::F64(_) => F64,
            Self::Ref(_) => return REF,
        })
    }

    /// The integer, if it is a 64-bit one.
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The handle, if it is a reference.
    pub fn as_ref(self) -> Option<Handle<'s>> {
        match self {
            Self::Ref(handle) => Some(handle),
            _ => None,
        }
    }

    /// Whether a value of this type can be a `Val`.
    pub(crate) fn can_be(ty: Ty) -> bool {
        matches!(ty, Ty::Ref | Ty::Scalar(I8 | I16 | I32 | I64 | F32 | F64))
    }

    /// The scalar in the low bytes of a word, or the handle.
    pub(crate) fn to_word(self) -> Result<u64, Handle<'s>> {
        Ok(match self {
            Self::I8(value) => value as u64,
            Self::I16(value) => value as u64,
            Self::I32(value) => value as u64,
            Self::I64(value) => value as u64,
            Self::F32(value) => u64::from(value.to_bits()),
            Self::F64(value) => value.to_bits(),
            Self::Ref(handle) => return Err(handle),
        })
    }

    /// The scalar of type `ty` in the low bytes of a word; `None` if a value of that type is none.
    pub(crate) fn from_word(ty: Ty, word: u64) -> Option<Self> {
        Some(match ty {
            Ty::Scalar(I8) => Self::I8(word as i8),
            Ty::Scalar(I16) => Self::I16(word as i16),
            Ty::Scalar(I32) => Self::I32(word as i32),
            Ty::Scalar(I64) => Self::I64(word as i64),
            Ty::Scalar(F32) => Self::F32(f32::from_bits(word as u32)),
            Ty::Scalar(F64) => Self::F64(f64::from_bits(word)),
            _ => return None,
        })
    }
}

//! The types that functions of compiled code have: Cranelift's, and references.

use std::fmt;

use cranelift_codegen::ir::{self, AbiParam, ArgumentPurpose, types::I64};
use cranelift_codegen::isa::CallConv;

/// The Cranelift type of a reference, and of the context.
pub const WORD_TYPE: ir::Type = I64;

/// The type of a parameter, a result, or a variable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ty {
    /// A reference to an object, null, or an immediate.
    Ref,
    /// Anything else.
    Scalar(ir::Type),
}

/// [`Ty::Ref`], for lists of types.
pub const REF: Ty = Ty::Ref;

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ref => f.write_str("ref"),
            Self::Scalar(ty) => ty.fmt(f),
        }
    }
}

impl From<ir::Type> for Ty {
    fn from(ty: ir::Type) -> Self {
        Self::Scalar(ty)
    }
}

impl Ty {
    /// What Cranelift calls it.
    pub fn ir(self) -> ir::Type {
        match self {
            Self::Ref => WORD_TYPE,
            Self::Scalar(ty) => ty,
        }
    }
}

/// What a function takes and gives. The context, which every function takes first, is implied.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Signature {
    /// The parameters' types.
    pub params: Vec<Ty>,
    /// The results' types.
    pub results: Vec<Ty>,
}

impl Signature {
    /// A signature of these parameters and results.
    ///
    /// ```
    /// use cranelift_codegen::ir::types::I64;
    /// use tospace::jit::{REF, Signature};
    ///
    /// let cons = Signature::new([I64.into(), REF], [REF]);
    /// assert_eq!(cons.params.len(), 2);
    /// ```
    pub fn new(
        params: impl IntoIterator<Item = Ty>,
        results: impl IntoIterator<Item = Ty>,
    ) -> Self {
        Self { params: params.into_iter().collect(), results: results.into_iter().collect() }
    }

    pub(super) fn ir(&self, convention: CallConv) -> ir::Signature {
        let mut signature = ir::Signature::new(convention);
        // A parameter like any other, that an exit trampoline's check of the stack can find.
        signature.params.push(AbiParam::special(WORD_TYPE, ArgumentPurpose::VMContext));
        signature.params.extend(self.params.iter().map(|ty| AbiParam::new(ty.ir())));
        signature.returns.extend(self.results.iter().map(|ty| AbiParam::new(ty.ir())));
        signature
    }
}

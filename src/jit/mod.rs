//! Compiled code: how it is emitted, what it shares with the host, and how one enters the other.
//!
//! The only part of the library, with its client [`crate::workloads`], that names Cranelift.

pub mod check;
pub mod context;
pub mod emit;
pub mod error;
mod function;
pub mod module;
pub mod target;
pub mod trampoline;
pub mod types;

pub use check::{Finding, FindingKind, check};
pub use context::Context;
pub use emit::{Arg, Callee, Emit, Ref, RefVar, Results, Var};
pub use error::Error;
pub use module::{Entry, Func, Global, Module, ModuleOptions};
pub use target::OptLevel;
pub use types::{REF, Signature, Ty};

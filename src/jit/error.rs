//! Why code cannot be compiled or run.

use cranelift_codegen::CodegenError;
use cranelift_codegen::ir::{self, Function};
use cranelift_codegen::print_errors::pretty_verifier_error;
use cranelift_module::ModuleError;
use thiserror::Error;

use super::check::Finding;
use crate::collector::CollectorAttrs;
use crate::debug::DebugModesError;

/// Why code cannot be compiled.
#[derive(Debug, Error)]
pub enum Error {
    /// Cranelift has no support for the host.
    #[error("Cranelift does not support this machine: {0}")]
    Host(&'static str),
    /// The host's settings do not fit.
    #[error("Cranelift refuses its settings: {0}")]
    Codegen(String),
    /// Cranelift does not compile a function.
    #[error("function `{function}`: {source}{details}")]
    Function {
        /// The function's name.
        function: String,
        /// What Cranelift says.
        source: Box<ModuleError>,
        /// What its verifier found, with the code; empty if it found nothing.
        details: String,
    },
    /// A function is called and not defined.
    #[error("function `{caller}` calls `{callee}`, which is declared and not defined")]
    Undefined {
        /// The function that calls it.
        caller: String,
        /// The function that is missing.
        callee: String,
    },
    /// A host function takes or gives something that does not cross the C ABI.
    #[error("host function `{function}` takes or gives a {ty}, which does not cross to the host")]
    HostType {
        /// The function's name.
        function: String,
        /// The type that does not.
        ty: ir::Type,
    },
    /// A raw host function gives more than C can.
    #[error("host function `{function}` gives {results} results; a C function gives one at most")]
    HostResults {
        /// The function's name.
        function: String,
        /// How many it gives.
        results: usize,
    },
    /// A stack map has an entry that is not a 64-bit reference.
    #[error("function `{function}` keeps a {ty} in a stack map; references are i64")]
    MapEntry {
        /// The function's name.
        function: String,
        /// The entry's type.
        ty: ir::Type,
    },
    /// A function keeps a reference where a collection would miss it. See [`check()`](super::check()).
    #[error("function `{function}` would not survive a collection:{}", list(findings))]
    Check {
        /// The function's name.
        function: String,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
    /// The environment asks for a debug mode that there is not.
    #[error(transparent)]
    DebugModes(#[from] DebugModesError),
    /// The system has no memory for code.
    #[error("no address space for code: {0}")]
    Memory(String),
    /// The collector wants other code than the module was told to emit.
    #[error("the code was emitted for {code:?}; the collector is {collector:?}")]
    Attrs {
        /// What the module was made with.
        code: CollectorAttrs,
        /// What the collector demands.
        collector: CollectorAttrs,
    },
}

impl Error {
    /// What Cranelift says of a function, and its verifier's findings, which it does not say by itself.
    pub(super) fn function(name: &str, source: ModuleError, function: &Function) -> Self {
        let details = match &source {
            ModuleError::Compilation(CodegenError::Verifier(errors)) => {
                format!("\n{}", pretty_verifier_error(function, None, errors.clone()))
            }
            _ => String::new(),
        };
        Self::Function { function: name.to_owned(), source: Box::new(source), details }
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("\n- {finding}")).collect()
}

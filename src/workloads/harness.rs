//! Running a workload under a collector: what tests, benchmarks and the command line share.

use std::{fmt, str};

use thiserror::Error;

use super::{BuildError, Oracle, Params, Program, Workload};
use crate::collector::{Collector, CollectorAttrs};
use crate::debug::DebugModes;
use crate::heap::{GRANULE, HeapError, HeapOptions, Observer};
use crate::jit::{self, Module, ModuleOptions, OptLevel};
use crate::mutator::{CallError, Mutator, Statistics};
use crate::trap::TrapKind;

/// How large a heap shall be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum HeapSize {
    /// So many bytes.
    Bytes(u64),
    /// So many times the workload's peak live size. A collector that never frees takes what the
    /// workload allocates instead.
    Multiple(f64),
}

/// A heap size that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{0}` is no heap size: a number of bytes, with K, M or G for powers of 1024 (64M), or a \
     multiple of the peak live size (2x, 1.5x)"
)]
pub struct HeapSizeError(String);

impl str::FromStr for HeapSize {
    type Err = HeapSizeError;

    fn from_str(text: &str) -> Result<Self, HeapSizeError> {
        let error = || HeapSizeError(text.to_owned());
        if let Some(multiple) = text.strip_suffix('x') {
            let multiple: f64 = multiple.parse().map_err(|_| error())?;
            let is_sensible = multiple > 0.0 && multiple <= 1e6;
            return is_sensible.then_some(Self::Multiple(multiple)).ok_or_else(error);
        }
        let unit = match text.chars().last() {
            Some('K') => 1 << 10,
            Some('M') => 1 << 20,
            Some('G') => 1 << 30,
            _ => 1_u64,
        };
        let digits = if unit == 1 { text } else { &text[..text.len() - 1] };
        // `u64::from_str` takes a sign; a size has none.
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        bytes.map(Self::Bytes).ok_or_else(error)
    }
}

impl fmt::Display for HeapSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::Multiple(multiple) => write!(f, "{multiple}x"),
        }
    }
}

impl RunError {
    /// Whether the heap was too small for the workload.
    pub fn is_heap_full(&self) -> bool {
        let Self::Call(CallError::Trap(trap)) = self else { return false };
        matches!(trap.kind, TrapKind::HeapFull { .. })
    }
}

impl HeapSize {
    /// The size in bytes, for this workload and collector.
    pub fn bytes(self, oracle: &Oracle, attrs: &CollectorAttrs) -> u64 {
        let granules = |bytes: u64| bytes.next_multiple_of(GRANULE as u64);
        match self {
            Self::Bytes(bytes) => bytes,
            // A piece of memory may have an object's worth of bytes left over.
            Self::Multiple(_) if !attrs.frees => {
                granules(oracle.bytes + oracle.bytes / 64 + GRANULE as u64)
            }
            Self::Multiple(multiple) => granules((oracle.peak_live_bytes as f64 * multiple) as u64),
        }
    }
}

/// How to run a workload.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setup {
    /// The heap.
    pub heap: HeapSize,
    /// Touch the heap's pages beforehand.
    pub prefault: bool,
    /// Count objects in compiled code.
    pub count: bool,
    /// Collect at every nth allocation; 0 for only when the heap is full.
    pub stress: u64,
    /// Make stale references fail: see [`HeapOptions::protect`].
    pub protect: bool,
    /// Check the heap after each collection: see [`Mutator::set_verify`].
    pub verify: bool,
    /// Look for missed roots: see [`ModuleOptions::missed_roots`].
    pub missed_roots: bool,
    /// How hard Cranelift optimises.
    pub opt_level: OptLevel,
}

impl Setup {
    /// A run on a heap of this size, as fast as the environment's debug modes let it be.
    pub fn new(heap: HeapSize) -> Self {
        let DebugModes { stress, protect, verify, missed_roots, .. } =
            DebugModes::from_env_or_none();
        Self {
            heap,
            prefault: false,
            count: false,
            stress,
            protect,
            verify,
            missed_roots,
            opt_level: OptLevel::Speed,
        }
    }
}

/// A run that did not come to its end, or not to the right one.
#[derive(Debug, Error)]
pub enum RunError {
    /// The workload cannot be emitted.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The code cannot be run.
    #[error(transparent)]
    Code(#[from] jit::Error),
    /// The heap cannot be made.
    #[error(transparent)]
    Heap(#[from] HeapError),
    /// Compiled code did not return.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A count or the result is not what the oracle says: code or collector is wrong.
    #[error("{what} is {found}; the oracle says {expected}")]
    Wrong {
        /// What is wrong.
        what: &'static str,
        /// What it is.
        found: i64,
        /// What it should be.
        expected: i64,
    },
}

/// A workload that has been compiled for a collector.
pub struct Compiled {
    module: Module,
    program: Program,
    oracle: Oracle,
}

impl Compiled {
    /// Compiles a workload for a collector with these attributes, down to final code.
    ///
    /// # Errors
    /// If Cranelift does not compile it.
    pub fn new(
        workload: &Workload,
        params: &Params,
        setup: &Setup,
        attrs: CollectorAttrs,
    ) -> Result<Self, RunError> {
        let mut module = Module::new(ModuleOptions {
            count_allocations: setup.count,
            opt_level: setup.opt_level,
            missed_roots: setup.missed_roots,
            ..ModuleOptions::new(attrs)
        })?;
        let program = workload.build(&mut module, params)?;
        module.finalize()?;
        Ok(Self { module, program, oracle: workload.oracle(params) })
    }
}

/// A compiled workload on a heap of its own.
pub struct Instance<C: Collector, O: Observer = ()> {
    mutator: Mutator<C, O>,
    program: Program,
    oracle: Oracle,
}

impl<C: Collector, O: Observer> Instance<C, O> {
    /// Makes the heap for a workload that was compiled for `C`.
    ///
    /// # Errors
    /// If the system does not have it.
    pub fn new(compiled: Compiled, setup: &Setup, observer: O) -> Result<Self, RunError> {
        let Compiled { module, program, oracle } = compiled;
        let bytes = setup.heap.bytes(&oracle, &C::ATTRS);
        let bytes = usize::try_from(bytes).expect("a 64-bit machine");
        let Setup { prefault, protect, .. } = *setup;
        let collector = C::new(HeapOptions { bytes, prefault, protect })?;
        let mut mutator = Mutator::observed(module, collector, observer)?;
        mutator.set_stress(setup.stress);
        mutator.set_verify(setup.verify);
        Ok(Self { mutator, program, oracle })
    }

    /// Runs the program once and checks the outcome against the oracle. The heap must be empty: new,
    /// or after [`Mutator::reset`]. Compiled code runs on the caller's stack, which has to be as
    /// large as [`Oracle::stack_bytes`].
    ///
    /// # Errors
    /// [`RunError::Call`] if the heap is too small, [`RunError::Wrong`] if the outcome is not right.
    pub fn run(&mut self) -> Result<i64, RunError> {
        let results = self.mutator.call(self.program.func, &self.program.arguments)?;
        let result = results[0].as_i64().expect("a workload returns an I64");
        let Statistics { usage, allocated_objects, .. } = self.mutator.statistics();
        let counted = allocated_objects.unwrap_or(self.oracle.objects);
        for (what, found, expected) in [
            ("the result", result, self.oracle.result),
            ("the number of bytes", usage.allocated_bytes as i64, self.oracle.bytes as i64),
            ("the number of objects", counted as i64, self.oracle.objects as i64),
        ] {
            if found != expected {
                return Err(RunError::Wrong { what, found, expected });
            }
        }
        Ok(result)
    }

    /// The mutator.
    pub fn mutator(&mut self) -> &mut Mutator<C, O> {
        &mut self.mutator
    }
}

//! Allocation-heavy programs, each in one file that can be read as an example of emitting code.
//!
//! Every workload comes with its oracle: the result, and exactly how many objects and bytes it
//! allocates, computed in plain Rust without running it.

pub mod binary_trees;
pub mod deep;
pub mod gcbench;
pub mod harness;
pub mod list;

pub use harness::{Compiled, HeapSize, HeapSizeError, Instance, RunError, Setup};

use std::ops::RangeInclusive;

use thiserror::Error;

use crate::heap::LayoutError;
use crate::jit::{self, Func, Module};
use crate::val::Val;

/// All workloads, in the order in which they are listed.
pub const ALL: [&Workload; 4] =
    [&binary_trees::WORKLOAD, &gcbench::WORKLOAD, &list::WORKLOAD, &deep::WORKLOAD];

/// A program with parameters.
#[derive(Debug)]
pub struct Workload {
    /// What the command line calls it.
    pub name: &'static str,
    /// What it stresses, in a few words.
    pub stresses: &'static str,
    /// What can be set.
    pub params: &'static [Param],
    build: fn(&mut Module, &Params) -> Result<Program, BuildError>,
    oracle: fn(&Params) -> Oracle,
}

/// A parameter of a workload.
#[derive(Debug)]
pub struct Param {
    /// What the command line calls it.
    pub name: &'static str,
    /// The canonical value.
    pub default: u64,
    /// A value for tests and emulators.
    pub quick: u64,
    /// What it may be.
    pub range: RangeInclusive<u64>,
}

/// A program that has been emitted into a module.
#[derive(Clone, Debug)]
pub struct Program {
    /// The function to call, whose one result is an I64.
    pub func: Func,
    /// What to call it with.
    pub arguments: Vec<Val<'static>>,
}

/// What is known of a run beforehand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Oracle {
    /// What the program returns.
    pub result: i64,
    /// How many objects it allocates.
    pub objects: u64,
    /// How many bytes, headers included.
    pub bytes: u64,
    /// The most bytes of objects that are reachable at one time.
    pub peak_live_bytes: u64,
    /// Bytes of stack that it needs, generously.
    pub stack_bytes: usize,
}

/// A workload that cannot be emitted.
#[derive(Debug, Error)]
pub enum BuildError {
    /// A layout is wrong.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Code cannot be compiled.
    #[error(transparent)]
    Code(#[from] jit::Error),
}

/// A workload, or a parameter, that there is not.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ParamError {
    /// No workload has this name.
    #[error("no workload `{name}`; there are: {known}")]
    Workload {
        /// The name asked for.
        name: String,
        /// All names there are.
        known: String,
    },
    /// The workload has no such parameter.
    #[error("`{workload}` has no parameter `{name}`; it has: {known}")]
    Unknown {
        /// The workload.
        workload: &'static str,
        /// The name asked for.
        name: String,
        /// All names there are.
        known: String,
    },
    /// The value is out of range.
    #[error("`{workload}`: {name} is from {least} to {most}, not {value}")]
    Range {
        /// The workload.
        workload: &'static str,
        /// The parameter.
        name: &'static str,
        /// The value asked for.
        value: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
}

/// A value for each parameter of a workload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Params(Vec<(&'static str, u64)>);

impl Params {
    /// The value of a parameter.
    ///
    /// # Panics
    /// If the workload has no such parameter.
    pub fn get(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no parameter `{name}` in {self:?}")).1
    }

    /// All names and values, in the workload's order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    fn int(&self, name: &str) -> Val<'static> {
        Val::I64(i64::try_from(self.get(name)).expect("parameters are far below 2^63"))
    }
}

impl Workload {
    /// The workload of this name.
    ///
    /// # Errors
    /// [`ParamError::Workload`] lists those there are.
    pub fn named(name: &str) -> Result<&'static Self, ParamError> {
        ALL.into_iter().find(|workload| workload.name == name).ok_or_else(|| {
            let known = ALL.map(|workload| workload.name).join(", ");
            ParamError::Workload { name: name.to_owned(), known }
        })
    }

    /// The canonical parameters.
    pub fn defaults(&self) -> Params {
        Params(self.params.iter().map(|param| (param.name, param.default)).collect())
    }

    /// Small parameters, for tests and emulators.
    pub fn quick(&self) -> Params {
        Params(self.params.iter().map(|param| (param.name, param.quick)).collect())
    }

    /// Changes one parameter.
    ///
    /// # Errors
    /// [`ParamError`] if there is no such parameter or the value is out of its range.
    pub fn set(&self, params: &mut Params, name: &str, value: u64) -> Result<(), ParamError> {
        let workload = self.name;
        let Some(index) = self.params.iter().position(|param| param.name == name) else {
            let known: Vec<_> = self.params.iter().map(|param| param.name).collect();
            return Err(ParamError::Unknown {
                workload,
                name: name.to_owned(),
                known: known.join(", "),
            });
        };
        let Param { name, range, .. } = &self.params[index];
        if !range.contains(&value) {
            let (least, most) = (*range.start(), *range.end());
            return Err(ParamError::Range { workload, name, value, least, most });
        }
        params.0[index].1 = value;
        Ok(())
    }

    /// Emits the program.
    ///
    /// # Errors
    /// If Cranelift does not compile it.
    pub fn build(&self, module: &mut Module, params: &Params) -> Result<Program, BuildError> {
        (self.build)(module, params)
    }

    /// What the program will return and allocate.
    pub fn oracle(&self, params: &Params) -> Oracle {
        (self.oracle)(params)
    }
}

/// A stack for programs whose recursion is shallow.
const SHALLOW_STACK: usize = 4 << 20;

/// The number of nodes of a full binary tree.
fn tree_nodes(depth: u64) -> u64 {
    (1 << (depth + 1)) - 1
}

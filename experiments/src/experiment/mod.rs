//! `tospace experiment`: questions that take more than comparing collectors.

mod malloc;

use anyhow::Result;
use clap::ValueEnum;

use crate::cli::ExperimentArgs;

/// The experiments there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Name {
    /// All of them.
    All,
    /// binary-trees as a whole process, against the same program in C with malloc and free.
    Malloc,
}

pub fn experiment(arguments: &ExperimentArgs) -> Result<()> {
    match arguments.name {
        Name::All | Name::Malloc => malloc::malloc(arguments.quick, arguments.json),
    }
}

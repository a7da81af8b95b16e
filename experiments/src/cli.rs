//! The command line: what can be said, and what is wrong with what was said.

use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use rustix::system::sysinfo;
use thiserror::Error;
use tospace::debug::DebugModesError;
use tospace::heap::GRANULE;
use tospace::workloads::{HeapSize, HeapSizeError, ParamError, Params, Setup, Workload};

use crate::measure::CollectorName;

/// Runs allocation-heavy programs, compiled by Cranelift, under several garbage collectors.
#[derive(Debug, Parser)]
#[command(name = "tospace", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the workloads with their parameters.
    List(ListArgs),
    /// Run one workload under one collector.
    Run(RunArgs),
    /// Run workloads under all collectors at several heap sizes, in turn.
    Compare(CompareArgs),
    /// Run an experiment that is more than a comparison of collectors.
    Experiment(ExperimentArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The workload's name; `tospace list` shows them.
    #[arg(value_parser = Workload::named)]
    pub workload: &'static Workload,
    /// The collector.
    #[arg(long, value_enum, default_value_t = CollectorName::Semispace)]
    pub collector: CollectorName,
    /// Everything that the collector may use: bytes (K, M, G), or a multiple of the peak live size
    /// (never-free takes what it needs instead of a multiple).
    #[arg(long, value_name = "SIZE", default_value = "3x")]
    pub heap: HeapSize,
    #[command(flatten)]
    pub params: ParamArgs,
    /// Collect at every Nth allocation; 0 collects only when the heap is full.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub stress: u64,
    /// Give each cycle fresh memory and make the retired one inaccessible; mark-sweep overwrites what
    /// it frees.
    #[arg(long)]
    pub protect: bool,
    /// Follow all references again after each collection, and check them.
    #[arg(long)]
    pub verify: bool,
    /// Before each collection, look for references that are in no stack map, and report them.
    #[arg(long)]
    pub missed_roots: bool,
    /// Let compiled code count the objects that it allocates.
    #[arg(long)]
    pub count: bool,
    /// Do not touch the heap's pages before the run.
    #[arg(long)]
    pub cold: bool,
    /// Run so many times in this process.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The workloads' names; all of them by default.
    #[arg(value_name = "WORKLOAD", value_parser = Workload::named)]
    pub workloads: Vec<&'static Workload>,
    /// The heaps, as multiples of the peak live size or in bytes.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_value = "1.5x,2x,3x,4x,6x")]
    pub heap: Vec<HeapSize>,
    #[command(flatten)]
    pub params: ParamArgs,
    /// How often to run each.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Print exact counters instead of times, from one run each.
    #[arg(long)]
    pub counters: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ParamArgs {
    /// Set a parameter of the workload.
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<Setting>,
    /// Start from small parameters instead of the canonical ones.
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
pub struct ExperimentArgs {
    /// What to measure.
    #[arg(value_enum)]
    pub name: crate::experiment::Name,
    /// Smaller parameters and fewer rounds.
    #[arg(long)]
    pub quick: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `name=value`.
#[derive(Clone, Debug)]
struct Setting {
    name: String,
    value: u64,
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("it is written NAME=VALUE")?;
        let value = value.parse().map_err(|error| format!("`{value}` is no number: {error}"))?;
        Ok(Self { name: name.to_owned(), value })
    }
}

/// What was asked for makes no sense. Exit code 2.
#[derive(Debug, Error)]
pub enum UsageError {
    /// A parameter is wrong.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// A heap size is wrong.
    #[error(transparent)]
    HeapSize(#[from] HeapSizeError),
    /// The environment asks for what there is not.
    #[error(transparent)]
    DebugModes(#[from] DebugModesError),
    /// A heap that cannot hold anything.
    #[error("a heap of {bytes} bytes: the least is {GRANULE} (64K)")]
    NoHeap { bytes: u64 },
    /// A heap that would end in the system's killing the process.
    #[error(
        "heaps of {bytes} bytes altogether are beyond this machine, which has {memory} bytes of memory"
    )]
    TooLarge { bytes: u64, memory: u64 },
}

impl Command {
    /// Its name on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Run(_) => "run",
            Self::Compare(_) => "compare",
            Self::Experiment(_) => "experiment",
        }
    }
}

impl ParamArgs {
    /// The workload's parameters with the settings applied.
    pub fn of(&self, workload: &Workload) -> Result<Params, UsageError> {
        let mut params = if self.quick { workload.quick() } else { workload.defaults() };
        for Setting { name, value } in &self.params {
            workload.set(&mut params, name, *value)?;
        }
        Ok(params)
    }
}

/// Refuses a heap that is none, or that this machine does not have; its size in bytes.
pub fn check_heap(
    workload: &Workload,
    params: &Params,
    setup: &Setup,
    collector: CollectorName,
) -> Result<u64, UsageError> {
    let bytes = collector.heap_bytes(workload, params, setup);
    if bytes < GRANULE as u64 {
        return Err(UsageError::NoHeap { bytes });
    }
    check_memory(bytes)?;
    Ok(bytes)
}

/// Refuses heaps of more than seven eighths of the machine's memory: the rest of the process, and of
/// the machine, needs some too.
pub fn check_memory(bytes: u64) -> Result<(), UsageError> {
    let info = sysinfo();
    let memory = info.totalram as u64 * u64::from(info.mem_unit);
    if bytes > memory / 8 * 7 {
        return Err(UsageError::TooLarge { bytes, memory });
    }
    Ok(())
}

//! Running a workload and measuring everything that the command line reports.

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use tospace::Statistics;
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::workloads::{Compiled, Instance, Params, RunError, Setup, Workload};

use crate::cpu_time;
use crate::timer::PhaseTimer;

/// A collector, by the name of its attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CollectorName {
    /// Cheney's copying collector over two halves.
    Semispace,
    /// Size-segregated blocks, side mark bits, lazy sweeping.
    MarkSweep,
    /// No collection; memory is handed out until it is used up.
    NeverFree,
}

/// One run, as `--json` prints it.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub workload: &'static str,
    /// The triple of the code that ran.
    pub target: String,
    pub collector: &'static str,
    pub params: serde_json::Map<String, serde_json::Value>,
    pub heap_bytes: u64,
    pub result: i64,
    pub wall_ns: u64,
    pub total_ns: u64,
    pub mutator_ns: u64,
    pub gc_ns: u64,
    pub max_pause_ns: u64,
    pub collections: u64,
    /// `None` unless compiled code counted.
    pub allocated_objects: Option<u64>,
    pub allocated_bytes: u64,
    pub copied_bytes: u64,
    pub copied_objects: u64,
    pub frames_walked: u64,
    pub slots_visited: u64,
    pub live_bytes_last: u64,
    pub live_bytes_sum: u64,
    pub fragmentation_bytes_sum: u64,
    pub peak_heap_bytes: u64,
    /// The whole process's, up to the end of this run.
    pub peak_rss_bytes: u64,
    pub compile_ns: u64,
    pub code_bytes: u64,
    pub stack_map_bytes: u64,
    /// What the detector has to say, if it looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_roots: Option<Vec<String>>,
}

/// A compiled workload on a heap of its own that can be run again and again.
pub type Subject = Box<dyn FnMut() -> Result<Run, RunError>>;

impl CollectorName {
    pub const ALL: [Self; 3] = [Self::Semispace, Self::MarkSweep, Self::NeverFree];

    pub fn name(self) -> &'static str {
        match self {
            Self::Semispace => Semispace::ATTRS.name,
            Self::MarkSweep => MarkSweep::ATTRS.name,
            Self::NeverFree => NeverFree::ATTRS.name,
        }
    }

    /// The heap that this collector gets for a setup.
    pub fn heap_bytes(self, workload: &Workload, params: &Params, setup: &Setup) -> u64 {
        let oracle = workload.oracle(params);
        let attrs = match self {
            Self::Semispace => Semispace::ATTRS,
            Self::MarkSweep => MarkSweep::ATTRS,
            Self::NeverFree => NeverFree::ATTRS,
        };
        setup.heap.bytes(&oracle, &attrs)
    }

    /// Compiles the workload for this collector.
    ///
    /// The subject runs on the stack of whoever calls it.
    pub fn subject(
        self,
        workload: &'static Workload,
        params: &Params,
        setup: &Setup,
    ) -> Result<Subject, RunError> {
        match self {
            Self::Semispace => subject::<Semispace>(workload, params, setup),
            Self::MarkSweep => subject::<MarkSweep>(workload, params, setup),
            Self::NeverFree => subject::<NeverFree>(workload, params, setup),
        }
    }
}

fn subject<C: Collector + 'static>(
    workload: &'static Workload,
    params: &Params,
    setup: &Setup,
) -> Result<Subject, RunError> {
    let start = cpu_time::now();
    let compiled = Compiled::new(workload, params, setup, C::ATTRS)?;
    let compile_ns = cpu_time::now() - start;
    let mut instance = Instance::<C, PhaseTimer>::new(compiled, setup, PhaseTimer::default())?;
    let params: serde_json::Map<_, _> =
        params.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    Ok(Box::new(move || {
        instance.mutator().reset();
        let (outcome, times) = PhaseTimer::time(
            &mut instance,
            |instance| instance.mutator().observer(),
            Instance::run,
        );
        let result = outcome?;
        let Statistics { collections, total, live_bytes_last, allocated_objects, usage, .. } =
            instance.mutator().statistics();
        let missed = instance.mutator().missed_roots();
        let module = instance.mutator().module();
        let looked = module.options().missed_roots;
        Ok(Run {
            workload: workload.name,
            target: module.target(),
            collector: C::ATTRS.name,
            params: params.clone(),
            heap_bytes: usage.heap_bytes,
            result,
            wall_ns: times.wall_ns,
            total_ns: times.total_ns,
            mutator_ns: times.total_ns - times.gc_ns,
            gc_ns: times.gc_ns,
            max_pause_ns: times.max_pause_ns,
            collections,
            allocated_objects,
            allocated_bytes: usage.allocated_bytes,
            copied_bytes: total.copied_bytes,
            copied_objects: total.copied_objects,
            frames_walked: total.frames_walked,
            slots_visited: total.slots_visited,
            live_bytes_last,
            live_bytes_sum: total.live_bytes,
            fragmentation_bytes_sum: total.fragmentation_bytes,
            peak_heap_bytes: usage.peak_bytes,
            peak_rss_bytes: peak_rss_bytes(),
            compile_ns,
            code_bytes: module.code_bytes() as u64,
            stack_map_bytes: module.maps().bytes() as u64,
            missed_roots: looked.then(|| missed.iter().map(|root| root.to_string()).collect()),
        })
    }))
}

/// The most memory that this process has had resident; 0 where the system does not say.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

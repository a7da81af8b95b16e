//! `tospace run`.

use anyhow::{Context, Result};
use serde::Serialize;
use tospace::debug::DebugModes;
use tospace::stack::with_stack;
use tospace::workloads::{Params, RunError, Setup};

use crate::cli::{RunArgs, UsageError, check_heap};
use crate::measure::Run;
use crate::{print, progress};

/// The last run, and all of them if there were more.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    last: &'a Run,
    #[serde(skip_serializing_if = "Option::is_none")]
    runs: Option<&'a [Run]>,
}

pub fn run(arguments: &RunArgs) -> Result<()> {
    let params = arguments.params.of(arguments.workload)?;
    let environment = DebugModes::from_env().map_err(UsageError::from)?;
    let setup = Setup {
        prefault: !arguments.cold,
        count: arguments.count,
        stress: if arguments.stress > 0 { arguments.stress } else { environment.stress },
        protect: arguments.protect || environment.protect,
        verify: arguments.verify || environment.verify,
        missed_roots: arguments.missed_roots || environment.missed_roots,
        ..Setup::new(arguments.heap)
    };
    check_heap(arguments.workload, &params, &setup, arguments.collector)?;

    let stack_bytes = arguments.workload.oracle(&params).stack_bytes;
    let runs = with_stack(stack_bytes, || repeat(arguments, &params, &setup))
        .with_context(|| format!("a stack of {stack_bytes} bytes"))?
        .with_context(|| {
            format!("{} under {}", arguments.workload.name, arguments.collector.name())
        })?;
    let last = runs.last().expect("clap demands a repetition");
    if arguments.json {
        let runs = (arguments.repeat > 1).then_some(&runs[..]);
        return print(serde_json::to_string_pretty(&Report { last, runs })?);
    }
    runs.iter().try_for_each(|run| print(text(run)))
}

fn repeat(arguments: &RunArgs, params: &Params, setup: &Setup) -> Result<Vec<Run>, RunError> {
    let mut subject = arguments.collector.subject(arguments.workload, params, setup)?;
    let bar = progress::bar(arguments.repeat.into());
    let runs = (0..arguments.repeat).map(|_| {
        let run = subject();
        bar.inc(1);
        run
    });
    let runs = runs.collect();
    bar.finish_and_clear();
    runs
}

fn text(run: &Run) -> String {
    let missed_roots = match &run.missed_roots {
        None => String::new(),
        Some(missed) if missed.is_empty() => "\n  missed roots none".to_owned(),
        Some(missed) => format!("\n  missed roots\n    {}", missed.join("\n    ")),
    };
    let params: Vec<_> = run.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let objects = run.allocated_objects.map_or(String::new(), |count| format!("{count} objects, "));
    [
        format!("{} {} under {} on {}", run.workload, params.join(" "), run.collector, run.target),
        format!("  result       {}", run.result),
        format!("  heap         {} bytes, {} touched", run.heap_bytes, run.peak_heap_bytes),
        format!("  allocated    {objects}{} bytes", run.allocated_bytes),
        format!(
            "  collections  {}: {} objects, {} bytes copied; {} bytes live after the last",
            run.collections, run.copied_objects, run.copied_bytes, run.live_bytes_last
        ),
        format!(
            "  roots        {} frames walked, {} slots visited",
            run.frames_walked, run.slots_visited
        ),
        format!(
            "  CPU time     {:.1} ms: program {:.1} ms, collector {:.1} ms, longest pause {:.2} ms",
            ms(run.total_ns),
            ms(run.mutator_ns),
            ms(run.gc_ns),
            ms(run.max_pause_ns)
        ),
        format!(
            "  code         {} bytes, maps {} bytes, compiled in {:.1} ms",
            run.code_bytes,
            run.stack_map_bytes,
            ms(run.compile_ns)
        ),
    ]
    .join("\n")
        + &missed_roots
}

/// Milliseconds.
pub fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

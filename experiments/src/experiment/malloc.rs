//! Whole processes, paired: binary-trees here, with start-up and compilation, and in C.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;
use tospace::workloads::binary_trees::WORKLOAD;

use crate::compare::median;
use crate::{print, progress};

const SOURCE: &str = include_str!("../../malloc/binary_trees.c");
const HEAP: &str = "64M";

pub fn malloc(quick: bool, as_json: bool) -> Result<()> {
    let (depth, rounds) = if quick { (16, 4) } else { (WORKLOAD.params[0].default, 10) };
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("binary_trees");
    compile(&program)?;
    let this = std::env::current_exe()?;

    let in_c = || cpu_seconds(Command::new(&program).arg(depth.to_string()));
    let here = || {
        let depth = format!("depth={depth}");
        cpu_seconds(Command::new(&this).args([
            "run",
            WORKLOAD.name,
            "--heap",
            HEAP,
            "--param",
            &depth,
        ]))
    };
    let bar = progress::bar(rounds);
    let mut ratios = Vec::new();
    let (mut seconds_in_c, mut seconds_here) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // A B B A: what drifts in one direction disturbs both alike.
        let (first, second) = if round % 2 == 0 {
            let first = here()?;
            (first, in_c()?)
        } else {
            let second = in_c()?;
            (here()?, second)
        };
        ratios.push(first / second);
        seconds_here.push(first);
        seconds_in_c.push(second);
        bar.inc(1);
    }
    bar.finish_and_clear();

    let (least, most) = bounds(&ratios);
    let (here, in_c, ratio) = (median(seconds_here), median(seconds_in_c), median(ratios.clone()));
    if as_json {
        return print(format_args!(
            "{:#}",
            json!({
                "experiment": "malloc", "depth": depth, "heap": HEAP, "rounds": rounds,
                "semispace_s": here, "malloc_s": in_c, "ratio": ratio, "ratios": ratios,
            })
        ));
    }
    print(format_args!(
        "binary-trees, depth {depth}: CPU seconds of the whole process, median of {rounds}\n\
         \x20 semispace, {HEAP} heap, start-up and compilation included  {here:.3}\n\
         \x20 C, malloc and free, cc -O2                                {in_c:.3}\n\
         \x20 ratio  {ratio:.2}, from {least:.2} to {most:.2}"
    ))
}

fn compile(program: &Path) -> Result<()> {
    let source = program.with_extension("c");
    fs::write(&source, SOURCE)?;
    let status = Command::new("cc").arg("-O2").arg("-o").arg(program).arg(&source).status();
    let status = status.context("a C compiler, `cc`, is needed")?;
    ensure!(status.success(), "cc: {status}");
    Ok(())
}

/// The CPU time of a process, user and system.
fn cpu_seconds(command: &mut Command) -> Result<f64> {
    let before = children_seconds()?;
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {stderr}", output.status);
    Ok(children_seconds()? - before)
}

fn children_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(time.num_microseconds() as f64 / 1e6)
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    (least, values.iter().copied().fold(0.0, f64::max))
}

//! `tospace compare`: every collector at every heap size, in turn, so that whatever disturbs the
//! machine disturbs all of them.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use serde::Serialize;
use tospace::stack::with_stack;
use tospace::workloads::{self, HeapSize, Params, RunError, Setup, Workload};

use crate::cli::{CompareArgs, check_heap, check_memory};
use crate::measure::{CollectorName, Run, Subject};
use crate::run::ms;
use crate::{print, progress};

/// What one collector did at one heap size.
#[derive(Debug, Serialize)]
struct Entry {
    workload: &'static str,
    collector: &'static str,
    /// As it was asked for; `unbounded` for a collector that no multiple bounds.
    heap: String,
    heap_bytes: u64,
    fits: bool,
    /// In the order of the rounds; empty if the workload does not fit.
    runs: Vec<Run>,
}

const UNBOUNDED: &str = "unbounded";
const DOES_NOT_FIT: &str = "does not fit";

pub fn compare(arguments: &CompareArgs) -> Result<()> {
    let workloads = match &arguments.workloads[..] {
        [] => workloads::ALL.to_vec(),
        named => named.to_vec(),
    };
    let mut subjects = Vec::new();
    for workload in workloads {
        let params = arguments.params.of(workload)?;
        subjects.push((workload, params));
    }
    for (workload, params) in &subjects {
        // All heaps of a workload exist at the same time.
        let mut together = 0;
        for (collector, heap) in pairs(&arguments.heap) {
            if collector != CollectorName::NeverFree {
                let setup = setup(arguments, heap);
                together += check_heap(workload, params, &setup, collector)?;
            }
        }
        check_memory(together)?;
    }

    let rounds = if arguments.counters { 1 } else { arguments.rounds };
    let steps = subjects.len() * rounds as usize * pairs(&arguments.heap).len();
    let bar = progress::bar(steps as u64);
    let mut entries = Vec::new();
    for (workload, params) in &subjects {
        let stack_bytes = workload.oracle(params).stack_bytes;
        let measured = with_stack(stack_bytes, || {
            measure(workload, params, arguments, rounds, |message| {
                bar.set_message(message);
                bar.inc(1);
            })
        });
        entries.extend(measured.with_context(|| format!("a stack of {stack_bytes} bytes"))??);
    }
    bar.finish_and_clear();

    if arguments.json {
        print(serde_json::to_string_pretty(&entries)?)
    } else if arguments.counters {
        print(table_of_counters(&entries))
    } else {
        print(table_of_times(&entries))
    }
}

fn setup(arguments: &CompareArgs, heap: HeapSize) -> Setup {
    Setup { prefault: true, count: arguments.counters, ..Setup::new(heap) }
}

/// What to compare: a collector that no multiple bounds only once.
fn pairs(heaps: &[HeapSize]) -> Vec<(CollectorName, HeapSize)> {
    let mut pairs = Vec::new();
    for (index, &heap) in heaps.iter().enumerate() {
        if heaps[..index].contains(&heap) {
            continue;
        }
        for collector in CollectorName::ALL {
            if collector != CollectorName::NeverFree {
                pairs.push((collector, heap));
            }
        }
    }
    pairs.push((CollectorName::NeverFree, HeapSize::Multiple(1.0)));
    pairs
}

fn measure(
    workload: &'static Workload,
    params: &Params,
    arguments: &CompareArgs,
    rounds: u32,
    step: impl Fn(String),
) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut subjects: Vec<Option<Subject>> = Vec::new();
    let mut together = 0;
    for (collector, heap) in pairs(&arguments.heap) {
        let setup = setup(arguments, heap);
        let unbounded = collector == CollectorName::NeverFree;
        let heap_bytes = collector.heap_bytes(workload, params, &setup);
        // What never frees may want more than the machine can give beside the others.
        let fits = !unbounded || check_memory(together + heap_bytes).is_ok();
        together += heap_bytes;
        subjects.push(match fits {
            true => Some(collector.subject(workload, params, &setup)?),
            false => None,
        });
        entries.push(Entry {
            workload: workload.name,
            collector: collector.name(),
            heap: if unbounded { UNBOUNDED.to_owned() } else { heap.to_string() },
            heap_bytes,
            fits,
            runs: Vec::new(),
        });
    }
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..entries.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let entry = &mut entries[index];
            step(format!("{} {} {}", entry.workload, entry.collector, entry.heap));
            if let Some(subject) = &mut subjects[index]
                && entry.fits
            {
                match subject() {
                    Ok(run) => entry.runs.push(run),
                    Err(error) if error.is_heap_full() => entry.fits = false,
                    Err(error) => return Err(wrong(entry, error)),
                }
            }
        }
    }
    Ok(entries)
}

fn wrong(entry: &Entry, error: RunError) -> anyhow::Error {
    let what = format!("{} under {} at {}", entry.workload, entry.collector, entry.heap);
    anyhow::Error::new(error).context(what)
}

/// Each row a workload and a heap; CPU time, ratios round by round.
fn table_of_times(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "workload",
        "heap",
        "semispace: total (program + collector) ms",
        "collections",
        "mark-sweep: total (program + collector) ms",
        "collections",
        "never-free: total ms",
        "semispace / mark-sweep",
        "semispace / never-free",
        "mark-sweep / never-free",
    ]);
    for semispace in
        entries.iter().filter(|entry| entry.collector == CollectorName::Semispace.name())
    {
        let find = |collector: CollectorName, heap: &str| {
            let found = entries.iter().find(|entry| {
                entry.workload == semispace.workload
                    && entry.collector == collector.name()
                    && entry.heap == heap
            });
            found.expect("every collector is measured")
        };
        let mark_sweep = find(CollectorName::MarkSweep, &semispace.heap);
        let never_free = find(CollectorName::NeverFree, UNBOUNDED);
        table.add_row([
            semispace.workload.to_owned(),
            semispace.heap.clone(),
            semispace.times(),
            semispace.collections(),
            mark_sweep.times(),
            mark_sweep.collections(),
            never_free.runs.first().map_or(DOES_NOT_FIT.to_owned(), |_| {
                format!("{:.1}", never_free.median(|run| ms(run.total_ns)))
            }),
            ratio(semispace, mark_sweep),
            ratio(semispace, never_free),
            ratio(mark_sweep, never_free),
        ]);
    }
    align(table, 2)
}

/// Each row one run; exact counters only.
fn table_of_counters(entries: &[Entry]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "workload",
        "collector",
        "heap",
        "heap bytes",
        "collections",
        "objects allocated",
        "bytes allocated",
        "objects copied",
        "bytes copied",
        "frames walked",
        "slots visited",
        "live bytes (sum)",
    ]);
    for entry in entries {
        let name = [entry.workload, entry.collector, &entry.heap];
        let counts = match entry.runs.first() {
            None => vec![DOES_NOT_FIT.to_owned()],
            Some(run) => [
                run.collections,
                run.allocated_objects.unwrap_or_default(),
                run.allocated_bytes,
                run.copied_objects,
                run.copied_bytes,
                run.frames_walked,
                run.slots_visited,
                run.live_bytes_sum,
            ]
            .map(|count| count.to_string())
            .to_vec(),
        };
        let name = name.map(str::to_owned).into_iter().chain([entry.heap_bytes.to_string()]);
        table.add_row(name.chain(counts));
    }
    align(table, 3)
}

/// Numbers, from column `first` on, to the right.
fn align(mut table: Table, first: usize) -> Table {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

impl Entry {
    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(figure).collect())
    }

    fn times(&self) -> String {
        if !self.fits {
            return DOES_NOT_FIT.to_owned();
        }
        let [total, mutator, gc] = [
            self.median(|run| ms(run.total_ns)),
            self.median(|run| ms(run.mutator_ns)),
            self.median(|run| ms(run.gc_ns)),
        ];
        format!("{total:.1} ({mutator:.1} + {gc:.1})")
    }

    fn collections(&self) -> String {
        self.runs.first().map_or(String::new(), |run| run.collections.to_string())
    }
}

/// The median of the rounds' ratios of total CPU time, and the smallest and largest.
fn ratio(numerator: &Entry, denominator: &Entry) -> String {
    let total = |run: &Run| run.total_ns as f64;
    let pairs = numerator.runs.iter().zip(&denominator.runs);
    let ratios: Vec<f64> = pairs.map(|(top, bottom)| total(top) / total(bottom)).collect();
    if !numerator.fits || !denominator.fits {
        return String::new();
    }
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.2} [{least:.2}, {most:.2}]", median(ratios))
}

/// The middle of an odd number of values; between the two in the middle of an even number.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

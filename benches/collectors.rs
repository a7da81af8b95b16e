//! Which collector costs less, for which program, at which heap size?
//!
//! Every workload at its canonical parameters, under semispace and mark-sweep at several multiples
//! of the peak live size, and under never-free without a bound. Times are CPU times of this process;
//! heaps are touched beforehand and emptied between iterations. Ends with a table of ratios.
//!
//! `cargo bench` runs all of it, `cargo bench -- --quick` takes few samples of small programs, and
//! `cargo bench -- list/` only what contains `list/` in its name, such as `list/3x/semispace`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use rustix::time::{ClockId, clock_gettime};
use tospace::collector::{Collector, MarkSweep, NeverFree, Semispace};
use tospace::stack::with_stack;
use tospace::workloads::{self, Compiled, HeapSize, Instance, Params, Setup, Workload};

const MULTIPLES: [f64; 5] = [1.5, 2.0, 3.0, 4.0, 6.0];
const UNBOUNDED: &str = "unbounded";

/// Seconds for each iteration, by workload, heap, and collector. `None`: does not fit.
type Samples = BTreeMap<(usize, String, &'static str), Option<Vec<f64>>>;

fn main() {
    // Like criterion: without `--bench`, which `cargo bench` passes, everything runs just once.
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let quick = has("--quick") || !has("--bench");
    let params = |workload: &Workload| if quick { workload.quick() } else { workload.defaults() };
    let needs = |workload: &&Workload| workload.oracle(&params(workload)).stack_bytes;
    let stack_bytes = workloads::ALL.iter().map(needs).max().expect("there are workloads");
    with_stack(stack_bytes, || {
        let mut criterion = Criterion::default()
            .sample_size(10)
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(2))
            .configure_from_args();
        let (samples, selection) = (RefCell::default(), Selection::from_arguments());
        for (index, workload) in workloads::ALL.into_iter().enumerate() {
            let params = params(workload);
            bench_workload(&mut criterion, &samples, &selection, index, workload, &params);
        }
        criterion.final_summary();
        if !samples.borrow().is_empty() {
            println!("{}", table(&samples.borrow()));
        }
    })
    .expect("the system has that stack");
}

/// What the command line selects: criterion's own filter comes too late to spare a heap.
struct Selection {
    part: Option<String>,
}

impl Selection {
    /// The last argument that is neither an option nor an option's value.
    fn from_arguments() -> Self {
        const WITHOUT_VALUE: [&str; 10] = [
            "--bench",
            "--test",
            "--list",
            "--quick",
            "--quiet",
            "--verbose",
            "--noplot",
            "--exact",
            "--nocapture",
            "--discard-baseline",
        ];
        let arguments: Vec<String> = std::env::args().collect();
        let is_value =
            |previous: &str| previous.starts_with('-') && !WITHOUT_VALUE.contains(&previous);
        let mut part = None;
        for pair in arguments.windows(2) {
            if !pair[1].starts_with('-') && !is_value(&pair[0]) {
                part = Some(pair[1].clone());
            }
        }
        Self { part }
    }

    fn includes(&self, name: &str) -> bool {
        self.part.as_ref().is_none_or(|part| name.contains(part))
    }
}

fn bench_workload(
    criterion: &mut Criterion,
    samples: &RefCell<Samples>,
    selection: &Selection,
    index: usize,
    workload: &'static Workload,
    params: &Params,
) {
    let mut group = criterion.benchmark_group(workload.name);
    group.sampling_mode(SamplingMode::Flat);
    let mut subject = Subject { group: &mut group, samples, selection, index, workload, params };
    for multiple in MULTIPLES {
        let heap = HeapSize::Multiple(multiple);
        subject.bench::<Semispace>(heap, heap.to_string());
        subject.bench::<MarkSweep>(heap, heap.to_string());
    }
    subject.bench::<NeverFree>(HeapSize::Multiple(1.0), UNBOUNDED.to_owned());
    group.finish();
}

struct Subject<'a, 'b> {
    group: &'a mut BenchmarkGroup<'b, WallTime>,
    samples: &'a RefCell<Samples>,
    selection: &'a Selection,
    index: usize,
    workload: &'static Workload,
    params: &'a Params,
}

impl Subject<'_, '_> {
    fn bench<C: Collector>(&mut self, heap: HeapSize, label: String) {
        let (name, collector) = (self.workload.name, C::ATTRS.name);
        if !self.selection.includes(&format!("{name}/{label}/{collector}")) {
            return;
        }
        let setup = Setup { prefault: true, ..Setup::new(heap) };
        let compiled = Compiled::new(self.workload, self.params, &setup, C::ATTRS);
        let instance = Instance::<C>::new(compiled.expect("it compiles"), &setup, ());
        let mut instance = instance.expect("the machine has that heap");
        let key = (self.index, label.clone(), collector);
        // Warms up, and shows whether there is anything to measure.
        match instance.run() {
            Ok(_) => {}
            Err(error) if error.is_heap_full() => {
                println!("{name}/{label}/{collector}: does not fit");
                self.samples.borrow_mut().insert(key, None);
                return;
            }
            Err(error) => panic!("{name}/{label}/{collector}: {error}"),
        }
        self.group.bench_function(format!("{label}/{collector}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    instance.mutator().reset();
                    let start = cpu_time();
                    instance.run().expect("it fitted before");
                    total += cpu_time() - start;
                }
                let mut samples = self.samples.borrow_mut();
                let times = samples.entry(key.clone()).or_insert_with(|| Some(Vec::new()));
                times.get_or_insert_default().push(total.as_secs_f64() / iterations as f64);
                total
            });
        });
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Medians and their ratios.
fn table(samples: &Samples) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header([
        "workload",
        "heap",
        "semispace ms",
        "mark-sweep ms",
        "never-free ms",
        "semispace / mark-sweep",
        "semispace / never-free",
        "mark-sweep / never-free",
    ]);
    let time = |workload: usize, heap: &str, collector: &'static str| {
        samples
            .get(&(workload, heap.to_owned(), collector))
            .map(|times| times.as_deref().map(median))
    };
    let ms = |time: Option<Option<f64>>| match time {
        None => String::new(),
        Some(None) => "does not fit".to_owned(),
        Some(Some(seconds)) => format!("{:.2}", seconds * 1e3),
    };
    let ratio = |top: Option<Option<f64>>, bottom: Option<Option<f64>>| {
        let ratio = top.flatten().zip(bottom.flatten()).map(|(top, bottom)| top / bottom);
        ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
    };
    for (index, workload) in workloads::ALL.iter().enumerate() {
        for multiple in MULTIPLES {
            let heap = HeapSize::Multiple(multiple).to_string();
            let semispace = time(index, &heap, Semispace::ATTRS.name);
            let mark_sweep = time(index, &heap, MarkSweep::ATTRS.name);
            let never_free = time(index, UNBOUNDED, NeverFree::ATTRS.name);
            if semispace.is_some() || mark_sweep.is_some() {
                table.add_row([
                    workload.name.to_owned(),
                    heap,
                    ms(semispace),
                    ms(mark_sweep),
                    ms(never_free),
                    ratio(semispace, mark_sweep),
                    ratio(semispace, never_free),
                    ratio(mark_sweep, never_free),
                ]);
            }
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 {
        times[middle]
    } else {
        f64::midpoint(times[middle - 1], times[middle])
    }
}

//! One program under one configuration, compared with what the interpreter expects.

use std::fmt;
use std::ops::AddAssign;
use std::panic::{self, AssertUnwindSafe};

use tospace::collector::{Collector, CollectorAttrs, MarkSweep, NeverFree, Semispace};
use tospace::heap::HeapOptions;
use tospace::jit::{ModuleOptions, OptLevel};
use tospace::{CallError, Handle, Mutator, Scope, TrapKind, Val};

use clap::ValueEnum;

use crate::compare::{compare_heaps, value};
use crate::compile::{Symbols, compile};
use crate::fault::{self, Fault, Faulty};
use crate::host;
use crate::interpret::{EntryOutcome, Expected, Failure};
use crate::program::{Entry, NODE, Program, Type};
use crate::textbook::Textbook;

/// The heap: small, so that it is full now and then.
const HEAP_BYTES: usize = 256 << 10;
/// The heap of one that has a block for each size of objects: the few blocks of a small one are soon
/// taken by objects of other sizes.
const BLOCKS_BYTES: usize = 1 << 20;
/// The heap of one that frees nothing.
const ENDLESS_BYTES: usize = 8 << 20;
/// The most collections under stress, about: a program that allocates more objects collects less
/// often.
const STRESSED_COLLECTIONS: usize = 4000;

/// A collector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
#[allow(missing_docs, reason = "the collectors' own names")]
pub enum CollectorName {
    Semispace,
    MarkSweep,
    NeverFree,
    Textbook,
}

/// What a program is compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Configuration {
    /// The collector.
    pub collector: CollectorName,
    /// How hard to optimise.
    pub opt_level: OptLevel,
    /// [`HeapOptions::protect`].
    pub protect: bool,
    /// [`ModuleOptions::missed_roots`]. What it finds is not looked at: it may be dead.
    pub missed_roots: bool,
    /// Only what this one finds; all but the last two together, if none is named.
    pub detector: Option<Detector>,
}

/// How a fault may be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Detector {
    /// Collections when the heap is full, and a wrong answer, or a crash.
    Answer,
    /// As above, with a collection at every allocation.
    Stress,
    /// As above, with every reference checked after each collection.
    Verify,
    /// As under stress, with retired memory inaccessible.
    Protect,
    /// As under protect; but only a trap that names the frame that held the stale reference.
    MissedRoots,
    /// [`tospace::jit::check()`], without running the program.
    Check,
}

impl Detector {
    fn mode(self) -> Mode {
        match self {
            Self::Answer => PLAIN,
            Self::Stress | Self::Protect | Self::MissedRoots | Self::Check => STRESS,
            Self::Verify => VERIFY,
        }
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { collector, opt_level, detector, .. } = self;
        write!(f, "{collector:?}, opt_level {opt_level:?}")?;
        if let Some(detector) = detector {
            write!(f, ", only {detector:?}")?;
        }
        let modes = [(self.protect, ", protect"), (self.missed_roots, ", missed roots")];
        modes.iter().filter(|(on, _)| *on).try_for_each(|(_, name)| f.write_str(name))
    }
}

impl Configuration {
    /// As this one, but noticing only what the detector does.
    pub fn with_detector(self, detector: Detector) -> Self {
        Self {
            protect: matches!(detector, Detector::Protect | Detector::MissedRoots),
            missed_roots: detector == Detector::MissedRoots,
            detector: Some(detector),
            ..self
        }
    }

    /// Every collector, optimised or not, protected or not: neighbours differ in all that they can.
    pub fn all() -> Vec<Self> {
        use CollectorName::{MarkSweep, NeverFree, Semispace, Textbook};
        let mut all = Vec::new();
        for (opt_level, protect) in [
            (OptLevel::Speed, false),
            (OptLevel::None, true),
            (OptLevel::Speed, true),
            (OptLevel::None, false),
        ] {
            for collector in [Semispace, MarkSweep, Textbook, NeverFree] {
                // One of them is enough for code that is compiled differently.
                let missed_roots = opt_level == OptLevel::None && protect;
                let detector = None;
                all.push(Self { collector, opt_level, protect, missed_roots, detector });
            }
        }
        all
    }
}

const PLAIN: Mode = Mode { name: "plain", stress: false, verify: false };
const STRESS: Mode = Mode { name: "stress", stress: true, verify: false };
const VERIFY: Mode = Mode { name: "stress and verify", stress: true, verify: true };

#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    stress: bool,
    verify: bool,
}

/// How much was run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Programs.
    pub programs: u64,
    /// Programs that were not run to the end, because their objects did not fit into the heap.
    pub misfits: u64,
    /// Runs of programs.
    pub runs: u64,
    /// Calls in them.
    pub calls: u64,
    /// Objects that were allocated.
    pub allocated: u64,
    /// Objects that were alive at the end and compared.
    pub compared: u64,
    /// Collections.
    pub collections: u64,
    /// Frames that collections walked.
    pub frames: u64,
    /// Slots that they visited.
    pub slots: u64,
    /// Objects that they copied.
    pub copied: u64,
}

impl Counts {
    /// All of them, in the order of their declaration.
    pub fn to_array(self) -> [u64; 10] {
        let Self { programs, misfits, runs, calls, allocated, .. } = self;
        let Self { compared, collections, frames, slots, copied, .. } = self;
        [programs, misfits, runs, calls, allocated, compared, collections, frames, slots, copied]
    }

    /// What [`Counts::to_array`] gave.
    pub fn from_array(array: [u64; 10]) -> Self {
        let [programs, misfits, runs, calls, allocated, ..] = array;
        let [.., compared, collections, frames, slots, copied] = array;
        Self {
            programs,
            misfits,
            runs,
            calls,
            allocated,
            compared,
            collections,
            frames,
            slots,
            copied,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        let mut sums = self.to_array();
        sums.iter_mut().zip(other.to_array()).for_each(|(sum, more)| *sum += more);
        *self = Self::from_array(sums);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { programs, misfits, runs, calls, allocated, compared, .. } = self;
        let Self { collections, frames, slots, copied, .. } = self;
        write!(
            f,
            "{programs} programs ({misfits} did not fit), {runs} runs, {calls} calls, {allocated} \
             objects, {compared} compared; {collections} collections, {frames} frames, {slots} \
             slots, {copied} objects copied"
        )
    }
}

/// Why a run ended.
enum Stop {
    /// The program's objects do not fit into the heap: nothing is wrong.
    DoesNotFit,
    Finding(String),
}

/// Runs a program under a configuration, in all modes.
///
/// # Errors
/// What is wrong, if anything.
pub fn run(
    program: &Program,
    expected: &Expected,
    configuration: Configuration,
) -> Result<Counts, String> {
    use CollectorName::{
        MarkSweep as Sweep, NeverFree as Never, Semispace as Semi, Textbook as Book,
    };
    let runner = match (configuration.collector, fault::active()) {
        (Semi, None) => modes::<Semispace>,
        (Semi, Some(_)) => modes::<Faulty<Semispace>>,
        (Sweep, None) => modes::<MarkSweep>,
        (Sweep, Some(_)) => modes::<Faulty<MarkSweep>>,
        (Never, _) => modes::<NeverFree>,
        (Book, None) => modes::<Textbook>,
        (Book, Some(_)) => modes::<Faulty<Textbook>>,
    };
    let mut counts = Counts::default();
    let run = || fault::on_the_stack(|| runner(program, expected, configuration, &mut counts));
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => Ok(counts),
        Ok(Err(Stop::DoesNotFit)) => Ok(Counts { misfits: 1, ..counts }),
        Ok(Err(Stop::Finding(finding))) => Err(finding),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(format!("panic: {text}"))
        }
    }
}

fn modes<C: Collector>(
    program: &Program,
    expected: &Expected,
    configuration: Configuration,
    counts: &mut Counts,
) -> Result<(), Stop> {
    let Configuration { opt_level, protect, missed_roots, detector, .. } = configuration;
    let bytes = match C::ATTRS {
        CollectorAttrs { frees: false, .. } => ENDLESS_BYTES,
        CollectorAttrs { moves: false, .. } => BLOCKS_BYTES,
        _ => HEAP_BYTES,
    };
    if !C::ATTRS.frees && expected.model.bytes > bytes as u64 * 3 / 4 {
        return Err(Stop::DoesNotFit);
    }
    let finding = |error: &dyn fmt::Display| Stop::Finding(error.to_string());
    let options = ModuleOptions { opt_level, missed_roots, ..ModuleOptions::new(C::ATTRS) };
    // With a fault, it is the programs that shall show it, unless the check is asked for.
    let check = detector.map_or(fault::active().is_none(), |only| only == Detector::Check);
    let options = ModuleOptions { count_allocations: true, check, ..options };
    let compiled = compile(program, options).map_err(|error| finding(&error))?;
    let collector = C::new(HeapOptions { protect, ..HeapOptions::new(bytes) });
    let collector = collector.map_err(|error| finding(&error))?;
    let mutator = Mutator::new(compiled.module, collector).map_err(|error| finding(&error))?;
    // Not on the stack, where only frames shall be.
    let mut mutator = Box::new(mutator);
    if fault::is_active(Fault::ForgetHandles) {
        // So that the collector sees the globals alone.
        mutator.collect();
    }
    if detector == Some(Detector::Check) {
        return Ok(());
    }
    // What a compiled program goes through, one after the other.
    let modes = detector.map_or(vec![PLAIN, STRESS, VERIFY], |only| vec![only.mode()]);
    for mode in modes {
        mutator.reset();
        let every = (expected.model.count() / STRESSED_COLLECTIONS).max(1) as u64;
        mutator.set_stress(if mode.stress { every } else { 0 });
        mutator.set_verify(mode.verify);
        let run = |scope: &mut Scope<'_>| run_once(scope, program, expected, &compiled.symbols);
        let ended = mutator.scope(run);
        if let (Some(Detector::MissedRoots), Err(Stop::Finding(text))) = (detector, &ended)
            && !text.contains("is in no stack map")
        {
            return Ok(());
        }
        match ended {
            Ok(compared) => counts.compared += compared as u64,
            Err(Stop::Finding(text)) => {
                return Err(Stop::Finding(format!("{}: {text}", mode.name)));
            }
            Err(does_not_fit) => return Err(does_not_fit),
        }
        let statistics = mutator.statistics();
        for (what, found, expected) in [
            ("objects", statistics.allocated_objects, expected.compiled_allocations),
            ("bytes", Some(statistics.usage.allocated_bytes), expected.model.bytes),
        ] {
            if found != Some(expected) {
                let text = format!("{}: {found:?} {what}, not {expected}", mode.name);
                return Err(Stop::Finding(text));
            }
        }
        counts.runs += 1;
        counts.calls += expected.calls;
        counts.allocated += expected.model.count() as u64;
        counts.collections += statistics.collections;
        counts.frames += statistics.total.frames_walked;
        counts.slots += statistics.total.slots_visited;
        counts.copied += statistics.total.copied_objects;
    }
    Ok(())
}

/// Calls the entries, and compares everything.
fn run_once(
    scope: &mut Scope<'_>,
    program: &Program,
    expected: &Expected,
    symbols: &Symbols,
) -> Result<usize, Stop> {
    symbols.cells.next_number.set(0);
    symbols.cells.trace.set(0);
    let mut kept = Vec::new();
    for (index, (entry, outcome)) in program.entries.iter().zip(&expected.entries).enumerate() {
        symbols.cells.fuel.set(program.fuel);
        enter(scope, program, symbols, entry, outcome, &mut kept).map_err(|stop| match stop {
            Stop::Finding(text) => Stop::Finding(format!("entry {index}: {text}")),
            does_not_fit => does_not_fit,
        })?;
    }
    let kept: Vec<Handle<'_>> = kept.into_iter().map(|(_, handle)| handle).collect();
    let compared = compare_heaps(scope, program, symbols, expected, &kept);
    compared.map_err(Stop::Finding)
}

fn enter<'s>(
    scope: &mut Scope<'s>,
    program: &Program,
    symbols: &Symbols,
    entry: &Entry,
    outcome: &EntryOutcome,
    kept: &mut Vec<(usize, Handle<'s>)>,
) -> Result<(), Stop> {
    let function = &program.functions[entry.function];
    let mut arguments = Vec::new();
    for (&ty, &number) in function.params.iter().zip(&entry.numbers) {
        arguments.push(match ty {
            Type::Int => Val::I64(number),
            Type::Float => Val::F64(number as f64),
            Type::Ref(shape) => match kept.iter().rev().find(|(of, _)| *of == shape) {
                Some((_, handle)) => Val::Ref(*handle),
                None => Val::Ref(scope.null()),
            },
            Type::Wide | Type::Vector => unreachable!("the host does not call such functions"),
        });
    }
    let found = scope.call(symbols.functions[entry.function], &arguments);
    let found = match found {
        Ok(results) => Ok(results),
        Err(CallError::Trap(trap)) => Err(failure(trap.kind)?),
        Err(error) => return Err(Stop::Finding(error.to_string())),
    };
    let trace = symbols.cells.trace.get();
    let differs = |found: String| {
        let text = format!("{found}; expected {:?}, trace {}", outcome.results, outcome.trace);
        Err(Stop::Finding(text))
    };
    match (found, &outcome.results) {
        (Ok(results), Ok(expected)) => {
            let mut of = results.iter().zip(expected).zip(&function.results);
            let same = of.all(|((&found, expected), ty)| match (found, ty) {
                (Val::Ref(handle), &Type::Ref(shape)) => {
                    kept.push((shape, handle));
                    true
                }
                _ => value(found) == *expected,
            });
            if !same || trace != outcome.trace {
                return differs(format!("gives {results:?}, trace {trace}"));
            }
        }
        (Err(found), Err(expected)) if found == *expected => {
            if found == Failure::Uncaught {
                scope.collect();
                kept.push((NODE, scope.take_thrown()));
            }
            if trace != outcome.trace {
                return differs(format!("{found:?}, trace {trace}"));
            }
        }
        (found, _) => return differs(format!("gives {found:?}, trace {trace}")),
    }
    Ok(())
}

/// What a trap is to the interpreter.
fn failure(kind: TrapKind) -> Result<Failure, Stop> {
    match kind {
        TrapKind::NullReference => Ok(Failure::NullReference),
        TrapKind::IndexOutOfBounds { index, length } => {
            Ok(Failure::IndexOutOfBounds { index, length })
        }
        TrapKind::DivisionByZero => Ok(Failure::DivisionByZero),
        TrapKind::IntegerOverflow => Ok(Failure::IntegerOverflow),
        TrapKind::Uncaught => Ok(Failure::Uncaught),
        TrapKind::Host(error)
            if [host::AS_ASKED, host::CALLED_BACK_FAILED].contains(&&*error.to_string()) =>
        {
            Ok(Failure::Host)
        }
        // A program whose objects take a good part of the heap.
        TrapKind::HeapFull { live, heap, .. } if live > heap / 8 => Err(Stop::DoesNotFit),
        unexpected => Err(Stop::Finding(format!("trap: {unexpected}"))),
    }
}

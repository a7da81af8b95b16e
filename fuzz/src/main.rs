//! `fuzz`: runs random programs for as long as it is asked to.

mod supervise;
mod table;
mod worker;

use std::io;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};
use fuzz::choices::{Choices, seed, shrink};
use fuzz::fault::Fault;
use fuzz::generate::generate;
use fuzz::interpret::interpret;
use fuzz::run::{CollectorName, Configuration, Detector};

use supervise::{Ended, Finding};
use worker::Replay;

/// Runs random programs under every collector and compares them with an interpreter.
///
/// Programs run in child processes, which may crash. The first finding ends the run: the program is
/// shrunk and printed, and the exit code is 1.
#[derive(Parser, Clone, Debug)]
#[command(version)]
struct Cli {
    /// Which random programs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The number of the first program.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many programs; without it, until the time is up.
    #[arg(long)]
    programs: Option<u64>,
    /// For how long. Without it and --programs, for a minute.
    #[arg(long)]
    seconds: Option<u64>,
    /// Under how many of the 16 configurations each program runs. Neighbours are under different ones.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    configurations: u64,
    /// Only this collector.
    #[arg(long, value_enum)]
    collector: Option<CollectorName>,
    /// How many processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Run with this fault, which should be found.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
    /// Notice only what this detector does.
    #[arg(long, value_enum)]
    detector: Option<Detector>,
    /// Print, for each fault and each detector, which program finds it first; --programs, 200 without
    /// it, is how many are tried.
    #[arg(long, conflicts_with_all = ["fault", "detector", "seconds", "replay"])]
    table: bool,
    /// Run only the program of these choices, as a finding prints them.
    #[arg(long, value_parser = worker::parse)]
    replay: Option<Replay>,
    /// Trials to shrink a finding with.
    #[arg(long, default_value_t = 1500)]
    trials: usize,
    /// Be the child process with this number.
    #[arg(long, hide = true)]
    worker: Option<u64>,
    /// Only this configuration.
    #[arg(long, hide = true)]
    configuration: Option<usize>,
}

impl Cli {
    /// The configurations that programs run under, by their numbers.
    fn configurations(&self) -> Vec<usize> {
        let of_heap = matches!(self.fault, Some(Fault::ForwardTwice | Fault::WrongLayout));
        let collector = self.collector.or(match self.fault {
            Some(_) if of_heap => Some(CollectorName::Textbook),
            Some(_) => Some(CollectorName::Semispace),
            None => None,
        });
        let all = Configuration::all();
        let chosen = |index: &usize| {
            collector.is_none_or(|collector| all[*index].collector == collector)
                && self.configuration.is_none_or(|only| only == *index)
        };
        let chosen = (0..all.len()).filter(chosen);
        // A detector says itself what to protect.
        if self.detector.is_some() { chosen.take(1).collect() } else { chosen.collect() }
    }

    /// Why a fault cannot be seeded into the collector that was asked for.
    fn contradiction(&self) -> Option<&'static str> {
        let of_heap = matches!(self.fault, Some(Fault::ForwardTwice | Fault::WrongLayout));
        match (self.fault, self.collector) {
            (Some(_), Some(CollectorName::NeverFree)) => Some("never-free has no fault to seed"),
            (Some(_), Some(collector)) if of_heap && collector != CollectorName::Textbook => {
                Some("this fault is the textbook collector's")
            }
            _ => None,
        }
    }

    /// The configuration of this number.
    fn configuration(&self, index: usize) -> Configuration {
        let configuration = Configuration::all()[index];
        self.detector.map_or(configuration, |only| configuration.with_detector(only))
    }
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    if let Some(reason) = cli.contradiction() {
        Cli::command().error(ErrorKind::ArgumentConflict, reason).exit();
    }
    if cli.worker.is_some() {
        return worker::work(&cli);
    }
    if !cli.table && cli.programs.is_none() && cli.seconds.is_none() && cli.replay.is_none() {
        cli.seconds = Some(60);
    }
    let result = if cli.table { table::print(&cli) } else { supervise(&cli) };
    match result {
        Ok(exit_code) => exit_code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn supervise(cli: &Cli) -> io::Result<ExitCode> {
    let Ended { counts, finding } = supervise::supervise(cli)?;
    println!("{counts}");
    let Some(finding) = finding else { return Ok(ExitCode::SUCCESS) };
    report(cli, &finding)?;
    Ok(ExitCode::FAILURE)
}

/// Shrinks a finding and prints it.
fn report(cli: &Cli, finding: &Finding) -> io::Result<()> {
    let configuration = cli.configuration(finding.configuration);
    println!("\nfinding: program {} of seed {}: {}", finding.number, cli.seed, finding.what);
    println!("under {configuration}");
    let choices = match &cli.replay {
        Some(Replay(choices)) => choices.clone(),
        None => {
            let mut choices = Choices::random(seed(cli.seed, finding.number));
            generate(&mut choices);
            choices.taken()
        }
    };
    let again = |choices: &[u32]| supervise::try_again(cli, choices, finding.configuration);
    let small = shrink(&choices, cli.trials, |choices| matches!(again(choices), Ok(Some(_))));
    let what = again(&small)?;
    let program = generate(&mut Choices::given(&small));
    println!("\nshrunk from {} choices to {}:\n\n{program}", choices.len(), small.len());
    println!("found: {}", what.as_deref().unwrap_or("nothing this time"));
    for (index, entry) in interpret(&program).entries.iter().enumerate() {
        println!("expected of entry {index}: {:?}, trace {}", entry.results, entry.trace);
    }
    println!("\nfuzz --replay '{}'", worker::format(&small));
    Ok(())
}

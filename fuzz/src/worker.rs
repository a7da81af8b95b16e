//! The child process: runs programs and says on standard output what it is at, a line for each run,
//! so that its parent knows what killed it.

use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz::choices::{Choices, seed};
use fuzz::fault;
use fuzz::generate::generate;
use fuzz::interpret::interpret;
use fuzz::program::Program;
use fuzz::run::{Counts, run};

use super::Cli;

/// A line of what a worker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// It begins to run a program, by its number, under a configuration.
    At(u64, usize),
    /// That went well.
    Done(Counts),
    /// That went wrong.
    Wrong(String),
}

impl Line {
    fn print(&self) {
        let text = match self {
            Self::At(number, configuration) => format!("at {number} {configuration}"),
            Self::Done(counts) => {
                let counts = counts.to_array().map(|count| count.to_string());
                format!("done {}", counts.join(" "))
            }
            // In one line.
            Self::Wrong(what) => format!("wrong {}", what.replace('\n', "; ")),
        };
        let mut out = io::stdout().lock();
        // If nobody reads any more, the parent is gone.
        if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
            std::process::exit(2);
        }
    }

    /// What a line says, if a worker has written it.
    pub fn parse(text: &str) -> Option<Self> {
        let (what, rest) = text.split_once(' ')?;
        let mut numbers = rest.split(' ').map(|number| number.parse::<u64>().ok());
        Some(match what {
            "at" => Self::At(numbers.next()??, usize::try_from(numbers.next()??).ok()?),
            "done" => {
                let counts: Option<Vec<u64>> = numbers.collect();
                Self::Done(Counts::from_array(counts?.try_into().ok()?))
            }
            "wrong" => Self::Wrong(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Runs every `jobs`th program from the worker's own number on, until something is wrong, or enough.
pub fn work(cli: &Cli) -> ExitCode {
    // What panics is a finding, which the parent reports.
    panic::set_hook(Box::new(|_| {}));
    fault::activate(cli.fault);
    let chosen = cli.configurations();
    if let Some(choices) = &cli.replay {
        let program = generate(&mut Choices::given(&choices.0));
        return run_under(cli, &program, 0, &chosen);
    }
    let end = cli.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut number = cli.worker.expect("the caller looked");
    while end.is_none_or(|end| Instant::now() < end)
        && cli.programs.is_none_or(|programs| number < programs)
    {
        let program = generate(&mut Choices::random(seed(cli.seed, cli.first + number)));
        let taken = (cli.configurations as usize).min(chosen.len());
        let start = number as usize * taken % chosen.len();
        let under: Vec<usize> = chosen.iter().cycle().skip(start).take(taken).copied().collect();
        if run_under(cli, &program, cli.first + number, &under) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        number += cli.jobs;
    }
    ExitCode::SUCCESS
}

fn run_under(cli: &Cli, program: &Program, number: u64, configurations: &[usize]) -> ExitCode {
    let expected = interpret(program);
    let mut programs = 1;
    for &configuration in configurations {
        Line::At(number, configuration).print();
        match run(program, &expected, cli.configuration(configuration)) {
            Ok(counts) => {
                Line::Done(Counts { programs: std::mem::take(&mut programs), ..counts }).print();
            }
            Err(what) => {
                Line::Wrong(what).print();
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Choices as `--replay` takes them.
pub fn format(choices: &[u32]) -> String {
    let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
    choices.join(" ")
}

/// Choices out of what `--replay` was given.
pub fn parse(text: &str) -> Result<Replay, String> {
    let choice = |choice: &str| choice.parse().map_err(|error| format!("`{choice}`: {error}"));
    text.split_whitespace().map(choice).collect::<Result<_, _>>().map(Replay)
}

/// The choices that a program stands for.
#[derive(Clone, Debug)]
pub struct Replay(pub Vec<u32>);

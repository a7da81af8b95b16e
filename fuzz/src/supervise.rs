//! The parent process: starts workers, adds up what they have run, and finds out what killed one.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use fuzz::run::Counts;

use super::Cli;
use super::worker::{self, Line, Replay};

/// How long a worker may be silent. Programs take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that went wrong.
#[derive(Debug)]
pub struct Finding {
    /// The program's number.
    pub number: u64,
    /// The configuration's.
    pub configuration: usize,
    /// What went wrong.
    pub what: String,
}

/// What all workers together have run, and the first finding.
#[derive(Debug)]
pub struct Ended {
    /// What was run.
    pub counts: Counts,
    /// What was found.
    pub finding: Option<Finding>,
}

/// Runs workers until they have run enough, or one finds something.
///
/// # Errors
/// If one cannot be started or waited for.
pub fn supervise(cli: &Cli) -> io::Result<Ended> {
    let jobs = if cli.replay.is_some() { 1 } else { cli.jobs };
    let mut workers =
        (0..jobs).map(|job| Worker::start(cli, job)).collect::<io::Result<Vec<_>>>()?;
    let mut ended = Ended { counts: Counts::default(), finding: None };
    // In turn: all of them have about as much to say.
    while !workers.is_empty() && ended.finding.is_none() {
        let mut working = Vec::new();
        for mut worker in workers {
            if worker.hear(&mut ended)? {
                working.push(worker);
            }
        }
        workers = working;
    }
    Ok(ended)
}

/// Runs the program of these choices once more; what is wrong, if anything.
///
/// # Errors
/// If it cannot be started or waited for.
pub fn try_again(cli: &Cli, choices: &[u32], configuration: usize) -> io::Result<Option<String>> {
    let replay = Some(Replay(choices.to_vec()));
    let cli = Cli { replay, configuration: Some(configuration), ..cli.clone() };
    Ok(supervise(&cli)?.finding.map(|finding| finding.what))
}

/// A child process that runs programs.
struct Worker {
    child: Child,
    lines: Receiver<Line>,
    /// The program and the configuration that it is at.
    at: (u64, usize),
}

impl Drop for Worker {
    fn drop(&mut self) {
        // If it has ended already, that is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Worker {
    fn start(cli: &Cli, job: u64) -> io::Result<Self> {
        // Under the emulator that cargo runs this program with, if any.
        let triple = format!("{}_unknown_linux_gnu", env::consts::ARCH).to_uppercase();
        let runner = env::var(format!("CARGO_TARGET_{triple}_RUNNER")).unwrap_or_default();
        let mut words: Vec<OsString> = runner.split_whitespace().map(OsString::from).collect();
        words.push(env::current_exe()?.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(format!("--worker={job}"));
        let mut pass = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                command.arg(format!("--{name}={value}"));
            }
        };
        let number = |number: u64| Some(number.to_string());
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.map(|value| value.get_name().to_owned())
        };
        pass("seed", number(cli.seed));
        pass("first", number(cli.first));
        pass("jobs", number(cli.jobs));
        pass("configurations", number(cli.configurations));
        pass("programs", cli.programs.and_then(number));
        pass("seconds", cli.seconds.and_then(number));
        pass("configuration", cli.configuration.and_then(|index| number(index as u64)));
        pass("replay", cli.replay.as_ref().map(|replay| worker::format(&replay.0)));
        pass("fault", name(cli.fault.and_then(|fault| fault.to_possible_value())));
        pass("detector", name(cli.detector.and_then(|only| only.to_possible_value())));
        pass("collector", name(cli.collector.and_then(|one| one.to_possible_value())));
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Some(line) = Line::parse(&line) else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines, at: (cli.first, 0) })
    }

    /// Waits until a run is over; whether there will be more.
    fn hear(&mut self, ended: &mut Ended) -> io::Result<bool> {
        let wrong = loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(Line::At(number, configuration)) => self.at = (number, configuration),
                Ok(Line::Done(counts)) => {
                    ended.counts += counts;
                    return Ok(true);
                }
                Ok(Line::Wrong(what)) => break what,
                Err(RecvTimeoutError::Timeout) => break format!("silent for {PATIENCE:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait()?;
                    if status.success() {
                        return Ok(false);
                    }
                    break format!("died: {status}");
                }
            }
        };
        let (number, configuration) = self.at;
        ended.finding.get_or_insert(Finding { number, configuration, what: wrong });
        Ok(false)
    }
}

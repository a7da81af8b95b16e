//! `tospace`: runs the workloads and compares the collectors.

mod cli;
mod compare;
mod cpu_time;
mod experiment;
mod list;
mod measure;
mod progress;
mod run;
mod timer;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};

use cli::{Cli, Command, UsageError};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List(arguments) => list::list(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Experiment(arguments) => experiment::experiment(&arguments),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(usage) = error.downcast_ref::<UsageError>() {
        // Like clap's own: exit code 2.
        Cli::command().error(ErrorKind::ValueValidation, usage).exit();
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

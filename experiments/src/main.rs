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

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, error::ErrorKind};

use cli::{Cli, Command, UsageError};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = match &command {
        Command::List(arguments) => list::list(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Compare(arguments) => compare::compare(arguments),
        Command::Experiment(arguments) => experiment::experiment(arguments),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    if let Some(usage) = error.downcast_ref::<UsageError>() {
        // Like clap's own: exit code 2.
        let mut cli = Cli::command();
        cli.build();
        let subcommand = cli.find_subcommand_mut(command.name()).expect("it was parsed");
        subcommand.error(ErrorKind::ValueValidation, usage).exit();
    }
    let broken_pipe = |io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref().is_some_and(broken_pipe) {
        // Whoever reads has seen enough.
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Prints a line, or many, on standard output.
fn print(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

//! Which detector finds which fault, and how soon.

use std::io;
use std::process::ExitCode;

use clap::ValueEnum;
use fuzz::fault::Fault;
use fuzz::run::Detector;

use super::Cli;
use super::supervise::supervise;

/// How many programs are tried, unless the command line says.
const PROGRAMS: u64 = 200;

/// Prints the table, with a row for no fault at all: what it has is false alarms.
///
/// # Errors
/// If programs cannot be started or waited for.
pub fn print(cli: &Cli) -> io::Result<ExitCode> {
    let programs = cli.programs.unwrap_or(PROGRAMS);
    let detectors = Detector::value_variants();
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map_or(String::new(), |value| value.get_name().to_owned())
    };
    let names: Vec<_> = detectors.iter().map(|one| name(one.to_possible_value())).collect();
    println!("| fault | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(detectors.len()));
    let faults = Fault::value_variants().iter().copied().map(Some);
    for fault in faults.chain([None]) {
        let mut row = Vec::new();
        for &detector in detectors {
            let (programs, detector) = (Some(programs), Some(detector));
            let seconds = None;
            let cli = Cli { fault, detector, programs, seconds, table: false, ..cli.clone() };
            let first = supervise(&cli)?.finding.map(|finding| finding.number + 1);
            row.push(first.map_or("-".to_owned(), |number| number.to_string()));
        }
        let fault = fault.map_or("none".to_owned(), |fault| name(fault.to_possible_value()));
        println!("| {fault} | {} |", row.join(" | "));
    }
    Ok(ExitCode::SUCCESS)
}

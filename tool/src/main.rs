//! `treering-tool`: looks into, checks and repairs Treering databases that are closed.
//!
//! A crate of its own, so that the engine carries no argument parsing and an operator can install this program alone. It reads
//! files through the engine's own readers: what it calls sound is what the engine can read.
//!
//! Promises:
//! 1. Only `repair` changes a database, and `scan`, which opens it as a program would. All others open files for reading only.
//! 2. `repair` destroys nothing: what it takes out of a database stands in a `lost-<n>` directory inside of it.
//! 3. The exit code is 0 where all is well, 1 where damage was found, 2 where the question could not be answered.

mod arguments;
mod check;
mod database;
mod failure;
mod key_text;
mod manifest;
mod progress;
mod repair;
mod report;
mod scan;
mod state;
mod stats;
mod table;
mod verify;
mod wal;

use arguments::{Arguments, Command};
use clap::Parser;
use failure::{Failure, Verdict};
use std::io::{BufWriter, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(std::io::stdout().lock());
    let outcome = run(&arguments, &mut out).and_then(|verdict| {
        out.flush()?;
        Ok(verdict)
    });
    match outcome {
        Ok(Verdict::Sound) => ExitCode::SUCCESS,
        Ok(Verdict::Damaged) => ExitCode::from(1),
        // Whoever read our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // What was printed before is still worth reading; the error is what counts.
            let _ = out.flush();
            eprintln!("treering-tool: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let json = arguments.json;
    match &arguments.command {
        Command::Manifest { target } => manifest::run(target, json, out),
        Command::Wal(arguments) => wal::run(arguments, json, out),
        Command::Table(arguments) => table::run(arguments, json, out),
        Command::Verify { files } => verify::run(files, json, out),
        Command::Check { directory } => check::run(directory, json, out),
        Command::Repair(arguments) => repair::run(arguments, json, out),
        Command::Stats { directory } => stats::run(directory, json, out),
        Command::Scan(arguments) => scan::run(arguments, json, out),
    }
}

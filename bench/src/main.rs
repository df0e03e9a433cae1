//! db_bench: RocksDB's benchmark program for Treering.
//!
//! The same names, flags, keys and output lines as RocksDB's, so that its users can compare at once and its scripts run
//! unchanged. Floors, from the bottom: `generate` (keys and values as data), `flags` and `list` (what to run), `engine`
//! (the one door to the database), `report` (what is printed), `workload` (what threads do), `verify`, `run`.

#![allow(rustdoc::broken_intra_doc_links, reason = "help texts show modifiers such as name[X5]")]

mod engine;
mod flags;
mod generate;
mod list;
mod nearest;
mod rate;
mod report;
mod run;
mod verify;
mod workload;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // SAFETY: no other thread runs yet. Output into a closed pipe then ends the program, as it ends RocksDB's.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("db_bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<(), String> {
    let line = flags::parse(std::env::args().skip(1))?;
    if line.wants_help {
        print!("{}", flags::help());
        return Ok(());
    }
    if line.wants_version {
        println!("db_bench (Treering) {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_micros());
    run::run(&flags::Settings::new(line, now as u64)?)
}

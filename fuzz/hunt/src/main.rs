//! `hunt`: runs rows of the reliability scoreboard. See the README beside it.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    treering_hunt::rows::child(&words).unwrap_or_else(program::main)
}

//! `hunt`: runs rows of the reliability scoreboard. See the README beside it.

mod program;

use std::process::ExitCode;

fn main() -> ExitCode {
    program::main()
}

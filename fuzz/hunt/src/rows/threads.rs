//! Row 11: the engine's threads under two model checkers.
//!
//! Both need a build of the engine of their own (`--cfg loom`, `--cfg shuttle`), so this row starts cargo:
//!
//! ```text
//! seed 1        the models of `loom_models.rs`, each to its end
//! seed 2, 3 ... whole databases under so many schedules of shuttle, drawn from the seed
//! ```

use crate::drive::{Case, Failure, Row, Tally};
use crate::results::fields;
use crate::world::PLANTED;
use std::path::Path;
use std::process::Command;

pub(super) const ROW: Row = Row {
    number: 11,
    name: "threads",
    promise: "no schedule of the engine's threads loses a write, shows half a batch, blocks for ever or breaks an assertion",
    unit: "schedules",
    // It builds the engine twice: continuous integration runs it by itself.
    ci_cases: 0,
    nightly: 5_000_000,
    parallel: true,
    run,
};

/// Schedules of a case.
const SCHEDULES: u64 = 5_000;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    if seed == 1 { loom(tally) } else { shuttle(seed, tally) }.map(|()| Case::Done)
}

fn loom(tally: &mut Tally) -> Result<(), Failure> {
    let output = cargo("loom", &["--lib", "loom"], &[])?;
    let executions = output.lines().filter(|line| line.starts_with("loom_model="));
    let executions: u64 = executions.filter_map(|line| number(line, "executions")).sum();
    let last = output.lines().rfind(|line| line.starts_with("loom_models="));
    let models = last.and_then(|line| number(line, "loom_models")).unwrap_or(0);
    let complete = last.and_then(|line| number(line, "complete")).unwrap_or(0);
    if models == 0 || models != complete {
        return Err(format!("{complete} of {models} models were run to their end"));
    }
    tally.checked(executions);
    tally.fired("loom_execution", executions);
    tally.note("loom_models_complete", complete);
    Ok(())
}

fn shuttle(seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    let variables =
        [("TREERING_SCHEDULES", SCHEDULES.to_string()), ("TREERING_SEED", seed.to_string())];
    let output = cargo("shuttle", &["--test", "shuttle"], &variables)?;
    let last = output.lines().rfind(|line| line.starts_with("schedules="));
    let schedules = last.and_then(|line| number(line, "schedules")).unwrap_or(0);
    if schedules < SCHEDULES {
        return Err(format!("{schedules} of {SCHEDULES} schedules were run"));
    }
    tally.checked(schedules);
    tally.fired("shuttle_schedule", schedules);
    Ok(())
}

fn number(line: &str, name: &str) -> Option<u64> {
    fields(line).get(name)?.parse().ok()
}

/// Runs tests of the engine built for `checker`; what they print, if they pass.
fn cargo(checker: &str, tests: &[&str], variables: &[(&str, String)]) -> Result<String, Failure> {
    let planted = std::env::var_os(PLANTED).is_some();
    // Assertions load atomics too, which would only multiply the orders that loom goes through.
    let profile = if checker == "loom" { "release" } else { "hunt" };
    let (flags, target) = match planted {
        true => (format!("--cfg {checker} --cfg planted"), format!("target/{checker}-planted")),
        false => (format!("--cfg {checker}"), format!("target/{checker}")),
    };
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env("RUSTFLAGS", flags)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .args([
            "test",
            "--quiet",
            "--profile",
            profile,
            "-p",
            "treering-lsm",
            "--target-dir",
            &target,
        ])
        .args(tests)
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let tail: Vec<&str> = text.lines().chain(errors.lines()).collect();
    Err(tail[tail.len().saturating_sub(30)..].join("\n"))
}

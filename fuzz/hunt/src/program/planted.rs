//! `hunt planted`: wakes one planted bug after the other and looks which row catches it.
//!
//! The bugs are in the engine only where it was built with `--cfg planted`; a plain `hunt` builds such a one beside itself
//! and hands over to it. Every bug is tried in a process of its own, so that nothing of one is left for the next, and so
//! that one that hangs or dies counts as caught by the row that was running.

use super::arguments::PlantedArguments;
#[cfg(not(planted))]
use std::process::ExitCode;

#[cfg(not(planted))]
pub(crate) fn run(arguments: &PlantedArguments) -> Result<ExitCode, String> {
    use std::path::Path;
    use std::process::Command;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    eprintln!("building the engine with planted bugs (--cfg planted, target/planted) ...");
    let status = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .current_dir(&root)
        .env("RUSTFLAGS", "--cfg planted")
        .args(["run", "--quiet", "--profile", "hunt", "-p", "treering-hunt"])
        .args(["--target-dir", "target/planted", "--", "planted"])
        .args(arguments.words())
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(planted)]
pub(crate) use awake::run;

#[cfg(planted)]
mod awake {
    use super::PlantedArguments;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, ExitCode, Stdio};
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::time::Duration;
    use treering_hunt::drive::{Budget, Row, Verdict, run as run_row};
    use treering_hunt::results;
    use treering_hunt::rows::ROWS;
    use treering_hunt::world::PLANTED;
    use treering_lsm::base::planted::{BUGS, wake};

    /// A row that says nothing for so long beyond its budget hangs.
    const SILENCE_MAX: Duration = Duration::from_secs(45);
    /// The same for a row that builds the engine before it begins.
    const SILENCE_OF_A_BUILD_MAX: Duration = Duration::from_secs(900);
    /// The row that builds, and its first case that is not about orderings alone.
    const BUILDS: u8 = 11;
    const BUILDS_SEED: u64 = 2;
    /// No bug: every row must be green in the same build, or its red would prove nothing.
    const NO_BUG: &str = "none";

    pub(crate) fn run(arguments: &PlantedArguments) -> Result<ExitCode, String> {
        if let Ok(name) = std::env::var(PLANTED) {
            return alone(&name, arguments);
        }
        let chosen =
            |bug: &&(&str, &str)| arguments.only.as_deref().is_none_or(|only| only == bug.0);
        let bugs: Vec<&(&str, &str)> = BUGS.iter().filter(chosen).collect();
        if bugs.is_empty() {
            let names: Vec<&str> = BUGS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no such bug; there are: {}", names.join(", ")));
        }
        let control = observe(NO_BUG, arguments)?;
        println!("{control}");
        if !control.contains("caught=no") {
            return Err(
                "a row is red without any bug: nothing that it catches means anything".to_owned()
            );
        }
        let mut missed = Vec::new();
        for (name, what) in &bugs {
            let line = observe(name, arguments)?;
            println!("{line}");
            if line.contains("caught=no") {
                eprintln!("MISSED {name}: {what}");
                missed.push(name);
            }
            if arguments.record {
                results::record(&line).map_err(|error| format!("fuzz/results.txt: {error}"))?;
            }
        }
        println!("bugs={} missed={}", bugs.len(), missed.len());
        Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs a bug in a process of its own; returns its line.
    fn observe(name: &str, arguments: &PlantedArguments) -> Result<String, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(program)
            .env(PLANTED, name)
            .args(["planted", "--secs", &arguments.secs.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start a process for {name}: {error}"))?;
        let lines = lines_of(&mut child);
        let builds = format!("row={BUILDS} ");
        let mut running = "nothing".to_owned();
        loop {
            let silence = match running.starts_with(&builds) {
                true => SILENCE_OF_A_BUILD_MAX,
                false => SILENCE_MAX,
            };
            let budget = Duration::from_secs(arguments.secs) * patience(name);
            match lines.recv_timeout(budget + silence) {
                Ok(line) if line.starts_with("planted=") => {
                    let _it_is_done = child.wait();
                    return Ok(line);
                }
                Ok(line) => running = line.trim_start_matches("running ").to_owned(),
                Err(RecvTimeoutError::Timeout) => {
                    let _it_may_have_ended = child.kill();
                    let _reaped = child.wait();
                    return Ok(format!("planted={name} caught=yes {running} how=hang"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = child.wait().map_err(|error| error.to_string())?;
                    if running == "nothing" {
                        return Err(format!("the process for {name} ended early: {status}"));
                    }
                    return Ok(format!("planted={name} caught=yes {running} how=died"));
                }
            }
        }
    }

    fn lines_of(child: &mut Child) -> Receiver<String> {
        let (sender, receiver) = channel();
        if let Some(output) = child.stdout.take() {
            let read = move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            };
            // It ends when the child closes its output; without it the receiver sees the end at once.
            let _reader = std::thread::Builder::new().spawn(read);
        }
        receiver
    }

    /// Wakes the bug in this process and runs row after row until one is red.
    fn alone(name: &str, arguments: &PlantedArguments) -> Result<ExitCode, String> {
        let bug = (name != NO_BUG).then_some(name);
        if !wake(bug) {
            return Err(format!("there is no bug {name:?}, which {PLANTED} names"));
        }
        let expected = expected_row(name);
        let mut order: Vec<&Row> = ROWS.iter().collect();
        order.sort_by_key(|row| Some(row.number) != expected);
        // Schedules are for the bugs that need them; the others would only wait for a build.
        order.retain(|row| row.number != BUILDS || expected == Some(BUILDS));
        let mut tried = 0;
        for row in order {
            println!("running row={} name={}", row.number, row.name);
            let times = if Some(row.number) == expected { patience(name) } else { 1 };
            let budget = Budget {
                seed: if row.number == BUILDS { BUILDS_SEED } else { 1 },
                cases: bug.is_none().then_some(4),
                time: Some(Duration::from_secs(arguments.secs) * times),
                failures: Some(1),
                ..Budget::default()
            };
            let line = run_row(row, &budget, &());
            tried += line.cases;
            if line.verdict == Verdict::Bad {
                let why = line.failures.first().map_or("", |(_, why)| why.as_str());
                eprintln!("{name}: row {} ({}): {why}", row.number, row.name);
                println!(
                    "planted={name} caught=yes row={} name={} cases={} tried={tried} secs={:.1}",
                    row.number, row.name, line.cases, line.seconds
                );
                return Ok(ExitCode::SUCCESS);
            }
        }
        println!("planted={name} caught=no tried={tried}");
        Ok(ExitCode::FAILURE)
    }

    /// How much longer than others the row that should catch it may look for it. Few writes of the row's workloads drain the log's ring
    /// with more to come, and only a disk that is full at one of them shows the bug: about one case in 700.
    fn patience(name: &str) -> u32 {
        if name == "drained-before-written" { 12 } else { 1 }
    }

    /// The row that should catch it, to be tried first. It saves time; a wrong guess costs some.
    fn expected_row(name: &str) -> Option<u8> {
        Some(match name {
            "failed-sync-retried" => 6,
            "wal-error-forgotten" | "manifest-error-forgotten" | "no-space-poisons" => 5,
            "short-read-ignored" | "short-write-ignored" | "table-write-error-swallowed" => 5,
            "drained-before-written" | "poison-closes-well" => 5,
            "promise-ignored" => 7,
            "manifest-checksum-skipped" | "block-checksum-skipped" => 7,
            "tombstone-dropped-early" | "snapshots-ignored" | "filter-forgets-key" => 9,
            "upper-bound-ignored" | "filter-forgets-prefix" => 9,
            "range-forgotten-early" | "range-crosses-snapshot" | "number-lost-under-range" => 9,
            "operands-reversed" | "ingest-under-memtable" | "ingest-too-deep" => 9,
            "drop-takes-writes" | "checkpoint-unflushed" | "lost-under-large-batch" => 9,
            "phantoms-ignored" => 9,
            "cancelled-is-done" => 12,
            "batch-published-early" => 11,
            "epoch-not-raised" | "wal-write-not-durable" | "place-ignored" => 2,
            "fragment-checksum-skipped" | "log-starts-too-late" => 2,
            "sequence-reused" => 4,
            _ => 1,
        })
    }
}

//! The program: arguments in, lines out.

mod arguments;
mod planted;
mod progress;

use arguments::{Arguments, Command, RowArguments};
use clap::Parser;
use progress::Progress;
use std::process::ExitCode;
use std::time::Duration;
use treering_hunt::drive::{Budget, Line, Row, Verdict, keep, kept, run};
use treering_hunt::rows::{CANARY, ROWS, find};
use treering_hunt::{report, results};

/// Exit code of a run that proves nothing: no fault fired, or the machine cannot run it.
const VOID: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::List => list(),
        Command::Kept => replay_kept(),
        Command::Canary => canary(),
        Command::Planted(arguments) => planted::run(&arguments),
        Command::Record => record(),
        Command::Report(arguments) => write_report(arguments.check),
        Command::Row(words) => match RowArguments::from_words(&words) {
            Ok(arguments) => run_row(&arguments),
            Err(error) => error.exit(),
        },
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hunt: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<ExitCode, String> {
    for row in ROWS {
        println!("{:>3}  {:<16} {}", row.number, row.name, row.promise);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_row(arguments: &RowArguments) -> Result<ExitCode, String> {
    let row = find(&arguments.row).ok_or_else(|| {
        format!("there is no row {:?}; `hunt list` shows them all", arguments.row)
    })?;
    let limited = arguments.n.is_some() || arguments.secs.is_some();
    let budget = Budget {
        seed: arguments.seed,
        // One case, as the command says that replays a failure.
        cases: (arguments.n == Some(1)).then_some(1),
        units: arguments.n.or((!limited).then_some(row.nightly)),
        time: arguments.secs.map(Duration::from_secs),
        jobs: arguments.jobs,
        ..Budget::default()
    };
    let progress = Progress::new(row, &budget, arguments.quiet);
    let line = run(row, &budget, &progress);
    progress.finish();
    if arguments.record {
        results::record(&line.to_string()).map_err(|error| format!("fuzz/results.txt: {error}"))?;
    }
    print(row, &line, arguments.json)
}

/// Prints the line, then each failure with the command that replays it; failing seeds are kept.
fn print(row: &Row, line: &Line, json: bool) -> Result<ExitCode, String> {
    if json {
        println!("{}", line.json())
    } else {
        println!("{line}")
    }
    for (seed, failure) in &line.failures {
        eprintln!("FAILED row={} seed={seed}: {failure}", row.number);
        eprintln!("  replay: hunt {} --seed {seed} --n 1", row.number);
        if row.number != CANARY.number {
            let path = keep(row, *seed, failure)
                .map_err(|error| format!("the seed {seed} cannot be kept: {error}"))?;
            eprintln!("  kept:   {}", path.display());
        }
    }
    Ok(match line.verdict {
        Verdict::Good => ExitCode::SUCCESS,
        Verdict::Bad => ExitCode::FAILURE,
        Verdict::Void => {
            eprintln!("void: no fault fired, so this run proves nothing");
            ExitCode::from(VOID)
        }
        Verdict::Impossible => {
            eprintln!("not run: this machine cannot run row {} ({})", row.number, row.name);
            ExitCode::from(VOID)
        }
    })
}

fn replay_kept() -> Result<ExitCode, String> {
    let seeds = kept().map_err(|error| error.to_string())?;
    let mut bad = 0;
    for kept in &seeds {
        let row = find(&kept.row.to_string()).ok_or(format!("there is no row {}", kept.row))?;
        let budget = Budget { seed: kept.seed, cases: Some(1), jobs: 1, ..Budget::default() };
        let line = run(row, &budget, &());
        println!("{line}");
        for (seed, failure) in &line.failures {
            eprintln!("FAILED row={} seed={seed}: {failure}", row.number);
            bad += 1;
        }
    }
    println!("kept={} bad={bad}", seeds.len());
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Lines of other programs, and those of a run that was not told to keep its own.
fn record() -> Result<ExitCode, String> {
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| format!("standard input: {error}"))?;
        if line.starts_with("row=") || line.starts_with("planted=") {
            results::record(&line).map_err(|error| format!("fuzz/results.txt: {error}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_report(check: bool) -> Result<ExitCode, String> {
    let text = report::text().map_err(|error| format!("fuzz/results.txt: {error}"))?;
    if check {
        let same = report::stands(&text).map_err(|error| format!("RELIABILITY.md: {error}"))?;
        return if same {
            Ok(ExitCode::SUCCESS)
        } else {
            Err("RELIABILITY.md is not what fuzz/results.txt gives; run `hunt report`".to_owned())
        };
    }
    let path = report::write(&text).map_err(|error| format!("RELIABILITY.md: {error}"))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Succeeds if the row that must fail does.
fn canary() -> Result<ExitCode, String> {
    let line = run(&CANARY, &Budget { cases: Some(1), ..Budget::default() }, &());
    println!("{line}");
    match line.verdict {
        Verdict::Bad => Ok(ExitCode::SUCCESS),
        _ => Err("the canary is not red: no green row means anything".to_owned()),
    }
}

//! Treering, RocksDB and fjall side by side.
//!
//! The parent walks through the rows and, for each round of a row, runs the engines one after the other (A B C A B C ...), each
//! measurement in a process of its own: own memory peak, own CPU time, no leftovers. Results are written after every row.

mod data;
mod device;
mod engines;
mod machine;
mod measure;
mod report;
mod row;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Order, in_child};
use report::Document;
use row::{Row, Setting, Work};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares Treering, RocksDB and fjall on one machine: same data, same settings, rounds interleaved.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Where the databases go, about 15 GB; emptied of them at the end unless --keep is given
    #[arg(long, default_value = "compare-data")]
    dir: PathBuf,
    /// Rounds of each row
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of a row that is timed, not counted
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// Seconds of the long overwrite
    #[arg(long, default_value_t = 120.0)]
    long_secs: f64,
    /// Rounds of the long overwrite
    #[arg(long, default_value_t = 2)]
    long_rounds: usize,
    /// Keys of the cached rows
    #[arg(long, default_value_t = 5_000_000)]
    keys: u64,
    /// Keys of the cold rows, 400 bytes each
    #[arg(long, default_value_t = 10_000_000)]
    cold_keys: u64,
    /// Keys of the rows at bare defaults
    #[arg(long, default_value_t = 1_000_000)]
    default_keys: u64,
    /// Engines, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = engines::NAMES.map(str::to_owned))]
    engines: Vec<String>,
    /// Only rows whose names hold one of these; =NAME for exactly one
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// The results for machines, written after every row
    #[arg(long, default_value = "bench/results.json")]
    json: PathBuf,
    /// Results of a run at another time, if there are any: the report holds them beside these
    #[arg(long, default_value = "bench/results-earlier.json")]
    earlier: PathBuf,
    /// The report
    #[arg(long, default_value = "bench/RESULTS.md")]
    out: PathBuf,
    /// Directory of the charts
    #[arg(long, default_value = "bench/charts")]
    charts: PathBuf,
    /// Keep the rows that the results have, run the others
    #[arg(long)]
    resume: bool,
    /// Run nothing: make report and charts from the results
    #[arg(long)]
    render: bool,
    /// Leave the databases where they are, for the next run
    #[arg(long)]
    keep: bool,
    /// A tenth of the keys and of the time: to see whether it runs, not for figures
    #[arg(long)]
    quick: bool,
    /// One measurement, told as JSON: how the program starts itself
    #[arg(long, hide = true)]
    child: Option<String>,
}

fn main() -> ExitCode {
    let mut flags = Flags::parse();
    if flags.quick {
        flags.keys /= 10;
        flags.cold_keys /= 10;
        flags.default_keys /= 10;
        flags.secs /= 3.0;
        flags.long_secs /= 10.0;
        flags.rounds = flags.rounds.min(2);
        flags.long_rounds = 1;
    }
    let result = match &flags.child {
        Some(order) => child(order),
        None => compare(&flags),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn child(order: &str) -> Result<(), String> {
    let order: Order = serde_json::from_str(order).map_err(|error| format!("--child: {error}"))?;
    let result = measure::carry_out(&order)?;
    println!("{}", serde_json::to_string(&result).map_err(|error| error.to_string())?);
    Ok(())
}

fn compare(flags: &Flags) -> Result<(), String> {
    let rows = row::choose(&flags.rows)?;
    if let Some(unknown) = flags.engines.iter().find(|name| !engines::NAMES.contains(&&name[..])) {
        let known = engines::NAMES.join(", ");
        return Err(format!("--engines: no engine is named {unknown:?}; there are {known}"));
    }
    if flags.rounds == 0 || flags.secs.is_nan() || flags.secs <= 0.0 || flags.keys < 1000 {
        return Err("--rounds, --secs and --keys need something to do (keys: 1000)".to_owned());
    }
    let mut document = match flags.resume || flags.render {
        true => Document::load(&flags.json)?,
        false => Document::default(),
    };
    if !flags.render {
        std::fs::create_dir_all(&flags.dir).map_err(|e| format!("{}: {e}", flags.dir.display()))?;
        document.begin(&flags.dir, flags.rounds, flags.secs);
        for row in &rows {
            if flags.resume && document.has(row.name) {
                continue;
            }
            run_row(flags, row, &mut document);
            document.save(&flags.json)?;
            println!("{}", report::terminal::line(row, &document));
        }
        if !flags.keep {
            for setting in [Setting::Tuned, Setting::Cold, Setting::Defaults] {
                for engine in flags.engines.iter().map(String::as_str).chain(["device"]) {
                    for changing in [false, true] {
                        let directory = data_directory(flags, engine, setting, changing);
                        measure::remove(&directory);
                        // There is none where nothing was loaded.
                        let _mark = std::fs::remove_file(mark_of(&directory));
                    }
                }
            }
            // Gone if nothing else is in it.
            let _not_empty = std::fs::remove_dir(&flags.dir);
        }
    }
    let earlier = flags.earlier.exists().then(|| Document::load(&flags.earlier)).transpose()?;
    report::markdown::write(&document, earlier.as_ref(), &flags.out, &flags.charts)?;
    report::chart::write(&document, &flags.charts)?;
    println!("written: {}, {}", flags.out.display(), flags.charts.display());
    Ok(())
}

/// How much longer than others the row with a given load runs: its tail is what counts.
const STEADY_TIMES: f64 = 10.0;

fn data_directory(flags: &Flags, engine: &str, setting: Setting, changing: bool) -> PathBuf {
    let kind = if changing { "-changing" } else { "" };
    flags.dir.join(format!("{engine}-{}{kind}", setting.name()))
}

fn keys_of(flags: &Flags, setting: Setting) -> u64 {
    match setting {
        Setting::Tuned => flags.keys,
        Setting::Cold => flags.cold_keys,
        Setting::Defaults => flags.default_keys,
    }
}

/// All rounds of a row. An engine that fails is out of the row, and the report says so.
fn run_row(flags: &Flags, row: &Row, document: &mut Document) {
    document.forget(row.name);
    let names = flags.engines.iter().map(String::as_str).chain(["device"]);
    let mut names: Vec<&str> = names.filter(|name| row.can_run(name)).collect();
    let is_long = row.work == Work::OverwriteLong;
    let rounds = if is_long { flags.long_rounds } else { flags.rounds };
    let bar = ProgressBar::new((rounds * names.len()) as u64);
    let style = ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    for round in 0..rounds {
        names.retain(|engine| {
            bar.set_message(format!("{} {engine}", row.name));
            let measured = run_one(flags, row, engine, round);
            bar.inc(1);
            match measured {
                Ok(measurement) => {
                    document.add(row.name, engine, measurement);
                    true
                }
                Err(error) => {
                    document.fail(row.name, engine, error);
                    false
                }
            }
        });
    }
    bar.finish_and_clear();
}

fn run_one(
    flags: &Flags,
    row: &Row,
    engine: &str,
    round: usize,
) -> Result<measure::Measurement, String> {
    let keys = keys_of(flags, row.setting);
    let is_shared = row.work.needs_data() || row.is_device();
    let directory = match is_shared {
        true => data_directory(flags, engine, row.setting, row.work.changes_data()),
        false => flags.dir.join(format!("{engine}-new")),
    };
    let order = Order {
        engine: engine.to_owned(),
        setting: row.setting,
        work: row.work,
        threads: row.threads,
        directory: directory.clone(),
        keys,
        secs: match row.work {
            Work::OverwriteLong => flags.long_secs,
            Work::OverwriteSteady { .. } => STEADY_TIMES * flags.secs,
            _ => flags.secs,
        },
        seed: 1000 * round as u64 + 17,
    };
    if row.work.needs_data() {
        load_once(&order, &directory)?;
    }
    if !is_shared {
        measure::remove(&directory);
    }
    let measured = in_child(&order);
    if !is_shared {
        measure::remove(&directory);
    }
    measured
}

/// The file that says that the data in a directory is whole.
fn mark_of(directory: &Path) -> PathBuf {
    directory.with_extension("loaded")
}

/// Makes the data of the reading rows, unless it is there. A mark beside the directory says that it is whole.
fn load_once(order: &Order, directory: &Path) -> Result<(), String> {
    let mark = mark_of(directory);
    let wanted = format!("{} keys\n", order.keys);
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == wanted) && directory.exists() {
        return Ok(());
    }
    measure::remove(directory);
    let load = Order { work: Work::Load, threads: 1, seed: 5, ..order.clone() };
    in_child(&load).map_err(|error| format!("filling the data: {error}"))?;
    std::fs::write(&mark, wanted).map_err(|error| format!("{}: {error}", mark.display()))
}

//! A whole run: opens the database, goes through the list, prints what RocksDB prints.

use crate::engine::{self, Directory, Engine, Failure, Writes};
use crate::flags::Settings;
use crate::generate::value::ValueBuffer;
use crate::list::{Effect, Form, Item, Sizes};
use crate::rate::RateLimit;
use crate::report::engine_stats::{self, StatsText};
use crate::report::json::Document;
use crate::report::repeats::Repeats;
use crate::report::result::Outcome;
use crate::report::thread_stats::{SharedCount, ThreadStats, Watch};
use crate::report::{csv, header, local_time, memory};
use crate::verify::{self, Run};
use crate::workload::{self, Context, Shared, Worker};
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex, mpsc};
use std::time::{Duration, Instant};

/// Operations between two looks at the clock for --stats_interval_seconds, as in RocksDB.
const INTERVAL_CHECK_OPERATIONS: u64 = 1000;
/// Rate with which mixgraph's sine begins, as in RocksDB.
const SINE_START_RATE: f64 = 1e6;

/// A run in progress.
struct Session<'a> {
    settings: &'a Settings,
    engine: Option<Engine>,
    threads_started: u64,
    stats_text: Mutex<StatsText>,
    /// Write calls since the database was opened or its counters were reset.
    writes: u64,
    document: Option<Document>,
    /// What was run so far, in this process, and may be told to a later one.
    runs: Vec<Run>,
    /// Whether all data of the database was made by `runs`.
    knows_data: bool,
}

/// Runs everything.
///
/// # Errors
/// One line that names the flag, the benchmark or the file.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    engine::check(&settings.tuning)?;
    let json_path = Path::new(&settings.flags.json);
    let json_file = match settings.flags.json.as_str() {
        "" => None,
        path => Some(File::create(path).map_err(|error| format!("--json={path}: {error}"))?),
    };
    if settings.flags.seed == 0 {
        println!("Set seed to {} because --seed was 0", settings.seed);
    }
    let is_empty = prepare(settings)?;
    let date = local_time::date();
    let mut session = Session {
        settings,
        engine: None,
        threads_started: 0,
        stats_text: Mutex::default(),
        writes: 0,
        document: json_file.as_ref().map(|_| Document::new()),
        runs: Vec::new(),
        knows_data: is_empty,
    };
    session.open()?;
    eprintln!("{}", header::environment());
    for note in &settings.notes {
        eprintln!("{note}");
    }
    let backend = session.engine()?.stats().io_backend;
    println!("{}", header::text(settings, &backend));
    for item in &settings.items {
        session.item(item).map_err(|error| format!("{}: {error}", item.name.name))?;
    }
    session.finish(json_file.map(|file| (file, json_path, date.as_str())))
}

/// Makes the directory ready: empty, or holding the database to use. True if it is empty then.
fn prepare(settings: &Settings) -> Result<bool, Failure> {
    match engine::look(&settings.directory)? {
        Directory::Empty => Ok(true),
        Directory::Database if settings.keep_database => Ok(false),
        Directory::Database if settings.may_destroy => {
            engine::destroy(&settings.directory)?;
            Ok(true)
        }
        Directory::Database => Err(format!(
            "--db={}: holds a database, and no benchmark of the list fills one; \
             give --use_existing_db=1 to use it or --use_existing_db=0 to destroy it",
            settings.directory.display()
        )),
    }
}

impl Session<'_> {
    fn engine(&self) -> Result<&Engine, Failure> {
        self.engine.as_ref().ok_or_else(|| "the database is not open".to_owned())
    }

    fn open(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.engine = Some(Engine::open(self.settings)?);
        crate::report::notes::write(&self.settings.directory)?;
        if self.settings.flags.report_open_timing {
            println!("OpenDb:     {} milliseconds", start.elapsed().as_secs_f64() * 1e3);
        }
        if let Ok(mut text) = self.stats_text.lock() {
            text.reset();
        }
        self.writes = 0;
        Ok(())
    }

    /// Runs one element of the list.
    fn item(&mut self, item: &Item) -> Result<(), Failure> {
        if item.name.effect == Effect::Fills {
            if self.settings.keep_database {
                println!("{:<12} : skipped (--use_existing_db is true)", item.name.name);
                return Ok(());
            }
            if let Some(engine) = self.engine.take() {
                engine.close()?;
            }
            engine::destroy(&self.settings.directory)?;
            self.open()?;
            self.knows_data = true;
        }
        if item.name.form == Form::Command {
            return self.command(item.name.name);
        }
        println!("DB path: [{}]", self.settings.directory.display());
        let name = item.name.name;
        if item.warmups > 0 {
            println!("Warming up benchmark by running {} times", item.warmups);
        }
        for i in 0..item.warmups {
            self.benchmark(item, i, true)?;
        }
        if item.repeats > 1 {
            println!("Running benchmark for {} times", item.repeats);
        }
        let mut repeats = Repeats::default();
        for i in 0..item.repeats {
            let outcome = self.benchmark(item, i, false)?;
            repeats.add(outcome.operations_per_second(), outcome.megabytes_per_second());
            let line = match self.settings.flags.confidence_interval_only {
                true => repeats.confidence(name),
                false => repeats.running(name),
            };
            print_all(line);
        }
        print_all(repeats.last(name));
        Ok(())
    }

    fn command(&mut self, name: &str) -> Result<(), Failure> {
        let engine = self.engine()?;
        match name {
            "flush" => {
                engine.flush()?;
                println!("flush memtable");
            }
            "waitforcompaction" => {
                let directory = self.settings.directory.display();
                println!("waitforcompaction({directory}): started");
                engine.wait_for_compactions()?;
                println!("waitforcompaction({directory}): finished");
            }
            "stats" => {
                println!("\n{}", self.stats_text()?);
                println!("{}", memory::line(self.settings.tuning.memory_limit));
            }
            "levelstats" => println!("\n{}", engine_stats::level_text(&engine.stats())),
            "memstats" => {
                println!("{}", engine_stats::memory_text(&engine.stats()));
                println!("{}", memory::line(self.settings.tuning.memory_limit));
            }
            "resetstats" => {
                engine.reset_stats();
                self.writes = 0;
                if let Ok(mut text) = self.stats_text.lock() {
                    text.reset();
                }
            }
            "verify" => self.verify()?,
            _ => return Err("has no command".to_owned()),
        }
        Ok(())
    }

    fn stats_text(&self) -> Result<String, Failure> {
        let stats = self.engine()?.stats();
        let mut text = self.stats_text.lock().map_err(|error| error.to_string())?;
        Ok(text.text(&stats, self.writes))
    }

    fn verify(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut runs: Vec<Run> = Vec::new();
        for items in self.settings.earlier.iter().flatten() {
            runs.extend(verify::plan(self.settings, items));
        }
        runs.extend(self.runs.iter().cloned());
        let is_known = self.knows_data || self.settings.earlier.is_some();
        let report = verify::verify(self.settings, self.engine()?, is_known.then_some(&runs))?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "verify       : {} keys, {:.1} MB in {seconds:.3} seconds, checksums good, {} gets agree; {}",
            report.keys,
            report.bytes as f64 / 1048576.0,
            report.gets,
            report.checked
        );
        if let Some(document) = &mut self.document {
            document.add_check("verify", seconds, report.figures());
        }
        Ok(())
    }

    /// Runs a benchmark once and prints its line.
    fn benchmark(&mut self, item: &Item, run: u32, is_warmup: bool) -> Result<Outcome, Failure> {
        let sizes = Sizes::of(&self.settings.flags, item.name);
        let first_thread = self.threads_started;
        self.threads_started += sizes.threads as u64;
        let (outcome, written) = self.threads(item, sizes, first_thread)?;
        self.writes += outcome.writes;
        self.runs.push(Run {
            name: item.name,
            sizes,
            first_thread,
            is_fresh: item.name.effect == Effect::Fills
                && run == 0
                && (is_warmup || item.warmups == 0),
            written,
            is_cut: false,
        });
        let name = item.name.name;
        println!("{}", outcome.text(name, self.settings.flags.histogram));
        if let Some(document) = &mut self.document {
            document.add(name, run, is_warmup, sizes.threads, &outcome);
        }
        Ok(outcome)
    }

    /// Runs the threads of a benchmark; returns also how many keys each of them wrote.
    fn threads(
        &self,
        item: &Item,
        sizes: Sizes,
        first_thread: u64,
    ) -> Result<(Outcome, Vec<u64>), Failure> {
        let settings = self.settings;
        let flags = &settings.flags;
        let has_background = item.name.form == Form::ThreadsAndOne;
        let shared = Shared {
            foreground: AtomicUsize::new(sizes.threads - usize::from(has_background)),
            stop: AtomicBool::new(false),
            read_rate: rate(settings, item, flags.benchmark_read_rate_limit),
            write_rate: rate(settings, item, flags.benchmark_write_rate_limit),
        };
        let context = Context {
            settings,
            engine: self.engine()?,
            sizes,
            writes: Writes::new(sizes.sync, flags.disable_wal),
            buffer: ValueBuffer::new(
                flags.compression_ratio,
                workload::value_size(settings, &sizes).max(),
            ),
            shared: &shared,
        };
        let print_stats = || {
            if let Ok(text) = self.stats_text() {
                eprint!("{text}");
            }
        };
        let watch = self.watch(&print_stats);
        let reporter = match flags.report_interval_seconds {
            0 => None,
            seconds => {
                let file = csv::create(Path::new(&flags.report_file))?;
                Some((file, Duration::from_secs(seconds as u64)))
            }
        };
        let counts: Vec<SharedCount> = (0..sizes.threads).map(|_| SharedCount::default()).collect();
        let is_counted = reporter.is_some();
        let barrier = Barrier::new(sizes.threads);
        let body = |id: usize| {
            barrier.wait();
            let count = is_counted.then(|| &counts[id]);
            let stats = ThreadStats::start(id, watch, count);
            let seed = settings.seed.wrapping_add(first_thread + 1 + id as u64);
            let mut worker = Worker { id, seed, stats };
            let result = workload::run(item.name.name, &context, &mut worker);
            worker.stats.stop();
            if result.is_err() {
                shared.stop.store(true, Ordering::Relaxed);
            }
            if !(has_background && id == 0) {
                shared.foreground.fetch_sub(1, Ordering::Relaxed);
            }
            result.map(|()| worker.stats)
        };
        let results: Vec<Result<ThreadStats<'_>, Failure>> = std::thread::scope(|scope| {
            let (stop, stopped) = mpsc::channel();
            if let Some((file, interval)) = reporter {
                let counts = &counts;
                scope.spawn(move || csv::report(file, interval, counts, &stopped));
            }
            let body = &body;
            let threads: Vec<_> =
                (0..sizes.threads).map(|id| scope.spawn(move || body(id))).collect();
            let results = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
            });
            let results = results.collect();
            drop(stop);
            results
        });
        let threads = results.into_iter().collect::<Result<Vec<ThreadStats<'_>>, Failure>>()?;
        let written = threads.iter().map(|thread| thread.keys_written).collect();
        Ok((Outcome::merge(&threads), written))
    }

    fn watch<'a>(&self, print_stats: &'a (dyn Fn() + Sync)) -> Watch<'a> {
        let flags = &self.settings.flags;
        let interval = match (flags.stats_interval_seconds, flags.stats_interval) {
            (1.., _) => Some(INTERVAL_CHECK_OPERATIONS),
            (_, 0) => None,
            (_, operations) => Some(operations as u64),
        };
        Watch {
            latencies: flags.histogram || self.document.is_some(),
            precise: self.document.is_some(),
            slow_micros: flags.slow_usecs,
            interval: interval.filter(|_| flags.progress_reports),
            interval_seconds: flags.stats_interval_seconds as u64,
            progress: flags.progress_reports && std::io::stderr().is_terminal(),
            per_interval: (flags.stats_per_interval > 0).then_some(print_stats),
        }
    }

    fn finish(mut self, json: Option<(File, &Path, &str)>) -> Result<(), Failure> {
        let stats = self.engine()?.stats();
        if self.settings.flags.statistics {
            println!("{}", engine_stats::counters_text(&stats));
        }
        println!("{}", memory::line(self.settings.tuning.memory_limit));
        if let Some(hint) = self.verify_hint() {
            eprintln!("{hint}");
        }
        if let Some(engine) = self.engine.take() {
            engine.close()?;
        }
        if let (Some((mut file, path, date)), Some(document)) = (json, self.document.take()) {
            let document = document.finish(self.settings, date, &stats);
            writeln!(file, "{document:#}")
                .map_err(|error| format!("--json={}: {error}", path.display()))?;
        }
        Ok(())
    }

    /// What a later process needs to check every value, if this one made all of them.
    fn verify_hint(&self) -> Option<String> {
        let settings = self.settings;
        let list: Option<Vec<String>> = settings
            .items
            .iter()
            .filter(|item| item.name.form != Form::Command)
            .map(|item| self.hint_item(item))
            .collect();
        let writes = settings.items.iter().any(|item| item.name.effect != Effect::Reads);
        let list = list.filter(|_| writes && self.knows_data && !settings.keep_database)?;
        let (seed, list) = (settings.seed, list.join(","));
        Some(format!(
            "To check every value in a later process, give the same flags and: \
             --use_existing_db=1 --benchmarks=verify --seed={seed} --verify_benchmarks={list}"
        ))
    }

    fn hint_item(&self, item: &Item) -> Option<String> {
        let name = item.name.name;
        let runs = || self.runs.iter().filter(|run| std::ptr::eq(run.name, item.name));
        let is_open = |run: &Run| Run { written: Vec::new(), ..run.clone() }.is_open(self.settings);
        let count = item.repeats + item.warmups;
        if !runs().any(is_open) {
            // How often a benchmark ran matters, not which of its runs counted.
            return Some(if count == 1 { name.to_owned() } else { format!("{name}[X{count}]") });
        }
        // Each run of its own has counts of its own; the same name twice in a list would need more than this.
        let mut runs = runs();
        let run = runs.next().filter(|_| count == 1 && runs.next().is_none())?;
        let written: Vec<String> =
            run.written[..run.writers()].iter().map(u64::to_string).collect();
        Some(format!("{name}[N{}]", written.join("+")))
    }
}

fn rate(settings: &Settings, item: &Item, per_second: u64) -> Option<RateLimit> {
    match per_second {
        0 if settings.sine.is_some() && item.name.name == "mixgraph" => {
            Some(RateLimit::new(SINE_START_RATE))
        }
        0 => None,
        rate => Some(RateLimit::new(rate as f64)),
    }
}

fn print_all(line: Option<String>) {
    if let Some(line) = line {
        println!("{line}");
    }
}

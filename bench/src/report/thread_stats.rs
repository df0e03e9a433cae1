//! What one thread counts while it runs a benchmark.
//!
//! Promise: counting an operation touches nothing that another thread touches. The clock is read only if latencies are
//! asked for; progress and interval lines are looked at when an operation count is reached.

use crate::report::histogram::Histogram;
use crate::report::local_time;
use hdrhistogram::Histogram as Percentiles;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The kind of an operation; each has a histogram of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    Read,
    Write,
    Delete,
    Seek,
    Update,
    Compress,
    Uncompress,
    Crc,
    Other,
}

impl Operation {
    /// All of them, in the order of [`Operation::index`].
    pub(crate) const ALL: [Operation; 9] = [
        Operation::Read,
        Operation::Write,
        Operation::Delete,
        Operation::Seek,
        Operation::Update,
        Operation::Compress,
        Operation::Uncompress,
        Operation::Crc,
        Operation::Other,
    ];

    /// The word in `Microseconds per ...`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Delete => "delete",
            Operation::Seek => "seek",
            Operation::Update => "update",
            Operation::Compress => "compress",
            Operation::Uncompress => "uncompress",
            Operation::Crc => "crc",
            Operation::Other => "op",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Latencies of one kind of operation.
#[derive(Clone)]
pub(crate) struct Latencies {
    /// Microseconds, for the printed text.
    pub(crate) histogram: Histogram,
    /// Nanoseconds, for the JSON document.
    pub(crate) percentiles: Option<Percentiles<u64>>,
}

impl Latencies {
    fn new(precise: bool) -> Latencies {
        // Three digits need no upper bound; the constructor fails for other digits only.
        let percentiles = if precise { Percentiles::new(3).ok() } else { None };
        Latencies { histogram: Histogram::new(), percentiles }
    }

    /// Adds another thread's latencies.
    pub(crate) fn merge(&mut self, other: &Latencies) {
        self.histogram.merge(&other.histogram);
        if let (Some(mine), Some(theirs)) = (&mut self.percentiles, &other.percentiles) {
            // Fails only for values out of range, and a growing histogram has no range.
            let _ = mine.add(theirs);
        }
    }
}

/// What to record and to show while a benchmark runs; the same for all threads.
#[derive(Clone, Copy)]
pub(crate) struct Watch<'a> {
    pub(crate) latencies: bool,
    pub(crate) precise: bool,
    pub(crate) slow_micros: u64,
    /// Operations between looks at --stats_interval_seconds, or between lines.
    pub(crate) interval: Option<u64>,
    pub(crate) interval_seconds: u64,
    /// Progress is shown: stderr is a terminal and no interval is asked for.
    pub(crate) progress: bool,
    /// Called with the interval lines of thread 0.
    pub(crate) per_interval: Option<&'a (dyn Fn() + Sync)>,
}

/// A count in a cache line of its own, written by one thread and read by the reporter of report.csv.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct SharedCount(pub(crate) AtomicU64);

/// The counts of one thread.
pub(crate) struct ThreadStats<'a> {
    pub(crate) id: usize,
    pub(crate) start: Instant,
    pub(crate) finish: Instant,
    pub(crate) done: u64,
    pub(crate) bytes: u64,
    /// Keys that were put or deleted, for the engine's statistics text.
    pub(crate) keys_written: u64,
    pub(crate) writes: u64,
    pub(crate) message: String,
    /// Not part of the result, as for background threads.
    pub(crate) excluded: bool,
    pub(crate) latencies: [Option<Box<Latencies>>; Operation::ALL.len()],
    watch: Watch<'a>,
    count: Option<&'a SharedCount>,
    /// Latencies are recorded or operations are counted for the reporter.
    is_watched: bool,
    next_report: u64,
    last_operation: Instant,
    last_report: Instant,
    last_report_done: u64,
}

impl<'a> ThreadStats<'a> {
    /// Starts the clock.
    pub(crate) fn start(
        id: usize,
        watch: Watch<'a>,
        count: Option<&'a SharedCount>,
    ) -> ThreadStats<'a> {
        let now = Instant::now();
        ThreadStats {
            id,
            start: now,
            finish: now,
            done: 0,
            bytes: 0,
            keys_written: 0,
            writes: 0,
            message: String::new(),
            excluded: false,
            latencies: Default::default(),
            watch,
            count,
            is_watched: watch.latencies || count.is_some(),
            next_report: match watch.interval {
                Some(operations) => operations,
                None if watch.progress => 100,
                None => u64::MAX,
            },
            last_operation: now,
            last_report: now,
            last_report_done: 0,
        }
    }

    /// Stops the clock.
    pub(crate) fn stop(&mut self) {
        self.finish = Instant::now();
    }

    /// Counts operations that just ended.
    #[inline]
    pub(crate) fn finished(&mut self, operations: u64, kind: Operation) {
        self.done += operations;
        if self.is_watched {
            self.record(kind);
        }
        if self.done >= self.next_report {
            self.report();
        }
    }

    /// Counts a write of `keys` keys.
    #[inline]
    pub(crate) fn wrote(&mut self, keys: u64) {
        self.writes += 1;
        self.keys_written += keys;
    }

    /// Leaves the time since the last operation, as a pause of a rate limit, out of the next latency.
    pub(crate) fn skip_pause(&mut self) {
        if self.watch.latencies {
            self.last_operation = Instant::now();
        }
    }

    /// Seconds since the start.
    pub(crate) fn elapsed_seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// Adds words to the message of the result line.
    pub(crate) fn add_message(&mut self, message: &str) {
        if !self.message.is_empty() {
            self.message.push(' ');
        }
        self.message.push_str(message);
    }

    #[inline(never)]
    fn record(&mut self, kind: Operation) {
        if let Some(count) = self.count {
            // One writer, so a plain store of the sum is enough.
            count.0.store(self.done, Ordering::Relaxed);
        }
        if !self.watch.latencies {
            return;
        }
        let now = Instant::now();
        let nanos = now.duration_since(self.last_operation).as_nanos() as u64;
        self.last_operation = now;
        let precise = self.watch.precise;
        let latencies =
            self.latencies[kind.index()].get_or_insert_with(|| Box::new(Latencies::new(precise)));
        latencies.histogram.add(nanos / 1000);
        if let Some(percentiles) = &mut latencies.percentiles {
            // Fails only for values out of range, and a growing histogram has no range.
            let _ = percentiles.record(nanos);
        }
        if nanos / 1000 >= self.watch.slow_micros && self.watch.interval.is_none() {
            eprint!("long op: {} micros{:30}\r", nanos / 1000, "");
        }
    }

    #[cold]
    fn report(&mut self) {
        match self.watch.interval {
            None => {
                eprint!("... finished {} ops{:30}\r", self.done, "");
                let _ = std::io::stderr().flush();
                while self.next_report <= self.done {
                    self.next_report += progress_step(self.next_report);
                }
            }
            Some(operations) => {
                while self.next_report <= self.done {
                    self.next_report += operations;
                }
                let seconds = self.last_report.elapsed().as_secs_f64();
                if seconds >= self.watch.interval_seconds as f64 {
                    self.interval_line();
                }
            }
        }
    }

    fn interval_line(&mut self) {
        let now = Instant::now();
        let interval = now.duration_since(self.last_report).as_secs_f64();
        let total = now.duration_since(self.start).as_secs_f64();
        let done = self.done - self.last_report_done;
        eprintln!(
            "{} ... thread {}: ({done},{}) ops and ({:.1},{:.1}) ops/second in ({interval:.6},{total:.6}) seconds",
            local_time::stamp(),
            self.id,
            self.done,
            done as f64 / interval,
            self.done as f64 / total,
        );
        if self.id == 0
            && let Some(print) = self.watch.per_interval
        {
            print();
        }
        self.last_report = now;
        self.last_report_done = self.done;
    }
}

/// RocksDB's growing distance between two lines of progress.
fn progress_step(at: u64) -> u64 {
    match at {
        0..1000 => 100,
        1000..5000 => 500,
        5000..10_000 => 1000,
        10_000..50_000 => 5000,
        50_000..100_000 => 10_000,
        100_000..500_000 => 50_000,
        _ => 100_000,
    }
}

#[cfg(test)]
pub(crate) const QUIET: Watch<'static> = Watch {
    latencies: false,
    precise: false,
    slow_micros: u64::MAX,
    interval: None,
    interval_seconds: 0,
    progress: false,
    per_interval: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_by_kind_and_only_when_asked_for() {
        let count = SharedCount::default();
        let mut stats = ThreadStats::start(0, QUIET, Some(&count));
        stats.finished(5, Operation::Read);
        assert!(stats.latencies.iter().all(Option::is_none));
        assert_eq!(count.0.load(Ordering::Relaxed), 5);
        let watch = Watch { latencies: true, precise: true, ..QUIET };
        let mut stats = ThreadStats::start(0, watch, None);
        stats.finished(1, Operation::Read);
        stats.finished(1, Operation::Write);
        stats.finished(1, Operation::Write);
        let counted: Vec<u64> = stats
            .latencies
            .iter()
            .flatten()
            .filter_map(|latencies| latencies.percentiles.as_ref().map(|all| all.len()))
            .collect();
        assert_eq!(counted, [1, 2]);
    }

    #[test]
    fn a_long_latency_is_never_cut_to_what_was_seen_before() {
        let mut latencies = Latencies::new(true);
        let percentiles = latencies.percentiles.as_mut().unwrap();
        for nanos in [100, 5_000_000_000, 90_000_000_000] {
            percentiles.record(nanos).unwrap();
        }
        assert!(percentiles.max() >= 90_000_000_000);
        let mut other = Latencies::new(true);
        other.merge(&latencies);
        assert!(other.percentiles.is_some_and(|all| all.max() >= 90_000_000_000));
    }

    #[test]
    fn every_kind_has_its_own_place() {
        for (i, kind) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), i);
        }
    }
}

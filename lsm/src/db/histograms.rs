//! How long operations take: one histogram for each, kept if [`Options::histograms`](crate::Options::histograms) says so.
//!
//! Off, an operation pays for one look at an `Option`. On, it pays for two looks at the clock and a record.

use crate::base::clock::Clock;
use crate::base::histogram::{Histogram, Latency};
use crate::db::engine::Engine;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is timed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Timed {
    Get,
    MultiGet,
    Write,
    SyncWait,
    Seek,
    Flush,
    Compaction,
    WalSync,
}

const COUNT: usize = Timed::WalSync as usize + 1;

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Histograms {
    clock: Arc<dyn Clock>,
    list: [Arc<Histogram>; COUNT],
}

impl Histograms {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Histograms {
        Histograms { clock, list: std::array::from_fn(|_| Arc::default()) }
    }

    pub(crate) fn of(&self, what: Timed) -> &Arc<Histogram> {
        &self.list[what as usize]
    }

    /// Does the work and counts how long it took, whatever came of it.
    #[cold]
    pub(crate) fn timed<T>(&self, what: Timed, work: impl FnOnce() -> T) -> T {
        let began = self.clock.now();
        let result = work();
        self.of(what).record(self.clock.now().saturating_sub(began));
        result
    }

    pub(crate) fn reset(&self) {
        self.list.iter().for_each(|histogram| histogram.reset());
    }
}

/// How long the operations of a database took, since it was opened or [`Db::reset_stats`](crate::Db::reset_stats). Made by
/// [`Db::histograms`](crate::Db::histograms); its `Display` is a table for a person.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Latencies {
    /// Gets of one key. Not those by `get_async`.
    pub get: Latency,
    /// Calls of `multi_get`, each with all its keys.
    pub multi_get: Latency,
    /// Puts, deletes and batches: all that the caller waits for, the pace and the sync included. Not transactions.
    pub write: Latency,
    /// The part of writes of class Sync that waits for the device, alone or in a group.
    pub sync_wait: Latency,
    /// Seeks of cursors, to a key or an end.
    pub seek: Latency,
    /// Flushes, those that failed included.
    pub flush: Latency,
    /// Compactions, moves and those that failed included.
    pub compaction: Latency,
    /// Syncs of the log: one serves all writes that wait for it.
    pub wal_sync: Latency,
}

impl Latencies {
    /// Every row with its name.
    pub fn rows(&self) -> [(&'static str, &Latency); 8] {
        [
            ("get", &self.get),
            ("multi_get", &self.multi_get),
            ("write", &self.write),
            ("sync wait", &self.sync_wait),
            ("seek", &self.seek),
            ("flush", &self.flush),
            ("compaction", &self.compaction),
            ("wal sync", &self.wal_sync),
        ]
    }
}

impl Engine {
    /// Does the work of an operation, and times it if times are kept.
    #[inline]
    pub(crate) fn timed<T>(&self, what: Timed, work: impl FnOnce() -> T) -> T {
        match &self.histograms {
            None => work(),
            Some(histograms) => histograms.timed(what, work),
        }
    }

    /// Counts a duration that was measured anyway.
    pub(crate) fn note_time(&self, what: Timed, duration: Duration) {
        if let Some(histograms) = &self.histograms {
            histograms.of(what).record(duration);
        }
    }

    /// See [`Db::histograms`](crate::Db::histograms).
    pub(crate) fn latencies(&self) -> Option<Latencies> {
        let histograms = self.histograms.as_ref()?;
        let of = |what| histograms.of(what).snapshot();
        Some(Latencies {
            get: of(Timed::Get),
            multi_get: of(Timed::MultiGet),
            write: of(Timed::Write),
            sync_wait: of(Timed::SyncWait),
            seek: of(Timed::Seek),
            flush: of(Timed::Flush),
            compaction: of(Timed::Compaction),
            wal_sync: of(Timed::WalSync),
        })
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10} {:>10}", "us", "count")?;
        for title in ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            write!(f, " {title:>9}")?;
        }
        for (name, row) in self.rows().into_iter().filter(|(_, row)| row.count > 0) {
            write!(f, "\n{name:<10} {:>10}", row.count)?;
            let shares = [row.p50, row.p90, row.p99, row.p99_9, row.p99_99];
            for time in [row.min, row.mean].into_iter().chain(shares).chain([row.max]) {
                write!(f, " {:>9.1}", time.as_nanos() as f64 / 1000.0)?;
            }
        }
        writeln!(f)
    }
}

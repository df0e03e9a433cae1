//! How the database is, for whoever has to decide something by it: typed, and cheap enough to be asked every second.
//!
//! [`health`](crate::db::health) decides whether writes are taken; this file puts beside it what else a caller may want to act on. The
//! counters behind it are in [`Db::stats`](crate::Db::stats).

use crate::base::error::Error;
use crate::base::options::MEMTABLE_COUNT_MAX;
use crate::db::engine::Engine;
use crate::job::pick;
use std::fmt;
use std::path::PathBuf;

/// In which state a database is; see [`HealthReport`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum HealthState {
    /// Reads and writes at full speed.
    Healthy,
    /// Opened by [`Db::open_read_only`](crate::Db::open_read_only): reads are answered, writes are not taken.
    ReadOnly,
    /// It works, but not as it should: at least one reason, the gravest first.
    Degraded {
        /// Why.
        reasons: Vec<Degradation>,
    },
    /// The log or the manifest failed. Reads go on; reopen the database to write again.
    Poisoned {
        /// The [`Error::Poisoned`] that every write gets.
        error: Error,
    },
    /// It was closed.
    Closed,
}

/// What keeps a database from being healthy.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Degradation {
    /// The disk is full: writes get [`Error::NoSpace`] until there is space again. Free some.
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The last flush failed and is tried again. Once all memtables are full, writes wait for it.
    FlushFailing {
        /// Why.
        error: Error,
    },
    /// The last compaction failed and is tried again. Meanwhile reads and space suffer.
    CompactionFailing {
        /// Why.
        error: Error,
    },
    /// The last memtable is in use: the next one that is full makes writers wait for a flush.
    LastMemtable,
    /// Compaction or flush is behind, and each written byte pays for it.
    WritersSlowed {
        /// Nanoseconds that a written byte costs.
        nanos_per_byte: f64,
    },
}

/// How a database is at one moment. Made by [`Db::health`](crate::Db::health).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HealthReport {
    /// The verdict.
    pub state: HealthState,
    /// Bytes that compaction has to move to bring all levels into shape. Some are normal.
    pub debt_bytes: u64,
    /// Nanoseconds that a written byte costs now; 0 is full speed.
    pub pace_nanos_per_byte: f64,
    /// Memtables that are free beside the one that takes writes: 2 to 0.
    pub memtables_free: u64,
}

impl HealthReport {
    /// True if a write would be taken now, fast or slowly.
    pub fn takes_writes(&self) -> bool {
        match &self.state {
            HealthState::Healthy => true,
            HealthState::ReadOnly => false,
            HealthState::Degraded { reasons } => {
                !reasons.iter().any(|reason| matches!(reason, Degradation::DiskFull { .. }))
            }
            HealthState::Poisoned { .. } | HealthState::Closed => false,
        }
    }
}

impl Engine {
    /// See [`Db::health`](crate::Db::health).
    pub(crate) fn health_report(&self) -> HealthReport {
        let debt_bytes = {
            let versions = self.versions.lock();
            let keyspaces = versions.keyspaces().iter();
            keyspaces.map(|k| pick::debt(&k.shape, &k.record.options)).sum()
        };
        let memtables_free =
            (MEMTABLE_COUNT_MAX - 1).saturating_sub(self.schedule.frozen_count() as u64);
        let pace_nanos_per_byte = self.pacer.price_nanos();
        let state = self.health_state(memtables_free, pace_nanos_per_byte);
        HealthReport { state, debt_bytes, pace_nanos_per_byte, memtables_free }
    }

    fn health_state(&self, memtables_free: u64, nanos_per_byte: f64) -> HealthState {
        let mut reasons = Vec::new();
        match self.check_writable() {
            Ok(()) => {}
            Err(Error::Closed) => return HealthState::Closed,
            Err(Error::ReadOnly) => return HealthState::ReadOnly,
            Err(Error::NoSpace { path }) => reasons.push(Degradation::DiskFull { path }),
            Err(error) => return HealthState::Poisoned { error },
        }
        // A full disk fails both; it is named once.
        let other = |error: &Error| !matches!(error, Error::NoSpace { .. });
        let (flush, compaction) = self.schedule.errors();
        let flush = flush.filter(other).map(|error| Degradation::FlushFailing { error });
        let compaction = compaction.filter(other);
        let compaction = compaction.map(|error| Degradation::CompactionFailing { error });
        reasons.extend(flush.into_iter().chain(compaction));
        if memtables_free == 0 {
            reasons.push(Degradation::LastMemtable);
        }
        if nanos_per_byte > 0.0 {
            reasons.push(Degradation::WritersSlowed { nanos_per_byte });
        }
        if reasons.is_empty() { HealthState::Healthy } else { HealthState::Degraded { reasons } }
    }
}

impl fmt::Display for HealthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            HealthState::Healthy => write!(f, "healthy")?,
            HealthState::ReadOnly => write!(f, "read-only")?,
            HealthState::Poisoned { error } => write!(f, "poisoned: {error}")?,
            HealthState::Closed => write!(f, "closed")?,
            HealthState::Degraded { reasons } => {
                for (number, reason) in reasons.iter().enumerate() {
                    write!(f, "{}{reason}", if number == 0 { "degraded: " } else { "; " })?;
                }
            }
        }
        write!(
            f,
            " (debt {:.1} MiB, {} of {} spare memtables free)",
            self.debt_bytes as f64 / f64::from(1 << 20),
            self.memtables_free,
            MEMTABLE_COUNT_MAX - 1
        )
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Degradation::DiskFull { path } => write!(f, "no space for {}", path.display()),
            Degradation::FlushFailing { error } => write!(f, "flushes fail: {error}"),
            Degradation::CompactionFailing { error } => write!(f, "compactions fail: {error}"),
            Degradation::LastMemtable => write!(f, "the last memtable is in use"),
            Degradation::WritersSlowed { nanos_per_byte } => {
                write!(f, "a written byte costs {nanos_per_byte:.1} ns")
            }
        }
    }
}

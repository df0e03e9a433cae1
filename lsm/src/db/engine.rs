//! The engine: everything that the handles and the background threads of one open database share.
//!
//! Locks, in the order in which they may be taken: `commit` before `versions` before the change of the view before `schedule`.
//! Reads take none of them.

use crate::base::error::{Error, Result};
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::options::Options;
use crate::base::sync::Mutex;

use crate::db::change_log::ChangeLog;
use crate::db::environment::{Background, Environment};
use crate::db::events::Events;
use crate::db::expiry::Expiry;
use crate::db::health::Health;
use crate::db::histograms::Histograms;
use crate::db::reactor::Reactor;
use crate::db::schedule::Schedule;
use crate::db::snapshot::Snapshots;
use crate::db::stats::WriteCounters;
use crate::file::name;
use crate::file::wal::Wal;
use crate::io::{Lock, OpenMode};
use crate::job::counters::Counters;
use crate::job::output::JobContext;
use crate::job::pace::{Backlog, Pacer};
use crate::job::pick;
use crate::job::pool::Pool;
use crate::mem::arena::ArenaPool;
use crate::mem::budget::{Charge, MemoryBudget};
use crate::mem::generation::Generation;
use crate::version::set::VersionSet;
use crate::version::table::TableContext;
use crate::version::view::Current;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What the holder of the commit lock changes.
#[derive(Debug)]
pub(crate) struct Commit {
    /// The last sequence number given out.
    pub(crate) sequence: SequenceNumber,
    /// The generation that takes writes; the view holds the same one.
    pub(crate) active: Arc<Generation>,
    /// What it holds has larger sequence numbers.
    pub(crate) active_since: SequenceNumber,
    /// Keyspaces that take no writes any more.
    pub(crate) dropped: BTreeSet<KeyspaceId>,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Engine {
    /// Tells this opening of the database from every other.
    pub(crate) identity: Arc<()>,
    pub(crate) directory: PathBuf,
    pub(crate) environment: Environment,
    pub(crate) options: Options,
    pub(crate) opened_at: Duration,
    pub(crate) tables: Arc<TableContext>,
    pub(crate) jobs: JobContext,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) arenas: Arc<ArenaPool>,
    pub(crate) memtable_charge: Mutex<Charge>,
    /// What jobs and the WAL may hold; charged as long as the database is open, so that the cache never grows into it.
    pub(crate) _job_charge: Charge,
    /// Number of this run's log.
    pub(crate) epoch: u64,
    pub(crate) wal: Wal,
    /// The commits of the last while, if they are kept.
    pub(crate) changes: Option<Arc<ChangeLog>>,
    pub(crate) commit: Mutex<Commit>,
    pub(crate) current: Current,
    pub(crate) versions: Mutex<VersionSet>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) expiry: Expiry,
    pub(crate) schedule: Schedule,
    pub(crate) pacer: Pacer,
    pub(crate) counters: Counters,
    pub(crate) writes: WriteCounters,
    pub(crate) health: Health,
    pub(crate) events: Events,
    pub(crate) histograms: Option<Arc<Histograms>>,
    pub(crate) pool: Pool,
    /// Reads for asynchronous gets.
    pub(crate) reactor: Reactor,
    /// Held until the database is closed; its mutex is held for as long as that takes.
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
    /// How closing ended.
    pub(crate) close_result: OnceLock<Result<()>>,
}

impl Engine {
    /// True when background work is done by `step` only.
    pub(crate) fn is_manual(&self) -> bool {
        self.environment.background == Background::Manual
    }

    /// Sets the price of a written byte from the shapes, after they changed.
    pub(crate) fn update_pace(&self, versions: &VersionSet) {
        let mut backlog = Backlog::default();
        let mut worst = 0.0;
        for keyspace in versions.keyspaces() {
            let options = &keyspace.record.options;
            let count = keyspace.shape.level(0).tables().len() as u64;
            let fill = count as f64 / f64::from(options.level0_tables);
            if fill > worst {
                worst = fill;
                backlog.level0_tables = count;
                backlog.level0_trigger = u64::from(options.level0_tables);
            }
            backlog.debt_bytes += pick::debt(&keyspace.shape, options);
            backlog.debt_soft_bytes =
                backlog.debt_soft_bytes.saturating_add(options.level_base_bytes.saturating_mul(8));
        }
        backlog.readers_about = self.jobs.readers_about_for_pace();
        self.pacer.update(&backlog);
        self.tell_pace();
        let view = self.current.view();
        let index_bytes: usize =
            view.generations().map(|generation| generation.index_bytes()).sum();
        let resident = (self.arenas.resident_bytes() + index_bytes) as u64;
        self.memtable_charge.lock().set(resident.max(self.options.memtable_bytes_max()));
    }

    /// Writes the reserve that is given up when the disk is full. Without it (disk already full) the database still works.
    pub(crate) fn make_ballast(&self) {
        let bytes = (self.options.write_buffer_bytes() / 4).clamp(4096, 16 << 20);
        let path = self.directory.join(name::BALLAST);
        let disk = &self.environment.disk;
        let mode = OpenMode { exclusive: false, ..OpenMode::CREATE };
        let Ok(file) = disk.open(&path, mode) else { return };
        if file.size().is_ok_and(|size| size == bytes) {
            return;
        }
        let zeros = vec![0; 64 << 10];
        let mut offset = 0;
        while offset < bytes {
            let piece = &zeros[..zeros.len().min((bytes - offset) as usize)];
            if crate::io::write_full(&*file, offset, piece, false).is_err() {
                let _ = disk.remove(&path);
                return;
            }
            offset += piece.len() as u64;
        }
    }

    /// Records a failure of the WAL or the manifest and returns what the caller should answer. Wakes everybody: somebody must
    /// look at a full disk until there is space, and nobody may wait for work that a poisoned database no longer does.
    pub(crate) fn fail(&self, error: Error) -> Error {
        let error = self.health.poison(error);
        if let Error::NoSpace { .. } = error {
            self.drop_ballast();
        }
        self.tell_trouble();
        self.schedule.alarm();
        error
    }

    /// Gives the reserve up, unless the database is closed or closing.
    pub(crate) fn drop_ballast(&self) {
        if let Some(lock) = self.lock.try_lock()
            && lock.is_some()
        {
            self.remove_ballast();
        }
    }

    /// As `drop_ballast`, for whoever holds the lock of the directory.
    pub(crate) fn remove_ballast(&self) {
        let _there_may_be_none = self.environment.disk.remove(&self.directory.join(name::BALLAST));
    }

    /// Records a failed job: a full disk is waited out, everything else is told to whoever waits.
    pub(crate) fn note_job_error(&self, error: &Error) {
        if let Error::NoSpace { path } = error {
            self.health.set_no_space(path);
            self.tell_trouble();
            self.drop_ballast();
        }
    }

    /// After NoSpace: takes writes again if there is room for a memtable and the ballast. True if so.
    pub(crate) fn try_resume(&self) -> bool {
        let needed = self.options.write_buffer_bytes() * 2;
        let free = self.environment.disk.free_bytes(&self.directory).unwrap_or(0);
        if free < needed {
            return false;
        }
        self.make_ballast();
        self.health.clear_no_space();
        self.tell_space(free);
        true
    }

    /// The error that a caller gets when the database takes no writes.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.health.check()
    }
}

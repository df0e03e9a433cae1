//! Opening: from a directory to a running engine.
//!
//! ```text
//! lock → CURRENT → manifest → replay the WAL into memtables, full ones into tables → new manifest (with those tables,
//! a higher epoch and a fresh log position) put in force → strays removed → new WAL → threads
//! ```
//!
//! Promises:
//! 1. Until the new manifest is in force nothing that was there is changed or removed, so a crash or an error at any point leaves the
//!    database as it was, and opening it again gives the same contents.
//! 2. Nothing of the old log is needed afterwards: bytes of an earlier epoch can never be taken for new ones.
//! 3. Opening read-only changes no byte and makes no file: what the log holds stays in memtables, which nobody flushes.
//! 4. A full disk is met with the reserve file first. If that does not do, the answer is `NoSpace`, and nothing that was made is left.

use crate::base::clock::Clock;
use crate::base::compaction_filter::CompactionFilters;
use crate::base::error::{Error, Result};
use crate::base::key::{FileNumber, KeyspaceId, SequenceNumber};
use crate::base::limits::NUMBER_SHARE_MAX;
use crate::base::merge::MergeOperators;
use crate::base::options::{IoChoice, MEMTABLE_COUNT_MAX, Options, WRITE_BUFFER_BYTES_MIN};
use crate::base::planted::{Bug, planted};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::db::background::job_count;
use crate::db::change_log::{Buffer, ChangeLog, kept_files};
use crate::db::engine::{Commit, Engine};
use crate::db::environment::{Background, Environment};
use crate::db::events::Events;
use crate::db::expiry::Expiry;
use crate::db::health::Health;
use crate::db::histograms::{Histograms, Timed};
use crate::db::reactor::Reactor;
use crate::db::replay::{Replay, SEQUENCE_JUMP, followed};
use crate::db::schedule::Schedule;
use crate::db::spans::span;
use crate::db::stats::WriteCounters;
use crate::db::strays::{
    change_files, check_tables, highest_number, remove_changes_after, remove_strays,
};
use crate::file::name::{self, FileKind};
use crate::file::wal::{self, LogStart, Recovered, Wal, WalOptions};
use crate::format::edit::{KeyspaceRecord, LogMark};
use crate::format::log::LSN_MAX;
use crate::io::sim::SimDisk;
use crate::io::{Disk, Lock};
use crate::job::counters::Counters;
use crate::job::output::{JobContext, remove_all};
use crate::job::pace::Pacer;
use crate::job::pool::Pool;
use crate::mem::arena::ArenaPool;
use crate::mem::budget::{MemoryBudget, Use};
use crate::mem::cache::BlockCache;
use crate::mem::generation::Generation;
use crate::version::set::VersionSet;
use crate::version::table::TableContext;
use crate::version::view::{Current, View};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// This share of the memory limit is left to the allocator's own pages and to what is too small to be counted.
const ALLOCATOR_SHARE: u64 = 32;

/// Name of the keyspace that every database has.
const DEFAULT_KEYSPACE: &str = "default";

/// What somebody opens a database for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To read and write.
    Write,
    /// To read, without changing a byte of it.
    Read,
}

/// Opens or makes a database.
pub(crate) fn open(
    mut environment: Environment,
    directory: &Path,
    options: Options,
    purpose: Purpose,
) -> Result<Arc<Engine>> {
    options.validate()?;
    let operators = MergeOperators::with(&options.merge_operators)?;
    let filters = CompactionFilters::with(&options.compaction_filters)?;
    let _span = span!("open", directory = %directory.display());
    let began = environment.clock.now();
    let is_manual = environment.background == Background::Manual;
    let events = Events::new(environment.listener.take(), is_manual);
    let disk = Arc::clone(&environment.disk);
    let found = look(&disk, directory)?;
    match found {
        Found::Database if options.error_if_exists && purpose == Purpose::Write => {
            return Err(Error::DatabaseExists { path: directory.to_owned() });
        }
        Found::Nothing if purpose == Purpose::Read => {
            let detail = "there is none, and opening read-only makes none".to_owned();
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Nothing if !options.create_if_missing => {
            let detail =
                "there is none; check the path, or have it made (create_if_missing)".to_owned();
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Foreign(detail) => {
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Nothing => {
            operators.find(options.default_keyspace.merge_operator.as_deref())?;
            disk.create_directory(directory).map_err(|e| Error::io("create", directory, e))?;
        }
        Found::Database => {}
    }
    let lock = match purpose {
        Purpose::Write => Some(lock(&disk, directory)?),
        Purpose::Read => lock_shared(&disk, directory)?,
    };
    let budget = MemoryBudget::new(options.memory_limit);
    let tables = Arc::new(TableContext {
        disk: Arc::clone(&disk),
        directory: directory.to_owned(),
        direct: options.direct_io,
        cache: BlockCache::new(Arc::clone(&budget)),
        budget: Arc::clone(&budget),
        graveyard: Mutex::default(),
    });
    let (mut versions, is_new) = match VersionSet::recover(Arc::clone(&tables))? {
        Some(versions) => (versions, false),
        None => {
            let options = options.default_keyspace.clone();
            let record =
                KeyspaceRecord { id: KeyspaceId(0), name: DEFAULT_KEYSPACE.to_owned(), options };
            (VersionSet::new(Arc::clone(&tables), record), true)
        }
    };
    versions.supply(operators, filters)?;
    check_tables(&disk, directory, &versions)?;
    let arenas =
        ArenaPool::new(options.write_buffer_bytes() as usize, MEMTABLE_COUNT_MAX as usize - 1);
    let highest = highest_number(&disk, directory)?;
    let jobs = JobContext {
        disk: Arc::clone(&disk),
        directory: directory.to_owned(),
        direct: options.direct_io,
        cache: Arc::clone(&tables.cache),
        reads_seen: AtomicU64::new(0),
        reads_paced: AtomicU64::new(0),
        next_file: AtomicU64::new(versions.next_file().max(highest + 1)),
        closing: AtomicBool::new(false),
    };
    let write_buffer = options.write_buffer_bytes() as usize;
    let Started { wal, ring_bytes, epoch, sequence, records, frozen } = if purpose == Purpose::Read
    {
        read_log(&jobs, &arenas, &options, &versions, &environment.clock)?
    } else {
        // Begun by a flush that did not come to its end, before this opening writes its own.
        let counted = versions.changes();
        remove_changes_after(&disk, directory, counted)?;
        let bring_up = |versions: &mut VersionSet| {
            put_log_into_tables(&jobs, &arenas, &options, versions, is_new)
                .inspect_err(|error| remove_attempt(error, &disk, directory, highest, counted))
        };
        let InForce { manifest, start, sequence, slots, records } = match bring_up(&mut versions) {
            Err(error @ Error::NoSpace { .. }) => {
                // The reserve is there for this.
                disk.remove(&directory.join(name::BALLAST)).map_err(|_there_is_none| error)?;
                bring_up(&mut versions)?
            }
            other => other?,
        };
        let clock = Arc::clone(&environment.clock);
        let wal_options = WalOptions::for_write_buffer(options.write_buffer_bytes(), clock);
        let ring_bytes = wal_options.ring_bytes;
        // First, so that an opening that fails after this leaves no more files than it found.
        remove_strays(&disk, directory, &versions, manifest)?;
        if options.change_log_bytes == 0 {
            // The commits of this run will be missing behind them.
            remove_changes_after(&disk, directory, 0)?;
        }
        let wal = Wal::create(&disk, directory, wal_options, start, &slots)?;
        Started { wal, ring_bytes, epoch: start.epoch, sequence, records, frozen: Vec::new() }
    };

    // What the log has added.
    versions.tidy_ranges(&[]);
    let kept = options.histograms;
    let histograms = kept.then(|| Arc::new(Histograms::new(Arc::clone(&environment.clock))));
    histograms.iter().for_each(|histograms| wal.time_syncs(histograms.of(Timed::WalSync)));

    let dropped = versions.keyspaces().iter().filter(|keyspace| keyspace.is_dropped);
    let dropped = dropped.map(|keyspace| keyspace.record.id).collect();
    let prefixes = vec![Vec::new(); versions.keyspaces().len()];
    let active = Arc::new(Generation::new(
        frozen.len() as u64 + 1,
        arenas.take(match purpose {
            Purpose::Write => write_buffer,
            Purpose::Read => WRITE_BUFFER_BYTES_MIN as usize,
        })?,
        &prefixes,
    ));
    let changes = match options.change_log_bytes {
        bytes_max if bytes_max > 0 && purpose == Purpose::Write => {
            let firsts = change_files(&disk, directory)?;
            let files = kept_files(&disk, directory, &firsts, versions.changes())?;
            let (disk, active) = (Arc::clone(&disk), active.number());
            Some(Arc::new(ChangeLog::new(disk, directory, bytes_max, files, active)))
        }
        _ => None,
    };
    let view = View { active: Arc::clone(&active), frozen, shapes: versions.shapes() };
    let engine = Arc::new(Engine {
        identity: Arc::default(),
        directory: directory.to_owned(),
        opened_at: environment.clock.now(),
        memtable_charge: Mutex::new(budget.charge(Use::Memtables, options.memtable_bytes_max())),
        _job_charge: budget.charge(
            Use::Jobs,
            ring_bytes
                + options.job_bytes_max(job_count(&options))
                + options.memory_limit / ALLOCATOR_SHARE,
        ),
        environment,
        options,
        tables,
        jobs,
        budget,
        arenas,
        epoch,
        wal,
        changes,
        commit: Mutex::new(Commit { sequence, active, active_since: sequence, dropped }),
        current: Current::new(view, sequence),
        versions: Mutex::new(versions),
        snapshots: Arc::default(),
        expiry: Expiry::default(),
        schedule: Schedule::default(),
        pacer: Pacer::default(),
        counters: Counters::default(),
        writes: WriteCounters::default(),
        health: match purpose {
            Purpose::Write => Health::default(),
            Purpose::Read => Health::read_only(),
        },
        events,
        histograms,
        pool: Pool::default(),
        reactor: Reactor::new(),
        lock: Mutex::new(lock),
        close_result: OnceLock::new(),
    });
    engine.tell_opened(is_new, records, began);
    if purpose == Purpose::Write {
        engine.make_ballast();
        engine.update_pace(&engine.versions.lock());
    }
    let started = match purpose {
        _ if engine.is_manual() => Ok(()),
        Purpose::Write => engine.start_threads(),
        Purpose::Read => engine.events.start(),
    };
    if let Err(error) = started {
        // Those that did start hold the engine, and with it the lock.
        let _the_first_error_counts = engine.close();
        return Err(error);
    }
    engine.events.tell();
    Ok(engine)
}

/// What a running engine begins with.
struct Started {
    wal: Wal,
    ring_bytes: u64,
    epoch: u64,
    sequence: SequenceNumber,
    /// Commits that the log held.
    records: u64,
    /// What the log held, where it was not written to tables; newest first.
    frozen: Vec<Arc<Generation>>,
}

/// Reads the log into memtables that stay, and changes nothing. The engine's own log, which nobody will write to, is in memory.
fn read_log(
    jobs: &JobContext,
    arenas: &Arc<ArenaPool>,
    options: &Options,
    versions: &VersionSet,
    clock: &Arc<dyn Clock>,
) -> Result<Started> {
    let mut replay = Replay::new(jobs, arenas, options.write_buffer_bytes() as usize, versions);
    replay.kept_bytes_max = Some(options.memory_limit);
    let LogMark { epoch, lsn } = versions.log();
    let apply = &mut |sequence, count, batch: &[u8]| replay.apply(sequence, count, batch);
    let start = LogStart { epoch, lsn };
    wal::recover(&jobs.disk, &jobs.directory, start, versions.promised(), apply)?;
    let (records, last) = (replay.records, replay.last_sequence);
    let frozen = replay.kept()?;
    let scratch: Arc<dyn Disk> = Arc::new(SimDisk::new(0));
    let wal_options = WalOptions::for_write_buffer(WRITE_BUFFER_BYTES_MIN, Arc::clone(clock));
    let (ring_bytes, place) = (wal_options.ring_bytes, Path::new("/"));
    let wal = Wal::create(&scratch, place, wal_options, LogStart { epoch: 1, lsn: 0 }, &[])?;
    let sequence = last.max(versions.last_sequence());
    Ok(Started { wal, ring_bytes, epoch, sequence, records, frozen })
}

/// Where the database stands once the new manifest is in force.
struct InForce {
    manifest: FileNumber,
    /// The new log.
    start: LogStart,
    sequence: SequenceNumber,
    /// Segments of the old log, for reuse.
    slots: Vec<u64>,
    /// Commits that the old log held.
    records: u64,
}

/// Writes what the log holds to tables, and puts a new manifest in force that names them.
fn put_log_into_tables(
    jobs: &JobContext,
    arenas: &Arc<ArenaPool>,
    options: &Options,
    versions: &mut VersionSet,
    is_new: bool,
) -> Result<InForce> {
    let _span = span!("recovery");
    let (disk, directory) = (&jobs.disk, &jobs.directory);
    let mut replay = Replay::new(jobs, arenas, options.write_buffer_bytes() as usize, versions);
    replay.changes = (options.change_log_bytes > 0).then(Buffer::default);
    if replay.changes.is_some() {
        replay.followed = followed(disk, directory, versions, is_new)?;
        replay.jump = if is_new { 0 } else { SEQUENCE_JUMP };
    }
    let log = versions.log();
    let recovered = if is_new {
        Recovered::default()
    } else {
        let start = LogStart { epoch: log.epoch, lsn: log.lsn };
        let apply = &mut |sequence, count, batch: &[u8]| replay.apply(sequence, count, batch);
        wal::recover(disk, directory, start, versions.promised(), apply)?
    };
    if recovered.max_lsn > LSN_MAX / NUMBER_SHARE_MAX {
        let detail = format!("a log up to LSN {}, which no database reaches", recovered.max_lsn);
        return Err(Error::corruption(directory, 0, detail));
    }
    let records = replay.records;
    let mut edit = replay.finish(versions.last_sequence())?;
    if planted(Bug::StraysRemovedEarly) {
        remove_strays(disk, directory, versions, FileNumber(0))?;
    }
    let sequence = edit.last_sequence.unwrap_or(0).max(versions.last_sequence());
    let start = LogStart { epoch: log.epoch + 1, lsn: recovered.max_lsn.max(log.lsn) };
    let again = planted(Bug::EpochNotRaised) && !is_new;
    let start = if again { LogStart { epoch: log.epoch, lsn: log.lsn } } else { start };
    edit.log = Some(LogMark { epoch: start.epoch, lsn: start.lsn });
    edit.last_sequence = Some(sequence);
    if options.change_log_bytes == 0 && versions.changes() > 0 {
        // The change log ends here: no file that is left over may look as if it went on to the last commit.
        edit.changes = Some(sequence);
    }
    versions.tidy_ranges(&[]);
    let manifest = jobs.new_file();
    edit.next_file = Some(jobs.next_file.load(Ordering::Relaxed));
    versions.rewrite(manifest, &edit)?;
    Ok(InForce { manifest, start, sequence, slots: recovered.slots, records })
}

/// After a full disk: removes what this opening has made, so that it does not itself hold the space that is missing. No other
/// error gets an answer: the next open removes the same as strays.
fn remove_attempt(
    error: &Error,
    disk: &Arc<dyn Disk>,
    directory: &Path,
    highest: u64,
    changes: SequenceNumber,
) {
    // NoSpace says that the old manifest is in force; see `ManifestWriter::create`.
    let Error::NoSpace { .. } = error else { return };
    let made = |name: &&String| match name::parse(name) {
        Some(FileKind::Table(number) | FileKind::Manifest(number)) => number.0 > highest,
        Some(FileKind::Changes(first)) => first > changes,
        Some(FileKind::Temporary) => true,
        _ => false,
    };
    // Without a list they stay until the next open.
    let names = disk.list(directory).unwrap_or_default();
    let paths: Vec<PathBuf> = names.iter().filter(made).map(|name| directory.join(name)).collect();
    remove_all(&**disk, &paths);
}

/// What a directory holds.
enum Found {
    Database,
    /// Nothing, or what a crash left of making a database.
    Nothing,
    /// Something that must not be touched, and why.
    Foreign(String),
}

fn look(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Found> {
    let names = match disk.list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Ok(Found::Foreign("it is a file; give a directory".to_owned()));
        }
        Err(error) => return Err(Error::io("list", directory, error)),
    };
    if names.iter().any(|name| name == name::CURRENT) {
        return Ok(Found::Database);
    }
    for name in &names {
        match name::parse(name) {
            // Making a database writes these before CURRENT, and nothing else.
            Some(FileKind::Lock | FileKind::Manifest(_) | FileKind::Temporary) => {}
            Some(FileKind::Notes) => {}
            Some(_) => {
                return Ok(Found::Foreign(format!(
                    "{name} is there but CURRENT is missing; restore CURRENT from a checkpoint, or move the files away"
                )));
            }
            None => {
                return Ok(Found::Foreign(format!(
                    "it holds {name:?}, which is not ours; choose an empty directory"
                )));
            }
        }
    }
    Ok(Found::Nothing)
}

fn lock(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Box<dyn Lock>> {
    let path = directory.join(name::LOCK);
    disk.lock(&path).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => Error::Locked { path: directory.to_owned() },
        _ => Error::io("lock", &path, error),
    })
}

/// The lock of a reader. A database that nobody has ever opened (a checkpoint) has no lock file, and none is made.
fn lock_shared(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<Box<dyn Lock>>> {
    let path = directory.join(name::LOCK);
    match disk.lock_shared(&path) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::Locked { path: directory.to_owned() })
        }
        Err(error) => Err(Error::io("lock", &path, error)),
    }
}

/// Removes a database.
pub(crate) fn destroy(directory: &Path) -> Result<()> {
    let environment = Environment::system(IoChoice::Posix)?;
    let disk = environment.disk;
    match look(&disk, directory)? {
        Found::Database => {}
        Found::Nothing => {
            let detail = "there is none".to_owned();
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Foreign(detail) => {
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
    }
    let lock = lock(&disk, directory)?;
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    if let Some(foreign) = names.iter().find(|name| name::parse(name).is_none()) {
        let detail = format!("it also holds {foreign:?}, which is not ours; nothing was removed");
        return Err(Error::NotADatabase { path: directory.to_owned(), detail });
    }
    // CURRENT goes last but for the lock: a crash in between leaves a database with missing tables, which says so.
    let order = |name: &&String| (name.as_str() == name::LOCK, name.as_str() == name::CURRENT);
    let mut names: Vec<&String> = names.iter().collect();
    names.sort_by_key(order);
    for file in names {
        let path = directory.join(file);
        disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    drop(lock);
    Ok(())
}

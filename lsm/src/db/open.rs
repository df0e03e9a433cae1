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
use crate::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{NUMBER_MAX, NUMBER_SHARE_MAX};
use crate::base::merge::MergeOperators;
use crate::base::options::{IoChoice, MEMTABLE_COUNT_MAX, Options, WRITE_BUFFER_BYTES_MIN};
use crate::base::planted::{Bug, planted};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::db::background::job_count;
use crate::db::change_log::{Buffer, ChangeLog, kept_files};
use crate::db::commit::{apply_batch, batch_cost};
use crate::db::engine::{Commit, Engine};
use crate::db::environment::{Background, Environment};
use crate::db::events::Events;
use crate::db::expiry::Expiry;
use crate::db::health::Health;
use crate::db::histograms::{Histograms, Timed};
use crate::db::reactor::Reactor;
use crate::db::schedule::Schedule;
use crate::db::spans::span;
use crate::db::stats::WriteCounters;
use crate::file::name::{self, FileKind};
use crate::file::wal::{self, LogStart, Recovered, Wal, WalOptions};
use crate::format::batch::BatchReader;
use crate::format::change::FrameKind;
use crate::format::edit::{KeyspaceRecord, LogMark, VersionEdit};
use crate::format::log::LSN_MAX;
use crate::io::sim::SimDisk;
use crate::io::{Disk, Lock};
use crate::job::counters::Counters;
use crate::job::flush::{Flushed, flush};
use crate::job::output::{JobContext, remove_all};
use crate::job::pace::Pacer;
use crate::job::pool::Pool;
use crate::mem::arena::ArenaPool;
use crate::mem::budget::{MemoryBudget, Use};
use crate::mem::cache::BlockCache;
use crate::mem::generation::Generation;
use crate::mem::memtable::Memtable;
use crate::version::set::{KeyspaceState, VersionSet};
use crate::version::table::TableContext;
use crate::version::view::{Current, View};
use std::collections::HashSet;
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
            let detail = "a database is there already and error_if_exists is set".to_owned();
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Nothing if purpose == Purpose::Read => {
            let detail = "there is none, and opening read-only makes none".to_owned();
            return Err(Error::NotADatabase { path: directory.to_owned(), detail });
        }
        Found::Nothing if !options.create_if_missing => {
            let detail = "there is none and create_if_missing is off".to_owned();
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

/// The last number that the change log knows of, if it has followed the database until now.
fn followed(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    versions: &VersionSet,
    is_new: bool,
) -> Result<Option<SequenceNumber>> {
    // Before anything was in tables the log holds all there is.
    if is_new || (versions.changes() == 0 && versions.last_sequence() == 0) {
        return Ok(Some(0));
    }
    let counted = versions.changes();
    let files = kept_files(disk, directory, &change_files(disk, directory)?, counted)?;
    Ok(files.values().any(|kept| kept.last == counted).then_some(counted))
}

/// The sequence numbers with which change files begin, ascending.
fn change_files(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Vec<SequenceNumber>> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let first = |name: &String| match name::parse(name) {
        Some(FileKind::Changes(first)) => Some(first),
        _ => None,
    };
    let mut firsts: Vec<SequenceNumber> = names.iter().filter_map(first).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Removes the change files that begin after a number.
fn remove_changes_after(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    counted: SequenceNumber,
) -> Result<()> {
    let gone = change_files(disk, directory)?.into_iter().filter(|first| *first > counted);
    let paths: Vec<PathBuf> = gone.map(|first| name::changes(directory, first)).collect();
    remove_all(&**disk, &paths);
    Ok(())
}

/// The largest file number in use, so that a stray of a crash is never overwritten.
fn highest_number(disk: &Arc<dyn Disk>, directory: &Path) -> Result<u64> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let mut highest = 0;
    for name in names {
        let (number, is_slot) = match name::parse(&name) {
            Some(FileKind::Table(number) | FileKind::Manifest(number)) => (number.0, false),
            Some(FileKind::Wal(slot)) => (slot, true),
            _ => continue,
        };
        // The numbers of new files go on from here.
        if number > NUMBER_MAX / NUMBER_SHARE_MAX {
            let detail = "a file number that no database reaches; move the file away";
            return Err(Error::corruption(&directory.join(name), 0, detail));
        }
        if !is_slot {
            highest = highest.max(number);
        }
    }
    Ok(highest)
}

/// Every table that the manifest names is there. Opening opens none, but it removes those that the manifest does not name: from a
/// manifest that lost its end these are the good ones, and the ones that it names are gone.
fn check_tables(disk: &Arc<dyn Disk>, directory: &Path, versions: &VersionSet) -> Result<()> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let there: HashSet<FileNumber> = names
        .iter()
        .filter_map(|name| match name::parse(name) {
            Some(FileKind::Table(number)) => Some(number),
            _ => None,
        })
        .collect();
    match live_tables(versions).difference(&there).min() {
        Some(number) => {
            let detail = "the manifest names this table, but it is not there";
            Err(Error::corruption(&name::table(directory, *number), 0, detail))
        }
        None => Ok(()),
    }
}

fn live_tables(versions: &VersionSet) -> HashSet<FileNumber> {
    let shapes = versions.shapes();
    let tables =
        shapes.iter().flatten().flat_map(|shape| shape.levels()).flat_map(|level| level.tables());
    tables.map(|table| table.number()).collect()
}

/// Removes tables and manifests that the manifest in force does not name, and half-made files.
fn remove_strays(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    versions: &VersionSet,
    manifest: FileNumber,
) -> Result<()> {
    let live = live_tables(versions);
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let stray = |name: &&String| match name::parse(name) {
        Some(FileKind::Table(number)) => !live.contains(&number),
        Some(FileKind::Manifest(number)) => number != manifest,
        Some(FileKind::Temporary) => true,
        _ => false,
    };
    let paths: Vec<PathBuf> = names.iter().filter(stray).map(|name| directory.join(name)).collect();
    remove_all(&**disk, &paths);
    Ok(())
}

/// Sequence numbers that an opening with a change log leaves out. More than memtables hold commits, which are what a crash can take back; and few enough
/// for a hundred million openings.
const SEQUENCE_JUMP: u64 = 1 << 28;

/// Takes records of the WAL into memtables, and full ones into tables.
struct Replay<'a> {
    jobs: &'a JobContext,
    arenas: &'a Arc<ArenaPool>,
    memtable_bytes: usize,
    keyspaces: Vec<KeyspaceState>,
    generation: Option<Generation>,
    /// Full generations are kept, up to so many bytes, instead of being written to tables.
    kept_bytes_max: Option<u64>,
    kept: Vec<Arc<Generation>>,
    /// The commits of the generation, where they are kept.
    changes: Option<Buffer>,
    /// The last number that the change log knows of, if it knows all before.
    followed: Option<SequenceNumber>,
    /// By how much the sequence numbers jump after the last one.
    jump: u64,
    edit: VersionEdit,
    last_sequence: SequenceNumber,
    records: u64,
}

impl<'a> Replay<'a> {
    fn new(
        jobs: &'a JobContext,
        arenas: &'a Arc<ArenaPool>,
        memtable_bytes: usize,
        versions: &VersionSet,
    ) -> Replay<'a> {
        let keyspaces = versions.keyspaces().to_vec();
        let edit = VersionEdit::default();
        Replay {
            jobs,
            arenas,
            memtable_bytes,
            keyspaces,
            generation: None,
            kept_bytes_max: None,
            kept: Vec::new(),
            changes: None,
            followed: None,
            jump: 0,
            edit,
            last_sequence: 0,
            records: 0,
        }
    }

    fn apply(&mut self, sequence: SequenceNumber, count: u32, batch: &[u8]) -> Result<()> {
        self.check(sequence, count, batch)?;
        let count = if planted(Bug::BatchCutInReplay) && count > 1 { count - 1 } else { count };
        let cost = batch_cost(batch, count);
        if self.generation.as_ref().is_some_and(|generation| !generation.has_room(cost)) {
            self.flush()?;
        }
        let generation = match &self.generation {
            Some(generation) => generation,
            None => {
                let arena =
                    self.arenas.take(self.memtable_bytes.max(cost + Memtable::cost(0, 0)))?;
                let prefixes = vec![Vec::new(); self.keyspaces.len()];
                let number = self.kept.len() as u64 + 1;
                self.generation.insert(Generation::new(number, arena, &prefixes))
            }
        };
        // Nobody reads yet, so ranges inside one another need not be told apart.
        apply_batch(generation, batch, count, sequence, 0)?;
        self.follow(sequence);
        let last = sequence + u64::from(count) - 1;
        if let Some(changes) = &mut self.changes {
            changes.push(FrameKind::Batch, sequence, count, &[batch]);
            // Where it does not know what was before, a hole is not known to be of a crash.
            self.followed = self.followed.map(|followed| followed.max(last));
        }
        self.last_sequence = self.last_sequence.max(sequence + u64::from(count) - 1);
        self.records += 1;
        Ok(())
    }

    /// A right checksum says that a record is what was written, not that this release can read it, nor that the manifest is as new.
    fn check(&self, sequence: SequenceNumber, count: u32, batch: &[u8]) -> Result<()> {
        let wrong = |detail: String| {
            let detail = format!("log record with sequence number {sequence}: {detail}");
            Error::corruption(&self.jobs.directory, 0, detail)
        };
        let sequence_max = SEQUENCE_MAX / NUMBER_SHARE_MAX;
        if count == 0 || sequence == 0 || sequence - 1 > sequence_max - u64::from(count) {
            return Err(wrong(format!("it cannot have {count} operations")));
        }
        for item in BatchReader::new(batch, count) {
            let operation = item.map_err(|damage| {
                wrong(format!("byte {} of its batch: {}", damage.offset, damage.detail))
            })?;
            let keyspace = operation.keyspace.0;
            if keyspace as usize >= self.keyspaces.len() {
                return Err(wrong(format!("the manifest has no keyspace {keyspace}")));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let generation = self.generation.take();
        self.write_changes()?;
        let Some(generation) = generation else { return Ok(()) };
        if let Some(bytes_max) = self.kept_bytes_max {
            self.kept.push(Arc::new(generation));
            let bytes: u64 = self.kept.iter().map(|kept| kept.used() as u64).sum();
            if bytes > bytes_max {
                let detail = format!(
                    "{bytes_max} bytes do not hold what is in the log and not in tables; give more, or open the database once for writing"
                );
                return Err(Error::invalid_option("memory_limit", detail));
            }
            return Ok(());
        }
        for (id, memtable) in generation.memtables().filter(|(_, memtable)| !memtable.is_empty()) {
            let keyspace = &self.keyspaces[id.0 as usize];
            if keyspace.is_dropped {
                continue;
            }
            let (options, shape) = (&keyspace.record.options, &keyspace.shape);
            let Flushed { tables, range_deletes, .. } =
                flush(self.jobs, id, options, shape, memtable, Vec::new())?;
            self.edit.range_deletes.extend(range_deletes.into_iter().map(|range| (id, range)));
            self.edit.added.extend(tables.into_iter().map(|info| (id, 0, info)));
        }
        Ok(())
    }

    /// Notes that numbers before `next` belong to no commit, if that is so.
    fn follow(&mut self, next: SequenceNumber) {
        if let (Some(changes), Some(followed)) = (&mut self.changes, self.followed)
            && next > followed + 1
        {
            changes.push_lost(followed + 1, next - 1);
            self.followed = Some(next - 1);
        }
    }

    /// As by a flush: durable before the manifest lets the log go.
    fn write_changes(&mut self) -> Result<()> {
        if let Some(changes) = self.changes.as_mut().filter(|changes| !changes.is_empty()) {
            let changes = std::mem::take(changes);
            changes.write(&self.jobs.disk, &self.jobs.directory)?;
            self.edit.changes = self.edit.changes.max(changes.last());
        }
        Ok(())
    }

    /// The generations that were kept, newest first.
    fn kept(mut self) -> Result<Vec<Arc<Generation>>> {
        self.flush()?;
        self.kept.reverse();
        Ok(self.kept)
    }

    /// Writes the rest out; the edit names all tables made. Tables of a replay that fails are strays.
    fn finish(mut self, last_sequence: SequenceNumber) -> Result<VersionEdit> {
        let mut last = self.last_sequence.max(last_sequence);
        if self.jump > 0 {
            // Numbers that may have been told to a follower and then taken back are not given out again; nobody knows how many there were.
            last += self.jump;
            self.follow(last);
            if let Some(changes) = self.changes.as_mut().filter(|_| self.followed.is_some()) {
                changes.push_void(last);
            }
        }
        self.flush()?;
        self.edit.last_sequence = Some(last);
        Ok(std::mem::take(&mut self.edit))
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

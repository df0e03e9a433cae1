//! Ingest: sorted files become tables of a keyspace, all at once, under one sequence number.
//!
//! ```text
//! read what the files say → check every byte → link (or copy) into the directory → sync
//!   → lock commits → freeze, flush what meets the keys → sync the WAL → manifest → view with a new active generation → unlock
//! ```
//!
//! Promises:
//! 1. An ingest is a commit like any other: a reader or snapshot sees all of it or nothing, and what it sees of the commits around it is a
//!    prefix of their order. To that end the active generation is changed with the view: whoever still has the older view sees no later commit.
//! 2. It is durable when it returns, with all that was committed before it: the log is synced before the manifest says that the sequence number is taken.
//! 3. No memtable holds a key between the smallest and the largest of a file when it comes in, so newest-first order over memtables, L0 and levels holds;
//!    nor a range delete of its keyspace, so that all range deletes up to the newest entry of any table are in the manifest (see `Retain::applied`).
//! 4. The files are not changed. After an error, or a crash before the manifest, the database has nothing of them.
//!
//! Writers wait while the commit lock is held: for a flush only where somebody writes to the keys of the files meanwhile, else for a sync of log
//! and manifest.

use crate::base::cursor::EntryCursor;
use crate::base::error::{Error, Result};
use crate::base::key::{KeyspaceId, SEQUENCE_MAX, SequenceNumber, Tag};
use crate::base::options::MEMTABLE_COUNT_MAX;
use crate::base::planted::{Bug, planted};
use crate::base::range_deletes::RangeDelete;
use crate::base::sync::MutexGuard;
use crate::base::sync::atomic::Ordering;
use crate::db::background::LOOK_AGAIN;
use crate::db::engine::{Commit, Engine};
use crate::db::schedule::Frozen;
use crate::db::spans::span;
use crate::file::copy::copy;
use crate::file::name;
use crate::file::table_reader::TableReader;
use crate::format::change::put_ingested;
use crate::format::edit::VersionEdit;
use crate::format::table_info::TableInfo;
use crate::io::OpenMode;
use crate::job::output::remove_all;
use crate::job::place::level_for;
use crate::mem::generation::Generation;
use crate::version::set::KeyspaceState;
use crate::version::view::View;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Choices for [`Keyspace::ingest`](crate::Keyspace::ingest).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct IngestOptions {
    /// Read all of every file first and check it: checksums, order, index, filter. Default true. Without it damage is still never silent: every
    /// block is checked when it is read.
    pub verify: bool,
    /// Copy the files also where a hard link would do. Default false. For files that somebody may write to afterwards: a linked file is
    /// shared with the database, and changing it damages both. (Removing it is fine.)
    pub copy: bool,
}

impl Default for IngestOptions {
    fn default() -> Self {
        IngestOptions { verify: true, copy: false }
    }
}

/// A file to come in.
struct Source {
    path: PathBuf,
    /// What it says of itself.
    info: TableInfo,
}

impl Engine {
    /// See [`Keyspace::ingest`](crate::Keyspace::ingest).
    pub(crate) fn ingest(
        &self,
        keyspace: KeyspaceId,
        paths: &[PathBuf],
        options: &IngestOptions,
    ) -> Result<SequenceNumber> {
        let _span = span!("ingest", keyspace = keyspace.0, files = paths.len());
        self.check_writable()?;
        if paths.is_empty() {
            return Ok(self.current.visible());
        }
        let _caller = self.begin_call()?;
        let sources = self.look_at(paths)?;
        if options.verify {
            sources.iter().try_for_each(|source| self.verify_source(source))?;
        }
        let mut made = Vec::new();
        let tables = self.bring_in(&sources, options.copy, &mut made).inspect_err(|error| {
            remove_all(&*self.environment.disk, &made);
            self.note_job_error(error);
        })?;
        let tables = tables.into_iter().map(|info| (keyspace, info)).collect();
        let from_outside = FromOutside { tables, ranges: Vec::new(), made };
        let edit = self.install_from_outside(from_outside, || Ok::<(), Error>(()))?;
        let bytes = edit.added.iter().map(|(_, _, info)| info.file_bytes).sum();
        self.writes.ingested(edit.added.len() as u64, bytes);
        self.tell_ingested(&edit);
        self.events.tell();
        Ok(edit.last_sequence.unwrap_or(0))
    }

    /// What the files say, in the order of their keys.
    fn look_at(&self, paths: &[PathBuf]) -> Result<Vec<Source>> {
        let disk = &self.environment.disk;
        let source = |path: &PathBuf| {
            let info = TableReader::info_from_file(disk, path)?;
            if info.sequence_max != 0 || info.entry_count == 0 {
                let detail = format!(
                    "{} is a table of a database; ingest what SortedFileWriter or Keyspace::export has made",
                    path.display()
                );
                return Err(Error::invalid_option("files", detail));
            }
            Ok(Source { path: path.clone(), info })
        };
        let mut sources = paths.iter().map(source).collect::<Result<Vec<_>>>()?;
        sources.sort_by(|a, b| a.info.smallest.cmp(&b.info.smallest));
        match sources.windows(2).find(|pair| pair[0].info.largest >= pair[1].info.smallest) {
            None => Ok(sources),
            Some(pair) => {
                let detail = format!(
                    "{} and {} overlap; ingest them one after the other, the newer one last",
                    pair[0].path.display(),
                    pair[1].path.display()
                );
                Err(Error::invalid_option("files", detail))
            }
        }
    }

    /// Reads all of a file.
    fn verify_source(&self, source: &Source) -> Result<()> {
        self.jobs.check_open()?;
        let (disk, tables) = (&self.environment.disk, &self.tables);
        // Once from front to back: nothing for the page cache.
        let direct = true;
        let (path, info) = (&source.path, &source.info);
        let cache = Arc::clone(&tables.cache);
        let reader = TableReader::open(disk, path, info, direct, cache, &tables.budget)?;
        reader.verify().map(drop)
    }

    /// Gives the files names in the directory of the database, durably. What was made is in `made`, also after an error.
    fn bring_in(
        &self,
        sources: &[Source],
        must_copy: bool,
        made: &mut Vec<PathBuf>,
    ) -> Result<Vec<TableInfo>> {
        let disk = &self.environment.disk;
        let mut tables = Vec::new();
        for Source { path, info } in sources {
            self.jobs.check_open()?;
            let number = self.jobs.new_file();
            let target = name::table(&self.directory, number);
            made.push(target.clone());
            if must_copy || !self.link(path, &target)? {
                copy(disk, path, &target, || self.jobs.check_open())?;
            }
            // The sequence number comes later.
            tables.push(info.clone().ingested_as(number.0, 0));
        }
        let directory = &self.directory;
        disk.sync_directory(directory).map_err(|e| Error::io("sync", directory, e))?;
        Ok(tables)
    }

    /// Links a file, durably; false if the file system has no links, or not between these places, or not for us.
    fn link(&self, from: &Path, to: &Path) -> Result<bool> {
        let disk = &self.environment.disk;
        if let Err(error) = disk.hard_link(from, to) {
            let refused = [libc::EXDEV, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP, libc::EMLINK];
            return match error.raw_os_error() {
                Some(code) if refused.contains(&code) => Ok(false),
                _ => Err(Error::io("link", from, error)),
            };
        }
        // Whoever made it may not have synced it.
        let file = disk.open(to, OpenMode::READ).map_err(|error| Error::io("open", to, error))?;
        file.sync_data().map_err(|error| Error::io("sync", to, error))?;
        Ok(true)
    }

    /// Makes tables part of the database, as one commit, unless `check` has an error: it is asked when nothing can be committed in between. The
    /// edit says what was done. After an error the tables are removed, unless the manifest may name them.
    pub(crate) fn install_from_outside<E: From<Error>>(
        &self,
        what: FromOutside,
        check: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<VersionEdit, E> {
        let FromOutside { tables, ranges, made } = &what;
        let remove = || remove_all(&*self.environment.disk, made);
        let ready = self.flush_before(&what).and_then(|commit| {
            let next = self.new_generation(&commit, 0, 0)?;
            self.wal.sync(self.wal.appended_lsn()).map_err(|error| self.fail(error))?;
            Ok((commit, next))
        });
        let (mut commit, next) = ready.inspect_err(|_| remove())?;
        let mut written = tables.iter().map(|(id, _)| id).chain(ranges.iter().map(|(id, _)| id));
        if let Some(id) = written.find(|id| commit.dropped.contains(id)) {
            remove();
            return Err(self.dropped(*id).into());
        }
        check().inspect_err(|_| remove())?;
        // Range deletes come before the entries. Their numbers are taken also if the manifest fails: there may be holes, but none is given out twice.
        let ranged = commit.sequence + u64::from(!ranges.is_empty());
        let sequence = ranged + 1;
        assert!(sequence <= SEQUENCE_MAX, "56 bits of sequence numbers are used up");
        commit.sequence = sequence;
        let mut versions = self.versions.lock();
        let mut edit = VersionEdit {
            last_sequence: Some(sequence),
            promised: Some(self.wal.durable_lsn()),
            next_file: Some(self.jobs.next_file.load(Ordering::Relaxed)),
            ..VersionEdit::default()
        };
        for (id, info) in tables {
            let state = versions.live(*id);
            let level = state.map_or(0, |KeyspaceState { shape, record, .. }| {
                level_for(shape, &record.options, &info.smallest, &info.largest)
            });
            edit.added.push((*id, level as u8, info.clone().written_at(sequence)));
        }
        let at = |range: &RangeDelete| RangeDelete { sequence: ranged, ..range.clone() };
        edit.range_deletes.extend(ranges.iter().map(|(id, range)| (*id, at(range))));
        versions.note_outside(next.number());
        let kept = match &self.changes {
            Some(changes) => {
                let mut told = Vec::new();
                for (id, info) in tables {
                    put_ingested(&mut told, *id, &info.smallest, &info.largest);
                }
                let written = changes.write_ingest(sequence, &told);
                let void = || changes.append_void(sequence);
                Some(written.inspect_err(|_| remove()).inspect_err(|_| void())?)
            }
            None => None,
        };
        let unfollowed = || self.unfollowed(&versions).map(|_| sequence);
        edit.changes = kept.map(|(_, kept)| kept.last).or_else(unfollowed);
        let installed = self.install_under(&mut versions, &edit, |view, shapes| View {
            active: Arc::clone(&next),
            frozen: view.frozen.clone(),
            shapes,
        });
        if let Err(error @ Error::NoSpace { .. }) = installed {
            // The manifest does not say so: neither may the change log.
            let path = kept.map(|(first, _)| name::changes(&self.directory, first));
            remove_all(&*self.environment.disk, path.as_slice());
            self.changes.iter().for_each(|changes| changes.append_void(sequence));
            return Err(error.into());
        }
        installed?;
        if let (Some(changes), Some(kept)) = (&self.changes, kept) {
            changes.ingested(kept);
        }
        self.changes.iter().for_each(|changes| changes.replace(next.number()));
        commit.active = next;
        commit.active_since = sequence;
        self.current.publish(sequence);
        // Not before: a compaction that took the tables while nobody can see them would keep nothing for those who see what was before.
        drop(versions);
        drop(commit);
        self.changes.iter().for_each(|changes| changes.tell());
        // There may be compactions to do.
        self.schedule.wake();
        Ok(edit)
    }

    fn is_met(&self, what: &FromOutside) -> Result<bool> {
        let view = self.current.view_full();
        let mut generations = view.generations();
        generations.try_fold(false, |found, held| Ok(found || what.meets(held)?))
    }

    /// Freezes the active generation, and waits until nothing that the tables replace is in memory. Returns with the lock held.
    fn flush_before(&self, what: &FromOutside) -> Result<MutexGuard<'_, Commit>> {
        // Most of what there is to flush is flushed while others still write. With a change log that is all there is: which of its files count
        // is said by the newest number that does, and no older one may be missing then.
        let flushes_all = self.changes.is_some();
        if flushes_all || self.is_met(what)? {
            self.flush_all()?;
        }
        let mut commit = self.commit.lock();
        loop {
            self.check_writable()?;
            if !commit.active.is_empty() {
                if (self.schedule.frozen_count() as u64) < MEMTABLE_COUNT_MAX - 1 {
                    self.freeze(&mut commit, 0, 0)?;
                } else {
                    commit = self.wait_for_flush(commit)?;
                }
                continue;
            }
            let mut state = self.schedule.state.lock();
            let mut frozen = state.frozen.iter();
            let is_met = |held: &Frozen| Ok(flushes_all || what.meets(&held.generation)?);
            if !frozen.try_fold(false, |found, held| Ok::<_, Error>(found || is_met(held)?))? {
                drop(state);
                return Ok(commit);
            }
            if self.is_manual() {
                drop(state);
                drop(commit);
                self.flush_step()?;
                commit = self.commit.lock();
                continue;
            }
            // With the lock of the commits held: nobody writes to these keys again before the tables are in. A flush does not need it.
            if state.closing {
                return Err(Error::Closed);
            }
            if let Some(error) = &state.flush_error {
                return Err(error.clone());
            }
            self.schedule.done.wait_for(&mut state, LOOK_AGAIN);
        }
    }
}

/// What comes into the tables past the memtables. Its sequence numbers come last.
pub(crate) struct FromOutside {
    /// Disjoint in each keyspace.
    pub(crate) tables: Vec<(KeyspaceId, TableInfo)>,
    /// What they are written over.
    pub(crate) ranges: Vec<(KeyspaceId, RangeDelete)>,
    /// Files to be removed if nothing comes of it.
    pub(crate) made: Vec<PathBuf>,
}

impl FromOutside {
    /// True if a generation holds a key between the smallest and the largest of a table, or inside of a range; or any range delete of their
    /// keyspaces: a table says that range deletes up to its newest entry are in the manifest.
    fn meets(&self, generation: &Generation) -> Result<bool> {
        let tables = self.tables.iter();
        let tables = tables.map(|(id, info)| (*id, &info.smallest, Bound::Included(&info.largest)));
        let ranges = self.ranges.iter().map(|(id, range)| {
            let is_open = range.end.is_empty();
            (
                *id,
                &range.start,
                if is_open { Bound::Unbounded } else { Bound::Excluded(&range.end) },
            )
        });
        if planted(Bug::IngestUnderMemtable) {
            return Ok(false);
        }
        for (id, from, to) in tables.chain(ranges) {
            let Some(memtable) = generation.memtable(id) else { continue };
            if memtable.range_bytes() > 0 {
                return Ok(true);
            }
            if memtable.is_empty() {
                continue;
            }
            let mut cursor = memtable.cursor();
            cursor.seek(from, Tag::MAX)?;
            let is_inside = |key: &[u8]| match to {
                Bound::Included(last) => key <= &last[..],
                Bound::Excluded(end) => key < &end[..],
                Bound::Unbounded => true,
            };
            if cursor.valid() && is_inside(cursor.key()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

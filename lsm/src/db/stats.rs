//! What the database has done and holds, for people and for db_bench.

use crate::base::error::Error;
use crate::base::key::KeyspaceId;
use crate::base::limits::LEVEL_COUNT;
use crate::db::engine::Engine;
use crate::job::counters::LevelWork;
use crate::job::pick;
use crate::mem::budget::Use;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters of the write path.
#[derive(Debug, Default)]
pub(crate) struct WriteCounters {
    operations: AtomicU64,
    bytes: AtomicU64,
    stalled_nanos: AtomicU64,
    stalls: AtomicU64,
    ingested_files: AtomicU64,
    ingested_bytes: AtomicU64,
}

impl WriteCounters {
    #[inline]
    pub(crate) fn add(&self, operations: u64, bytes: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn stalled(&self, time: Duration) {
        self.stalled_nanos.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        self.stalls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ingested(&self, files: u64, bytes: u64) {
        self.ingested_files.fetch_add(files, Ordering::Relaxed);
        self.ingested_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn reset(&self) {
        for counter in [
            &self.operations,
            &self.bytes,
            &self.stalled_nanos,
            &self.stalls,
            &self.ingested_files,
            &self.ingested_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Work at and state of one level.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LevelStats {
    /// 0 to 6.
    pub level: usize,
    /// Tables.
    pub files: u64,
    /// Bytes of the tables.
    pub bytes: u64,
    /// How much the level asks for compaction; 1 and more means that it gets some.
    pub score: f64,
    /// Flushes and compactions that wrote to this level.
    pub compactions: u64,
    /// Bytes they read from the levels above.
    pub read_bytes_upper: u64,
    /// Bytes they read from this level.
    pub read_bytes_lower: u64,
    /// Bytes they wrote.
    pub write_bytes: u64,
    /// Those of the compactions that only moved tables here, without reading them.
    pub moves: u64,
    /// Bytes that came to this level without being read or written.
    pub moved_bytes: u64,
    /// Their wall time.
    pub time: Duration,
    /// Their CPU time.
    pub cpu: Duration,
    /// Entries they read.
    pub keys_in: u64,
    /// Entries they dropped.
    pub keys_dropped: u64,
    /// Those of the dropped entries that were tombstones with nothing left to hide.
    pub tombstones_dropped: u64,
    /// Tombstones they wrote: something older may lie below, or a snapshot looks past them.
    pub tombstones_kept: u64,
    /// Older versions they wrote because a snapshot sees them: what snapshots cost.
    pub versions_kept: u64,
    /// Entries that a [compaction filter](crate::CompactionFilter) removed.
    pub filter_removed: u64,
    /// Entries that one changed.
    pub filter_replaced: u64,
}

/// One keyspace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Its levels, L0 first.
    pub levels: Vec<LevelStats>,
    /// Pieces of range deletes that tables still need; those in memtables do not count.
    pub range_deletes: usize,
}

/// A moment of a database; see [`Db::stats`](crate::Db::stats). Counters run from open or the last
/// [`Db::reset_stats`](crate::Db::reset_stats).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// The body of the I/O door in use, and why: "uring", or "posix: ..." with the reason.
    pub io_backend: String,
    /// Time since open.
    pub uptime: Duration,
    /// Puts and deletes.
    pub operations_written: u64,
    /// Bytes of keys and values (with their small headers) written by the user.
    pub user_bytes_written: u64,
    /// Files that were ingested.
    pub ingested_files: u64,
    /// Bytes of these.
    pub ingested_bytes: u64,
    /// Bytes appended to the WAL.
    pub wal_bytes: u64,
    /// Device syncs of the WAL.
    pub wal_syncs: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Flushed memtables.
    pub flush_count: u64,
    /// Bytes read by compactions.
    pub compaction_read_bytes: u64,
    /// Bytes written by compactions.
    pub compaction_write_bytes: u64,
    /// Compactions.
    pub compaction_count: u64,
    /// Bytes of the files of the change log.
    pub change_log_bytes: u64,
    /// Entries that stayed because a compaction filter failed on them.
    pub filter_failures: u64,
    /// Compactions that were done again without their filter, for a snapshot that had been taken meanwhile.
    pub filter_redone: u64,
    /// Time that writers were held back: paced, or waiting for a free memtable.
    pub stall: Duration,
    /// How often.
    pub stall_count: u64,
    /// Nanoseconds of delay that a written byte costs now.
    pub pace_nanos_per_byte: f64,
    /// Bytes that compaction has to move to bring all levels into shape.
    pub debt_bytes: u64,
    /// Block reads that the cache answered.
    pub block_cache_hits: u64,
    /// Block reads that went to the file.
    pub block_cache_misses: u64,
    /// Bytes in the block cache.
    pub block_cache_bytes: u64,
    /// Bytes resident for memtables.
    pub memtable_bytes: u64,
    /// Bytes of filters and indexes in memory.
    pub table_metadata_bytes: u64,
    /// The memory knob.
    pub memory_limit: u64,
    /// The sum of what is charged to it.
    pub memory_used: u64,
    /// Live snapshots.
    pub snapshot_count: usize,
    /// The last background error, until the job succeeds.
    pub background_error: Option<Error>,
    /// All keyspaces.
    pub keyspaces: Vec<KeyspaceStats>,
}

impl Engine {
    pub(crate) fn stats(&self) -> Stats {
        let versions = self.versions.lock();
        let keyspaces: Vec<_> = versions
            .keyspaces()
            .iter()
            .filter(|keyspace| !keyspace.is_dropped)
            .map(|keyspace| {
                let work = self.counters.of(keyspace.record.id);
                let scores = pick::scores(&keyspace.shape, &keyspace.record.options);
                let level = |level: usize| {
                    let held = keyspace.shape.level(level);
                    level_stats(
                        level,
                        held.tables().len() as u64,
                        held.bytes(),
                        scores[level],
                        &work[level],
                    )
                };
                KeyspaceStats {
                    name: keyspace.record.name.clone(),
                    levels: (0..LEVEL_COUNT).map(level).collect(),
                    range_deletes: keyspace.shape.ranges().steps().count(),
                }
            })
            .collect();
        let work = versions.keyspaces().iter().flat_map(|k| self.counters.of(k.record.id));
        let (filter_failures, filter_redone) = work.fold((0, 0), |sum, level| {
            (sum.0 + level.filter_failures, sum.1 + level.filter_redone)
        });
        let debt_bytes =
            versions.keyspaces().iter().map(|k| pick::debt(&k.shape, &k.record.options)).sum();
        drop(versions);
        let flushes = keyspaces.iter().map(|keyspace| &keyspace.levels[0]);
        let (flush_bytes, flush_count) = flushes
            .fold((0, 0), |sum, level| (sum.0 + level.write_bytes, sum.1 + level.compactions));
        let merges = || keyspaces.iter().flat_map(|keyspace| &keyspace.levels[1..]);
        let wal = self.wal.stats();
        let (paced, pauses) = self.pacer.slept();
        let stalled = Duration::from_nanos(self.writes.stalled_nanos.load(Ordering::Relaxed));
        let memtable_bytes = self.arenas.resident_bytes() as u64;
        let (flush_error, compaction_error) = self.schedule.errors();
        let cache = &self.tables.cache;
        Stats {
            io_backend: self.environment.disk_reason.clone(),
            uptime: self.environment.clock.now().saturating_sub(self.opened_at),
            operations_written: self.writes.operations.load(Ordering::Relaxed),
            user_bytes_written: self.writes.bytes.load(Ordering::Relaxed),
            ingested_files: self.writes.ingested_files.load(Ordering::Relaxed),
            ingested_bytes: self.writes.ingested_bytes.load(Ordering::Relaxed),
            wal_bytes: wal.appended_bytes,
            wal_syncs: wal.syncs,
            flush_bytes,
            flush_count,
            compaction_read_bytes: merges().map(|l| l.read_bytes_upper + l.read_bytes_lower).sum(),
            compaction_write_bytes: merges().map(|level| level.write_bytes).sum(),
            compaction_count: merges().map(|level| level.compactions).sum(),
            change_log_bytes: self.changes.as_ref().map_or(0, |changes| changes.file_bytes()),
            filter_failures,
            filter_redone,
            stall: paced + stalled,
            stall_count: pauses + self.writes.stalls.load(Ordering::Relaxed),
            pace_nanos_per_byte: self.pacer.price_nanos(),
            debt_bytes,
            block_cache_hits: cache.hits(),
            block_cache_misses: cache.misses(),
            block_cache_bytes: cache.used_bytes(),
            memtable_bytes,
            table_metadata_bytes: self.budget.used(Use::TableMetadata),
            memory_limit: self.budget.limit(),
            memory_used: cache.used_bytes()
                + memtable_bytes
                + self.budget.used(Use::TableMetadata)
                + self.budget.used(Use::Jobs),
            snapshot_count: self.snapshots.count(),
            background_error: flush_error.or(compaction_error),
            keyspaces,
        }
    }

    pub(crate) fn reset_stats(&self) {
        self.writes.reset();
        self.counters.reset();
        self.pacer.reset();
        self.histograms.iter().for_each(|histograms| histograms.reset());
    }

    /// What a handle of a keyspace that is no more gets.
    #[cold]
    pub(crate) fn dropped(&self, id: KeyspaceId) -> Error {
        Error::KeyspaceDropped { name: self.keyspace_name(id) }
    }

    /// The name of a keyspace.
    pub(crate) fn keyspace_name(&self, id: KeyspaceId) -> String {
        let versions = self.versions.lock();
        versions.keyspaces().get(id.0 as usize).map_or_else(String::new, |k| k.record.name.clone())
    }
}

fn level_stats(level: usize, files: u64, bytes: u64, score: f64, work: &LevelWork) -> LevelStats {
    LevelStats {
        level,
        files,
        bytes,
        score,
        compactions: work.jobs,
        read_bytes_upper: work.read_upper_bytes,
        read_bytes_lower: work.read_lower_bytes,
        write_bytes: work.write_bytes,
        moves: work.moves,
        moved_bytes: work.moved_bytes,
        time: work.time,
        cpu: work.cpu,
        keys_in: work.keys_in,
        keys_dropped: work.keys_dropped,
        tombstones_dropped: work.tombstones_dropped,
        tombstones_kept: work.tombstones_kept,
        versions_kept: work.versions_kept,
        filter_removed: work.filter_removed,
        filter_replaced: work.filter_replaced,
    }
}

impl fmt::Display for Stats {
    /// The shape of every keyspace and what matters around it, for a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MIB: f64 = (1 << 20) as f64;
        let mib = |bytes: u64| bytes as f64 / MIB;
        writeln!(f, "io {}  uptime {:.1} s", self.io_backend, self.uptime.as_secs_f64())?;
        writeln!(
            f,
            "memory {:.1} of {:.1} MiB (cache {:.1}, memtables {:.1}, filters and indexes {:.1})",
            mib(self.memory_used),
            mib(self.memory_limit),
            mib(self.block_cache_bytes),
            mib(self.memtable_bytes),
            mib(self.table_metadata_bytes)
        )?;
        writeln!(
            f,
            "debt {:.1} MiB  delay {:.2} ns/byte  held back {:.3} s in {} pauses",
            mib(self.debt_bytes),
            self.pace_nanos_per_byte,
            self.stall.as_secs_f64(),
            self.stall_count
        )?;
        if let Some(error) = &self.background_error {
            writeln!(f, "background error: {error}")?;
        }
        for keyspace in &self.keyspaces {
            write!(f, "keyspace {:?}", keyspace.name)?;
            match keyspace.range_deletes {
                0 => writeln!(f)?,
                count => writeln!(f, "  {count} range deletes to apply")?,
            }
            for level in
                keyspace.levels.iter().filter(|level| level.files > 0 || level.write_bytes > 0)
            {
                writeln!(
                    f,
                    "  L{} {:>6} tables {:>10.1} MiB  score {:>5.2}  wrote {:>10.1} MiB in {} jobs",
                    level.level,
                    level.files,
                    mib(level.bytes),
                    level.score,
                    mib(level.write_bytes),
                    level.compactions
                )?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;
    use crate::{Db, Environment, Options};
    use std::sync::Arc;

    #[test]
    fn what_a_snapshot_costs_and_what_compaction_forgets_is_counted() {
        let environment = Environment::manual(Arc::new(SimDisk::new(1)));
        let db = Db::open_in(environment, "/db", Options::default()).unwrap();
        let last = |db: &Db| db.stats().keyspaces[0].levels[LEVEL_COUNT - 1].clone();
        db.put(b"kept", b"1").unwrap();
        db.put(b"gone", b"1").unwrap();
        let snapshot = db.snapshot();
        db.put(b"kept", b"2").unwrap();
        db.delete(b"gone").unwrap();
        db.compact().unwrap();
        let held = last(&db);
        assert_eq!((held.versions_kept, held.tombstones_kept, held.keys_dropped), (2, 1, 0));
        drop(snapshot);
        db.compact().unwrap();
        let free = last(&db);
        assert_eq!((free.versions_kept, free.tombstones_kept), (2, 1));
        // The old value of each key, and the tombstone.
        assert_eq!((free.keys_dropped, free.tombstones_dropped), (3, 1));
        db.put(b"other", b"1").unwrap();
        db.flush().unwrap();
        assert_eq!((last(&db).moves, last(&db).compactions), (0, 2));
    }
}

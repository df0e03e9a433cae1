//! What background work has done, by keyspace and level. Relaxed counters; read by the statistics only.

use crate::base::key::KeyspaceId;
use crate::base::limits::LEVEL_COUNT;
use crate::base::sync::Mutex;
use crate::format::table_info::TableInfo;
use std::collections::BTreeMap;
use std::time::Duration;

/// Work that ended at one level.
#[derive(Clone, Copy, Debug, Default)]
pub struct LevelWork {
    /// Flushes and compactions that wrote to this level.
    pub jobs: u64,
    /// Bytes read from the levels above.
    pub read_upper_bytes: u64,
    /// Bytes read from this level.
    pub read_lower_bytes: u64,
    /// Bytes written to this level.
    pub write_bytes: u64,
    /// Those of the jobs that only moved tables here by name.
    pub moves: u64,
    /// Bytes that came here by name, without being read.
    pub moved_bytes: u64,
    /// Wall time.
    pub time: Duration,
    /// CPU time of the thread that did it.
    pub cpu: Duration,
    /// Entries read.
    pub keys_in: u64,
    /// Entries that nobody could see any more.
    pub keys_dropped: u64,
    /// Those of the dropped entries that were tombstones with nothing left to hide.
    pub tombstones_dropped: u64,
    /// Tombstones that were written: something older may lie below them, or a snapshot looks past them.
    pub tombstones_kept: u64,
    /// Older versions that were written because a snapshot sees them.
    pub versions_kept: u64,
    /// Entries that a compaction filter removed.
    pub filter_removed: u64,
    /// Entries that a compaction filter changed.
    pub filter_replaced: u64,
    /// Entries that stayed because the filter failed.
    pub filter_failures: u64,
    /// Compactions that were done again without the filter, for a snapshot had been taken.
    pub filter_redone: u64,
}

impl LevelWork {
    /// Counts what the tables of a job hold.
    pub fn wrote(&mut self, tables: &[TableInfo]) {
        self.write_bytes += tables.iter().map(|info| info.file_bytes).sum::<u64>();
        self.tombstones_kept += tables.iter().map(|info| info.tombstone_count).sum::<u64>();
    }

    /// Takes entries that were counted as dropped back: they were written in another form.
    pub fn keys_written(&mut self, count: u64) {
        self.keys_dropped = self.keys_dropped.saturating_sub(count);
    }

    fn add(&mut self, other: &LevelWork) {
        self.jobs += other.jobs;
        self.read_upper_bytes += other.read_upper_bytes;
        self.read_lower_bytes += other.read_lower_bytes;
        self.write_bytes += other.write_bytes;
        self.moves += other.moves;
        self.moved_bytes += other.moved_bytes;
        self.time += other.time;
        self.cpu += other.cpu;
        self.keys_in += other.keys_in;
        self.keys_dropped += other.keys_dropped;
        self.tombstones_dropped += other.tombstones_dropped;
        self.tombstones_kept += other.tombstones_kept;
        self.versions_kept += other.versions_kept;
        self.filter_removed += other.filter_removed;
        self.filter_replaced += other.filter_replaced;
        self.filter_failures += other.filter_failures;
        self.filter_redone += other.filter_redone;
    }
}

/// All work of a database.
#[derive(Debug, Default)]
pub struct Counters {
    work: Mutex<BTreeMap<KeyspaceId, [LevelWork; LEVEL_COUNT]>>,
}

impl Counters {
    /// Adds a finished job.
    pub fn add(&self, keyspace: KeyspaceId, level: usize, work: &LevelWork) {
        self.work.lock().entry(keyspace).or_default()[level].add(work);
    }

    /// What was done for a keyspace so far.
    pub fn of(&self, keyspace: KeyspaceId) -> [LevelWork; LEVEL_COUNT] {
        self.work.lock().get(&keyspace).copied().unwrap_or_default()
    }

    /// Starts over.
    pub fn reset(&self) {
        self.work.lock().clear();
    }
}

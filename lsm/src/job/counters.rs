//! What background work has done, by keyspace and level. Relaxed counters; read by the statistics only.

use crate::base::key::KeyspaceId;
use crate::base::limits::LEVEL_COUNT;
use crate::base::sync::Mutex;
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
    /// Bytes that came here by name, without being read.
    pub moved_bytes: u64,
    /// Wall time.
    pub time: Duration,
    /// Entries read.
    pub keys_in: u64,
    /// Entries that nobody could see any more.
    pub keys_dropped: u64,
}

impl LevelWork {
    fn add(&mut self, other: &LevelWork) {
        self.jobs += other.jobs;
        self.read_upper_bytes += other.read_upper_bytes;
        self.read_lower_bytes += other.read_lower_bytes;
        self.write_bytes += other.write_bytes;
        self.moved_bytes += other.moved_bytes;
        self.time += other.time;
        self.keys_in += other.keys_in;
        self.keys_dropped += other.keys_dropped;
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

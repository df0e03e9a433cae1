//! fjall.

use super::{BACKGROUND_JOBS, BLOCK_BYTES, Engine, Outcome, SCAN_STEP, WRITE_BUFFER_BYTES};
use crate::data::Sink;
use crate::row::Setting;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::time::Duration;

pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("cache", "its block cache"),
    ("memtables", "64 MiB"),
    ("background", "2 worker threads"),
    ("compression", "none in L0, LZ4 below"),
    ("filters", "Bloom, 10 bits; none in the defaults"),
    ("blocks", "4 KiB, checksums verified (its default)"),
    ("cold", "has no direct reads: not run"),
    (
        "log",
        "flushed to the system by every write (its default); sync rows: persist(SyncData) after each",
    ),
    ("allocator", "mimalloc"),
];

/// How long `settle` waits for compactions that nobody announces.
const SETTLE_MAX: Duration = Duration::from_secs(120);

/// See the head of the file.
pub(crate) struct Fjall {
    db: Database,
    keyspace: Keyspace,
}

fn say(error: fjall::Error) -> String {
    format!("fjall: {error}")
}

impl Fjall {
    pub(crate) fn open(path: &Path, setting: Setting) -> Outcome<Fjall> {
        let db = Database::builder(path)
            .cache_size(setting.cache_bytes())
            .worker_threads(BACKGROUND_JOBS)
            .open()
            .map_err(say)?;
        let filters = match setting.filter_bits() {
            Some(bits) => FilterPolicy::all(FilterPolicyEntry::Bloom(
                BloomConstructionPolicy::BitsPerKey(f32::from(bits)),
            )),
            None => FilterPolicy::disabled(),
        };
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(WRITE_BUFFER_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                .data_block_compression_policy(CompressionPolicy::new([
                    CompressionType::None,
                    CompressionType::Lz4,
                ]))
                .filter_policy(filters)
        };
        let keyspace = db.keyspace("default", options).map_err(say)?;
        Ok(Fjall { db, keyspace })
    }
}

impl Engine for Fjall {
    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Outcome<()> {
        self.keyspace.insert(key, value).map_err(say)?;
        match sync {
            false => Ok(()),
            true => self.db.persist(PersistMode::SyncData).map_err(say),
        }
    }

    fn delete(&self, key: &[u8]) -> Outcome<()> {
        self.keyspace.remove(key).map_err(say)
    }

    fn delete_range(&self, _from: &[u8], _to: &[u8]) -> Outcome<()> {
        Err("fjall has no range deletes".to_owned())
    }

    fn get(&self, key: &[u8], sink: &mut Sink) -> Outcome<bool> {
        let value = self.keyspace.get(key).map_err(say)?;
        Ok(value.inspect(|value| sink.take(value)).is_some())
    }

    /// It has no such call: one get after the other.
    fn multi_get(&self, keys: &[&[u8]], sink: &mut Sink) -> Outcome<u64> {
        keys.iter().try_fold(0, |found, key| Ok(found + u64::from(self.get(key, sink)?)))
    }

    fn seek(&self, key: &[u8], nexts: usize, sink: &mut Sink) -> Outcome<u64> {
        let mut met = 0;
        for entry in self.keyspace.range(key..).take(nexts + 1) {
            let (key, value) = entry.into_inner().map_err(say)?;
            sink.take(&key);
            sink.take(&value);
            met += 1;
        }
        Ok(met)
    }

    fn scan(
        &self,
        backwards: bool,
        sink: &mut Sink,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome<u64> {
        let mut entries = self.keyspace.iter();
        let mut met = 0;
        while let Some(entry) = if backwards { entries.next_back() } else { entries.next() } {
            let (key, value) = entry.into_inner().map_err(say)?;
            sink.take(&key);
            sink.take(&value);
            met += 1;
            if met % SCAN_STEP == 0 && !go_on() {
                break;
            }
        }
        Ok(met)
    }

    fn settle(&self) -> Outcome<()> {
        self.keyspace.rotate_memtable_and_wait().map_err(say)?;
        // It says how many compactions run, not how many are due: quiet for a while is settled.
        let mut quiet = Duration::ZERO;
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(50);
        while quiet < Duration::from_millis(500) && waited < SETTLE_MAX {
            std::thread::sleep(step);
            waited += step;
            let busy = self.db.active_compactions() > 0 || self.db.outstanding_flushes() > 0;
            quiet = if busy { Duration::ZERO } else { quiet + step };
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.db.persist(PersistMode::SyncData).map_err(say)
    }
}

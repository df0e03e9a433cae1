//! Treering.

use super::executor::run_many;
use super::{BACKGROUND_JOBS, BLOCK_BYTES, Engine, Outcome, SCAN_STEP, WRITE_BUFFER_BYTES};
use crate::data::Sink;
use crate::row::Setting;
use std::path::Path;
use treering_lsm as lsm;

pub(crate) const SETTINGS: &[(&str, &str)] = &[
    (
        "cache",
        "memory_limit = cache + 3 memtables of 64 MiB + 64 MiB; what the rest leaves is the block cache",
    ),
    ("memtables", "64 MiB each, at most 3"),
    ("background", "2 jobs, and a thread that drains the log"),
    ("compression", "none in L0, LZ4 below"),
    ("filters", "blocked Bloom, 10 bits; none in the defaults"),
    ("blocks", "4 KiB, checksums verified"),
    ("cold", "direct_io for reads, flushes and compactions"),
    ("log", "Buffered: survives the death of the process; sync rows: Sync"),
    ("allocator", "mimalloc"),
];

/// See the head of the file.
pub(crate) struct Treering {
    db: lsm::Db,
    keyspace: lsm::Keyspace,
}

fn say(error: lsm::Error) -> String {
    format!("treering: {error}")
}

impl Treering {
    pub(crate) fn open(path: &Path, setting: Setting) -> Outcome<Treering> {
        let mut options = lsm::Options::default();
        options.memory_limit = setting.cache_bytes() + 3 * WRITE_BUFFER_BYTES + (64 << 20);
        options.write_buffer_bytes = Some(WRITE_BUFFER_BYTES);
        options.background_jobs = Some(BACKGROUND_JOBS);
        options.direct_io = setting.direct();
        options.default_keyspace.block_bytes = BLOCK_BYTES;
        options.default_keyspace.filter = match setting.filter_bits() {
            Some(bits) => lsm::FilterPolicy::Blocked { bits },
            None => lsm::FilterPolicy::None,
        };
        let db = lsm::Db::open(path, options).map_err(say)?;
        let keyspace = db.default_keyspace().clone();
        Ok(Treering { db, keyspace })
    }
}

impl Engine for Treering {
    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Outcome<()> {
        match sync {
            false => self.keyspace.put(key, value),
            true => self.keyspace.put_with(key, value, &lsm::WriteOptions::sync()),
        }
        .map_err(say)
    }

    fn delete(&self, key: &[u8]) -> Outcome<()> {
        self.keyspace.delete(key).map_err(say)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        self.keyspace.delete_range(from..to).map_err(say)
    }

    fn get(&self, key: &[u8], sink: &mut Sink) -> Outcome<bool> {
        let value = self.keyspace.get(key).map_err(say)?;
        Ok(value.inspect(|value| sink.take(value)).is_some())
    }

    fn multi_get(&self, keys: &[&[u8]], sink: &mut Sink) -> Outcome<u64> {
        let mut found = 0;
        for value in self.keyspace.multi_get(keys, &lsm::ReadOptions::default()) {
            if let Some(value) = value.map_err(say)? {
                sink.take(&value);
                found += 1;
            }
        }
        Ok(found)
    }

    fn seek(&self, key: &[u8], nexts: usize, sink: &mut Sink) -> Outcome<u64> {
        let mut cursor = self.keyspace.cursor(&lsm::ReadOptions::default()).map_err(say)?;
        cursor.seek(key).map_err(say)?;
        let mut met = 0;
        while cursor.valid() && met <= nexts as u64 {
            sink.take(cursor.key());
            sink.take(cursor.value());
            met += 1;
            if met <= nexts as u64 {
                cursor.next().map_err(say)?;
            }
        }
        Ok(met)
    }

    fn scan(
        &self,
        backwards: bool,
        sink: &mut Sink,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome<u64> {
        let mut cursor = self.keyspace.cursor(&lsm::ReadOptions::default()).map_err(say)?;
        match backwards {
            false => cursor.seek_to_first().map_err(say)?,
            true => cursor.seek_to_last().map_err(say)?,
        };
        let mut met = 0;
        while cursor.valid() {
            sink.take(cursor.key());
            sink.take(cursor.value());
            met += 1;
            if met % SCAN_STEP == 0 && !go_on() {
                break;
            }
            match backwards {
                false => cursor.next().map_err(say)?,
                true => cursor.prev().map_err(say)?,
            };
        }
        Ok(met)
    }

    fn read_async(
        &self,
        in_flight: usize,
        next_key: &mut dyn FnMut() -> Option<[u8; 16]>,
        sink: &mut Sink,
    ) -> Outcome<(u64, u64)> {
        let options = lsm::ReadOptions::default();
        let (mut gets, mut found) = (0, 0);
        let mut failed = Ok(());
        run_many(
            in_flight,
            || next_key().map(|key| self.keyspace.get_async(&key, &options)),
            |answer| {
                gets += 1;
                match answer {
                    Ok(Some(value)) => {
                        sink.take(&value);
                        found += 1;
                    }
                    Ok(None) => {}
                    Err(error) => failed = Err(say(error)),
                }
            },
        );
        failed.map(|()| (gets, found))
    }

    fn settle(&self) -> Outcome<()> {
        self.db.flush().and_then(|()| self.db.wait_for_compactions()).map_err(say)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        drop(self.keyspace);
        self.db.close().map_err(say)
    }
}

//! RocksDB, as the crate `rocksdb` builds it.

use super::{BACKGROUND_JOBS, BLOCK_BYTES, Engine, Outcome, SCAN_STEP, WRITE_BUFFER_BYTES};
use crate::data::Sink;
use crate::row::Setting;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, Options, ReadOptions,
    WaitForCompactOptions, WriteOptions,
};
use std::path::Path;

pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("cache", "LRU block cache"),
    ("memtables", "64 MiB each, at most 2 (its default)"),
    ("background", "max_background_jobs = 2"),
    ("compression", "none in L0, LZ4 below; dynamic level sizes (its default)"),
    ("filters", "full Bloom, 10 bits; none in the defaults"),
    ("blocks", "4 KiB, checksums verified (its default)"),
    (
        "cold",
        "use_direct_reads, use_direct_io_for_flush_and_compaction; multi_get with async_io (built without io_uring, as the crate is)",
    ),
    ("log", "WAL on, not synced: survives the death of the process; sync rows: sync = true"),
    ("allocator", "glibc's"),
];

/// See the head of the file.
pub(crate) struct Rocks {
    db: DB,
    many: ReadOptions,
}

fn say(error: rocksdb::Error) -> String {
    format!("rocksdb: {error}")
}

impl Rocks {
    pub(crate) fn open(path: &Path, setting: Setting) -> Outcome<Rocks> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(WRITE_BUFFER_BYTES as usize);
        options.set_max_background_jobs(BACKGROUND_JOBS as i32);
        let mut levels = [DBCompressionType::Lz4; 7];
        levels[0] = DBCompressionType::None;
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_compression_per_level(&levels);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_size(BLOCK_BYTES as usize);
        blocks.set_block_cache(&Cache::new_lru_cache(setting.cache_bytes() as usize));
        if let Some(bits) = setting.filter_bits() {
            blocks.set_bloom_filter(f64::from(bits), false);
        }
        options.set_block_based_table_factory(&blocks);
        options.set_use_direct_reads(setting.direct());
        options.set_use_direct_io_for_flush_and_compaction(setting.direct());
        // With its options given by name: a plain open of a database that has column families takes the defaults for them.
        let family = ColumnFamilyDescriptor::new("default", options.clone());
        let db = DB::open_cf_descriptors(&options, path, [family]).map_err(say)?;
        let mut many = ReadOptions::default();
        many.set_async_io(setting.direct());
        Ok(Rocks { db, many })
    }
}

impl Engine for Rocks {
    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Outcome<()> {
        match sync {
            false => self.db.put(key, value),
            true => {
                let mut options = WriteOptions::default();
                options.set_sync(true);
                self.db.put_opt(key, value, &options)
            }
        }
        .map_err(say)
    }

    fn delete(&self, key: &[u8]) -> Outcome<()> {
        self.db.delete(key).map_err(say)
    }

    fn delete_range(&self, from: &[u8], to: &[u8]) -> Outcome<()> {
        let family = self.db.cf_handle("default").ok_or("rocksdb: no default column family")?;
        self.db.delete_range_cf(family, from, to).map_err(say)
    }

    fn get(&self, key: &[u8], sink: &mut Sink) -> Outcome<bool> {
        let value = self.db.get_pinned(key).map_err(say)?;
        Ok(value.inspect(|value| sink.take(value)).is_some())
    }

    fn multi_get(&self, keys: &[&[u8]], sink: &mut Sink) -> Outcome<u64> {
        let family = self.db.cf_handle("default").ok_or("rocksdb: no default column family")?;
        let mut found = 0;
        let values =
            self.db.batched_multi_get_cf_opt(family, keys.iter().copied(), false, &self.many);
        for value in values {
            if let Some(value) = value.map_err(say)? {
                sink.take(&value);
                found += 1;
            }
        }
        Ok(found)
    }

    fn seek(&self, key: &[u8], nexts: usize, sink: &mut Sink) -> Outcome<u64> {
        let mut cursor = self.db.raw_iterator();
        cursor.seek(key);
        let mut met = 0;
        while met <= nexts as u64 {
            let Some((key, value)) = cursor.item() else { break };
            sink.take(key);
            sink.take(value);
            met += 1;
            if met <= nexts as u64 {
                cursor.next();
            }
        }
        cursor.status().map_err(say)?;
        Ok(met)
    }

    fn scan(
        &self,
        backwards: bool,
        sink: &mut Sink,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome<u64> {
        let mut cursor = self.db.raw_iterator();
        if backwards {
            cursor.seek_to_last()
        } else {
            cursor.seek_to_first()
        }
        let mut met = 0;
        while let Some((key, value)) = cursor.item() {
            sink.take(key);
            sink.take(value);
            met += 1;
            if met % SCAN_STEP == 0 && !go_on() {
                break;
            }
            if backwards { cursor.prev() } else { cursor.next() }
        }
        cursor.status().map_err(say)?;
        Ok(met)
    }

    fn settle(&self) -> Outcome<()> {
        self.db.flush().map_err(say)?;
        self.db.wait_for_compact(&WaitForCompactOptions::default()).map_err(say)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

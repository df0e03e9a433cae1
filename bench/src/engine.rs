//! The one door to the engine: only this file imports its types and options.
//!
//! It turns flags into the engine's options, looks at a directory before anything in it is destroyed, and gives the
//! workloads the few calls that they measure, each a plain forward.

use crate::flags::{Codec, Filter, Io, Settings, Tuning};
use std::path::Path;
use std::time::Duration;
use treering_lsm as lsm;

pub(crate) use lsm::{Cursor, PinnedSlice, ReadOptions, Snapshot, WriteBatch};

/// An error of the engine, as one line.
pub(crate) type Failure = String;

/// What stands in a directory.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Directory {
    /// Nothing, or no such directory.
    Empty,
    /// A Treering database and nothing else.
    Database,
}

/// Looks at `path` without touching it.
///
/// # Errors
/// Something there is not of Treering: a run must not build or destroy a database beside it.
pub(crate) fn look(path: &Path) -> Result<Directory, Failure> {
    let cannot =
        |error: std::io::Error| format!("--db={}: cannot be read: {error}", path.display());
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Directory::Empty),
        Err(error) => return Err(cannot(error)),
    };
    let mut found = Directory::Empty;
    for entry in entries {
        let name = entry.map_err(cannot)?.file_name();
        let name = name.to_string_lossy();
        let kind = lsm::file::name::parse(&name);
        if kind == Some(lsm::file::name::FileKind::Notes) {
            continue;
        }
        if kind.is_none() {
            return Err(format!(
                "--db={}: holds {name:?}, which is not of Treering; choose an empty directory",
                path.display()
            ));
        }
        found = Directory::Database;
    }
    Ok(found)
}

/// Removes the database in `path`, and nothing else.
pub(crate) fn destroy(path: &Path) -> Result<(), Failure> {
    if look(path)? == Directory::Database {
        lsm::Db::destroy(path).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// An open database.
pub(crate) struct Engine {
    db: lsm::Db,
    keyspace: lsm::Keyspace,
}

impl Engine {
    /// Opens or makes the database of a run.
    pub(crate) fn open(settings: &Settings) -> Result<Engine, Failure> {
        // Parent directories of the default place may be missing; the database's own directory is the engine's to make.
        if let Some(parent) = settings.directory.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| format!("--db={}: {error}", settings.directory.display()))?;
        }
        let mut options = options(&settings.tuning);
        options.create_if_missing = settings.create_if_missing;
        let db = lsm::Db::open(&settings.directory, options).map_err(say)?;
        let keyspace = db.default_keyspace().clone();
        Ok(Engine { db, keyspace })
    }

    /// Closes the database; everything acknowledged is then in its files.
    pub(crate) fn close(self) -> Result<(), Failure> {
        drop(self.keyspace);
        self.db.close().map_err(say)
    }

    #[inline]
    pub(crate) fn put(&self, key: &[u8], value: &[u8], writes: &Writes) -> Result<(), Failure> {
        self.keyspace.put_with(key, value, &writes.0).map_err(say)
    }

    #[inline]
    pub(crate) fn delete(&self, key: &[u8], writes: &Writes) -> Result<(), Failure> {
        self.keyspace.delete_with(key, &writes.0).map_err(say)
    }

    #[inline]
    pub(crate) fn batch_put(
        &self,
        batch: &mut WriteBatch,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), Failure> {
        batch.put(&self.keyspace, key, value).map_err(say)
    }

    #[inline]
    pub(crate) fn batch_delete(&self, batch: &mut WriteBatch, key: &[u8]) -> Result<(), Failure> {
        batch.delete(&self.keyspace, key).map_err(say)
    }

    #[inline]
    pub(crate) fn write(&self, batch: &WriteBatch, writes: &Writes) -> Result<(), Failure> {
        self.db.write(batch, &writes.0).map_err(say)
    }

    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<PinnedSlice>, Failure> {
        self.keyspace.get(key).map_err(say)
    }

    /// Values of many keys at once; `found` receives each value that there is.
    #[inline]
    pub(crate) fn multi_get(
        &self,
        keys: &[&[u8]],
        options: &ReadOptions,
        mut found: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Failure> {
        let values = self.keyspace.multi_get(keys, options);
        for (key, value) in keys.iter().zip(values) {
            if let Some(value) = value.map_err(say)? {
                found(key, &value);
            }
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn cursor(&self, options: &ReadOptions) -> Result<Cursor, Failure> {
        self.keyspace.cursor(options).map_err(say)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.db.flush().map_err(say)
    }

    pub(crate) fn compact(&self) -> Result<(), Failure> {
        self.db.compact().map_err(say)
    }

    pub(crate) fn wait_for_compactions(&self) -> Result<(), Failure> {
        self.db.wait_for_compactions().map_err(say)
    }

    /// Reads every table from its file and checks every checksum.
    pub(crate) fn verify_tables(&self) -> Result<(), Failure> {
        self.db.verify().map_err(say)
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats::from(self.db.stats())
    }

    pub(crate) fn reset_stats(&self) {
        self.db.reset_stats();
    }
}

/// The figures of the engine that are printed; empty by default, so that a first print has something to compare with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) io_backend: String,
    pub(crate) uptime: Duration,
    pub(crate) keys_written: u64,
    pub(crate) user_bytes_written: u64,
    pub(crate) wal_bytes: u64,
    pub(crate) wal_syncs: u64,
    pub(crate) flush_bytes: u64,
    pub(crate) flush_count: u64,
    pub(crate) compaction_read_bytes: u64,
    pub(crate) compaction_write_bytes: u64,
    pub(crate) compaction_count: u64,
    pub(crate) stall: Duration,
    pub(crate) stall_count: u64,
    pub(crate) debt_bytes: u64,
    pub(crate) block_cache_hits: u64,
    pub(crate) block_cache_misses: u64,
    pub(crate) block_cache_bytes: u64,
    pub(crate) memtable_bytes: u64,
    pub(crate) table_metadata_bytes: u64,
    pub(crate) memory_limit: u64,
    pub(crate) memory_used: u64,
    pub(crate) snapshot_count: u64,
    pub(crate) keyspaces: Vec<KeyspaceStats>,
}

/// One keyspace's levels.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyspaceStats {
    pub(crate) name: String,
    pub(crate) levels: Vec<LevelStats>,
}

/// State of a level and the work that was done for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LevelStats {
    pub(crate) level: usize,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) score: f64,
    pub(crate) compactions: u64,
    pub(crate) read_bytes_upper: u64,
    pub(crate) read_bytes_lower: u64,
    pub(crate) write_bytes: u64,
    pub(crate) moved_bytes: u64,
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    pub(crate) keys_in: u64,
    pub(crate) keys_dropped: u64,
}

impl From<lsm::Stats> for Stats {
    fn from(stats: lsm::Stats) -> Stats {
        let level = |level: lsm::LevelStats| LevelStats {
            level: level.level,
            files: level.files,
            bytes: level.bytes,
            score: level.score,
            compactions: level.compactions,
            read_bytes_upper: level.read_bytes_upper,
            read_bytes_lower: level.read_bytes_lower,
            write_bytes: level.write_bytes,
            moved_bytes: level.moved_bytes,
            time: level.time,
            cpu: level.cpu,
            keys_in: level.keys_in,
            keys_dropped: level.keys_dropped,
        };
        let keyspace = |keyspace: lsm::KeyspaceStats| KeyspaceStats {
            name: keyspace.name,
            levels: keyspace.levels.into_iter().map(level).collect(),
        };
        Stats {
            io_backend: stats.io_backend,
            uptime: stats.uptime,
            keys_written: stats.operations_written,
            user_bytes_written: stats.user_bytes_written,
            wal_bytes: stats.wal_bytes,
            wal_syncs: stats.wal_syncs,
            flush_bytes: stats.flush_bytes,
            flush_count: stats.flush_count,
            compaction_read_bytes: stats.compaction_read_bytes,
            compaction_write_bytes: stats.compaction_write_bytes,
            compaction_count: stats.compaction_count,
            stall: stats.stall,
            stall_count: stats.stall_count,
            debt_bytes: stats.debt_bytes,
            block_cache_hits: stats.block_cache_hits,
            block_cache_misses: stats.block_cache_misses,
            block_cache_bytes: stats.block_cache_bytes,
            memtable_bytes: stats.memtable_bytes,
            table_metadata_bytes: stats.table_metadata_bytes,
            memory_limit: stats.memory_limit,
            memory_used: stats.memory_used,
            snapshot_count: stats.snapshot_count as u64,
            keyspaces: stats.keyspaces.into_iter().map(keyspace).collect(),
        }
    }
}

/// The engine's error as one line.
#[cold]
pub(crate) fn say(error: lsm::Error) -> Failure {
    error.to_string()
}

/// How the writes of a benchmark are made.
pub(crate) struct Writes(lsm::WriteOptions);

impl Writes {
    /// Synced, without a log, or the default.
    pub(crate) fn new(sync: bool, disable_wal: bool) -> Writes {
        let durability = match (sync, disable_wal) {
            (_, true) => lsm::Durability::None,
            (true, false) => lsm::Durability::Sync,
            (false, false) => lsm::Durability::Buffered,
        };
        Writes(lsm::WriteOptions { durability: Some(durability) })
    }
}

/// Checks the tuning as the engine will, before any file is touched.
pub(crate) fn check(tuning: &Tuning) -> Result<(), Failure> {
    options(tuning).validate().map_err(say)
}

fn options(tuning: &Tuning) -> lsm::Options {
    let mut keyspace = lsm::KeyspaceOptions::default();
    keyspace.block_bytes = tuning.block_bytes;
    let codec = match tuning.codec {
        Codec::None => lsm::Compression::None,
        Codec::Lz4 => lsm::Compression::Lz4,
        Codec::Zstd => lsm::Compression::Zstd,
    };
    for (level, compression) in keyspace.compression.iter_mut().enumerate() {
        let is_compressed = level >= tuning.first_compressed_level;
        *compression = if is_compressed { codec } else { lsm::Compression::None };
    }
    keyspace.filter = match tuning.filter {
        Filter::None => lsm::FilterPolicy::None,
        Filter::Blocked(bits) => lsm::FilterPolicy::Blocked { bits },
        Filter::Standard(bits) => lsm::FilterPolicy::Standard { bits },
    };
    keyspace.table_bytes = tuning.table_bytes;
    keyspace.level_base_bytes = tuning.level_base_bytes;
    keyspace.level_fanout = tuning.level_fanout;
    keyspace.level0_tables = tuning.level0_tables;
    let mut options = lsm::Options::default();
    options.memory_limit = tuning.memory_limit;
    options.write_buffer_bytes = Some(tuning.write_buffer_bytes);
    options.background_jobs = Some(tuning.jobs);
    options.io = match tuning.io {
        Io::Auto => lsm::IoChoice::Auto,
        Io::Uring => lsm::IoChoice::Uring,
        Io::Posix => lsm::IoChoice::Posix,
    };
    options.direct_io = tuning.direct_io;
    options.default_keyspace = keyspace;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_somebody_else_is_never_destroyed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(look(&path.join("missing")), Ok(Directory::Empty));
        assert_eq!(look(path), Ok(Directory::Empty));
        std::fs::write(path.join("CURRENT"), "").unwrap();
        assert_eq!(look(path), Ok(Directory::Database));
        std::fs::write(path.join("thesis.tex"), "years of work").unwrap();
        assert!(look(path).unwrap_err().contains("\"thesis.tex\", which is not of Treering"));
        assert!(destroy(path).is_err());
        assert!(path.join("thesis.tex").exists());
    }
}

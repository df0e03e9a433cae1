//! The engines behind one trait.

mod executor;
mod fjall;
mod rocksdb;
mod treering;

use crate::data::Sink;
use crate::row::Setting;
use std::path::Path;

pub(crate) type Outcome<T> = Result<T, String>;

/// Names of the engines, ours first.
pub(crate) const NAMES: [&str; 3] = ["treering", "rocksdb", "fjall"];

/// Bytes of a memtable, for all engines.
pub(crate) const WRITE_BUFFER_BYTES: u64 = 64 << 20;
/// Background threads or jobs, for all engines.
pub(crate) const BACKGROUND_JOBS: usize = 2;
/// Bytes of a block, for all engines.
pub(crate) const BLOCK_BYTES: u32 = 4 << 10;

/// What the rows need. Every call forwards to the engine's fastest public call for it.
pub(crate) trait Engine: Send + Sync {
    /// Writes; with `sync` it is on the device before the return, else it survives the death of the process.
    fn put(&self, key: &[u8], value: &[u8], sync: bool) -> Outcome<()>;
    fn delete(&self, key: &[u8]) -> Outcome<()>;
    /// Deletes the keys from `from` to before `to`.
    fn delete_range(&self, from: &[u8], to: &[u8]) -> Outcome<()>;
    /// Gives the value to `sink`; false if there is none.
    fn get(&self, key: &[u8], sink: &mut Sink) -> Outcome<bool>;
    /// As many gets; returns how many were found.
    fn multi_get(&self, keys: &[&[u8]], sink: &mut Sink) -> Outcome<u64>;
    /// A new cursor, a seek and up to `nexts` steps; returns the entries met.
    fn seek(&self, key: &[u8], nexts: usize, sink: &mut Sink) -> Outcome<u64>;
    /// Reads on from one end until `go_on`, asked now and then, says no; returns the entries met.
    fn scan(
        &self,
        backwards: bool,
        sink: &mut Sink,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Outcome<u64>;
    /// Gets of one thread with so many in flight until `next_key` has no more; returns gets and found ones.
    fn read_async(
        &self,
        in_flight: usize,
        next_key: &mut dyn FnMut() -> Option<[u8; 16]>,
        sink: &mut Sink,
    ) -> Outcome<(u64, u64)> {
        let _ = (in_flight, next_key, sink);
        Err("this engine has no asynchronous reads".to_owned())
    }
    /// Writes the memtables out and waits for the compactions that are due.
    fn settle(&self) -> Outcome<()>;
    fn close(self: Box<Self>) -> Outcome<()>;
}

/// Opens or makes a database.
pub(crate) fn open(name: &str, path: &Path, setting: Setting) -> Outcome<Box<dyn Engine>> {
    std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match name {
        "treering" => Ok(Box::new(treering::Treering::open(path, setting)?)),
        "rocksdb" => Ok(Box::new(rocksdb::Rocks::open(path, setting)?)),
        "fjall" => Ok(Box::new(fjall::Fjall::open(path, setting)?)),
        other => Err(format!("no engine is named {other:?}; there are {}", NAMES.join(", "))),
    }
}

/// What an engine is set to, as the report shows it.
pub(crate) fn settings(name: &str) -> Vec<(&'static str, &'static str)> {
    match name {
        "treering" => treering::SETTINGS.to_vec(),
        "rocksdb" => rocksdb::SETTINGS.to_vec(),
        _ => fjall::SETTINGS.to_vec(),
    }
}

/// Asks `go_on` once per so many entries.
pub(crate) const SCAN_STEP: u64 = 4096;

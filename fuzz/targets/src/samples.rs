//! Valid bytes for the seeds, made by the engine itself: tables, and databases that were closed or killed.

use crate::archive::{DIRECTORY, Files, files_of};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::key::{KeyspaceId, Kind, Tag};
use treering_lsm::base::random::Random;
use treering_lsm::file::table_writer::{TableSpec, TableWriter};
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, read_whole};
use treering_lsm::{
    Compression, Db, Durability, Environment, FilterPolicy, KeyspaceOptions, Options, Result,
    WriteBatch, WriteOptions,
};

/// The keyspaces of a database.
pub(crate) const NAMES: [&str; 2] = ["default", "other"];

/// Limits so small that a few writes fill several levels.
pub(crate) fn tiny_options() -> Options {
    let mut keyspace = KeyspaceOptions::default();
    keyspace.block_bytes = 1 << 10;
    keyspace.table_bytes = 16 << 10;
    keyspace.level_base_bytes = 16 << 10;
    keyspace.level_fanout = 2;
    keyspace.level0_tables = 2;
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.write_buffer_bytes = Some(16 << 10);
    options.default_keyspace = keyspace;
    options
}

/// Options of a second keyspace, different in all that may differ.
pub(crate) fn other_options() -> KeyspaceOptions {
    let mut keyspace = tiny_options().default_keyspace;
    keyspace.compression = [Compression::Zstd; 7];
    keyspace.filter = FilterPolicy::Standard { bits: 10 };
    keyspace.block_bytes = 4 << 10;
    keyspace
}

/// Opens the database on `disk`, without threads and with simulated time.
pub(crate) fn open(disk: &SimDisk) -> Result<Db> {
    let disk: Arc<SimDisk> = Arc::new(disk.clone());
    Db::open_in(Environment::manual(disk), DIRECTORY, tiny_options())
}

/// Keys as users have them: shared prefixes, several lengths.
pub(crate) fn keys(count: usize) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|i| match i % 3 {
            0 => format!("user{i:05}").into_bytes(),
            1 => format!("u{i}").into_bytes(),
            _ => format!("user{:05}/name", i / 2).into_bytes(),
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// Entries in the order of tables: some keys with several versions, some tombstones.
pub(crate) fn entries(count: usize) -> Vec<(Vec<u8>, Tag, Vec<u8>)> {
    let mut random = Random::new(count as u64);
    let mut entries = Vec::new();
    for key in keys(count) {
        for version in (0..=random.below(3)).rev() {
            let kind = if random.one_in(5) { Kind::Delete } else { Kind::Put };
            let length = if kind == Kind::Put { random.below(40) as usize } else { 0 };
            let tag = Tag::new(100 + version * 7, kind);
            entries.push((key.clone(), tag, vec![b'a' + version as u8; length]));
        }
    }
    entries
}

/// A whole table file.
pub(crate) fn table(
    table_id: u64,
    count: usize,
    compression: Compression,
    filter: FilterPolicy,
) -> Vec<u8> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let path = Path::new("/table");
    let spec = TableSpec {
        table_id,
        block_bytes: 512,
        compression,
        filter,
        prefix_bytes: None,
        keyspace: KeyspaceId(0),
        level: 1,
        direct: false,
        applied: 0,
    };
    let mut writer = TableWriter::create(&disk, path, spec).expect("a new disk takes everything");
    for (key, tag, value) in entries(count) {
        writer.add(&key, tag, &value).expect("a new disk takes everything");
    }
    writer.finish().expect("a new disk takes everything");
    read_whole(&*disk, path, u64::MAX).expect("the file was just written")
}

/// The files of a database after `commits` commits, flushed and compacted now and then.
pub(crate) fn database(commits: u64, close: bool) -> Files {
    let disk = SimDisk::new(commits);
    build(&disk, commits, close).expect("a new disk takes everything");
    files_of(&if close { disk } else { disk.after_kill() })
}

fn build(disk: &SimDisk, commits: u64, close: bool) -> Result<()> {
    let db = open(disk)?;
    let other = db.create_keyspace(NAMES[1], other_options())?;
    let mut random = Random::new(commits);
    for number in 0..commits {
        let mut batch = WriteBatch::new();
        for keyspace in [db.default_keyspace(), &other] {
            let key = format!("key{:02}", random.below(20));
            if random.one_in(12) {
                let end = format!("{key}~");
                batch.delete_range(keyspace, key.as_bytes()..end.as_bytes())?;
            } else if random.one_in(4) {
                batch.delete(keyspace, key.as_bytes())?;
            } else {
                let value = vec![b'a' + (number % 26) as u8; random.below(60) as usize];
                batch.put(keyspace, key.as_bytes(), &value)?;
            }
        }
        let durability =
            Some(if random.one_in(8) { Durability::Sync } else { Durability::Buffered });
        db.write(&batch, &WriteOptions { durability })?;
        match number % 16 {
            7 => db.flush()?,
            13 => db.compact()?,
            _ => {}
        }
    }
    if close { db.close() } else { Ok(()) }
}

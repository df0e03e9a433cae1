//! Makes the golden database of this release: `cargo run -p treering-lsm --example make_golden -- lsm/tests/golden/v1`.
//!
//! A golden database is written once, by the release that first wrote its format version, and never again: the tests open
//! it for ever. Run this only for a new format version, with a new directory; it refuses one that exists.
//!
//! It writes the directory and, beside it, `v1.txt` with what the database must answer. Everything happens on the simulated
//! disk with a fixed seed, so the same release gives the same bytes. The process "dies" at the end: the newest commits are in
//! the log only, the very newest in the ring only. Inside are, besides the small files:
//!
//! - three keyspaces: LZ4 with a blocked filter, Zstandard with a standard filter, raw without a filter;
//! - tables of L0 and of a compacted level (sequence number 0), tombstones, and several versions of a key under a snapshot;
//! - a segment that an earlier run had used, a sync mark, a record in First and Last fragments, and a batch over all
//!   keyspaces.
//!
//! What would need hundreds of kilobytes is not: a sealed segment, an index in partitions. `tests/format_golden` makes
//! those when it runs.
#![allow(
    clippy::disallowed_methods,
    reason = "it writes what the simulated disk holds to real files"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, read_whole};
use treering_lsm::{
    Compression, Db, Durability, Environment, FilterPolicy, Keyspace, KeyspaceOptions, Options,
    WriteBatch, WriteOptions,
};

const SEED: u64 = 1;
/// Where the database stands on the simulated disk.
const DIRECTORY: &str = "/db";
/// Values up to this length stand in the text file themselves.
const SHOWN_BYTES_MAX: usize = 200;

type Model = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn keyspace_options(compression: Compression, filter: FilterPolicy) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::default();
    options.block_bytes = 1 << 10;
    options.table_bytes = 16 << 10;
    options.level_base_bytes = 16 << 10;
    options.level_fanout = 4;
    options.level0_tables = 8;
    options.compression = [compression; 7];
    options.filter = filter;
    options
}

fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.write_buffer_bytes = Some(48 << 10);
    options.default_keyspace =
        keyspace_options(Compression::Lz4, FilterPolicy::Blocked { bits: 10 });
    options
}

/// The database and what it must answer.
struct World {
    db: Db,
    keyspaces: Vec<Keyspace>,
    model: Model,
}

impl World {
    fn open(disk: &SimDisk, model: Model) -> treering_lsm::Result<World> {
        let db = Db::open_in(Environment::manual(Arc::new(disk.clone())), DIRECTORY, options())?;
        let mut keyspaces = vec![db.default_keyspace().clone()];
        for (name, compression, filter) in [
            ("dense", Compression::Zstd, FilterPolicy::Standard { bits: 12 }),
            ("plain", Compression::None, FilterPolicy::None),
        ] {
            keyspaces.push(match db.keyspace(name) {
                Ok(keyspace) => keyspace,
                Err(_) => db.create_keyspace(name, keyspace_options(compression, filter))?,
            });
        }
        Ok(World { db, keyspaces, model })
    }

    /// One commit over any keyspaces: number of the keyspace, key, value or delete.
    fn write(
        &mut self,
        operations: &[(usize, String, Option<Vec<u8>>)],
        durability: Durability,
    ) -> treering_lsm::Result<()> {
        let mut batch = WriteBatch::new();
        for (keyspace, key, value) in operations {
            let keyspace = &self.keyspaces[*keyspace];
            let place = (keyspace.name(), key.clone().into_bytes());
            match value {
                Some(value) => {
                    batch.put(keyspace, key.as_bytes(), value)?;
                    self.model.insert(place, value.clone());
                }
                None => {
                    batch.delete(keyspace, key.as_bytes())?;
                    self.model.remove(&place);
                }
            }
        }
        self.db.write(&batch, &WriteOptions { durability: Some(durability) })
    }

    /// Puts every `step`th key of a keyspace, one commit each.
    fn fill(&mut self, keyspace: usize, step: usize, round: usize) -> treering_lsm::Result<()> {
        for number in (0..80).step_by(step) {
            let value = format!("round {round} ").repeat(1 + number % 4).into_bytes();
            // Not in the log: it would pad its segment to 32 KiB at the flush that follows.
            self.write(&[(keyspace, key(number), Some(value))], Durability::None)?;
        }
        Ok(())
    }
}

fn key(number: usize) -> String {
    // Short, shared and long prefixes, so that blocks and separators have something to shorten.
    match number % 3 {
        0 => format!("k{number}"),
        1 => format!("tree/ring/{:08}", number * 37),
        _ => format!("tree/ring/inner/{number:04}"),
    }
}

fn make(disk: &SimDisk) -> treering_lsm::Result<(SimDisk, Model)> {
    let mut world = World::open(disk, Model::new())?;
    for keyspace in 0..3 {
        world.fill(keyspace, 1, 1)?;
        // Two tables that overlap: compaction rewrites them, it would move one alone.
        world.db.flush()?;
        world.fill(keyspace, 7, 1)?;
    }
    world.db.compact()?;
    world.write(&[(0, "first run".into(), Some(b"1".to_vec()))], Durability::Sync)?;
    let model = world.model;
    drop(world.keyspaces);
    world.db.close()?;

    let mut world = World::open(disk, model)?;
    world.fill(0, 4, 2)?;
    world.fill(2, 10, 2)?;
    let snapshot = world.db.snapshot();
    world.fill(0, 8, 3)?;
    world.fill(1, 5, 3)?;
    world.write(&[(0, key(16), None), (1, key(10), None)], Durability::None)?;
    world.db.flush()?;

    let synced: Vec<u8> = (0..4_500u32).map(|i| (i / 50) as u8).collect();
    world.write(&[(0, "synced".into(), Some(synced))], Durability::Sync)?;
    // After a sync the log writes zeros ahead of the next one. A full disk keeps them, a quarter of a megabyte, out of the
    // golden files.
    disk.set_free_bytes(Some(0));
    world.write(&[(1, "after the mark".into(), Some(Vec::new()))], Durability::Buffered)?;
    disk.set_free_bytes(None);
    let long: Vec<u8> = (0..28_300u32).map(|i| (i / 200) as u8).collect();
    world.write(&[(2, "long".into(), Some(long))], Durability::Buffered)?;
    let everywhere = (0..3).map(|keyspace| (keyspace, "batch".to_owned(), Some(b"all".to_vec())));
    let mut everywhere: Vec<_> = everywhere.collect();
    everywhere.push((0, key(3), None));
    world.write(&everywhere, Durability::Buffered)?;
    let image = disk.after_kill();
    drop(snapshot);
    Ok((image, world.model))
}

fn describe(model: &Model) -> String {
    let mut text =
        String::from("# keyspace TAB key TAB value, or #length and CRC-32C of a long one\n");
    for ((keyspace, key), value) in model {
        let shown = if value.len() <= SHOWN_BYTES_MAX {
            value.escape_ascii().to_string()
        } else {
            format!("#{} {:08x}", value.len(), crc32c::crc32c(value))
        };
        let _writing_to_a_string = writeln!(text, "{keyspace}\t{}\t{shown}", key.escape_ascii());
    }
    text
}

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args().nth(1).ok_or("usage: make_golden DIRECTORY")?;
    let target = PathBuf::from(target);
    if target.exists() {
        return Err(format!("{} exists; golden files are never rewritten", target.display()).into());
    }
    let (image, model) = make(&SimDisk::new(SEED))?;
    std::fs::create_dir_all(&target)?;
    let mut total = 0;
    for name in image.list(Path::new(DIRECTORY))? {
        let bytes = read_whole(&image, &Path::new(DIRECTORY).join(&name), u64::MAX)?;
        println!("{:>8}  {name}", bytes.len());
        total += bytes.len();
        std::fs::write(target.join(&name), bytes)?;
    }
    println!("{total:>8}  bytes, {} keys", model.len());
    std::fs::write(target.with_extension("txt"), describe(&model))?;
    Ok(())
}

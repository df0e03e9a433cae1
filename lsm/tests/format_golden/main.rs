//! FORMAT.md is true: databases are decoded by a reader written from that document alone, byte by byte, and show what the
//! engine shows. And what an earlier release wrote is read for ever: the golden databases.
//!
//! The modules follow the chapters of FORMAT.md and share nothing with the engine but the crates for checksums and
//! compression.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    unreachable_pub,
    missing_docs,
    reason = "a test"
)]

mod bytes;
mod changes;
#[path = "../common/mod.rs"]
mod common;
mod filter;
mod later;
mod log;
mod manifest;
mod table;

use changes::Changes;
use common::{Chance, other_options, tiny_options};
use log::Log;
use manifest::{KeyspaceInfo, Manifest};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;
use table::Met;
use treering_lsm::base::clock::{Clock, ManualClock};
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, read_whole};
use treering_lsm::{
    Db, Durability, Environment, IngestOptions, IoChoice, KeyspaceOptions, Options, ReadOptions,
    SortedFileWriter, WriteBatch, WriteOptions,
};

/// Files of a database directory by name.
pub type Files = BTreeMap<String, Vec<u8>>;
/// What a database shows: keyspace name and key to value.
type Contents = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// An entry of a table, an operation of the log, or a range delete: from `key` to before `value`.
#[derive(Debug)]
pub struct Entry {
    pub keyspace: u64,
    pub key: Vec<u8>,
    pub sequence: u64,
    pub kind: u8,
    pub value: Vec<u8>,
}

/// What a walk over a database found.
struct Found {
    contents: Contents,
    tables: Met,
    log: Log,
    ranges: Ranges,
    /// Values that were made of operands.
    merged: usize,
    manifest: Manifest,
    changes: Changes,
}

/// Of one key, newest first: each with the number up to which ranges have been applied to it.
type Versions<'e> = BTreeMap<Reverse<u64>, (&'e Entry, u64)>;

/// What was met of range deletes.
#[derive(Debug, Default)]
struct Ranges {
    in_log: usize,
    in_manifest: usize,
    /// Entries that one hides.
    hidden: usize,
    /// Entries that the manifest still names one over, and whose table says that it has been applied.
    spared: usize,
}

impl Entry {
    /// True for a range delete over `other` that is newer.
    fn is_over(&self, other: &Entry) -> bool {
        self.sequence > other.sequence && self.meets(other)
    }

    /// True for a range that holds the key of `other`.
    fn meets(&self, other: &Entry) -> bool {
        self.keyspace == other.keyspace
            && self.key <= other.key
            && (self.value.is_empty() || other.key < self.value)
    }
}

/// FORMAT.md, "The directory": walks every byte of every file. A database that was killed may hold tables that no manifest
/// names any more (`strays`).
fn walk(files: &Files, strays: bool) -> Found {
    let number = manifest::current(&files["CURRENT"]);
    let manifest_name = format!("MANIFEST-{number:06}");
    let manifest = manifest::manifest(number, &files[&manifest_name]);
    let mut tables = Met::default();
    let mut entries = Vec::new();
    for (id, (keyspace, _level, info)) in &manifest.tables {
        assert!(*id < manifest.next_file && info.sequence_max <= manifest.last_sequence);
        let bytes = &files[&format!("{id:06}.sst")];
        let of_table = table::table(*keyspace, info, bytes, &mut tables);
        entries.extend(of_table.into_iter().map(|entry| (entry, info.applied)));
    }
    let log = log::log(files, manifest.log_epoch, manifest.log_start, manifest.promised);
    let mut changes = Changes::default();
    for (name, bytes) in files {
        let number = name.split('.').next().and_then(|stem| stem.parse::<u64>().ok());
        match name.as_str() {
            "LOCK" => assert!(bytes.is_empty()),
            "BALLAST" => assert!(bytes.iter().all(|&byte| byte == 0)),
            "CURRENT" | "RING" => {}
            name if *name == manifest_name || name.ends_with(".wal") => {}
            name if name.ends_with(".chg") => {
                let first = number.unwrap();
                if first <= manifest.changes_kept {
                    changes::change_file(first, bytes, &mut changes);
                } else {
                    assert!(strays, "{name} was written by a flush that came to its end");
                }
            }
            name => assert!(
                name.ends_with(".sst")
                    && (strays || manifest.tables.contains_key(&number.unwrap())),
                "{name} belongs to nothing"
            ),
        }
    }

    let (in_log, operations): (Vec<_>, Vec<_>) = log.entries.iter().partition(|op| op.kind == 2);
    let mut versions = BTreeMap::<(u64, &[u8]), Versions<'_>>::new();
    let in_tables = entries.iter().map(|(entry, applied)| (entry, *applied));
    for (entry, applied) in in_tables.chain(operations.into_iter().map(|entry| (entry, 0))) {
        if !manifest.dropped.contains(&entry.keyspace) {
            let of_key = versions.entry((entry.keyspace, &entry.key)).or_default();
            of_key.insert(Reverse(entry.sequence), (entry, applied));
        }
    }
    let mut ranges =
        Ranges { in_log: in_log.len(), in_manifest: manifest.ranges.len(), ..Ranges::default() };
    assert!(manifest.ranges.iter().all(|range| range.sequence <= manifest.last_sequence));
    let mut is_hidden = |entry: &Entry, applied: u64| {
        let is_forgotten = |&(index, range): &(usize, &Entry)| {
            manifest.forgotten.iter().any(|(count, of)| {
                index < *count && of.sequence >= range.sequence && of.meets(entry)
            })
        };
        let named = manifest.ranges.iter().enumerate().filter(|(_, range)| range.is_over(entry));
        let (forgotten, named): (Vec<_>, Vec<_>) = named.partition(is_forgotten);
        let over = in_log.iter().copied().filter(|range| range.is_over(entry));
        let mut over = over.chain(named.into_iter().map(|(_, range)| range)).peekable();
        let is_spared = over.peek().is_some_and(|range| range.sequence <= applied);
        ranges.spared += usize::from(is_spared || !forgotten.is_empty());
        let is_hidden = over.any(|range| range.sequence > applied);
        ranges.hidden += usize::from(is_hidden);
        is_hidden
    };
    let (mut contents, mut merged) = (Contents::new(), 0);
    for ((keyspace, key), of_key) in versions {
        let (mut operands, mut base) = (Vec::new(), None);
        for (entry, applied) in of_key.into_values() {
            if entry.kind == 0 || is_hidden(entry, applied) {
                break;
            }
            if entry.kind == 1 {
                base = Some(&entry.value[..]);
                break;
            }
            operands.push(&entry.value[..]);
        }
        let KeyspaceInfo { name, operator, .. } = &manifest.keyspaces[&keyspace];
        if operands.is_empty() && base.is_none() {
            continue;
        }
        // The only operator that these databases name sets the operands behind the value.
        assert!(operands.is_empty() || operator == "append");
        merged += usize::from(!operands.is_empty());
        let parts: Vec<&[u8]> = base.into_iter().chain(operands.into_iter().rev()).collect();
        contents.insert((name.clone(), key.to_vec()), parts.concat());
    }
    for keyspace in manifest.keyspaces.values() {
        assert!(keyspace.compression.iter().all(|&kind| kind <= 2) && keyspace.filter[0] <= 2);
        assert!((1 << 10..=1 << 20).contains(&keyspace.block_bytes));
    }
    Found { contents, tables, log, ranges, merged, manifest, changes }
}

/// What the engine shows, by scan and by point reads.
fn engine_contents(db: &Db) -> Contents {
    let mut contents = Contents::new();
    for name in db.keyspace_names() {
        let keyspace = db.keyspace(&name).unwrap();
        for entry in keyspace.range(.., &ReadOptions::default()).unwrap() {
            let (key, value) = entry.unwrap();
            let got = keyspace.get(&key).unwrap();
            assert_eq!(got.as_deref(), Some(&value[..]));
            contents.insert((name.clone(), key), value.to_vec());
        }
    }
    contents
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Names of the golden databases.
fn versions() -> Vec<String> {
    let names = std::fs::read_dir(golden()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.ends_with(".txt")).collect();
    names.sort();
    names
}

fn golden_files(version: &str) -> Files {
    let entries = std::fs::read_dir(golden().join(version)).unwrap();
    let read = entries.map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    });
    read.collect()
}

/// The text beside a golden database is what it shows.
fn assert_described(version: &str, contents: &Contents) {
    let text = std::fs::read_to_string(golden().join(format!("{version}.txt"))).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let shown = contents.iter().map(|((keyspace, key), value)| {
        let value = if value.len() <= 200 {
            value.escape_ascii().to_string()
        } else {
            format!("#{} {:08x}", value.len(), crc32c::crc32c(value))
        };
        format!("{keyspace}\t{}\t{value}", key.escape_ascii())
    });
    assert_eq!(shown.collect::<Vec<_>>(), lines);
}

/// Promise: what a release wrote, every later one reads.
#[test]
fn golden_databases_open_and_show_what_they_held() {
    assert_eq!(versions(), ["v1", "v1-later"]);
    for version in versions() {
        for io in [IoChoice::Posix, IoChoice::Auto] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("db");
            std::fs::create_dir(&path).unwrap();
            for (name, bytes) in golden_files(&version) {
                std::fs::write(path.join(name), bytes).unwrap();
            }
            let mut options = Options::default();
            options.io = io;
            options.memory_limit = 4 << 20;
            options.create_if_missing = false;
            for _first_from_the_log_then_from_tables in 0..2 {
                let db = Db::open(&path, options.clone()).unwrap();
                assert_described(&version, &engine_contents(&db));
                assert!(db.get(b"absent").unwrap().is_none());
                db.verify().unwrap();
                db.close().unwrap();
            }
        }
    }
}

/// Promise: FORMAT.md says all there is to know about the bytes.
#[test]
fn a_reader_made_from_the_document_reads_the_golden_database() {
    let found = walk(&golden_files("v1"), false);
    assert_described("v1", &found.contents);
    let Met { blocks_by_compression, filters, versions, tombstones, sequence_zero, .. } =
        found.tables;
    assert!(blocks_by_compression.iter().all(|&count| count > 0), "{blocks_by_compression:?}");
    assert!(filters.iter().all(|&count| count > 0), "{filters:?}");
    assert!(versions > 0 && tombstones > 0 && sequence_zero > 0, "{versions} {tombstones}");
    let [_, full, first, _, last, mark, ..] = found.log.fragments;
    assert!(full > 0 && first > 0 && last > 0 && mark > 0, "{:?}", found.log.fragments);
    assert!(found.log.promise > 0 && found.log.promise < found.log.end);
    assert!(found.log.entries.iter().any(|entry| entry.keyspace == 2));
}

/// The reader overlooks nothing: it refuses every flipped byte of every table, of the manifest and of change files.
#[test]
fn no_byte_of_a_table_or_manifest_is_left_out_of_the_document() {
    for version in versions() {
        let files = golden_files(&version);
        let number = manifest::current(&files["CURRENT"]);
        let bytes = &files[&format!("MANIFEST-{number:06}")];
        let read = |bytes: &[u8]| drop(manifest::manifest(number, bytes));
        let described = manifest::manifest(number, bytes);
        let mut flips = assert_every_flip_is_refused("MANIFEST", bytes, read);
        for (id, (keyspace, _, info)) in &described.tables {
            let read =
                |bytes: &[u8]| drop(table::table(*keyspace, info, bytes, &mut Met::default()));
            let name = format!("{id:06}.sst");
            flips += assert_every_flip_is_refused(&name, &files[&name], read);
        }
        for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".chg")) {
            let first = name.trim_end_matches(".chg").parse().unwrap();
            let read = |bytes: &[u8]| changes::change_file(first, bytes, &mut Changes::default());
            flips += assert_every_flip_is_refused(name, bytes, read);
        }
        assert!(flips > 4000, "only {flips} bytes of {version} were flipped");
    }
}

fn assert_every_flip_is_refused(name: &str, bytes: &[u8], read: impl Fn(&[u8])) -> usize {
    read(bytes);
    for at in 0..bytes.len() {
        let mut damaged = bytes.to_vec();
        damaged[at] ^= 1 << (at % 8);
        let outcome = quietly(|| read(&damaged));
        assert!(outcome.is_err(), "{name}: byte {at} is of no concern");
    }
    bytes.len()
}

/// Catches a panic without its message.
fn quietly(body: impl FnOnce()) -> std::thread::Result<()> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                usual(info);
            }
        }));
    });
    QUIET.set(true);
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(body));
    QUIET.set(false);
    outcome
}

fn files_of(disk: &SimDisk) -> Files {
    let directory = Path::new("/db");
    let read = |name: String| {
        let bytes = read_whole(disk, &directory.join(&name), u64::MAX).unwrap();
        (name, bytes)
    };
    disk.list(directory).unwrap().into_iter().map(read).collect()
}

/// What was met in random databases beside entries and ranges.
#[derive(Debug, Default)]
struct More {
    expired: usize,
    merged: usize,
    dropped: usize,
    ingested: usize,
    /// Of change files, by kind.
    frames: [usize; 5],
}

fn appending() -> KeyspaceOptions {
    let mut options = other_options();
    options.merge_operator = Some("append".to_owned());
    options
}

fn brief() -> KeyspaceOptions {
    let mut options = tiny_options().default_keyspace;
    options.ttl = Some(Duration::from_secs(3));
    options
}

/// Takes in a file of a few puts and deletes.
fn ingest(db: &Db, disk: &SimDisk, chance: &mut Chance, model: &mut Contents) {
    let (handle, path) = (Arc::new(disk.clone()) as Arc<dyn Disk>, Path::new("/file"));
    let mut writer = SortedFileWriter::create_on(&handle, path, &other_options()).unwrap();
    for number in (chance.below(300)..).step_by(7).take(9) {
        let key = format!("key{number:03}").into_bytes();
        let place = ("default".to_owned(), key.clone());
        if chance.one_in(3) {
            writer.delete(&key).unwrap();
            model.remove(&place);
        } else {
            writer.put(&key, b"from outside").unwrap();
            model.insert(place, b"from outside".to_vec());
        }
    }
    writer.finish().unwrap();
    db.default_keyspace().ingest(&[path], &IngestOptions::default()).unwrap();
    disk.remove(path).unwrap();
}

/// Random databases, killed at random moments.
#[test]
fn a_reader_made_from_the_document_reads_random_databases() {
    let mut met = Met::default();
    let mut fragments = [0; 8];
    let mut ranges = Ranges::default();
    let mut more = More::default();
    for seed in 0..20 {
        let mut chance = Chance(seed);
        let disk = SimDisk::new(seed);
        let clock = Arc::new(ManualClock::default());
        let mut model = Contents::new();
        let mut options = tiny_options();
        options.change_log_bytes = [0, 64 << 10][chance.below(2) as usize];
        for life in 0..3 {
            let environment = Environment::manual(Arc::new(disk.clone()));
            let environment =
                Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..environment };
            let db = Db::open_in(environment, "/db", options.clone()).unwrap();
            if life == 0 {
                db.create_keyspace("other", appending()).unwrap();
                db.create_keyspace("brief", brief()).unwrap();
            }
            let passing = format!("life {life}");
            let passing = db.create_keyspace(&passing, other_options()).unwrap();
            let brief = db.keyspace("brief").unwrap();
            let keyspaces = [db.default_keyspace().clone(), db.keyspace("other").unwrap()];
            let mut snapshot = None;
            for _ in 0..chance.below(700) {
                match chance.below(60) {
                    0 => db.flush().unwrap(),
                    1 => snapshot = Some(db.snapshot()),
                    2..=5 => drop(db.step().unwrap()),
                    8 => {
                        clock.sleep(Duration::from_millis(chance.below(900)));
                        db.step().unwrap();
                    }
                    9 => {
                        let number = [chance.below(400), chance.below(400)];
                        brief.put(&number[0].to_le_bytes(), &[b'b'; 30]).unwrap();
                        passing.put(&number[1].to_le_bytes(), &[b'p'; 30]).unwrap();
                    }
                    10 => {
                        let key = format!("key{:03}", chance.below(400));
                        let operand = format!("+{}", chance.below(50)).into_bytes();
                        keyspaces[1].merge(key.as_bytes(), &operand).unwrap();
                        let place = ("other".to_owned(), key.into_bytes());
                        model.entry(place).or_default().extend_from_slice(&operand);
                    }
                    11 if chance.one_in(4) => ingest(&db, &disk, &mut chance, &mut model),
                    7 => {
                        let guards = [chance.below(400), chance.below(400)];
                        let guards = guards.map(|number| format!("key{number:03}"));
                        keyspaces[0].set_guard_keys(&guards[..chance.below(3) as usize]).unwrap();
                    }
                    6 => {
                        // Alone a value of any size goes to the log; a large batch does not.
                        let key = format!("key{:03}", chance.below(400)).into_bytes();
                        let value = vec![b'v'; chance.below(90_000) as usize];
                        let place = &keyspaces[chance.below(2) as usize];
                        place.put(&key, &value).unwrap();
                        model.insert((place.name(), key), value);
                    }
                    _ => {
                        let mut batch = WriteBatch::new();
                        for _ in 0..1 + chance.below(4) {
                            let keyspace = &keyspaces[chance.below(2) as usize];
                            let key = format!("key{:03}", chance.below(400));
                            let large = chance.one_in(80);
                            let length = chance.below(if large { 90_000 } else { 150 }) as usize;
                            let value: Vec<u8> = (0..length).map(|i| (i / 9) as u8).collect();
                            let place = (keyspace.name(), key.clone().into_bytes());
                            match chance.below(40) {
                                0 => {
                                    // Up to ten keys, now and then all behind.
                                    let digits = if chance.one_in(20) { 0 } else { 5 };
                                    let last = format!("{}~", &key[..digits]);
                                    let range = key.as_bytes()..last.as_bytes();
                                    batch.delete_range(keyspace, range.clone()).unwrap();
                                    model.retain(|(at, key), _| {
                                        *at != place.0 || !range.contains(&&key[..])
                                    });
                                }
                                1..=8 => {
                                    batch.delete(keyspace, key.as_bytes()).unwrap();
                                    model.remove(&place);
                                }
                                _ => {
                                    batch.put(keyspace, key.as_bytes(), &value).unwrap();
                                    model.insert(place, value);
                                }
                            }
                        }
                        let sync = chance.one_in(20);
                        let class = if sync { Durability::Sync } else { Durability::Buffered };
                        db.write(&batch, &WriteOptions { durability: Some(class) }).unwrap();
                    }
                }
            }
            if chance.one_in(2) {
                db.drop_keyspace(&passing.name()).unwrap();
            }
            let found = walk(&files_of(&disk.after_kill()), true);
            assert_eq!(found.contents, engine_contents(&db), "seed {seed} life {life}");
            let is_modelled =
                |(place, _): &(&(String, Vec<u8>), _)| ["default", "other"].contains(&&place.0[..]);
            assert!(
                found.contents.iter().filter(is_modelled).eq(&model),
                "seed {seed} life {life}"
            );
            let of_brief = |range: &&Entry| range.keyspace == u64::from(brief.id().0);
            more.expired += found.manifest.ranges.iter().filter(of_brief).count();
            more.merged += found.merged;
            more.dropped += found.manifest.dropped.len();
            let tables = found.manifest.tables.values();
            more.ingested += tables.filter(|(_, _, info)| info.ingested.is_some()).count();
            (1..5).for_each(|kind| more.frames[kind] += found.changes.frames[kind]);
            ranges.in_log += found.ranges.in_log;
            ranges.in_manifest += found.ranges.in_manifest;
            ranges.hidden += found.ranges.hidden;
            ranges.spared += found.ranges.spared;
            met.partitions += found.tables.partitions;
            met.versions += found.tables.versions;
            (0..8).for_each(|kind| fragments[kind] += found.log.fragments[kind]);
            drop(snapshot);
            drop((keyspaces, passing, brief));
            db.close().unwrap();
            let closed = walk(&files_of(&disk), false);
            assert_eq!(closed.contents, found.contents, "seed {seed} life {life}");
            assert_eq!(closed.log.promise, closed.log.end, "closing promises everything");
        }
    }
    assert!(met.versions > 0);
    assert!(ranges.in_log > 0 && ranges.in_manifest > 0, "{ranges:?}");
    assert!(ranges.hidden > 0 && ranges.spared > 0, "{ranges:?}");
    assert!(fragments[1..7].iter().all(|&count| count > 0), "{fragments:?}");
    assert!(more.expired > 0 && more.merged > 0 && more.dropped > 0, "{more:?}");
    assert!(more.ingested > 0 && more.frames[1..4].iter().all(|&count| count > 0), "{more:?}");
}

/// An index above a megabyte is cut into partitions: long keys make one quickly.
#[test]
fn a_reader_made_from_the_document_reads_an_index_in_partitions() {
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.memory_limit = 16 << 20;
    options.write_buffer_bytes = Some(4 << 20);
    options.default_keyspace.table_bytes = 64 << 20;
    let db = common::open(&disk, &options).unwrap();
    for number in 0..40u32 {
        let mut key = vec![b'x'; 60_000];
        key.extend_from_slice(&number.to_be_bytes());
        db.put(&key, &number.to_le_bytes()).unwrap();
    }
    db.flush().unwrap();
    let found = walk(&files_of(&disk.after_kill()), false);
    assert!(found.tables.partitions > 10, "{} partitions", found.tables.partitions);
    assert_eq!(found.contents, engine_contents(&db));
    assert_eq!(found.contents.len(), 40);
}

//! Damaged files, in ways that need a name: newer ones, older ones, cut ones, strangers. Every bit and every place are the business
//! of `hunt` (rows every-bit and wrong-place).
//!
//! A damaged database gives an error that names a file, or the truth; a refused open leaves what was there as it was.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

mod common;

use common::{Chance, other_options, tiny_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use treering_lsm::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX};
use treering_lsm::base::limits::NUMBER_MAX;
use treering_lsm::file::manifest::{self, ManifestWriter};
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, VersionEdit};
use treering_lsm::format::log::LSN_MAX;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, OpenMode, read_whole, write_full};
use treering_lsm::{
    Compression, Db, Durability, Error, FilterPolicy, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

type Files = BTreeMap<String, Vec<u8>>;
type Map = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

const DIRECTORY: &str = "/db";
const NAMES: [&str; 2] = ["default", "other"];
/// Each commit writes its number under this key, so that a state says which prefix it is.
const COUNTER: &[u8] = b"~commit";

/// A database directory, and the states that may come out of it.
struct Image {
    files: Files,
    /// State after each commit.
    states: Vec<Map>,
    /// The first state that is right.
    promised: usize,
}

fn options() -> Options {
    let mut options = tiny_options();
    // Half of the blocks are stored raw.
    options.default_keyspace.compression = [Compression::None; 7];
    options.default_keyspace.filter = FilterPolicy::Blocked { bits: 10 };
    options
}

fn open(disk: &SimDisk) -> treering_lsm::Result<Db> {
    common::open(disk, &options())
}

fn files_of(disk: &SimDisk) -> Files {
    let read = |name: String| {
        let bytes = read_whole(disk, &Path::new(DIRECTORY).join(&name), u64::MAX).unwrap();
        (name, bytes)
    };
    disk.list(Path::new(DIRECTORY)).unwrap().into_iter().map(read).collect()
}

fn disk_of(files: &Files) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_directory(Path::new(DIRECTORY)).unwrap();
    for (name, bytes) in files {
        let file = disk.open(&Path::new(DIRECTORY).join(name), OpenMode::CREATE).unwrap();
        write_full(&*file, 0, bytes, false).unwrap();
    }
    disk
}

/// Makes a database with tables on several levels and a log, and stops it in one of two ways.
fn make(close: bool) -> Image {
    let mut chance = Chance(7);
    let disk = SimDisk::new(7);
    let db = open(&disk).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    db.close().unwrap();
    let db = open(&disk).unwrap();
    let keyspaces = NAMES.map(|name| db.keyspace(name).unwrap());
    let mut states = vec![Map::new()];
    let mut promised = 0;
    for number in 0..220 {
        let mut state = states[number].clone();
        let mut batch = WriteBatch::new();
        for place in 0..2u8 {
            let keyspace = &keyspaces[usize::from(place)];
            let text = number.to_string().into_bytes();
            batch.put(keyspace, COUNTER, &text).unwrap();
            state.insert((place, COUNTER.to_vec()), text);
            let key = format!("key{:02}", chance.below(60)).into_bytes();
            if chance.one_in(4) {
                batch.delete(keyspace, &key).unwrap();
                state.remove(&(place, key));
            } else {
                let value = vec![b'a' + (number % 26) as u8; chance.below(90) as usize];
                batch.put(keyspace, &key, &value).unwrap();
                state.insert((place, key), value);
            }
        }
        states.push(state);
        let sync = number == 120 || number == 190;
        let durability = Some(if sync { Durability::Sync } else { Durability::Buffered });
        db.write(&batch, &WriteOptions { durability }).unwrap();
        if sync {
            promised = states.len() - 1;
        }
        match number {
            40 | 80 | 150 => db.flush().unwrap(),
            100 => db.compact().unwrap(),
            _ => {}
        }
    }
    drop(keyspaces);
    if close {
        db.close().unwrap();
        let promised = states.len() - 1;
        return Image { files: files_of(&disk), states, promised };
    }
    Image { files: files_of(&disk.after_kill()), states, promised }
}

fn closed() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| make(true))
}

fn killed() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| make(false))
}

/// Everything that scans show.
fn read(db: &Db) -> treering_lsm::Result<Map> {
    let mut map = Map::new();
    for (place, name) in NAMES.iter().enumerate() {
        for entry in db.keyspace(name)?.range(.., &ReadOptions::default())? {
            let (key, value) = entry?;
            map.insert((place as u8, key), value.to_vec());
        }
    }
    Ok(map)
}

/// Opening is refused for damage to the file `named`, and changes nothing.
fn assert_refused(files: &Files, named: &str) {
    let disk = disk_of(files);
    match open(&disk) {
        Err(Error::Corruption { path, .. }) => assert_eq!(path, Path::new(DIRECTORY).join(named)),
        outcome => panic!("{named}: {outcome:?}"),
    }
    let after = files_of(&disk);
    for (name, bytes) in files {
        assert_eq!(after.get(name), Some(bytes), "{name} was changed");
    }
}

/// Where each record of a manifest ends.
fn record_ends(manifest: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut offset = 32;
    while let Some(length) = manifest.get(offset + 4..offset + 8) {
        offset += 17 + u32::from_le_bytes(length.try_into().unwrap()) as usize;
        ends.push(offset);
    }
    ends
}

fn manifest_of(files: &Files) -> String {
    files.keys().find(|name| name.starts_with("MANIFEST")).unwrap().clone()
}

/// Promise 3 of the manifest: CURRENT vouches for everything without which something would be missing.
#[test]
fn a_manifest_that_lost_its_end_never_passes_for_a_shorter_one() {
    // A keyspace that nobody has written to yet: no log and no table knows of it.
    let disk = SimDisk::new(1);
    let db = open(&disk).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    let mut files = files_of(&disk.after_kill());
    let manifest = manifest_of(&files);
    let ends = record_ends(&files[&manifest]);
    files.get_mut(&manifest).unwrap().truncate(ends[1]);
    assert_refused(&files, &manifest);

    // A flush that gave up the log, of which nothing had been synced.
    let files = &killed().files;
    let manifest = manifest_of(files);
    for end in record_ends(&files[&manifest]) {
        let mut cut = files.clone();
        cut.get_mut(&manifest).unwrap().truncate(end);
        match open(&disk_of(&cut)) {
            Ok(db) => assert_eq!(read(&db).unwrap(), killed().states[killed().states.len() - 1]),
            Err(Error::Corruption { .. }) => {}
            Err(other) => panic!("cut at {end}: {other}"),
        }
    }
}

/// A run is in a durable manifest before its log is written.
#[test]
fn an_older_manifest_is_told_by_a_younger_log() {
    let disk = disk_of(&closed().files);
    let db = open(&disk).unwrap();
    db.put(b"new", b"value").unwrap();
    let mut files = files_of(&disk.after_kill());
    for name in ["CURRENT", &manifest_of(&closed().files)] {
        files.insert(name.to_owned(), closed().files[name].clone());
    }
    assert_refused(&files, "CURRENT");
}

#[test]
fn a_current_of_impossible_length_is_damage_and_no_fault_of_the_system() {
    let mut files = closed().files.clone();
    files.get_mut("CURRENT").unwrap().resize(5000, 0);
    assert_refused(&files, "CURRENT");
}

#[test]
fn a_segment_whose_header_is_damaged_is_named() {
    let mut files = closed().files.clone();
    files.remove("RING");
    let epoch = |bytes: &[u8]| word(bytes, 16);
    let segments = files.iter().filter(|(name, _)| name.ends_with(".wal"));
    let (name, _) = segments.max_by_key(|(_, bytes)| (epoch(bytes), word(bytes, 40))).unwrap();
    let name = name.clone();
    files.get_mut(&name).unwrap()[20] ^= 1;
    assert_refused(&files, &name);
}

#[test]
fn bytes_in_the_padding_of_a_table_are_found_by_a_full_check_alone() {
    let mut files = closed().files.clone();
    let padded = |bytes: &Vec<u8>| {
        let tail = word(bytes, bytes.len() - 64 + 48) >> 32;
        (bytes[tail as usize - 1] == 0).then_some(tail as usize - 1)
    };
    let (name, at) = files
        .iter()
        .filter(|(name, _)| name.ends_with(".sst"))
        .find_map(|(name, bytes)| Some((name.clone(), padded(bytes)?)))
        .unwrap();
    files.get_mut(&name).unwrap()[at] = 1;
    let db = open(&disk_of(&files)).unwrap();
    assert_eq!(read(&db).unwrap(), closed().states[closed().promised]);
    let outcome = db.verify();
    assert!(matches!(&outcome, Err(Error::Corruption { path, .. }) if path.ends_with(&name)));
}

/// An error of the system is tried again; a file that has grown stays as it is.
#[test]
fn a_current_that_is_too_long_is_damage_and_not_an_error_of_the_system() {
    let mut files = closed().files.clone();
    files.insert("CURRENT".into(), vec![b'M'; 5000]);
    let outcome = open(&disk_of(&files));
    let expected = Path::new(DIRECTORY).join("CURRENT");
    assert!(
        matches!(&outcome, Err(Error::Corruption { path, .. }) if *path == expected),
        "{outcome:?}"
    );
}

fn checksum(owner: u64, offset: u64, bytes: &[u8]) -> [u8; 4] {
    let context = [owner.to_le_bytes(), offset.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&context), bytes).to_le_bytes()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The file with its version raised, under a right checksum.
fn newer(name: &str, good: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    if name.starts_with("MANIFEST") {
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let crc = checksum(word(&bytes, 16), 0, &bytes[..24]);
        bytes[24..28].copy_from_slice(&crc);
    } else if name.ends_with(".sst") {
        let at = bytes.len() - 64;
        bytes[at + 8..at + 12].copy_from_slice(&2u32.to_le_bytes());
        let crc = checksum(word(&bytes, at + 16), at as u64, &bytes[at..at + 60]);
        bytes[at + 60..].copy_from_slice(&crc);
    } else {
        bytes[8..12].copy_from_slice(&2u32.to_le_bytes());
        let mut block = bytes[..4096].to_vec();
        block[12..16].fill(0);
        block[512..524].fill(0);
        let owner = if name == "RING" { 0 } else { word(&bytes, 24) };
        bytes[12..16].copy_from_slice(&checksum(owner, 0, &block));
    }
    bytes
}

/// Promise: a newer release's file is told from a damaged one, and is left alone.
#[test]
fn a_newer_file_of_any_kind_is_named_and_not_touched() {
    let image = closed();
    let mut refused = 0;
    for (name, good) in &image.files {
        let has_version = name.starts_with("MANIFEST")
            || name.ends_with(".sst")
            || name.ends_with(".wal") && good[..8] == *b"TRWALSEG"
            || name == "RING";
        if !has_version {
            continue;
        }
        let mut files = image.files.clone();
        files.insert(name.clone(), newer(name, good));
        let disk = disk_of(&files);
        let outcome = open(&disk).and_then(|db| db.verify());
        let Err(Error::NewerFormat { path, found, supported }) = outcome else {
            panic!("{name}: {outcome:?}");
        };
        assert_eq!((path, found), (Path::new(DIRECTORY).join(name), supported + 1));
        assert_eq!(files_of(&disk)[name], files[name]);
        refused += 1;
    }
    assert!(refused >= 5, "{refused} files with a version");
}

/// Writes into the first whole record of the newest segment, `at` bytes behind its header, in segment and ring.
fn forge_record(files: &mut Files, at: usize, byte: u8) {
    let epoch = word(&files["RING"], 16);
    let capacity = word(&files["RING"], 48);
    let segments = files.iter().filter(|(name, bytes)| {
        name.ends_with(".wal") && bytes[..8] == *b"TRWALSEG" && word(bytes, 16) == epoch
    });
    let (name, bytes) = segments.max_by_key(|(_, bytes)| word(bytes, 40)).unwrap();
    let (name, base) = (name.clone(), word(bytes, 40));
    let mut offset = 4096;
    let length = |offset: usize| {
        usize::from(u16::from_le_bytes(bytes[offset + 4..offset + 6].try_into().unwrap()))
    };
    while bytes[offset + 6] != 1 {
        offset += 7 + length(offset);
    }
    let mut fragment = bytes[offset..offset + 7 + length(offset)].to_vec();
    let lsn = base + offset as u64 - 4096;
    fragment[7 + 12 + at] = byte;
    let crc = checksum(epoch, lsn, &fragment[4..]);
    fragment[..4].copy_from_slice(&crc);
    let in_ring = 4096 + (lsn % capacity) as usize;
    for (name, at) in [(name.as_str(), offset), ("RING", in_ring)] {
        let file = files.get_mut(name).unwrap();
        file[at..at + fragment.len()].copy_from_slice(&fragment);
    }
}

/// A right checksum over something that this release cannot read is an error as well.
#[test]
fn a_log_record_of_an_unknown_kind_or_keyspace_is_refused() {
    for (at, byte) in [(0, 9), (1, 77)] {
        let mut files = killed().files.clone();
        forge_record(&mut files, at, byte);
        let disk = disk_of(&files);
        let outcome = open(&disk);
        assert!(matches!(outcome, Err(Error::Corruption { .. })), "{outcome:?}");
        files.iter().for_each(|(name, bytes)| assert_eq!(files_of(&disk).get(name), Some(bytes)));
    }
}

/// The manifest `number` of a database of one keyspace, and CURRENT, with `edit` in it.
fn manifest_with(edit: VersionEdit) -> Files {
    let disk = disk_of(&Files::new());
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = options().default_keyspace;
    let keyspace = KeyspaceRecord { id: KeyspaceId(0), name: "default".into(), options };
    let edit = VersionEdit { keyspaces: vec![keyspace], ..edit };
    ManifestWriter::create(&handle, Path::new(DIRECTORY), FileNumber(1), &edit).unwrap();
    files_of(&disk)
}

/// A right manifest record may say wrong things of a table: reads then miss keys, and only `verify` can say so.
#[test]
fn verify_sees_a_manifest_that_lies_about_a_table() {
    let mut lies = 0;
    for lie in 0..4 {
        let mut files = closed().files.clone();
        let handle: Arc<dyn Disk> = Arc::new(disk_of(&files));
        let edits = manifest::read(&handle, Path::new(DIRECTORY)).unwrap().unwrap().edits;
        let mut edits: Vec<VersionEdit> = edits;
        let info = &mut edits.iter_mut().flat_map(|edit| &mut edit.added).last().unwrap().2;
        match lie {
            0 => info.smallest.push(b'!'),
            1 => info.sequence_max += 1,
            2 => info.entry_count += 1,
            _ => {}
        }
        let disk = SimDisk::new(1);
        disk.create_directory(Path::new(DIRECTORY)).unwrap();
        let handle: Arc<dyn Disk> = Arc::new(disk.clone());
        let number = FileNumber(900);
        let mut writer =
            ManifestWriter::create(&handle, Path::new(DIRECTORY), number, &edits[0]).unwrap();
        edits[1..].iter().for_each(|edit| writer.append(edit).unwrap());
        files.retain(|name, _| name != "CURRENT" && !name.starts_with("MANIFEST"));
        files.extend(files_of(&disk));
        let outcome = open(&disk_of(&files)).and_then(|db| db.verify());
        match outcome {
            Ok(()) => assert_eq!(lie, 3, "a lie passed"),
            Err(Error::Corruption { .. }) => lies += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(lies, 3);
}

/// Opening goes on from the numbers that it finds. From the largest ones it made a manifest that it did not take itself, or panicked
/// at the first write.
#[test]
fn numbers_that_no_database_reaches_are_refused_before_anything_is_written() {
    let edits = [
        VersionEdit { next_file: Some(NUMBER_MAX), ..VersionEdit::default() },
        VersionEdit { last_sequence: Some(SEQUENCE_MAX), ..VersionEdit::default() },
        VersionEdit { last_sequence: Some(SEQUENCE_MAX - 1), ..VersionEdit::default() },
        VersionEdit { log: Some(LogMark { epoch: NUMBER_MAX, lsn: 0 }), ..VersionEdit::default() },
        VersionEdit { log: Some(LogMark { epoch: 1, lsn: LSN_MAX }), ..VersionEdit::default() },
    ];
    let mut images: Vec<Files> = edits.into_iter().map(manifest_with).collect();
    for name in ["072057594037927935.sst", "MANIFEST-072057594037927935", "072057594037927935.wal"]
    {
        let mut files = closed().files.clone();
        files.insert(name.into(), Vec::new());
        images.push(files);
    }
    for files in images {
        let disk = disk_of(&files);
        let outcome = open(&disk);
        assert!(matches!(outcome, Err(Error::Corruption { .. })), "{outcome:?}");
        let after = files_of(&disk);
        files.iter().for_each(|(name, bytes)| assert_eq!(after.get(name), Some(bytes)));
    }
    let small = VersionEdit { last_sequence: Some(1 << 50), ..VersionEdit::default() };
    let db = open(&disk_of(&manifest_with(small))).unwrap();
    db.put(b"key", b"value").unwrap();
}

#[test]
fn files_that_are_not_ours_are_never_touched() {
    // Without CURRENT they mean that this is no place for a database.
    for name in ["notes.txt", "12.sst", "MANIFEST-x", "000001.sst", "000001.wal", "RING"] {
        let files = Files::from([(name.to_owned(), b"mine".to_vec())]);
        let disk = disk_of(&files);
        let outcome = open(&disk);
        assert!(matches!(outcome, Err(Error::NotADatabase { .. })), "{name}: {outcome:?}");
        assert_eq!(files_of(&disk), files, "{name}");
    }
    // In a database they stay.
    let mut files = closed().files.clone();
    for name in ["notes.txt", "12.sst", "MANIFEST-x", "notes.tmp"] {
        files.insert(name.to_owned(), b"mine".to_vec());
    }
    let disk = disk_of(&files);
    let db = open(&disk).unwrap();
    assert_eq!(read(&db).unwrap(), closed().states[closed().promised]);
    db.close().unwrap();
    for name in ["notes.txt", "12.sst", "MANIFEST-x", "notes.tmp"] {
        assert_eq!(files_of(&disk)[name], b"mine", "{name}");
    }
}

#[test]
fn a_second_open_is_refused_until_the_first_is_closed() {
    let disk = disk_of(&closed().files);
    let db = open(&disk).unwrap();
    let before = files_of(&disk);
    assert!(matches!(open(&disk), Err(Error::Locked { path }) if path == Path::new(DIRECTORY)));
    assert_eq!(files_of(&disk), before);
    db.close().unwrap();
    open(&disk).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let first = Db::open(directory.path(), options()).unwrap();
    first.put(b"key", b"value").unwrap();
    assert!(matches!(Db::open(directory.path(), options()), Err(Error::Locked { .. })));
    first.close().unwrap();
    let second = Db::open(directory.path(), options()).unwrap();
    assert_eq!(second.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
}

/// A directory that cannot be written is an error of the system, and changes nothing. Root may write everywhere, so there is
/// nothing to see then.
#[test]
fn a_read_only_directory_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    Db::open(&path, options()).unwrap().close().unwrap();
    let permit = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    permit(0o500).unwrap();
    let is_root = std::fs::write(path.join("probe"), b"").is_ok();
    let outcome = Db::open(&path, options());
    permit(0o700).unwrap();
    if !is_root {
        assert!(matches!(outcome, Err(Error::Io { .. })), "{outcome:?}");
    }
}

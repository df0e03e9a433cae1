//! A whole database directory: open it, read everything, write to it, close it, open it again.
//!
//! ```text
//! input:  mode u8 │ archive        odd modes repair all checksums
//! ```
//!
//! Promise: any files open or are refused with an error for damage that names one of them, and a refused open leaves what was
//! there as it was. What opened shows the same forward and backward; after writes, a flush and a compaction it shows them, and the same
//! after it was opened again. Memory: the files, what the options allow, and the largest block.

use crate::archive::{DIRECTORY, Files, disk_of, files_of, pack, unpack};
use crate::input::Input;
use crate::samples::open;
use crate::{Target, repair, samples};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX};
use treering_lsm::base::limits::NUMBER_MAX;
use treering_lsm::file::manifest::ManifestWriter;
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, VersionEdit};
use treering_lsm::format::log::LSN_MAX;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Db, Error, Keyspace, KeyspaceOptions, ReadOptions, Result};

pub(crate) const TARGET: Target = Target {
    name: "database",
    promise: "any directory opens and behaves, or is refused as damaged and left as it was",
    run,
    seeds,
};

/// Entries and bytes of one scan.
const STEPS_MAX: usize = 4000;
const BYTES_MAX: usize = 1 << 20;
/// Background steps before the second look.
const BACKGROUND_STEPS_MAX: usize = 40;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let mut files = unpack(&mut input);
    if !mode.is_multiple_of(2) {
        repair::files(&mut files);
    }
    let disk = disk_of(&files);
    let db = match open(&disk) {
        Ok(db) => db,
        Err(error) => {
            assert_is_damage(&error);
            let after = files_of(&disk);
            for (name, bytes) in &files {
                assert!(after.get(name) == Some(bytes), "{name} was changed by {error}");
            }
            return;
        }
    };
    if let Err(error) = use_it(&disk, db, mode.is_multiple_of(2)) {
        assert_is_damage(&error);
    }
}

/// An error is of the kinds for damage and names a file of the database (or its directory).
fn assert_is_damage(error: &Error) {
    let path = match error {
        Error::Corruption { path, .. }
        | Error::NotADatabase { path, .. }
        | Error::NewerFormat { path, .. } => path,
        Error::Poisoned { cause } => return assert_is_damage(cause),
        other => panic!("not an error for damage: {other:?}"),
    };
    assert!(path.starts_with(DIRECTORY), "{error}");
}

/// Reads and writes until an error shows; damage shows late, where tables are concerned.
///
/// With `strict` what is shown is compared. Behind repaired checksums the manifest may put a table in a level where it does not
/// belong, and a table may be out of order; then only the kind of an answer is promised.
fn use_it(disk: &SimDisk, db: Db, strict: bool) -> Result<()> {
    let names = db.keyspace_names();
    let mut before = Vec::new();
    for name in &names {
        before.push(scan(&db.keyspace(name)?, strict)?);
    }
    let keyspace = db.default_keyspace().clone();
    keyspace.put(b"~put", b"value")?;
    keyspace.delete(b"~gone")?;
    if let Some(map) = &mut before[0] {
        map.insert(b"~put".to_vec(), b"value".to_vec());
        map.remove(&b"~gone"[..]);
    }
    check(&db, &names, &before, strict)?;
    db.flush()?;
    for _ in 0..BACKGROUND_STEPS_MAX {
        if !db.step()? {
            break;
        }
    }
    check(&db, &names, &before, strict)?;
    let verified = db.verify();
    drop(keyspace);
    db.close()?;

    let db = open(disk).expect("what was closed in order opens again");
    check(&db, &names, &before, strict)?;
    verified?;
    db.compact()?;
    check(&db, &names, &before, strict)
}

fn check(db: &Db, names: &[String], wanted: &[Option<Map>], strict: bool) -> Result<()> {
    for (name, wanted) in names.iter().zip(wanted) {
        let keyspace = db.keyspace(name)?;
        let (Some(found), Some(wanted)) = (scan(&keyspace, strict)?, wanted) else { continue };
        assert!(!strict || found == *wanted, "keyspace {name:?} shows something else than before");
    }
    Ok(())
}

/// Everything that a keyspace shows, the same forward, backward and by key; `None` where it is too much to copy.
fn scan(keyspace: &Keyspace, strict: bool) -> Result<Option<Map>> {
    let mut cursor = keyspace.cursor(&ReadOptions::default())?;
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut valid = cursor.seek_to_first()?;
    while valid {
        bytes += cursor.key().len() + cursor.value().len();
        if entries.len() == STEPS_MAX || bytes > BYTES_MAX {
            return Ok(None);
        }
        entries.push((cursor.key().to_vec(), cursor.value().to_vec()));
        valid = cursor.next()?;
    }
    let ordered = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let mut backward = entries.len();
    let mut valid = cursor.seek_to_last()?;
    let mut same = true;
    while valid && backward > 0 {
        backward -= 1;
        same &= cursor.key() == entries[backward].0 && cursor.value() == entries[backward].1;
        valid = cursor.prev()?;
    }
    if strict {
        assert!(ordered && same && !valid && backward == 0, "the two directions differ");
    }
    for (key, value) in entries.iter().step_by(entries.len() / 32 + 1) {
        let found = keyspace.get(key)?;
        assert!(!strict || found.as_deref() == Some(&value[..]), "a get shows something else");
    }
    Ok(Some(entries.into_iter().collect()))
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (commits, close) in
        [(0, true), (5, false), (5, true), (30, false), (60, true), (110, false)]
    {
        let files = samples::database(commits, close);
        for mode in [0, 1] {
            seeds.push([&[mode], &pack(&files)[..]].concat());
        }
    }
    seeds.extend(extremes().into_iter().map(|files| [&[0], &pack(&files)[..]].concat()));
    seeds
}

/// Databases without tables whose manifests say the largest numbers that one may say.
fn extremes() -> Vec<Files> {
    let record = |id: u32, options: KeyspaceOptions| {
        let name = samples::NAMES[id as usize].to_owned();
        KeyspaceRecord { id: KeyspaceId(id), name, options }
    };
    let first = VersionEdit {
        keyspaces: vec![record(0, samples::tiny_options().default_keyspace)],
        log: Some(LogMark { epoch: 1, lsn: 0 }),
        ..VersionEdit::default()
    };
    let mut large = KeyspaceOptions::default();
    large.block_bytes = 1 << 20;
    large.table_bytes = 1 << 30;
    large.level_base_bytes = u64::MAX;
    large.level_fanout = 100;
    large.level0_tables = 64;
    let edits = [
        VersionEdit { next_file: Some(NUMBER_MAX), ..VersionEdit::default() },
        VersionEdit { last_sequence: Some(SEQUENCE_MAX), ..VersionEdit::default() },
        VersionEdit { last_sequence: Some(SEQUENCE_MAX - 1), ..VersionEdit::default() },
        VersionEdit { log: Some(LogMark { epoch: NUMBER_MAX, lsn: 0 }), ..VersionEdit::default() },
        VersionEdit { log: Some(LogMark { epoch: 2, lsn: LSN_MAX }), ..VersionEdit::default() },
        VersionEdit { promised: Some(LSN_MAX), ..VersionEdit::default() },
        VersionEdit { keyspaces: vec![record(1, large)], ..VersionEdit::default() },
    ];
    edits.iter().map(|edit| write_manifest(&[&first, edit])).collect()
}

fn write_manifest(edits: &[&VersionEdit]) -> Files {
    let disk = disk_of(&Files::new());
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let directory = Path::new(DIRECTORY);
    let expected = "a new disk takes everything";
    let number = FileNumber(1);
    let mut writer = ManifestWriter::create(&handle, directory, number, edits[0]).expect(expected);
    for edit in &edits[1..] {
        writer.append(edit).expect(expected);
    }
    files_of(&disk)
}

//! Export and ingest: beside a model, at every call of a crash, among writers, and with files that are not what they should be.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, also on real files")]

mod common;

use common::world::{COUNTER, Commit, History, Map, check_prefix, contents, work};
use common::{Chance, open, other_options, tiny_options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
use treering_lsm::io::{Disk, OpenMode};
use treering_lsm::{
    Db, Durability, Error, IngestOptions, Isolation, KeyspaceOptions, Options, ReadOptions, Result,
    SortedFile, SortedFileWriter, WriteOptions,
};

const FILES: &str = "/files";

/// A file with these entries, `None` being a delete.
fn file(disk: &SimDisk, name: &str, entries: &[(&[u8], Option<&[u8]>)]) -> Result<SortedFile> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_directory(Path::new(FILES)).unwrap();
    let path = Path::new(FILES).join(name);
    let mut writer = SortedFileWriter::create_on(&disk, &path, &other_options())?;
    for (key, value) in entries {
        match value {
            Some(value) => writer.put(key, value)?,
            None => writer.delete(key)?,
        }
    }
    writer.finish()
}

fn commit_of(chance: &mut Chance, number: usize) -> Commit {
    let mut keys: Vec<u64> = (0..1 + chance.below(60)).map(|_| chance.below(300)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut commit = Commit::new();
    for key in keys {
        let value = (!chance.one_in(5)).then(|| format!("{number}: ingested").into_bytes());
        commit.push((0, format!("key{key:03}").into_bytes(), value));
    }
    commit.push((0, COUNTER.to_vec(), Some(number.to_string().into_bytes())));
    commit
}

/// A commit as one to three files, which are there.
struct Prepared {
    commit: Commit,
    paths: Vec<PathBuf>,
    options: IngestOptions,
}

fn prepare(disk: &SimDisk, chance: &mut Chance, number: usize) -> Prepared {
    let commit = commit_of(chance, number);
    let entries: Vec<_> = commit.iter().map(|(_, k, v)| (&k[..], v.as_deref())).collect();
    let pieces = 1 + chance.below(3) as usize;
    let files = entries.chunks(entries.len().div_ceil(pieces)).enumerate();
    let files = files.map(|(piece, entries)| {
        file(disk, &format!("{number}-{piece}-{}", chance.0), entries).unwrap().path
    });
    let mut paths: Vec<PathBuf> = files.collect();
    if chance.one_in(2) {
        paths.reverse();
    }
    let mut options = IngestOptions::default();
    (options.copy, options.verify) = (chance.one_in(3), chance.one_in(2));
    Prepared { commit, paths, options }
}

impl Prepared {
    fn ingest(&self, db: &Db, history: &mut History) -> Result<()> {
        history.commits.push(self.commit.clone());
        db.default_keyspace().ingest(&self.paths, &self.options)?;
        history.acknowledged = history.commits.len();
        history.synced = history.acknowledged;
        Ok(())
    }
}

fn work_and_ingest(
    db: &Db,
    disk: &SimDisk,
    chance: &mut Chance,
    history: &mut History,
    rounds: usize,
) -> Result<()> {
    for _ in 0..rounds {
        let commits = chance.below(12) as usize;
        work(db, chance, history, commits)?;
        let prepared = prepare(disk, chance, history.commits.len());
        prepared.ingest(db, history)?;
        // Linked or copied: the database needs them no more.
        prepared.paths.iter().for_each(|path| disk.remove(path).unwrap());
    }
    Ok(())
}

fn started(seed: u64) -> (SimDisk, Db) {
    let disk = SimDisk::new(seed);
    let db = open(&disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    (disk, db)
}

#[test]
fn an_ingest_is_a_commit_like_any_other() {
    // Guards: promise 1 of db/ingest.rs, over flushes, compactions, snapshots, reopens and checkpoints.
    for seed in 0..24 {
        let (disk, mut db) = started(seed);
        let (mut chance, mut history) = (Chance(seed), History::default());
        for round in 0..6 {
            let (snapshot, then) = (db.snapshot(), contents(&db));
            work_and_ingest(&db, &disk, &mut chance, &mut history, 5).unwrap();
            let expected = history.state_after(history.commits.len());
            assert_eq!(contents(&db), expected, "seed {seed}");
            let keyspace = db.default_keyspace();
            let old = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
            for number in (0..300).step_by(7) {
                let key = format!("key{number:03}").into_bytes();
                let (now, before) = (keyspace.get(&key), keyspace.get_with(&key, &old));
                let of = |map: &Map| map.get(&(0, key.clone())).cloned();
                assert_eq!(now.unwrap().map(|value| value.to_vec()), of(&expected));
                assert_eq!(before.unwrap().map(|value| value.to_vec()), of(&then), "seed {seed}");
            }
            let backward = keyspace.range(.., &old).unwrap().rev().map(|e| e.unwrap().0);
            let forward = then.keys().filter(|(of, _)| *of == 0).map(|(_, key)| key.clone());
            assert!(backward.eq(forward.rev()), "seed {seed}");
            if round % 2 == 1 {
                drop(old);
                db.verify().unwrap();
                drop(db);
                db = open(&disk, &tiny_options()).unwrap();
                assert_eq!(contents(&db), expected, "seed {seed}");
            }
        }
        db.compact().unwrap();
        db.verify().unwrap();
        assert_eq!(contents(&db), history.state_after(history.commits.len()), "seed {seed}");
        db.checkpoint("/copy").unwrap();
        let environment = treering_lsm::Environment::manual(Arc::new(disk.clone()));
        let copy = Db::open_in(environment, "/copy", tiny_options()).unwrap();
        copy.verify().unwrap();
        assert_eq!(contents(&copy), contents(&db));
    }
}

#[test]
fn an_ingest_cut_at_any_call_leaves_a_prefix_of_the_commits() {
    // Guards: promises 2 and 4: what was buffered before an ingest that survives a power cut survives it too.
    let (mut with, mut without) = (0, 0);
    for seed in 0..4 {
        let run = |cut: Option<u64>| {
            let (disk, db) = started(seed);
            let (mut chance, mut history) = (Chance(seed), History::default());
            work_and_ingest(&db, &disk, &mut chance, &mut history, 3).unwrap();
            work(&db, &mut chance, &mut history, 9).unwrap();
            let prepared = prepare(&disk, &mut chance, history.commits.len());
            let before = disk.io_count();
            cut.iter().for_each(|at| disk.cut_power_at(*at));
            let result = prepared.ingest(&db, &mut history);
            (disk, db, history, before, result)
        };
        let (disk, _db, _, first, result) = run(None);
        result.unwrap();
        for at in first..disk.io_count() {
            let (disk, db, history, _, result) = run(Some(at));
            drop(db);
            for image in [
                disk.after_power_cut(seed, LossModel::Random),
                disk.after_power_cut(at, LossModel::DropAll),
                disk.after_power_cut(at, LossModel::NamesOnly),
            ] {
                let db = open(&image, &tiny_options()).unwrap();
                db.verify().unwrap();
                let place = format!("seed {seed} call {at}");
                let found = check_prefix(&place, &contents(&db), &history, history.synced);
                match found == history.commits.len() {
                    true => with += 1,
                    false => {
                        assert!(result.is_err(), "{place}: acknowledged and lost");
                        without += 1;
                    }
                }
                drop(db);
                let tables = |disk: &SimDisk| {
                    let names = disk.list(Path::new("/db")).unwrap();
                    names.into_iter().filter(|name| name.ends_with(".sst")).count()
                };
                let db = open(&image, &tiny_options()).unwrap();
                let shape: u64 = ["default", "other"]
                    .iter()
                    .map(|name| {
                        let stats = db.stats();
                        let keyspace = stats.keyspaces.iter().find(|k| k.name == *name);
                        keyspace.map_or(0, |k| k.levels.iter().map(|level| level.files).sum())
                    })
                    .sum();
                assert_eq!(tables(&image) as u64, shape, "{place}: a stray file");
            }
        }
    }
    assert!(with > 10 && without > 100, "{with} with, {without} without");
}

#[test]
fn an_ingest_that_fails_at_any_call_changes_nothing() {
    let (mut failed, mut poisoned) = (0, 0);
    for code in [libc::ENOSPC, libc::EIO] {
        let run = |fault: Option<u64>| {
            let (disk, db) = started(1);
            let (mut chance, mut history) = (Chance(1), History::default());
            work_and_ingest(&db, &disk, &mut chance, &mut history, 2).unwrap();
            work(&db, &mut chance, &mut history, 9).unwrap();
            let prepared = prepare(&disk, &mut chance, history.commits.len());
            let before = disk.io_count();
            fault.iter().for_each(|at| disk.fail_at(*at, code, true));
            let result = prepared.ingest(&db, &mut history);
            (disk, db, history, before, result, prepared)
        };
        let (disk, _db, _, first, _, _) = run(None);
        for at in first..disk.io_count() {
            let (disk, db, mut history, _, result, prepared) = run(Some(at));
            let found = contents(&db);
            let all = history.state_after(history.commits.len());
            match result {
                Ok(()) => assert_eq!(found, all, "call {at}"),
                Err(error) => {
                    failed += 1;
                    assert!(!matches!(error, Error::Corruption { .. }), "call {at}: {error}");
                    let count = history.commits.len() - 1;
                    assert_eq!(found, history.state_after(count), "call {at}: {error}");
                    disk.clear_faults();
                    if db.health().takes_writes() || {
                        db.step().ok();
                        db.health().takes_writes()
                    } {
                        history.commits.pop();
                        prepared.ingest(&db, &mut history).unwrap();
                        assert_eq!(contents(&db), all, "call {at}");
                    } else {
                        poisoned += 1;
                        drop(db);
                        let db = open(&disk, &tiny_options()).unwrap();
                        check_prefix("reopened", &contents(&db), &history, count);
                    }
                }
            }
        }
    }
    assert!(failed > 20 && poisoned > 0, "{failed} failed, {poisoned} poisoned");
}

#[test]
fn what_is_in_memory_neither_hides_an_ingest_nor_is_hidden_by_it() {
    let (disk, db) = started(1);
    let keyspace = db.default_keyspace();
    let made = file(&disk, "a", &[(b"c", Some(b"file")), (b"e", None)]).unwrap();
    let none = WriteOptions { durability: Some(Durability::None) };
    for key in [&b"b"[..], b"c", b"d", b"e", b"f"] {
        keyspace.put_with(key, b"before", &none).unwrap();
    }
    db.delete_range(&b"a"[..]..b"c").unwrap();
    let mut transaction = db.transaction(Isolation::Snapshot);
    transaction.put(keyspace, b"c", b"mine").unwrap();
    let snapshot = db.snapshot();
    let sequence = keyspace.ingest(&[&made.path], &IngestOptions::default()).unwrap();
    assert_eq!((sequence, db.snapshot().sequence()), (snapshot.sequence() + 1, sequence));
    let refused = transaction.commit(&WriteOptions::default());
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    keyspace.put(b"d", b"after").unwrap();
    let seen = |db: &Db| -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = db.default_keyspace().range(.., &ReadOptions::default()).unwrap();
        entries.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect()
    };
    let expected: Vec<(Vec<u8>, Vec<u8>)> = [("c", "file"), ("d", "after"), ("f", "before")]
        .map(|(key, value)| (key.into(), value.into()))
        .to_vec();
    assert_eq!(seen(&db), expected);
    db.delete_range(..).unwrap();
    // The same file again, over a range delete that is newer than its first time; and beside it in the other keyspace.
    keyspace.ingest(&[&made.path], &IngestOptions::default()).unwrap();
    let other = db.keyspace("other").unwrap();
    other.ingest(&[&made.path], &IngestOptions::default()).unwrap();
    assert_eq!(seen(&db), [(b"c".to_vec(), b"file".to_vec())]);
    assert_eq!(other.get(b"c").unwrap().as_deref(), Some(&b"file"[..]));
    db.compact().unwrap();
    db.verify().unwrap();
    assert_eq!(seen(&db), [(b"c".to_vec(), b"file".to_vec())]);
    assert_eq!(db.stats().ingested_files, 3);
}

#[test]
fn an_export_holds_what_a_reader_sees_and_nothing_else() {
    let mut most = 0;
    for seed in 0..12 {
        let (disk, db) = started(seed);
        let (mut chance, mut history) = (Chance(seed), History::default());
        work(&db, &mut chance, &mut history, 400).unwrap();
        let snapshot = db.snapshot();
        let then = contents(&db);
        db.delete_range(&b"key100"[..]..b"key200").unwrap();
        work(&db, &mut chance, &mut history, 40).unwrap();
        let keyspace = db.keyspace("other").unwrap();
        let options = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
        let files = keyspace.export(&b"key050"[..]..b"key250", FILES, &options).unwrap();
        most = most.max(files.len());
        assert!(files.windows(2).all(|pair| pair[0].largest < pair[1].smallest));
        let target = SimDisk::new(seed);
        target.create_directory(Path::new("/in")).unwrap();
        let paths: Vec<PathBuf> =
            files.iter().map(|file| carry(&disk, &target, &file.path)).collect();
        let there = open(&target, &tiny_options()).unwrap();
        there.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
        there.verify().unwrap();
        let expected = then
            .iter()
            .filter(|((of, key), _)| *of == 1 && &key[..] >= b"key050" && &key[..] < b"key250");
        let expected: Map = expected.map(|((_, k), v)| ((0, k.clone()), v.clone())).collect();
        assert_eq!(contents(&there), expected, "seed {seed}");
        assert_eq!(files.iter().map(|file| file.entries).sum::<u64>(), expected.len() as u64);
    }
    assert!(most > 1, "never more than one file");
}

/// Takes a file from one disk to another.
fn carry(from: &SimDisk, to: &SimDisk, path: &Path) -> PathBuf {
    let source = from.open(path, OpenMode::READ).unwrap();
    let mut bytes = vec![0; source.size().unwrap() as usize];
    treering_lsm::io::read_full(&*source, 0, &mut bytes).unwrap();
    let copy = Path::new("/in").join(path.file_name().unwrap());
    let target = to.open(&copy, OpenMode::CREATE).unwrap();
    treering_lsm::io::write_full(&*target, 0, &bytes, false).unwrap();
    copy
}

#[test]
fn an_export_in_the_way_of_files_removes_only_its_own() {
    let (disk, db) = started(1);
    for number in 0..3000u32 {
        db.put(&number.to_be_bytes(), &[7; 100]).unwrap();
    }
    let mine = file(&disk, "000003.sst", &[(b"mine", Some(b"1"))]).unwrap();
    let refused = db.default_keyspace().export(.., FILES, &ReadOptions::default());
    assert!(matches!(refused, Err(Error::Io { operation: "create", .. })), "{refused:?}");
    assert_eq!(disk.list(Path::new(FILES)).unwrap(), ["000003.sst"]);
    db.default_keyspace().ingest(&[mine.path], &IngestOptions::default()).unwrap();
}

#[test]
fn files_that_are_not_right_are_refused_and_change_nothing() {
    let (disk, db) = started(1);
    let keyspace = db.default_keyspace();
    db.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    let refusal = |paths: &[&Path]| {
        let error = keyspace.ingest(paths, &IngestOptions::default()).unwrap_err();
        assert_eq!(contents(&db).len(), 1);
        assert!(db.health().takes_writes());
        error
    };
    let one = file(&disk, "one", &[(b"b", Some(b"1")), (b"d", Some(b"1"))]).unwrap().path;
    let two = file(&disk, "two", &[(b"d", Some(b"2"))]).unwrap().path;
    let overlap = refusal(&[&one, &two]).to_string();
    assert!(overlap.contains("/files/one and /files/two overlap"), "{overlap}");
    assert!(matches!(refusal(&[&one, &one]), Error::InvalidOption { option: "files", .. }));
    assert!(matches!(refusal(&[Path::new("/files/three")]), Error::Io { operation: "open", .. }));
    let own = disk.list(Path::new("/db")).unwrap();
    let own = own.iter().find(|name| name.ends_with(".sst")).unwrap();
    let foreign = refusal(&[&Path::new("/db").join(own)]).to_string();
    assert!(foreign.contains("is a table of a database"), "{foreign}");
    let names = disk.list(Path::new("/db")).unwrap();
    let size = disk.open(&two, OpenMode::READ).unwrap().size().unwrap();
    for bit in (0..size * 8).step_by(101) {
        disk.flip_bit(&two, bit).unwrap();
        // In the padding a flipped bit is damage as well.
        let error = refusal(&[&two]);
        let is_told = matches!(error, Error::Corruption { .. } | Error::NewerFormat { .. });
        assert!(is_told, "bit {bit}: {error}");
        disk.flip_bit(&two, bit).unwrap();
    }
    assert_eq!(disk.list(Path::new("/db")).unwrap(), names, "a file was left behind");
    keyspace.ingest(&[&two], &IngestOptions::default()).unwrap();
    assert_eq!(
        keyspace.ingest(&[&one][..0], &IngestOptions::default()).unwrap(),
        db.snapshot().sequence()
    );
}

#[test]
fn a_sorted_file_takes_only_what_it_can_keep() {
    let disk = SimDisk::new(1);
    let refused = |entries: &[(&[u8], Option<&[u8]>)]| {
        let error = file(&disk, "bad", entries).unwrap_err();
        assert_eq!(disk.list(Path::new(FILES)).unwrap(), [""; 0], "{error}");
        error
    };
    let unsorted = refused(&[(b"b", Some(b"1")), (b"a", None)]).to_string();
    assert!(unsorted.contains("b\"a\" does not come after b\"b\""), "{unsorted}");
    assert!(matches!(
        refused(&[(b"b", None), (b"b", None)]),
        Error::InvalidOption { option: "key", .. }
    ));
    assert!(matches!(refused(&[(b"", None)]), Error::KeyTooLarge { .. }));
    let long = vec![1; treering_lsm::limits::KEY_BYTES_MAX + 1];
    assert!(matches!(refused(&[(&long, None)]), Error::KeyTooLarge { .. }));
    assert!(matches!(refused(&[]), Error::InvalidOption { option: "table", .. }));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let mut bad = KeyspaceOptions::default();
    bad.block_bytes = 0;
    let refused = SortedFileWriter::create_on(&disk, Path::new("/files/x"), &bad);
    assert!(matches!(refused, Err(Error::InvalidOption { .. })));
}

#[test]
fn a_file_system_without_links_gets_a_copy() {
    let (disk, db) = started(1);
    let made = file(&disk, "a", &[(b"c", Some(b"1"))]).unwrap();
    disk.fail_matching(|call, _| call == Call::Link, libc::EXDEV, true);
    db.default_keyspace().ingest(&[&made.path], &IngestOptions::default()).unwrap();
    assert_eq!(disk.fired(), 1);
    // Not shared: what happens to the file is none of the database's business.
    let file = disk.open(&made.path, OpenMode { write: true, ..OpenMode::READ }).unwrap();
    treering_lsm::io::write_full(&*file, 0, &[0; 100], false).unwrap();
    db.verify().unwrap();
    assert_eq!(db.get(b"c").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn snapshots_see_a_prefix_while_writers_ingests_and_compactions_race() {
    // Guards: promise 1 with threads. A writer and an ingester each write down what they have seen of the other.
    let home = tempfile::tempdir().unwrap();
    let mut options = tiny_options();
    options.memory_limit = 8 << 20;
    let db = Db::open(home.path().join("db"), options).unwrap();
    let number = |db: &Db, key: &[u8], options: &ReadOptions| {
        let value = db.default_keyspace().get_with(key, options).unwrap();
        value.map_or(0, |value| u64::from_be_bytes(value[..8].try_into().unwrap()))
    };
    let (written, ingested, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let seen = ingested.load(Ordering::SeqCst);
                // "b" lies between the keys of the files, "m" does not.
                let key = if n % 2 == 0 { &b"m"[..] } else { b"b" };
                let value = [&n.to_be_bytes()[..], &seen.to_be_bytes(), &[0; 80]].concat();
                db.put(key, &value).unwrap();
                written.store(n, Ordering::SeqCst);
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let snapshot = db.snapshot();
                let at = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
                let value = |key: &[u8]| {
                    let value = db.default_keyspace().get_with(key, &at).unwrap();
                    let word = |value: &[u8], at: usize| {
                        u64::from_be_bytes(value[at..at + 8].try_into().unwrap())
                    };
                    value.map_or((0, 0), |value| (word(&value, 0), word(&value, 8)))
                };
                let (b, m, file, file_end) = (value(b"b"), value(b"m"), value(b"a"), value(b"c"));
                assert_eq!(file, file_end, "half an ingest");
                assert!(b.0.max(m.0) >= file.1, "an ingest without a write before it");
                assert!(file.0 >= b.1.max(m.1), "a write without an ingest before it");
                assert!(b.0.abs_diff(m.0) <= 1, "a write without the one before it");
            }
        });
        for n in 1..=60u64 {
            let seen = written.load(Ordering::SeqCst);
            let path = home.path().join(format!("{n}.sst"));
            let mut writer = SortedFileWriter::create(&path, &other_options()).unwrap();
            let value = [&n.to_be_bytes()[..], &seen.to_be_bytes()].concat();
            writer.put(b"a", &value).unwrap();
            writer.put(b"c", &value).unwrap();
            writer.finish().unwrap();
            db.default_keyspace().ingest(&[path], &IngestOptions::default()).unwrap();
            ingested.store(n, Ordering::SeqCst);
            if n % 10 == 0 {
                db.compact().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(number(&db, b"a", &ReadOptions::default()), 60);
    db.verify().unwrap();
    db.close().unwrap();
    let db = Db::open(home.path().join("db"), Options::default()).unwrap();
    assert_eq!(number(&db, b"c", &ReadOptions::default()), 60);
}

#[test]
fn a_symbolic_link_is_not_what_is_taken_in() {
    // Guards: the database has the file, not a name that leads to it.
    let home = tempfile::tempdir().unwrap();
    let (path, link) = (home.path().join("a.sst"), home.path().join("link.sst"));
    let mut writer = SortedFileWriter::create(&path, &KeyspaceOptions::default()).unwrap();
    writer.put(b"a", b"1").unwrap();
    writer.finish().unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let db = Db::open(home.path().join("db"), Options::default()).unwrap();
    db.default_keyspace().ingest(&[&link], &IngestOptions::default()).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(&link).unwrap();
    db.close().unwrap();
    let db = Db::open(home.path().join("db"), Options::default()).unwrap();
    db.verify().unwrap();
    assert_eq!(db.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn a_range_delete_in_memory_comes_to_the_tables_before_an_ingest() {
    // Guards: a compaction of the files says of its output that all older range deletes are applied; one that is still in a memtable would never be.
    let (disk, db) = started(1);
    let keyspace = db.default_keyspace();
    db.put(b"old", b"1").unwrap();
    db.flush().unwrap();
    db.delete_range(&b"o"[..]..b"p").unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 0);
    let made = file(&disk, "a", &[(b"z", Some(b"1"))]).unwrap();
    keyspace.ingest(&[made.path], &IngestOptions::default()).unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 1);
    let mut large = treering_lsm::WriteBatch::new();
    db.delete_range(&b"q"[..]..b"r").unwrap();
    for number in 0..400u32 {
        large.put(keyspace, &number.to_be_bytes(), &[1; 100]).unwrap();
    }
    let flushes = db.stats().flush_count;
    db.write(&large, &WriteOptions::default()).unwrap();
    assert!(
        db.stats().flush_count > flushes,
        "the range delete is in the manifest, or needed no more"
    );
    db.compact().unwrap();
    assert!(db.get(b"old").unwrap().is_none());
}

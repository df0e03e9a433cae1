//! Dropping keyspaces: among writers and background work, at every call of a crash, and with the name taken again.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, also on real files")]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use treering_lsm::base::clock::{Clock, ManualClock};
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Db, Durability, Environment, Error, IngestOptions, Isolation, Keyspace, KeyspaceOptions,
    ReadOptions, Result, WriteBatch, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn contents(keyspace: &Keyspace) -> Map {
    let entries = keyspace.range(.., &ReadOptions::default()).unwrap();
    entries.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect()
}

fn is_dropped<T>(answer: Result<T>) -> bool {
    matches!(answer, Err(Error::KeyspaceDropped { name }) if name == "gone")
}

fn options_with_all() -> KeyspaceOptions {
    let mut options = other_options();
    options.merge_operator = Some("append".to_owned());
    options.ttl = Some(Duration::from_secs(1000));
    options
}

fn tables(disk: &SimDisk) -> usize {
    let names = disk.list(Path::new("/db")).unwrap();
    names.iter().filter(|name| name.ends_with(".sst")).count()
}

#[test]
fn a_dropped_keyspace_answers_nothing_but_that_it_was_dropped() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    let gone = db.create_keyspace("gone", options_with_all()).unwrap();
    gone.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    gone.put(b"b", b"2").unwrap();
    gone.set_guard_keys(["b"]).unwrap();
    gone.delete_range(&b"x"[..]..).unwrap();
    let snapshot = db.snapshot();
    let mut cursor = gone.cursor(&ReadOptions::default()).unwrap();
    cursor.seek_to_first().unwrap();
    let value = gone.get(b"a").unwrap().unwrap();
    let mut writes = db.transaction(Isolation::Snapshot);
    writes.put(&gone, b"a", b"3").unwrap();
    let mut reads = db.transaction(Isolation::Serializable);
    assert!(reads.get(&gone, b"zzz").unwrap().is_none());
    reads.put(db.default_keyspace(), b"saw", b"nothing").unwrap();
    let mut batch = WriteBatch::new();
    batch.put(db.default_keyspace(), b"with", b"1").unwrap();
    batch.put(&gone, b"c", b"1").unwrap();

    db.drop_keyspace("gone").unwrap();

    let old = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    assert!(is_dropped(gone.get(b"a")) && is_dropped(gone.get_with(b"a", &old)));
    assert!(is_dropped(gone.multi_get(&[b"a"], &old).pop().unwrap()));
    assert!(is_dropped(gone.cursor(&old).map(drop)) && is_dropped(gone.range(.., &old).map(drop)));
    assert!(is_dropped(gone.estimate(..)) && is_dropped(gone.compact_range(None)));
    assert!(is_dropped(gone.put(b"a", b"1")) && is_dropped(gone.delete(b"a")));
    assert!(is_dropped(gone.delete_range(..)) && is_dropped(gone.merge(b"a", b"1")));
    assert!(is_dropped(gone.set_guard_keys(["a"])) && is_dropped(gone.export(.., "/x", &old)));
    assert!(is_dropped(db.write(&batch, &WriteOptions::default())));
    assert!(is_dropped(writes.commit(&WriteOptions::default())));
    let refused = reads.commit(&WriteOptions::default());
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert!(db.get(b"with").unwrap().is_none() && db.get(b"saw").unwrap().is_none());
    assert!(matches!(db.keyspace("gone"), Err(Error::KeyspaceNotFound { .. })));
    assert!(matches!(db.drop_keyspace("gone"), Err(Error::KeyspaceNotFound { .. })));
    assert_eq!(db.keyspace_names(), ["default"]);
    assert_eq!(db.stats().keyspaces.len(), 1);
    let refused = db.drop_keyspace("default").unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "name", .. }), "{refused}");

    // What was taken before stays.
    assert_eq!((cursor.key(), &value[..]), (&b"a"[..], &b"1"[..]));
    assert!(cursor.next().unwrap() && cursor.value() == b"2");
    drop((cursor, value, old));
    db.flush().unwrap();
    while db.step().unwrap() {}
    assert_eq!(tables(&disk), 0, "its tables are unlinked");

    // Neither its operator nor its name is needed any more.
    let again = db.create_keyspace("gone", KeyspaceOptions::default()).unwrap();
    assert!(contents(&again).is_empty() && again.id() != gone.id());
    again.put(b"a", b"new").unwrap();
    assert!(is_dropped(gone.get(b"a")));
    db.compact().unwrap();
    db.verify().unwrap();
    drop((gone, again, db));
    for _ in 0..2 {
        let db = open(&disk, &tiny_options()).unwrap();
        assert_eq!(contents(&db.keyspace("gone").unwrap()).len(), 1);
        assert_eq!(db.keyspace_names(), ["default", "gone"]);
    }
}

#[test]
fn a_drop_cut_at_any_call_is_whole_or_did_not_happen() {
    let (mut with, mut without) = (0, 0);
    for seed in 0..6 {
        let run = |cut: Option<u64>| {
            let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
            let db = open(&disk, &tiny_options()).unwrap();
            let gone = db.create_keyspace("gone", options_with_all()).unwrap();
            let mut model = Map::new();
            for number in 0..300u32 {
                let key = format!("key{:03}", chance.below(200)).into_bytes();
                let keyspace = if chance.one_in(2) { &gone } else { db.default_keyspace() };
                keyspace.put(&key, &number.to_le_bytes().repeat(20)).unwrap();
                if keyspace.id().0 == 0 {
                    model.insert(key, number.to_le_bytes().repeat(20));
                }
                if chance.one_in(20) {
                    db.step().unwrap();
                }
            }
            db.put_synced();
            let (before, kept) = (contents(&gone), disk.io_count());
            cut.iter().for_each(|at| disk.cut_power_at(*at));
            let dropped = db.drop_keyspace("gone");
            let made = dropped.and_then(|()| {
                let again = db.create_keyspace("gone", other_options())?;
                let sync = WriteOptions::sync();
                again.put_with(b"key", b"again", &sync)?;
                db.flush()?;
                while db.step()? {}
                Ok(())
            });
            (disk, before, model, kept, made)
        };
        let (disk, _, _, first, made) = run(None);
        made.unwrap();
        for at in (first..disk.io_count()).step_by(2) {
            let (disk, before, model, _, made) = run(Some(at));
            for image in [
                disk.after_power_cut(seed, LossModel::Random),
                disk.after_power_cut(at, LossModel::DropAll),
            ] {
                let db = open(&image, &tiny_options()).unwrap();
                db.verify().unwrap();
                let mut found = contents(db.default_keyspace());
                found.remove(&b"synced"[..]);
                assert_eq!(found, model, "seed {seed} call {at}");
                match db.keyspace("gone").map(|keyspace| contents(&keyspace)) {
                    Ok(found) if found == before => {
                        assert!(made.is_err(), "seed {seed} call {at}: it is back");
                        without += 1;
                    }
                    Ok(found) => {
                        assert!(found.len() <= 1, "seed {seed} call {at}: half of it is there");
                        assert!(found.keys().all(|key| key == b"key"), "old data in the new one");
                        assert!(made.is_err() || found.len() == 1, "a synced write is lost");
                        with += 1;
                    }
                    Err(_) => {
                        assert!(made.is_err(), "seed {seed} call {at}: the new one is lost");
                        with += 1;
                    }
                }
                while db.step().unwrap() {}
                let levels = db.stats().keyspaces.into_iter().flat_map(|keyspace| keyspace.levels);
                let known: u64 = levels.map(|level| level.files).sum();
                assert_eq!(tables(&image) as u64, known, "seed {seed} call {at}: a stray table");
            }
        }
    }
    assert!(with > 20 && without > 5, "{with} with, {without} without");
}

trait PutSynced {
    fn put_synced(&self);
}

impl PutSynced for Db {
    /// What was Buffered before survives the cut as well.
    fn put_synced(&self) {
        let sync = WriteOptions { durability: Some(Durability::Sync) };
        self.default_keyspace().put_with(b"synced", b"1", &sync).unwrap();
    }
}

#[test]
fn writers_flushes_and_compactions_race_with_a_drop_and_nothing_breaks() {
    // Guards: promises 3 and 4, with threads.
    let home = tempfile::tempdir().unwrap();
    let mut options = tiny_options();
    options.memory_limit = 8 << 20;
    let db = Db::open(home.path().join("db"), options).unwrap();
    let (done, kept) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                db.put(&number.to_be_bytes(), &[1; 60]).unwrap();
                kept.store(number + 1, Ordering::SeqCst);
            }
        });
        for writer in 0..2u64 {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                let mut number = writer;
                while !done.load(Ordering::Relaxed) {
                    let Ok(keyspace) = db.keyspace("gone") else { continue };
                    number += 2;
                    match keyspace.put(&number.to_be_bytes(), &[writer as u8; 120]) {
                        Ok(()) | Err(Error::KeyspaceDropped { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        let mut ids = Vec::new();
        for _ in 0..30 {
            let keyspace = db.create_keyspace("gone", other_options()).unwrap();
            ids.push(keyspace.id());
            while contents(&keyspace).len() < 300 {
                std::thread::yield_now();
            }
            db.drop_keyspace("gone").unwrap();
            assert!(is_dropped(keyspace.get(b"a")) && is_dropped(keyspace.put(b"a", b"1")));
        }
        done.store(true, Ordering::Relaxed);
        ids.dedup();
        assert_eq!(ids.len(), 30, "a number was given out twice");
    });
    db.wait_for_compactions().unwrap();
    db.verify().unwrap();
    assert!(db.health().takes_writes());
    assert_eq!(contents(db.default_keyspace()).len() as u64, kept.load(Ordering::SeqCst));
    db.close().unwrap();
    let db = Db::open(home.path().join("db"), tiny_options()).unwrap();
    assert_eq!(contents(db.default_keyspace()).len() as u64, kept.load(Ordering::SeqCst));
    assert_eq!(db.keyspace_names(), ["default"]);
}

#[test]
fn what_comes_past_the_memtables_meets_a_drop_as_well() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    let gone = db.create_keyspace("gone", other_options()).unwrap();
    for number in 0..50u32 {
        gone.put(&number.to_be_bytes(), &[0; 50]).unwrap();
    }
    let files = gone.export(.., "/files", &ReadOptions::default()).unwrap();
    let mut large = WriteBatch::new();
    for number in 0..400u32 {
        large.put(&gone, &number.to_be_bytes(), &[0; 100]).unwrap();
    }
    db.drop_keyspace("gone").unwrap();
    let paths: Vec<_> = files.iter().map(|file| &file.path).collect();
    assert!(is_dropped(gone.ingest(&paths, &IngestOptions::default())));
    assert!(is_dropped(db.write(&large, &WriteOptions::default())));
    db.flush().unwrap();
    while db.step().unwrap() {}
    assert_eq!(tables(&disk), 0, "a table was left");
}

#[test]
fn an_ingested_table_expires_like_any_other() {
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::default());
    let mut environment = Environment::manual(Arc::new(disk.clone()));
    environment.clock = Arc::<ManualClock>::clone(&clock);
    let db = Db::open_in(environment, "/db", tiny_options()).unwrap();
    let short = db.create_keyspace("short", options_with_all()).unwrap();
    short.put(b"a", b"1").unwrap();
    let files = short.export(.., "/files", &ReadOptions::default()).unwrap();
    short.ingest(&[&files[0].path], &IngestOptions::default()).unwrap();
    // The last write there ever is.
    for _ in 0..60 {
        clock.sleep(Duration::from_secs(50));
        while db.step().unwrap() {}
    }
    assert!(contents(&short).is_empty());
    assert_eq!(tables(&disk), 0);
}

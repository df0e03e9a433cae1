//! Batches and transactions that read their own writes: beside a model, both ways, through commits, conflicts and crashes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, tiny_options};
use std::collections::BTreeMap;
use std::ops::Bound;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Db, Error, IndexedBatch, Isolation, Keyspace, OverlayRange, PinnedSlice, ReadOptions, Result,
    Transaction, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Either of the two that read their own writes.
enum Own {
    Batch(IndexedBatch),
    Transaction(Box<Transaction>),
}

impl Own {
    fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Own::Batch(own) => own.put(keyspace, key, value),
            Own::Transaction(own) => own.put(keyspace, key, value),
        }
    }

    fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        match self {
            Own::Batch(own) => own.delete(keyspace, key),
            Own::Transaction(own) => own.delete(keyspace, key),
        }
    }

    fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        match self {
            Own::Batch(own) => own.merge(keyspace, key, operand),
            Own::Transaction(own) => own.merge(keyspace, key, operand),
        }
    }

    fn delete_range(&mut self, keyspace: &Keyspace, range: Bounds<'_>) -> Result<()> {
        match self {
            Own::Batch(own) => own.delete_range(keyspace, range),
            Own::Transaction(own) => own.delete_range(keyspace, range),
        }
    }

    fn get(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<PinnedSlice>> {
        match self {
            Own::Batch(own) => own.get(keyspace, key),
            Own::Transaction(own) => own.get(keyspace, key),
        }
    }

    fn range(&mut self, keyspace: &Keyspace, range: Bounds<'_>) -> Result<OverlayRange<'_>> {
        match self {
            Own::Batch(own) => own.range(keyspace, range),
            Own::Transaction(own) => own.range(keyspace, range),
        }
    }

    fn commit(self) -> Result<()> {
        match self {
            Own::Batch(own) => own.write(&WriteOptions::sync()),
            Own::Transaction(own) => own.commit(&WriteOptions::sync()),
        }
    }
}

type Bounds<'k> = (Bound<&'k [u8]>, Bound<&'k [u8]>);

fn key(number: u64) -> Vec<u8> {
    format!("key{number:03}").into_bytes()
}

/// Appends, as the operator of the keyspace does.
fn add(map: &mut Map, key: &[u8], operand: &[u8]) {
    map.entry(key.to_vec()).or_default().extend_from_slice(operand);
}

fn remove(map: &mut Map, range: Bounds<'_>) {
    map.retain(|key, _| !std::ops::RangeBounds::<[u8]>::contains(&range, &key[..]));
}

fn appending() -> treering_lsm::Options {
    let mut options = tiny_options();
    options.default_keyspace.merge_operator = Some("append".into());
    options
}

/// A range of any kind of bounds that is not the wrong way round.
fn bounds(chance: &mut Chance, keys: u64) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let from = chance.below(keys);
    let length = if chance.one_in(4) { keys } else { 10 };
    let to = from + chance.below(length);
    let bound = |chance: &mut Chance, number| match chance.below(10) {
        0 => Bound::Unbounded,
        1..4 => Bound::Excluded(key(number)),
        _ => Bound::Included(key(number)),
    };
    (bound(chance, from), bound(chance, to))
}

fn slices(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Bounds<'_> {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

/// Random writes to `own` and to the model of what it shows.
fn write(own: &mut Own, keyspace: &Keyspace, model: &mut Map, chance: &mut Chance, keys: u64) {
    let key = key(chance.below(keys));
    match chance.below(12) {
        0..5 => {
            let value = vec![b'a' + chance.below(26) as u8; chance.below(40) as usize];
            own.put(keyspace, &key, &value).unwrap();
            model.insert(key, value);
        }
        5..7 => {
            own.delete(keyspace, &key).unwrap();
            model.remove(&key);
        }
        7..10 => {
            own.merge(keyspace, &key, b"+").unwrap();
            add(model, &key, b"+");
        }
        _ => {
            let range = bounds(chance, keys);
            own.delete_range(keyspace, slices(&range)).unwrap();
            remove(model, slices(&range));
        }
    }
}

/// Every way of reading shows the model.
fn check(own: &mut Own, keyspace: &Keyspace, model: &Map, chance: &mut Chance, keys: u64) {
    for number in 0..keys {
        let found = own.get(keyspace, &key(number)).unwrap();
        assert_eq!(found.as_deref(), model.get(&key(number)).map(Vec::as_slice));
    }
    let range = bounds(chance, keys);
    let inside = |(key, _): &(&Vec<u8>, &Vec<u8>)| {
        std::ops::RangeBounds::<[u8]>::contains(&slices(&range), &key[..])
    };
    let expected: Vec<_> =
        model.iter().filter(inside).map(|(k, v)| (k.clone(), v.clone())).collect();
    let owned = |entry: Result<(Vec<u8>, PinnedSlice)>| {
        let (key, value) = entry.unwrap();
        (key, value.to_vec())
    };
    let forward: Vec<_> = own.range(keyspace, slices(&range)).unwrap().map(owned).collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> =
        own.range(keyspace, slices(&range)).unwrap().rev().map(owned).collect();
    backward.reverse();
    assert_eq!(backward, expected);
    // From both ends in turn, until they meet.
    let mut both = own.range(keyspace, slices(&range)).unwrap();
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let entry = if chance.one_in(2) {
            both.next().map(|entry| front.push(owned(entry)))
        } else {
            both.next_back().map(|entry| back.push(owned(entry)))
        };
        if entry.is_none() {
            break;
        }
    }
    assert!(both.next().is_none() && both.next_back().is_none());
    front.extend(back.into_iter().rev());
    assert_eq!(front, expected);
}

fn contents(db: &Db) -> Map {
    let range = db.default_keyspace().range(.., &ReadOptions::default()).unwrap();
    range.map(|entry| entry.unwrap()).map(|(key, value)| (key, value.to_vec())).collect()
}

#[test]
fn own_reads_show_what_a_commit_makes_true() {
    // Promise: what is read before the commit is what everybody reads after it.
    for seed in 0..40u64 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let db = open(&disk, &appending()).unwrap();
        let keyspace = db.default_keyspace().clone();
        let keys = 1 + chance.below(150);
        let mut stored = Map::new();
        for _ in 0..8 {
            let mut own = match chance.below(3) {
                0 => Own::Batch(db.indexed_batch()),
                1 => Own::Transaction(Box::new(db.transaction(Isolation::Snapshot))),
                _ => Own::Transaction(Box::new(db.transaction(Isolation::Serializable))),
            };
            let mut model = stored.clone();
            for _ in 0..chance.below(40) {
                write(&mut own, &keyspace, &mut model, &mut chance, keys);
                if chance.one_in(8) {
                    check(&mut own, &keyspace, &model, &mut chance, keys);
                }
            }
            check(&mut own, &keyspace, &model, &mut chance, keys);
            assert_eq!(contents(&db), stored, "seed {seed}: nothing shows before");
            if chance.one_in(5) {
                drop(own);
                assert_eq!(contents(&db), stored, "seed {seed}: nothing is left of it");
                continue;
            }
            own.commit().unwrap();
            stored = model;
            assert_eq!(contents(&db), stored, "seed {seed}");
            match chance.below(4) {
                0 => db.flush().unwrap(),
                1 => db.compact().unwrap(),
                _ => drop(db.step().unwrap()),
            }
            assert_eq!(contents(&db), stored, "seed {seed}");
        }
        let db = open(&disk.after_power_cut(seed, LossModel::DropAll), &appending()).unwrap();
        assert_eq!(contents(&db), stored, "seed {seed}: all commits were synced");
    }
}

#[test]
fn a_crash_leaves_all_of_an_indexed_batch_or_nothing() {
    for seed in 0..4u64 {
        let run = |disk: &SimDisk| -> Result<Vec<Map>> {
            let db = open(disk, &appending())?;
            let (keyspace, mut chance) = (db.default_keyspace().clone(), Chance(seed));
            let mut states = vec![Map::new()];
            for _ in 0..12 {
                let mut own = Own::Batch(db.indexed_batch());
                let mut model = states.last().unwrap().clone();
                for _ in 0..20 {
                    write(&mut own, &keyspace, &mut model, &mut chance, 40);
                }
                states.push(model);
                match own.commit() {
                    Ok(()) => drop(db.step()),
                    Err(_) => break,
                }
            }
            Ok(states)
        };
        let whole = SimDisk::new(seed);
        run(&whole).unwrap();
        for at in 60..whole.io_count() {
            let disk = SimDisk::new(seed);
            disk.cut_power_at(at);
            let Ok(states) = run(&disk) else { continue };
            let image = disk.after_power_cut(at, LossModel::Tear512);
            let found = contents(&open(&image, &appending()).unwrap());
            let near = states.iter().rev().take(2).any(|state| *state == found);
            assert!(near, "seed {seed} call {at}");
        }
    }
}

#[test]
fn merges_and_range_deletes_of_a_transaction_conflict_with_what_others_write() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &appending()).unwrap();
    let keyspace = db.default_keyspace();
    let commit = |write: &dyn Fn(&mut Transaction), meanwhile: &dyn Fn()| {
        keyspace.put(b"key1", b"1").unwrap();
        keyspace.delete(b"key2").unwrap();
        let mut transaction = db.transaction(Isolation::Snapshot);
        write(&mut transaction);
        meanwhile();
        transaction.commit(&WriteOptions::default())
    };
    let is_conflict = |answer: Result<()>, at: &[u8]| match answer {
        Err(Error::Conflict { key, .. }) => assert_eq!(key, at),
        other => panic!("{other:?}"),
    };
    let merge = |transaction: &mut Transaction| transaction.merge(keyspace, b"key1", b"+").unwrap();
    is_conflict(commit(&merge, &|| keyspace.merge(b"key1", b"-").unwrap()), b"key1");
    assert_eq!(db.get(b"key1").unwrap().as_deref(), Some(&b"1-"[..]));
    commit(&merge, &|| keyspace.put(b"key2", b"2").unwrap()).unwrap();
    assert_eq!(db.get(b"key1").unwrap().as_deref(), Some(&b"1+"[..]));

    let range = &b"key1"[..]..&b"key3"[..];
    let delete =
        |transaction: &mut Transaction| transaction.delete_range(keyspace, range.clone()).unwrap();
    is_conflict(commit(&delete, &|| keyspace.put(b"key2", b"new").unwrap()), b"key2");
    assert!(db.get(b"key1").unwrap().is_some());
    is_conflict(commit(&delete, &|| keyspace.delete(b"key1").unwrap()), b"key1");
    commit(&delete, &|| keyspace.put(b"key3", b"beyond").unwrap()).unwrap();
    assert!(db.get(b"key1").unwrap().is_none() && db.get(b"key3").unwrap().is_some());

    // A key that was merged here is read from the database, and so relied on.
    let mut reading = db.transaction(Isolation::Serializable);
    reading.merge(keyspace, b"key5", b"+").unwrap();
    assert_eq!(reading.get(keyspace, b"key5").unwrap().as_deref(), Some(&b"+"[..]));
    keyspace.put(b"key5", b"5").unwrap();
    is_conflict(reading.commit(&WriteOptions::default()), b"key5");
}

#[test]
fn what_cannot_be_written_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(2);
    let db = open(&disk, &appending()).unwrap();
    let plain = db.create_keyspace("plain", tiny_options().default_keyspace).unwrap();
    let elsewhere = open(&SimDisk::new(3), &appending()).unwrap();
    let mut batch = db.indexed_batch();
    let refused = |answer: Result<()>, of: &str| match answer {
        Err(Error::InvalidOption { option, .. }) => assert_eq!(option, of),
        other => panic!("{other:?}"),
    };
    refused(batch.merge(&plain, b"key", b"+"), "merge_operator");
    refused(batch.put(elsewhere.default_keyspace(), b"key", b""), "batch");
    refused(batch.get(elsewhere.default_keyspace(), b"key").map(drop), "batch");
    refused(batch.range(elsewhere.default_keyspace(), ..).map(drop), "batch");
    refused(batch.delete_range(&plain, &b"b"[..]..&b"a"[..]), "range");
    assert!(matches!(batch.put(&plain, b"", b""), Err(Error::KeyTooLarge { .. })));
    batch.delete_range(&plain, &b"b"[..]..&b"b"[..]).unwrap();
    assert!(batch.is_empty());
    let before = db.snapshot().sequence();
    batch.write(&WriteOptions::default()).unwrap();
    assert_eq!(db.snapshot().sequence(), before);

    // Ranges that touch become one, however they come.
    for (from, to) in [("a", "c"), ("e", "g"), ("x", "z"), ("c", "e"), ("b", "f")] {
        batch.delete_range(&plain, from.as_bytes()..to.as_bytes()).unwrap();
    }
    assert_eq!(batch.len(), 2);
    batch.delete_range(&plain, ..).unwrap();
    assert_eq!(batch.len(), 1);
    batch.put(&plain, b"key", b"1").unwrap();
    let other = batch.clone();
    batch.clear();
    assert!(batch.is_empty() && other.len() == 2);
    db.drop_keyspace("plain").unwrap();
    let answer = other.write(&WriteOptions::default());
    assert!(matches!(answer, Err(Error::KeyspaceDropped { .. })), "{answer:?}");
    let answer = other.get(&plain, b"elsewhere").map(drop);
    assert!(answer.is_ok(), "the batch deletes it, whatever the database has: {answer:?}");
    assert!(matches!(other.range(&plain, ..), Err(Error::KeyspaceDropped { .. })));
}

//! Range deletes: beside a model, through flushes, compactions, snapshots, crashes and reopens; and what they cost.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Bound;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Db, Durability, Error, Isolation, Keyspace, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(chance: &mut Chance, keys: u64) -> Vec<u8> {
    format!("key{:04}", chance.below(keys)).into_bytes()
}

/// A range of any kind of bounds, and short ones more often than long ones.
fn range(chance: &mut Chance, keys: u64) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let from = chance.below(keys);
    let to = from + if chance.one_in(4) { chance.below(keys) } else { chance.below(12) };
    let bound = |chance: &mut Chance, number: u64| {
        let key = format!("key{number:04}").into_bytes();
        match chance.below(12) {
            0 => Bound::Unbounded,
            1..4 => Bound::Excluded(key),
            _ => Bound::Included(key),
        }
    };
    // An excluded bound at either end of one key: an empty range, not an inverted one.
    (bound(chance, from), bound(chance, to))
}

fn slices(range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice))
}

fn remove(model: &mut Map, range: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) {
    model.retain(|key, _| !std::ops::RangeBounds::<[u8]>::contains(&slices(range), &key[..]));
}

fn now<T>(future: impl Future<Output = T>, db: &Db) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return value,
            Poll::Pending => {
                db.step().unwrap();
                std::thread::yield_now();
            }
        }
    }
}

fn check(keyspace: &Keyspace, db: &Db, model: &Map, snapshot: Option<&Snapshot>, seed: &str) {
    let options = ReadOptions { snapshot: snapshot.cloned(), ..ReadOptions::default() };
    let forward: Map = keyspace
        .range(.., &options)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|(k, v)| (k, v.to_vec()))
        .collect();
    assert_eq!(&forward, model, "{seed}: forward");
    let backward: Vec<Vec<u8>> =
        keyspace.range(.., &options).unwrap().rev().map(|e| e.unwrap().0).collect();
    assert!(backward.iter().eq(model.keys().rev()), "{seed}: backward");
    let keys: Vec<Vec<u8>> =
        (0..400).step_by(7).map(|n| format!("key{n:04}").into_bytes()).collect();
    let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for (key, found) in slices.iter().zip(keyspace.multi_get(&slices, &options)) {
        let expected = model.get(*key).map(Vec::as_slice);
        assert_eq!(found.unwrap().as_deref(), expected, "{seed}: multi_get");
        assert_eq!(keyspace.get_with(key, &options).unwrap().as_deref(), expected, "{seed}: get");
    }
    for key in &slices[..8] {
        let found = now(keyspace.get_async(key, &options), db).unwrap();
        assert_eq!(found.as_deref(), model.get(*key).map(Vec::as_slice), "{seed}: get_async");
    }
    let mut cursor = keyspace.cursor(&options).unwrap();
    for key in &slices {
        let found = cursor.seek(key).unwrap().then(|| cursor.key().to_vec());
        assert_eq!(
            found.as_ref(),
            model.range(key.to_vec()..).next().map(|(k, _)| k),
            "{seed}: seek"
        );
        let found = cursor.seek_for_prev(key).unwrap().then(|| cursor.key().to_vec());
        let expected = model.range(..=key.to_vec()).next_back().map(|(k, _)| k);
        assert_eq!(found.as_ref(), expected, "{seed}: seek_for_prev");
    }
}

#[test]
fn range_deletes_do_what_the_model_does() {
    let mut most_ranges = 0;
    for seed in 0..16u64 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let mut db = open(&disk, &tiny_options()).unwrap();
        db.create_keyspace("other", other_options()).unwrap();
        let mut models = [Map::new(), Map::new()];
        let mut held: Vec<(Snapshot, [Map; 2])> = Vec::new();
        let keys = 1 + chance.below(400);
        for step in 0..1500 {
            let mut keyspaces = [db.default_keyspace().clone(), db.keyspace("other").unwrap()];
            let at = chance.below(2) as usize;
            let place = format!("seed {seed} step {step}");
            match chance.below(100) {
                0..60 => {
                    let key = key(&mut chance, keys);
                    let value = vec![b'v'; chance.below(120) as usize];
                    keyspaces[at].put(&key, &value).unwrap();
                    models[at].insert(key, value);
                }
                60..66 => {
                    let key = key(&mut chance, keys);
                    keyspaces[at].delete(&key).unwrap();
                    models[at].remove(&key);
                }
                66..76 => {
                    let range = range(&mut chance, keys);
                    match keyspaces[at].delete_range(slices(&range)) {
                        Ok(()) => remove(&mut models[at], &range),
                        Err(error) => panic!("{place}: {range:?}: {error}"),
                    }
                }
                76..80 => {
                    // Later operations of a batch win, also over ranges and for keys in them.
                    let (a, b) = (key(&mut chance, keys), key(&mut chance, keys));
                    let range = range(&mut chance, keys);
                    let mut batch = WriteBatch::new();
                    batch.put(&keyspaces[at], &a, b"before").unwrap();
                    batch.delete_range(&keyspaces[at], slices(&range)).unwrap();
                    batch.put(&keyspaces[at], &b, b"after").unwrap();
                    db.write(&batch, &WriteOptions::default()).unwrap();
                    models[at].insert(a, b"before".to_vec());
                    remove(&mut models[at], &range);
                    models[at].insert(b, b"after".to_vec());
                }
                80 => db.flush().unwrap(),
                81 if chance.one_in(3) => db.compact().unwrap(),
                82..90 => {
                    db.step().unwrap();
                }
                90 if held.len() < 4 => held.push((db.snapshot(), models.clone())),
                91 if !held.is_empty() => {
                    let index = chance.below(held.len() as u64) as usize;
                    held.remove(index);
                }
                92 if chance.one_in(4) => {
                    held.clear();
                    keyspaces = [keyspaces[0].clone(), keyspaces[0].clone()];
                    drop(keyspaces);
                    let clean = chance.one_in(2);
                    if clean {
                        db.close().unwrap()
                    } else {
                        drop(db)
                    }
                    db = open(&disk, &tiny_options()).unwrap();
                }
                93..95 => check(&keyspaces[at], &db, &models[at], None, &place),
                95 => {
                    for (snapshot, models) in &held {
                        check(&keyspaces[at], &db, &models[at], Some(snapshot), &place);
                    }
                }
                _ => {}
            }
            most_ranges = most_ranges.max(db.stats().keyspaces[0].range_deletes);
        }
        held.clear();
        db.compact().unwrap();
        db.verify().unwrap();
        for (number, name) in ["default", "other"].iter().enumerate() {
            check(&db.keyspace(name).unwrap(), &db, &models[number], None, "the end");
        }
        let left: usize = db.stats().keyspaces.iter().map(|k| k.range_deletes).sum();
        assert_eq!(left, 0, "seed {seed}: nothing needs a range delete after a full compaction");
    }
    assert!(most_ranges > 20, "{most_ranges}");
}

#[test]
fn a_range_delete_survives_what_its_class_says() {
    let mut cut_short = 0;
    for seed in 0..40 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let db = open(&disk, &tiny_options()).unwrap();
        // States after each write; the number of those that are durable.
        let (mut states, mut synced) = (vec![Map::new()], 0);
        for number in 0..300u64 {
            let mut state = states.last().unwrap().clone();
            let sync = chance.one_in(6);
            let durability = Some(if sync { Durability::Sync } else { Durability::Buffered });
            let options = WriteOptions { durability };
            let keyspace = db.default_keyspace();
            if chance.one_in(5) {
                let range = range(&mut chance, 300);
                let mut batch = WriteBatch::new();
                batch.delete_range(keyspace, slices(&range)).unwrap();
                batch.put(keyspace, b"mark", &number.to_le_bytes()).unwrap();
                db.write(&batch, &options).unwrap();
                remove(&mut state, &range);
            } else {
                let key = key(&mut chance, 300);
                let value = vec![b'x'; chance.below(300) as usize];
                let mut batch = WriteBatch::new();
                batch.put(keyspace, &key, &value).unwrap();
                batch.put(keyspace, b"mark", &number.to_le_bytes()).unwrap();
                db.write(&batch, &options).unwrap();
                state.insert(key, value);
            }
            state.insert(b"mark".to_vec(), number.to_le_bytes().to_vec());
            states.push(state);
            if sync {
                synced = states.len() - 1;
            }
            match chance.below(12) {
                0 => db.flush().unwrap(),
                1..3 => drop(db.step().unwrap()),
                _ => {}
            }
            if !chance.one_in(20) {
                continue;
            }
            for model in [LossModel::DropAll, LossModel::Random, LossModel::KeepPrefix] {
                let image = disk.after_power_cut(seed * 1000 + number, model);
                let found = contents(&open(&image, &tiny_options()).unwrap());
                let survived = states.iter().rposition(|state| *state == found);
                let survived =
                    survived.unwrap_or_else(|| panic!("seed {seed}: no state of any moment"));
                assert!(survived >= synced, "seed {seed}: {survived} survived of {synced}");
                cut_short += u32::from(survived < states.len() - 1);
            }
            let found = contents(&open(&disk.after_kill(), &tiny_options()).unwrap());
            assert_eq!(found, *states.last().unwrap(), "seed {seed}: after a kill");
        }
    }
    assert!(cut_short > 50, "{cut_short}");
}

fn contents(db: &Db) -> Map {
    let range = db.default_keyspace().range(.., &ReadOptions::default()).unwrap();
    range.map(|entry| entry.unwrap()).map(|(key, value)| (key, value.to_vec())).collect()
}

fn numbered(n: u64) -> Vec<u8> {
    format!("key{n:06}").into_bytes()
}

fn filled(disk: &SimDisk, count: u64) -> Db {
    let db = open(disk, &tiny_options()).unwrap();
    for n in 0..count {
        // Values that do not compress.
        let mut chance = Chance(n);
        let value: Vec<u8> = (0..100).map(|_| chance.next() as u8).collect();
        db.put(&numbered(n), &value).unwrap();
    }
    db.compact().unwrap();
    db
}

#[test]
fn tables_that_lie_in_a_range_are_forgotten_unread() {
    let disk = SimDisk::new(1);
    let db = filled(&disk, 5000);
    let tables =
        |db: &Db| db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum::<u64>();
    let before = tables(&db);
    assert!(before > 10);
    let snapshot = db.snapshot();
    db.delete_range(..&numbered(4000)[..]).unwrap();
    db.flush().unwrap();
    db.wait_for_compactions().unwrap();
    assert_eq!(tables(&db), before, "a snapshot sees past the range");
    drop(snapshot);
    let read = db.stats().compaction_read_bytes;
    db.wait_for_compactions().unwrap();
    assert_eq!(db.stats().compaction_read_bytes, read, "nothing is read for it");
    assert!(tables(&db) <= before / 5 + 2, "{} of {before} tables", tables(&db));
    assert_eq!(contents(&db).len(), 1000);
    // The files are gone, and the database says the same when it is opened again.
    drop(db);
    let db = open(&disk, &tiny_options()).unwrap();
    assert_eq!(contents(&db).len(), 1000);
    assert_eq!(db.stats().keyspaces[0].range_deletes, 1, "one table is cut into");
    db.compact().unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 0);
}

#[test]
fn what_was_put_after_a_range_delete_stays_through_every_compaction_and_reopening() {
    // Guards: entries that lose their sequence number at the bottom stay newer than a range delete that the manifest still names.
    for seed in 0..30 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let mut db = filled(&disk, 300);
        let mut model = contents(&db);
        for round in 0..12 {
            let from = chance.below(250);
            let (from, to) = (numbered(from), numbered(from + chance.below(120)));
            db.delete_range(&from[..]..&to[..]).unwrap();
            model.retain(|key, _| *key < from || *key >= to);
            for _ in 0..chance.below(40) {
                let key = numbered(chance.below(300));
                db.put(&key, &[round; 40]).unwrap();
                model.insert(key, vec![round; 40]);
            }
            match chance.below(4) {
                0 => db.compact().unwrap(),
                1 => db.flush().unwrap(),
                2 => db.wait_for_compactions().unwrap(),
                _ => {}
            }
            if chance.one_in(2) {
                drop(db);
                db = open(&disk, &tiny_options()).unwrap();
            }
            assert_eq!(contents(&db), model, "seed {seed} round {round}");
        }
    }
}

#[test]
fn very_many_ranges_fill_a_memtable_and_are_forgotten_in_time() {
    let disk = SimDisk::new(1);
    let db = filled(&disk, 3000);
    let flushes = db.stats().flush_count;
    for n in 0..3000 {
        db.delete_range(&numbered(n)[..]..=&numbered(n)[..]).unwrap();
    }
    assert!(db.stats().memtable_bytes < 4 << 20);
    // Their memory counts, though they are not in the arena.
    assert!(db.stats().flush_count > flushes + 10);
    assert!(contents(&db).is_empty());
    db.flush().unwrap();
    db.wait_for_compactions().unwrap();
    assert!(contents(&db).is_empty());
    db.compact().unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 0);
    assert_eq!(db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum::<u64>(), 0);
}

#[test]
fn a_transaction_meets_range_deletes() {
    let disk = SimDisk::new(1);
    let db = filled(&disk, 100);
    for flushed in [false, true] {
        // A key that it writes lies in a range that somebody deletes meanwhile.
        let mut transaction = db.transaction(Isolation::Snapshot);
        transaction.put(db.default_keyspace(), &numbered(5), b"mine").unwrap();
        db.delete_range(&numbered(3)[..]..&numbered(9)[..]).unwrap();
        if flushed {
            db.flush().unwrap();
        }
        assert!(
            matches!(transaction.commit(&WriteOptions::default()), Err(Error::Conflict { .. })),
            "flushed: {flushed}"
        );
        // A range that it has read; and one beside it.
        for (from, to, conflict) in
            [(15, 30, true), (20, 21, true), (40, 50, false), (30, 31, false)]
        {
            let mut transaction = db.transaction(Isolation::Serializable);
            let (lower, upper) = (numbered(10), numbered(30));
            let range = transaction.range(db.default_keyspace(), &lower[..]..&upper[..]).unwrap();
            let count = range.filter(|entry| entry.is_ok()).count();
            assert!(count > 0);
            transaction.put(db.default_keyspace(), b"zz", b"1").unwrap();
            db.delete_range(&numbered(from)[..]..&numbered(to)[..]).unwrap();
            if flushed {
                db.flush().unwrap();
            }
            let result = transaction.commit(&WriteOptions::default());
            assert_eq!(result.is_err(), conflict, "{from} to {to}, flushed: {flushed}: {result:?}");
            for n in 0..100 {
                db.put(&numbered(n), b"again").unwrap();
            }
        }
    }
}

#[test]
fn bad_and_empty_ranges_change_nothing() {
    let disk = SimDisk::new(1);
    let db = filled(&disk, 10);
    let sequence = db.snapshot().sequence();
    let range = |from: &'static str, to: &'static str| from.as_bytes()..to.as_bytes();
    db.delete_range(range("k", "k")).unwrap();
    db.delete_range(range("", "")).unwrap();
    match db.delete_range(range("z", "a")) {
        Err(Error::InvalidOption { option: "range", detail }) => {
            assert!(detail.contains("before it begins"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let long = vec![b'k'; (64 << 10) + 2];
    assert!(matches!(db.delete_range(..&long[..]), Err(Error::KeyTooLarge { .. })));
    assert_eq!(db.snapshot().sequence(), sequence);
    let mut batch = WriteBatch::new();
    batch.delete_range(db.default_keyspace(), range("k", "k")).unwrap();
    assert!(batch.delete_range(db.default_keyspace(), range("l", "k")).is_err());
    assert!(batch.is_empty());
    // The longest key, and the bound after it.
    let longest = vec![b'k'; 64 << 10];
    db.put(&longest, b"1").unwrap();
    db.delete_range(&longest[..]..=&longest[..]).unwrap();
    assert!(db.get(&longest).unwrap().is_none());
    drop(db);
    let db = open(&disk, &tiny_options()).unwrap();
    assert!(db.get(&longest).unwrap().is_none());
    db.delete_range(..).unwrap();
    assert!(contents(&db).is_empty());
}

#[test]
fn what_scans_stumble_over_is_compacted_away_and_nothing_else_is() {
    for by_range in [false, true] {
        let entries = |db: &Db| db.default_keyspace().estimate(..).unwrap().entries;
        let disk = SimDisk::new(1);
        let mut options = tiny_options();
        options.write_buffer_bytes = Some(1 << 20);
        options.memory_limit = 8 << 20;
        options.default_keyspace.level0_tables = 8;
        let db = open(&disk, &options).unwrap();
        for n in 0..8000 {
            db.put(&numbered(n), b"v").unwrap();
        }
        db.compact().unwrap();
        for n in 0..6000 {
            if by_range {
                // Newer than the range delete below are only these, so that no source can be passed whole.
                db.put(&numbered(n), b"w").unwrap();
            } else {
                db.delete(&numbered(n)).unwrap();
            }
        }
        if by_range {
            db.delete_range(..&numbered(6000)[..]).unwrap();
            db.put(&numbered(7999), b"w").unwrap();
        }
        db.wait_for_compactions().unwrap();
        assert!(entries(&db) >= 8000, "nobody asked: {}", entries(&db));
        let mut cursor = db.default_keyspace().cursor(&ReadOptions::default()).unwrap();
        assert!(cursor.seek_to_first().unwrap());
        assert_eq!(cursor.key(), numbered(6000));
        drop(cursor);
        db.wait_for_compactions().unwrap();
        assert!(entries(&db) <= 2001, "by range {by_range}: {} entries", entries(&db));
        assert_eq!(contents(&db).len(), 2000);
    }
}

#[test]
fn a_forgotten_range_delete_does_not_come_back() {
    // Guards: what is forgotten is forgotten in the manifest before an entry loses the number that made it newer. A later table whose key range
    // meets the range, made of two that did not, must not bring it back.
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.default_keyspace.level0_tables = 2;
    let db = open(&disk, &options).unwrap();
    let keyspace = db.default_keyspace().clone();
    let mut chance = Chance(1);
    for n in 0..600 {
        let value: Vec<u8> = (0..120).map(|_| chance.next() as u8).collect();
        keyspace.put(format!("q{n:05}").as_bytes(), &value).unwrap();
    }
    keyspace.compact_range(None).unwrap();
    for [first, second] in [[b"a", b"c"], [b"x", b"z"]] {
        keyspace.put(first, b"1").unwrap();
        keyspace.put(second, b"1").unwrap();
        keyspace.flush().unwrap();
    }
    keyspace.delete_range(&b"m"[..]..&b"n"[..]).unwrap();
    keyspace.flush().unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 0, "it meets no table");
    keyspace.put(b"m1", b"precious").unwrap();
    keyspace.flush().unwrap();
    keyspace.compact_range(Some((b"m", b"n"))).unwrap();
    while db.step().unwrap() {}
    assert_eq!(keyspace.get(b"m1").unwrap().as_deref(), Some(&b"precious"[..]));
    drop((keyspace, db));
    let db = open(&disk, &options).unwrap();
    assert_eq!(db.stats().keyspaces[0].range_deletes, 0);
    assert_eq!(db.get(b"m1").unwrap().as_deref(), Some(&b"precious"[..]));
}

#[test]
fn ranges_inside_one_another_stay_one() {
    let disk = SimDisk::new(1);
    let db = filled(&disk, 2000);
    // Over flushes and openings.
    for n in 1..400 {
        db.delete_range(..&numbered(n)[..]).unwrap();
        db.flush().unwrap();
    }
    assert!(db.stats().keyspaces[0].range_deletes <= 1);
    // In one batch: no reader stands between its parts.
    let mut batch = WriteBatch::new();
    for n in 400..1900 {
        batch.delete_range(db.default_keyspace(), ..&numbered(n)[..]).unwrap();
    }
    db.write(&batch, &WriteOptions::default()).unwrap();
    // What a batch of so many numbers in so many steps would take is 9 MB.
    let before = db.stats().memory_used;
    assert!(before < 4 << 20, "{before}");
    assert_eq!(contents(&db).len(), 101);
    for _ in 0..3 {
        let image = disk.after_kill();
        let db = open(&image, &tiny_options()).unwrap();
        assert_eq!(contents(&db).len(), 101);
        assert!(db.stats().keyspaces[0].range_deletes <= 1);
    }
}

#[test]
fn ranges_that_cut_into_level_0_only_are_applied_in_time() {
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.write_buffer_bytes = Some(1 << 20);
    options.memory_limit = 16 << 20;
    let db = open(&disk, &options).unwrap();
    db.put(b"a", b"1").unwrap();
    db.put(b"z", b"1").unwrap();
    db.flush().unwrap();
    let mut most = 0;
    for n in 0..30_000u64 {
        let (from, to) = (format!("k{n:06}a"), format!("k{n:06}b"));
        db.delete_range(from.as_bytes()..to.as_bytes()).unwrap();
        if n % 2000 == 0 {
            db.flush().unwrap();
            db.wait_for_compactions().unwrap();
            most = most.max(db.stats().keyspaces[0].range_deletes);
        }
    }
    assert!((4000..16_000).contains(&most), "{most}");
    assert_eq!(contents(&db).len(), 2);
}

#[test]
fn what_a_snapshot_held_back_is_done_when_it_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path(), tiny_options()).unwrap();
    for n in 0..100 {
        db.put(&numbered(n), b"v").unwrap();
    }
    db.flush().unwrap();
    let snapshot = db.snapshot();
    db.delete_range(..).unwrap();
    db.flush().unwrap();
    db.wait_for_compactions().unwrap();
    drop(snapshot);
    db.wait_for_compactions().unwrap();
    let tables: u64 = db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum();
    assert_eq!(tables, 0);
}

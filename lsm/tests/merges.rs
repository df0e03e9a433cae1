//! Merge operators: beside a model, through flushes, compactions, snapshots, range deletes, crashes and reopens.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, tiny_options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Append, Counter, Db, Durability, Environment, Error, Keyspace, KeyspaceOptions, MergeOperator,
    Options, ReadOptions, SetUnion, Snapshot, WriteBatch, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Appends with a comma, cannot combine, and fails while it is told to.
#[derive(Debug, Default)]
struct Listing {
    fails: AtomicBool,
    panics: AtomicBool,
}

impl MergeOperator for Listing {
    fn name(&self) -> &str {
        "listing"
    }

    fn merge(
        &self,
        _: &[u8],
        existing: Option<&[u8]>,
        operands: &[&[u8]],
    ) -> Result<Vec<u8>, String> {
        assert!(!self.panics.load(Ordering::Relaxed), "told to");
        if self.fails.load(Ordering::Relaxed) {
            return Err("told to".into());
        }
        let parts: Vec<&[u8]> = existing.into_iter().chain(operands.iter().copied()).collect();
        Ok(parts.join(&b','))
    }
}

fn keyspace_options(name: &str) -> KeyspaceOptions {
    let mut options = tiny_options().default_keyspace;
    options.merge_operator = Some(name.to_owned());
    options
}

fn options(listing: &Arc<Listing>) -> Options {
    let mut options = tiny_options();
    options.default_keyspace = keyspace_options("listing");
    options.merge_operators = vec![listing.clone()];
    options
}

/// What a merge does to the model. `kind` is the number of the keyspace: listing, counter, append, set-union.
fn add(model: &mut Map, kind: usize, key: Vec<u8>, operand: &[u8]) {
    let old = model.get(&key).map(Vec::as_slice);
    let new = match kind {
        0 => old.map_or(operand.to_vec(), |old| [old, b",", operand].concat()),
        1 => {
            let sum = old.map_or(0, |old| Counter::value(old).unwrap());
            Counter::add(sum.wrapping_add(Counter::value(operand).unwrap())).to_vec()
        }
        2 => [old.unwrap_or_default(), operand].concat(),
        _ => {
            let both =
                SetUnion::elements(old.unwrap_or_default()).chain(SetUnion::elements(operand));
            SetUnion::encode(both)
        }
    };
    model.insert(key, new);
}

fn operand(chance: &mut Chance, kind: usize) -> Vec<u8> {
    match kind {
        1 => Counter::add(chance.below(1000) as i64 - 500).to_vec(),
        3 => SetUnion::encode([&[chance.below(5) as u8][..], &[chance.below(9) as u8, 1]]),
        _ => vec![b'a' + chance.below(26) as u8; chance.below(6) as usize],
    }
}

fn contents(keyspace: &Keyspace, options: &ReadOptions) -> Map {
    let range = keyspace.range(.., options).unwrap();
    range.map(|entry| entry.unwrap()).map(|(key, value)| (key, value.to_vec())).collect()
}

fn check(keyspace: &Keyspace, model: &Map, snapshot: Option<&Snapshot>, place: &str) {
    let options = ReadOptions { snapshot: snapshot.cloned(), ..ReadOptions::default() };
    assert_eq!(&contents(keyspace, &options), model, "{place}: forward");
    let backward = keyspace.range(.., &options).unwrap().rev().map(|entry| entry.unwrap());
    let backward: Vec<_> = backward.map(|(key, value)| (key, value.to_vec())).collect();
    assert!(backward.iter().map(|(k, v)| (k, v)).eq(model.iter().rev()), "{place}: backward");
    let keys: Vec<Vec<u8>> = (0..40).map(|n| format!("key{n:02}").into_bytes()).collect();
    let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    for (key, found) in slices.iter().zip(keyspace.multi_get(&slices, &options)) {
        let expected = model.get(*key).map(Vec::as_slice);
        assert_eq!(found.unwrap().as_deref(), expected, "{place}: multi_get");
        assert_eq!(keyspace.get_with(key, &options).unwrap().as_deref(), expected, "{place}: get");
    }
    // Turns on and beside merged entries.
    let mut cursor = keyspace.cursor(&options).unwrap();
    for key in &slices {
        if cursor.seek(key).unwrap() {
            let here = cursor.key().to_vec();
            assert_eq!(cursor.value(), &model[&here][..], "{place}: seek");
            let expected = model.range(..here.clone()).next_back();
            assert_eq!(cursor.prev().unwrap(), expected.is_some(), "{place}: prev");
            if let Some((key, value)) = expected {
                assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]), "{place}: prev");
                assert!(cursor.next().unwrap(), "{place}: next");
                assert_eq!(
                    (cursor.key(), cursor.value()),
                    (&here[..], &model[&here][..]),
                    "{place}: next"
                );
            }
        }
    }
}

const NAMES: [&str; 4] = ["default", "counters", "texts", "sets"];

fn make(db: &Db) {
    for (name, operator) in
        NAMES.iter().zip([None, Some(Counter::NAME), Some(Append::NAME), Some(SetUnion::NAME)])
    {
        if let Some(operator) = operator {
            db.create_keyspace(name, keyspace_options(operator)).unwrap();
        }
    }
}

#[test]
fn merges_do_what_the_model_does() {
    let mut merged_away = 0;
    for seed in 0..16u64 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let listing = Arc::new(Listing::default());
        let options = options(&listing);
        let mut db = open(&disk, &options).unwrap();
        make(&db);
        let mut models: [Map; 4] = Default::default();
        let mut held: Vec<(Snapshot, [Map; 4])> = Vec::new();
        let keys = 1 + chance.below(40);
        for step in 0..1800 {
            let at = chance.below(4) as usize;
            let keyspace = db.keyspace(NAMES[at]).unwrap();
            let key = format!("key{:02}", chance.below(keys)).into_bytes();
            let place = format!("seed {seed} step {step}");
            match chance.below(100) {
                0..55 => {
                    let operand = operand(&mut chance, at);
                    keyspace.merge(&key, &operand).unwrap();
                    add(&mut models[at], at, key, &operand);
                }
                55..60 => {
                    let value = operand(&mut chance, at);
                    keyspace.put(&key, &value).unwrap();
                    models[at].insert(key, value);
                }
                60..65 => {
                    keyspace.delete(&key).unwrap();
                    models[at].remove(&key);
                }
                65..70 => {
                    let to = format!("key{:02}", chance.below(keys + 1)).into_bytes();
                    let (from, to) = (key.clone().min(to.clone()), key.max(to));
                    keyspace.delete_range(&from[..]..&to[..]).unwrap();
                    models[at].retain(|key, _| *key < from || *key >= to);
                }
                70..74 => {
                    let mut batch = WriteBatch::new();
                    for _ in 0..chance.below(6) {
                        let operand = operand(&mut chance, at);
                        batch.merge(&keyspace, &key, &operand).unwrap();
                        add(&mut models[at], at, key.clone(), &operand);
                        if chance.one_in(6) {
                            batch.delete(&keyspace, &key).unwrap();
                            models[at].remove(&key);
                        }
                    }
                    db.write(&batch, &WriteOptions::default()).unwrap();
                }
                74..77 => db.flush().unwrap(),
                77 if chance.one_in(3) => db.compact().unwrap(),
                78..86 => drop(db.step().unwrap()),
                86 if held.len() < 4 => held.push((db.snapshot(), models.clone())),
                87 if !held.is_empty() => {
                    let index = chance.below(held.len() as u64) as usize;
                    held.remove(index);
                }
                88 if chance.one_in(3) => {
                    held.clear();
                    drop(keyspace);
                    let clean = chance.one_in(2);
                    if clean {
                        db.close().unwrap()
                    } else {
                        drop(db)
                    }
                    db = open(&disk, &options).unwrap();
                }
                89..92 => check(&keyspace, &models[at], None, &place),
                92 => {
                    for (snapshot, models) in &held {
                        check(&keyspace, &models[at], Some(snapshot), &place);
                    }
                }
                // What an operator cannot do stays to be done.
                93 => {
                    listing.fails.store(true, Ordering::Relaxed);
                    db.flush().unwrap();
                    db.compact().unwrap();
                    listing.fails.store(false, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        held.clear();
        for (number, name) in NAMES.iter().enumerate() {
            check(&db.keyspace(name).unwrap(), &models[number], None, "the end");
        }
        db.compact().unwrap();
        db.verify().unwrap();
        for (number, name) in NAMES.iter().enumerate() {
            check(&db.keyspace(name).unwrap(), &models[number], None, "compacted");
        }
        merged_away +=
            db.stats().keyspaces[1].levels.iter().map(|level| level.keys_dropped).sum::<u64>();
    }
    assert!(merged_away > 1000, "{merged_away}");
}

#[test]
fn operands_survive_what_their_class_says() {
    for seed in 0..30 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let mut options = tiny_options();
        options.default_keyspace = keyspace_options(Counter::NAME);
        let db = open(&disk, &options).unwrap();
        let (mut sum, mut synced) = (0i64, 0i64);
        for number in 1..400i64 {
            let sync = chance.one_in(7);
            let durability = Some(if sync { Durability::Sync } else { Durability::Buffered });
            db.default_keyspace()
                .merge_with(b"sum", &Counter::add(1), &WriteOptions { durability })
                .unwrap();
            db.put(format!("k{}", chance.below(200)).as_bytes(), &[0; 100]).unwrap();
            sum += 1;
            if sync {
                synced = sum;
            }
            match chance.below(14) {
                0 => db.flush().unwrap(),
                1..3 => drop(db.step().unwrap()),
                _ => {}
            }
            if chance.one_in(40) {
                for model in [LossModel::DropAll, LossModel::Random, LossModel::KeepPrefix] {
                    let image = disk.after_power_cut(seed * 1000 + number as u64, model);
                    let copy = open(&image, &options).unwrap();
                    let found =
                        copy.get(b"sum").unwrap().map_or(0, |v| Counter::value(&v).unwrap());
                    assert!(
                        (synced..=sum).contains(&found),
                        "seed {seed}: {found} of {synced} to {sum}"
                    );
                }
                let copy = open(&disk.after_kill(), &options).unwrap();
                let found = copy.get(b"sum").unwrap().unwrap();
                assert_eq!(Counter::value(&found), Some(sum), "seed {seed}: after a kill");
            }
        }
    }
}

#[test]
fn operands_become_one_entry_as_they_sink() {
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.default_keyspace = keyspace_options(Counter::NAME);
    let db = open(&disk, &options).unwrap();
    db.put(b"a", &Counter::add(7)).unwrap();
    db.compact().unwrap();
    for _ in 0..1000 {
        db.merge(b"a", &Counter::add(1)).unwrap();
        db.merge(b"b", &Counter::add(2)).unwrap();
    }
    db.flush().unwrap();
    let entries = |db: &Db| {
        let view = db.default_keyspace().estimate(..).unwrap();
        view.entries
    };
    assert!(entries(&db) <= 3 + 2 * db.stats().flush_count, "{} entries", entries(&db));
    assert_eq!(Counter::value(&db.get(b"a").unwrap().unwrap()), Some(1007));
    db.compact().unwrap();
    assert_eq!(entries(&db), 2);
    assert_eq!(Counter::value(&db.get(b"a").unwrap().unwrap()), Some(1007));
    assert_eq!(Counter::value(&db.get(b"b").unwrap().unwrap()), Some(2000));
}

#[test]
fn an_operator_that_fails_is_told_to_readers_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let listing = Arc::new(Listing::default());
    let db = open(&disk, &options(&listing)).unwrap();
    db.put(b"k", b"a").unwrap();
    db.flush().unwrap();
    db.merge(b"k", b"b").unwrap();
    db.merge(b"k", b"c").unwrap();
    for trouble in [&listing.fails, &listing.panics] {
        trouble.store(true, Ordering::Relaxed);
        assert!(matches!(db.get(b"k"), Err(Error::Merge { .. })));
        let found = db.default_keyspace().multi_get(&[b"k"], &ReadOptions::default());
        assert!(matches!(found[0], Err(Error::Merge { .. })));
        let mut cursor = db.default_keyspace().cursor(&ReadOptions::default()).unwrap();
        assert!(matches!(cursor.seek_to_first(), Err(Error::Merge { .. })));
        assert!(!cursor.valid());
        assert!(matches!(cursor.seek_to_last(), Err(Error::Merge { .. })));
        db.compact().unwrap();
        trouble.store(false, Ordering::Relaxed);
        assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"a,b,c"[..]));
    }
}

#[test]
fn operators_must_be_at_hand() {
    let disk = SimDisk::new(1);
    // An operator that nobody knows: nothing is made.
    let mut unknown = tiny_options();
    unknown.default_keyspace = keyspace_options("listing");
    assert!(matches!(
        open(&disk, &unknown),
        Err(Error::InvalidOption { option: "merge_operators", .. })
    ));
    let mut missing = tiny_options();
    missing.create_if_missing = false;
    assert!(matches!(open(&disk, &missing), Err(Error::NotADatabase { .. })));
    let listing = Arc::new(Listing::default());
    let db = open(&disk, &options(&listing)).unwrap();
    assert!(db.create_keyspace("x", keyspace_options("nobody's")).is_err());
    assert!(db.keyspace("x").is_err());
    let plain = db.create_keyspace("plain", KeyspaceOptions::default()).unwrap();
    match plain.merge(b"k", b"v") {
        Err(Error::InvalidOption { option: "merge_operator", detail }) => {
            assert!(detail.contains("\"plain\""))
        }
        other => panic!("{other:?}"),
    }
    assert!(WriteBatch::new().merge(&plain, b"k", b"v").is_err());
    db.merge(b"k", b"v").unwrap();
    drop((db, plain));
    // A database whose operator is not given is not opened, and is as before.
    let refused = Db::open_in(Environment::manual(Arc::new(disk.clone())), "/db", tiny_options());
    assert!(refused.unwrap_err().to_string().contains("\"listing\""));
    let db = open(&disk, &options(&listing)).unwrap();
    assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

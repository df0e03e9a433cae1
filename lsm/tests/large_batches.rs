//! Batches larger than a memtable: beside a model, at every call of a crash, and what they leave alone.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::world::{COUNTER, Commit, History, Map, check_prefix, contents, work};
use common::{Chance, open, other_options, tiny_options};
use std::path::Path;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Db, Durability, Error, Isolation, ReadOptions, Result, WriteBatch, WriteOptions,
};

fn started(seed: u64) -> (SimDisk, Db) {
    let disk = SimDisk::new(seed);
    let db = open(&disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    (disk, db)
}

/// Random bytes, so that tables are as large as what is in them.
fn value(chance: &mut Chance) -> Vec<u8> {
    (0..chance.below(400)).map(|_| chance.below(256) as u8).collect()
}

/// One batch far above the memtable's 16 KiB, of puts, deletes and range deletes that meet each other.
fn large_batch(db: &Db, chance: &mut Chance, model: &mut Map) -> WriteBatch {
    let keyspaces = [db.default_keyspace().clone(), db.keyspace("other").unwrap()];
    let mut batch = WriteBatch::new();
    for _ in 0..200 {
        let at = chance.below(2) as u8;
        let keyspace = &keyspaces[usize::from(at)];
        let key = format!("key{:03}", chance.below(500)).into_bytes();
        match chance.below(20) {
            0 => {
                let end = format!("key{:03}", chance.below(500)).into_bytes();
                if key < end {
                    batch.delete_range(keyspace, &key[..]..&end[..]).unwrap();
                    model.retain(|(of, held), _| *of != at || *held < key || *held >= end);
                }
            }
            1..4 => {
                batch.delete(keyspace, &key).unwrap();
                model.remove(&(at, key));
            }
            _ => {
                let value = value(chance);
                batch.put(keyspace, &key, &value).unwrap();
                model.insert((at, key), value);
            }
        }
    }
    assert!(batch.bytes() > 20 << 10);
    batch
}

#[test]
fn a_large_batch_does_what_its_operations_say_in_their_order() {
    for seed in 0..20 {
        let (disk, mut db) = started(seed);
        let (mut chance, mut model) = (Chance(seed), Map::new());
        for round in 0..12 {
            let (snapshot, then) = (db.snapshot(), model.clone());
            let batch = large_batch(&db, &mut chance, &mut model);
            let flushes = db.stats().flush_count;
            let durability = [Durability::None, Durability::Buffered, Durability::Sync];
            let durability = Some(durability[chance.below(3) as usize]);
            db.write(&batch, &WriteOptions { durability }).unwrap();
            assert!(db.stats().flush_count <= flushes + 2, "it went through memtables");
            for _ in 0..chance.below(60) {
                let at = chance.below(2) as u8;
                let keyspace = db.keyspace(["default", "other"][usize::from(at)]).unwrap();
                let key = format!("key{:03}", chance.below(500)).into_bytes();
                keyspace.put(&key, b"small").unwrap();
                model.insert((at, key), b"small".to_vec());
            }
            assert_eq!(contents(&db), model, "seed {seed} round {round}");
            let old = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
            for number in (0..500).step_by(11) {
                let key = format!("key{number:03}").into_bytes();
                let seen = db.default_keyspace().get_with(&key, &old).unwrap();
                let expected = then.get(&(0, key)).cloned();
                assert_eq!(seen.map(|value| value.to_vec()), expected, "seed {seed}");
            }
            if round % 4 == 3 {
                // What no log holds is in the tables.
                drop(old);
                drop(db);
                db = open(&disk.after_kill(), &tiny_options()).unwrap();
                db.verify().unwrap();
                assert_eq!(contents(&db), model, "seed {seed} round {round}");
                db = open(&disk, &tiny_options()).unwrap();
            }
        }
        db.compact().unwrap();
        db.verify().unwrap();
        assert_eq!(contents(&db), model, "seed {seed}");
    }
}

#[test]
fn a_large_batch_cut_or_failed_at_any_call_is_whole_or_not_there() {
    let large = |chance: &mut Chance, number: usize| -> Commit {
        let mut commit = Commit::new();
        for key in 0..150 {
            let key = format!("key{:03}", key * 2).into_bytes();
            commit.push((chance.below(2) as u8, key, Some(value(chance))));
        }
        for keyspace in 0..2 {
            commit.push((keyspace, COUNTER.to_vec(), Some(number.to_string().into_bytes())));
        }
        commit
    };
    let run = |prepare: &dyn Fn(&SimDisk)| -> (SimDisk, Db, History, u64, Result<()>) {
        let (disk, db) = started(3);
        let (mut chance, mut history) = (Chance(3), History::default());
        work(&db, &mut chance, &mut history, 60).unwrap();
        let commit = large(&mut chance, history.commits.len());
        let keyspaces = [db.default_keyspace().clone(), db.keyspace("other").unwrap()];
        let mut batch = WriteBatch::new();
        for (keyspace, key, value) in &commit {
            let value = value.as_deref().unwrap();
            batch.put(&keyspaces[usize::from(*keyspace)], key, value).unwrap();
        }
        history.commits.push(commit);
        let first = disk.io_count();
        prepare(&disk);
        let result = db.write(&batch, &WriteOptions::default());
        (disk, db, history, first, result)
    };
    let (disk, _db, _, first, _) = run(&|_| {});
    let (mut with, mut without, mut failed) = (0, 0, 0);
    for at in first..disk.io_count() {
        let (disk, db, mut history, _, result) = run(&|disk| disk.cut_power_at(at));
        if result.is_ok() {
            history.synced = history.commits.len();
        }
        drop(db);
        for image in [
            disk.after_power_cut(at, LossModel::Random),
            disk.after_power_cut(at, LossModel::DropAll),
        ] {
            let db = open(&image, &tiny_options()).unwrap();
            db.verify().unwrap();
            let found = check_prefix("after the cut", &contents(&db), &history, history.synced);
            *(if found == history.commits.len() { &mut with } else { &mut without }) += 1;
        }
        for code in [libc::ENOSPC, libc::EIO] {
            let (disk, db, history, _, result) = run(&|disk| disk.fail_at(at, code, true));
            let count = history.commits.len() - usize::from(result.is_err());
            assert_eq!(contents(&db), history.state_after(count), "call {at}: {result:?}");
            failed += usize::from(result.is_err());
            let tables = |disk: &SimDisk| {
                let names = disk.list(Path::new("/db")).unwrap();
                names.into_iter().filter(|name| name.ends_with(".sst")).count() as u64
            };
            if db.health().takes_writes() {
                while db.step().unwrap() {}
                let levels = db.stats().keyspaces.into_iter().flat_map(|keyspace| keyspace.levels);
                assert_eq!(tables(&disk), levels.map(|level| level.files).sum(), "call {at}");
            }
        }
    }
    assert!(with > 0 && without > 20 && failed > 20, "{with} {without} {failed}");
}

#[test]
fn a_large_transaction_is_refused_like_a_small_one() {
    let (_disk, db) = started(1);
    let keyspace = db.default_keyspace();
    let fill = |transaction: &mut treering_lsm::Transaction| {
        for number in 0..400u32 {
            transaction.put(keyspace, &number.to_be_bytes(), &[number as u8; 100]).unwrap();
        }
    };
    let mut first = db.transaction(Isolation::Serializable);
    let mut second = db.transaction(Isolation::Serializable);
    fill(&mut first);
    fill(&mut second);
    first.commit(&WriteOptions::default()).unwrap();
    let refused = second.commit(&WriteOptions::default());
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    assert_eq!(contents(&db).len(), 400);
    db.verify().unwrap();
}

#[test]
fn a_large_batch_with_merges_is_applied_as_before() {
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.default_keyspace.merge_operator = Some("append".to_owned());
    let db = open(&disk, &options).unwrap();
    let mut batch = WriteBatch::new();
    for number in 0..300u32 {
        batch.put(db.default_keyspace(), &(number / 2).to_be_bytes(), &[b'a'; 100]).unwrap();
        batch.merge(db.default_keyspace(), &(number / 2).to_be_bytes(), b"b").unwrap();
    }
    db.write(&batch, &WriteOptions::default()).unwrap();
    let value = db.get(&7u32.to_be_bytes()).unwrap().unwrap();
    assert!(value.starts_with(b"aaa") && value.ends_with(b"b"), "{value:?}");
}

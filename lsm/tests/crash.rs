//! Power cuts and process deaths on the simulated disk, at random I/Os, also inside recovery.
//!
//! Every commit writes its own number under one key in both keyspaces beside its random operations, so that a recovered state tells
//! which prefix of the commits it is. The promises: it is a prefix; it holds every acknowledged Sync commit (after a kill: every acknowledged
//! commit); a batch is there whole or not at all; nothing is invented; the database opens.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Db, Durability, ReadOptions, WriteBatch, WriteOptions};

type Map = BTreeMap<(u8, Vec<u8>), Vec<u8>>;
/// The operations of one commit: keyspace, key, value or delete.
type Commit = Vec<(u8, Vec<u8>, Option<Vec<u8>>)>;

const COUNTER: &[u8] = b"~commit";
const MODELS: [LossModel; 7] = [
    LossModel::DropAll,
    LossModel::KeepPrefix,
    LossModel::AnySubset,
    LossModel::Tear512,
    LossModel::Tear4096,
    LossModel::NamesOnly,
    LossModel::Random,
];

/// What was tried and what was promised.
#[derive(Default)]
struct History {
    commits: Vec<Commit>,
    /// Commits 0..synced survive a power cut, 0..acknowledged a kill.
    synced: usize,
    acknowledged: usize,
}

impl History {
    fn state_after(&self, count: usize) -> Map {
        let mut map = Map::new();
        for (keyspace, key, value) in self.commits[..count].iter().flatten() {
            match value {
                Some(value) => map.insert((*keyspace, key.clone()), value.clone()),
                None => map.remove(&(*keyspace, key.clone())),
            };
        }
        map
    }
}

fn make_commit(chance: &mut Chance, number: usize) -> Commit {
    let mut commit = Commit::new();
    for _ in 0..1 + chance.below(4) {
        let key = format!("key{:03}", chance.below(300)).into_bytes();
        let length = if chance.one_in(100) { chance.below(60_000) } else { chance.below(200) };
        let value = (!chance.one_in(5)).then(|| {
            format!("{number}:")
                .into_bytes()
                .into_iter()
                .chain(std::iter::repeat_n(b'x', length as usize))
                .collect()
        });
        commit.push((chance.below(2) as u8, key, value));
    }
    for keyspace in 0..2 {
        commit.push((keyspace, COUNTER.to_vec(), Some(number.to_string().into_bytes())));
    }
    commit
}

/// Writes until the power goes or `count` commits are done.
fn work(
    db: &Db,
    chance: &mut Chance,
    history: &mut History,
    count: usize,
) -> Result<(), treering_lsm::Error> {
    let keyspaces = [db.default_keyspace().clone(), db.keyspace("other")?];
    for _ in 0..count {
        match chance.below(40) {
            0 => db.flush()?,
            1 => db.compact()?,
            2..=8 => {
                db.step()?;
            }
            _ => {
                let commit = make_commit(chance, history.commits.len());
                let mut batch = WriteBatch::new();
                for (keyspace, key, value) in &commit {
                    let keyspace = &keyspaces[usize::from(*keyspace)];
                    match value {
                        Some(value) => batch.put(keyspace, key, value)?,
                        None => batch.delete(keyspace, key)?,
                    }
                }
                history.commits.push(commit);
                let sync = chance.one_in(5);
                let durability = Some(if sync { Durability::Sync } else { Durability::Buffered });
                db.write(&batch, &WriteOptions { durability })?;
                history.acknowledged = history.commits.len();
                if sync {
                    history.synced = history.acknowledged;
                }
            }
        }
    }
    Ok(())
}

fn contents(db: &Db) -> Map {
    let mut map = Map::new();
    for (number, name) in ["default", "other"].iter().enumerate() {
        let Ok(keyspace) = db.keyspace(name) else { continue };
        for entry in keyspace.range(.., &ReadOptions::default()).unwrap() {
            let (key, value) = entry.unwrap();
            map.insert((number as u8, key), value.to_vec());
        }
    }
    map
}

/// Opens the database, dying a few more times on the way; returns the disk and the open database.
fn recover(mut disk: SimDisk, chance: &mut Chance, power: bool) -> (SimDisk, Db) {
    for _ in 0..chance.below(3) {
        disk.cut_power_at(disk.io_count() + chance.below(60));
        let opened = open(&disk, &tiny_options());
        let model = MODELS[chance.below(7) as usize];
        let next =
            if power { disk.after_power_cut(chance.next(), model) } else { disk.after_kill() };
        drop(opened);
        disk = next;
    }
    let db = open(&disk, &tiny_options())
        .unwrap_or_else(|error| panic!("the database does not open: {error}"));
    (disk, db)
}

/// One world: work, die, recover, compare; several lives on the same disk. Returns how many images were checked.
fn run(seed: u64, lives: usize) -> usize {
    let mut chance = Chance(seed);
    let mut disk = SimDisk::new(seed);
    let mut history = History::default();
    let db = open(&disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    drop(db);
    for life in 0..lives {
        let db = match open(&disk, &tiny_options()) {
            Ok(db) => db,
            Err(error) => panic!("seed {seed} life {life}: {error}"),
        };
        disk.cut_power_at(disk.io_count() + chance.below(1 + chance.0 % 700));
        let _ = work(&db, &mut chance, &mut history, 400);
        let power = !chance.one_in(3);
        let model = MODELS[chance.below(7) as usize];
        let image =
            if power { disk.after_power_cut(chance.next(), model) } else { disk.after_kill() };
        drop(db);
        let (next, db) = recover(image, &mut chance, power);
        disk = next;
        let found = contents(&db);
        let counter = found
            .get(&(0, COUNTER.to_vec()))
            .map(|value| String::from_utf8(value.clone()).unwrap());
        let survived = counter.map_or(0, |text| text.parse::<usize>().unwrap() + 1);
        let promised = if power { history.synced } else { history.acknowledged };
        let place = format!("seed {seed} life {life} model {model:?} power {power}");
        assert!(
            survived >= promised,
            "{place}: {survived} commits survived, {promised} were promised"
        );
        assert!(survived <= history.commits.len(), "{place}: a commit was invented");
        let expected = history.state_after(survived);
        if found != expected {
            let wrong = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
            let extra = found.iter().find(|(key, _)| !expected.contains_key(*key));
            panic!(
                "{place}: not the state after {survived} commits; first missing {:?}, extra {:?}",
                wrong.map(|(key, _)| (key.0, key.1.escape_ascii().to_string())),
                extra.map(|(key, _)| (key.0, key.1.escape_ascii().to_string()))
            );
        }
        db.verify().unwrap();
        // What was recovered is durable now: recovery wrote it to tables.
        history.commits.truncate(survived);
        history.synced = survived;
        history.acknowledged = survived;
        db.close().unwrap();
    }
    lives
}

/// No Sync write is lost, prefixes hold, the database opens: at least 2,000 images over this file.
fn many(first: u64) {
    let images: usize = (first..first + 70).map(|seed| run(seed, 8)).sum();
    assert!(images >= 500);
}

#[test]
fn no_promised_write_is_lost_seeds_from_1000() {
    many(1000);
}

#[test]
fn no_promised_write_is_lost_seeds_from_2000() {
    many(2000);
}

#[test]
fn no_promised_write_is_lost_seeds_from_3000() {
    many(3000);
}

#[test]
fn no_promised_write_is_lost_seeds_from_4000() {
    many(4000);
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed: u64| {
        let disk = SimDisk::new(seed);
        let db = open(&disk, &tiny_options()).unwrap();
        db.create_keyspace("other", other_options()).unwrap();
        work(&db, &mut Chance(seed), &mut History::default(), 1500).unwrap();
        while db.step().unwrap() {}
        db.close().unwrap();
        (disk.trace(), disk.io_count())
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7).0, trace(8).0);
}

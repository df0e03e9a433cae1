//! Power cuts and process deaths on the simulated disk, at random I/Os, also inside recovery.
//!
//! The promises: it is a prefix; it holds every acknowledged Sync commit (after a kill: every acknowledged
//! commit); a batch is there whole or not at all; nothing is invented; the database opens.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

mod common;

use common::world::{History, check_prefix, contents, work};
use common::{Chance, open, other_options, tiny_options};
use treering_lsm::Db;
use treering_lsm::io::sim::{LossModel, SimDisk};

/// Opens the database, dying a few more times on the way; returns the disk and the open database.
fn recover(mut disk: SimDisk, chance: &mut Chance, power: bool) -> (SimDisk, Db) {
    for _ in 0..chance.below(3) {
        disk.cut_power_at(disk.io_count() + chance.below(60));
        let opened = open(&disk, &tiny_options());
        let model = LossModel::ALL[chance.below(7) as usize];
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
        let model = LossModel::ALL[chance.below(7) as usize];
        let image =
            if power { disk.after_power_cut(chance.next(), model) } else { disk.after_kill() };
        drop(db);
        let (next, db) = recover(image, &mut chance, power);
        disk = next;
        let found = contents(&db);
        let promised = if power { history.synced } else { history.acknowledged };
        let place = format!("seed {seed} life {life} model {model:?} power {power}");
        let survived = check_prefix(&place, &found, &history, promised);
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

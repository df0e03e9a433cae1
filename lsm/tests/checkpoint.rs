//! Checkpoints: what they hold, what they share, and what a crash or an error leaves of one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, also on real files")]

mod common;

use common::world::{History, check_prefix, contents, work};
use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Db, Environment, Error, Options};

const TO: &str = "/copy";

fn open_at(disk: &SimDisk, path: &str) -> treering_lsm::Result<Db> {
    Db::open_in(Environment::manual(Arc::new(disk.clone())), path, tiny_options())
}

/// Some commits, in tables and in memory.
fn filled(disk: &SimDisk, chance: &mut Chance) -> (Db, History) {
    let db = open(disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    let mut history = History::default();
    work(&db, chance, &mut history, 150).unwrap();
    (db, history)
}

#[test]
fn a_checkpoint_stays_what_it_was_whatever_both_do_afterwards() {
    for seed in 0..20 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let (db, mut history) = filled(&disk, &mut chance);
        let (then, count) = (contents(&db), history.commits.len());
        let sequence = db.checkpoint(TO).unwrap();
        assert_eq!(sequence, db.snapshot().sequence());
        work(&db, &mut chance, &mut history, 100).unwrap();
        db.compact().unwrap();
        let copy = open_at(&disk, TO).unwrap();
        copy.verify().unwrap();
        assert_eq!(contents(&copy), then, "seed {seed}");
        // The copy is a database like any other, and none of the original's business.
        let mut branch =
            History { commits: history.commits[..count].to_vec(), ..History::default() };
        work(&copy, &mut chance, &mut branch, 100).unwrap();
        copy.compact().unwrap();
        assert_eq!(contents(&copy), branch.state_after(branch.commits.len()));
        assert_eq!(contents(&db), history.state_after(history.commits.len()));
        drop(db);
        let db = open(&disk, &tiny_options()).unwrap();
        db.verify().unwrap();
        assert_eq!(contents(&db), history.state_after(history.commits.len()));
    }
}

#[test]
fn a_checkpoint_survives_a_power_cut_once_it_is_acknowledged() {
    for seed in 0..20 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let (db, history) = filled(&disk, &mut chance);
        db.checkpoint(TO).unwrap();
        for model in [LossModel::DropAll, LossModel::NamesOnly, LossModel::Random] {
            let image = disk.after_power_cut(seed, model);
            let found = contents(&open_at(&image, TO).unwrap());
            check_prefix("the copy", &found, &history, history.commits.len());
            let found = contents(&open(&image, &tiny_options()).unwrap());
            check_prefix("the original", &found, &history, history.commits.len());
        }
    }
}

#[test]
fn a_checkpoint_cut_or_failed_at_any_call_is_whole_or_no_database() {
    // Guards: promise 2 of db/checkpoint.rs, at every I/O of it; and that the original never minds.
    let calls = |disk: &SimDisk| disk.io_count();
    let (mut whole, mut none, mut failed) = (0, 0, 0);
    for seed in 0..3 {
        let first = {
            let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
            let (db, _) = filled(&disk, &mut chance);
            let before = calls(&disk);
            db.checkpoint(TO).unwrap();
            (before, calls(&disk))
        };
        for at in first.0..first.1 {
            let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
            let (db, history) = filled(&disk, &mut chance);
            disk.cut_power_at(at);
            let result = db.checkpoint(TO);
            drop(db);
            for image in [
                disk.after_power_cut(seed, LossModel::Random),
                disk.after_power_cut(at, LossModel::KeepPrefix),
            ] {
                let db = open(&image, &tiny_options()).unwrap();
                check_prefix("the original", &contents(&db), &history, history.synced);
                let mut must_exist = tiny_options();
                must_exist.create_if_missing = false;
                let environment = Environment::manual(Arc::new(image.clone()));
                match Db::open_in(environment, TO, must_exist) {
                    Ok(copy) => {
                        check_prefix("the copy", &contents(&copy), &history, history.commits.len());
                        whole += 1;
                    }
                    Err(Error::NotADatabase { .. }) => {
                        assert!(
                            result.is_err(),
                            "seed {seed} call {at}: acknowledged and not there"
                        );
                        none += 1;
                    }
                    Err(other) => panic!("seed {seed} call {at}: {other}"),
                }
            }
        }
        for at in first.0..first.1 {
            let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
            let (db, history) = filled(&disk, &mut chance);
            disk.fail_at(at, libc::ENOSPC, true);
            if db.checkpoint(TO).is_err() {
                failed += 1;
            }
            assert_eq!(contents(&db), history.state_after(history.commits.len()));
        }
    }
    assert!(whole > 0 && none > 100 && failed > 50, "{whole} whole, {none} none, {failed} failed");
}

#[test]
fn a_failed_checkpoint_can_be_tried_again_in_the_same_place() {
    let (disk, mut chance) = (SimDisk::new(3), Chance(3));
    let (db, history) = filled(&disk, &mut chance);
    db.flush().unwrap();
    let call = treering_lsm::io::sim::Call::Link;
    disk.fail_matching(move |seen, _| seen == call, libc::EMLINK, true);
    assert!(matches!(db.checkpoint(TO), Err(Error::Io { operation: "link", .. })));
    db.checkpoint(TO).unwrap();
    check_prefix(
        "the copy",
        &contents(&open_at(&disk, TO).unwrap()),
        &history,
        history.commits.len(),
    );
    let occupied = db.checkpoint(TO);
    assert!(matches!(occupied, Err(Error::InvalidOption { option: "directory", .. })));
}

#[test]
fn a_checkpoint_under_full_load_is_a_prefix_and_copies_nothing() {
    let home = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = Options::default();
        options.memory_limit = 16 << 20;
        options
    };
    let (from, to) = (home.path().join("db"), home.path().join("copy"));
    let db = Db::open(&from, options()).unwrap();
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let key = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let (promised, sequence) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                db.put(&key(number), &[&number.to_be_bytes()[..], &[7; 200]].concat()).unwrap();
                number += 1;
                acknowledged.store(number, Ordering::Release);
            }
        });
        while acknowledged.load(Ordering::Acquire) < 100_000 {
            std::thread::yield_now();
        }
        let promised = acknowledged.load(Ordering::Acquire);
        let sequence = db.checkpoint(&to).unwrap();
        stop.store(true, Ordering::Relaxed);
        (promised, sequence)
    });
    let copy = Db::open(&to, options()).unwrap();
    copy.verify().unwrap();
    let count = copy.default_keyspace().range(.., &Default::default()).unwrap().count() as u64;
    // One put, one sequence number: it holds what it says.
    assert!(promised <= sequence && sequence <= count, "{promised} {sequence} {count}");
    for number in 0..count {
        assert!(copy.get(&key(number)).unwrap().is_some(), "{number} of {count}");
    }
    // With nothing going on every table of a checkpoint is one of the database.
    db.wait_for_compactions().unwrap();
    let still = home.path().join("still");
    db.checkpoint(&still).unwrap();
    let inodes = |path: &Path| -> BTreeSet<u64> {
        let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
        let tables = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "sst"));
        tables.map(|table| table.metadata().unwrap().ino()).collect()
    };
    let shared = inodes(&still);
    assert!(!shared.is_empty() && shared.is_subset(&inodes(&from)));
}

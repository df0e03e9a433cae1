//! Time to live: nothing goes too early, everything goes in time, tables go whole, and no crash changes that.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, tiny_options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, ManualClock};
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Counter, Db, Environment, KeyspaceOptions, Options, ReadOptions};

const TTL: Duration = Duration::from_secs(64);
/// Within so much after its time an entry is gone.
const LATE: Duration = Duration::from_secs(8);

fn keyspace_options() -> KeyspaceOptions {
    let mut options = tiny_options().default_keyspace;
    options.ttl = Some(TTL);
    options
}

fn options() -> Options {
    let mut options = tiny_options();
    options.default_keyspace = keyspace_options();
    options
}

fn open(disk: &SimDisk, clock: &Arc<ManualClock>) -> Db {
    let clock: Arc<dyn Clock> = clock.clone();
    let environment = Environment { clock, ..Environment::manual(Arc::new(disk.clone())) };
    Db::open_in(environment, "/db", options()).unwrap()
}

fn contents(db: &Db) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let range = db.default_keyspace().range(.., &ReadOptions::default()).unwrap();
    range.map(|entry| entry.unwrap()).map(|(key, value)| (key, value.to_vec())).collect()
}

/// Time passes, and the background work of it is done.
fn pass(db: &Db, clock: &ManualClock, time: Duration) {
    let step = Duration::from_secs(1);
    let mut left = time;
    while left > Duration::ZERO {
        clock.sleep(step.min(left));
        left = left.saturating_sub(step);
        while db.step().unwrap() {}
    }
}

#[test]
fn entries_live_as_long_as_they_may_and_not_much_longer() {
    let mut expired = 0;
    for seed in 0..12 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let clock = Arc::new(ManualClock::default());
        let mut db = open(&disk, &clock);
        // When each key was last written, and what.
        let mut model: BTreeMap<Vec<u8>, (Duration, Vec<u8>)> = BTreeMap::new();
        for step in 0..400 {
            let place = format!("seed {seed} step {step}");
            for _ in 0..chance.below(12) {
                let key = format!("key{:03}", chance.below(200)).into_bytes();
                if chance.one_in(8) {
                    db.delete(&key).unwrap();
                    model.remove(&key);
                } else {
                    let value = vec![b'v'; chance.below(300) as usize];
                    db.put(&key, &value).unwrap();
                    model.insert(key, (clock.wall(), value));
                }
            }
            pass(&db, &clock, Duration::from_millis(chance.below(3000)));
            match chance.below(30) {
                0 => db.compact().unwrap(),
                1 => db.flush().unwrap(),
                2 | 3 => {
                    let clean = chance.one_in(2);
                    if clean {
                        db.close().unwrap()
                    } else {
                        drop(db)
                    }
                    db = open(&disk, &clock);
                }
                // The machine was off for a while.
                4 if chance.one_in(3) => {
                    db.close().unwrap();
                    clock.sleep(Duration::from_secs(chance.below(100)));
                    db = open(&disk, &clock);
                    pass(&db, &clock, LATE);
                }
                _ => {}
            }
            let found = contents(&db);
            let now = clock.wall();
            for (key, (written, value)) in &model {
                match found.get(key) {
                    Some(there) => {
                        assert_eq!(there, value, "{place}");
                        assert!(now < *written + TTL + LATE, "{place}: too late");
                    }
                    None => {
                        assert!(
                            now >= *written + TTL,
                            "{place}: {:?} too early",
                            *written + TTL - now
                        );
                        expired += 1;
                    }
                }
                assert_eq!(db.get(key).unwrap().is_some(), found.contains_key(key), "{place}");
            }
            assert!(found.keys().all(|key| model.contains_key(key)), "{place}");
            model.retain(|key, _| found.contains_key(key));
        }
        pass(&db, &clock, TTL + LATE);
        assert!(contents(&db).is_empty(), "seed {seed}");
        while db.step().unwrap() {}
        let tables: u64 = db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum();
        assert_eq!(tables, 0, "seed {seed}: expired tables are dropped");
        db.verify().unwrap();
    }
    assert!(expired > 500, "{expired}");
}

#[test]
fn a_power_cut_makes_nothing_expire_that_is_written_after_it() {
    // Guards: numbers up to a time mark are not given out again, though the log that held them is lost.
    for seed in 0..40 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let clock = Arc::new(ManualClock::default());
        let db = open(&disk, &clock);
        for n in 0..200u64 {
            db.put(format!("old{n:03}").as_bytes(), &[0; 50]).unwrap();
            if chance.one_in(10) {
                pass(&db, &clock, Duration::from_secs(3));
            }
        }
        let image = disk.after_power_cut(seed, LossModel::DropAll);
        drop(db);
        let db = open(&image, &clock);
        for n in 0..300u64 {
            db.put(format!("new{n:03}").as_bytes(), &[1; 50]).unwrap();
        }
        let written = clock.wall();
        pass(&db, &clock, TTL - Duration::from_secs(2));
        assert!(clock.wall() < written + TTL);
        let new = contents(&db).keys().filter(|key| key.starts_with(b"new")).count();
        assert_eq!(new, 300, "seed {seed}");
        pass(&db, &clock, LATE + Duration::from_secs(3));
        assert!(contents(&db).is_empty(), "seed {seed}");
    }
}

#[test]
fn operands_expire_and_other_keyspaces_keep_everything() {
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::default());
    let db = open(&disk, &clock);
    let mut counting = keyspace_options();
    counting.merge_operator = Some(Counter::NAME.to_owned());
    let recent = db.create_keyspace("recent", counting).unwrap();
    let kept = db.create_keyspace("kept", tiny_options().default_keyspace).unwrap();
    // One event a second. Folded ones expire with the newest of them.
    for _ in 0..300 {
        recent.merge(b"events", &Counter::add(1)).unwrap();
        kept.put(b"k", b"v").unwrap();
        pass(&db, &clock, Duration::from_secs(1));
    }
    let count = Counter::value(&recent.get(b"events").unwrap().unwrap()).unwrap();
    assert!((64..300).contains(&count), "{count}");
    pass(&db, &clock, TTL + LATE);
    assert!(recent.get(b"events").unwrap().is_none());
    assert_eq!(kept.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
    let mut bad = keyspace_options();
    bad.ttl = Some(Duration::from_millis(3));
    assert!(db.create_keyspace("bad", bad).is_err());
}

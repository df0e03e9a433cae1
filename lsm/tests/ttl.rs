//! Time to live: nothing goes too early, everything goes in time, tables go whole, and no crash changes that.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, tiny_options};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use treering_lsm::base::clock::{Clock, ManualClock};
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
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
    open_by(disk, clock.clone())
}

fn open_by(disk: &SimDisk, clock: Arc<dyn Clock>) -> Db {
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

#[test]
fn what_a_range_deleted_does_not_come_back_when_the_rest_expires() {
    // Guards: the range of an expiry takes no range delete away from readers who do not see it.
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::default());
    let db = open(&disk, &clock);
    db.put(b"x", b"1").unwrap();
    db.flush().unwrap();
    let _held = db.snapshot();
    db.default_keyspace().delete_range(&b"x"[..]..&b"y"[..]).unwrap();
    db.put(b"z", b"1").unwrap();
    for second in 0..90 {
        pass(&db, &clock, Duration::from_secs(1));
        assert!(db.get(b"x").unwrap().is_none(), "back after {second} s");
    }
}

#[test]
fn a_held_snapshot_does_not_keep_an_idle_keyspace_from_expiring() {
    // Guards: the time to live of entries that are the last ones written, also after a crash.
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::default());
    let db = open(&disk, &clock);
    db.put(b"x", b"1").unwrap();
    let held = db.snapshot();
    pass(&db, &clock, TTL + LATE);
    assert!(db.get(b"x").unwrap().is_none());
    let image = disk.after_kill();
    drop((held, db));
    let db = open(&image, &clock);
    assert!(db.get(b"x").unwrap().is_none());
    db.put(b"x", b"2").unwrap();
    assert!(db.get(b"x").unwrap().is_some(), "the number of the expiry is not given out again");
}

#[test]
fn a_snapshot_keeps_not_seeing_what_was_deleted_when_an_expiry_comes_before_a_flush() {
    // Guards: no table says that a range delete was applied to it that was still in a memtable.
    let disk = SimDisk::new(1);
    let clock = Arc::new(ManualClock::default());
    let db = open(&disk, &clock);
    for n in 0..8 {
        db.put(b"x", b"1").unwrap();
        db.put(format!("f{n}").as_bytes(), b"1").unwrap();
        db.default_keyspace().flush().unwrap();
    }
    db.default_keyspace().delete_range(&b"x"[..]..&b"y"[..]).unwrap();
    let then = ReadOptions { snapshot: Some(db.snapshot()), ..ReadOptions::default() };
    db.put(b"zz", b"1").unwrap();
    // The compaction that is due comes only after the expiry.
    let is_table = |path: &std::path::Path| path.extension().is_some_and(|e| e == "sst");
    let at_table = move |call, path: &std::path::Path| call == Call::Write && is_table(path);
    disk.fail_matching(at_table, libc::EIO, true);
    clock.sleep(Duration::from_secs(1));
    assert!(db.step().is_err() && disk.fired() == 1);
    clock.sleep(TTL + Duration::from_secs(4));
    db.put(b"w", b"1").unwrap();
    for step in 0..10 {
        db.step().unwrap();
        let found = db.default_keyspace().get_with(b"x", &then).unwrap();
        assert!(found.is_none(), "step {step}");
    }
}

/// A wall clock that can be set.
#[derive(Debug, Default)]
struct Settable {
    inner: ManualClock,
    ahead_seconds: AtomicU64,
}

impl Clock for Settable {
    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn wall(&self) -> Duration {
        self.inner.now() + Duration::from_secs(self.ahead_seconds.load(Ordering::Relaxed))
    }

    fn sleep(&self, time: Duration) {
        self.inner.sleep(time);
    }
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_does_not_end_expiry() {
    // Guards: entries go in time although the wall clock is years behind the last time mark, also of an earlier opening.
    let disk = SimDisk::new(1);
    let clock = Arc::new(Settable::default());
    let db = open_by(&disk, clock.clone());
    clock.ahead_seconds.store(10 * 365 * 86_400, Ordering::Relaxed);
    db.put(b"a", b"1").unwrap();
    pass(&db, &clock.inner, Duration::from_secs(5));
    clock.ahead_seconds.store(0, Ordering::Relaxed);
    let check = |db: &Db| {
        db.put(b"x", b"1").unwrap();
        for second in 0..72u64 {
            pass(db, &clock.inner, Duration::from_secs(1));
            db.put(b"tick", b"1").unwrap();
            assert!(second > 62 || db.get(b"x").unwrap().is_some(), "{second} s");
        }
        pass(db, &clock.inner, Duration::from_secs(2));
        assert!(db.get(b"x").unwrap().is_none());
    };
    check(&db);
    db.close().unwrap();
    check(&open_by(&disk, clock.clone()));
}

//! Events: their order, what a listener may do, and what it cannot harm.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::world::{History, work};
use common::{Chance, other_options, tiny_options};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use treering_lsm::io::sim::{Call, SimDisk};
use treering_lsm::*;

/// Hands every event to `note`: its name, and all that it holds.
struct Trace<F>(F);

macro_rules! trace {
    ($($method:ident $event:ident,)*) => {
        impl<F: Fn(&str, &dyn std::fmt::Debug) + Send + Sync> EventListener for Trace<F> {
            $(fn $method(&self, event: &$event) { (self.0)(stringify!($event), event); })*
        }
    };
}

trace! {
    opened Opened, closed Closed, flush_begun FlushBegun, flush_ended FlushEnded,
    compaction_begun CompactionBegun, compaction_ended CompactionEnded, table_created TableCreated,
    table_deleted TableDeleted, log_segment_started LogSegmentStarted, log_released LogReleased,
    stall_begun StallBegun, stall_ended StallEnded, pace_changed PaceChanged,
    background_failed BackgroundFailed, background_recovered BackgroundRecovered, disk_full DiskFull,
    disk_has_space DiskHasSpace, poisoned Poisoned, events_missed EventsMissed,
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A listener that writes everything down.
fn scribe() -> (Lines, Arc<dyn EventListener>) {
    let lines: Lines = Arc::default();
    let written = Arc::clone(&lines);
    let note = move |_: &str, event: &dyn std::fmt::Debug| {
        written.lock().unwrap().push(format!("{event:?}"));
    };
    (lines, Arc::new(Trace(note)))
}

fn open(disk: &SimDisk, background: Background, listener: Arc<dyn EventListener>) -> Db {
    let environment = Environment::manual(Arc::new(disk.clone())).with_listener(listener);
    Db::open_in(Environment { background, ..environment }, "/db", tiny_options()).unwrap()
}

fn names(lines: &Lines) -> Vec<String> {
    let lines = lines.lock().unwrap();
    lines.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

#[test]
fn the_same_seed_gives_the_same_events() {
    // Guards: promise 3 of db/listener.rs.
    let run = |seed: u64| {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let (lines, listener) = scribe();
        let db = open(&disk, Background::Manual, listener);
        db.create_keyspace("other", other_options()).unwrap();
        work(&db, &mut chance, &mut History::default(), 400).unwrap();
        db.close().unwrap();
        std::mem::take(&mut *lines.lock().unwrap())
    };
    for seed in 0..5 {
        println!("seed {seed}");
        let first = run(seed);
        assert_eq!(first, run(seed));
        assert!(first[0].starts_with("Opened") && first.last().unwrap().starts_with("Closed"));
        for expected in ["FlushEnded", "CompactionBegun", "TableDeleted", "LogReleased"] {
            assert!(first.iter().any(|line| line.starts_with(expected)), "{expected}");
        }
    }
}

#[test]
fn every_table_that_is_made_is_announced_and_so_is_its_end() {
    let (disk, mut chance) = (SimDisk::new(7), Chance(7));
    let tables: Arc<Mutex<Vec<(bool, u64)>>> = Arc::default();
    struct Tables(Arc<Mutex<Vec<(bool, u64)>>>);
    impl EventListener for Tables {
        fn table_created(&self, event: &TableCreated) {
            self.0.lock().unwrap().push((true, event.table.number));
        }
        fn table_deleted(&self, event: &TableDeleted) {
            self.0.lock().unwrap().push((false, event.number));
        }
    }
    let db = open(&disk, Background::Manual, Arc::new(Tables(Arc::clone(&tables))));
    let other = db.create_keyspace("other", other_options()).unwrap();
    work(&db, &mut chance, &mut History::default(), 600).unwrap();
    while db.step().unwrap() {}
    let mut alive = std::collections::BTreeSet::new();
    for (is_new, number) in &*tables.lock().unwrap() {
        let changed = if *is_new { alive.insert(*number) } else { alive.remove(number) };
        assert!(changed, "table {number}");
    }
    let held = db.default_keyspace().shape().tables() + other.shape().tables();
    assert_eq!(alive.len() as u64, held);
}

/// A listener that uses the database in every event, and the place where it finds it.
fn meddler() -> (Arc<OnceLock<Db>>, Arc<AtomicU64>, Arc<dyn EventListener>) {
    let (place, uses): (Arc<OnceLock<Db>>, Arc<AtomicU64>) = Default::default();
    let (db, used) = (Arc::clone(&place), Arc::clone(&uses));
    let listener = Trace(move |name: &str, _: &dyn std::fmt::Debug| {
        let Some(db) = db.get() else { return };
        let _ = (db.stats(), db.health(), db.default_keyspace().shape());
        let is_closed = matches!(db.put(b"~event", name.as_bytes()), Err(Error::Closed));
        let read = db.get(b"~event");
        assert!(is_closed || read.unwrap().is_some() || db.get(b"~event").is_err());
        used.fetch_add(1, Ordering::Relaxed);
    });
    (place, uses, Arc::new(listener))
}

#[test]
fn a_listener_may_use_the_database_in_every_event() {
    // Guards: promise 1 of db/listener.rs. A lock that is held would stop this test for ever.
    for background in [Background::Manual, Background::Threads] {
        let (place, uses, listener) = meddler();
        let (disk, mut chance) = (SimDisk::new(3), Chance(3));
        let db = open(&disk, background, listener);
        place.set(db.clone()).unwrap();
        db.create_keyspace("other", other_options()).unwrap();
        for _ in 0..400 {
            let key = chance.next().to_be_bytes();
            db.put(&key, &[1; 500]).unwrap();
        }
        db.compact().unwrap();
        db.close().unwrap();
        assert!(uses.load(Ordering::Relaxed) > 20, "{background:?}");
    }
}

#[test]
fn a_listener_may_close_the_database() {
    for background in [Background::Manual, Background::Threads] {
        let place: Arc<OnceLock<Db>> = Arc::default();
        let db_of = Arc::clone(&place);
        let listener = Trace(move |name: &str, _: &dyn std::fmt::Debug| {
            if let Some(db) = db_of.get().filter(|_| name == "FlushEnded") {
                db.clone().close().unwrap();
            }
        });
        let db = open(&SimDisk::new(5), background, Arc::new(listener));
        place.set(db.clone()).unwrap();
        db.put(b"oak", b"1").unwrap();
        let _closed_meanwhile = db.flush();
        db.clone().close().unwrap();
        assert!(matches!(db.put(b"oak", b"2"), Err(Error::Closed)));
    }
}

#[test]
fn a_listener_that_panics_loses_that_event_and_nothing_else() {
    for background in [Background::Manual, Background::Threads] {
        let lines: Lines = Arc::default();
        let written = Arc::clone(&lines);
        let listener = Trace(move |name: &str, _: &dyn std::fmt::Debug| {
            written.lock().unwrap().push(name.to_owned());
            assert_ne!(name, "FlushBegun", "on purpose");
        });
        let db = open(&SimDisk::new(4), background, Arc::new(listener));
        db.put(b"oak", b"1").unwrap();
        db.flush().unwrap();
        assert!(matches!(db.health().state, HealthState::Healthy));
        db.put(b"oak", b"2").unwrap();
        db.close().unwrap();
        let names = names(&lines);
        for expected in ["FlushBegun", "FlushEnded", "Closed"] {
            assert!(names.iter().any(|name| name == expected), "{expected} in {names:?}");
        }
    }
}

#[test]
fn what_a_slow_listener_leaves_is_bounded_and_counted() {
    let (gate, missed): (Arc<Mutex<()>>, Arc<AtomicU64>) = Default::default();
    struct Slow(Arc<Mutex<()>>, Arc<AtomicU64>);
    impl EventListener for Slow {
        fn flush_begun(&self, _: &FlushBegun) {
            drop(self.0.lock().unwrap());
        }
        fn events_missed(&self, event: &EventsMissed) {
            self.1.fetch_add(event.count, Ordering::Relaxed);
        }
    }
    let listener = Arc::new(Slow(Arc::clone(&gate), Arc::clone(&missed)));
    let db = open(&SimDisk::new(6), Background::Threads, listener);
    let closed_gate = gate.lock().unwrap();
    // Each flush raises four events at least, and the listener is at the first one.
    for _ in 0..WAITING_MAX / 4 + 10 {
        db.put(b"oak", b"1").unwrap();
        db.flush().unwrap();
    }
    drop(closed_gate);
    db.close().unwrap();
    assert!(missed.load(Ordering::Relaxed) > 0);
}

#[test]
fn failures_are_told_once_and_so_is_their_end() {
    let (disk, (lines, listener)) = (SimDisk::new(8), scribe());
    let db = open(&disk, Background::Manual, listener);
    db.put(b"oak", b"1").unwrap();
    for _ in 0..2 {
        disk.fail_matching(|call, path| call == Call::Open && is_table(path), libc::EIO, true);
        assert!(db.flush().is_err());
    }
    db.flush().unwrap();
    db.put(b"oak", b"2").unwrap();
    disk.fail_matching(|call, path| call == Call::Open && is_table(path), libc::ENOSPC, true);
    assert!(db.flush().is_err());
    while db.step().unwrap() {}
    db.put(b"oak", b"3").unwrap();
    disk.fail_matching(|call, _| call == Call::Sync, libc::EIO, true);
    assert!(db.flush().is_err() || db.flush().is_err());
    let names = names(&lines);
    let count = |name: &str| names.iter().filter(|line| *line == name).count();
    assert_eq!((count("BackgroundFailed"), count("BackgroundRecovered")), (3, 2), "{names:?}");
    assert_eq!((count("DiskFull"), count("DiskHasSpace")), (1, 1), "{names:?}");
    let _ = db.close();
}

#[test]
fn recovery_and_poisoning_are_told() {
    let (disk, (_, listener)) = (SimDisk::new(9), scribe());
    let db = open(&disk, Background::Manual, listener);
    for number in 0..10u8 {
        db.put(&[number], b"1").unwrap();
    }
    let image = disk.after_kill();
    let (lines, listener) = scribe();
    let db = open(&image, Background::Manual, listener);
    let opened = lines.lock().unwrap()[0].clone();
    assert!(opened.contains("is_new: false, records_replayed: 10"), "{opened}");
    image.fail_matching(|call, _| call == Call::Write || call == Call::Sync, libc::EIO, true);
    assert!(db.default_keyspace().put_with(b"oak", b"1", &WriteOptions::sync()).is_err());
    assert!(db.put(b"oak", b"1").is_err());
    assert!(db.close().is_err());
    assert_eq!(names(&lines).iter().filter(|name| *name == "Poisoned").count(), 1);
    assert!(lines.lock().unwrap().last().unwrap().starts_with("Closed { error: Some(Poisoned"));
}

#[test]
fn a_stall_is_told_from_its_beginning_to_its_end() {
    let (disk, (lines, listener)) = (SimDisk::new(10), scribe());
    let db = open(&disk, Background::Manual, listener);
    for number in 0..200u64 {
        db.put(&number.to_be_bytes(), &[1; 1000]).unwrap();
    }
    db.close().unwrap();
    let names = names(&lines);
    let begun = names.iter().position(|name| name == "StallBegun").unwrap();
    let ended = names.iter().position(|name| name == "StallEnded").unwrap();
    assert!(names[begun..ended].iter().any(|name| name == "FlushEnded"), "{names:?}");
}

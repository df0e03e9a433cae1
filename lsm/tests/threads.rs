//! Many threads on one database with its own background threads: writers, readers, snapshots, flushes and manual compactions
//! at once, all with tiny sizes, so that generations and levels change all the time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{Chance, other_options, tiny_options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_lsm::base::clock::SystemClock;
use treering_lsm::io::sim::{Call, Fault, SimDisk};
use treering_lsm::{
    Background, Db, Durability, Environment, Error, Options, ReadOptions, WriteBatch, WriteOptions,
};

const WRITERS: u64 = 3;
const KEYS: u64 = 40;
const ROUNDS: u64 = 150;

fn threaded(disk: &SimDisk, options: &Options) -> Db {
    let mut environment = Environment::manual(Arc::new(disk.clone()));
    environment.clock = Arc::new(SystemClock::new());
    environment.background = Background::Threads;
    Db::open_in(environment, "/db", options.clone()).unwrap()
}

fn key(writer: u64, number: u64) -> Vec<u8> {
    format!("writer{writer}-key{number:04}").into_bytes()
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// Each writer puts its round number under all its keys, by batches over two keyspaces. What was acknowledged is never unseen, no
/// batch is seen in part, and no snapshot changes.
#[test]
fn what_was_acknowledged_is_seen_by_everybody_from_then_on() {
    let disk = SimDisk::new(1);
    let mut options = tiny_options();
    options.background_jobs = Some(4);
    let db = threaded(&disk, &options);
    let other = db.create_keyspace("other", other_options()).unwrap();
    let acknowledged: Vec<AtomicU64> = (0..WRITERS * KEYS).map(|_| AtomicU64::new(0)).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (db, other, acknowledged) = (&db, &other, &acknowledged);
                scope.spawn(move || {
                    let mut chance = Chance(writer);
                    for round in 1..=ROUNDS {
                        for at in 0..KEYS {
                            let key = key(writer, at);
                            let mut value = round.to_be_bytes().to_vec();
                            value.resize(8 + chance.below(200) as usize, b'x');
                            let mut batch = WriteBatch::new();
                            if chance.one_in(4) {
                                batch.delete(db.default_keyspace(), &key).unwrap();
                            }
                            batch.put(db.default_keyspace(), &key, &value).unwrap();
                            batch.put(other, &key, &value).unwrap();
                            let durability = match chance.below(3) {
                                0 => Durability::Sync,
                                1 => Durability::Buffered,
                                _ => Durability::None,
                            };
                            db.write(&batch, &WriteOptions { durability: Some(durability) })
                                .unwrap();
                            acknowledged[(writer * KEYS + at) as usize]
                                .store(round, Ordering::Release);
                        }
                    }
                })
            })
            .collect();
        for reader in 0..2 {
            let (db, other, acknowledged, done) = (&db, &other, &acknowledged, &done);
            scope.spawn(move || {
                let mut chance = Chance(100 + reader);
                while !done.load(Ordering::Relaxed) {
                    let (writer, at) = (chance.below(WRITERS), chance.below(KEYS));
                    let slot = (writer * KEYS + at) as usize;
                    let before = acknowledged[slot].load(Ordering::Acquire);
                    let found = db.get(&key(writer, at)).unwrap().map_or(0, |value| number(&value));
                    assert!(found >= before, "{found} < {before}");
                    let floor: Vec<u64> =
                        acknowledged.iter().map(|round| round.load(Ordering::Acquire)).collect();
                    let snapshot = db.snapshot();
                    let options = ReadOptions { snapshot: Some(snapshot), ..Default::default() };
                    let all = |backward: bool| {
                        let range = other.range(.., &options).unwrap();
                        let pairs: Vec<_> = if backward {
                            let mut pairs: Vec<_> = range.rev().map(Result::unwrap).collect();
                            pairs.reverse();
                            pairs
                        } else {
                            range.map(Result::unwrap).collect()
                        };
                        pairs
                            .into_iter()
                            .map(|(key, value)| (key, number(&value)))
                            .collect::<Vec<_>>()
                    };
                    let seen = all(false);
                    assert_eq!(seen, all(true));
                    let keys: Vec<&[u8]> = seen.iter().map(|(key, _)| &key[..]).collect();
                    let values = db.default_keyspace().multi_get(&keys, &options);
                    for ((key, round), value) in seen.iter().zip(values) {
                        let value = value.unwrap().map(|value| number(&value));
                        assert_eq!(value, Some(*round), "{}", key.escape_ascii());
                    }
                    let seen_of = |slot: usize| {
                        let key = key(slot as u64 / KEYS, slot as u64 % KEYS);
                        seen.binary_search_by(|(other, _)| other.cmp(&key))
                            .map_or(0, |at| seen[at].1)
                    };
                    for (slot, round) in floor.iter().enumerate() {
                        assert!(seen_of(slot) >= *round, "slot {slot} is behind round {round}");
                    }
                    assert_eq!(seen, all(chance.one_in(2)));
                }
            });
        }
        let (db, done) = (&db, &done);
        scope.spawn(move || {
            let mut chance = Chance(7);
            while !done.load(Ordering::Relaxed) {
                match chance.below(3) {
                    0 => db.flush().unwrap(),
                    1 => db.compact().unwrap(),
                    _ => db.wait_for_compactions().unwrap(),
                }
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Relaxed);
    });
    db.verify().unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    let db = threaded(&disk, &options);
    for writer in 0..WRITERS {
        for at in 0..KEYS {
            assert_eq!(number(&db.get(&key(writer, at)).unwrap().unwrap()), ROUNDS);
        }
    }
}

/// Guards: a thread that panics (a bug of ours) is an error for whoever waits for its work, not a wait for ever.
#[test]
fn a_panic_in_the_background_leaves_nobody_waiting() {
    for thread in ["treering-flush", "treering-compact"] {
        let disk = SimDisk::new(3);
        let db = threaded(&disk, &tiny_options());
        db.put(b"safe", b"1").unwrap();
        disk.fail_matching(
            move |_, path| {
                let is = |name: &str| name.starts_with(thread);
                let there = std::thread::current().name().is_some_and(is);
                let there = there && !std::thread::panicking();
                assert!(!there || path.extension().is_none_or(|end| end != "sst"), "planted");
                false
            },
            Fault::Short,
            false,
        );
        let refused = loop {
            if let Err(error) = db.put(b"more", &[0; 100]).and_then(|()| db.flush()) {
                break error;
            }
        };
        assert!(refused.to_string().contains("panicked"), "{thread}: {refused}");
        assert!(matches!(db.compact(), Err(Error::Poisoned { .. })));
        assert!(matches!(db.put(b"late", b"1"), Err(Error::Poisoned { .. })));
        assert_eq!(db.get(b"safe").unwrap().unwrap(), b"1");
        disk.clear_faults();
        drop(db);
        assert_eq!(threaded(&disk, &tiny_options()).get(b"safe").unwrap().unwrap(), b"1");
    }
}

/// A writer waits for a free memtable while flushes fail now and then, but not for ever for a device that takes no table at all;
/// and when the device is well again, so is the database.
#[test]
fn nobody_waits_for_ever_for_a_flush_that_cannot_succeed() {
    let disk = SimDisk::new(1);
    let db = threaded(&disk, &tiny_options());
    let is_table = |path: &std::path::Path| path.extension().is_some_and(|name| name == "sst");
    disk.fail_matching(move |call, path| call == Call::Sync && is_table(path), 5, false);
    let mut written = 0u64;
    let error = loop {
        match db.put(&written.to_be_bytes(), &[b'v'; 1000]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Io { operation: "sync", .. }), "{error}");
    assert!(written >= 16, "the memtables take some: {written}");
    disk.clear_faults();
    while db.put(&written.to_be_bytes(), b"again").is_err() {
        std::thread::yield_now();
    }
    for number in 0..=written {
        assert!(db.get(&number.to_be_bytes()).unwrap().is_some(), "write {number} is gone");
    }
}

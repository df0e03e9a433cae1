//! The worlds. Each is as small as the promise lets it be: two or three callers, a handful of writes.

use crate::common::*;
use crate::runner::World;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
use treering_lsm::{Db, Durability, Error, Keyspace, PinnedSlice, ReadOptions, Result, WriteBatch};

pub const WORLDS: &[World] = &[
    World { name: "commits", run: a_batch_is_never_seen_in_part_and_what_was_acknowledged_is_seen },
    World { name: "snapshots", run: no_flush_or_compaction_takes_away_what_a_snapshot_sees },
    World { name: "memtables", run: writers_that_wait_for_a_memtable_get_one },
    World {
        name: "keyspaces",
        run: a_keyspace_that_two_threads_make_is_made_once_and_takes_writes,
    },
    World { name: "full", run: a_full_disk_is_left_again_and_nothing_acknowledged_is_lost },
    World { name: "full-stall", run: a_writer_that_waits_for_a_memtable_hears_of_a_full_disk },
    World { name: "poison", run: nobody_is_told_ok_by_a_sync_that_failed },
    World { name: "everything", run: writers_readers_and_compactions_at_once_keep_every_promise },
    World {
        name: "close",
        run: after_close_nothing_is_written_and_everything_acknowledged_is_there,
    },
    World { name: "close-poisoned", run: a_poisoned_database_writes_nothing_after_close },
    World { name: "close-full", run: a_full_disk_is_not_touched_after_close },
    World { name: "reopen", run: who_was_told_that_it_is_closed_may_open_it },
    World { name: "drop", run: the_last_handle_closes_whoever_holds_it },
];

/// A device that fails.
const EIO: i32 = 5;

fn disk() -> SimDisk {
    SimDisk::new(7)
}

fn put(
    keyspace: &Keyspace,
    key: &[u8],
    round: u64,
    length: usize,
    durability: Durability,
) -> Result<()> {
    keyspace.put_with(key, &value(round, length), &with(durability))
}

/// Writes `round` under one key of each keyspace, or under none.
fn put_both(
    db: &Db,
    keyspaces: [&Keyspace; 2],
    key: &[u8],
    round: u64,
    durability: Durability,
) -> Result<()> {
    let mut batch = WriteBatch::new();
    for keyspace in keyspaces {
        batch.put(keyspace, key, &value(round, 16))?;
    }
    db.write(&batch, &with(durability))
}

fn a_batch_is_never_seen_in_part_and_what_was_acknowledged_is_seen() {
    let disk = disk();
    let db = open(&disk);
    let other = db.create_keyspace("other", keyspace_options()).unwrap();
    let (batches, puts) = (Ledger::default(), Ledger::default());
    let mut threads = Vec::new();
    {
        let (db, other, batches) = (db.clone(), other.clone(), batches.clone());
        threads.push(spawn(move || {
            for round in 1..=3 {
                let durability = if round == 2 { Durability::Sync } else { Durability::Buffered };
                let write =
                    || put_both(&db, [db.default_keyspace(), &other], b"both", round, durability);
                batches.write(round, write).unwrap();
            }
        }));
    }
    {
        let (db, puts) = (db.clone(), puts.clone());
        threads.push(spawn(move || {
            for round in 1..=2 {
                let write = || put(db.default_keyspace(), b"one", round, 16, Durability::Sync);
                puts.write(round, write).unwrap();
            }
        }));
    }
    {
        let (db, other, batches, puts) = (db.clone(), other.clone(), batches.clone(), puts.clone());
        threads.push(spawn(move || {
            for _ in 0..2 {
                let floor = (batches.acknowledged(), puts.acknowledged());
                batches.check(floor.0, round(db.default_keyspace(), b"both").unwrap());
                puts.check(floor.1, round(db.default_keyspace(), b"one").unwrap());
                let floor = (batches.acknowledged(), puts.acknowledged());
                let options = ReadOptions { snapshot: Some(db.snapshot()), ..Default::default() };
                let of = |keyspace: &Keyspace, key: &[u8]| {
                    let found = keyspace.get_with(key, &options).unwrap();
                    found.map_or(0, |value| round_of(&value))
                };
                let both = of(db.default_keyspace(), b"both");
                assert_eq!(both, of(&other, b"both"), "half of a batch");
                batches.check(floor.0, both);
                let one = of(db.default_keyspace(), b"one");
                puts.check(floor.1, one);
                let range = db.default_keyspace().range(.., &options).unwrap();
                let seen: Vec<u64> = range.map(|entry| round_of(&entry.unwrap().1)).collect();
                let expected: Vec<u64> =
                    [both, one].into_iter().filter(|round| *round > 0).collect();
                assert_eq!(seen, expected, "a snapshot that changes");
            }
        }));
    }
    db.flush().unwrap();
    db.compact().unwrap();
    join(threads);
    check_both(&db, &other, 3);
    drop(other);
    db.close().unwrap();
    let db = open_quietly(&disk);
    let other = db.keyspace("other").unwrap();
    check_both(&db, &other, 3);
    assert_eq!(round(db.default_keyspace(), b"one").unwrap(), 2);
}

fn check_both(db: &Db, other: &Keyspace, expected: u64) {
    assert_eq!(round(db.default_keyspace(), b"both").unwrap(), expected);
    assert_eq!(round(other, b"both").unwrap(), expected);
}

fn no_flush_or_compaction_takes_away_what_a_snapshot_sees() {
    let disk = disk();
    let db = open(&disk);
    let keyspace = db.default_keyspace().clone();
    put(&keyspace, b"key", 1, 16, Durability::Buffered).unwrap();
    let mut threads = Vec::new();
    {
        let db = db.clone();
        threads.push(spawn(move || {
            let snapshot = db.snapshot();
            let options = ReadOptions { snapshot: Some(snapshot), ..Default::default() };
            let look = || db.default_keyspace().get_with(b"key", &options).unwrap();
            let first = look().map(|value| round_of(&value));
            // A cursor keeps the tables of its moment, whatever is compacted away meanwhile.
            let mut cursor = db.default_keyspace().cursor(&options).unwrap();
            for _ in 0..2 {
                assert_eq!(look().map(|value| round_of(&value)), first);
            }
            assert_eq!(cursor.seek_to_first().unwrap(), first.is_some());
            assert_eq!(cursor.valid().then(|| round_of(cursor.value())), first);
        }));
    }
    {
        let keyspace = keyspace.clone();
        threads.push(spawn(move || {
            put(&keyspace, b"key", 2, 16, Durability::Buffered).unwrap();
            keyspace.delete(b"key").unwrap();
            put(&keyspace, b"key", 3, 16, Durability::Buffered).unwrap();
        }));
    }
    for _ in 0..2 {
        db.flush().unwrap();
        db.compact().unwrap();
    }
    join(threads);
    assert_eq!(round(&keyspace, b"key").unwrap(), 3);
    db.compact().unwrap();
    assert_eq!(round(&keyspace, b"key").unwrap(), 3);
    db.verify().unwrap();
    drop(keyspace);
    db.close().unwrap();
    assert_eq!(round(open_quietly(&disk).default_keyspace(), b"key").unwrap(), 3);
}

fn writers_that_wait_for_a_memtable_get_one() {
    const ROUNDS: u64 = 4;
    let disk = disk();
    let db = open(&disk);
    let ledgers = [Ledger::default(), Ledger::default()];
    let mut threads = Vec::new();
    for (index, ledger) in ledgers.iter().cloned().enumerate() {
        let db = db.clone();
        threads.push(spawn(move || {
            for round in 1..=ROUNDS {
                // Two of these fill a memtable, and some of them the share of the ring at which it is drained.
                let write = || {
                    put(db.default_keyspace(), &[index as u8], round, 7000, Durability::Buffered)
                };
                ledger.write(round, write).unwrap();
            }
        }));
    }
    for (index, ledger) in ledgers.iter().enumerate() {
        let floor = ledger.acknowledged();
        ledger.check(floor, round(db.default_keyspace(), &[index as u8]).unwrap());
    }
    join(threads);
    db.wait_for_compactions().unwrap();
    db.close().unwrap();
    let db = open_quietly(&disk);
    for index in 0..2 {
        assert_eq!(round(db.default_keyspace(), &[index]).unwrap(), ROUNDS);
    }
}

fn a_keyspace_that_two_threads_make_is_made_once_and_takes_writes() {
    let disk = disk();
    let db = open(&disk);
    let made = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for index in 0..2u8 {
        let (db, made) = (db.clone(), Arc::clone(&made));
        threads.push(spawn(move || {
            match db.create_keyspace("new", keyspace_options()) {
                Ok(_) => {
                    made.fetch_add(1, Ordering::Relaxed);
                }
                Err(Error::KeyspaceExists { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            // There it is, whoever made it.
            let new = db.keyspace("new").unwrap();
            put_both(&db, [db.default_keyspace(), &new], &[index], 1, Durability::Buffered)
                .unwrap();
            assert_eq!(round(&new, &[index]).unwrap(), 1);
        }));
    }
    put(db.default_keyspace(), b"key", 1, 16, Durability::Buffered).unwrap();
    db.flush().unwrap();
    join(threads);
    assert_eq!(made.load(Ordering::Relaxed), 1);
    db.flush().unwrap();
    db.close().unwrap();
    let db = open_quietly(&disk);
    let new = db.keyspace("new").unwrap();
    for index in 0..2 {
        assert_eq!(round(&new, &[index]).unwrap(), 1);
        assert_eq!(round(db.default_keyspace(), &[index]).unwrap(), 1);
    }
}

fn a_full_disk_is_left_again_and_nothing_acknowledged_is_lost() {
    write_through_a_full_disk(3, 3000, 6 << 10);
}

fn a_writer_that_waits_for_a_memtable_hears_of_a_full_disk() {
    write_through_a_full_disk(5, 7000, 12 << 10);
}

/// Two writers try until they are let, on a disk with `free` bytes that gets more after a while.
fn write_through_a_full_disk(rounds: u64, length: usize, free: u64) {
    let disk = disk();
    let db = open(&disk);
    disk.set_free_bytes(Some(free));
    let mut threads = Vec::new();
    for index in 0..2u8 {
        let db = db.clone();
        threads.push(spawn(move || {
            let durability = if index == 0 { Durability::Sync } else { Durability::Buffered };
            for round in 1..=rounds {
                loop {
                    match put(db.default_keyspace(), &[index], round, length, durability) {
                        Ok(()) => break,
                        Err(Error::NoSpace { .. }) => shuttle::thread::yield_now(),
                        Err(error) => panic!("{error}"),
                    }
                }
                assert_eq!(self::round(db.default_keyspace(), &[index]).unwrap(), round);
            }
        }));
    }
    match db.flush() {
        Ok(()) | Err(Error::NoSpace { .. }) => {}
        Err(error) => panic!("{error}"),
    }
    for _ in 0..20 {
        shuttle::thread::yield_now();
    }
    disk.set_free_bytes(None);
    join(threads);
    db.close().unwrap();
    let db = open_quietly(&disk);
    for index in 0..2 {
        assert_eq!(round(db.default_keyspace(), &[index]).unwrap(), rounds);
    }
}

fn nobody_is_told_ok_by_a_sync_that_failed() {
    let disk = disk();
    let db = open(&disk);
    put(db.default_keyspace(), b"before", 1, 16, Durability::Sync).unwrap();
    // The second write to the device after this one fails, and all that comes after it.
    let calls = AtomicU64::new(0);
    let strikes = move |call: Call, path: &Path| {
        let syncs = matches!(call, Call::Sync | Call::WriteDurable);
        syncs
            && path.extension().is_some_and(|kind| kind == "wal")
            && calls.fetch_add(1, Ordering::Relaxed) >= 1
    };
    disk.fail_matching(strikes, EIO, false);
    let ledgers = [Ledger::default(), Ledger::default(), Ledger::default()];
    let mut threads = Vec::new();
    for (index, ledger) in ledgers.iter().cloned().enumerate() {
        let db = db.clone();
        threads.push(spawn(move || {
            for round in 1..=2 {
                let write =
                    || put(db.default_keyspace(), &[index as u8], round, 16, Durability::Sync);
                if ledger.write(round, write).is_err() {
                    // What is poisoned stays poisoned.
                    assert!(
                        put(db.default_keyspace(), b"after", 1, 16, Durability::Buffered).is_err()
                    );
                    return;
                }
            }
        }));
    }
    join(threads);
    assert!(disk.fired() > 0, "six syncs in a row went through two");
    // Reads go on.
    assert_eq!(round(db.default_keyspace(), b"before").unwrap(), 1);
    let after = disk.after_power_cut(11, LossModel::DropAll);
    let _poisoned = db.close();
    let db = open_quietly(&after);
    assert_eq!(round(db.default_keyspace(), b"before").unwrap(), 1);
    for (index, ledger) in ledgers.iter().enumerate() {
        ledger.check(ledger.acknowledged(), round(db.default_keyspace(), &[index as u8]).unwrap());
    }
    assert_eq!(round(db.default_keyspace(), b"after").unwrap(), 0);
}

fn writers_readers_and_compactions_at_once_keep_every_promise() {
    const ROUNDS: u64 = 4;
    let disk = disk();
    let db = open(&disk);
    let other = db.create_keyspace("other", keyspace_options()).unwrap();
    let keys: [&[u8]; 2] = [b"left", b"right"];
    let ledgers = [Ledger::default(), Ledger::default()];
    let mut threads = Vec::new();
    for (key, ledger) in keys.into_iter().zip(ledgers.clone()) {
        let (db, other) = (db.clone(), other.clone());
        threads.push(spawn(move || {
            for round in 1..=ROUNDS {
                let mut batch = WriteBatch::new();
                batch.delete(&other, key).unwrap();
                batch.put(db.default_keyspace(), key, &value(round, 3500)).unwrap();
                batch.put(&other, key, &value(round, 3500)).unwrap();
                let durability = [Durability::Sync, Durability::Buffered, Durability::None];
                let durability = with(durability[round as usize % 3]);
                ledger.write(round, || db.write(&batch, &durability)).unwrap();
            }
        }));
    }
    {
        let (db, other, ledgers) = (db.clone(), other.clone(), ledgers.clone());
        threads.push(spawn(move || {
            for _ in 0..2 {
                let floors = [ledgers[0].acknowledged(), ledgers[1].acknowledged()];
                let found = db.default_keyspace().multi_get(&keys, &ReadOptions::default());
                for ((ledger, floor), found) in ledgers.iter().zip(floors).zip(found) {
                    ledger.check(floor, found.unwrap().map_or(0, |value| round_of(&value)));
                }
                let options = ReadOptions { snapshot: Some(db.snapshot()), ..Default::default() };
                let all = |keyspace: &Keyspace, backward: bool| {
                    let range = keyspace.range(.., &options).unwrap();
                    let mut entries: Vec<_> =
                        if backward { range.rev().collect() } else { range.collect() };
                    if backward {
                        entries.reverse();
                    }
                    let round = |entry: Result<(Vec<u8>, PinnedSlice)>| {
                        entry.map(|(key, value)| (key, round_of(&value)))
                    };
                    entries.into_iter().map(|entry| round(entry).unwrap()).collect::<Vec<_>>()
                };
                let seen = all(db.default_keyspace(), false);
                assert_eq!(seen, all(&other, true), "half of a batch");
                assert_eq!(seen, all(&other, false), "a snapshot that changes");
                for ((key, ledger), floor) in keys.iter().zip(&ledgers).zip(floors) {
                    let round =
                        seen.iter().find(|(other, _)| other == key).map_or(0, |(_, round)| *round);
                    ledger.check(floor, round);
                }
            }
        }));
    }
    {
        let db = db.clone();
        threads.push(spawn(move || db.compact().unwrap()));
    }
    db.wait_for_compactions().unwrap();
    join(threads);
    db.verify().unwrap();
    drop(other);
    db.close().unwrap();
    let db = open_quietly(&disk);
    let other = db.keyspace("other").unwrap();
    for key in keys {
        assert_eq!(round(db.default_keyspace(), key).unwrap(), ROUNDS);
        assert_eq!(round(&other, key).unwrap(), ROUNDS);
    }
}

/// Counts calls that change what is on the disk after the database was closed.
#[derive(Clone, Default)]
struct Watch {
    closed: Arc<AtomicBool>,
    late: Arc<AtomicU64>,
}

impl Watch {
    /// To be made before all faults: it sees the calls that nothing before it has picked.
    fn over(disk: &SimDisk) -> Watch {
        let watch = Watch::default();
        let Watch { closed, late } = watch.clone();
        let note = move |call: Call, _: &Path| {
            let changes = !matches!(call, Call::List | Call::Read | Call::Size | Call::FreeBytes);
            late.fetch_add(u64::from(changes && closed.load(Ordering::Relaxed)), Ordering::Relaxed);
            false
        };
        disk.fail_matching(note, EIO, false);
        watch
    }

    /// Somebody was told that it is closed.
    fn closed(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn check(&self) {
        assert_eq!(self.late.load(Ordering::Relaxed), 0, "calls after close");
    }
}

fn after_close_nothing_is_written_and_everything_acknowledged_is_there() {
    let disk = disk();
    let db = open(&disk);
    put(db.default_keyspace(), b"old", 1, 16, Durability::Buffered).unwrap();
    let watch = Watch::over(&disk);
    let ledgers = [Ledger::default(), Ledger::default()];
    let mut threads = Vec::new();
    for (index, ledger) in ledgers.iter().cloned().enumerate() {
        let db = db.clone();
        threads.push(spawn(move || {
            let durability = if index == 0 { Durability::Sync } else { Durability::Buffered };
            for round in 1..=3 {
                let write = || put(db.default_keyspace(), &[index as u8], round, 16, durability);
                match ledger.write(round, write) {
                    Ok(()) => {}
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    {
        // Two close at once, and one of them has work in the air.
        let db = db.clone();
        let watch = watch.clone();
        threads.push(spawn(move || {
            match db.flush().and_then(|()| db.compact()) {
                Ok(()) | Err(Error::Closed) => {}
                Err(error) => panic!("{error}"),
            }
            db.close().unwrap();
            watch.closed();
        }));
    }
    let keyspace = db.default_keyspace().clone();
    db.close().unwrap();
    watch.closed();
    assert!(matches!(put(&keyspace, b"late", 1, 16, Durability::Sync), Err(Error::Closed)));
    assert!(matches!(keyspace.get(b"old"), Err(Error::Closed)));
    join(threads);
    watch.check();
    drop(keyspace);
    let db = open_quietly(&disk);
    assert_eq!(round(db.default_keyspace(), b"old").unwrap(), 1);
    for (index, ledger) in ledgers.iter().enumerate() {
        ledger.check(ledger.acknowledged(), round(db.default_keyspace(), &[index as u8]).unwrap());
    }
    assert!(db.default_keyspace().get(b"late").unwrap().is_none());
}

fn a_poisoned_database_writes_nothing_after_close() {
    let disk = disk();
    let db = open(&disk);
    let watch = Watch::over(&disk);
    let syncs = |call: Call, path: &Path| {
        matches!(call, Call::Sync | Call::WriteDurable)
            && path.extension().is_some_and(|kind| kind == "wal")
    };
    disk.fail_matching(syncs, EIO, false);
    let ledger = Ledger::default();
    let mut threads = Vec::new();
    {
        let (db, ledger) = (db.clone(), ledger.clone());
        threads.push(spawn(move || {
            // Made durable by a table, if a new keyspace has frozen its memtable and the flush was first.
            let write = || put(db.default_keyspace(), b"key", 1, 16, Durability::Sync);
            let _poisoned = ledger.write(1, write);
        }));
    }
    {
        let db = db.clone();
        threads.push(spawn(move || drop(db.create_keyspace("new", keyspace_options()))));
    }
    let _poisoned = db.close();
    watch.closed();
    join(threads);
    watch.check();
    let db = open_quietly(&disk.after_power_cut(11, LossModel::DropAll));
    ledger.check(ledger.acknowledged(), round(db.default_keyspace(), b"key").unwrap());
}

fn a_full_disk_is_not_touched_after_close() {
    let disk = disk();
    let db = open(&disk);
    let watch = Watch::over(&disk);
    disk.set_free_bytes(Some(0));
    let ledger = Ledger::default();
    let mut threads = Vec::new();
    {
        let (db, ledger) = (db.clone(), ledger.clone());
        threads.push(spawn(move || {
            for round in 1..=3 {
                let write = || put(db.default_keyspace(), b"key", round, 6000, Durability::Sync);
                match ledger.write(round, write) {
                    Ok(()) | Err(Error::NoSpace { .. }) => {}
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    {
        let db = db.clone();
        threads.push(spawn(move || drop(db.flush().and_then(|()| db.compact()))));
    }
    let _full = db.close();
    watch.closed();
    join(threads);
    watch.check();
    disk.set_free_bytes(None);
    let db = open_quietly(&disk);
    ledger.check(ledger.acknowledged(), round(db.default_keyspace(), b"key").unwrap());
}

fn who_was_told_that_it_is_closed_may_open_it() {
    let disk = disk();
    let db = open(&disk);
    put(db.default_keyspace(), b"old", 1, 9000, Durability::Buffered).unwrap();
    let ledger = Ledger::default();
    let mut threads = Vec::new();
    {
        let (db, ledger) = (db.clone(), ledger.clone());
        threads.push(spawn(move || {
            for round in 1..=2 {
                let write = || put(db.default_keyspace(), b"key", round, 6000, Durability::Sync);
                match ledger.write(round, write) {
                    Ok(()) => {}
                    Err(Error::Closed) => return,
                    Err(error) => panic!("{error}"),
                }
            }
        }));
    }
    {
        let db = db.clone();
        threads.push(spawn(move || {
            let _may_come_too_late = db.flush();
            db.close().unwrap();
        }));
    }
    db.close().unwrap();
    let next = open(&disk);
    let found = round(next.default_keyspace(), b"key").unwrap();
    put(next.default_keyspace(), b"new", 1, 16, Durability::Sync).unwrap();
    next.flush().unwrap();
    join(threads);
    // A write that met the close may be in or not, but it does not come in later.
    assert_eq!(round(next.default_keyspace(), b"key").unwrap(), found);
    ledger.check(ledger.acknowledged(), found);
    next.close().unwrap();
    let db = open_quietly(&disk);
    assert_eq!(round(db.default_keyspace(), b"key").unwrap(), found);
    assert_eq!(round(db.default_keyspace(), b"old").unwrap(), 1);
    assert_eq!(round(db.default_keyspace(), b"new").unwrap(), 1);
    db.verify().unwrap();
}

fn the_last_handle_closes_whoever_holds_it() {
    let disk = disk();
    let db = open(&disk);
    let mut threads = Vec::new();
    for index in 0..3u8 {
        let keyspace = db.default_keyspace().clone();
        threads.push(spawn(move || {
            put(&keyspace, &[index], 1, 5000, Durability::Buffered).unwrap();
            if index == 0 {
                keyspace.flush().unwrap();
            }
        }));
    }
    drop(db);
    join(threads);
    let db = open_quietly(&disk);
    for index in 0..3 {
        assert_eq!(round(db.default_keyspace(), &[index]).unwrap(), 1);
    }
}

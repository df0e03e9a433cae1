//! The change feed: what it yields is every commit, once, in order, or an error that says what is missing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, also on real files")]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Change, ChangeFeed, ChangeSet, Db, Durability, Error, IngestOptions, KeyspaceOptions, Options,
    ReadOptions, WriteBatch, WriteOptions,
};

fn kept(bytes: u64) -> Options {
    let mut options = tiny_options();
    options.change_log_bytes = bytes;
    options
}

const ALL: u64 = 1 << 30;

type Map = BTreeMap<(u32, Vec<u8>), Vec<u8>>;

fn contents(db: &Db, at: &ReadOptions) -> Map {
    let mut map = Map::new();
    for name in db.keyspace_names() {
        let keyspace = db.keyspace(&name).unwrap();
        for entry in keyspace.range(.., at).unwrap() {
            let (key, value) = entry.unwrap();
            map.insert((keyspace.id().0, key), value.to_vec());
        }
    }
    map
}

/// Does to the map what the commit did; what was ingested is read from the database.
fn apply(map: &mut Map, set: &ChangeSet, db: &Db) {
    for change in set.changes() {
        match change.unwrap() {
            Change::Put { keyspace, key, value } => {
                map.insert((keyspace.0, key.to_vec()), value.to_vec());
            }
            Change::Merge { keyspace, key, operand } => {
                map.entry((keyspace.0, key.to_vec())).or_default().extend_from_slice(operand);
            }
            Change::Delete { keyspace, key } => {
                map.remove(&(keyspace.0, key.to_vec()));
            }
            Change::DeleteRange { keyspace, start, end } => map.retain(|(of, key), _| {
                *of != keyspace.0 || &key[..] < start || end.is_some_and(|end| &key[..] >= end)
            }),
            Change::Ingest { keyspace, smallest, largest } => {
                let of = db.keyspace_names()[keyspace.0 as usize].clone();
                let of = db.keyspace(&of).unwrap();
                map.retain(|(id, key), _| {
                    *id != keyspace.0 || &key[..] < smallest || &key[..] > largest
                });
                let range =
                    (std::ops::Bound::Included(smallest), std::ops::Bound::Included(largest));
                for entry in of.range(range, &ReadOptions::default()).unwrap() {
                    let (key, value) = entry.unwrap();
                    map.insert((keyspace.0, key), value.to_vec());
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Everything that the feed has.
fn drain(feed: &mut ChangeFeed, map: &mut Map, db: &Db) -> u64 {
    let mut count = 0;
    while let Some(set) = feed.next().unwrap() {
        assert_eq!(feed.position(), set.last() + 1);
        apply(map, &set, db);
        count += 1;
    }
    count
}

fn commit(db: &Db, chance: &mut Chance, number: u64) {
    let keyspaces = [db.default_keyspace().clone(), db.keyspace("other").unwrap()];
    let mut batch = WriteBatch::new();
    for _ in 0..1 + chance.below(4) {
        let keyspace = &keyspaces[chance.below(2) as usize];
        let key = format!("key{:03}", chance.below(300)).into_bytes();
        match chance.below(20) {
            0 => {
                let end = [&key[..], b"~"].concat();
                batch.delete_range(keyspace, &key[..5]..&end[..]).unwrap();
            }
            1..5 => batch.delete(keyspace, &key).unwrap(),
            5..9 if keyspace.id().0 == 1 => batch.merge(keyspace, &key, b"+").unwrap(),
            // Now and then far larger than a memtable.
            9 if chance.one_in(30) => batch.put(keyspace, &key, &[9; 50_000]).unwrap(),
            _ => batch.put(keyspace, &key, &number.to_le_bytes().repeat(10)).unwrap(),
        }
    }
    let class = [Durability::Buffered, Durability::Sync][chance.below(2) as usize];
    db.write(&batch, &WriteOptions { durability: Some(class) }).unwrap();
}

fn started(seed: u64, options: &Options) -> (SimDisk, Db) {
    let disk = SimDisk::new(seed);
    let db = open(&disk, options).unwrap();
    let mut merging = other_options();
    merging.merge_operator = Some("append".to_owned());
    db.create_keyspace("other", merging).unwrap();
    (disk, db)
}

#[test]
fn a_follower_has_what_the_database_has() {
    for seed in 0..16 {
        let (disk, mut db) = started(seed, &kept(ALL));
        let mut chance = Chance(seed);
        let mut map = Map::new();
        let (mut followed, mut seen) = (0, 0);
        for round in 0..6 {
            let mut feed = db.changes(followed).unwrap();
            for number in 0..chance.below(400) {
                commit(&db, &mut chance, number);
                match chance.below(40) {
                    0 => db.flush().unwrap(),
                    1..8 => drop(db.step().unwrap()),
                    8 => {
                        seen += drain(&mut feed, &mut map, &db);
                        assert_eq!(map, contents(&db, &ReadOptions::default()), "seed {seed}");
                    }
                    9 => {
                        let from = format!("/files-{round}-{number}");
                        let key = format!("key{:02}", chance.below(30)).into_bytes();
                        let options = ReadOptions::default();
                        let files = db.default_keyspace().export(&key[..].., from, &options);
                        // As it was at the export: what comes between is overwritten.
                        commit(&db, &mut chance, number);
                        seen += drain(&mut feed, &mut map, &db);
                        let paths: Vec<_> = files.unwrap().into_iter().map(|f| f.path).collect();
                        db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
                        seen += drain(&mut feed, &mut map, &db);
                    }
                    _ => {}
                }
            }
            // A second one from the beginning sees the same.
            followed = feed.position() - 1;
            drop(feed);
            db.put(b"round", &[round]).unwrap();
            match chance.below(3) {
                0 => db.clone().close().unwrap(),
                1 => {}
                _ => db.compact().unwrap(),
            }
            drop(db);
            db = open(&disk, &kept(ALL)).unwrap();
        }
        seen += drain(&mut db.changes(followed).unwrap(), &mut map, &db);
        assert_eq!(map, contents(&db, &ReadOptions::default()), "seed {seed}");
        let mut feed = db.changes(0).unwrap();
        let mut count = 0;
        while let Some(set) = feed.next().unwrap() {
            assert!(set.changes().all(|change| change.is_ok()));
            count += 1;
        }
        assert_eq!(count, seen, "seed {seed}");
    }
}

#[test]
fn a_power_cut_takes_from_the_feed_what_it_takes_from_the_database() {
    // Guards: promise 3 of db/change_log.rs: no commit that was lost is told, none that was kept is missing.
    for seed in 0..30 {
        let (disk, db) = started(seed, &kept(ALL));
        let mut chance = Chance(seed);
        for number in 0..300 {
            commit(&db, &mut chance, number);
            if chance.one_in(10) {
                db.step().unwrap();
            }
        }
        let calls = disk.io_count();
        disk.cut_power_at(calls + chance.below(60));
        for number in 0..200u8 {
            if disk.power_is_cut() {
                break;
            }
            let durability = Some(Durability::Buffered);
            let key = format!("key{:03}", chance.below(300));
            let options = WriteOptions { durability };
            if db.default_keyspace().put_with(key.as_bytes(), &[number; 300], &options).is_err() {
                break;
            }
            let _may_fail = db.step();
        }
        drop(db);
        for model in [LossModel::Random, LossModel::DropAll, LossModel::KeepPrefix] {
            let image = disk.after_power_cut(seed, model);
            for _ in 0..2 {
                let db = open(&image, &kept(ALL)).unwrap();
                let mut map = Map::new();
                drain(&mut db.changes(0).unwrap(), &mut map, &db);
                assert_eq!(map, contents(&db, &ReadOptions::default()), "seed {seed} {model:?}");
                // And goes on from there.
                for number in 0..60 {
                    commit(&db, &mut chance, number);
                }
                db.flush().unwrap();
            }
        }
    }
}

#[test]
fn what_is_not_kept_is_told_and_never_passed_over() {
    let (disk, db) = started(1, &kept(40 << 10));
    let mut chance = Chance(1);
    let mut slow = db.changes(0).unwrap();
    let first = slow.next().unwrap();
    assert!(first.is_none());
    for number in 0..3000 {
        commit(&db, &mut chance, number);
    }
    db.flush().unwrap();
    while db.step().unwrap() {}
    let gone = slow.next().unwrap_err();
    let Error::ChangesGone { wanted: 1, oldest } = gone else { panic!("{gone}") };
    assert!(gone.to_string().contains(&format!("those from {oldest} on are")), "{gone}");
    assert!(
        matches!(db.changes(oldest - 2), Err(Error::ChangesGone { oldest: o, .. }) if o == oldest)
    );
    let (mut feed, mut map) = (db.changes(oldest - 1).unwrap(), Map::new());
    assert!(drain(&mut feed, &mut map, &db) > 10);
    let stats = db.stats();
    assert!(stats.change_log_bytes > 0 && stats.change_log_bytes <= 40 << 10);
    let files = |disk: &SimDisk| {
        let names = disk.list(Path::new("/db")).unwrap();
        names.into_iter().filter(|name| name.ends_with(".chg")).count()
    };
    assert!(files(&disk) > 0);

    // One that lies ahead has followed another database.
    let last = db.snapshot().sequence();
    assert!(db.changes(last).unwrap().next().unwrap().is_none());
    assert!(matches!(db.changes(last + 1), Err(Error::ChangesGone { .. })));
    drop((feed, slow));
    drop(db);

    // A run that keeps nothing leaves no hole behind it.
    let db = open(&disk, &tiny_options()).unwrap();
    assert_eq!(files(&disk), 0);
    assert!(matches!(
        db.changes(last),
        Err(Error::InvalidOption { option: "change_log_bytes", .. })
    ));
    db.put(b"unheard", b"1").unwrap();
    drop(db);
    let db = open(&disk, &kept(ALL)).unwrap();
    let after = db.snapshot().sequence();
    let gone = db.changes(last - 1).unwrap_err();
    assert!(matches!(gone, Error::ChangesGone { .. }), "{gone}");
    db.put(b"heard", b"1").unwrap();
    assert_eq!(db.changes(after).unwrap().next().unwrap().unwrap().first(), after + 1);
}

#[test]
fn what_a_crash_took_back_is_told_to_whoever_has_seen_it() {
    let (disk, db) = started(1, &kept(ALL));
    let none = WriteOptions { durability: Some(Durability::None) };
    db.put(b"a", b"1").unwrap();
    let before = db.snapshot().sequence();
    db.default_keyspace().put_with(b"b", b"1", &none).unwrap();
    db.put(b"c", b"1").unwrap();
    let mut feed = db.changes(before).unwrap();
    assert_eq!(feed.next().unwrap().unwrap().first(), before + 1, "while it is there it is told");
    drop(feed);
    let killed = disk.after_kill();
    let db = open(&killed, &kept(ALL)).unwrap();
    // Whoever has not seen it goes on behind it; whoever has is told.
    let set = db.changes(before).unwrap().next().unwrap().unwrap();
    assert_eq!(set.first(), before + 2);
    let gone = db.changes(before + 1).unwrap_err();
    assert!(matches!(gone, Error::ChangesGone { .. }), "{gone}");
    let last = db.snapshot().sequence();
    let none = WriteOptions { durability: Some(Durability::None) };
    for _ in 0..5 {
        db.default_keyspace().put_with(b"b", b"1", &none).unwrap();
    }
    db.put(b"d", b"1").unwrap();
    drop(db);
    let db = open(&killed.after_kill(), &kept(ALL)).unwrap();
    let set = db.changes(last).unwrap().next().unwrap().unwrap();
    assert_eq!(set.first(), last + 6);
    let gone = db.changes(last + 3).unwrap_err();
    let Error::ChangesGone { wanted, oldest } = gone else { panic!("{gone}") };
    assert_eq!((wanted, oldest), (last + 4, last + 6));
}

#[test]
fn damage_in_a_change_file_is_told_to_its_reader_and_to_nobody_else() {
    let (disk, db) = started(1, &kept(ALL));
    let mut chance = Chance(1);
    for number in 0..200 {
        commit(&db, &mut chance, number);
    }
    db.flush().unwrap();
    let names = disk.list(Path::new("/db")).unwrap();
    let name = names.iter().find(|name| name.ends_with(".chg")).unwrap();
    let path = Path::new("/db").join(name);
    disk.flip_bit(&path, 8 * 100).unwrap();
    let mut feed = db.changes(0).and_then(|mut feed| {
        while feed.next()?.is_some() {}
        Ok(feed)
    });
    let Err(Error::Corruption { path: told, .. }) = &mut feed else { panic!("{feed:?}") };
    assert_eq!(*told, path);
    drop(db);
    let size = disk.open(&path, treering_lsm::io::OpenMode::READ).unwrap().size().unwrap();
    disk.flip_bit(&path, size * 8 - 40).unwrap();
    let db = open(&disk, &kept(ALL)).unwrap();
    assert!(matches!(db.changes(0), Err(Error::ChangesGone { .. })), "it does not count");
    db.verify().unwrap();
}

#[test]
fn one_who_waits_is_told_and_a_racing_feed_misses_nothing() {
    let home = tempfile::tempdir().unwrap();
    let mut options = kept(ALL);
    options.memory_limit = 8 << 20;
    let db = Db::open(home.path().join("db"), options).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let db = &db;
            scope.spawn(move || {
                for number in 0..4000u64 {
                    let key = [writer.to_be_bytes(), (number % 500).to_be_bytes()].concat();
                    db.put(&key, &number.to_le_bytes().repeat(12)).unwrap();
                }
            });
        }
        let follower = scope.spawn(|| {
            let (mut feed, mut map) = (db.changes(0).unwrap(), Map::new());
            while feed.position() <= 8000 {
                if let Some(set) = feed.wait(Duration::from_millis(100)).unwrap() {
                    assert_eq!(set.last(), feed.position() - 1);
                    apply(&mut map, &set, &db);
                }
            }
            done.store(true, Ordering::Relaxed);
            map
        });
        let map = follower.join().unwrap();
        assert_eq!(map, contents(&db, &ReadOptions::default()));
    });
    assert!(done.load(Ordering::Relaxed));
    let mut feed = db.changes(8000).unwrap();
    assert!(feed.wait(Duration::from_millis(1)).unwrap().is_none());
    std::thread::scope(|scope| {
        scope.spawn(|| db.put(b"late", b"1").unwrap());
        while feed.wait(Duration::from_secs(10)).unwrap().is_none() {}
    });
    db.create_keyspace("more", KeyspaceOptions::default()).unwrap();
    db.drop_keyspace("more").unwrap();
    assert!(feed.next().unwrap().is_none());
    db.close().unwrap();
    assert!(matches!(feed.next(), Err(Error::Closed)));
}

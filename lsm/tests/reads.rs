//! Point reads: the requests that they make, and where they find a key.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{open, tiny_options};
use std::path::Path;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Db, Error, FilterPolicy, Place, ReadOptions};

fn key(number: u32) -> Vec<u8> {
    format!("key{number:04}").into_bytes()
}

/// A database with 2,000 keys in tables and nothing cached.
fn filled(disk: &SimDisk) -> Db {
    let db = open(disk, &tiny_options()).unwrap();
    (0..2000).for_each(|number| db.put(&key(number), &[7; 100]).unwrap());
    db.compact().unwrap();
    db
}

/// Promise 6 of the simulated disk holds above it too: a read of many blocks must not take its order from a random hash.
#[test]
fn a_multi_get_never_asks_for_its_blocks_in_another_order() {
    let trace = || {
        let disk = SimDisk::new(1);
        let db = filled(&disk);
        let keys: Vec<Vec<u8>> = (0..40).map(|number| key(number * 50)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        assert!(db.default_keyspace().multi_get(&keys, &options).iter().all(|found| found.is_ok()));
        (disk.trace(), disk.io_count())
    };
    let first = trace();
    assert!((0..4).all(|_| trace() == first));
}

/// Without filters every key goes through three tables of L0, of which two do not have it, to the level below.
#[test]
fn a_multi_get_goes_on_to_older_tables_and_reads_what_single_gets_read() {
    let layered = |disk: &SimDisk| {
        let mut options = tiny_options();
        options.default_keyspace.filter = FilterPolicy::None;
        let db = open(disk, &options).unwrap();
        (0..2000).for_each(|number| db.put(&key(number), &[9; 100]).unwrap());
        db.compact().unwrap();
        for round in 0..3 {
            (round..2000)
                .step_by(7)
                .for_each(|number| db.put(&key(number), &[round as u8]).unwrap());
            (round..2000).step_by(90).for_each(|number| db.delete(&key(number)).unwrap());
            db.flush().unwrap();
        }
        db
    };
    // More than are taken together, more than are in flight together, some twice, some never written.
    let keys: Vec<Vec<u8>> = (0..300).map(|number| key(number * 37 % 2100)).collect();
    let keys: Vec<&[u8]> = keys.iter().chain(&keys[..50]).map(Vec::as_slice).collect();
    let (one_disk, many_disk) = (SimDisk::new(3), SimDisk::new(3));
    let (one, many) = (layered(&one_disk), layered(&many_disk));
    let (one_began, many_began) = (one_disk.io_count(), many_disk.io_count());
    let expected: Vec<_> = keys.iter().map(|key| one.get(key).unwrap()).collect();
    let ask = |options: &ReadOptions| -> Vec<_> {
        let found = many.default_keyspace().multi_get(&keys, options);
        found.into_iter().map(Result::unwrap).collect()
    };
    assert_eq!(ask(&ReadOptions::default()), expected);
    let asked = many_disk.io_count() - many_began;
    assert_eq!(asked, one_disk.io_count() - one_began);
    assert!(asked > 100, "{asked} reads");
    assert_eq!(ask(&ReadOptions::default()), expected);
    assert_eq!(many_disk.io_count() - many_began, asked, "all was cached");
    let nothing_kept = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    assert_eq!(ask(&nothing_kept), expected);
}

#[test]
fn a_key_is_located_where_a_get_finds_it_and_nowhere_once_it_is_gone() {
    let db = filled(&SimDisk::new(2));
    let keyspace = db.default_keyspace();
    let now = ReadOptions::default();
    let old = ReadOptions { snapshot: Some(db.snapshot()), ..ReadOptions::default() };
    assert_eq!(keyspace.locate(&key(5), &now).unwrap(), Some(Place::Level(6)));
    assert_eq!(keyspace.locate(b"never written", &now).unwrap(), None);
    keyspace.delete(&key(5)).unwrap();
    assert_eq!(keyspace.locate(&key(5), &now).unwrap(), Some(Place::Memtable));
    assert_eq!(keyspace.locate(&key(5), &old).unwrap(), Some(Place::Level(6)));
    db.flush().unwrap();
    assert_eq!(keyspace.locate(&key(5), &now).unwrap(), Some(Place::Level(0)));
    drop(old);
    db.compact().unwrap();
    assert_eq!(keyspace.locate(&key(5), &now).unwrap(), None);
}

#[test]
fn an_estimate_is_right_to_about_a_block_of_each_table() {
    let disk = SimDisk::new(1);
    let db = filled(&disk);
    let keyspace = db.default_keyspace();
    let whole = keyspace.estimate(..).unwrap();
    assert_eq!(whole.entries, 2000);
    let on_disk: u64 = db.stats().keyspaces[0].levels.iter().map(|level| level.bytes).sum();
    assert_eq!(whole.file_bytes, on_disk);
    let (first, middle, last) = (key(0), key(800), key(2000));
    let left = keyspace.estimate(&first[..]..&middle[..]).unwrap();
    let right = keyspace.estimate(&middle[..]..&last[..]).unwrap();
    assert!((780..=820).contains(&left.entries), "{left:?}");
    assert!(whole.entries - left.entries - right.entries <= 2, "{left:?} {right:?}");
    let nothing = [keyspace.estimate(&last[..]..), keyspace.estimate(&middle[..]..&first[..])];
    assert!(nothing.iter().all(|found| found.as_ref().is_ok_and(|found| found.file_bytes == 0)));
    // Answered by what the manifest and the indexes say, whatever is in memory.
    db.put(b"unflushed", b"1").unwrap();
    assert_eq!(keyspace.estimate(..).unwrap(), whole);
}

#[test]
fn a_refreshed_cursor_sees_now_stays_on_its_key_and_lets_go_of_dead_tables() {
    let disk = SimDisk::new(1);
    let db = filled(&disk);
    let keyspace = db.default_keyspace();
    let tables =
        || disk.list(Path::new("/db")).unwrap().iter().filter(|n| n.ends_with("sst")).count();
    let at = |snapshot| {
        let options = ReadOptions { snapshot, upper_bound: Some(key(1999)), ..Default::default() };
        keyspace.cursor(&options).unwrap()
    };
    let (mut now, mut then) = (at(None), at(Some(db.snapshot())));
    assert!(now.seek(&key(700)).unwrap() && then.seek(&key(700)).unwrap());
    let before = tables();
    (0..2000).for_each(|number| db.put(&key(number), b"new").unwrap());
    db.delete(&key(700)).unwrap();
    db.compact().unwrap();
    assert!(tables() > before, "the cursors keep the old tables: {} after {before}", tables());
    assert_eq!((now.key(), now.value()), (&key(700)[..], &[7; 100][..]));
    assert!(now.refresh().unwrap() && then.refresh().unwrap());
    assert_eq!((now.key(), now.value()), (&key(701)[..], &b"new"[..]));
    assert_eq!((then.key(), then.value()), (&key(700)[..], &[7; 100][..]));
    assert!(now.prev().unwrap() && then.prev().unwrap());
    assert_eq!((now.key(), then.key()), (&key(699)[..], &key(699)[..]));
    // The bounds stay; a cursor that stands nowhere stays nowhere.
    assert!(now.seek_to_last().unwrap());
    assert_eq!(now.key(), key(1998));
    assert!(!now.next().unwrap() && !now.refresh().unwrap());
    drop(then);
    (0..2000).for_each(|number| db.put(&key(number), b"newer").unwrap());
    db.compact().unwrap();
    now.refresh().unwrap();
    while db.step().unwrap() {}
    assert!(tables() <= before, "{} tables are left of {before}", tables());
    db.close().unwrap();
    assert!(matches!(now.refresh(), Err(Error::Closed)));
}

//! Point reads: the requests that they make, and where they find a key.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{open, tiny_options};
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Db, Place, ReadOptions};

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

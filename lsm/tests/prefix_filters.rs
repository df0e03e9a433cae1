//! Filters over prefixes: scans of a prefix pass over tables without it, and never over one that has it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, tiny_options};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Counter, Db, Error, FilterPolicy, IngestOptions, Keyspace, KeyspaceOptions, Options,
    ReadOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn with_prefix(bytes: Option<u16>) -> KeyspaceOptions {
    let mut options = tiny_options().default_keyspace;
    options.prefix_bytes = bytes;
    options.merge_operator = Some(Counter::NAME.to_owned());
    options
}

fn options(bytes: u16) -> Options {
    let mut options = tiny_options();
    options.default_keyspace = with_prefix(Some(bytes));
    options
}

/// One to six bytes, many of which share their first ones.
fn key(chance: &mut Chance) -> Vec<u8> {
    let bytes = [0, b'a', b'b', 0xfe, 0xff];
    (0..=chance.below(6)).map(|_| bytes[chance.below(5) as usize]).collect()
}

fn check(keyspace: &Keyspace, map: &Map, chance: &mut Chance, place: &str) {
    let (lower, upper) = (key(chance), key(chance));
    let mut read = ReadOptions::default();
    let (from, to) = match chance.below(3) {
        0 if lower < upper => (Bound::Included(&lower[..]), Bound::Excluded(&upper[..])),
        1 => (Bound::Included(&lower[..]), Bound::Unbounded),
        _ => {
            let range = keyspace.prefix(&lower, &read).unwrap();
            let expected: Vec<_> = map.iter().filter(|(k, _)| k.starts_with(&lower)).collect();
            let is_back = chance.one_in(2);
            let mut found: Vec<_> = match is_back {
                true => range.rev().map(|entry| entry.unwrap()).collect(),
                false => range.map(|entry| entry.unwrap()).collect(),
            };
            if is_back {
                found.reverse();
            }
            let found = found.iter().map(|(k, v)| (k, v.to_vec())).collect::<Vec<_>>();
            let expected = expected.into_iter().map(|(k, v)| (k, v.clone())).collect::<Vec<_>>();
            assert_eq!(found, expected, "{place}: prefix {lower:?}");
            return;
        }
    };
    read.lower_bound = Some(lower.clone());
    if let Bound::Excluded(upper) = to {
        read.upper_bound = Some(upper.to_vec());
    }
    let expected: Vec<Vec<u8>> =
        map.range::<[u8], _>((from, to)).map(|(key, _)| key.clone()).collect();
    // There and back: a table that was passed over stays passed over.
    let mut cursor = keyspace.cursor(&read).unwrap();
    let (mut there, mut back) = (Vec::new(), Vec::new());
    let mut found = cursor.seek_to_first().unwrap();
    while found {
        there.push(cursor.key().to_vec());
        found = cursor.next().unwrap();
    }
    let mut found = cursor.seek_to_last().unwrap();
    while found {
        back.push(cursor.key().to_vec());
        found = cursor.prev().unwrap();
    }
    back.reverse();
    assert_eq!(there, expected, "{place}: {read:?}");
    assert_eq!(back, expected, "{place}: {read:?}");
    if !expected.is_empty() {
        let at = chance.below(expected.len() as u64) as usize;
        assert!(cursor.seek(&expected[at]).unwrap());
        assert_eq!(cursor.prev().unwrap(), at > 0);
        assert!(at == 0 || cursor.next().unwrap() && cursor.key() == &expected[at][..]);
    }
}

/// A file of a keyspace whose filters hold other prefixes.
fn foreign(db: &Db, other: &Keyspace, map: &Map, number: u64) -> Vec<PathBuf> {
    for (key, value) in map {
        other.put(key, value).unwrap();
    }
    let directory = format!("/files{number}");
    let files = other.export(.., &directory, &ReadOptions::default()).unwrap();
    other.delete_range(..).unwrap();
    db.flush().unwrap();
    files.into_iter().map(|file| file.path).collect()
}

#[test]
fn scans_with_prefix_filters_agree_with_a_map() {
    // Guards: no key is missing from a scan, whatever its length, the prefix of its table and the bounds are.
    for seed in 0..16 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let options = options(1 + chance.below(4) as u16);
        let mut db = open(&disk, &options).unwrap();
        let other = with_prefix([None, Some(1), Some(3), Some(5)][chance.below(4) as usize]);
        db.create_keyspace("other", other).unwrap();
        let mut map = Map::new();
        for step in 0..1500u64 {
            let keyspace = db.default_keyspace().clone();
            let key = key(&mut chance);
            match chance.below(60) {
                0 => db.flush().unwrap(),
                1 => while db.step().unwrap() {},
                2 if chance.one_in(4) => db.compact().unwrap(),
                3 => {
                    let end = self::key(&mut chance);
                    if key < end {
                        keyspace.delete_range(&key[..]..&end[..]).unwrap();
                        map.retain(|k, _| *k < key || *k >= end);
                    }
                }
                4 if chance.one_in(4) => {
                    let more: Map =
                        (0..20).map(|_| (self::key(&mut chance), vec![7; 30])).collect();
                    let paths = foreign(&db, &db.keyspace("other").unwrap(), &more, step);
                    keyspace.ingest(&paths, &IngestOptions::default()).unwrap();
                    map.extend(more);
                }
                5 if chance.one_in(4) => {
                    db.close().unwrap();
                    db = open(&disk, &options).unwrap();
                }
                6..10 => {
                    keyspace.delete(&key).unwrap();
                    map.remove(&key);
                }
                10..14 => {
                    keyspace.delete(&key).unwrap();
                    keyspace.merge(&key, &Counter::add(3)).unwrap();
                    map.insert(key, Counter::add(3).to_vec());
                }
                _ => {
                    let value = vec![chance.next() as u8; 40];
                    keyspace.put(&key, &value).unwrap();
                    map.insert(key, value);
                }
            }
            check(db.default_keyspace(), &map, &mut chance, &format!("seed {seed} step {step}"));
        }
        db.verify().unwrap();
    }
}

#[test]
fn a_scan_of_a_prefix_that_is_nowhere_reads_no_block() {
    // Guards: what the filters are for.
    let disk = SimDisk::new(1);
    let read = |bytes: Option<u16>| {
        let mut options = tiny_options();
        options.default_keyspace = with_prefix(bytes);
        // A probe that the filter errs on would read.
        options.default_keyspace.filter = FilterPolicy::Blocked { bits: 40 };
        let directory = format!("/db{bytes:?}");
        let environment = treering_lsm::Environment::manual(std::sync::Arc::new(disk.clone()));
        let db = Db::open_in(environment, &directory, options).unwrap();
        for user in (0..400u32).step_by(2) {
            for item in 0..20u32 {
                let key = [user.to_be_bytes(), item.to_be_bytes()].concat();
                db.put(&key, &[1; 30]).unwrap();
            }
            while db.step().unwrap() {}
        }
        db.flush().unwrap();
        let cold = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        let scan = || {
            let absent = (1..400u32).step_by(2).map(|user| {
                db.default_keyspace().prefix(&user.to_be_bytes(), &cold).unwrap().count()
            });
            absent.sum::<usize>()
        };
        let (found, cost) = db.measure(scan);
        assert_eq!(found, 0);
        cost
    };
    let (without, with) = (read(None), read(Some(4)));
    assert_eq!(without.prefix_negatives, 0);
    assert!(with.prefix_negatives >= 200, "{with:?}");
    assert!(with.blocks_read * 20 < without.blocks_read.max(200), "{with:?} {without:?}");
}

#[test]
fn a_prefix_that_filters_cannot_hold_is_refused() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    for (bytes, filter) in [
        (0, FilterPolicy::Blocked { bits: 10 }),
        (257, FilterPolicy::Blocked { bits: 10 }),
        (4, FilterPolicy::None),
    ] {
        let mut options = with_prefix(Some(bytes));
        options.filter = filter;
        let refused = db.create_keyspace("bad", options);
        assert!(matches!(refused, Err(Error::InvalidOption { option: "prefix_bytes", .. })));
    }
}

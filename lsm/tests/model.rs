//! Random operations against a `BTreeMap`: whatever the engine does behind the scenes, it answers as a sorted map does.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Cursor, Db, Durability, Keyspace, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Operations of one run; four runs with different seeds make more than a million.
const OPERATIONS: u64 = 260_000;
const KEYS: u64 = 12_000;

struct World {
    chance: Chance,
    disk: SimDisk,
    db: Option<Db>,
    keyspaces: Vec<Keyspace>,
    maps: Vec<Map>,
    snapshots: Vec<(Snapshot, Rc<Vec<Map>>)>,
    deepest: usize,
    reopens: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            chance: Chance(seed),
            disk: SimDisk::new(seed),
            db: None,
            keyspaces: Vec::new(),
            maps: vec![Map::new(), Map::new()],
            snapshots: Vec::new(),
            deepest: 0,
            reopens: 0,
        };
        world.open();
        world
    }

    fn open(&mut self) {
        let db = open(&self.disk, &tiny_options()).unwrap();
        let other = match db.keyspace("other") {
            Ok(keyspace) => keyspace,
            Err(_) => db.create_keyspace("other", other_options()).unwrap(),
        };
        self.keyspaces = vec![db.default_keyspace().clone(), other];
        self.db = Some(db);
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Mostly uniform, some hot; numbers as text, so that keys share prefixes and differ in length.
    fn key(&mut self) -> Vec<u8> {
        let number =
            if self.chance.one_in(4) { self.chance.below(50) } else { self.chance.below(KEYS) };
        match number % 3 {
            0 => format!("user{number:08}").into_bytes(),
            1 => number.to_be_bytes().to_vec(),
            _ => format!("{number}").into_bytes(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.chance.below(1000) {
            0 => self.chance.below(40_000),
            1..=20 => 0,
            _ => self.chance.below(120),
        };
        let seed = self.chance.next();
        (0..length).map(|i| if i % 3 == 0 { (seed >> (i % 64)) as u8 } else { b'v' }).collect()
    }

    fn which(&mut self) -> usize {
        usize::from(self.chance.one_in(4))
    }

    fn durability(&mut self) -> WriteOptions {
        let durability = match self.chance.below(20) {
            0 => Some(Durability::Sync),
            1 => Some(Durability::Buffered),
            _ => None,
        };
        WriteOptions { durability }
    }

    fn step(&mut self) {
        match self.chance.below(1000) {
            0..=429 => {
                let (at, key, value, options) =
                    (self.which(), self.key(), self.value(), self.durability());
                self.keyspaces[at].put_with(&key, &value, &options).unwrap();
                self.maps[at].insert(key, value);
            }
            430..=549 => {
                let (at, key, options) = (self.which(), self.key(), self.durability());
                self.keyspaces[at].delete_with(&key, &options).unwrap();
                self.maps[at].remove(&key);
            }
            550..=599 => self.batch(),
            600..=849 => self.get(),
            850..=879 => self.multi_get(),
            880..=939 => self.walk(),
            940..=949 => self.range(),
            950..=951 => {
                let snapshot = self.db().snapshot();
                if self.snapshots.len() < 4 {
                    self.snapshots.push((snapshot, Rc::new(self.maps.clone())));
                } else {
                    let gone = self.chance.below(4) as usize;
                    self.snapshots.swap_remove(gone);
                }
            }
            952..=993 => {
                self.db().step().unwrap();
            }
            994..=997 => self.look_at_shape(),
            998 if self.chance.one_in(8) => self.db().flush().unwrap(),
            999 if self.chance.one_in(30) => self.db().compact().unwrap(),
            999 if self.chance.one_in(15) => self.reopen(),
            _ => {}
        }
    }

    fn batch(&mut self) {
        let mut batch = WriteBatch::new();
        for _ in 0..self.chance.below(12) {
            let (at, key) = (self.which(), self.key());
            if self.chance.one_in(3) {
                batch.delete(&self.keyspaces[at], &key).unwrap();
                self.maps[at].remove(&key);
            } else {
                let value = self.value();
                batch.put(&self.keyspaces[at], &key, &value).unwrap();
                self.maps[at].insert(key, value);
            }
        }
        let options = self.durability();
        self.db().write(&batch, &options).unwrap();
    }

    /// A keyspace, what it should hold, and how to read it: now, or at a snapshot.
    fn reading(&mut self) -> (usize, Keyspace, Option<Rc<Vec<Map>>>, ReadOptions) {
        let at = self.which();
        let keyspace = self.keyspaces[at].clone();
        let mut options =
            ReadOptions { fill_cache: self.chance.one_in(2), ..ReadOptions::default() };
        options.read_ahead = self.chance.one_in(2);
        if !self.snapshots.is_empty() && self.chance.one_in(3) {
            let index = self.chance.below(self.snapshots.len() as u64) as usize;
            let (snapshot, maps) = &self.snapshots[index];
            options.snapshot = Some(snapshot.clone());
            return (at, keyspace, Some(Rc::clone(maps)), options);
        }
        (at, keyspace, None, options)
    }

    fn get(&mut self) {
        let key = self.key();
        let (at, keyspace, old, options) = self.reading();
        let map = old.as_deref().map_or(&self.maps[at], |maps| &maps[at]);
        let found = keyspace.get_with(&key, &options).unwrap();
        assert_eq!(
            found.as_deref(),
            map.get(&key).map(Vec::as_slice),
            "get {}",
            key.escape_ascii()
        );
    }

    fn multi_get(&mut self) {
        let keys: Vec<_> = (0..self.chance.below(20)).map(|_| self.key()).collect();
        let (at, keyspace, old, options) = self.reading();
        let map = old.as_deref().map_or(&self.maps[at], |maps| &maps[at]);
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let found = keyspace.multi_get(&slices, &options);
        assert_eq!(found.len(), keys.len());
        for (key, found) in keys.iter().zip(found) {
            assert_eq!(found.unwrap().as_deref(), map.get(key).map(Vec::as_slice));
        }
    }

    /// A cursor between random bounds, moved about at random.
    fn walk(&mut self) {
        let (a, b) = (self.key(), self.key());
        let (at, keyspace, old, mut options) = self.reading();
        if self.chance.one_in(2) {
            options.lower_bound = Some(a.clone().min(b.clone()));
        }
        if self.chance.one_in(2) {
            options.upper_bound = Some(a.max(b));
        }
        let map = old.as_deref().map_or(&self.maps[at], |maps| &maps[at]);
        let inside = |key: &[u8]| {
            options.lower_bound.as_deref().is_none_or(|bound| key >= bound)
                && options.upper_bound.as_deref().is_none_or(|bound| key < bound)
        };
        let view = |from: Bound<Vec<u8>>, to: Bound<Vec<u8>>| {
            map.range((from, to)).filter(|(key, _)| inside(key))
        };
        let mut cursor = keyspace.cursor(&options).unwrap();
        let mut expected: Option<Vec<u8>> = None;
        for _ in 0..self.chance.below(30) {
            let target = match self.chance.below(2) {
                0 => format!("user{:08}", self.chance.below(KEYS)).into_bytes(),
                _ => format!("{}", self.chance.below(KEYS)).into_bytes(),
            };
            let next;
            let found = match (self.chance.below(8), expected.clone()) {
                (0, _) => {
                    next = view(Bound::Unbounded, Bound::Unbounded).next();
                    cursor.seek_to_first()
                }
                (1, _) => {
                    next = view(Bound::Unbounded, Bound::Unbounded).next_back();
                    cursor.seek_to_last()
                }
                (2, _) => {
                    next = view(Bound::Included(target.clone()), Bound::Unbounded).next();
                    cursor.seek(&target)
                }
                (3, _) => {
                    next = view(Bound::Unbounded, Bound::Included(target.clone())).next_back();
                    cursor.seek_for_prev(&target)
                }
                (4 | 5, Some(here)) => {
                    next = view(Bound::Excluded(here), Bound::Unbounded).next();
                    cursor.next()
                }
                (6 | 7, Some(here)) => {
                    next = view(Bound::Unbounded, Bound::Excluded(here)).next_back();
                    cursor.prev()
                }
                _ => continue,
            };
            assert_eq!(found.unwrap(), next.is_some());
            check(&cursor, next);
            expected = next.map(|(key, _)| key.clone());
        }
    }

    fn range(&mut self) {
        let (at, keyspace, old, options) = self.reading();
        let map = old.as_deref().map_or(&self.maps[at], |maps| &maps[at]);
        let prefix = format!("user{:05}", self.chance.below(KEYS) / 1000);
        let mut expected: Vec<_> =
            map.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes())).collect();
        let mut range = keyspace.prefix(prefix.as_bytes(), &options).unwrap();
        while !expected.is_empty() {
            let (found, wanted) = match self.chance.one_in(2) {
                true => (range.next(), expected.remove(0)),
                false => (range.next_back(), expected.pop().unwrap()),
            };
            let (key, value) = found.expect("the range ends early").unwrap();
            assert_eq!((&key, value.to_vec()), (wanted.0, wanted.1.clone()));
            if expected.len() > 40 {
                return;
            }
        }
        assert!(range.next().is_none() && range.next_back().is_none());
    }

    fn look_at_shape(&mut self) {
        let stats = self.db().stats();
        let levels = stats.keyspaces[0].levels.iter().filter(|level| level.files > 0).count();
        self.deepest = self.deepest.max(levels);
    }

    fn reopen(&mut self) {
        self.snapshots.clear();
        self.keyspaces.clear();
        if self.chance.one_in(2) {
            self.db.take().unwrap().close().unwrap();
        } else {
            // The process dies; everything was at least Buffered.
            self.disk = self.disk.after_kill();
            self.db = None;
        }
        self.reopens += 1;
        self.open();
        self.check_all();
    }

    fn check_all(&self) {
        for (keyspace, map) in self.keyspaces.iter().zip(&self.maps) {
            let found: Vec<_> =
                keyspace.range(.., &ReadOptions::default()).unwrap().map(Result::unwrap).collect();
            assert_eq!(found.len(), map.len());
            for ((key, value), (wanted_key, wanted_value)) in found.iter().zip(map) {
                assert_eq!(key, wanted_key);
                assert_eq!(value, wanted_value);
            }
        }
    }
}

fn check(cursor: &Cursor, expected: Option<(&Vec<u8>, &Vec<u8>)>) {
    assert_eq!(cursor.valid(), expected.is_some());
    if let Some((key, value)) = expected {
        assert_eq!(cursor.key(), &key[..]);
        assert_eq!(cursor.value(), &value[..]);
    }
}

/// The engine answers as a sorted map does, over more than a million operations in all.
fn run(seed: u64) {
    println!("seed {seed}");
    let mut world = World::new(seed);
    for _ in 0..OPERATIONS {
        world.step();
    }
    world.check_all();
    world.db().verify().unwrap();
    assert!(world.deepest >= 4, "the limits are meant to make four levels, made {}", world.deepest);
    assert!(world.reopens > 5);
}

#[test]
fn the_engine_answers_as_a_sorted_map_seed_1() {
    run(1);
}

#[test]
fn the_engine_answers_as_a_sorted_map_seed_2() {
    run(2);
}

#[test]
fn the_engine_answers_as_a_sorted_map_seed_3() {
    run(3);
}

#[test]
fn the_engine_answers_as_a_sorted_map_seed_4() {
    run(4);
}

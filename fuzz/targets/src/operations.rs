//! Lists of operations against a sorted map: what the engine does behind the scenes never shows, also after the process or the
//! power went.
//!
//! ```text
//! input:  seed u8 │ operation ...        operation: code u8 │ its arguments
//! ```
//!
//! Promise: the engine answers as two sorted maps do. After a close or a kill everything is there that was acknowledged; after a power
//! cut, at rest or in the middle of any call, a prefix of the commits that holds all Sync ones. Memory: what the options allow.

use crate::Target;
use crate::input::Input;
use crate::samples::{NAMES, open, other_options};
use std::collections::BTreeMap;
use std::ops::Bound;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    Cursor, Db, Durability, Keyspace, ReadOptions, Result, Snapshot, WriteBatch, WriteOptions,
};

pub(crate) const TARGET: Target = Target {
    name: "operations",
    promise: "any list of operations, kills and power cuts is answered as a sorted map answers",
    run,
    seeds,
};

const OPERATIONS_MAX: usize = 300;
const SNAPSHOTS_MAX: usize = 4;
const KEYS: u8 = 48;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
/// One map for each keyspace.
type Maps = [Map; 2];
/// Keyspace, key or first key, what becomes of it.
type Change = (usize, Vec<u8>, What);

#[derive(Clone, Debug)]
enum What {
    Put(Vec<u8>),
    Delete,
    /// All keys to before this one; without end if it is empty.
    DeleteTo(Vec<u8>),
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.u8().into());
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.close();
    world.kill();
}

/// The database, and what it should hold.
struct World {
    disk: SimDisk,
    db: Option<Db>,
    keyspaces: Vec<Keyspace>,
    /// What certainly survives a power cut.
    base: Maps,
    /// Commits after `base`, in order; those below `synced` were promised to survive a power cut.
    commits: Vec<Vec<Change>>,
    synced: usize,
    /// What is to be seen now.
    now: Maps,
    snapshots: Vec<(Snapshot, Maps)>,
}

fn apply(maps: &mut Maps, commit: &[Change]) {
    for (keyspace, key, what) in commit {
        let map = &mut maps[*keyspace];
        match what {
            What::Put(value) => drop(map.insert(key.clone(), value.clone())),
            What::Delete => drop(map.remove(key)),
            What::DeleteTo(end) => {
                map.retain(|other, _| other < key || !end.is_empty() && other >= end);
            }
        }
    }
}

/// Keys that share prefixes, keys that do not, and long ones.
fn key(number: u8) -> Vec<u8> {
    let number = number % KEYS;
    match number % 4 {
        0 => vec![number],
        1 => format!("user{number:04}").into_bytes(),
        2 => format!("user{:04}/name", number / 8).into_bytes(),
        _ => [&[b'k'; 300][..], &[number]].concat(),
    }
}

/// A range delete between two keys; from one on where both are the same.
fn range(at: usize, a: u8, b: u8) -> Change {
    let (start, end) = (key(a).min(key(b)), key(a).max(key(b)));
    let end = if start == end { Vec::new() } else { end };
    (at, start, What::DeleteTo(end))
}

fn bounds<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    (Bound::Included(start), end)
}

/// A value of up to 17 KB, most of them short.
fn value(length: u8, fill: u8) -> Vec<u8> {
    let length = usize::from(length);
    let length = if length < 200 { length } else { (length - 199) * 300 };
    (0..length).map(|i| fill.wrapping_mul(if i % 7 == 0 { i as u8 } else { 1 })).collect()
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            disk: SimDisk::new(seed),
            db: None,
            keyspaces: Vec::new(),
            base: Maps::default(),
            commits: Vec::new(),
            synced: 0,
            now: Maps::default(),
            snapshots: Vec::new(),
        };
        world.reopen();
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let code = input.u8();
        let outcome = match code % 32 {
            0..=5 => self.put(input, code),
            7 if code & 64 != 0 => self.delete_range(input, code),
            6 | 7 => self.delete(input, code),
            8..=10 => self.batch(input),
            11 => self.flush(),
            12 => self.db().compact(),
            13..=15 => self.db().step().map(drop),
            16 => self.compact_range(input),
            17..=19 => self.get(input),
            20 => self.multi_get(input),
            21 => self.scan(),
            22..=24 => self.walk(input),
            25 => return self.snapshot(input),
            26 => return self.close(),
            27 => return self.kill(),
            28 => return self.cut_power(input),
            29 => {
                // The power goes in the middle of something that comes.
                let calls = u64::from(input.u8());
                return self.disk.cut_power_at(self.disk.io_count() + calls);
            }
            30 => self.db().verify(),
            _ => self.fill(input),
        };
        match outcome {
            Ok(()) => {}
            Err(_) if self.disk.power_is_cut() => self.after_cut(u64::from(code), code),
            Err(error) => panic!("operation {code}: {error}"),
        }
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("open between operations")
    }

    fn durability(code: u8) -> WriteOptions {
        let durability = if code >= 224 { Durability::Sync } else { Durability::Buffered };
        WriteOptions { durability: Some(durability) }
    }

    /// Notes a commit that is about to be tried: after a failure it may have survived.
    fn begin(&mut self, commit: Vec<Change>) {
        self.commits.push(commit);
    }

    /// The last commit was acknowledged.
    fn acknowledge(&mut self, options: &WriteOptions) {
        let last = self.commits.last().expect("a commit was begun");
        apply(&mut self.now, last);
        if options.durability == Some(Durability::Sync) {
            self.synced = self.commits.len();
        }
    }

    fn put(&mut self, input: &mut Input<'_>, code: u8) -> Result<()> {
        let options = World::durability(code);
        let number = input.u8();
        let (at, key) = (usize::from(number >> 7), key(number));
        let value = value(input.u8(), code);
        self.begin(vec![(at, key.clone(), What::Put(value.clone()))]);
        self.keyspaces[at].put_with(&key, &value, &options)?;
        self.acknowledge(&options);
        Ok(())
    }

    fn delete(&mut self, input: &mut Input<'_>, code: u8) -> Result<()> {
        let options = World::durability(code);
        let number = input.u8();
        let (at, key) = (usize::from(number >> 7), key(number));
        self.begin(vec![(at, key.clone(), What::Delete)]);
        self.keyspaces[at].delete_with(&key, &options)?;
        self.acknowledge(&options);
        Ok(())
    }

    fn delete_range(&mut self, input: &mut Input<'_>, code: u8) -> Result<()> {
        let options = World::durability(code);
        let (a, b) = (input.u8(), input.u8());
        let at = usize::from(a >> 7);
        let change = range(at, a, b);
        let (start, end) = match &change {
            (_, start, What::DeleteTo(end)) => (start.clone(), end.clone()),
            other => unreachable!("a range is {other:?}"),
        };
        self.begin(vec![change]);
        self.keyspaces[at].delete_range_with(bounds(&start, &end), &options)?;
        self.acknowledge(&options);
        Ok(())
    }

    fn batch(&mut self, input: &mut Input<'_>) -> Result<()> {
        let head = input.u8();
        let mut commit = Vec::new();
        for _ in 0..head % 8 {
            let (number, length) = (input.u8(), input.u8());
            let at = usize::from(number >> 7);
            commit.push(match length % 4 {
                3 if length >= 224 => range(at, number, length),
                3 => (at, key(number), What::Delete),
                _ => (at, key(number), What::Put(value(length, number))),
            });
        }
        self.write(commit, &World::durability(head))
    }

    fn write(&mut self, commit: Vec<Change>, options: &WriteOptions) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (at, key, what) in &commit {
            let keyspace = &self.keyspaces[*at];
            match what {
                What::Put(value) => batch.put(keyspace, key, value)?,
                What::Delete => batch.delete(keyspace, key)?,
                What::DeleteTo(end) => batch.delete_range(keyspace, bounds(key, end))?,
            }
        }
        self.begin(commit);
        self.db().write(&batch, options)?;
        self.acknowledge(options);
        Ok(())
    }

    /// Every key at once, so that levels fill.
    fn fill(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (at, length) = (usize::from(input.u8() % 2), input.u8() % 128);
        let change = |number: u8| (at, key(number), What::Put(value(length, number)));
        self.write((0..KEYS).map(change).collect(), &WriteOptions::default())
    }

    fn flush(&mut self) -> Result<()> {
        self.db().flush()
    }

    fn compact_range(&mut self, input: &mut Input<'_>) -> Result<()> {
        let (a, b) = (input.u8(), input.u8());
        let at = usize::from(a >> 7);
        let (low, high) = (key(a).min(key(b)), key(a).max(key(b)));
        self.keyspaces[at].compact_range(Some((&low, &high)))
    }

    /// A keyspace to read, and what it should show: now, or at a snapshot.
    fn reading(&self, number: u8) -> (usize, ReadOptions, &Maps) {
        let at = usize::from(number >> 7);
        let mut options = ReadOptions { fill_cache: number & 1 == 0, ..ReadOptions::default() };
        options.read_ahead = number & 2 == 0;
        match self.snapshots.get(usize::from(number >> 2 & 7)) {
            Some((snapshot, maps)) => {
                options.snapshot = Some(snapshot.clone());
                (at, options, maps)
            }
            None => (at, options, &self.now),
        }
    }

    fn get(&self, input: &mut Input<'_>) -> Result<()> {
        let key = key(input.u8());
        let (at, options, maps) = self.reading(input.u8());
        let found = self.keyspaces[at].get_with(&key, &options)?;
        assert_eq!(found.as_deref(), maps[at].get(&key).map(Vec::as_slice));
        Ok(())
    }

    fn multi_get(&self, input: &mut Input<'_>) -> Result<()> {
        let (at, options, maps) = self.reading(input.u8());
        let keys: Vec<_> = (0..input.u8() % 16).map(|_| key(input.u8())).collect();
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (key, found) in keys.iter().zip(self.keyspaces[at].multi_get(&slices, &options)) {
            assert_eq!(found?.as_deref(), maps[at].get(key).map(Vec::as_slice));
        }
        Ok(())
    }

    /// Both keyspaces, both ways.
    fn scan(&self) -> Result<()> {
        for (keyspace, map) in self.keyspaces.iter().zip(&self.now) {
            let mut cursor = keyspace.cursor(&ReadOptions::default())?;
            let mut valid = cursor.seek_to_first()?;
            for (key, value) in map {
                assert!(valid && cursor.key() == key && cursor.value() == value);
                valid = cursor.next()?;
            }
            assert!(!valid, "an entry too many: {}", cursor.key().escape_ascii());
            let mut valid = cursor.seek_to_last()?;
            for (key, value) in map.iter().rev() {
                assert!(valid && cursor.key() == key && cursor.value() == value);
                valid = cursor.prev()?;
            }
            assert!(!valid, "an entry too many: {}", cursor.key().escape_ascii());
        }
        Ok(())
    }

    /// A cursor between bounds, moved about.
    fn walk(&self, input: &mut Input<'_>) -> Result<()> {
        let (at, mut options, maps) = self.reading(input.u8());
        let bounds = input.u8();
        if bounds & 1 != 0 {
            options.lower_bound = Some(key(bounds >> 2));
        }
        if bounds & 2 != 0 {
            options.upper_bound = Some(key(bounds.rotate_left(3)));
        }
        let inside = |key: &[u8]| {
            options.lower_bound.as_deref().is_none_or(|bound| key >= bound)
                && options.upper_bound.as_deref().is_none_or(|bound| key < bound)
        };
        let entries: Vec<_> = maps[at].iter().filter(|(key, _)| inside(key)).collect();
        let mut cursor = self.keyspaces[at].cursor(&options)?;
        // Number of the entry that the cursor stands on.
        let mut place: Option<usize> = None;
        for _ in 0..input.u8() % 24 {
            let code = input.u8();
            let probe = key(code >> 2);
            let last = entries.len().checked_sub(1);
            let (found, wanted) = match (code % 4, place) {
                (0, Some(place)) => (cursor.next()?, Some(place + 1)),
                (1, Some(place)) => (cursor.prev()?, place.checked_sub(1)),
                (0, None) => (cursor.seek_to_first()?, Some(0)),
                (1, None) => (cursor.seek_to_last()?, last),
                (2, _) => {
                    (cursor.seek(&probe)?, Some(entries.partition_point(|entry| *entry.0 < probe)))
                }
                _ => {
                    let above = entries.partition_point(|entry| *entry.0 <= probe);
                    (cursor.seek_for_prev(&probe)?, above.checked_sub(1))
                }
            };
            place = wanted.filter(|&wanted| wanted < entries.len());
            assert_eq!(found, place.is_some());
            check(&cursor, place.map(|place| entries[place]));
        }
        self.walk_prefix(at, maps, input)
    }

    fn walk_prefix(&self, at: usize, _maps: &Maps, input: &mut Input<'_>) -> Result<()> {
        let probe = key(input.u8());
        let prefix = &probe[..probe.len().min(5)];
        let range = (Bound::Included(prefix.to_vec()), Bound::Unbounded);
        let wanted = self.now[at].range(range).take_while(|(key, _)| key.starts_with(prefix));
        let found = self.keyspaces[at].prefix(prefix, &ReadOptions::default())?;
        let found: Result<Vec<_>> = found.collect();
        let found = found?;
        assert!(
            found.iter().map(|(key, value)| (key, &value[..])).eq(wanted.map(|(k, v)| (k, &v[..])))
        );
        Ok(())
    }

    fn snapshot(&mut self, input: &mut Input<'_>) {
        let number = usize::from(input.u8());
        if self.snapshots.len() == SNAPSHOTS_MAX || number >= 192 && !self.snapshots.is_empty() {
            self.snapshots.remove(number % self.snapshots.len());
        } else {
            self.snapshots.push((self.db().snapshot(), self.now.clone()));
        }
    }

    /// Lets go of everything that holds the database.
    fn release(&mut self) -> Option<Db> {
        self.snapshots.clear();
        self.keyspaces.clear();
        self.db.take()
    }

    fn close(&mut self) {
        let closed = self.release().map_or(Ok(()), Db::close);
        match closed {
            Ok(()) => self.synced = self.commits.len(),
            Err(_) if self.disk.power_is_cut() => return self.after_cut(1, 0),
            Err(error) => panic!("close: {error}"),
        }
        self.reopen();
    }

    fn kill(&mut self) {
        if self.disk.power_is_cut() {
            return self.after_cut(2, 0);
        }
        let next = self.disk.after_kill();
        self.release();
        self.disk = next;
        // A commit that was not acknowledged is not known here: only a power cut fails one, and that ends in `after_cut`.
        self.reopen();
    }

    fn cut_power(&mut self, input: &mut Input<'_>) {
        let (seed, model) = (u64::from(input.u8()), input.u8());
        self.after_cut(seed, model);
    }

    /// The power is gone: what comes back is a prefix of the commits that holds the promised ones.
    fn after_cut(&mut self, seed: u64, model: u8) {
        let model = LossModel::ALL[usize::from(model) % LossModel::ALL.len()];
        let next = self.disk.after_power_cut(seed, model);
        self.release();
        self.disk = next;
        let db = self.open().expect("the power is back");
        let found = contents(&db).expect("the power is back");
        let mut state = self.base.clone();
        let mut survived = None;
        for number in 0..=self.commits.len() {
            if number >= self.synced && state == found {
                survived = Some(number);
            }
            if let Some(commit) = self.commits.get(number) {
                apply(&mut state, commit);
            }
        }
        assert!(
            survived.is_some(),
            "{model:?}: {:?} and {:?} are no state after {} to {} commits",
            found[0].keys().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
            found[1].keys().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
            self.synced,
            self.commits.len()
        );
        self.now = found;
        self.adopt(db);
    }

    fn open(&self) -> Result<Db> {
        open(&self.disk)
    }

    /// Opens the database after a close or a kill; a cut that was ordered may strike.
    fn reopen(&mut self) {
        match self.open() {
            Ok(db) => self.adopt(db),
            Err(_) if self.disk.power_is_cut() => return self.after_cut(3, 1),
            Err(error) => panic!("open: {error}"),
        }
        match self.scan() {
            Ok(()) => {}
            Err(_) if self.disk.power_is_cut() => self.after_cut(4, 2),
            Err(error) => panic!("scan after open: {error}"),
        }
    }

    /// What an open database shows was written to tables by opening it: a power cut does not take it.
    fn adopt(&mut self, db: Db) {
        self.base = self.now.clone();
        self.commits.clear();
        self.synced = 0;
        let other = match db.keyspace(NAMES[1]) {
            Ok(other) => Ok(other),
            Err(_) => db.create_keyspace(NAMES[1], other_options()),
        };
        match other {
            Ok(other) => {
                self.keyspaces = vec![db.default_keyspace().clone(), other];
                self.db = Some(db);
            }
            Err(_) if self.disk.power_is_cut() => {
                drop(db);
                self.after_cut(5, 3);
            }
            Err(error) => panic!("create a keyspace: {error}"),
        }
    }
}

fn check(cursor: &Cursor, wanted: Option<(&Vec<u8>, &Vec<u8>)>) {
    assert_eq!(cursor.valid(), wanted.is_some());
    if let Some((key, value)) = wanted {
        assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
    }
}

fn contents(db: &Db) -> Result<Maps> {
    let mut maps = Maps::default();
    for (name, map) in NAMES.iter().zip(&mut maps) {
        let Ok(keyspace) = db.keyspace(name) else { continue };
        for entry in keyspace.range(.., &ReadOptions::default())? {
            let (key, value) = entry?;
            map.insert(key, value.to_vec());
        }
    }
    Ok(maps)
}

fn seeds() -> Vec<Vec<u8>> {
    let list = |seed: u8, operations: &[&[u8]]| [&[seed], &operations.concat()[..]].concat();
    let (fill, flush, compact, scan): (&[u8], &[u8], &[u8], &[u8]) =
        (&[31, 0, 90], &[11], &[12], &[21]);
    vec![
        list(1, &[&[0, 5, 30], &[225, 6, 40], &[17, 5, 0], &[6, 5], scan]),
        list(2, &[fill, flush, fill, &[31, 1, 60], flush, compact, scan, &[30]]),
        list(
            3,
            &[
                fill,
                &[25, 0],
                &[6, 9],
                flush,
                &[22, 0, 3, 9, 2, 0, 0, 1, 6, 10, 14, 1, 1, 5],
                &[26],
                scan,
            ],
        ),
        list(
            4,
            &[&[8, 227, 1, 4, 2, 8, 130, 7], &[0, 7, 250], &[28, 9, 3], scan, &[0, 7, 9], &[27]],
        ),
        list(5, &[fill, &[29, 40], flush, fill, compact, &[225, 1, 1], &[26], scan]),
        list(
            6,
            &[
                fill,
                flush,
                &[13],
                &[14],
                &[15],
                &[16, 2, 30],
                &[20, 0, 5, 1, 2, 3, 4, 5],
                &[28, 1, 6],
            ],
        ),
        list(
            7,
            &[&[0, 1, 255], &[0, 2, 254], &[0, 3, 253], &[13], &[13], &[28, 3, 1], &[27], scan],
        ),
        list(
            8,
            &[
                fill,
                &[25, 0],
                flush,
                &[71, 9, 30],
                &[231, 5, 5],
                flush,
                &[1, 9, 3],
                compact,
                &[26],
                scan,
            ],
        ),
    ]
}

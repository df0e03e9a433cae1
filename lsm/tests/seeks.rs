//! Cold seeks: what they ask the device for, that they show what is there, and that errors reach the caller.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, tiny_options};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use treering_lsm::io::sim::{Call, Fault, SimDisk};
use treering_lsm::io::{Completion, Disk, File, Lock, OpenMode, Queue, Request, SharedMap};
use treering_lsm::{Cursor, Db, Environment, Error, Options, ReadOptions};

/// Tables of L0 over the level below.
const L0_COUNT: usize = 4;

/// What was asked of a disk since the last look.
#[derive(Debug, Default)]
struct Asked {
    /// Bytes of each read, those of queues too.
    reads: Vec<usize>,
    /// Requests of each queue.
    queues: Vec<usize>,
}

impl Asked {
    /// Times that a thread waited for the device, if a queue answers all at once.
    fn waits(&self) -> usize {
        self.reads.len() - self.queues.iter().sum::<usize>() + self.queues.len()
    }

    fn bytes(&self) -> usize {
        self.reads.iter().sum()
    }
}

/// A simulated disk that remembers what it was asked for.
#[derive(Clone, Debug)]
struct WatchedDisk {
    inner: SimDisk,
    asked: Arc<Mutex<Asked>>,
}

impl WatchedDisk {
    fn new(seed: u64) -> WatchedDisk {
        WatchedDisk { inner: SimDisk::new(seed), asked: Arc::default() }
    }

    fn take(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[derive(Debug)]
struct WatchedFile {
    inner: Arc<dyn File>,
    asked: Arc<Mutex<Asked>>,
}

#[derive(Debug)]
struct WatchedQueue {
    inner: Box<dyn Queue>,
    asked: Arc<Mutex<Asked>>,
    number: usize,
}

impl Disk for WatchedDisk {
    fn name(&self) -> &'static str {
        "watched"
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.create_directory(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.hard_link(from, to)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.inner.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(WatchedFile { inner, asked: Arc::clone(&self.asked) }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock(path)
    }
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.inner.lock_shared(path)
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        self.inner.map_shared(path, length)
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        let mut asked = self.asked.lock().unwrap();
        asked.queues.push(0);
        let number = asked.queues.len() - 1;
        let asked = Arc::clone(&self.asked);
        Box::new(WatchedQueue { inner: self.inner.queue(depth), asked, number })
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
}

impl File for WatchedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.asked.lock().unwrap().reads.push(buffer.len());
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        self.inner.write_at(offset, bytes, durable)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.inner.set_size(size)
    }

    fn direct(&self) -> bool {
        self.inner.direct()
    }

    fn descriptor(&self) -> Option<std::os::fd::RawFd> {
        self.inner.descriptor()
    }
}

impl Queue for WatchedQueue {
    fn push(&mut self, request: Request) {
        // A queue that outlives a look at the disk is one of a job: none here.
        self.asked.lock().unwrap().queues[self.number] += 1;
        self.inner.push(request);
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn wait(&mut self) -> Option<Completion> {
        self.inner.wait()
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight()
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(number: u64) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

fn options(direct_io: bool) -> Options {
    let mut options = tiny_options();
    options.direct_io = direct_io;
    options.memory_limit = 16 << 20;
    options.write_buffer_bytes = Some(512 << 10);
    options.default_keyspace.table_bytes = 256 << 10;
    options
}

fn open(disk: &WatchedDisk, direct_io: bool) -> Db {
    let environment = Environment::manual(Arc::new(disk.clone()));
    Db::open_in(environment, "/db", options(direct_io)).unwrap()
}

/// 3,000 keys in one level, and every eighth in each of [`L0_COUNT`] tables over it; and nothing cached, since the database is
/// opened anew. Some keys are gone.
fn filled(seed: u64, direct_io: bool) -> (WatchedDisk, Db, Model) {
    let disk = WatchedDisk::new(seed);
    let (mut chance, mut model) = (Chance(seed), Model::new());
    let db = open(&disk, direct_io);
    let mut put = |db: &Db, number: u64, model: &mut Model| {
        let value: Vec<u8> = (0..13).flat_map(|_| chance.next().to_le_bytes()).collect();
        db.put(&key(number), &value).unwrap();
        model.insert(key(number), value);
    };
    (0..3000).for_each(|number| put(&db, number, &mut model));
    db.compact().unwrap();
    for round in 0..L0_COUNT as u64 {
        (0..3000).step_by(8).for_each(|number| put(&db, number, &mut model));
        for number in (round..3000).step_by(97) {
            db.default_keyspace().delete(&key(number)).unwrap();
            model.remove(&key(number));
        }
        db.flush().unwrap();
    }
    assert_eq!(db.stats().keyspaces[0].levels[0].files, L0_COUNT as u64);
    db.close().unwrap();
    let db = open(&disk, direct_io);
    // Opens the tables.
    let nothing_kept = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    let mut cursor = db.default_keyspace().cursor(&nothing_kept).unwrap();
    cursor.seek_to_first().unwrap();
    cursor.seek_to_last().unwrap();
    disk.take();
    (disk, db, model)
}

#[test]
fn a_cold_seek_asks_for_the_blocks_of_all_sources_at_once() {
    for direct_io in [false, true] {
        let (disk, db, model) = filled(1, direct_io);
        for fill_cache in [false, true] {
            let options = ReadOptions { fill_cache, ..ReadOptions::default() };
            let mut cursor = db.default_keyspace().cursor(&options).unwrap();
            // A key that every source has, so that none goes on to a second block.
            assert!(cursor.seek(&key(1600)).unwrap());
            assert_eq!((cursor.key(), cursor.value()), (&key(1600)[..], &model[&key(1600)][..]));
            let asked = disk.take();
            assert_eq!((asked.queues.as_slice(), asked.waits()), (&[L0_COUNT + 1][..], 1));
            // Again, with another cursor: from the cache, if it was to be filled.
            let mut cursor = db.default_keyspace().cursor(&options).unwrap();
            assert!(cursor.seek(&key(1600)).unwrap());
            let asked = disk.take();
            assert_eq!(asked.reads.len(), if fill_cache { 0 } else { L0_COUNT + 1 });
        }
        let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        type Move = fn(&mut Cursor) -> treering_lsm::Result<bool>;
        let moves: [Move; 3] = [
            |cursor| cursor.seek_for_prev(&key(801)),
            |cursor| cursor.seek_to_first(),
            |cursor| cursor.seek_to_last(),
        ];
        for go in moves {
            let mut cursor = db.default_keyspace().cursor(&options).unwrap();
            assert!(go(&mut cursor).unwrap());
            let asked = disk.take();
            assert_eq!(asked.queues, [L0_COUNT + 1], "{asked:?}");
            assert!(asked.waits() <= 2, "{asked:?}");
        }
    }
}

/// The same call makes the same requests, however the queue orders their ends.
#[test]
fn a_seek_never_asks_for_its_blocks_in_another_order() {
    let trace = || {
        let (disk, db, _) = filled(2, false);
        let mut cursor = db.default_keyspace().cursor(&ReadOptions::default()).unwrap();
        (0..30).for_each(|number| assert!(cursor.seek(&key(number * 99)).is_ok()));
        (disk.inner.trace(), disk.inner.io_count())
    };
    let first = trace();
    assert!((0..3).all(|_| trace() == first));
}

#[test]
fn a_scan_after_a_cold_seek_waits_for_the_device_a_few_times() {
    for direct_io in [false, true] {
        let (disk, db, _) = filled(3, direct_io);
        for (number, reverse) in [(400, false), (1503, false), (2000, true), (1111, true)] {
            let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
            let mut cursor = db.default_keyspace().cursor(&options).unwrap();
            cursor.seek(&key(number)).unwrap();
            for _ in 0..100 {
                assert!(if reverse { cursor.prev() } else { cursor.next() }.unwrap());
            }
            let asked = disk.take();
            // One for the seek (a reverse scan seeks twice), then one or two for each source: 100 entries are some 12 blocks.
            assert!(asked.waits() <= 3 + 2 * (L0_COUNT + 1), "{number}: {asked:?}");
            assert!(asked.reads.len() > asked.waits());
        }
    }
}

#[test]
fn nothing_is_read_ahead_beyond_a_bound() {
    let (disk, db, model) = filled(4, false);
    let mut options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    let read = |options: &ReadOptions, reverse: bool| {
        let mut cursor = db.default_keyspace().cursor(options).unwrap();
        let from = key(1000);
        let mut more =
            if reverse { cursor.seek_for_prev(&from) } else { cursor.seek(&from) }.unwrap();
        let mut seen = 0;
        while more && seen < 40 {
            assert_eq!(cursor.value(), model[cursor.key()]);
            seen += 1;
            more = if reverse { cursor.prev() } else { cursor.next() }.unwrap();
        }
        (seen, disk.take().bytes())
    };
    for reverse in [false, true] {
        options.lower_bound = None;
        options.upper_bound = None;
        let (_, free) = read(&options, reverse);
        let bound = Some(key(if reverse { 970 } else { 1030 }));
        if reverse {
            options.lower_bound = bound
        } else {
            options.upper_bound = bound
        };
        let (seen, bounded) = read(&options, reverse);
        assert!((25..=31).contains(&seen), "{seen}");
        // Thirty entries are four blocks of the level, and each table of L0 has one or two.
        assert!(bounded <= (6 + 2 * L0_COUNT) * 1200, "{bounded} bytes read");
        assert!(free > bounded + (16 << 10), "{free} bytes read without a bound, {bounded} with");
    }
}

fn here(cursor: &Cursor) -> Option<(Vec<u8>, Vec<u8>)> {
    cursor.valid().then(|| (cursor.key().to_vec(), cursor.value().to_vec()))
}

fn owned(entry: Option<(&Vec<u8>, &Vec<u8>)>) -> Option<(Vec<u8>, Vec<u8>)> {
    entry.map(|(key, value)| (key.clone(), value.clone()))
}

#[test]
fn cold_cursors_show_what_the_model_holds() {
    for seed in 10..16u64 {
        let (_disk, db, model) = filled(seed, seed % 2 == 0);
        let mut chance = Chance(seed);
        for fill_cache in [false, true] {
            for read_ahead in [false, true] {
                let mut bound = || chance.one_in(2).then(|| key(chance.below(3000)));
                let (lower_bound, upper_bound) = (bound(), bound());
                let inside = |key: &Vec<u8>| {
                    lower_bound.as_ref().is_none_or(|bound| key >= bound)
                        && upper_bound.as_ref().is_none_or(|bound| key < bound)
                };
                let shown: Model = model
                    .iter()
                    .filter(|(key, _)| inside(key))
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect();
                let options = ReadOptions {
                    fill_cache,
                    read_ahead,
                    lower_bound: lower_bound.clone(),
                    upper_bound: upper_bound.clone(),
                    ..ReadOptions::default()
                };
                let mut cursor = db.default_keyspace().cursor(&options).unwrap();
                for _ in 0..60 {
                    let target = key(chance.below(3100));
                    let expected = match chance.below(8) {
                        0 => (cursor.seek_to_first(), shown.iter().next()).1,
                        1 => (cursor.seek_to_last(), shown.iter().next_back()).1,
                        2 | 3 => {
                            cursor.seek_for_prev(&target).unwrap();
                            shown.range(..=target).next_back()
                        }
                        _ => {
                            cursor.seek(&target).unwrap();
                            shown.range(target..).next()
                        }
                    };
                    assert_eq!(here(&cursor), owned(expected), "seed {seed}");
                    for _ in 0..chance.below(60) {
                        let Some((at, _)) = here(&cursor) else { break };
                        let expected = if chance.one_in(12) {
                            cursor.prev().unwrap();
                            shown.range(..at).next_back()
                        } else {
                            cursor.next().unwrap();
                            shown.range(at..).nth(1)
                        };
                        assert_eq!(here(&cursor), owned(expected), "seed {seed}");
                    }
                }
            }
        }
    }
}

#[test]
fn an_error_under_one_block_reaches_the_caller_and_the_next_seek_is_whole() {
    let mut fired = 0;
    for direct_io in [false, true] {
        let (disk, db, model) = filled(5, direct_io);
        let names = disk.list(Path::new("/db")).unwrap();
        let tables = names.iter().filter(|name| name.ends_with(".sst"));
        for table in tables.map(|name| Path::new("/db").join(name)) {
            for fault in [Fault::Error(5), Fault::Flip, Fault::Short] {
                let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
                let mut cursor = db.default_keyspace().cursor(&options).unwrap();
                let of: PathBuf = table.clone();
                disk.inner.fail_matching(
                    move |call, path| call == Call::Read && path == of,
                    fault,
                    true,
                );
                let before = disk.inner.fired();
                let outcome = cursor.seek(&key(1600));
                disk.inner.clear_faults();
                let hit = disk.inner.fired() > before;
                fired += u32::from(hit);
                match (fault, outcome) {
                    (Fault::Error(_), Err(Error::Io { path, .. })) if hit => {
                        assert_eq!(path, table);
                        assert!(!cursor.valid());
                    }
                    (Fault::Flip, Err(Error::Corruption { path, .. })) if hit => {
                        assert_eq!(path, table);
                        assert!(!cursor.valid());
                    }
                    // The flip may have met what direct reads fetch beside the block.
                    (_, Ok(true)) if !hit || !matches!(fault, Fault::Error(_)) => {}
                    (fault, outcome) => panic!("{fault:?} of {table:?}: {outcome:?}"),
                }
                assert!(cursor.seek(&key(1600)).unwrap());
                assert_eq!(cursor.value(), model[&key(1600)]);
                assert!(cursor.next().unwrap());
                assert_eq!(cursor.value(), model[cursor.key()]);
            }
        }
    }
    // A direct read of one unit cannot be short.
    assert!(fired as usize >= 5 * (L0_COUNT + 1), "{fired} faults fired");
}

//! What comes in past the memtables, beside everything else that goes on: readers, compactions, checkpoints, closing.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, with threads of its own"
)]

mod common;

use common::{open, tiny_options};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, File, Lock, OpenMode, Queue, SharedMap};
use treering_lsm::{
    Db, Environment, Error, IngestOptions, ReadOptions, SortedFileWriter, WriteBatch, WriteOptions,
};

type Hook = Box<dyn FnOnce() + Send>;

/// A disk that does something else first, once, at a call that `when` picks.
struct Hooked {
    disk: SimDisk,
    when: fn(&str, &Path) -> bool,
    armed: AtomicBool,
    hook: Mutex<Option<Hook>>,
}

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

impl Hooked {
    fn new(disk: &SimDisk, when: fn(&str, &Path) -> bool) -> Arc<Hooked> {
        let (armed, hook) = (AtomicBool::new(false), Mutex::new(None));
        Arc::new(Hooked { disk: disk.clone(), when, armed, hook })
    }

    fn arm(&self, hook: Hook) {
        *self.hook.lock().unwrap() = Some(hook);
        self.armed.store(true, Ordering::SeqCst);
    }

    fn at(&self, call: &str, path: &Path) {
        let is_armed = self.armed.load(Ordering::SeqCst) && (self.when)(call, path);
        if is_armed && self.armed.swap(false, Ordering::SeqCst) {
            let hook = self.hook.lock().unwrap().take();
            hook.unwrap()();
        }
    }
}

impl Disk for Hooked {
    fn name(&self) -> &'static str {
        self.disk.name()
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.disk.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode.create {
            self.at("create", path);
        }
        self.disk.open(path, mode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at("remove", path);
        self.disk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("link", to);
        self.disk.hard_link(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.disk.lock_shared(path)
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        self.disk.map_shared(path, length)
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        self.disk.queue(depth)
    }

    fn ring(&self, depth: usize) -> Option<Box<dyn Queue>> {
        self.disk.ring(depth)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_bytes(path)
    }
}

fn is_new_table(call: &str, path: &Path) -> bool {
    call == "create" && path.extension().is_some_and(|extension| extension == "sst")
}

fn is_new_manifest(call: &str, path: &Path) -> bool {
    call == "create" && path.to_string_lossy().contains("MANIFEST")
}

fn is_link(call: &str, _: &Path) -> bool {
    call == "link"
}

fn open_on(disk: &Arc<Hooked>) -> Db {
    let disk = Arc::clone(disk) as Arc<dyn Disk>;
    Db::open_in(Environment::manual(disk), "/db", tiny_options()).unwrap()
}

fn sorted(disk: &SimDisk, name: &str, key: &[u8]) -> PathBuf {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_directory(Path::new("/files")).unwrap();
    let path = Path::new("/files").join(name);
    let options = tiny_options().default_keyspace;
    let mut writer = SortedFileWriter::create_on(&disk, &path, &options).unwrap();
    writer.put(key, b"ingested").unwrap();
    writer.finish().unwrap().path
}

fn large_batch(db: &Db) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in 0..100u32 {
        batch.put(db.default_keyspace(), format!("b{i}").as_bytes(), &[7; 400]).unwrap();
    }
    batch
}

#[test]
fn a_checkpoint_with_an_ingest_has_what_was_committed_before_it() {
    // Guards: a checkpoint is a prefix of the commits. The memtable before an ingest that it does not meet may still wait for its flush.
    let disk = SimDisk::new(1);
    let hooked = Hooked::new(&disk, is_new_table);
    let db = open_on(&hooked);
    let path = sorted(&disk, "1", b"m");
    db.put(b"x", b"to be flushed").unwrap();
    let other = db.clone();
    hooked.arm(Box::new(move || {
        let keyspace = other.default_keyspace();
        keyspace.put_with(b"a", b"before the ingest", &WriteOptions::sync()).unwrap();
        keyspace.ingest(&[&path], &IngestOptions::default()).unwrap();
    }));
    db.checkpoint("/copy").unwrap();
    let environment = Environment::manual(Arc::new(disk.clone()));
    let copy = Db::open_in(environment, "/copy", tiny_options()).unwrap();
    let (before, ingested) = (copy.get(b"a").unwrap(), copy.get(b"m").unwrap());
    assert!(before.is_some() || ingested.is_none(), "the later commit is there, the earlier not");
}

#[test]
fn what_a_range_deleted_stays_deleted_while_a_large_batch_comes_in() {
    // Guards: a range delete that nobody can see yet takes none away that readers see.
    let disk = SimDisk::new(1);
    let hooked = Hooked::new(&disk, is_new_manifest);
    let db = open_on(&hooked);
    let keyspace = db.default_keyspace().clone();
    db.put(b"k", b"old").unwrap();
    db.put(b"z", b"old").unwrap();
    db.flush().unwrap();
    keyspace.delete_range(&b"k"[..]..&b"l"[..]).unwrap();
    db.flush().unwrap();
    let mut batch = large_batch(&db);
    batch.delete_range(&keyspace, &b"k"[..]..&b"l"[..]).unwrap();
    // So much that the manifest is written anew between the change of the view and the new number.
    for i in 0..30u8 {
        let mut from = vec![b'p'; 60_000];
        from[1] = i;
        let mut to = from.clone();
        to.push(0);
        batch.delete_range(&keyspace, &from[..]..&to[..]).unwrap();
    }
    let seen = Arc::new(Mutex::new(None));
    let (other, saw) = (db.clone(), Arc::clone(&seen));
    hooked.arm(Box::new(move || {
        let now = other.get(b"k").unwrap().is_some();
        *saw.lock().unwrap() = Some((now, other.snapshot()));
    }));
    db.write(&batch, &WriteOptions::default()).unwrap();
    let (now, snapshot) = seen.lock().unwrap().take().expect("the manifest was written anew");
    let then = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
    let later = keyspace.get_with(b"k", &then).unwrap().is_some();
    assert_eq!((now, later), (false, false), "back for a reader, for a snapshot");
}

/// Closes the database in another thread, opens it again, writes `b` and closes it again. Returns when closing has begun.
fn close_and_open(db: &Db, disk: &SimDisk) -> JoinHandle<()> {
    let (closing, disk) = (db.clone(), disk.clone());
    let next = std::thread::spawn(move || {
        closing.close().unwrap();
        let next = open(&disk, &tiny_options()).unwrap();
        next.put(b"b", b"2").unwrap();
        next.flush().unwrap();
        next.close().unwrap();
    });
    while !matches!(db.put(b"more", b"1"), Err(Error::Closed)) {
        std::thread::yield_now();
    }
    next
}

/// Runs `work`, which makes tables in its own thread, while the database is closed and opened again at its first call that `when` picks.
fn outlive(when: fn(&str, &Path) -> bool, work: impl FnOnce(&Db, &SimDisk) -> Option<Error>) {
    let disk = SimDisk::new(1);
    let hooked = Hooked::new(&disk, when);
    let db = open_on(&hooked);
    db.put(b"a", b"1").unwrap();
    let (first, second, next) = (db.clone(), disk.clone(), Arc::new(Mutex::new(None)));
    let keep = Arc::clone(&next);
    hooked.arm(Box::new(move || {
        *keep.lock().unwrap() = Some(close_and_open(&first, &second));
    }));
    let error = work(&db, &disk);
    assert!(matches!(error, Some(Error::Closed)), "{error:?}");
    let next: JoinHandle<()> = next.lock().unwrap().take().unwrap();
    next.join().unwrap();
    let db = open(&disk, &tiny_options()).unwrap();
    assert!(db.get(b"a").unwrap().is_some() && db.get(b"b").unwrap().is_some());
}

#[test]
fn an_ingest_that_meets_closing_takes_nothing_from_the_next_opening() {
    // Guards: once `close` has returned, nobody of the old opening makes or removes files.
    outlive(is_link, |db, disk| {
        let paths: Vec<_> = (0..8u8).map(|i| sorted(disk, &i.to_string(), &[b'm', i])).collect();
        db.default_keyspace().ingest(&paths, &IngestOptions::default()).err()
    });
}

#[test]
fn a_large_batch_that_meets_closing_takes_nothing_from_the_next_opening() {
    // Guards: as above.
    outlive(is_new_table, |db, _| db.write(&large_batch(db), &WriteOptions::default()).err());
}

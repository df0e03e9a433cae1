//! What happens at the edges of the database's life: a disk that fills up, a handle used after `close`, a keyspace half made,
//! files whose checksums are right and whose contents are impossible.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{open, tiny_options};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use treering_lsm::base::clock::{Clock, ManualClock, SystemClock};
use treering_lsm::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX};
use treering_lsm::file::manifest::ManifestWriter;
use treering_lsm::file::wal::{LogStart, Wal, WalOptions};
use treering_lsm::format::batch::BatchBuilder;
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, VersionEdit};
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{Call, SimDisk};
use treering_lsm::{
    Background, Db, Durability, Environment, Error, KeyspaceOptions, Options, WriteBatch,
    WriteOptions,
};

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
}

fn long_key(round: u64, end: u8) -> Vec<u8> {
    let mut key = round.to_be_bytes().to_vec();
    key.resize(40_000, end);
    key
}

/// Writes and flushes entries with long keys: the manifest names them, grows, and is soon due to be written anew.
fn grow_manifest(db: &Db, round: u64) -> Result<(), Error> {
    db.default_keyspace().put_with(&long_key(round, b'a'), b"value", &WriteOptions::sync())?;
    db.default_keyspace().put_with(&long_key(round, b'z'), b"value", &WriteOptions::sync())
}

fn long_key_options() -> Options {
    let mut options = tiny_options();
    options.write_buffer_bytes = Some(1 << 20);
    options.default_keyspace = KeyspaceOptions::default();
    options.default_keyspace.level0_tables = 64;
    options
}

#[test]
fn a_manifest_that_may_be_in_force_is_never_written_past() {
    // CURRENT names the new manifest once it is renamed, durable or not: edits to the old one would be lost.
    let disk = SimDisk::new(1);
    let db = open(&disk, &long_key_options()).unwrap();
    let renamed = AtomicBool::new(false);
    let full = move |call, path: &Path| match call {
        Call::Rename => {
            renamed.store(true, Ordering::Relaxed);
            false
        }
        Call::SyncDirectory => renamed.load(Ordering::Relaxed),
        Call::SetSize => renamed.load(Ordering::Relaxed) && is_manifest(path),
        _ => false,
    };
    disk.fail_matching(full, libc::ENOSPC, false);
    let mut acknowledged = Vec::new();
    for round in 0..40 {
        if grow_manifest(&db, round).is_ok() {
            acknowledged.push(round);
        }
        if db.flush().is_err() {
            disk.clear_faults();
            let new_manifest = |call, path: &Path| call == Call::SetSize && is_manifest(path);
            disk.fail_matching(new_manifest, libc::ENOSPC, false);
            let _ = db.step();
        }
    }
    assert!(disk.fired() > 0);
    let after = disk.after_kill();
    drop(db);
    let db = open(&after, &long_key_options()).unwrap();
    for round in &acknowledged {
        assert!(db.get(&long_key(*round, b'z')).unwrap().is_some(), "round {round} is lost");
    }
}

#[test]
fn a_full_disk_under_a_manifest_rewrite_never_flushes_a_memtable_twice() {
    let disk = SimDisk::new(2);
    let db = open(&disk, &long_key_options()).unwrap();
    let new_manifest = |call, path: &Path| call == Call::SetSize && is_manifest(path);
    disk.fail_matching(new_manifest, libc::ENOSPC, false);
    for round in 0..30 {
        while grow_manifest(&db, round).and_then(|()| db.flush()).is_err() {
            db.step().unwrap();
        }
    }
    assert!(disk.fired() > 0);
    let tables: u64 = db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum();
    assert_eq!(tables, 30);
    let manifests = disk.list(Path::new("/db")).unwrap();
    let manifests = manifests.iter().filter(|name| is_manifest(Path::new(name))).count();
    assert_eq!(manifests, 1, "manifests that failed stay behind");
}

#[test]
fn a_full_disk_found_by_a_writer_is_forgotten_when_space_returns() {
    // All background threads sleep when the log cannot be written; somebody must look at the disk again.
    let disk = SimDisk::new(3);
    let mut options = tiny_options();
    options.write_buffer_bytes = Some(1 << 20);
    let mut environment = Environment::manual(Arc::new(disk.clone()));
    environment.clock = Arc::new(SystemClock::new());
    environment.background = Background::Threads;
    let db = Db::open_in(environment, "/db", options).unwrap();
    // Let them fall asleep.
    let clock = SystemClock::new();
    clock.sleep(Duration::from_millis(100));
    disk.set_free_bytes(Some(0));
    let refused = db.default_keyspace().put_with(b"key", b"value", &WriteOptions::sync());
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    disk.set_free_bytes(None);
    while let Err(error) = db.put(b"key", b"value") {
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        assert!(clock.now() < Duration::from_secs(20), "writes are still refused");
        clock.sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_batch_into_a_keyspace_half_made_is_never_applied_in_part() {
    let disk = SimDisk::new(4);
    let db = open(&disk, &tiny_options()).unwrap();
    // Making the memtable of the new keyspace needs a flush, and that fails.
    let tables =
        |call, path: &Path| call == Call::Open && path.extension().is_some_and(|e| e == "sst");
    disk.fail_matching(tables, libc::EIO, false);
    let mut number = 0u64;
    while db.put(&number.to_be_bytes(), &[7; 1000]).is_ok() {
        number += 1;
    }
    assert!(db.create_keyspace("new", tiny_options().default_keyspace).is_err());
    disk.clear_faults();
    if let Ok(new) = db.keyspace("new") {
        let mut batch = WriteBatch::new();
        batch.put(db.default_keyspace(), b"one", b"1").unwrap();
        batch.put(&new, b"two", b"2").unwrap();
        let written = db.write(&batch, &WriteOptions::default());
        let found = (db.get(b"one").unwrap().is_some(), new.get(b"two").unwrap().is_some());
        assert_eq!(found, (written.is_ok(), written.is_ok()), "{written:?}");
    }
    let new = db.create_keyspace("new", tiny_options().default_keyspace).unwrap();
    new.put(b"two", b"2").unwrap();
}

/// A clock at which one thread, once told so, waits in its next look until it is let go.
#[derive(Debug)]
struct Gate {
    inner: ManualClock,
    looks_left: AtomicU64,
    arrived: Sender<()>,
    go: parking_lot::Mutex<Receiver<()>>,
}

impl Clock for Gate {
    fn now(&self) -> Duration {
        let is_compactor = std::thread::current().name() == Some("compactor");
        if is_compactor && self.looks_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.arrived.send(()).unwrap();
            self.go.lock().recv().unwrap();
        }
        self.inner.now()
    }

    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

#[test]
fn a_compaction_in_a_callers_thread_never_outlives_close() {
    // After close another process may own the directory: an edit written or a table removed then would be its loss.
    let disk = SimDisk::new(5);
    let ((arrived, at_gate), (open_gate, go)) = (channel(), channel());
    let mut environment = Environment::manual(Arc::new(disk.clone()));
    // The second look at the clock comes between the merge and the manifest.
    let gate = Gate {
        inner: ManualClock::default(),
        looks_left: AtomicU64::new(2),
        arrived,
        go: parking_lot::Mutex::new(go),
    };
    environment.clock = Arc::new(gate);
    let db = Db::open_in(environment, "/db", tiny_options()).unwrap();
    for value in [b"1", b"2"] {
        db.put(b"key", value).unwrap();
        db.flush().unwrap();
    }
    let other = db.clone();
    let compactor = std::thread::Builder::new().name("compactor".into());
    let compactor = compactor.spawn(move || other.compact()).unwrap();
    at_gate.recv().unwrap();
    let (closed, is_closed) = channel();
    let counter = disk.clone();
    let closer = std::thread::spawn(move || {
        db.close().unwrap();
        closed.send(counter.io_count()).unwrap();
    });
    // Long enough for a close that does not wait; one that waits is let go by the gate.
    let early = is_closed.recv_timeout(Duration::from_millis(300));
    open_gate.send(()).unwrap();
    let _ = compactor.join().unwrap();
    let calls = early.or_else(|_| is_closed.recv()).unwrap();
    closer.join().unwrap();
    assert_eq!(disk.io_count(), calls, "the compaction went on after close");
}

#[test]
fn a_closed_database_touches_no_file_and_answers_closed() {
    let disk = SimDisk::new(6);
    let db = open(&disk, &tiny_options()).unwrap();
    let keyspace = db.default_keyspace().clone();
    for number in 0..40u64 {
        db.put(&number.to_be_bytes(), &[1; 500]).unwrap();
    }
    let other = db.clone();
    db.close().unwrap();
    let calls = disk.io_count();
    assert!(!matches!(other.step(), Ok(true)));
    assert!(matches!(other.put(b"k", b"v"), Err(Error::Closed)));
    assert!(matches!(other.flush(), Err(Error::Closed)));
    assert!(matches!(other.compact(), Err(Error::Closed)));
    assert!(matches!(keyspace.get(b"k"), Err(Error::Closed)));
    assert!(matches!(keyspace.multi_get(&[b"k"], &Default::default())[0], Err(Error::Closed)));
    let _ = other.wait_for_compactions();
    assert_eq!(disk.io_count(), calls);
}

/// A database of one run, closed, whose log holds a record of these operations on top.
fn with_record(sequence: u64, count: u32, batch: &[u8]) -> SimDisk {
    let disk = SimDisk::new(8);
    open(&disk, &tiny_options()).unwrap().close().unwrap();
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let options = WalOptions::for_write_buffer(16 << 10, Arc::new(ManualClock::default()));
    let start = LogStart { epoch: 1, lsn: 0 };
    let wal = Wal::create(&door, Path::new("/db"), options, start, &[]).unwrap();
    wal.append(sequence, count, &[batch]).unwrap();
    wal.close().unwrap();
    disk
}

#[test]
fn a_record_that_no_writer_makes_is_damage_and_never_a_panic() {
    let mut builder = BatchBuilder::new();
    builder.push_put(KeyspaceId(0), b"key", b"value").unwrap();
    let good = builder.bytes().to_vec();
    let db = open(&with_record(1, 1, &good), &tiny_options()).unwrap();
    assert_eq!(db.get(b"key").unwrap().as_deref(), Some(&b"value"[..]));
    let mut stranger = BatchBuilder::new();
    stranger.push_put(KeyspaceId(7), b"key", b"value").unwrap();
    let cases: [(u64, u32, &[u8]); 7] = [
        (1, 1, b"nonsense"),
        (1, 2, &good),
        (1, 0, &good),
        (0, 0, &[]),
        (u64::MAX, 1, &good),
        (SEQUENCE_MAX + 1, 1, &good),
        (1, 1, stranger.bytes()),
    ];
    for (sequence, count, batch) in cases {
        let opened = open(&with_record(sequence, count, batch), &tiny_options());
        let case = (sequence, count, batch.escape_ascii().to_string());
        assert!(matches!(opened, Err(Error::Corruption { .. })), "{case:?}: {opened:?}");
    }
}

#[test]
fn a_manifest_with_impossible_numbers_is_damage_and_never_a_panic() {
    let mark = |epoch, lsn| Some(LogMark { epoch, lsn });
    let info = |table_id| {
        let (smallest, largest) = (b"a".to_vec(), b"b".to_vec());
        TableInfo { table_id, smallest, largest, ..TableInfo::default() }
    };
    let edits = [
        VersionEdit { next_file: Some(u64::MAX), ..VersionEdit::default() },
        VersionEdit { last_sequence: Some(SEQUENCE_MAX + 1), ..VersionEdit::default() },
        VersionEdit { log: mark(u64::MAX, 0), ..VersionEdit::default() },
        VersionEdit { log: mark(1, u64::MAX), ..VersionEdit::default() },
        VersionEdit { promised: Some(u64::MAX), ..VersionEdit::default() },
        VersionEdit { added: vec![(KeyspaceId(0), 0, info(u64::MAX))], ..VersionEdit::default() },
        VersionEdit { added: vec![(KeyspaceId(u32::MAX), 0, info(1))], ..VersionEdit::default() },
        VersionEdit {
            added: vec![(KeyspaceId(0), 0, TableInfo { file_bytes: u64::MAX, ..info(1) })],
            ..VersionEdit::default()
        },
    ];
    for mut edit in edits {
        let disk = SimDisk::new(9);
        open(&disk, &tiny_options()).unwrap().close().unwrap();
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let options = tiny_options().default_keyspace;
        edit.keyspaces =
            vec![KeyspaceRecord { id: KeyspaceId(0), name: "default".into(), options }];
        ManifestWriter::create(&door, Path::new("/db"), FileNumber(900), &edit).unwrap();
        let opened = open(&disk, &tiny_options());
        assert!(matches!(opened, Err(Error::Corruption { .. })), "{edit:?}: {opened:?}");
    }
}

#[test]
fn the_largest_options_overflow_nothing() {
    let disk = SimDisk::new(7);
    let mut options = tiny_options();
    options.default_keyspace.level_base_bytes = u64::MAX;
    options.memory_limit = u64::MAX;
    let db = open(&disk, &options).unwrap();
    db.put(b"k", b"v").unwrap();
    db.compact().unwrap();
    let durability = Some(Durability::None);
    db.default_keyspace().put_with(b"k", b"w", &WriteOptions { durability }).unwrap();
    db.compact().unwrap();
}

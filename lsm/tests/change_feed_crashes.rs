//! The change feed where something went wrong before it was asked: it yields every commit or says that it cannot, and tells of none that is not there.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test, with threads of its own"
)]

mod common;

use common::{open, tiny_options};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
use treering_lsm::{
    Db, Durability, Environment, Error, IngestOptions, Options, ReadOptions, Result, WriteBatch,
    WriteOptions,
};

/// Options with a change log that keeps everything.
fn followed() -> Options {
    let mut options = tiny_options();
    options.change_log_bytes = 1 << 30;
    options
}

fn unlogged() -> WriteOptions {
    WriteOptions { durability: Some(Durability::None) }
}

/// A file for an ingest, with one key.
fn sorted(disk: &SimDisk, key: &[u8]) -> Vec<PathBuf> {
    let environment = Environment::manual(Arc::new(disk.clone()));
    let other = Db::open_in(environment, "/other", tiny_options()).unwrap();
    other.put(key, b"ingested").unwrap();
    let files = other.default_keyspace().export(.., "/files", &ReadOptions::default()).unwrap();
    files.into_iter().map(|file| file.path).collect()
}

/// First and last number of every commit that the feed yields after a number.
fn told(db: &Db, after: u64) -> Result<Vec<(u64, u64)>> {
    let mut feed = db.changes(after)?;
    let mut found = Vec::new();
    while let Some(set) = feed.next()? {
        found.push((set.first(), set.last()));
    }
    Ok(found)
}

fn assert_gone(db: &Db, after: u64) {
    let found = told(db, after);
    assert!(matches!(found, Err(Error::ChangesGone { .. })), "{found:?}");
}

fn change_files(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(Path::new("/db")).unwrap();
    names.retain(|name| name.ends_with(".chg"));
    names
}

fn is_change_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "chg")
}

#[test]
fn a_run_without_the_log_is_never_passed_over() {
    // Guards: files that were to be removed and are still there do not count.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    let after = db.snapshot().sequence();
    db.put(b"b", b"1").unwrap();
    db.close().unwrap();
    let db = open(&disk, &tiny_options()).unwrap();
    // The removal does not survive.
    let image = disk.after_power_cut(1, LossModel::DropAll);
    drop(db);
    let db = open(&image, &followed()).unwrap();
    assert!(db.get(b"b").unwrap().is_some());
    db.put(b"c", b"1").unwrap();
    assert_gone(&db, after);
}

#[test]
fn a_run_without_the_log_that_could_not_remove_files_is_never_passed_over() {
    // Guards: as above, with commits that are in tables.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    let after = db.snapshot().sequence();
    db.close().unwrap();
    let removal = |call, path: &Path| call == Call::Remove && is_change_file(path);
    disk.fail_matching(removal, libc::EIO, false);
    let db = open(&disk, &tiny_options()).unwrap();
    db.put(b"b", b"1").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    disk.clear_faults();
    let db = open(&disk, &followed()).unwrap();
    db.put(b"c", b"1").unwrap();
    assert_gone(&db, after);
}

#[test]
fn an_ingest_of_a_run_without_the_log_is_no_crash() {
    // Guards: a hole between records of the log may be what is in no log.
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    let paths = sorted(&disk, b"m");
    db.put(b"a", b"1").unwrap();
    let after = db.snapshot().sequence();
    db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
    db.put(b"z", b"1").unwrap();
    db.close().unwrap();
    let db = open(&disk, &followed()).unwrap();
    assert!(db.get(b"m").unwrap().is_some());
    db.put(b"more", b"1").unwrap();
    assert_gone(&db, after);
}

#[test]
fn a_large_batch_of_a_run_without_the_log_is_no_crash() {
    // Guards: as above, where it is the last commit.
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    db.put(b"a", b"1").unwrap();
    let after = db.snapshot().sequence();
    let mut batch = WriteBatch::new();
    for n in 0..30u8 {
        batch.put(db.default_keyspace(), &[b'm', n], &[7; 2000]).unwrap();
    }
    db.write(&batch, &WriteOptions::default()).unwrap();
    db.close().unwrap();
    let db = open(&disk, &followed()).unwrap();
    db.put(b"z", b"1").unwrap();
    assert_gone(&db, after);
}

#[test]
fn a_damaged_file_of_an_ingest_is_no_crash() {
    // Guards: what a change file said and says no more is gone, not lost.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    let paths = sorted(&disk, b"m");
    db.put(b"a", b"1").unwrap();
    let after = db.snapshot().sequence();
    db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
    db.put(b"z", b"1").unwrap();
    let disk = disk.after_kill();
    let ingested = format!("/db/{:06}.chg", after + 1);
    disk.flip_bit(Path::new(&ingested), 8 * 9).unwrap();
    let db = open(&disk, &followed()).unwrap();
    assert!(db.get(b"m").unwrap().is_some());
    assert_gone(&db, after);
}

#[test]
fn no_commit_is_told_whose_flush_and_log_a_crash_has_taken() {
    // Guards: an ingest that comes before the flush of an older generation does not make a file of that flush count.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    let paths = sorted(&disk, b"m");
    db.default_keyspace().put_with(b"a", b"1", &unlogged()).unwrap();
    db.put(b"b", b"1").unwrap();
    db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
    let is_manifest = |path: &Path| path.to_string_lossy().contains("MANIFEST");
    disk.fail_matching(
        move |call, path| call == Call::Write && is_manifest(path),
        libc::EIO,
        false,
    );
    let _it_may_have_nothing_to_flush = db.flush();
    let disk = disk.after_kill();
    let db = open(&disk, &followed()).unwrap();
    let is_told = told(&db, 0).unwrap().iter().any(|(first, _)| *first == 1);
    assert_eq!(is_told, db.get(b"a").unwrap().is_some());
}

#[test]
fn an_ingest_that_failed_leaves_no_hole_in_the_feed() {
    // Guards: its number is told as void, also after the next opening.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    let paths = sorted(&disk, b"m");
    db.put(b"a", b"1").unwrap();
    let after = db.snapshot().sequence();
    let full = |call, path: &Path| call == Call::Write && path.to_string_lossy().contains(".chg");
    // The flush before the ingest writes the first one.
    db.flush().unwrap();
    disk.fail_matching(full, libc::ENOSPC, true);
    db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap_err();
    disk.clear_faults();
    db.default_keyspace().ingest(&paths, &IngestOptions::default()).unwrap();
    db.put(b"z", b"1").unwrap();
    db.flush().unwrap();
    let before = told(&db, after).unwrap();
    assert_eq!(before.len(), 2);
    db.close().unwrap();
    let db = open(&disk, &followed()).unwrap();
    assert_eq!(told(&db, after).unwrap(), before);
}

#[test]
fn closing_wakes_a_feed_that_waits() {
    // Guards: whoever waits for the next commit learns that there will be none. Without it this test would take an hour.
    let home = tempfile::tempdir().unwrap();
    let mut options = followed();
    options.memory_limit = 8 << 20;
    let db = Db::open(home.path().join("db"), options).unwrap();
    let mut feed = db.changes(0).unwrap();
    let waiter = std::thread::spawn(move || feed.wait(Duration::from_secs(3600)).map(drop));
    db.close().unwrap();
    assert!(matches!(waiter.join().unwrap(), Err(Error::Closed)));
}

#[test]
fn a_reader_of_a_new_checkpoint_keeps_writers_out() {
    // Guards: read-only opening takes the lock also where nobody has opened the database before.
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.checkpoint("/copy").unwrap();
    let environment = || Environment::manual(Arc::new(disk.clone()));
    let reader = Db::open_read_only_in(environment(), "/copy", tiny_options()).unwrap();
    let writer = Db::open_in(environment(), "/copy", tiny_options());
    assert!(matches!(writer, Err(Error::Locked { .. })));
    drop(reader);
    Db::open_in(environment(), "/copy", tiny_options()).unwrap();
}

#[test]
fn a_change_file_that_cannot_be_read_keeps_no_database_from_opening() {
    // Guards: the change log is beside the data, not part of it.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    db.close().unwrap();
    assert!(!change_files(&disk).is_empty());
    let read = |call, path: &Path| call == Call::Read && is_change_file(path);
    disk.fail_matching(read, libc::EIO, false);
    for options in [followed(), tiny_options()] {
        assert!(open(&disk, &options).unwrap().get(b"a").unwrap().is_some());
    }
}

#[test]
fn a_number_that_was_told_is_never_given_to_another_commit() {
    // Guards: a follower who has seen all there is, and more than is left, is told so and misses nothing.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.default_keyspace().put_with(b"a", b"1", &WriteOptions::sync()).unwrap();
    let kept = db.snapshot().sequence();
    db.default_keyspace().put_with(b"n", b"1", &unlogged()).unwrap();
    let seen = told(&db, kept).unwrap()[0].1;
    db.close().unwrap();
    let db = open(&disk, &followed()).unwrap();
    assert!(db.get(b"n").unwrap().is_none());
    db.put(b"other", b"1").unwrap();
    assert_gone(&db, seen);
    assert_eq!(told(&db, kept).unwrap().len(), 1, "who has seen only what is left goes on");
}

#[test]
fn who_saw_a_commit_that_a_crash_took_is_told_so() {
    // Guards: as above, where later commits survive.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.default_keyspace().put_with(b"phantom", b"1", &unlogged()).unwrap();
    let seen = db.snapshot().sequence();
    db.put(b"c", b"1").unwrap();
    let db = open(&disk.after_kill(), &followed()).unwrap();
    assert!(db.get(b"phantom").unwrap().is_none());
    assert_gone(&db, seen);
    assert_eq!(told(&db, seen - 1).unwrap().len(), 1);
}

#[test]
fn a_copy_made_after_a_crash_can_follow() {
    // Guards: the number of a checkpoint is always one that a feed can begin after.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.default_keyspace().put_with(b"phantom", b"1", &unlogged()).unwrap();
    let db = open(&disk.after_kill(), &followed()).unwrap();
    let after = db.checkpoint("/copy").unwrap();
    db.put(b"b", b"1").unwrap();
    assert_eq!(told(&db, after).unwrap().len(), 1);
}

#[test]
fn a_sync_commit_that_failed_is_not_passed_over() {
    // Guards: the feed tells of commits when readers see them, which may be before they are durable.
    let disk = SimDisk::new(1);
    let db = open(&disk, &followed()).unwrap();
    db.default_keyspace().put_with(b"a", b"1", &WriteOptions::sync()).unwrap();
    let kept = db.snapshot().sequence();
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "wal");
    let to_log = move |call, path: &Path| matches!(call, Call::Write | Call::Sync) && is_log(path);
    disk.fail_matching(to_log, libc::EIO, false);
    db.default_keyspace().put_with(b"b", b"1", &WriteOptions::sync()).unwrap_err();
    let seen = db.changes(kept).unwrap().next().unwrap().unwrap().last();
    let db = open(&disk.after_power_cut(1, LossModel::DropAll), &followed()).unwrap();
    for key in [b"x", b"y"] {
        db.default_keyspace().put_with(key, b"1", &WriteOptions::sync()).unwrap();
    }
    assert!(db.get(b"b").unwrap().is_none());
    assert_gone(&db, seen);
}

#[test]
fn a_checkpoint_that_met_a_full_disk_can_be_made_again() {
    // Guards: what was made is removed, the half-made CURRENT included.
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    db.put(b"a", b"1").unwrap();
    db.flush().unwrap();
    let full =
        |call, path: &Path| call == Call::Write && path.to_string_lossy().contains("/copy/CURRENT");
    disk.fail_matching(full, libc::ENOSPC, true);
    db.checkpoint("/copy").unwrap_err();
    disk.clear_faults();
    db.checkpoint("/copy").unwrap();
}

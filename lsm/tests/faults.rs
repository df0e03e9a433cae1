//! A full disk, a sync that fails, and errors under real files: what was acknowledged stays, what fails says so. Errors at
//! every I/O are row 5 of the scoreboard (`fuzz/hunt`).

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::world::{History, check_prefix, contents, work};
use common::{Chance, open, other_options, tiny_options};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::io::Disk;
use treering_lsm::io::fault::FaultDisk;
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::sim::{Call, Fault, LossModel, SimDisk};
use treering_lsm::io::uring::UringDisk;
use treering_lsm::{Db, Durability, Environment, Error, WriteOptions};

const EIO: i32 = 5;

fn fresh(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let db = open(&disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    db.close().unwrap();
    disk
}

/// Real files behind `FaultDisk`: opens, works with a fault at I/O `index`, and opens again without. False if nothing fired.
fn run_on_real_files(inner: &Arc<dyn Disk>, directory: &Path, index: u64, fault: Fault) -> bool {
    let place = format!("{} {fault:?} at {index}", inner.name());
    let disk = Arc::new(FaultDisk::new(inner.clone(), index));
    let open = || Db::open_in(Environment::manual(disk.clone()), directory, tiny_options());
    let db = open().unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    db.close().unwrap();
    let mut history = History::default();
    // Few calls of so small a world can be shortened; so all that can are, from there on.
    disk.fail_at(disk.io_count() + index, fault, fault != Fault::Short);
    if let Ok(db) = open() {
        let result = work(&db, &mut Chance(index), &mut history, 120);
        disk.clear_faults();
        if disk.fired() == 0 {
            result.unwrap_or_else(|error| panic!("{place}: {error} without a fault"));
        }
        check_prefix(&format!("{place}, open"), &contents(&db), &history, history.acknowledged);
    }
    assert_eq!(disk.syncs_after_failure(), 0, "{place}: a failed sync was tried again");
    disk.clear_faults();
    let db = open().unwrap_or_else(|error| panic!("{place}: {error}"));
    check_prefix(&format!("{place}, again"), &contents(&db), &history, history.acknowledged);
    disk.fired() > 0
}

#[test]
fn a_fault_anywhere_under_real_files_loses_nothing_acknowledged() {
    let mut disks: Vec<Arc<dyn Disk>> = vec![Arc::new(PosixDisk::new())];
    match UringDisk::probe() {
        Ok(disk) => disks.push(Arc::new(disk)),
        Err(error) => eprintln!("not run on uring: {error}"),
    }
    for (number, inner) in disks.iter().enumerate() {
        let faults = [Fault::Error(EIO), Fault::Short, Fault::Error(libc::ECANCELED)];
        for (kind, fault) in faults.into_iter().enumerate() {
            let mut fired = 0;
            for index in (0..400).step_by(31).map(|index| index + (number * 3 + kind) as u64) {
                let directory = tempfile::tempdir().unwrap();
                let hit = run_on_real_files(inner, directory.path(), index, fault);
                fired += u32::from(hit);
            }
            assert!(fired > 5, "{}: only {fired} runs with {fault:?}", inner.name());
        }
    }
}

#[test]
fn a_failed_sync_poisons_and_reads_go_on() {
    let disk = fresh(6);
    let db = open(&disk, &tiny_options()).unwrap();
    let keyspace = db.default_keyspace();
    keyspace.put_with(b"safe", b"1", &WriteOptions::sync()).unwrap();
    disk.fail_matching(
        |call, path| {
            matches!(call, Call::Sync | Call::WriteDurable)
                && path.to_string_lossy().ends_with(".wal")
        },
        Fault::Error(EIO),
        true,
    );
    let failed = keyspace.put_with(b"lost", b"2", &WriteOptions::sync());
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    let syncs_before = disk.io_count();
    for durability in [Durability::Sync, Durability::Buffered, Durability::None] {
        let refused =
            keyspace.put_with(b"later", b"3", &WriteOptions { durability: Some(durability) });
        assert!(matches!(refused, Err(Error::Poisoned { .. })), "{refused:?}");
    }
    assert_eq!(disk.io_count(), syncs_before, "a poisoned database leaves the device alone");
    assert_eq!(keyspace.get(b"safe").unwrap().unwrap(), b"1");
    assert!(db.flush().is_err());
    let closed = db.close();
    assert!(matches!(closed, Err(Error::Poisoned { .. })), "not everything is durable: {closed:?}");
    let db = open(&disk.after_power_cut(1, LossModel::DropAll), &tiny_options()).unwrap();
    assert_eq!(db.get(b"safe").unwrap().unwrap(), b"1");
    assert!(db.get(b"later").unwrap().is_none());
}

fn fill(db: &Db, from: u64) -> (u64, Error) {
    for number in from..from + 100_000 {
        let options = WriteOptions { durability: Some(Durability::Buffered) };
        let value = vec![b'v'; 200];
        if let Err(error) = db.default_keyspace().put_with(&number.to_be_bytes(), &value, &options)
        {
            return (number, error);
        }
    }
    panic!("the disk never filled");
}

#[test]
fn writing_resumes_by_itself_when_space_returns() {
    let disk = fresh(7);
    let db = open(&disk, &tiny_options()).unwrap();
    let mut written = 0;
    for cycle in 0..20 {
        disk.set_free_bytes(Some(100_000 + cycle * 3_000));
        let (count, error) = fill(&db, written);
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
        written = count;
        // Full: reads go on, background work does not spoil anything.
        assert!(written == 0 || db.get(&(written - 1).to_be_bytes()).unwrap().is_some());
        let _ = db.step();
        disk.set_free_bytes(None);
        let mut steps = 0;
        while db.put(&written.to_be_bytes(), b"again").is_err() {
            let _ = db.step();
            steps += 1;
            assert!(steps < 100, "cycle {cycle}: does not resume");
        }
        written += 1;
    }
    db.verify().unwrap();
    drop(db);
    let db = open(&disk.after_kill(), &tiny_options()).unwrap();
    for number in 0..written {
        assert!(
            db.get(&number.to_be_bytes()).unwrap().is_some(),
            "write {number} of {written} is gone"
        );
    }
}

/// A disk with a database that was killed with most of its 300 commits in the log only.
fn killed(options: &treering_lsm::Options) -> SimDisk {
    let disk = SimDisk::new(8);
    let db = open(&disk, options).unwrap();
    for number in 0..300u64 {
        db.put(&number.to_be_bytes(), &[b'v'; 100]).unwrap();
    }
    disk.after_kill()
}

fn assert_all_there(db: &Db) {
    for number in 0..300u64 {
        assert_eq!(db.get(&number.to_be_bytes()).unwrap().unwrap(), [b'v'; 100], "{number}");
    }
    db.verify().unwrap();
}

/// Guards: what a kill leaves is read twice before its end is believed, so one wrong bit is survived, or it is called damage; it
/// never ends the log.
#[test]
fn a_bit_that_is_read_wrong_once_does_not_end_the_log() {
    let options = tiny_options();
    let disk = killed(&options);
    let mut survived = 0;
    for draw in 0..60u64 {
        let image = disk.after_kill();
        // Each call of the disk draws; so another bit is hit each time.
        (0..draw).for_each(|_| drop(image.list(Path::new("/db"))));
        let reads = std::sync::atomic::AtomicU64::new(0);
        image.fail_matching(
            move |call, path| {
                let name = path.to_string_lossy();
                let of_log = name.ends_with("RING") || name.ends_with(".wal");
                let count = || reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                call == Call::Read && of_log && count() == draw % 4
            },
            Fault::Flip,
            true,
        );
        match open(&image, &options) {
            Ok(db) => assert_all_there(&db),
            Err(error) => assert!(matches!(error, Error::Corruption { .. }), "{error}"),
        }
        survived += image.fired();
    }
    assert!(survived >= 30, "{survived} flips");
}

/// Guards: a database that was killed while the disk was filling opens with the help of its reserve.
#[test]
fn a_full_disk_is_no_reason_not_to_open() {
    let mut options = tiny_options();
    options.write_buffer_bytes = Some(512 << 10);
    let disk = killed(&options);
    disk.set_free_bytes(Some(0));
    assert_all_there(&open(&disk, &options).unwrap());
}

/// Guards: an open that fails for want of space leaves the directory as it was, so that it can be tried for ever, and works once
/// there is some.
#[test]
fn an_open_that_is_refused_for_space_leaves_nothing_behind() {
    let mut refused = 0;
    for free in (0..).step_by(700) {
        let disk = killed(&tiny_options());
        let directory = std::path::Path::new("/db");
        disk.remove(&directory.join("BALLAST")).unwrap();
        disk.set_free_bytes(Some(free));
        let before = (disk.list(directory).unwrap(), disk.free_bytes(directory).unwrap());
        match open(&disk, &tiny_options()) {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, Error::NoSpace { .. }), "{free}: {error}"),
        }
        refused += 1;
        let after = (disk.list(directory).unwrap(), disk.free_bytes(directory).unwrap());
        assert_eq!(after, before, "{free} bytes free");
        disk.set_free_bytes(None);
        assert_all_there(&open(&disk, &tiny_options()).unwrap());
    }
    assert!(refused > 10, "refused {refused} times");
}

/// Closing answers the same to everybody who asks, and a full disk gets the reserve before it is told.
#[test]
fn whoever_closes_is_told_how_it_went() {
    let disk = fresh(8);
    let db = open(&disk, &tiny_options()).unwrap();
    let other = db.clone();
    let is_log = |path: &std::path::Path| path.extension().is_some_and(|name| name == "wal");
    db.put(b"key", b"value").unwrap();
    disk.fail_matching(
        move |call, path| matches!(call, Call::Sync | Call::WriteDurable) && is_log(path),
        EIO,
        true,
    );
    let first = db.close();
    assert!(matches!(first, Err(Error::Io { .. })), "{first:?}");
    let second = other.close();
    assert!(matches!(second, Err(Error::Io { .. })), "{second:?}");

    let disk = fresh(9);
    let mut options = tiny_options();
    options.write_buffer_bytes = Some(256 << 10);
    let db = open(&disk, &options).unwrap();
    db.put(b"key", b"value").unwrap();
    disk.set_free_bytes(Some(0));
    db.close().unwrap();
    assert!(disk.fired() > 0, "the disk was full");
    let db = open(&disk.after_power_cut(1, LossModel::DropAll), &tiny_options()).unwrap();
    assert_eq!(db.get(b"key").unwrap().unwrap(), b"value");
}

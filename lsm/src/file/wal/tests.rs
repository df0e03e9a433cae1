//! The log on real files, with real threads, and its edges.

use super::log::{LOG_HEADER_BYTES, SegmentHeader};
use super::*;
use crate::base::clock::{ManualClock, SystemClock};
use crate::file::name;
use crate::io::posix::PosixDisk;
use crate::io::sim::SimDisk;
use crate::io::{OpenMode, write_full};
use std::collections::BTreeMap;

const START: LogStart = LogStart { epoch: 1, lsn: 0 };

fn options(segment_bytes: u64) -> WalOptions {
    let clock = Arc::new(SystemClock::new());
    WalOptions { segment_bytes, ..WalOptions::for_write_buffer(1 << 20, clock) }
}

fn records(disk: &Arc<dyn Disk>, directory: &Path) -> (BTreeMap<u64, Vec<u8>>, Recovered) {
    let mut records = BTreeMap::new();
    let found = recover(disk, directory, START, 0, &mut |sequence, _, batch| {
        assert!(records.insert(sequence, batch.to_vec()).is_none(), "{sequence} comes twice");
        Ok(())
    });
    (records, found.unwrap())
}

#[test]
fn every_thread_finds_its_records_after_recovery() {
    // Guards: appends under a commit lock, with syncs and drains from all sides, lose and mix up nothing.
    const THREADS: u64 = 8;
    const RECORDS: u64 = 300;
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(PosixDisk::new());
    let wal = Wal::create(&disk, directory.path(), options(256 << 10), START, &[]).unwrap();
    assert!(wal.stats().shared_ring);
    let commit = Mutex::new(0u64);
    let running = AtomicU64::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (wal, commit, running) = (&wal, &commit, &running);
            scope.spawn(move || {
                for number in 0..RECORDS {
                    let batch = vec![thread as u8; (number * 37 % 3000) as usize];
                    let end = {
                        let mut sequence = commit.lock();
                        *sequence += 1;
                        if number % 50 == thread {
                            wal.rotate().unwrap();
                        }
                        wal.append(*sequence, 1, &[&number.to_le_bytes(), &batch]).unwrap()
                    };
                    if (number + thread) % 3 > 0 {
                        wal.sync(end).unwrap();
                        assert!(wal.durable_lsn() >= end);
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        scope.spawn(|| {
            while running.load(Ordering::SeqCst) > 0 {
                wal.drain().unwrap();
                std::thread::yield_now();
            }
        });
    });
    let (found, recovered) = records(&disk, directory.path());
    assert_eq!(recovered.end_lsn, wal.appended_lsn());
    assert_eq!(found.len() as u64, THREADS * RECORDS);
    let mut next = [0; THREADS as usize];
    for batch in found.values() {
        let (number, rest) = batch.split_first_chunk::<8>().unwrap();
        let number = u64::from_le_bytes(*number);
        assert_eq!(rest.len() as u64, number * 37 % 3000);
        if let Some(&thread) = rest.first() {
            assert!(rest.iter().all(|&byte| byte == thread));
            assert!(next[usize::from(thread)] <= number);
            next[usize::from(thread)] = number + 1;
        }
    }
    assert!(wal.stats().syncs < THREADS * RECORDS, "nothing was grouped");
    wal.close().unwrap();
    assert!(matches!(wal.append(1, 1, &[]), Err(Error::Closed)));
    wal.close().unwrap();
}

#[test]
fn a_record_of_many_segments_comes_back() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let directory = Path::new("db");
    disk.create_directory(directory).unwrap();
    let wal = Wal::create(&disk, directory, options(256 << 10), START, &[]).unwrap();
    let value: Vec<u8> = (0..64u32 << 20).map(|n| (n ^ n >> 11) as u8).collect();
    wal.append(1, 1, &[b"before"]).unwrap();
    wal.append(2, 1, &[b"head", &value]).unwrap();
    let end = wal.append(3, 1, &[b"after"]).unwrap();
    wal.sync(end).unwrap();
    let (found, recovered) = records(&disk, directory);
    assert_eq!(recovered.records, 3);
    assert!(found[&2][4..] == value && found[&2][..4] == *b"head");
    assert_eq!((&found[&1][..], &found[&3][..]), (&b"before"[..], &b"after"[..]));
}

#[test]
fn released_segments_are_reused_and_few_are_kept() {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim);
    let directory = Path::new("db");
    disk.create_directory(directory).unwrap();
    let files = || {
        let names = disk.list(directory).unwrap();
        names.iter().filter(|text| text.ends_with(".wal")).count()
    };
    let wal = Wal::create(&disk, directory, options(256 << 10), START, &[]).unwrap();
    for round in 0..50 {
        for _ in 0..20 {
            wal.append(round, 1, &[&[7; 10_000]]).unwrap();
        }
        let start = wal.rotate().unwrap();
        wal.drain().unwrap();
        wal.release(start);
        assert!(files() <= 3, "{} files in round {round}", files());
    }
    assert_eq!(wal.rotate().unwrap(), wal.rotate().unwrap(), "an empty segment is not rotated");
    assert_eq!(wal.stats().segments, 1);
    // A later run takes over what it finds and removes the rest.
    for round in 0..100 {
        wal.append(round, 1, &[&[7; 10_000]]).unwrap();
    }
    wal.close().unwrap();
    let found = recover(&disk, directory, START, 0, &mut |_, _, _| Ok(()));
    // The log's start is released, so nothing is found there; the slots are all that counts here.
    let slots = found.map(|found| found.slots).unwrap_or_else(|_| (1..100).collect());
    let slots: Vec<u64> = slots
        .into_iter()
        .filter(|&slot| disk.open(&name::wal(directory, slot), OpenMode::READ).is_ok())
        .collect();
    assert!(slots.len() > 3);
    let start = LogStart { epoch: 2, lsn: wal.appended_lsn() };
    drop(wal);
    let _next = Wal::create(&disk, directory, options(256 << 10), start, &slots).unwrap();
    assert_eq!(files(), 2);
}

#[test]
fn a_log_of_a_newer_release_is_refused() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let directory = Path::new("db");
    disk.create_directory(directory).unwrap();
    let header = SegmentHeader { epoch: 9, slot: 1, ordinal: 0, base: 0, capacity: 256 << 10 };
    let mut block = header.encode();
    block[8..12].copy_from_slice(&99u32.to_le_bytes());
    block[12..16].fill(0);
    let crc = crate::base::checksum::context_checksum(1, 0, &block);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    let file = disk.open(&name::wal(directory, 1), OpenMode::CREATE).unwrap();
    write_full(&*file, 0, &block, false).unwrap();
    let found = recover(&disk, directory, START, 0, &mut |_, _, _| Ok(()));
    assert!(matches!(found, Err(Error::NewerFormat { found: 99, .. })), "{found:?}");
}

#[test]
fn syncs_find_space_that_was_written_before() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let directory = Path::new("db");
    disk.create_directory(directory).unwrap();
    let size = |slot| {
        let file = disk.open(&name::wal(directory, slot), OpenMode::READ);
        file.and_then(|file| file.size()).unwrap_or(0)
    };
    let full = LOG_HEADER_BYTES as u64 + (256 << 10);
    let wal = Wal::create(&disk, directory, options(256 << 10), START, &[]).unwrap();
    wal.append(1, 1, &[&[7; 100_000]]).unwrap();
    wal.drain().unwrap();
    assert!(size(1) < full, "nobody asked for a sync yet");
    wal.sync(wal.appended_lsn()).unwrap();
    assert!(wal.wants_drain());
    wal.drain().unwrap();
    assert_eq!((size(1), size(2)), (full, 0));
    wal.sync(wal.append(2, 1, &[&[7; 100_000]]).unwrap()).unwrap();
    wal.drain().unwrap();
    assert_eq!((size(1), size(2)), (full, full), "a spare is ready before the segment is full");
    assert!(!wal.wants_drain());
}

#[test]
fn options_that_cannot_work_are_refused() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    disk.create_directory(Path::new("db")).unwrap();
    let good = WalOptions::for_write_buffer(16 << 10, Arc::new(ManualClock::default()));
    for (ring_bytes, segment_bytes) in
        [(64 << 10, 1 << 20), (130 << 10, 1 << 20), (128 << 10, 0), (128 << 10, 40_000)]
    {
        let options = WalOptions { ring_bytes, segment_bytes, ..good.clone() };
        let made = Wal::create(&disk, Path::new("db"), options, START, &[]);
        assert!(matches!(made, Err(Error::InvalidOption { .. })));
    }
    Wal::create(&disk, Path::new("db"), good, START, &[]).unwrap();
}

#[test]
fn a_log_that_was_given_up_touches_no_file_again() {
    // Guards: a caller who still waits to sync when the database is closed must not write into files that the next opening has.
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let directory = Path::new("/db");
    shared.create_directory(directory).unwrap();
    let wal = Wal::create(&shared, directory, options(256 << 10), START, &[]).unwrap();
    let end = wal.append(1, 1, &[b"late"]).unwrap();
    wal.abandon();
    let before = (disk.io_count(), disk.fingerprint());
    assert!(matches!(wal.sync(end), Err(Error::Closed)));
    assert!(wal.drain().is_err() && wal.append(2, 1, &[b"later"]).is_err());
    assert_eq!((disk.io_count(), disk.fingerprint()), before);
}

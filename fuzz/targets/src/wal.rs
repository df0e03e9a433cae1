//! The replay of the log from segments and ring.
//!
//! ```text
//! input:  mode u8 │ epoch u8 │ first frame u8 │ promised u16 (in 64 bytes) │ archive        odd modes repair the checksums
//! ```
//!
//! Promise: any files give records in order and an end, or an error that names a file; the same again when read again, for nothing
//! on disk is changed. Memory: the ring, a window of a segment and the longest record.

use crate::archive::{DIRECTORY, Files, disk_of, files_of, pack, unpack};
use crate::input::Input;
use crate::{Target, repair, samples};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::clock::ManualClock;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::wal::{LogStart, Recovered, Wal, WalOptions, recover};
use treering_lsm::format::batch::BatchReader;
use treering_lsm::format::log::FRAME_BYTES;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Error, Result};

pub(crate) const TARGET: Target = Target {
    name: "wal",
    promise: "any segments and ring give records and an end, or an error that names a file, the same each time",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let epoch = u64::from(input.u8());
    let start = LogStart { epoch, lsn: u64::from(input.u8()) * FRAME_BYTES as u64 };
    let promised = match input.u16() {
        0 => 0,
        number => start.lsn + u64::from(number) * 64,
    };
    let mut files = unpack(&mut input);
    if !mode.is_multiple_of(2) {
        repair_log(&mut files, start);
    }
    let disk = disk_of(&files);
    let first = replay(&disk, start, promised);
    assert_eq!(files_of(&disk), files, "recovery changes nothing");
    let second = replay(&disk, start, promised);
    match (&first, &second) {
        (Ok(first), Ok(second)) => assert_eq!(first, second),
        (Err(first), Err(second)) => assert_eq!(first.to_string(), second.to_string()),
        other => panic!("two recoveries differ: {other:?}"),
    }
    match first {
        Ok((found, _)) => {
            assert!(found.end_lsn >= start.lsn && found.max_lsn >= found.end_lsn);
            assert!(found.max_lsn >= promised);
        }
        Err(Error::Corruption { path, detail, .. }) => {
            assert!(path.starts_with(DIRECTORY) && !detail.is_empty());
        }
        Err(Error::NewerFormat { path, .. }) => assert!(path.starts_with(DIRECTORY)),
        Err(other) => panic!("not an error for damage: {other}"),
    }
}

fn repair_log(files: &mut Files, start: LogStart) {
    for (name, bytes) in files {
        match name::parse(name) {
            Some(FileKind::Wal(slot)) => repair::segment(bytes, slot),
            Some(FileKind::Ring) => repair::ring(bytes, start.lsn),
            _ => {}
        }
    }
}

/// Sequence, count and batch bytes of a record.
type Record = (u64, u32, usize);

/// What recovery found, and its records.
fn replay(disk: &SimDisk, start: LogStart, promised: u64) -> Result<(Recovered, Vec<Record>)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut records = Vec::new();
    let apply = &mut |sequence: u64, count: u32, batch: &[u8]| {
        BatchReader::new(batch, count).for_each(drop);
        records.push((sequence, count, batch.len()));
        Ok(())
    };
    let found = recover(&disk, Path::new(DIRECTORY), start, promised, apply)?;
    assert_eq!(found.records, records.len() as u64);
    assert_eq!(found.bytes, records.iter().map(|record| record.2 as u64).sum::<u64>());
    Ok((found, records))
}

/// A log of records of these lengths, drained and synced now and then.
fn log(start: LogStart, lengths: &[usize]) -> Files {
    let disk = SimDisk::new(1);
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let directory = Path::new(DIRECTORY);
    let expected = "a new disk takes everything";
    disk.create_directory(directory).expect(expected);
    let options = WalOptions {
        ring_bytes: 128 << 10,
        segment_bytes: 64 << 10,
        spare_slots: 1,
        clock: Arc::new(ManualClock::default()),
    };
    let wal = Wal::create(&handle, directory, options, start, &[]).expect(expected);
    for (number, &length) in lengths.iter().enumerate() {
        let batch = vec![number as u8; length];
        let end = wal.append(number as u64 + 1, 1, &[&batch]).expect(expected);
        match number % 4 {
            1 => wal.sync(end).expect(expected),
            3 => wal.drain().expect(expected),
            _ => {}
        }
    }
    files_of(&disk.after_kill())
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (frame, lengths) in
        [(0, &[10, 20, 30][..]), (1, &[10, 1000, 20, 40, 900]), (2, &[34_000, 10, 300, 10, 20, 7])]
    {
        let start = LogStart { epoch: 3, lsn: u64::from(frame) * FRAME_BYTES as u64 };
        let mut files = log(start, lengths);
        for mode in [0, 1] {
            seeds.push([&[mode, 3, frame, 0, 0][..], &pack(&files)].concat());
        }
        files.remove(name::RING);
        seeds.push([&[1, 3, frame, 1, 0][..], &pack(&files)].concat());
    }
    let mut files = samples::database(12, false);
    files.retain(|name, _| name == name::RING || name.ends_with(".wal"));
    seeds.push([&[1, 1, 0, 0, 0][..], &pack(&files)].concat());
    seeds
}

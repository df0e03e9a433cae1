//! A change file.
//!
//! ```text
//! input:  mode u8 │ first sequence number u64, that of its name │ the bytes of the file        odd modes repair the checksums
//! ```
//!
//! Promise: any bytes give frames or an error that names the file, and change nothing. Frames that were read up to the end are read
//! back the same after they have been written again. What a frame says is whole, or refused. Memory: the file.

use crate::archive::{DIRECTORY, Files, disk_of, files_of};
use crate::input::Input;
use crate::{Target, repair};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::key::{KeyspaceId, SEQUENCE_MAX};
use treering_lsm::file::change_file::{ChangeReader, write};
use treering_lsm::file::name;
use treering_lsm::format::batch::{BatchBuilder, BatchReader};
use treering_lsm::format::change::{FrameHead, FrameKind, put_ingested, take_ingested};
use treering_lsm::io::{Disk, read_whole};
use treering_lsm::{Error, Result};

pub(crate) const TARGET: Target = Target {
    name: "changes",
    promise: "any change file gives frames that are the same written again, or an error that names the file",
    run,
    seeds,
};

type Frames = Vec<(FrameHead, Vec<u8>)>;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let first = input.u64() & SEQUENCE_MAX;
    let mut bytes = input.rest().to_vec();
    if !mode.is_multiple_of(2) {
        repair::changes(&mut bytes);
    }
    let name = name::changes(Path::new(""), first).to_string_lossy().into_owned();
    let files = Files::from([(name, bytes)]);
    let disk = disk_of(&files);
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let outcome = frames(&handle, first);
    assert_eq!(files_of(&disk), files, "reading changes nothing");
    match outcome {
        Ok(frames) => check(&frames),
        Err(Error::Corruption { path, detail, .. }) => {
            assert!(path.starts_with(DIRECTORY) && !detail.is_empty());
        }
        Err(Error::NewerFormat { path, .. }) => assert!(path.starts_with(DIRECTORY)),
        Err(other) => panic!("not an error for damage: {other}"),
    }
}

fn frames(disk: &Arc<dyn Disk>, first: u64) -> Result<Frames> {
    let mut reader = ChangeReader::open(disk, Path::new(DIRECTORY), first)?;
    assert!(reader.last() <= SEQUENCE_MAX);
    let mut frames = Frames::new();
    while let Some((head, payload)) = reader.next_frame()? {
        assert_eq!(head.length as usize, payload.len());
        frames.push((head, payload.to_vec()));
    }
    Ok(frames)
}

fn check(read: &Frames) {
    for (head, payload) in read {
        assert!(head.last() <= SEQUENCE_MAX);
        match head.kind {
            FrameKind::Batch => {
                let whole = BatchReader::new(payload, head.count).all(|item| item.is_ok());
                let told = BatchReader::new(payload, head.count).take_while(|item| item.is_ok());
                assert!(!whole || told.count() == head.count as usize);
            }
            FrameKind::Ingest => {
                let mut rest = &payload[..];
                while !rest.is_empty() {
                    let before = rest.len();
                    if take_ingested(&mut rest).is_none() {
                        break;
                    }
                    assert!(rest.len() < before, "what is taken is shorter");
                }
            }
            FrameKind::Lost | FrameKind::Void => {}
            FrameKind::End => panic!("the end is not handed out"),
        }
    }
    let Some((head, _)) = read.first() else { return };
    let disk: Arc<dyn Disk> = Arc::new(disk_of(&Files::new()));
    let again = read.iter().map(|(head, payload)| (*head, &payload[..]));
    write(&disk, Path::new(DIRECTORY), again).expect("a new disk takes everything");
    let again = frames(&disk, head.sequence).expect("what was just written is good");
    assert_eq!(again, *read);
}

/// A file with these frames.
fn file(frames: &[(FrameKind, u64, u32, &[u8])]) -> Vec<u8> {
    let disk: Arc<dyn Disk> = Arc::new(disk_of(&Files::new()));
    let head = |kind, sequence, count, payload: &[u8]| FrameHead {
        kind,
        sequence,
        count,
        length: payload.len() as u32,
    };
    let frames =
        frames.iter().map(|&(kind, at, count, bytes)| (head(kind, at, count, bytes), bytes));
    let first = frames.clone().next().map_or(0, |(head, _)| head.sequence);
    write(&disk, Path::new(DIRECTORY), frames).expect("a new disk takes everything");
    let path = name::changes(Path::new(DIRECTORY), first);
    read_whole(&*disk, &path, u64::MAX).expect("the file was just written")
}

fn seeds() -> Vec<Vec<u8>> {
    let mut batch = BatchBuilder::new();
    batch.push_put(KeyspaceId(0), b"oak", b"600 years").expect("short");
    batch.push_delete(KeyspaceId(1), b"yew").expect("short");
    batch.push_merge(KeyspaceId(0), b"count", &[1]).expect("short");
    batch.push_delete_range(KeyspaceId(1), b"a", b"b").expect("short");
    let mut ingested = Vec::new();
    put_ingested(&mut ingested, KeyspaceId(0), b"ash", b"elm");
    put_ingested(&mut ingested, KeyspaceId(1), b"", b"z");
    let (batch, nothing) = (batch.bytes(), &[][..]);
    let files = [
        (7, file(&[(FrameKind::Batch, 7, 4, batch)])),
        (
            100,
            file(&[
                (FrameKind::Lost, 100, 20, nothing),
                (FrameKind::Batch, 120, 4, batch),
                (FrameKind::Ingest, 124, 1, &ingested),
                (FrameKind::Batch, 125, 4, batch),
            ]),
        ),
        (1, file(&[(FrameKind::Ingest, 1, 1, &ingested)])),
    ];
    let mut seeds = Vec::new();
    for (first, bytes) in files {
        for mode in [0, 1] {
            let input = |bytes: &[u8]| [&[mode][..], &u64::to_le_bytes(first), bytes].concat();
            seeds.push(input(&bytes));
            seeds.push(input(&bytes[..bytes.len() - 5]));
        }
    }
    seeds
}

//! Reads the log for a person: every record with its place, the holes, and where and why the log ends.
//!
//! [`recover`](super::recover) gives the records to the next run, and is an error where something promised is missing. This one goes the
//! same way through the same files and says what it saw, so that a tool can show a damaged log and repair can take from it
//! what it still holds. It can begin at any segment: a log whose manifest is lost has no known start.
//!
//! Where nothing validates, the walk goes on at the next frame, up to the last place where a byte of the run may stand. What
//! lies between is a hole: damage, or a segment that was released and used again.
//!
//! Promise: nothing on disk is changed.

use super::{
    Assembler, FRAGMENT_HEADER_BYTES, FragmentKind, Lsn, Record, Source, frame_ceil, frame_left,
};
use crate::base::error::Result;
use crate::file::wal::LogStart;
use crate::io::Disk;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A record, and where it begins.
#[derive(Clone, Copy, Debug)]
pub struct WalkedRecord<'a> {
    /// LSN of its first fragment.
    pub lsn: Lsn,
    /// Sequence number of its first operation.
    pub sequence: u64,
    /// Number of operations.
    pub count: u32,
    /// The encoded operations.
    pub batch: &'a [u8],
}

/// A place in the log where nothing validates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gap {
    /// From the first byte that does not validate to the next one that does.
    pub lsns: Range<Lsn>,
    /// The file in which it begins, or should.
    pub path: PathBuf,
    /// Offset in that file.
    pub offset: u64,
    /// What validates but cannot be, if that is why it begins.
    pub impossible: Option<&'static str>,
}

/// What a walk has seen.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Holes with something valid behind.
    pub holes: Vec<Gap>,
    /// From where on nothing validates.
    pub end: Gap,
    /// Everything below this was acknowledged as durable; something is lost if the log ends before, or has a hole.
    pub promised: Lsn,
    /// The last record was not finished.
    pub unfinished: bool,
}

/// Walks the log from `start` and gives each record, in order, to `visit`.
///
/// # Errors
/// [`Error::Corruption`](crate::Error::Corruption) only for files of a later run than `start`; other damage is a hole.
/// [`Error::NewerFormat`](crate::Error::NewerFormat), [`Error::Io`](crate::Error::Io), and what `visit` returns.
pub fn walk(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    start: LogStart,
    visit: &mut dyn FnMut(WalkedRecord<'_>) -> Result<()>,
) -> Result<Walked> {
    let mut source = Source::open(&**disk, directory, start.epoch)?;
    let mut lsn = frame_ceil(start.lsn);
    let bound = source.bound(lsn);
    let mut promised = source.promise;
    let mut assembler = Assembler::default();
    let mut holes: Vec<Gap> = Vec::new();
    let mut gap: Option<Gap> = None;
    let (mut begins, mut began_at) = (true, lsn);
    loop {
        if frame_left(lsn) < FRAGMENT_HEADER_BYTES {
            lsn = frame_ceil(lsn);
        }
        let Some(hit) = source.find(lsn)? else {
            gap.get_or_insert_with(|| gap_at(&source, lsn, begins, None));
            lsn = frame_ceil(lsn + 1);
            if lsn >= bound {
                break;
            }
            continue;
        };
        let fragment = source.fragment(&hit);
        let (kind, bytes) = (fragment.kind, fragment.total_bytes() as u64);
        promised = promised.max(fragment.promise().unwrap_or(0));
        if let Some(mut over) = gap.take() {
            over.lsns.end = lsn;
            holes.push(over);
            // The record that was being put together ends in the hole.
            hand_on(assembler.settle(None), began_at, visit)?;
            assembler = Assembler::default();
        }
        let is_part = matches!(kind, FragmentKind::Middle | FragmentKind::Last);
        let behind_hole = holes.last().is_some_and(|hole| hole.lsns.end > began_at);
        if !(is_part && behind_hole && !assembler.is_open()) {
            hand_on(assembler.settle(Some(kind)), began_at, visit)?;
            if let Err(detail) = assembler.push(fragment) {
                gap = Some(gap_at(&source, lsn, begins, Some(detail)));
                lsn = frame_ceil(lsn + 1);
                continue;
            }
        }
        if matches!(kind, FragmentKind::Full | FragmentKind::First) {
            began_at = lsn;
        }
        lsn += bytes;
        begins = kind == FragmentKind::Seal;
        if begins {
            lsn = frame_ceil(lsn);
        }
    }
    hand_on(assembler.settle(None), began_at, visit)?;
    let end = gap.unwrap_or_else(|| gap_at(&source, lsn, begins, None));
    // Marks that stand behind damage in their frame are found at any byte.
    let first = holes.first().unwrap_or(&end).lsns.start;
    promised = promised.max(source.search_behind(first, bound)?.promise);
    Ok(Walked { holes, end, promised, unfinished: assembler.is_open() })
}

fn gap_at(source: &Source, lsn: Lsn, begins: bool, impossible: Option<&'static str>) -> Gap {
    let place = source.place(lsn, begins);
    Gap { lsns: lsn..lsn, path: place.path, offset: place.offset, impossible }
}

/// A record that is shorter than its header was written by nobody: there is nothing in it to hand on.
fn hand_on(
    record: std::result::Result<Option<Record<'_>>, &'static str>,
    lsn: Lsn,
    visit: &mut dyn FnMut(WalkedRecord<'_>) -> Result<()>,
) -> Result<()> {
    match record {
        Ok(Some(Record { sequence, count, batch })) => {
            visit(WalkedRecord { lsn, sequence, count, batch })
        }
        _ => Ok(()),
    }
}

//! Makes the checksums of changed bytes right again, so that a fuzzer gets behind them.
//!
//! Nothing else is made right: lengths, offsets, counts and versions stay as the fuzzer left them. Bytes that are too wrong for
//! their checksums to be found are left alone.

use crate::archive::Files;
use std::ops::Range;
use std::sync::Arc;
use treering_lsm::base::checksum::{context_checksum, extend};
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::manifest::{HEADER_BYTES, RECORD_HEADER_BYTES};
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::format::block::frame::TRAILER_BYTES;
use treering_lsm::format::change;
use treering_lsm::format::edit::{LogMark, VersionEdit};
use treering_lsm::format::footer::FOOTER_BYTES;
use treering_lsm::format::index::Index;
use treering_lsm::format::log::{
    FRAGMENT_HEADER_BYTES, FRAME_BYTES, FragmentKind, LOG_HEADER_BYTES, PROMISE_BYTES,
    PROMISE_OFFSET, decode_fragment, encode_promise, frame_left, seal_fragment,
};
use treering_lsm::io::AlignedBuffer;

/// Earlier laps of a ring whose fragments are known for dead.
const LAPS_MAX: u64 = 16;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// Repairs a table footer that is to stand at `offset` of its file.
pub fn footer(footer: &mut [u8], offset: u64) {
    if footer.len() >= FOOTER_BYTES {
        let crc = context_checksum(u64_at(footer, 16), offset, &footer[..60]);
        put(footer, 60, crc);
    }
}

/// Repairs the frame in `range` of a table's file.
fn frame(table: &mut [u8], table_id: u64, range: Range<usize>) {
    if range.len() >= TRAILER_BYTES && range.end <= table.len() {
        let covered = range.start..range.end - 4;
        let crc = context_checksum(table_id, range.start as u64, &table[covered.clone()]);
        put(table, covered.end, crc);
    }
}

/// The places that the index in the frame at `range` names; none where it is not an index.
fn handles(table: &[u8], range: Range<usize>) -> Vec<Range<usize>> {
    let payload = range.start..range.end.saturating_sub(TRAILER_BYTES);
    let Some(payload) = table.get(payload) else { return Vec::new() };
    let bytes = Arc::new(AlignedBuffer::copy_of(payload));
    let all = 0..payload.len();
    let Ok(index) = Index::parse(bytes, all, 0..table.len() as u64) else { return Vec::new() };
    let place = |i| {
        let handle = index.handle(i);
        handle.offset as usize..handle.end() as usize
    };
    (0..index.count()).map(place).collect()
}

/// Repairs the footer, all frames that it names, and all blocks that the index names.
pub fn table(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    footer(&mut bytes[at..], at as u64);
    let table_id = u64_at(bytes, at + 16);
    let part = |bytes: &[u8], field: usize| {
        let start = u32_at(bytes, at + field) as usize;
        start..start + u32_at(bytes, at + field + 4) as usize
    };
    for field in [24, 32, 40] {
        let range = part(bytes, field);
        frame(bytes, table_id, range);
    }
    let mut blocks = handles(bytes, part(bytes, 32));
    if u32_at(bytes, at + 12) == 2 {
        let partitions = std::mem::take(&mut blocks);
        for partition in partitions {
            frame(bytes, table_id, partition.clone());
            blocks.extend(handles(bytes, partition));
        }
    }
    for block in blocks {
        frame(bytes, table_id, block);
    }
}

/// Repairs the header and the chain of records of manifest `number`.
pub fn manifest(bytes: &mut [u8], number: FileNumber) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let crc = context_checksum(number.0, 0, &bytes[..24]);
    put(bytes, 24, crc);
    let mut at = HEADER_BYTES;
    while let Some(end) = record_end(bytes, at) {
        let crc = context_checksum(number.0, at as u64, &bytes[at + 4..end]);
        put(bytes, at, crc);
        at = end;
    }
}

fn record_end(bytes: &[u8], at: usize) -> Option<usize> {
    let end = at.checked_add(RECORD_HEADER_BYTES)?;
    bytes.get(at..end)?;
    let end = end.checked_add(u32_at(bytes, at + 4) as usize)?;
    (end <= bytes.len()).then_some(end)
}

/// Repairs the line in CURRENT.
pub fn current(bytes: &mut Vec<u8>) {
    let marker = b" crc32c=";
    if let Some(at) = bytes.windows(marker.len()).position(|window| window == marker) {
        let crc = extend(0, &bytes[..at]);
        bytes.truncate(at);
        bytes.extend_from_slice(format!(" crc32c={crc:08x}\n").as_bytes());
    }
}

/// Repairs the header block of a segment or ring; `owner` is the slot, 0 for a ring.
pub fn log_header(block: &mut [u8], owner: u64) {
    let Some(block) = block.first_chunk_mut::<LOG_HEADER_BYTES>() else { return };
    let mut copy = *block;
    copy[12..16].fill(0);
    copy[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES].fill(0);
    put(block, 12, context_checksum(owner, 0, &copy));
}

/// Repairs the chain of fragments in `bytes`, which begin at `lsn`, a frame's start.
pub fn fragments(bytes: &mut [u8], epoch: u64, lsn: u64) {
    chain(bytes, epoch, lsn, None);
}

/// In a ring, a fragment of an earlier lap is dead and stays so: `lap` is the ring's length.
fn chain(bytes: &mut [u8], epoch: u64, mut lsn: u64, lap: Option<u64>) {
    let start = lsn;
    loop {
        let at = (lsn - start) as usize;
        let left = frame_left(lsn);
        if left < FRAGMENT_HEADER_BYTES {
            lsn += left as u64;
            continue;
        }
        let Some(header) = bytes.get(at..at + FRAGMENT_HEADER_BYTES) else { return };
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let end = at + FRAGMENT_HEADER_BYTES + length;
        let Some(kind) = kind_of(header[6]) else { return };
        if FRAGMENT_HEADER_BYTES + length > left || end > bytes.len() {
            return;
        }
        let before = |laps: u64| lap.and_then(|lap| lsn.checked_sub(lap.checked_mul(laps)?));
        let is_of = |lsn: u64| decode_fragment(epoch, lsn, &bytes[at..end]).is_some();
        if (1..=LAPS_MAX).filter_map(before).any(is_of) {
            return;
        }
        seal_fragment(epoch, lsn, kind, &mut bytes[at..end]);
        lsn += (end - at) as u64;
        if kind == FragmentKind::Seal {
            lsn = lsn.next_multiple_of(FRAME_BYTES as u64);
        }
    }
}

pub(crate) fn kind_of(byte: u8) -> Option<FragmentKind> {
    use FragmentKind::{Cancel, First, Full, Last, Middle, Seal, SyncMark};
    [Full, First, Middle, Last, SyncMark, Seal, Cancel].into_iter().find(|kind| *kind as u8 == byte)
}

/// Repairs the header of segment `slot` and its fragments.
pub fn segment(bytes: &mut [u8], slot: u64) {
    log_header(bytes, slot);
    let (epoch, base) = (u64_at(bytes, 16), u64_at(bytes, 40));
    let aligned = base.is_multiple_of(FRAME_BYTES as u64) && base < 1 << 62;
    if let Some(log) = bytes.get_mut(LOG_HEADER_BYTES..)
        && aligned
    {
        fragments(log, epoch, base);
    }
}

/// Repairs the header of a ring, its promise, and the fragments from `start` (a frame's LSN) on, one lap of them.
pub fn ring(bytes: &mut [u8], start: u64) {
    log_header(bytes, 0);
    let (epoch, capacity) = (u64_at(bytes, 16), u64_at(bytes, 48));
    let Some((header, log)) = bytes.split_at_mut_checked(LOG_HEADER_BYTES) else { return };
    let promise = u64_at(header, PROMISE_OFFSET);
    if promise != 0 {
        header[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES]
            .copy_from_slice(&encode_promise(epoch, promise));
    }
    if capacity == 0
        || capacity > log.len() as u64
        || !capacity.is_multiple_of(FRAME_BYTES as u64)
        || !start.is_multiple_of(FRAME_BYTES as u64)
    {
        return;
    }
    // One lap in the order of the log: the ring turned so that it begins at `start`.
    let log = &mut log[..capacity as usize];
    let turn = (start % capacity) as usize;
    log.rotate_left(turn);
    chain(log, epoch, start, Some(capacity));
    log.rotate_right(turn);
}

/// Repairs the header of a change file, its end, and the chain of frames.
pub fn changes(bytes: &mut [u8]) {
    let Some(header) = bytes.get(..24) else { return };
    let first = u64_at(header, 16);
    let crc = context_checksum(first, 0, header);
    put(bytes, 24, crc);
    let seal = |bytes: &mut [u8], at: usize, end: usize| {
        let crc = context_checksum(first, at as u64, &bytes[at + 4..end]);
        put(bytes, at, crc);
    };
    let frame_end = |bytes: &[u8], at: usize| {
        let payload = at.checked_add(change::FRAME_HEADER_BYTES)?;
        let end = payload.checked_add(u32_at(bytes, at + 4) as usize)?;
        (end <= bytes.len()).then_some(end)
    };
    if let Some(at) = bytes.len().checked_sub(change::FRAME_HEADER_BYTES) {
        let end = bytes.len();
        seal(bytes, at, end);
    }
    let mut at = change::HEADER_BYTES;
    while let Some(end) = frame_end(bytes, at) {
        seal(bytes, at, end);
        at = end;
    }
}

/// Repairs every file of a database that has checksums.
pub(crate) fn files(files: &mut Files) {
    for (name, bytes) in files.iter_mut() {
        match name::parse(name) {
            Some(FileKind::Current) => current(bytes),
            Some(FileKind::Manifest(number)) => manifest(bytes, number),
            Some(FileKind::Table(_)) => table(bytes),
            Some(FileKind::Wal(slot)) => segment(bytes, slot),
            Some(FileKind::Changes(_)) => changes(bytes),
            _ => {}
        }
    }
    let start = log_start(files).lsn.next_multiple_of(FRAME_BYTES as u64);
    if let Some(bytes) = files.get_mut(name::RING) {
        ring(bytes, start);
    }
}

/// Where the manifests say that the log begins.
fn log_start(files: &Files) -> LogMark {
    let mut mark = LogMark::default();
    for (_, bytes) in files.iter().filter(|(name, _)| name.starts_with("MANIFEST-")) {
        let mut at = HEADER_BYTES;
        while let Some(end) = record_end(bytes, at) {
            let edit = VersionEdit::decode(&bytes[at + RECORD_HEADER_BYTES..end]);
            mark = edit.ok().and_then(|edit| edit.log).unwrap_or(mark);
            at = end;
        }
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    /// A repair that changed good bytes would hide what the engine does with them.
    #[test]
    fn good_files_are_left_as_they_are() {
        for close in [true, false] {
            let good = samples::database(30, close);
            let mut repaired = good.clone();
            files(&mut repaired);
            for (name, bytes) in &good {
                let at = bytes.iter().zip(&repaired[name]).position(|(good, found)| good != found);
                assert_eq!(at, None, "{name}, closed {close}");
            }
        }
    }

    /// A repair that repairs nothing would keep the fuzzer out.
    #[test]
    fn changed_files_pass_their_checksums_again() {
        let good = samples::database(30, true);
        let (name, table_bytes) = good.iter().find(|(name, _)| name.ends_with(".sst")).unwrap();
        let mut bytes = table_bytes.clone();
        bytes[5] ^= 1;
        let changed = bytes.clone();
        table(&mut bytes);
        assert_ne!(bytes, changed, "{name}");
        let mut text = good["CURRENT"].clone();
        text[9] ^= 1;
        let changed = text.clone();
        current(&mut text);
        assert_ne!(text, changed);
        assert_eq!(text.len(), changed.len());
    }
}

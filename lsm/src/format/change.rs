//! The bytes of a change file: the commits of one flushed generation, in their order, kept for whoever follows the database.
//!
//! ```text
//! header  32 bytes: | magic "TRCHANGE" | version u32 | 0 u32 | first sequence u64 | crc u32 | 0 u32 |
//! frame ...:        | crc u32 | length u32 | kind u8 | sequence u64 | count u32 | payload, `length` bytes |
//! ```
//! Kind 1, a batch: `count` operations from `sequence` on, as in the log. Kind 2, an ingest at `sequence` (count 1): for each file its keyspace
//! (varint), smallest and largest key (prefixed). Kind 4, lost (no payload): `count` numbers from `sequence` on were given out and then taken back by a
//! crash: there are no such commits. Kind 5, void (no payload): the same of numbers that no commit ever had. Kind 3, the end (no payload): `sequence` is the last one in the file, `count` the frames before.
//! Checksums are made with the first sequence number of the file and the offset; a frame's covers all of it behind the checksum.

use crate::base::checksum::{context_checksum, context_seed, extend};
use crate::base::coding::{put_prefixed, put_varint, take_prefixed, take_varint32};
use crate::base::key::{KeyspaceId, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{BATCH_BYTES_MAX, FORMAT_VERSION};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: usize = 21;
/// Longest payload: a batch, or what an ingest says of very many files.
pub const PAYLOAD_BYTES_MAX: usize = BATCH_BYTES_MAX + (1 << 20);

const MAGIC: [u8; 8] = *b"TRCHANGE";

/// What a frame holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FrameKind {
    /// The operations of a commit.
    Batch = 1,
    /// What an ingest brought.
    Ingest = 2,
    /// Nothing comes behind it.
    End = 3,
    /// Numbers whose commits a crash has taken back.
    Lost = 4,
    /// Numbers that no commit ever had: an expiry took them, or an ingest that failed.
    Void = 5,
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHead {
    /// What it holds.
    pub kind: FrameKind,
    /// First sequence number, but of an end.
    pub sequence: SequenceNumber,
    /// How many sequence numbers, but of an end.
    pub count: u32,
    /// Bytes of the payload.
    pub length: u32,
}

impl FrameHead {
    /// The last sequence number.
    pub fn last(&self) -> SequenceNumber {
        self.sequence + u64::from(self.count.max(1)) - 1
    }
}

/// Why bytes are not a change file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ChangeDamage {
    /// What was expected and found.
    Damaged(String),
    /// Written by a later release.
    Newer(u32),
}

/// The header of a file that begins with `first`.
pub fn header(first: SequenceNumber) -> [u8; HEADER_BYTES] {
    let mut out = [0; HEADER_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&first.to_le_bytes());
    let crc = context_checksum(first, 0, &out[..24]);
    out[24..28].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads a header: the first sequence number.
///
/// # Errors
/// [`ChangeDamage`].
pub fn read_header(bytes: &[u8; HEADER_BYTES]) -> Result<SequenceNumber, ChangeDamage> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let first = u64::from(word(16)) | u64::from(word(20)) << 32;
    if bytes[..8] != MAGIC || word(24) != context_checksum(first, 0, &bytes[..24]) {
        return Err(ChangeDamage::Damaged("the header of a change file is damaged".to_owned()));
    }
    match word(8) {
        version if version > FORMAT_VERSION => Err(ChangeDamage::Newer(version)),
        _ if bytes[12..16] != [0; 4] || bytes[28..] != [0; 4] => {
            Err(ChangeDamage::Damaged("reserved bytes of the header are not zero".to_owned()))
        }
        _ => Ok(first),
    }
}

/// The head of a frame, for the file that begins with `first`, at `offset`.
pub fn frame_head(
    first: SequenceNumber,
    offset: u64,
    head: FrameHead,
    payload: &[u8],
) -> [u8; FRAME_HEADER_BYTES] {
    let mut out = [0; FRAME_HEADER_BYTES];
    out[4..8].copy_from_slice(&head.length.to_le_bytes());
    out[8] = head.kind as u8;
    out[9..17].copy_from_slice(&head.sequence.to_le_bytes());
    out[17..].copy_from_slice(&head.count.to_le_bytes());
    let crc = extend(extend(context_seed(first, offset), &out[4..]), payload);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Reads the head of a frame; its checksum is [`check_frame`]'s.
///
/// # Errors
/// What was expected and found.
pub fn read_frame_head(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHead, String> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let kind = match bytes[8] {
        1 => FrameKind::Batch,
        2 => FrameKind::Ingest,
        3 => FrameKind::End,
        4 => FrameKind::Lost,
        5 => FrameKind::Void,
        other => return Err(format!("a frame of kind {other}")),
    };
    let sequence = u64::from(word(9)) | u64::from(word(13)) << 32;
    let head = FrameHead { kind, sequence, count: word(17), length: word(4) };
    let too_long = head.length as usize > PAYLOAD_BYTES_MAX;
    if too_long || sequence > SEQUENCE_MAX - u64::from(head.count) {
        return Err(format!("a frame of {} bytes at sequence number {sequence}", head.length));
    }
    Ok(head)
}

/// True if a frame is what was written at `offset` of the file that begins with `first`.
pub fn check_frame(
    first: SequenceNumber,
    offset: u64,
    head: &[u8; FRAME_HEADER_BYTES],
    payload: &[u8],
) -> bool {
    let crc = extend(extend(context_seed(first, offset), &head[4..]), payload);
    head[..4] == crc.to_le_bytes()
}

/// Adds what an ingest says of one file.
pub fn put_ingested(out: &mut Vec<u8>, keyspace: KeyspaceId, smallest: &[u8], largest: &[u8]) {
    put_varint(out, u64::from(keyspace.0));
    put_prefixed(out, smallest);
    put_prefixed(out, largest);
}

/// Takes what an ingest says of one file: keyspace, smallest and largest key.
pub fn take_ingested<'a>(input: &mut &'a [u8]) -> Option<(KeyspaceId, &'a [u8], &'a [u8])> {
    Some((KeyspaceId(take_varint32(input)?), take_prefixed(input)?, take_prefixed(input)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_and_a_flipped_bit_is_seen() {
        let head = header(77);
        assert_eq!(read_header(&head), Ok(77));
        for bit in 0..HEADER_BYTES * 8 {
            let mut damaged = head;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read_header(&damaged).is_err(), "bit {bit}");
        }
        let mut newer = head;
        newer[8..12].copy_from_slice(&9u32.to_le_bytes());
        let crc = context_checksum(77, 0, &newer[..24]);
        newer[24..28].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(read_header(&newer), Err(ChangeDamage::Newer(9)));

        let told = FrameHead { kind: FrameKind::Batch, sequence: 80, count: 3, length: 4 };
        let frame = frame_head(77, 32, told, b"abcd");
        assert_eq!((read_frame_head(&frame), told.last()), (Ok(told), 82));
        assert!(check_frame(77, 32, &frame, b"abcd"));
        assert!(!check_frame(78, 32, &frame, b"abcd") && !check_frame(77, 33, &frame, b"abcd"));
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut damaged = frame;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!check_frame(77, 32, &damaged, b"abcd"), "bit {bit}");
        }
    }
}

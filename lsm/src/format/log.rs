//! The bytes of the write-ahead log (WAL): frames, fragments, and the headers of segment and ring files.
//!
//! The log is one stream of bytes addressed by LSN. It is cut into frames of 32 KiB at the multiples of 32 KiB, and a
//! record into fragments that never cross a frame, so that damage costs at most what stands in its frame and a reader
//! finds its feet at the next.
//!
//! ```text
//! fragment:  crc u32 │ length u16 │ type u8 │ payload (length bytes)
//!            crc covers the context (epoch, LSN of the fragment), then length, type and payload
//!
//! type       payload
//! 1 Full     a whole record
//! 2 First    │ 3 Middle │ 4 Last: parts of a record
//! 5 SyncMark durable LSN u64: everything below it was on stable storage before this fragment was written
//! 6 Seal     nothing; the rest of the frame is unused, the next frame opens a new segment
//! 7 Cancel   nothing; the record before it was refused to its writer and does not count
//!
//! record:    sequence u64 │ count u32 │ batch (format::batch)
//! frame:     fragments, then fewer than 7 zero bytes (or zeros to its end after a Seal)
//! ```
//!
//! Why the context: segments and the ring are reused in place. Epoch (raised at each open) and LSN (never reused inside
//! an epoch) are in every checksum, so bytes of an earlier run, an earlier lap or another file never validate, and one
//! LSN of one epoch has one content wherever it is found.
//!
//! A record that its writer could not finish leaves First and Middle fragments that no Last follows; the next
//! contiguous Full or First replaces them.
//!
//! ```text
//! segment file:  header block (4096) │ frames from `base` on:  offset = 4096 + (LSN - base)
//!   magic "TRWALSEG" │ version u32 │ crc u32 │ epoch u64 │ slot u64 │ ordinal u64 │ base u64 │ capacity u64 │ zeros
//! ring file:     header block (4096) │ `capacity` bytes:       offset = 4096 + LSN % capacity
//!   magic "TRWALRNG" │ version u32 │ crc u32 │ epoch u64 │ 0 u64 │ 0 u64 │ 0 u64 │ capacity u64 │ zeros
//!   at 512: promise = durable LSN u64 │ crc u32 over the context (epoch, LSN) and nothing else
//! ```
//! The crc of a header covers the whole block but the promise, with zeros in its own place, in the context (slot, 0).
//! All of a header that is not zero stands in its first 512 bytes, so that a torn write of it is old or new.

use crate::base::checksum::context_checksum;
use crate::base::coding::{take_u32, take_u64};
use crate::base::limits::{BATCH_BYTES_MAX, FORMAT_VERSION, IO_ALIGN};
use crate::base::planted::{Bug, planted};

/// Position in the log, in bytes; only grows over the life of a database.
pub type Lsn = u64;

/// No log gets this far (a century at a gigabyte a second is 2^62 bytes); larger ones are damage.
pub const LSN_MAX: Lsn = 1 << 62;

/// Bytes of a frame; fragments never cross one.
pub const FRAME_BYTES: usize = 32 << 10;
/// Bytes before a fragment's payload.
pub const FRAGMENT_HEADER_BYTES: usize = 7;
/// Bytes of a record before its batch: sequence and count.
pub const RECORD_HEADER_BYTES: usize = 12;
/// Longest record.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + BATCH_BYTES_MAX;
/// Payload of a [`FragmentKind::SyncMark`].
pub const SYNC_MARK_BYTES: usize = 8;
/// Bytes of the header block of a segment or ring file.
pub const LOG_HEADER_BYTES: usize = IO_ALIGN;
/// Offset of the promise in the header block of the ring file.
pub const PROMISE_OFFSET: usize = 512;
/// Bytes of the promise.
pub const PROMISE_BYTES: usize = 12;

const SEGMENT_MAGIC: &[u8; 8] = b"TRWALSEG";
const RING_MAGIC: &[u8; 8] = b"TRWALRNG";

const _: () = assert!(FRAME_BYTES.is_multiple_of(IO_ALIGN) && FRAME_BYTES <= u16::MAX as usize + 1);

/// What a fragment is. The discriminants are on disk; 0 is nothing, as in zeroed space.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum FragmentKind {
    /// A whole record.
    Full = 1,
    /// The beginning of a record.
    First = 2,
    /// A middle part of a record.
    Middle = 3,
    /// The end of a record.
    Last = 4,
    /// A durable LSN.
    SyncMark = 5,
    /// The rest of the frame is unused.
    Seal = 6,
    /// The record before does not count.
    Cancel = 7,
}

impl FragmentKind {
    fn from_u8(byte: u8) -> Option<FragmentKind> {
        use FragmentKind::{Cancel, First, Full, Last, Middle, Seal, SyncMark};
        [Full, First, Middle, Last, SyncMark, Seal, Cancel].into_iter().find(|k| *k as u8 == byte)
    }
}

/// A fragment that validated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment<'a> {
    /// What it is.
    pub kind: FragmentKind,
    /// Its bytes.
    pub payload: &'a [u8],
}

impl Fragment<'_> {
    /// Bytes with the header.
    pub fn total_bytes(&self) -> usize {
        FRAGMENT_HEADER_BYTES + self.payload.len()
    }

    /// The durable LSN of a sync mark.
    pub fn promise(&self) -> Option<Lsn> {
        let mut payload = self.payload;
        let is_mark = self.kind == FragmentKind::SyncMark;
        take_u64(&mut payload).filter(|&durable| is_mark && durable <= LSN_MAX)
    }
}

/// The frame boundary at or above `lsn`.
#[inline]
pub fn frame_ceil(lsn: Lsn) -> Lsn {
    lsn.next_multiple_of(FRAME_BYTES as u64)
}

/// Bytes from `lsn` to the end of its frame: 1 to 32 KiB.
#[inline]
pub fn frame_left(lsn: Lsn) -> usize {
    FRAME_BYTES - (lsn % FRAME_BYTES as u64) as usize
}

/// Bytes of log that a record of `length` bytes takes at most, with all that may be put around it: a frame's tail
/// before it, a sync mark, and a cancel after it.
#[inline]
pub fn framed_bytes_max(length: usize) -> usize {
    const AROUND: usize = 5 * FRAGMENT_HEADER_BYTES + SYNC_MARK_BYTES;
    length + AROUND + FRAGMENT_HEADER_BYTES * (1 + length / (FRAME_BYTES - FRAGMENT_HEADER_BYTES))
}

/// Fills in the header of the fragment in `bytes` (header space and payload), which will stand at `lsn`.
#[inline]
pub fn seal_fragment(epoch: u64, lsn: Lsn, kind: FragmentKind, bytes: &mut [u8]) {
    debug_assert!(bytes.len() <= frame_left(lsn), "a fragment never crosses a frame");
    let length = (bytes.len() - FRAGMENT_HEADER_BYTES) as u16;
    bytes[4..6].copy_from_slice(&length.to_le_bytes());
    bytes[6] = kind as u8;
    let crc = context_checksum(epoch, lsn, &bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// The fragment at the start of `bytes`, which stand at `lsn` and end with the frame; `None` if none validates.
#[inline]
pub fn decode_fragment(epoch: u64, lsn: Lsn, bytes: &[u8]) -> Option<Fragment<'_>> {
    let kind = FragmentKind::from_u8(*bytes.get(6)?)?;
    let length = usize::from(u16::from_le_bytes([bytes[4], bytes[5]]));
    let expected = match kind {
        FragmentKind::SyncMark => SYNC_MARK_BYTES,
        FragmentKind::Seal | FragmentKind::Cancel => 0,
        _ => length,
    };
    let end = FRAGMENT_HEADER_BYTES + length;
    if length != expected || end > bytes.len().min(frame_left(lsn)) {
        return None;
    }
    let crc = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let right = crc == context_checksum(epoch, lsn, &bytes[4..end]);
    if !right && !planted(Bug::FragmentChecksumSkipped) {
        return None;
    }
    Some(Fragment { kind, payload: &bytes[FRAGMENT_HEADER_BYTES..end] })
}

/// Encodes the head of a record.
#[inline]
pub fn encode_record_header(sequence: u64, count: u32) -> [u8; RECORD_HEADER_BYTES] {
    let mut header = [0; RECORD_HEADER_BYTES];
    header[..8].copy_from_slice(&sequence.to_le_bytes());
    header[8..].copy_from_slice(&count.to_le_bytes());
    header
}

/// A record: what the WAL gives back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// Sequence number of its first operation.
    pub sequence: u64,
    /// Number of operations.
    pub count: u32,
    /// The encoded operations.
    pub batch: &'a [u8],
}

/// Puts fragments together to records, one behind: a record is final when the fragment after it is no cancel.
#[derive(Debug, Default)]
pub struct Assembler {
    bytes: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    #[default]
    Empty,
    Open,
    Complete,
}

impl Assembler {
    /// The record that is final now that a fragment of kind `next` (or the end of the log) follows. Call it before
    /// [`push`](Assembler::push) of that fragment, and at the end.
    ///
    /// # Errors
    /// A record that is too short for its header, which no writer makes.
    pub fn settle(
        &mut self,
        next: Option<FragmentKind>,
    ) -> Result<Option<Record<'_>>, &'static str> {
        if self.state != State::Complete {
            return Ok(None);
        }
        self.state = State::Empty;
        if next == Some(FragmentKind::Cancel) {
            return Ok(None);
        }
        let mut input = &self.bytes[..];
        let head = take_u64(&mut input).zip(take_u32(&mut input));
        let (sequence, count) = head.ok_or("a record shorter than its header")?;
        Ok(Some(Record { sequence, count, batch: input }))
    }

    /// Adds a fragment.
    ///
    /// # Errors
    /// A part that does not follow its beginning, or a record above the limit: valid checksums, impossible content.
    pub fn push(&mut self, fragment: Fragment<'_>) -> Result<(), &'static str> {
        use FragmentKind::{Cancel, First, Full, Last, Middle, Seal, SyncMark};
        match fragment.kind {
            Full | First => self.bytes.clear(),
            Middle | Last if self.state != State::Open => {
                return Err("a part of a record without its beginning");
            }
            Middle | Last => {}
            Cancel => {
                self.state = State::Empty;
                return Ok(());
            }
            SyncMark | Seal => return Ok(()),
        }
        if self.bytes.len() + fragment.payload.len() > RECORD_BYTES_MAX {
            return Err("a record above the size limit");
        }
        self.bytes.extend_from_slice(fragment.payload);
        self.state =
            if matches!(fragment.kind, Full | Last) { State::Complete } else { State::Open };
        Ok(())
    }

    /// True in the middle of a record.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }
}

/// The largest promise of all sync marks in a frame (or its rest), found at any byte: the fragments before a mark may
/// be damaged, so walking would not reach it. `valid` looks at the checksum of a mark at an offset.
pub fn find_promise(bytes: &[u8], valid: impl Fn(usize) -> Option<Lsn>) -> Option<Lsn> {
    const MARK_BYTES: usize = FRAGMENT_HEADER_BYTES + SYNC_MARK_BYTES;
    const CHUNK: usize = 64;
    let starts = (bytes.len() + 1).saturating_sub(MARK_BYTES);
    // The constant part of a mark's header: length and type.
    let is_head = |head: &[u8]| {
        (head[0] == SYNC_MARK_BYTES as u8)
            & (head[1] == 0)
            & (head[2] == FragmentKind::SyncMark as u8)
    };
    let mut best = None;
    for chunk in (0..starts).step_by(CHUNK) {
        let ends = starts.min(chunk + CHUNK);
        // Without branches, so that the compiler makes vector instructions of it: a whole old segment is looked through.
        let heads = bytes[chunk + 4..ends + 6].windows(3);
        if heads.fold(false, |any, head| any | is_head(head)) {
            let marks = (chunk..ends).filter(|&at| is_head(&bytes[at + 4..at + 7]));
            best = marks.filter_map(&valid).max().max(best);
        }
    }
    best
}

/// Header block of a segment file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    /// The run that wrote it.
    pub epoch: u64,
    /// Number in the file's name.
    pub slot: u64,
    /// Number of the segment in its run.
    pub ordinal: u64,
    /// LSN of the first byte after the header block.
    pub base: Lsn,
    /// Log bytes that the segment holds at most.
    pub capacity: u64,
}

impl SegmentHeader {
    /// The header block.
    pub fn encode(&self) -> [u8; LOG_HEADER_BYTES] {
        let words = [self.epoch, self.slot, self.ordinal, self.base, self.capacity];
        encode_block(SEGMENT_MAGIC, self.slot, words)
    }

    /// Reads the header block of slot `slot`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(slot: u64, block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let [epoch, found, ordinal, base, capacity] = decode_block(SEGMENT_MAGIC, slot, block)?;
        let aligned = [base, capacity].iter().all(|n| n.is_multiple_of(FRAME_BYTES as u64));
        if found != slot || !aligned || capacity == 0 || base > LSN_MAX || capacity > LSN_MAX {
            return Err(HeaderError::Invalid);
        }
        Ok(SegmentHeader { epoch, slot, ordinal, base, capacity })
    }
}

/// Header block of the ring file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RingHeader {
    /// The run that wrote it.
    pub epoch: u64,
    /// Bytes of the ring after the header block.
    pub capacity: u64,
}

impl RingHeader {
    /// The header block, without a promise.
    pub fn encode(&self) -> [u8; LOG_HEADER_BYTES] {
        encode_block(RING_MAGIC, 0, [self.epoch, 0, 0, 0, self.capacity])
    }

    /// Reads the header block.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(block: &[u8]) -> Result<RingHeader, HeaderError> {
        let [epoch, _, _, _, capacity] = decode_block(RING_MAGIC, 0, block)?;
        if capacity == 0 || !capacity.is_multiple_of(FRAME_BYTES as u64) {
            return Err(HeaderError::Invalid);
        }
        Ok(RingHeader { epoch, capacity })
    }
}

/// The promise as it stands in the ring's header block.
pub fn encode_promise(epoch: u64, durable: Lsn) -> [u8; PROMISE_BYTES] {
    let mut bytes = [0; PROMISE_BYTES];
    bytes[..8].copy_from_slice(&durable.to_le_bytes());
    bytes[8..].copy_from_slice(&context_checksum(epoch, durable, &[]).to_le_bytes());
    bytes
}

/// The promise in the ring's header block; `None` if there is none, or half of one.
pub fn decode_promise(epoch: u64, block: &[u8]) -> Option<Lsn> {
    let mut input = block.get(PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES)?;
    let durable = take_u64(&mut input)?;
    (take_u32(&mut input)? == context_checksum(epoch, durable, &[]) && durable <= LSN_MAX)
        .then_some(durable)
}

/// Why a header block does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderError {
    /// Zeros, a torn write, or damage: the file counts as empty.
    Invalid,
    /// Intact, but of a newer format version.
    Newer(u32),
}

const VERSION_OFFSET: usize = 8;
const CRC_OFFSET: usize = 12;
const WORDS_OFFSET: usize = 16;

fn encode_block(magic: &[u8; 8], owner: u64, words: [u64; 5]) -> [u8; LOG_HEADER_BYTES] {
    let mut block = [0; LOG_HEADER_BYTES];
    block[..8].copy_from_slice(magic);
    block[VERSION_OFFSET..CRC_OFFSET].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    for (place, word) in block[WORDS_OFFSET..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let crc = context_checksum(owner, 0, &block);
    block[CRC_OFFSET..WORDS_OFFSET].copy_from_slice(&crc.to_le_bytes());
    block
}

fn decode_block(magic: &[u8; 8], owner: u64, block: &[u8]) -> Result<[u64; 5], HeaderError> {
    let mut copy: [u8; LOG_HEADER_BYTES] = block.try_into().map_err(|_| HeaderError::Invalid)?;
    let crc = [12, 13, 14, 15].map(|at: usize| std::mem::take(&mut copy[at]));
    copy[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES].fill(0);
    if copy[..8] != magic[..] || crc != context_checksum(owner, 0, &copy).to_le_bytes() {
        return Err(HeaderError::Invalid);
    }
    let mut input = &copy[VERSION_OFFSET..CRC_OFFSET];
    match take_u32(&mut input) {
        Some(version) if version > FORMAT_VERSION => return Err(HeaderError::Newer(version)),
        _ => {}
    }
    let mut input = &copy[WORDS_OFFSET..];
    let mut words = [0; 5];
    for word in &mut words {
        *word = take_u64(&mut input).ok_or(HeaderError::Invalid)?;
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(epoch: u64, lsn: Lsn, kind: FragmentKind, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FRAGMENT_HEADER_BYTES];
        bytes.extend_from_slice(payload);
        seal_fragment(epoch, lsn, kind, &mut bytes);
        bytes
    }

    #[test]
    fn a_fragment_of_another_lap_or_run_never_validates() {
        let bytes = fragment(3, 4096, FragmentKind::Full, b"payload");
        let found = decode_fragment(3, 4096, &bytes).unwrap();
        assert_eq!((found.kind, found.payload), (FragmentKind::Full, &b"payload"[..]));
        assert_eq!(decode_fragment(4, 4096, &bytes), None);
        assert_eq!(decode_fragment(3, 4096 + (4 << 20), &bytes), None);
        assert_eq!(decode_fragment(3, 0, &[0; 64]), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_fragment_is_seen() {
        let bytes = fragment(3, 4096, FragmentKind::Middle, &[0xa5; 100]);
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_fragment(3, 4096, &copy), None, "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(decode_fragment(3, 4096, &bytes[..cut]), None, "cut {cut}");
        }
        // The length may not reach over the frame even where bytes are there.
        let lsn = FRAME_BYTES as u64 - 20;
        let mut long = vec![0; 200];
        long[4..7].copy_from_slice(&[14, 0, 1]);
        let crc = context_checksum(3, lsn, &long[4..21]);
        long[..4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_fragment(3, lsn, &long), None);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let header =
            SegmentHeader { epoch: 9, slot: 4, ordinal: 2, base: 1 << 20, capacity: 1 << 20 };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(4, &block), Ok(header));
        assert_eq!(SegmentHeader::decode(5, &block), Err(HeaderError::Invalid));
        let promise = PROMISE_OFFSET * 8..(PROMISE_OFFSET + PROMISE_BYTES) * 8;
        for bit in (0..LOG_HEADER_BYTES * 8).filter(|bit| !promise.contains(bit)) {
            let mut copy = block;
            copy[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(4, &copy), Err(HeaderError::Invalid), "bit {bit}");
        }
        let mut newer = block;
        newer[VERSION_OFFSET] = 77;
        newer[CRC_OFFSET..WORDS_OFFSET].fill(0);
        let crc = context_checksum(4, 0, &newer);
        newer[CRC_OFFSET..WORDS_OFFSET].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(4, &newer), Err(HeaderError::Newer(77)));
    }

    #[test]
    fn a_promise_leaves_the_ring_header_valid_and_half_of_one_does_not_count() {
        let header = RingHeader { epoch: 5, capacity: 128 << 10 };
        let mut block = header.encode();
        assert_eq!(decode_promise(5, &block), None);
        let promise = encode_promise(5, 777);
        block[PROMISE_OFFSET..PROMISE_OFFSET + 5].copy_from_slice(&promise[..5]);
        assert_eq!(decode_promise(5, &block), None);
        block[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES].copy_from_slice(&promise);
        assert_eq!(decode_promise(5, &block), Some(777));
        assert_eq!(decode_promise(6, &block), None);
        assert_eq!(RingHeader::decode(&block), Ok(header));
    }

    #[test]
    fn a_cancelled_or_unfinished_record_never_comes_out() {
        use FragmentKind::{Cancel, First, Full, Last, Middle, SyncMark};
        let record = |text: &str| [&encode_record_header(1, 1)[..], text.as_bytes()].concat();
        let (one, two, three) = (record("one"), record("two"), record("three"));
        let steps: [(FragmentKind, &[u8]); 8] = [
            (Full, &one),
            (Full, &two),
            (Cancel, &[]),
            (First, &one),
            (Middle, &two),
            (First, &three[..5]),
            (Last, &three[5..]),
            (SyncMark, &[0; 8]),
        ];
        let mut assembler = Assembler::default();
        let mut found = Vec::new();
        for (kind, payload) in steps {
            if let Some(record) = assembler.settle(Some(kind)).unwrap() {
                found.push(record.batch.to_vec());
            }
            assembler.push(Fragment { kind, payload }).unwrap();
        }
        assert_eq!(assembler.settle(None), Ok(None));
        assert_eq!(found, [b"one".to_vec(), b"three".to_vec()]);
        assert!(assembler.push(Fragment { kind: Last, payload: b"x" }).is_err());
        assembler.push(Fragment { kind: Full, payload: b"short" }).unwrap();
        assert!(assembler.settle(None).is_err());
    }

    #[test]
    fn a_promise_behind_damage_is_found_at_any_byte() {
        for at in [0, 1, 500, FRAME_BYTES - 15] {
            let mut frame = vec![0xee; FRAME_BYTES];
            let mark = fragment(1, at as u64, FragmentKind::SyncMark, &42u64.to_le_bytes());
            frame[at..at + mark.len()].copy_from_slice(&mark);
            let valid = |at| decode_fragment(1, at as u64, &frame[at..])?.promise();
            assert_eq!(find_promise(&frame, valid), Some(42));
            let other = |at| decode_fragment(2, at as u64, &frame[at..])?.promise();
            assert_eq!(find_promise(&frame, other), None);
        }
    }
}

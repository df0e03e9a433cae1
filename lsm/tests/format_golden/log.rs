//! FORMAT.md, "The log": segments, ring, fragments, records, batches.

use crate::bytes::{Walk, crc};
use crate::{Entry, Files};

const HEADER: usize = 4096;
const FRAME: usize = 32 << 10;
const BLOCK: usize = 4096;

struct Segment<'a> {
    epoch: u64,
    base: u64,
    data: &'a [u8],
}

struct Ring<'a> {
    epoch: u64,
    promise: u64,
    data: &'a [u8],
}

/// What the log adds to the tables, and how much of the format was met.
#[derive(Debug, Default)]
pub struct Log {
    pub entries: Vec<Entry>,
    /// Fragments by type, in the living log and in segments of the past.
    pub fragments: [usize; 8],
    pub end: u64,
    pub promise: u64,
}

fn header(what: &str, magic: &[u8], owner: u64, bytes: &[u8]) -> Option<[u64; 5]> {
    let mut block = bytes[..HEADER].to_vec();
    if block.iter().all(|&byte| byte == 0) {
        return None; // A segment made ahead of its use.
    }
    let mut walk = Walk::new(what, &bytes[..HEADER]);
    assert_eq!(walk.take(8), magic);
    assert_eq!(walk.u32(), 1);
    let sum = walk.u32();
    let words = [walk.u64(), walk.u64(), walk.u64(), walk.u64(), walk.u64()];
    walk.zeros(512 - walk.at);
    walk.take(12);
    walk.zeros(HEADER - walk.at);
    walk.end();
    block[12..16].fill(0);
    block[512..524].fill(0);
    assert_eq!(sum, crc(owner, 0, &[&block]), "{what}: header checksum");
    Some(words)
}

fn segment<'a>(slot: u64, bytes: &'a [u8]) -> Option<Segment<'a>> {
    assert_eq!(bytes.len() % BLOCK, 0, "segments consist of whole blocks");
    assert!(bytes[512..524].iter().all(|&byte| byte == 0), "only the ring has a promise");
    let [epoch, found, _ordinal, base, capacity] = header("segment", b"TRWALSEG", slot, bytes)?;
    assert_eq!(found, slot);
    assert!(base % FRAME as u64 == 0 && capacity % FRAME as u64 == 0 && capacity > 0);
    assert!((bytes.len() - HEADER) as u64 <= capacity);
    Some(Segment { epoch, base, data: &bytes[HEADER..] })
}

fn ring(bytes: &[u8]) -> Ring<'_> {
    let words = header("ring", b"TRWALRNG", 0, bytes);
    let [epoch, zero1, zero2, zero3, capacity] = words.expect("a ring has a header");
    assert_eq!([zero1, zero2, zero3], [0; 3]);
    assert_eq!(capacity as usize, bytes.len() - HEADER, "nothing behind the ring");
    let mut walk = Walk::new("promise", &bytes[512..524]);
    let (promise, sum) = (walk.u64(), walk.u32());
    if sum != crc(epoch, promise, &[]) {
        assert_eq!((promise, sum), (0, 0), "no promise yet");
    }
    Ring { epoch, promise, data: &bytes[HEADER..] }
}

/// The fragment at `lsn`, whose bytes are `bytes` up to the end of the frame: type and payload.
fn fragment(epoch: u64, lsn: u64, bytes: &[u8]) -> Option<(u8, &[u8])> {
    let left = FRAME - (lsn % FRAME as u64) as usize;
    let bytes = &bytes[..bytes.len().min(left)];
    let sum = u32::from_le_bytes(bytes.get(..4)?.try_into().unwrap());
    let length = u16::from_le_bytes(bytes.get(4..6)?.try_into().unwrap()) as usize;
    let kind = *bytes.get(6)?;
    let payload = bytes.get(7..7 + length)?;
    (1..=7).contains(&kind).then_some(())?;
    (sum == crc(epoch, lsn, &[&bytes[4..7 + length]])).then_some((kind, payload))
}

/// Where the fragment after one of `length` bytes at `lsn` begins, or the frame if less than a header is left.
fn after(lsn: u64, kind: u8, length: usize) -> u64 {
    let next = lsn + 7 + length as u64;
    let left = FRAME as u64 - next % FRAME as u64;
    if left < 7 || kind == 6 && left < FRAME as u64 { next + left } else { next }
}

/// The bytes of the frame of `lsn` from `lsn` on: from the segment, the ring, and the segment's first blocks before the ring's.
fn candidates(segments: &[Segment<'_>], ring: Option<&Ring<'_>>, lsn: u64) -> Vec<Vec<u8>> {
    let within = (lsn % FRAME as u64) as usize;
    let frame = lsn - within as u64;
    let stored = segments.iter().rev().find(|segment| segment.base <= lsn).map(|segment| {
        let from = ((frame - segment.base) as usize).min(segment.data.len());
        &segment.data[from..segment.data.len().min(from + FRAME)]
    });
    let stored = stored.unwrap_or(&[]);
    let mut all = vec![stored.to_vec()];
    if let Some(ring) = ring {
        let from = frame as usize % ring.data.len();
        let mut mixed = ring.data[from..from + FRAME].to_vec();
        all.push(mixed.clone());
        for block in (0..stored.len()).step_by(BLOCK) {
            mixed[block..block + BLOCK].copy_from_slice(&stored[block..block + BLOCK]);
            all.push(mixed.clone());
        }
    }
    all.retain(|bytes| bytes.len() > within);
    all.iter().map(|bytes| bytes[within..].to_vec()).collect()
}

pub fn operations(record: &[u8], entries: &mut Vec<Entry>) {
    let mut walk = Walk::new("record", record);
    let first = walk.u64();
    let count = walk.u32();
    for index in 0..u64::from(count) {
        let kind = walk.u8();
        let keyspace = walk.varint();
        let key_length = walk.varint() as usize;
        let value_length = match kind {
            0 => 0,
            1..=3 => walk.varint() as usize,
            other => panic!("operation of kind {other}"),
        };
        let key = walk.take(key_length).to_vec();
        let value = walk.take(value_length).to_vec();
        entries.push(Entry { keyspace, key, sequence: first + index, kind, value });
    }
    walk.end();
}

/// Bytes of a file that no fragment of its epoch explains: nothing in them may validate.
fn assert_dead(what: &str, epoch: u64, bytes: &[u8], lsn: impl Fn(usize) -> u64) {
    for at in 0..bytes.len() {
        // Only an offset with a known type can begin a fragment.
        if bytes.get(at + 6).is_some_and(|kind| (1..=7).contains(kind)) {
            assert_eq!(fragment(epoch, lsn(at), &bytes[at..]), None, "{what}: alive at {at}");
        }
    }
}

pub fn log(files: &Files, epoch: u64, start: u64, promised: u64) -> Log {
    let mut log = Log::default();
    let mut segments = Vec::new();
    for (name, bytes) in files {
        if let Some(slot) = name.strip_suffix(".wal") {
            let found = segment(slot.parse().unwrap(), bytes);
            assert!(found.is_some() || bytes.iter().all(|&byte| byte == 0), "{name}: a spare");
            segments.extend(found);
        }
    }
    let whole = files.get("RING").map(|bytes| ring(bytes));
    log.promise = whole.as_ref().map_or(0, |ring| ring.promise).max(promised);
    let whole = whole.filter(|ring| ring.epoch == epoch);
    let (mut living, past): (Vec<_>, Vec<_>) =
        segments.into_iter().partition(|segment| segment.epoch == epoch);
    living.sort_by_key(|segment| segment.base);
    past.iter().for_each(|segment| past_segment(segment, &mut log));

    // The chain, and the bytes that it consists of.
    let start = start.next_multiple_of(FRAME as u64);
    let mut canonical = Vec::new();
    let mut lsn = start;
    let mut record: Option<Vec<u8>> = None;
    let mut complete: Option<Vec<u8>> = None;
    loop {
        let places = candidates(&living, whole.as_ref(), lsn);
        let found = places.iter().find_map(|bytes| fragment(epoch, lsn, bytes));
        let Some((kind, payload)) = found else { break };
        log.fragments[usize::from(kind)] += 1;
        let cancelled = kind == 7;
        complete.take().filter(|_| !cancelled).iter().for_each(|r| operations(r, &mut log.entries));
        match kind {
            1 => (record, complete) = (None, Some(payload.to_vec())),
            2 => record = Some(payload.to_vec()),
            3 | 4 => {
                let mut bytes = record.take().expect("a part follows its beginning");
                bytes.extend_from_slice(payload);
                if kind == 3 { record = Some(bytes) } else { complete = Some(bytes) }
            }
            5 => {
                let mut mark = Walk::new("sync mark", payload);
                log.promise = log.promise.max(mark.u64());
                mark.end();
            }
            _ => assert!(payload.is_empty(), "seals and cancels are empty"),
        }
        let next = after(lsn, kind, payload.len());
        let image = fragment_bytes(epoch, lsn, kind, payload);
        canonical.extend_from_slice(&image);
        canonical.resize((next - start) as usize, 0);
        lsn = next;
    }
    complete.iter().for_each(|bytes| operations(bytes, &mut log.entries));
    assert!(lsn >= log.promise, "the log ends at {lsn}, {} was promised", log.promise);
    log.end = lsn;
    account(&living, whole.as_ref(), epoch, start, &canonical);
    log
}

fn fragment_bytes(epoch: u64, lsn: u64, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(payload);
    let sum = crc(epoch, lsn, &[&bytes[4..]]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Every byte of the living segments and the ring is a byte of the chain, or dead: padding of the last block that was written,
/// space written ahead, or bytes of an earlier use.
fn account(
    living: &[Segment<'_>],
    ring: Option<&Ring<'_>>,
    epoch: u64,
    start: u64,
    canonical: &[u8],
) {
    for (index, segment) in living.iter().enumerate() {
        let until = living.get(index + 1).map_or(u64::MAX, |next| next.base);
        let known = |lsn: u64| (lsn >= start).then(|| canonical.get((lsn - start) as usize))?;
        let mut alive = 0;
        for (at, byte) in segment.data.iter().enumerate() {
            let lsn = segment.base + at as u64;
            if lsn >= until || lsn >= start && known(lsn) != Some(byte) {
                break;
            }
            alive = at + 1;
        }
        assert_dead("segment", epoch, &segment.data[alive..], |at| {
            segment.base + (alive + at) as u64
        });
    }
    let Some(ring) = ring else { return };
    let end = start + canonical.len() as u64;
    let capacity = ring.data.len() as u64;
    let alive = start.max(end.saturating_sub(capacity))..end;
    for lsn in alive.clone() {
        let byte = canonical[(lsn - start) as usize];
        assert_eq!(ring.data[(lsn % capacity) as usize], byte, "ring at LSN {lsn}");
    }
    // What is not of the newest lap is of no lap that this epoch could still reach.
    let behind = capacity - (alive.end - alive.start);
    let bytes: Vec<u8> =
        (0..behind).map(|at| ring.data[((end + at) % capacity) as usize]).collect();
    assert_dead("ring", epoch, &bytes, |at| end + at as u64);
}

/// A segment of an earlier run: it explains itself, by its own epoch.
fn past_segment(segment: &Segment<'_>, log: &mut Log) {
    let mut lsn = segment.base;
    loop {
        let at = (lsn - segment.base) as usize;
        let Some(rest) = segment.data.get(at..) else { break };
        let Some((kind, payload)) = fragment(segment.epoch, lsn, rest) else { break };
        log.fragments[usize::from(kind)] += 1;
        let next = after(lsn, kind, payload.len());
        let gap = &rest[7 + payload.len()..rest.len().min((next - lsn) as usize)];
        assert!(gap.iter().all(|&byte| byte == 0), "zeros up to the next frame");
        lsn = next;
    }
    let rest = segment.data.get((lsn - segment.base) as usize..).unwrap_or(&[]);
    assert_dead("past segment", segment.epoch, rest, |at| lsn + at as u64);
}

//! Frames, fragments and records of the log.
//!
//! ```text
//! input:  mode u8 │ epoch u8 │ frame u8 │ bytes of the log from that frame on        odd modes repair the checksums
//! ```
//!
//! Promise: whatever the bytes, the chain of fragments ends; each fragment sealed again is the same; records are put together
//! from fragments in order or refused; every promise is found that a search at every byte finds. Memory: the bytes once more.

use crate::input::Input;
use crate::{Target, repair};
use treering_lsm::format::batch::BatchReader;
use treering_lsm::format::log::{
    Assembler, FRAGMENT_HEADER_BYTES, FRAME_BYTES, FragmentKind, decode_fragment,
    encode_record_header, find_promise, frame_ceil, frame_left, seal_fragment,
};

pub(crate) const TARGET: Target = Target {
    name: "fragment",
    promise: "the chain of fragments in any bytes ends, and its records are put together or refused",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let epoch = u64::from(input.u8());
    let start = u64::from(input.u8()) * FRAME_BYTES as u64;
    let mut bytes = input.rest().to_vec();
    if !mode.is_multiple_of(2) {
        repair::fragments(&mut bytes, epoch, start);
    }
    chain(&bytes, epoch, start);
    for (number, frame) in bytes.chunks(FRAME_BYTES).enumerate() {
        let lsn = start + (number * FRAME_BYTES) as u64;
        let valid = |at: usize| decode_fragment(epoch, lsn + at as u64, &frame[at..])?.promise();
        assert_eq!(find_promise(frame, valid), (0..frame.len()).filter_map(valid).max());
    }
}

fn chain(bytes: &[u8], epoch: u64, start: u64) {
    let mut lsn = start;
    let mut assembler = Assembler::default();
    let mut recovered = 0;
    loop {
        if frame_left(lsn) < FRAGMENT_HEADER_BYTES {
            lsn = frame_ceil(lsn);
        }
        let at = (lsn - start) as usize;
        let Some(fragment) = bytes.get(at..).and_then(|rest| decode_fragment(epoch, lsn, rest))
        else {
            break;
        };
        let stored = &bytes[at..at + fragment.total_bytes()];
        assert!(stored.len() <= frame_left(lsn));
        let mut again = stored.to_vec();
        seal_fragment(epoch, lsn, fragment.kind, &mut again);
        assert_eq!(again, stored);
        let Ok(record) = assembler.settle(Some(fragment.kind)) else { return };
        if let Some(record) = record {
            recovered += record.batch.len();
            BatchReader::new(record.batch, record.count).for_each(drop);
        }
        if assembler.push(fragment).is_err() {
            return;
        }
        lsn += fragment.total_bytes() as u64;
        if fragment.kind == FragmentKind::Seal {
            lsn = frame_ceil(lsn);
        }
    }
    let _the_last_record_may_be_too_short = assembler.settle(None);
    assert!(recovered <= bytes.len());
}

/// A log: fragments with payloads of these lengths.
fn log(epoch: u8, frame: u8, parts: &[(FragmentKind, Vec<u8>)]) -> Vec<u8> {
    let start = u64::from(frame) * FRAME_BYTES as u64;
    let mut bytes: Vec<u8> = Vec::new();
    for (kind, payload) in parts {
        let lsn = start + bytes.len() as u64;
        let mut fragment = vec![0; FRAGMENT_HEADER_BYTES];
        fragment.extend_from_slice(payload);
        seal_fragment(epoch.into(), lsn, *kind, &mut fragment);
        bytes.extend_from_slice(&fragment);
    }
    bytes
}

fn seeds() -> Vec<Vec<u8>> {
    use FragmentKind::{Cancel, First, Full, Last, Middle, Seal, SyncMark};
    let record = |sequence: u64| {
        [&encode_record_header(sequence, 1)[..], &[1, 0, 1, 2, b'k', b'v', b'v']].concat()
    };
    let mark = 40_000u64.to_le_bytes().to_vec();
    let logs = [
        log(
            3,
            1,
            &[(Full, record(7)), (SyncMark, mark.clone()), (Full, record(8)), (Seal, vec![])],
        ),
        log(3, 1, &[(First, record(7)), (Middle, vec![9; 300]), (Last, vec![1; 20])]),
        log(0, 0, &[(Full, record(1)), (Cancel, vec![]), (First, vec![]), (Full, record(2))]),
        log(1, 2, &[(Full, vec![5; 32_700]), (SyncMark, mark)]),
    ];
    let mut seeds = Vec::new();
    for (head, log) in [[3, 1], [3, 1], [0, 0], [1, 2]].iter().zip(logs) {
        for mode in [0, 1] {
            seeds.push([&[mode], &head[..], &log].concat());
        }
    }
    seeds
}

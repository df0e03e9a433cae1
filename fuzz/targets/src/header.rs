//! The header blocks of segments and the ring, and the ring's promise.
//!
//! ```text
//! input:  mode u8 │ slot u8 │ words of the block from byte 0 on        odd modes repair the checksums
//! ```
//!
//! Promise: any block counts as empty, is named as newer, or becomes a header that is the same encoded again. Memory: one block.

use crate::input::Input;
use crate::{Target, repair};
use treering_lsm::base::limits::FORMAT_VERSION;
use treering_lsm::format::log::{
    FRAME_BYTES, HeaderError, LOG_HEADER_BYTES, LSN_MAX, PROMISE_BYTES, PROMISE_OFFSET, RingHeader,
    SegmentHeader, decode_promise, encode_promise,
};

pub(crate) const TARGET: Target = Target {
    name: "header",
    promise: "any header block of the log is empty, newer, or the same encoded again",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let slot = u64::from(input.u8());
    let mut block = input.rest().to_vec();
    // Mostly zeros: the fuzzer spells out the beginning. Some modes leave the block short.
    if mode & 2 == 0 {
        block.resize(LOG_HEADER_BYTES, 0);
    }
    if !mode.is_multiple_of(2) {
        repair::log_header(&mut block, if mode & 4 == 0 { slot } else { 0 });
    }
    match SegmentHeader::decode(slot, &block) {
        Ok(header) => {
            assert_eq!(header.slot, slot);
            assert!(header.base.is_multiple_of(FRAME_BYTES as u64) && header.base <= LSN_MAX);
            assert_eq!(SegmentHeader::decode(slot, &header.encode()), Ok(header));
        }
        Err(error) => judge(error),
    }
    match RingHeader::decode(&block) {
        Ok(header) => {
            assert!(header.capacity > 0);
            assert_eq!(RingHeader::decode(&header.encode()), Ok(header));
            if let Some(durable) = decode_promise(header.epoch, &block) {
                let stored = &block[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES];
                assert_eq!(encode_promise(header.epoch, durable), *stored);
                assert!(durable <= LSN_MAX);
            }
        }
        Err(error) => judge(error),
    }
}

fn judge(error: HeaderError) {
    if let HeaderError::Newer(version) = error {
        assert!(version > FORMAT_VERSION);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let segment =
        SegmentHeader { epoch: 3, slot: 2, ordinal: 1, base: 65536, capacity: 262_144 }.encode();
    let mut ring = RingHeader { epoch: 3, capacity: 131_072 }.encode();
    ring[PROMISE_OFFSET..PROMISE_OFFSET + PROMISE_BYTES]
        .copy_from_slice(&encode_promise(3, 70_000));
    vec![
        [&[0, 2][..], &segment[..64]].concat(),
        [&[1, 2][..], &segment[..64]].concat(),
        [&[0, 0][..], &ring[..524]].concat(),
        [&[5, 0][..], &ring[..524]].concat(),
        [&[2, 2][..], &segment[..100]].concat(),
    ]
}

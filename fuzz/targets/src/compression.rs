//! The frame of a block, and compressed payloads.
//!
//! ```text
//! input:  mode u8 │ table id u8 │ largest block u32 │ bytes
//!         mode 0 the bytes are a frame    1 LZ4 payload    2 Zstandard payload    3 compress them first, with either
//! ```
//!
//! Promise: any payload is refused in words or gives as many bytes as it says, never more than the caller's limit nor more than
//! a payload of its length can hold; what was compressed comes back. Memory: the output.

use crate::Target;
use crate::input::Input;
use treering_lsm::Compression;
use treering_lsm::format::block::frame;
use treering_lsm::format::compression::{Compressor, decompress};

pub(crate) const TARGET: Target = Target {
    name: "compression",
    promise: "any payload is refused or gives as many bytes as it says; what was compressed comes back",
    run,
    seeds,
};

/// Bytes of output at most; the engine takes the table's largest block.
const LIMIT: usize = 1 << 30;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, table_id) = (input.u8() % 4, u64::from(input.u8()));
    let limit = (input.u32() as usize).min(LIMIT);
    let bytes = input.rest();
    match mode {
        0 => {
            if let Ok((kind, payload)) = frame::open(table_id, 64, bytes) {
                let trailer = frame::trailer(table_id, 64, payload, kind);
                assert_eq!([payload, &trailer].concat(), bytes);
                expand(kind, payload, limit);
            }
        }
        1 => expand(Compression::Lz4, bytes, limit),
        2 => expand(Compression::Zstd, bytes, limit),
        _ => [Compression::Lz4, Compression::Zstd].into_iter().for_each(|kind| pack(kind, bytes)),
    }
}

fn expand(kind: Compression, payload: &[u8], limit: usize) {
    let mut out = Vec::new();
    match decompress(kind, payload, limit, &mut out) {
        Ok(()) => {
            let length = payload.first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize);
            assert_eq!(Some(out.len()), length);
            assert!(out.len() <= limit);
        }
        Err(detail) => assert!(!detail.is_empty()),
    }
}

fn pack(kind: Compression, raw: &[u8]) {
    let mut compressor = Compressor::new(kind);
    let (used, payload) = compressor.compress(raw);
    if used == Compression::None {
        return assert_eq!(payload, raw);
    }
    assert!(payload.len() <= raw.len() - raw.len() / 8);
    let mut out = Vec::new();
    decompress(used, payload, raw.len(), &mut out).expect("what was compressed comes back");
    assert_eq!(out, raw);
    assert!(decompress(used, payload, raw.len() - 1, &mut out).is_err());
}

fn seeds() -> Vec<Vec<u8>> {
    let text: Vec<u8> = (0..2000u32).map(|i| (i / 16) as u8).collect();
    let mut seeds = Vec::new();
    for (mode, kind) in [(1, Compression::Lz4), (2, Compression::Zstd)] {
        for length in [100, 2000] {
            let mut compressor = Compressor::new(kind);
            let (used, payload) = compressor.compress(&text[..length]);
            let trailer = frame::trailer(7, 64, payload, used);
            let head = |mode: u8| [&[mode, 7][..], &4096u32.to_le_bytes()].concat();
            seeds.push([&head(mode), payload].concat());
            seeds.push([&head(0), payload, &trailer].concat());
            seeds.push([&head(3), &text[..length]].concat());
        }
    }
    seeds
}

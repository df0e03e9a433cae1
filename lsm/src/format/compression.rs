//! Compression of blocks: LZ4 block format and Zstandard, with reused buffers and contexts.
//!
//! ```text
//! compressed payload:  | uncompressed length u32 | LZ4 block or zstd frame ... |
//! ```
//!
//! Promises:
//! 1. A payload is kept compressed only when it is smaller by at least an eighth; otherwise the caller stores the raw bytes, so that
//!    reading incompressible data costs no decompression. The output buffer is cut to that size, so that the
//!    compressor gives up early.
//! 2. Decompression allocates at most the caller's limit (the table's largest block, from its properties) and at most what a payload
//!    of that length can hold, and fails unless exactly the stated length comes out.
//! 3. No allocation per block once the buffers have grown: contexts belong to the writer, or to the thread for readers.
//!
//! Not here: dictionaries, parallel compression.

use crate::base::coding::take_u32;
pub use crate::base::options::Compression;
use std::cell::RefCell;

/// Largest uncompressed block in bytes (1 GiB): what one user key with all its versions may take.
pub const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Zstandard level of table blocks.
const ZSTD_LEVEL: i32 = 3;

/// Decodes the type byte of a block; `None` for one that this release does not know.
pub fn from_u8(byte: u8) -> Option<Compression> {
    match byte {
        0 => Some(Compression::None),
        1 => Some(Compression::Lz4),
        2 => Some(Compression::Zstd),
        _ => None,
    }
}

/// Compresses the blocks of one table, one after the other.
pub struct Compressor {
    kind: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    output: Vec<u8>,
}

impl Compressor {
    /// A compressor of this kind. Where zstd finds no memory for its context, blocks are stored raw, which every reader takes.
    pub fn new(kind: Compression) -> Compressor {
        let zstd = match kind {
            Compression::Zstd => zstd::bulk::Compressor::new(ZSTD_LEVEL).ok(),
            _ => None,
        };
        Compressor { kind, zstd, output: Vec::new() }
    }

    /// The payload to store for `raw` and how it is compressed. Borrows `raw` itself where compression does not pay.
    pub fn compress<'a>(&'a mut self, raw: &'a [u8]) -> (Compression, &'a [u8]) {
        let room = raw.len() - raw.len() / 8;
        if self.kind == Compression::None || room < 16 || raw.len() > BLOCK_BYTES_MAX {
            return (Compression::None, raw);
        }
        if self.output.len() < room {
            self.output.resize(room, 0);
        }
        let (length, target) = self.output[..room].split_at_mut(4);
        length.copy_from_slice(&(raw.len() as u32).to_le_bytes());
        // An error means that the result does not fit `target`: the block stays raw.
        let packed = match (self.kind, &mut self.zstd) {
            (Compression::Lz4, _) => lz4::block::compress_to_buffer(raw, None, false, target).ok(),
            (Compression::Zstd, Some(zstd)) => zstd.compress_to_buffer(raw, target).ok(),
            _ => None,
        };
        match packed {
            Some(bytes) => (self.kind, &self.output[..4 + bytes]),
            None => (Compression::None, raw),
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({:?})", self.kind)
    }
}

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Bytes that one byte of a payload can stand for: an LZ4 length byte for 255, four bytes of Zstandard for a block of 128 KiB.
fn expansion_max(kind: Compression) -> usize {
    match kind {
        Compression::None => 1,
        Compression::Lz4 => 255,
        Compression::Zstd => 32 << 10,
    }
}

/// Replaces `out` by the decompressed `payload`, of at most `bytes_max` bytes. `kind` is not `None`.
///
/// # Errors
/// What was wrong with the payload, in words.
pub fn decompress(
    kind: Compression,
    mut payload: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let length = take_u32(&mut payload).ok_or("a compressed block without its length")? as usize;
    if length > bytes_max.min(BLOCK_BYTES_MAX) {
        return Err(format!("a block of {length} bytes in a table of blocks up to {bytes_max}"));
    }
    if length > payload.len().saturating_mul(expansion_max(kind)) {
        return Err(format!("a block of {length} bytes, compressed to {}", payload.len()));
    }
    out.clear();
    out.resize(length, 0);
    let done = match kind {
        Compression::None => return Err("a raw block taken for a compressed one".into()),
        Compression::Lz4 => lz4::block::decompress_to_buffer(payload, Some(length as i32), out)
            .map_err(|error| format!("not an LZ4 block: {error}"))?,
        Compression::Zstd => ZSTD.with_borrow_mut(|context| {
            if context.is_none() {
                *context = zstd::bulk::Decompressor::new().ok();
            }
            let zstd = context.as_mut().ok_or("no memory for a zstd context")?;
            zstd.decompress_to_buffer(payload, &mut out[..])
                .map_err(|error| format!("not a zstd frame: {error}"))
        })?,
    };
    if done == length {
        Ok(())
    } else {
        Err(format!("a block of {length} bytes decompressed to {done}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn what_goes_in_comes_out_and_incompressible_bytes_stay_raw() {
        let mut random = Random::new(1);
        let noise: Vec<u8> = (0..4096).map(|_| random.next_u64() as u8).collect();
        let text: Vec<u8> = (0..4096u32).map(|i| (i / 16) as u8).collect();
        for kind in [Compression::Lz4, Compression::Zstd] {
            let mut compressor = Compressor::new(kind);
            assert_eq!(compressor.compress(&noise), (Compression::None, &noise[..]));
            let mut out = Vec::new();
            for length in [0, 1, 15, 64, 1000, 4096] {
                let raw = &text[..length];
                let (used, payload) = compressor.compress(raw);
                if used == Compression::None {
                    assert_eq!(payload, raw);
                    continue;
                }
                assert!(payload.len() <= length - length / 8);
                let payload = payload.to_vec();
                decompress(kind, &payload, length, &mut out).expect("intact");
                assert_eq!(out, raw);
                assert!(decompress(kind, &payload, length - 1, &mut out).is_err());
                for cut in 0..payload.len() {
                    assert!(decompress(kind, &payload[..cut], length, &mut out).is_err());
                }
            }
            assert_eq!(compressor.compress(&text).0, kind);
        }
        assert_eq!(
            Compressor::new(Compression::None).compress(&text),
            (Compression::None, &text[..])
        );
    }
    /// A length under a right checksum may be a lie all the same.
    #[test]
    fn a_length_that_the_payload_cannot_hold_is_not_believed() {
        for kind in [Compression::Lz4, Compression::Zstd] {
            let payload = [&(1u32 << 30).to_le_bytes()[..], &[0; 40]].concat();
            let mut out = Vec::new();
            assert!(decompress(kind, &payload, BLOCK_BYTES_MAX, &mut out).is_err());
            assert_eq!(out.capacity(), 0, "{kind:?}");
            // The densest that there is still comes back.
            let raw = vec![7; 4 << 20];
            let (used, payload) = {
                let mut compressor = Compressor::new(kind);
                let (used, payload) = compressor.compress(&raw);
                (used, payload.to_vec())
            };
            decompress(used, &payload, raw.len(), &mut out).expect("intact");
            assert!(out == raw, "{kind:?}");
        }
    }
}

//! The frame of every block of a table: data, filter, index, properties.
//!
//! ```text
//! | payload ...            |
//! | compression  u8        |  0 none, 1 LZ4, 2 Zstandard
//! | zeros        3 bytes   |
//! | crc          u32       |  CRC-32C of table id, file offset, payload, compression, zeros
//! ```
//!
//! The payload comes first, so that a raw block is used where it was read. The checksum covers the place, so that an intact
//! block in the wrong file or at the wrong offset does not pass.

use crate::base::checksum::{context_seed, extend};
use crate::base::options::Compression;
use crate::base::planted::{Bug, planted};
use crate::format::compression;

/// Bytes of a frame beside its payload.
pub const TRAILER_BYTES: usize = 8;

/// The trailer of `payload`, which is about to be written to `table_id` at `offset`.
pub fn trailer(
    table_id: u64,
    offset: u64,
    payload: &[u8],
    kind: Compression,
) -> [u8; TRAILER_BYTES] {
    let mut trailer = [0; TRAILER_BYTES];
    trailer[0] = kind as u8;
    let crc = extend(extend(context_seed(table_id, offset), payload), &trailer[..4]);
    trailer[4..].copy_from_slice(&crc.to_le_bytes());
    trailer
}

/// Checks a stored block and splits off its trailer.
///
/// # Errors
/// What was expected and what was found.
pub fn open(table_id: u64, offset: u64, stored: &[u8]) -> Result<(Compression, &[u8]), String> {
    let Some((covered, crc)) = stored.split_last_chunk::<4>() else {
        return Err(format!("a block of {} bytes, shorter than its trailer", stored.len()));
    };
    let Some((payload, kind)) = covered.split_last_chunk::<4>() else {
        return Err(format!("a block of {} bytes, shorter than its trailer", stored.len()));
    };
    let expected = u32::from_le_bytes(*crc);
    let found = extend(context_seed(table_id, offset), covered);
    if expected != found && !planted(Bug::BlockChecksumSkipped) {
        return Err(format!("block checksum {found:08x}, trailer says {expected:08x}"));
    }
    match (compression::from_u8(kind[0]), &kind[1..]) {
        (Some(kind), [0, 0, 0]) => Ok((kind, payload)),
        _ => Err(format!("block type {kind:?} is not known to this release")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_strange_place_never_passes() {
        let payload = b"some payload of a block";
        let mut stored = payload.to_vec();
        stored.extend_from_slice(&trailer(7, 4096, payload, Compression::Lz4));
        assert_eq!(open(7, 4096, &stored), Ok((Compression::Lz4, &payload[..])));
        assert!(open(8, 4096, &stored).is_err());
        assert!(open(7, 0, &stored).is_err());
        for bit in 0..stored.len() * 8 {
            let mut damaged = stored.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(7, 4096, &damaged).is_err(), "bit {bit}");
        }
        for cut in 0..stored.len() {
            assert!(open(7, 4096, &stored[..cut]).is_err());
        }
    }
}

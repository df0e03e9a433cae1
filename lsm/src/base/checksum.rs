//! CRC-32C over bytes *and* the place where they belong.
//!
//! A block that is intact but stands in the wrong file or at the wrong offset must not pass, so the file's identity and
//! the offset are fed to the checksum before the bytes (as TigerBeetle and RocksDB's format_version 6 do).

use crate::base::planted::{Bug, planted};

/// CRC-32C of `bytes` that belong to `owner` (a table id, WAL epoch, ...) at `offset`.
#[inline]
pub fn context_checksum(owner: u64, offset: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(context_seed(owner, offset), bytes)
}

/// The running CRC after the context, to be continued with [`extend`].
#[inline]
pub fn context_seed(owner: u64, offset: u64) -> u32 {
    let (owner, offset) = if planted(Bug::PlaceIgnored) { (0, 0) } else { (owner, offset) };
    let mut context = [0; 16];
    context[..8].copy_from_slice(&owner.to_le_bytes());
    context[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c(&context)
}

/// Continues a running CRC.
#[inline]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_bytes_in_another_place_do_not_pass() {
        let here = context_checksum(7, 4096, b"block");
        assert_ne!(here, context_checksum(7, 8192, b"block"));
        assert_ne!(here, context_checksum(8, 4096, b"block"));
        assert_eq!(here, extend(context_seed(7, 4096), b"block"));
    }
}

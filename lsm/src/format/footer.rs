//! The last 64 bytes of a table: what it is, and where the parts of its tail lie.
//!
//! ```text
//! data block | ... | index partition ... |  tail: filter | index | properties | footer
//!
//! footer:
//!   0  | magic u64              |  "TRTABLE" and a newline
//!   8  | format version u32     |
//!  12  | index levels u32       |  1 flat, 2 with partitions
//!  16  | table id u64           |
//!  24  | filter offset u32      | length u32      |  length 0: no filter
//!  32  | index offset u32       | length u32      |
//!  40  | properties offset u32  | length u32      |
//!  48  | data end u32           |  end of the data blocks, where partitions begin
//!  52  | tail offset u32        |
//!  56  | zeros 4                |
//!  60  | crc u32                |  CRC-32C of table id, footer offset, bytes 0 to 60
//! ```
//!
//! Offsets are u32: tables are cut far below [`TABLE_BYTES_MAX`]. Lengths include the frame's trailer. Magic, version, crc and the
//! size of the footer stay where they are in every later version, so that a newer table is told from a damaged one.

use crate::base::checksum::context_checksum;
use crate::base::limits::FORMAT_VERSION;
use std::ops::Range;

/// Bytes of the footer.
pub const FOOTER_BYTES: usize = 64;
/// Largest table in bytes; offsets in a table are `u32`.
pub const TABLE_BYTES_MAX: u64 = 3 << 30;
const MAGIC: u64 = u64::from_le_bytes(*b"TRTABLE\n");

const _: () = assert!(TABLE_BYTES_MAX <= u32::MAX as u64);

/// What the footer says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Footer {
    /// File number of the table, part of every checksum in it.
    pub table_id: u64,
    /// True where the index is cut into partitions.
    pub partitioned: bool,
    /// Stored filter; empty if there is none.
    pub filter: Range<u64>,
    /// Stored index, or the top of it.
    pub index: Range<u64>,
    /// Stored properties.
    pub properties: Range<u64>,
    /// End of the data blocks, which begin at 0.
    pub data_end: u64,
    /// Start of the tail.
    pub tail_offset: u64,
}

/// Why a footer was not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FooterError {
    /// Not a footer, or a damaged one.
    Damaged(String),
    /// From a newer release.
    Newer(u32),
}

impl Footer {
    /// Its bytes, to be written at `offset` of the file.
    pub fn encode(&self, offset: u64) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        out[..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[16..24].copy_from_slice(&self.table_id.to_le_bytes());
        let mut word = |at: usize, value: u64| {
            debug_assert!(value <= TABLE_BYTES_MAX);
            out[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        };
        word(8, u64::from(FORMAT_VERSION));
        word(12, 1 + u64::from(self.partitioned));
        for (at, part) in [(24, &self.filter), (32, &self.index), (40, &self.properties)] {
            word(at, part.start);
            word(at + 4, part.end - part.start);
        }
        word(48, self.data_end);
        word(52, self.tail_offset);
        let crc = context_checksum(self.table_id, offset, &out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the footer that stands at `offset`, the end of the file but [`FOOTER_BYTES`].
    ///
    /// # Errors
    /// [`FooterError`]: damaged, or from a newer release.
    pub fn decode(bytes: &[u8], offset: u64) -> Result<Footer, FooterError> {
        let damaged = |detail: String| Err(FooterError::Damaged(detail));
        let Some(bytes) = bytes.first_chunk::<FOOTER_BYTES>() else {
            return damaged(format!("{} bytes, shorter than a table footer", bytes.len()));
        };
        let word = |at: usize| {
            u64::from(u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
        };
        if word(0) | word(4) << 32 != MAGIC {
            return damaged("no table footer at the end of the file".into());
        }
        let table_id = word(16) | word(20) << 32;
        let crc = u64::from(context_checksum(table_id, offset, &bytes[..60]));
        if crc != word(60) {
            return damaged(format!("footer checksum {crc:08x}, it says {:08x}", word(60)));
        }
        let version = word(8) as u32;
        if version > FORMAT_VERSION {
            return Err(FooterError::Newer(version));
        }
        let part = |at: usize| word(at)..word(at) + word(at + 4);
        let footer = Footer {
            table_id,
            partitioned: word(12) == 2,
            filter: part(24),
            index: part(32),
            properties: part(40),
            data_end: word(48),
            tail_offset: word(52),
        };
        let inside = [&footer.filter, &footer.index, &footer.properties]
            .iter()
            .all(|part| footer.tail_offset <= part.start && part.end <= offset);
        if !matches!(word(12), 1 | 2) || !inside || footer.data_end > footer.tail_offset {
            return damaged(format!("its parts do not fit the file: {footer:?}"));
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            table_id: 9,
            partitioned: false,
            filter: 4096..5000,
            index: 5000..6000,
            properties: 6000..6100,
            data_end: 4000,
            tail_offset: 4096,
        }
    }

    #[test]
    fn a_footer_comes_back_and_every_flipped_bit_is_seen() {
        let bytes = footer().encode(6100);
        assert_eq!(Footer::decode(&bytes, 6100), Ok(footer()));
        assert!(Footer::decode(&bytes, 6101).is_err());
        for bit in 0..FOOTER_BYTES * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Footer::decode(&damaged, 6100), Err(FooterError::Damaged(_))));
        }
        for cut in 0..FOOTER_BYTES {
            assert!(Footer::decode(&bytes[..cut], 6100).is_err());
        }
    }

    #[test]
    fn a_newer_table_is_told_from_a_damaged_one() {
        let mut bytes = footer().encode(6100);
        bytes[8..12].copy_from_slice(&7u32.to_le_bytes());
        let crc = context_checksum(9, 6100, &bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Footer::decode(&bytes, 6100), Err(FooterError::Newer(7)));
    }
}

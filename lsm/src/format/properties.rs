//! What a table says about itself, as a list of fields. A field that this release does not know is skipped.
//!
//! ```text
//! | tag varint | length varint | value |  ...
//! ```

use crate::base::coding::{put_prefixed, put_varint, take_prefixed, take_varint};
use crate::base::limits::FORMAT_VERSION;
use crate::base::options::{Compression, FilterPolicy, PREFIX_BYTES_MAX};
use crate::format::compression;
use crate::format::table_info::TableInfo;

/// Tags of the fields. They are on disk.
mod tag {
    pub(super) const INFO: u64 = 1;
    pub(super) const CREATION_VERSION: u64 = 2;
    pub(super) const COMPRESSION: u64 = 3;
    pub(super) const FILTER: u64 = 4;
    pub(super) const BLOCK_BYTES: u64 = 5;
    pub(super) const KEYSPACE: u64 = 6;
    pub(super) const LEVEL: u64 = 7;
    pub(super) const LARGEST_BLOCK: u64 = 8;
    pub(super) const BLOCK_COUNT: u64 = 9;
    pub(super) const KEY_COUNT: u64 = 10;
    pub(super) const INDEX_BYTES: u64 = 11;
    pub(super) const FILTER_BYTES: u64 = 12;
    pub(super) const DATA_BYTES: u64 = 13;
    pub(super) const PREFIX_BYTES: u64 = 14;
}

/// Everything a table knows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Properties {
    /// What the manifest has too. `file_bytes` is not stored (the table cannot know it yet); readers fill it in.
    pub info: TableInfo,
    /// Format version of the release that wrote it.
    pub creation_version: u32,
    /// Compression asked for; single blocks may be raw.
    pub compression: Compression,
    /// Filter asked for.
    pub filter: FilterPolicy,
    /// Uncompressed block size asked for.
    pub block_bytes: u32,
    /// Keyspace that it was written for.
    pub keyspace: u32,
    /// Level that it was written for.
    pub level: u8,
    /// Uncompressed bytes of the largest data block: the bound for every decompression.
    pub largest_block: u32,
    /// Data blocks.
    pub block_count: u64,
    /// Distinct user keys.
    pub key_count: u64,
    /// Stored bytes of the index, partitions included.
    pub index_bytes: u64,
    /// Stored bytes of the filter.
    pub filter_bytes: u64,
    /// Uncompressed bytes of all data blocks.
    pub data_bytes: u64,
    /// The filter also holds the first bytes of keys, so many of them.
    pub prefix_bytes: Option<u16>,
}

impl Properties {
    /// Their bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut value = Vec::new();
        let stored = TableInfo { file_bytes: self.info.tail_offset, ..self.info.clone() };
        stored.encode(&mut value);
        put_varint(&mut out, tag::INFO);
        put_prefixed(&mut out, &value);
        let (policy, bits) = match self.filter {
            FilterPolicy::None => (0, 0),
            FilterPolicy::Blocked { bits } => (1, bits),
            FilterPolicy::Standard { bits } => (2, bits),
        };
        for (tag, number) in [
            (tag::CREATION_VERSION, u64::from(self.creation_version)),
            (tag::COMPRESSION, self.compression as u64),
            (tag::FILTER, policy | u64::from(bits) << 8),
            (tag::BLOCK_BYTES, u64::from(self.block_bytes)),
            (tag::KEYSPACE, u64::from(self.keyspace)),
            (tag::LEVEL, u64::from(self.level)),
            (tag::LARGEST_BLOCK, u64::from(self.largest_block)),
            (tag::BLOCK_COUNT, self.block_count),
            (tag::KEY_COUNT, self.key_count),
            (tag::INDEX_BYTES, self.index_bytes),
            (tag::FILTER_BYTES, self.filter_bytes),
            (tag::DATA_BYTES, self.data_bytes),
            (tag::PREFIX_BYTES, u64::from(self.prefix_bytes.unwrap_or(0))),
        ] {
            if tag == tag::PREFIX_BYTES && number == 0 {
                continue;
            }
            value.clear();
            put_varint(&mut value, number);
            put_varint(&mut out, tag);
            put_prefixed(&mut out, &value);
        }
        out
    }

    /// Reads them.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn decode(mut input: &[u8]) -> Result<Properties, String> {
        let mut info = None;
        let mut largest_block = None;
        let mut properties = Properties {
            info: TableInfo::default(),
            creation_version: FORMAT_VERSION,
            compression: Compression::None,
            filter: FilterPolicy::None,
            block_bytes: 0,
            keyspace: 0,
            level: 0,
            largest_block: 0,
            block_count: 0,
            key_count: 0,
            index_bytes: 0,
            filter_bytes: 0,
            data_bytes: 0,
            prefix_bytes: None,
        };
        while !input.is_empty() {
            let (tag, mut value) = take_varint(&mut input)
                .zip(take_prefixed(&mut input))
                .ok_or("a table property runs out of its block")?;
            if tag == tag::INFO {
                info = TableInfo::decode(&mut value);
                continue;
            }
            if !(tag::CREATION_VERSION..=tag::PREFIX_BYTES).contains(&tag) {
                continue;
            }
            let wrong = || format!("table property {tag} has a wrong value");
            let number = take_varint(&mut value).ok_or_else(wrong)?;
            let word = u32::try_from(number).map_err(|_| wrong());
            let byte = u8::try_from(number).map_err(|_| wrong());
            match tag {
                tag::CREATION_VERSION => properties.creation_version = word?,
                tag::COMPRESSION => {
                    properties.compression = compression::from_u8(byte?).ok_or_else(wrong)?;
                }
                tag::FILTER => {
                    let bits = (number >> 8) as u8;
                    properties.filter = match number as u8 {
                        1 => FilterPolicy::Blocked { bits },
                        2 => FilterPolicy::Standard { bits },
                        _ => FilterPolicy::None,
                    };
                }
                tag::BLOCK_BYTES => properties.block_bytes = word?,
                tag::KEYSPACE => properties.keyspace = word?,
                tag::LEVEL => properties.level = byte?,
                tag::LARGEST_BLOCK => largest_block = Some(word?),
                tag::BLOCK_COUNT => properties.block_count = number,
                tag::KEY_COUNT => properties.key_count = number,
                tag::INDEX_BYTES => properties.index_bytes = number,
                tag::FILTER_BYTES => properties.filter_bytes = number,
                tag::PREFIX_BYTES => {
                    let length = u16::try_from(number).ok();
                    let is_possible = |length: &u16| (1..=PREFIX_BYTES_MAX).contains(length);
                    properties.prefix_bytes = Some(length.filter(is_possible).ok_or_else(wrong)?);
                }
                _ => properties.data_bytes = number,
            }
        }
        properties.info = info.ok_or("table properties without a table info")?;
        properties.largest_block =
            largest_block.ok_or("table properties without the largest block")?;
        Ok(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_and_unknown_ones_are_skipped() {
        let properties = Properties {
            info: TableInfo {
                table_id: 4,
                file_bytes: 777,
                tail_offset: 777,
                smallest: b"a".to_vec(),
                largest: b"b".to_vec(),
                entry_count: 2,
                ..TableInfo::default()
            },
            creation_version: 1,
            compression: Compression::Zstd,
            filter: FilterPolicy::Blocked { bits: 10 },
            block_bytes: 4096,
            keyspace: 3,
            level: 6,
            largest_block: 5000,
            block_count: 9,
            key_count: 2,
            index_bytes: 100,
            filter_bytes: 64,
            data_bytes: 40_000,
            prefix_bytes: Some(8),
        };
        let mut bytes = properties.encode();
        assert_eq!(Properties::decode(&bytes), Ok(properties.clone()));
        for cut in 0..bytes.len() {
            assert_ne!(Properties::decode(&bytes[..cut]), Ok(properties.clone()));
        }
        put_varint(&mut bytes, 999);
        put_prefixed(&mut bytes, b"from the future");
        assert_eq!(Properties::decode(&bytes), Ok(properties));
    }
}

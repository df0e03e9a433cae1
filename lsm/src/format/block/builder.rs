//! Builds one data block after another in the same buffers.

use super::{FOOTER_BYTES, KIND_BITS, RESTART_INTERVAL, RESTART_SHIFT, fingerprint};
use crate::base::coding::{VARINT32_BYTES_MAX, write_varint};
use crate::base::key::{Tag, common_prefix, head};
use crate::format::compression::BLOCK_BYTES_MAX;

/// Collects entries (user key ascending, tag descending) into the form that [`super`] draws.
#[derive(Debug, Default)]
pub struct BlockBuilder {
    block: Vec<u8>,
    offsets: Vec<u32>,
    tags: Vec<u64>,
    fingerprints: Vec<u8>,
    restart_at: usize,
    restart_length: usize,
    tag_min: u64,
    tag_max: u64,
}

impl BlockBuilder {
    /// An empty builder.
    pub fn new() -> BlockBuilder {
        BlockBuilder::default()
    }

    /// Entries so far.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Uncompressed bytes so far, about.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.block.len() + self.count() * 8
    }

    /// True before the first entry.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// About the block's size, not below it by more than a byte or two per entry, if an entry of these lengths came next.
    #[inline]
    pub fn bytes_with(&self, key_length: usize, value_length: usize) -> usize {
        let entries = self.block.len() + 3 * VARINT32_BYTES_MAX + key_length + value_length;
        let count = self.count() + 1;
        let width = if entries <= 1 << 16 { 2 } else { 4 };
        let tag_width = byte_width(self.tag_max.wrapping_sub(self.tag_min));
        entries
            + count * (width + tag_width + 1)
            + (count / RESTART_INTERVAL + 1) * 8
            + FOOTER_BYTES
    }

    /// True if an entry of these lengths still fits the format, whatever the wanted block size.
    pub fn fits(&self, key_length: usize, value_length: usize) -> bool {
        self.bytes_with(key_length, value_length) + 8 * self.count() < BLOCK_BYTES_MAX
    }

    /// Appends an entry. The caller has checked `fits` and keeps the order.
    #[inline]
    pub fn add(&mut self, key: &[u8], hash: u64, tag: Tag, value: &[u8]) {
        let packed = tag.sequence() << KIND_BITS | u64::from(tag.kind_byte());
        let index = self.offsets.len();
        if index == 0 {
            (self.tag_min, self.tag_max) = (packed, packed);
        } else {
            self.tag_min = self.tag_min.min(packed);
            self.tag_max = self.tag_max.max(packed);
        }
        let is_restart = index.is_multiple_of(RESTART_INTERVAL);
        let shared = if is_restart {
            0
        } else {
            common_prefix(&self.block[self.restart_at..self.restart_at + self.restart_length], key)
        };
        self.offsets.push(self.block.len() as u32);
        self.tags.push(packed);
        self.fingerprints.push(fingerprint(hash));

        let suffix = &key[shared..];
        self.block.reserve(3 * VARINT32_BYTES_MAX + suffix.len() + value.len());
        if (shared | suffix.len() | value.len()) < 0x80 {
            self.block.extend_from_slice(&[shared as u8, suffix.len() as u8, value.len() as u8]);
        } else {
            self.add_long_header(shared, suffix.len(), value.len());
        }
        if is_restart {
            (self.restart_at, self.restart_length) = (self.block.len(), key.len());
        }
        self.block.extend_from_slice(suffix);
        self.block.extend_from_slice(value);
    }

    #[cold]
    fn add_long_header(&mut self, shared: usize, suffix: usize, value: usize) {
        let mut bytes = [0; 10];
        for length in [shared, suffix, value] {
            let used = write_varint(&mut bytes, length as u64);
            self.block.extend_from_slice(&bytes[..used]);
        }
    }

    /// Completes the block and returns its bytes. `first` and `last` are its first and last user keys.
    /// Call [`reset`](Self::reset) before the next block.
    pub fn finish(&mut self, first: &[u8], last: &[u8]) -> &[u8] {
        debug_assert!(!self.is_empty());
        let prefix = common_prefix(first, last);
        let entries_bytes = self.block.len();
        let offset_width = if entries_bytes <= 1 << 16 { 2 } else { 4 };
        let tag_width = byte_width(self.tag_max - self.tag_min);

        for &offset in &self.offsets {
            self.block.extend_from_slice(&offset.to_le_bytes()[..offset_width]);
        }
        for &tag in &self.tags {
            let bytes = (tag - self.tag_min).to_le_bytes();
            self.block.extend_from_slice(&bytes[..tag_width]);
        }
        for index in (0..self.offsets.len()).step_by(RESTART_INTERVAL) {
            // A restart entry holds its whole key right after its header, whose length follows from the lengths in it.
            let mut input = &self.block[self.offsets[index] as usize..entries_bytes];
            let length = super::take_header(&mut input).map_or(0, |(_, suffix, _)| suffix);
            let key = &input[..length];
            let head = head(key, prefix);
            self.block.extend_from_slice(&head.to_le_bytes());
        }
        self.block.extend_from_slice(&self.fingerprints);

        self.block.extend_from_slice(&self.tag_min.to_le_bytes());
        self.block.extend_from_slice(&(entries_bytes as u32).to_le_bytes());
        self.block.extend_from_slice(&(self.offsets.len() as u32).to_le_bytes());
        self.block.extend_from_slice(&(prefix as u32).to_le_bytes());
        self.block.extend_from_slice(&[offset_width as u8, tag_width as u8, RESTART_SHIFT, 0]);
        self.block.extend_from_slice(&[0; 8]);
        &self.block
    }

    /// Makes the builder empty again; it keeps its buffers.
    pub fn reset(&mut self) {
        self.block.clear();
        self.offsets.clear();
        self.tags.clear();
        self.fingerprints.clear();
        (self.tag_min, self.tag_max) = (0, 0);
    }
}

/// Bytes that hold every value up to `max`; 0 for 0.
fn byte_width(max: u64) -> usize {
    (64 - max.leading_zeros() as usize).div_ceil(8)
}

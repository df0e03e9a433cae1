//! The data block: the unit that is read, checked, compressed and cached.
//!
//! ```text
//! entries      entry ...                one after the other, no gaps
//! offsets      u16 or u32 per entry     where each entry begins
//! tags         0 to 8 bytes per entry   (sequence << 3 | kind) - smallest of the block
//! heads        u64 per restart          first 8 bytes of the restart's key after the common prefix, as a number
//! fingerprints u8 per entry             a byte of the key's hash
//! footer       32 bytes:
//!   | smallest tag u64 | entries bytes u32 | count u32 | common prefix u32 | offset width u8 | tag width u8 |
//!   | restart shift u8 | 0 u8 | zeros 8 |
//!
//! entry:   | shared varint | suffix length varint | value length varint | suffix | value |
//! ```
//!
//! `shared` counts bytes in common with the key of the entry's *restart* (entry 0, 16, 32, ...; there it is 0), not with the
//! entry before, so that every entry is decoded by itself: binary search inside a group and reverse iteration replay
//! nothing. Tags stand in a column of their own with one width per block: no varint to decode, no byte at all where all
//! are equal (the last level). A point read compares the key's fingerprint with 16 entries per instruction and verifies the
//! candidates; a seek compares heads as numbers, then binary-searches one group.
//!
//! Measured (34 entries of 116 bytes): `find` 21 ns in L1; the walk of promise 2 costs 100 to 140 ns
//! a block and lets every later read go unchecked. Intervals of 8 and 16 could not be told apart above the
//! noise of the machine, nor could the prefetches of the columns be shown to help; 16 is the smaller block.
//!
//! Promises:
//! 1. All versions of a user key stand in one block, newest first.
//! 2. `parse` walks the whole block once; a parsed block is never read out of bounds, even if the bytes are wrong under a
//!    right checksum. All access after it relies on that walk.
//!
//! Not here: the frame with the checksum ([`frame`]), reading from a file.

pub mod builder;
pub mod frame;
mod walk;

pub use builder::BlockBuilder;
pub use walk::{BlockCursor, Walk};

use crate::base::coding::take_varint32;
use crate::base::key::{Kind, SEQUENCE_MAX, SequenceNumber, Tag, head};
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::prefetch::prefetch;
use std::cmp::Ordering;

/// Entries per restart group.
pub const RESTART_INTERVAL: usize = 1 << RESTART_SHIFT;
const RESTART_SHIFT: u8 = 4;
const KIND_BITS: u32 = 3;
const FOOTER_BYTES: usize = 32;
/// Above this many entries a point read searches like a seek: the fingerprint scan is linear.
const FINGERPRINT_COUNT_MAX: usize = 512;

/// The byte of a key's hash that blocks keep: the filters choose their line by the top of this half, so that it is nearly
/// independent of them.
#[inline]
pub fn fingerprint(hash: u64) -> u8 {
    (hash >> 32) as u8
}

/// A parsed data block, immutable.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    tag_min: u64,
    tag_mask: u64,
    entries_bytes: u32,
    count: u32,
    tags_at: u32,
    heads_at: u32,
    fingerprints_at: u32,
    prefix: u32,
    offset_width: u8,
    tag_width: u8,
    restart_shift: u8,
}

/// Where the parts of one entry lie in the block.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    shared: u32,
    suffix_at: u32,
    suffix_length: u32,
    value_length: u32,
}

impl Entry {
    fn value_at(self) -> u32 {
        self.suffix_at + self.suffix_length
    }
}

/// Takes `(shared, suffix length, value length)`.
fn take_header(input: &mut &[u8]) -> Option<(usize, usize, usize)> {
    let shared = take_varint32(input)? as usize;
    let suffix = take_varint32(input)? as usize;
    let value = take_varint32(input)? as usize;
    Some((shared, suffix, value))
}

impl Block {
    /// Takes the uncompressed bytes of a block and checks every length in them.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(bytes: Vec<u8>) -> Result<Block, String> {
        let Some((body, footer)) = bytes.split_last_chunk::<FOOTER_BYTES>() else {
            return Err(format!("a block of {} bytes, shorter than its footer", bytes.len()));
        };
        let word = |at: usize| {
            u32::from_le_bytes([footer[at], footer[at + 1], footer[at + 2], footer[at + 3]])
        };
        let tag_min = u64::from(word(0)) | u64::from(word(4)) << 32;
        let (entries_bytes, count, prefix) = (word(8), word(12), word(16));
        let [offset_width, tag_width, restart_shift, _] = word(20).to_le_bytes();
        if !matches!(offset_width, 2 | 4) || tag_width > 8 || restart_shift > 8 || count == 0 {
            return Err(format!(
                "block widths {offset_width}, {tag_width}, {restart_shift} with {count} entries"
            ));
        }
        let wide_count = u64::from(count);
        let restarts = ((wide_count - 1) >> restart_shift) + 1;
        let tags_at = u64::from(entries_bytes) + wide_count * u64::from(offset_width);
        let heads_at = tags_at + wide_count * u64::from(tag_width);
        let fingerprints_at = heads_at + restarts * 8;
        let body_bytes = fingerprints_at + wide_count;
        if body_bytes != body.len() as u64 || bytes.len() > super::compression::BLOCK_BYTES_MAX {
            return Err(format!("a block of {} bytes, its footer says {body_bytes}", body.len()));
        }
        let tag_mask = match tag_width {
            8 => u64::MAX,
            width => (1 << (8 * width)) - 1,
        };
        let block = Block {
            tag_min,
            tag_mask,
            entries_bytes,
            count,
            tags_at: tags_at as u32,
            heads_at: heads_at as u32,
            fingerprints_at: fingerprints_at as u32,
            prefix,
            offset_width,
            tag_width,
            restart_shift,
            bytes,
        };
        block.check_entries()?;
        Ok(block)
    }

    /// The one linear pass: entries follow one another without a gap, stay inside, and borrow only from their restart.
    fn check_entries(&self) -> Result<(), String> {
        let entries = &self.bytes[..self.entries_bytes as usize];
        let restart_mask = (1u32 << self.restart_shift) - 1;
        let mut at = 0u32;
        let mut restart_length = 0;
        for index in 0..self.count {
            let wrong = |what: &str| Err(format!("block entry {index} of {}: {what}", self.count));
            if self.offset(index) != at {
                return wrong("its offset is not where the entry before ends");
            }
            // Every entry is at least three bytes long; the footer behind makes four readable.
            let entry = match self.read_u32(at) {
                word if word & 0x0080_8080 == 0 => short_entry(at, word),
                _ => match checked_entry(entries, at) {
                    Some(entry) => entry,
                    None => return wrong("its header runs out of the block"),
                },
            };
            let length = u64::from(entry.shared) + u64::from(entry.suffix_length);
            let end = u64::from(entry.suffix_at)
                + u64::from(entry.suffix_length)
                + u64::from(entry.value_length);
            if length > KEY_BYTES_MAX as u64 || end > u64::from(self.entries_bytes) {
                return wrong("it runs out of the block");
            }
            if index & restart_mask == 0 {
                restart_length = entry.suffix_length;
                let key = &entries[entry.suffix_at as usize..][..restart_length as usize];
                if entry.shared != 0 || self.prefix > restart_length {
                    return wrong("a restart without its whole key");
                }
                if self.head(index >> self.restart_shift) != head(key, self.prefix as usize) {
                    return wrong("the head of its restart is not that of its key");
                }
            } else if entry.shared > restart_length {
                return wrong("it shares more than its restart has");
            }
            let tag = self.tag(index);
            if Kind::of_entry(tag.kind_byte()).is_none() || tag.sequence() > SEQUENCE_MAX {
                return wrong("its tag is not known to this release");
            }
            at = end as u32;
        }
        if at == self.entries_bytes {
            Ok(())
        } else {
            Err(format!("block entries end at {at}, not at {}", self.entries_bytes))
        }
    }

    /// Gives all entries, which must have sequence number 0, this one: a block of a table that was ingested.
    ///
    /// # Errors
    /// An entry with a number of its own.
    pub fn raised_to(mut self, sequence: SequenceNumber) -> Result<Block, String> {
        match (0..self.count).find(|&index| self.tag(index).sequence() != 0) {
            Some(index) => {
                let found = self.tag(index).sequence();
                Err(format!("block entry {index} has sequence number {found}, where 0 is due"))
            }
            None => {
                self.tag_min = self.tag_min.wrapping_add(sequence << KIND_BITS);
                Ok(self)
            }
        }
    }

    /// The fingerprint that is kept of the key of an entry.
    ///
    /// # Panics
    /// If there is no such entry.
    pub fn fingerprint_of(&self, index: usize) -> u8 {
        assert!(index < self.count());
        self.bytes[self.fingerprints_at as usize + index]
    }

    /// Number of entries, at least one.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Uncompressed size in bytes.
    pub fn byte_length(&self) -> usize {
        self.bytes.len()
    }

    /// Heap bytes behind this block beside the `Block` itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives the buffer back for another block.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The newest version of `key` not newer than `sequence`, with its value. `hash` is the key's.
    #[inline]
    pub fn find(&self, key: &[u8], hash: u64, sequence: u64) -> Option<(Tag, &[u8])> {
        if self.count as usize > FINGERPRINT_COUNT_MAX {
            return self.find_by_order(key, sequence);
        }
        let wanted = fingerprint(hash);
        self.prefetch_columns();
        let mut base = 0;
        while base < self.count {
            let mut candidates = self.match_fingerprints(base, wanted);
            while candidates != 0 {
                let index = base + candidates.trailing_zeros();
                let entry = self.entry(index);
                if self.key_is(index, entry, key) {
                    return self.visible(index, entry, key, sequence);
                }
                candidates &= candidates - 1;
            }
            base += 16;
        }
        None
    }

    #[cold]
    fn find_by_order(&self, key: &[u8], sequence: u64) -> Option<(Tag, &[u8])> {
        let index = self.lower_bound(key);
        if index == self.count {
            return None;
        }
        let entry = self.entry(index);
        if self.key_is(index, entry, key) {
            self.visible(index, entry, key, sequence)
        } else {
            None
        }
    }

    /// From the newest version of `key` at `index` on, the first that `sequence` may see.
    #[inline]
    fn visible(
        &self,
        mut index: u32,
        mut entry: Entry,
        key: &[u8],
        sequence: u64,
    ) -> Option<(Tag, &[u8])> {
        loop {
            let tag = self.tag(index);
            if tag.sequence() <= sequence {
                return Some((tag, self.slice(entry.value_at(), entry.value_length)));
            }
            index += 1;
            if index == self.count {
                return None;
            }
            entry = self.entry(index);
            if !self.key_is(index, entry, key) {
                return None;
            }
        }
    }

    /// Index of the first entry whose user key is not below `key`; `count` if there is none.
    pub fn lower_bound(&self, key: &[u8]) -> u32 {
        self.prefetch_columns();
        let prefix = self.prefix as usize;
        if prefix > 0 {
            let first = self.entry(0);
            let common = self.slice(first.suffix_at, self.prefix);
            match key[..prefix.min(key.len())].cmp(common) {
                Ordering::Less => return 0,
                Ordering::Greater => return self.count,
                Ordering::Equal => {}
            }
        }
        let wanted = head(key, prefix);
        let restarts = ((self.count - 1) >> self.restart_shift) + 1;
        // Restarts below `low` are below the key, those from `high` on are not.
        let (mut low, mut high) = (0, restarts);
        while low < high {
            let middle = (low + high) / 2;
            let order = self.head(middle).cmp(&wanted).then_with(|| {
                let entry = self.entry(middle << self.restart_shift);
                self.slice(entry.suffix_at, entry.suffix_length).cmp(key)
            });
            if order == Ordering::Less {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low == 0 {
            return 0;
        }
        self.lower_bound_in_group(low - 1, key)
    }

    /// As `lower_bound`, where the restart of `group` is below `key` and the next one, if any, is not.
    fn lower_bound_in_group(&self, group: u32, key: &[u8]) -> u32 {
        let start = group << self.restart_shift;
        let end = (start + (1 << self.restart_shift)).min(self.count);
        for index in start..end {
            self.prefetch(self.offset(index));
        }
        let restart = self.entry(start);
        let restart_key = self.slice(restart.suffix_at, restart.suffix_length);
        let shared_with_key = crate::base::key::common_prefix(restart_key, key) as u32;
        let (mut low, mut high) = (start + 1, end);
        while low < high {
            let middle = (low + high) / 2;
            let entry = self.entry(middle);
            // An entry that shares more with its restart than the key does stands to the key as the restart does: below.
            let below = entry.shared > shared_with_key
                || self.slice(entry.suffix_at, entry.suffix_length) < &key[entry.shared as usize..];
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Index of the first entry at or after (`key`, `tag`); `count` if there is none.
    pub fn lower_bound_version(&self, key: &[u8], tag: Tag) -> u32 {
        let mut index = self.lower_bound(key);
        while index < self.count
            && self.tag(index) > tag
            && self.key_is(index, self.entry(index), key)
        {
            index += 1;
        }
        index
    }

    #[inline]
    fn key_is(&self, index: u32, entry: Entry, key: &[u8]) -> bool {
        let shared = entry.shared as usize;
        if key.len() != shared + entry.suffix_length as usize
            || self.slice(entry.suffix_at, entry.suffix_length) != &key[shared..]
        {
            return false;
        }
        shared == 0 || {
            let restart = self.entry(index >> self.restart_shift << self.restart_shift);
            self.slice(restart.suffix_at, entry.shared) == &key[..shared]
        }
    }

    /// Asks for the cache lines of the columns at once: one after the other they would be a miss each in a block that only DRAM
    /// holds. A large block's are too many, and it is searched by few of them.
    #[inline]
    pub(crate) fn prefetch_columns(&self) {
        let mut at = self.entries_bytes;
        let end = (self.bytes.len() as u32).min(at + 8 * 64);
        while at < end {
            self.prefetch(at);
            at += 64;
        }
    }

    #[inline]
    fn prefetch(&self, at: u32) {
        prefetch(self.bytes.as_ptr().wrapping_add(at as usize));
    }

    /// Bit i of the answer: the fingerprint of entry `base + i` is `wanted`.
    #[inline]
    fn match_fingerprints(&self, base: u32, wanted: u8) -> u32 {
        let at = (self.fingerprints_at + base) as usize;
        let valid = (self.count - base).min(16);
        debug_assert!(at + 16 <= self.bytes.len());
        #[cfg(target_arch = "x86_64")]
        let equal = {
            use std::arch::x86_64::{
                _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8,
            };
            // SAFETY: `base < count`, so `at` lies inside the fingerprints, and the footer behind them makes 16 bytes
            // readable (promise 2). SSE2 is part of x86-64.
            unsafe {
                let group = _mm_loadu_si128(self.bytes.as_ptr().add(at).cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(group, _mm_set1_epi8(wanted as i8))) as u32
            }
        };
        #[cfg(not(target_arch = "x86_64"))]
        let equal = {
            let group = &self.bytes[at..at + 16];
            (0..16).fold(0, |bits, i| bits | u32::from(group[i] == wanted) << i)
        };
        equal & ((1 << valid) - 1)
    }

    /// Decodes entry `index`, which is below `count`.
    #[inline]
    fn entry(&self, index: u32) -> Entry {
        self.entry_at(self.offset(index))
    }

    /// Decodes the entry that begins at `at`.
    #[inline]
    fn entry_at(&self, at: u32) -> Entry {
        let word = self.read_u32(at);
        if word & 0x0080_8080 == 0 { short_entry(at, word) } else { self.long_entry(at) }
    }

    #[cold]
    fn long_entry(&self, at: u32) -> Entry {
        // `parse` decoded the same bytes before, so this does not fail; an empty entry would be harmless.
        checked_entry(&self.bytes[..self.entries_bytes as usize], at).unwrap_or_default()
    }

    #[inline]
    fn offset(&self, index: u32) -> u32 {
        debug_assert!(index < self.count);
        let at = self.entries_bytes + index * u32::from(self.offset_width);
        let word = self.read_u32(at);
        if self.offset_width == 2 { word & 0xffff } else { word }
    }

    #[inline]
    pub(crate) fn tag(&self, index: u32) -> Tag {
        debug_assert!(index < self.count);
        let delta = self.read_u64(self.tags_at + index * u32::from(self.tag_width)) & self.tag_mask;
        let packed = self.tag_min.wrapping_add(delta);
        Tag(packed >> KIND_BITS << 8 | packed & ((1 << KIND_BITS) - 1))
    }

    #[inline]
    fn head(&self, restart: u32) -> u64 {
        self.read_u64(self.heads_at + restart * 8)
    }

    #[inline]
    fn read_u32(&self, at: u32) -> u32 {
        debug_assert!(at as usize + 4 <= self.bytes.len());
        // SAFETY: `at` is the start of an entry, offset or tag below the footer, which is longer than 4 bytes (promise 2).
        u32::from_le(unsafe { self.bytes.as_ptr().add(at as usize).cast::<u32>().read_unaligned() })
    }

    #[inline]
    fn read_u64(&self, at: u32) -> u64 {
        debug_assert!(at as usize + 8 <= self.bytes.len());
        // SAFETY: `at` is the start of a tag or head below the footer, which is longer than 8 bytes (promise 2).
        u64::from_le(unsafe { self.bytes.as_ptr().add(at as usize).cast::<u64>().read_unaligned() })
    }

    #[inline]
    fn slice(&self, at: u32, length: u32) -> &[u8] {
        debug_assert!(at as usize + length as usize <= self.bytes.len());
        // SAFETY: at and length come from an entry that `parse` found inside the block (promise 2).
        // Test: a_wrong_block_under_a_right_checksum_is_refused_or_read_in_bounds.
        unsafe { self.bytes.get_unchecked(at as usize..at as usize + length as usize) }
    }
}

/// The entry at `at` whose three lengths are the low bytes of `word`.
#[inline]
fn short_entry(at: u32, word: u32) -> Entry {
    Entry {
        shared: word & 0x7f,
        suffix_at: at + 3,
        suffix_length: word >> 8 & 0x7f,
        value_length: word >> 16 & 0x7f,
    }
}

fn checked_entry(entries: &[u8], at: u32) -> Option<Entry> {
    let mut input = entries.get(at as usize..)?;
    let (shared, suffix, value) = take_header(&mut input)?;
    Some(Entry {
        shared: shared as u32,
        suffix_at: (entries.len() - input.len()) as u32,
        suffix_length: suffix as u32,
        value_length: value as u32,
    })
}

#[cfg(test)]
mod tests;

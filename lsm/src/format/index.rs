//! The index of a table: for each block (or partition) a separator, and where it lies. Keyed by user key.
//!
//! ```text
//! heads          u64 x n        first 8 bytes of each separator after the common prefix, as a number
//! key offsets    u32 x (n + 1)  into the separator bytes
//! block offsets  u32 x (n + 1)  in the file; blocks are contiguous, so a size is a difference
//! separators     bytes          each without the common prefix
//! prefix         bytes          common to all separators
//! footer         | n u32 | prefix length u32 |
//! ```
//!
//! Separator i is not below any key of block i and below every key of block i + 1, and as short as that allows. The bytes on
//! disk are the arrays in memory: opening a table decodes nothing. A search compares heads as numbers; the separators
//! are touched only where heads are equal. Where heads grow evenly (as those of hashes, counters and dates do) a
//! straight line fitted at open says where to look, with the largest error it made: the binary search then runs over that
//! window only, which is some cache lines instead of the whole array.
//!
//! A table with up to [`FLAT_BYTES_MAX`] of index has it in one piece. Above that the index is cut into partitions of about
//! [`PARTITION_BYTES`], stored like blocks before the tail, and a top index over them stays resident.
//!
//! Promise: after `parse` no search reads out of bounds, whatever the bytes.

mod builder;

pub use builder::{BuiltIndex, IndexBuilder, separator};

use crate::base::key::head;
use crate::base::prefetch::prefetch;
use crate::io::AlignedBuffer;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Largest index that is kept in one piece.
pub const FLAT_BYTES_MAX: usize = 1 << 20;
/// About the size of a partition of a larger index.
pub const PARTITION_BYTES: usize = 64 << 10;

const FOOTER_BYTES: usize = 8;
/// A line whose largest error is above this is not used.
const LINE_ERROR_MAX: usize = 512;

/// Cache lines of heads asked for ahead of a search; a wider window is searched from its middle and profits less.
const PREFETCH_LINES_MAX: usize = 8;

/// Where a block lies in its table, frame included.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct BlockHandle {
    /// Offset in bytes from the start of the file.
    pub offset: u32,
    /// Stored bytes, trailer included.
    pub bytes: u32,
}

impl BlockHandle {
    /// Offset of the byte after the block.
    pub fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.bytes)
    }
}

/// A parsed index (or partition of one) over bytes that it shares with the rest of the table's tail.
#[derive(Debug)]
pub struct Index {
    bytes: Arc<AlignedBuffer>,
    start: usize,
    count: usize,
    prefix: Vec<u8>,
    separators_at: usize,
    separators_length: usize,
    line: Option<Line>,
}

/// `position ~ (head - origin) * slope`, off by at most `error`.
#[derive(Debug)]
struct Line {
    origin: u64,
    slope: f64,
    error: usize,
}

impl Line {
    #[inline]
    fn position(&self, head: u64) -> usize {
        // Half of the distance fits an i64, whose conversion is one instruction.
        let half = (head.saturating_sub(self.origin) >> 1) as i64;
        (half as f64 * self.slope) as usize
    }
}

impl Index {
    /// Checks the index in `bytes[range]`. Its blocks lie inside `blocks` of the file.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(
        bytes: Arc<AlignedBuffer>,
        range: Range<usize>,
        blocks: Range<u64>,
    ) -> Result<Index, String> {
        let all = bytes.get(range.clone()).ok_or("the index lies outside of its file")?;
        let Some((_, footer)) = all.split_last_chunk::<FOOTER_BYTES>() else {
            return Err(format!("an index of {} bytes, shorter than its footer", all.len()));
        };
        let count = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
        let prefix = u32::from_le_bytes([footer[4], footer[5], footer[6], footer[7]]) as usize;
        let fixed = count * 8 + 2 * (count + 1) * 4;
        let Some(separators_length) = (all.len() - FOOTER_BYTES).checked_sub(fixed + prefix) else {
            return Err(format!("an index of {} bytes with {count} entries", all.len()));
        };
        if count == 0 {
            return Err("an index without entries".into());
        }
        let prefix_at = fixed + separators_length;
        let mut index = Index {
            start: range.start,
            count,
            prefix: all[prefix_at..prefix_at + prefix].to_vec(),
            separators_at: range.start + fixed,
            separators_length,
            line: None,
            bytes,
        };
        index.check(blocks)?;
        index.line = index.fit_line();
        Ok(index)
    }

    fn check(&self, blocks: Range<u64>) -> Result<(), String> {
        let offset = |i| u64::from(self.block_offset(i));
        if self.key_offset(0) != 0 || self.key_offset(self.count) as usize != self.separators_length
        {
            return Err("index separators do not fill their place".into());
        }
        if offset(0) < blocks.start || offset(self.count) > blocks.end {
            return Err(format!(
                "index covers bytes {} to {}, blocks lie in {blocks:?}",
                offset(0),
                offset(self.count)
            ));
        }
        for i in 0..self.count {
            let (start, end) = (self.key_offset(i), self.key_offset(i + 1));
            if start > end || end as usize > self.separators_length || offset(i) >= offset(i + 1) {
                return Err(format!("index entry {i} of {} is out of order", self.count));
            }
            if self.head(i) != head(self.separator(i), 0)
                || i > 0 && self.head(i - 1) > self.head(i)
            {
                return Err(format!("index entry {i} of {} has a wrong head", self.count));
            }
        }
        Ok(())
    }

    fn fit_line(&self) -> Option<Line> {
        let (first, last) = (self.head(0), self.head(self.count - 1));
        if self.count < 32 || last - first < 2 {
            return None;
        }
        let slope = (self.count - 1) as f64 / ((last - first) >> 1) as f64;
        let mut line = Line { origin: first, slope, error: 0 };
        for i in 0..self.count {
            line.error = line.error.max(line.position(self.head(i)).abs_diff(i));
        }
        (line.error <= LINE_ERROR_MAX && line.error * 4 < self.count).then_some(line)
    }

    /// Number of entries, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that it keeps resident beside the shared tail.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Index>() + self.prefix.capacity()
    }

    /// Bytes of the buffer that it shares; a partition has it alone.
    pub fn partition_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Asks the CPU for what [`search`](Self::search) will read first: the heads where the line points and the offsets there.
    #[inline]
    pub fn prefetch(&self, key: &[u8]) {
        let prefix = self.prefix.len();
        let Some(line) = &self.line else { return };
        if !key.starts_with(&self.prefix) {
            return;
        }
        let guess = line.position(head(key, prefix)).min(self.count.saturating_sub(1));
        let low = guess.saturating_sub(line.error + 1);
        let high = (guess + line.error + 2).min(self.count);
        let end = self.start + high * 8;
        let mut at = self.start + low * 8;
        for _ in 0..PREFETCH_LINES_MAX {
            if at >= end {
                break;
            }
            prefetch(self.bytes.as_ptr().wrapping_add(at));
            at += 64;
        }
        let offsets = self.start + self.count * 8 + (self.count + 1) * 4;
        prefetch(self.bytes.as_ptr().wrapping_add(offsets + guess * 4));
    }

    /// Number of the first entry whose separator is not below `key`: the only block that can hold it. `None` if `key` is
    /// above them all.
    #[inline]
    pub fn search(&self, key: &[u8]) -> Option<usize> {
        let prefix = self.prefix.len();
        if prefix > 0 {
            match key[..prefix.min(key.len())].cmp(&self.prefix) {
                Ordering::Less => return Some(0),
                Ordering::Greater => return None,
                Ordering::Equal => {}
            }
        }
        let wanted = head(key, prefix);
        let (mut low, mut high) = (0, self.count);
        if let Some(line) = &self.line {
            // The line rises, so the answer lies within its largest error (and one step) of where it points.
            let guess = line.position(wanted);
            low = guess.saturating_sub(line.error + 1).min(self.count);
            high = guess.saturating_add(line.error + 2).min(self.count);
        }
        let mut found = self.lower_bound_of_head(low, high, wanted);
        if found < self.count && self.head(found) == wanted {
            found = self.search_equal_heads(found, wanted, &key[prefix..]);
        }
        (found < self.count).then_some(found)
    }

    /// First entry in `low..high` whose head is not below `wanted`, or `high`.
    #[inline]
    fn lower_bound_of_head(&self, low: usize, high: usize, wanted: u64) -> usize {
        let (mut base, mut size) = (low, high - low);
        if size == 0 {
            return base;
        }
        // No branch depends on the heads: a mispredicted one costs more than the load.
        while size > 1 {
            let half = size / 2;
            base = if self.head(base + half - 1) < wanted { base + half } else { base };
            size -= half;
        }
        base + usize::from(self.head(base) < wanted)
    }

    #[inline]
    fn search_equal_heads(&self, first: usize, wanted: u64, rest: &[u8]) -> usize {
        if self.separator(first) >= rest {
            return first;
        }
        let (mut low, mut high) = (first + 1, self.count);
        while low < high {
            let middle = (low + high) / 2;
            let below = match self.head(middle).cmp(&wanted) {
                Ordering::Less => true,
                Ordering::Equal => self.separator(middle) < rest,
                Ordering::Greater => false,
            };
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Where block `i` lies; `i` is below `count`.
    #[inline]
    pub fn handle(&self, i: usize) -> BlockHandle {
        let offset = self.block_offset(i);
        BlockHandle { offset, bytes: self.block_offset(i + 1) - offset }
    }

    /// Offset of the byte after the last block.
    pub fn blocks_end(&self) -> u64 {
        u64::from(self.block_offset(self.count))
    }

    /// The whole separator of entry `i`, for checks.
    pub fn separator_key(&self, i: usize) -> Vec<u8> {
        [&self.prefix, self.separator(i)].concat()
    }

    #[inline]
    fn head(&self, i: usize) -> u64 {
        debug_assert!(i < self.count);
        // SAFETY: `parse` found 8 * count bytes of heads at `start`; callers keep i < count (asserted in debug builds).
        u64::from_le(unsafe {
            self.bytes.as_ptr().add(self.start + i * 8).cast::<u64>().read_unaligned()
        })
    }

    #[inline]
    fn key_offset(&self, i: usize) -> u32 {
        self.word(self.start + self.count * 8 + i * 4)
    }

    #[inline]
    fn block_offset(&self, i: usize) -> u32 {
        assert!(i <= self.count, "block {i} of {}", self.count);
        self.word(self.start + self.count * 8 + (self.count + 1) * 4 + i * 4)
    }

    #[inline]
    fn word(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    #[inline]
    fn separator(&self, i: usize) -> &[u8] {
        let (start, end) = (self.key_offset(i) as usize, self.key_offset(i + 1) as usize);
        &self.bytes[self.separators_at + start..self.separators_at + end]
    }
}

#[cfg(test)]
mod tests;

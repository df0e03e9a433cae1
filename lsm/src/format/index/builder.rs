//! Collects separators and block offsets while a table is written, and encodes them.

use super::{FOOTER_BYTES, PARTITION_BYTES};
use crate::base::key::{common_prefix, head};

/// Bytes of an entry beside its separator.
const ENTRY_BYTES: usize = 16;

/// The separators of a table being written.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    separators: Vec<u8>,
    ends: Vec<usize>,
    offsets: Vec<u32>,
}

/// An encoded index.
#[derive(Debug)]
pub enum BuiltIndex {
    /// In one piece.
    Flat(Vec<u8>),
    /// In partitions, each with its largest separator. They are stored one after the other, and an index over them is built.
    Partitioned(Vec<(Vec<u8>, Vec<u8>)>),
}

/// A short key that is not below `last` and below `next`; `last` is below `next`.
pub fn separator(last: &[u8], next: &[u8], out: &mut Vec<u8>) {
    debug_assert!(last < next);
    let shared = common_prefix(last, next);
    out.clear();
    if shared + 1 < next.len() {
        // A prefix of `next` up to the first difference is below `next` and above `last`.
        out.extend_from_slice(&next[..=shared]);
    } else if last.len() > shared + 1 && last[shared] + 1 < next[shared] {
        out.extend_from_slice(&last[..shared]);
        out.push(last[shared] + 1);
    } else {
        out.extend_from_slice(last);
    }
}

impl IndexBuilder {
    /// An empty index.
    pub fn new() -> IndexBuilder {
        IndexBuilder::default()
    }

    /// Adds the next block: it begins at `offset`, and no key in it is above `separator`.
    pub fn add(&mut self, separator: &[u8], offset: u32) {
        self.separators.extend_from_slice(separator);
        self.ends.push(self.separators.len());
        self.offsets.push(offset);
    }

    /// Encoded size in bytes, about.
    pub fn byte_length(&self) -> usize {
        self.ends.len() * ENTRY_BYTES + self.separators.len() + 2 * FOOTER_BYTES
    }

    /// Encodes it; the last block ends at `blocks_end`. At least one block was added.
    pub fn finish(&self, blocks_end: u32, flat_bytes_max: usize) -> BuiltIndex {
        if self.byte_length() <= flat_bytes_max {
            return BuiltIndex::Flat(self.encode(0, self.ends.len(), blocks_end));
        }
        let partition_bytes = PARTITION_BYTES.min(flat_bytes_max);
        let mut partitions = Vec::new();
        let mut first = 0;
        while first < self.ends.len() {
            let mut next = first + 1;
            let bytes = |next: usize| {
                (next - first) * ENTRY_BYTES + self.ends[next - 1] - self.start(first)
            };
            while next < self.ends.len() && bytes(next + 1) <= partition_bytes {
                next += 1;
            }
            let end = self.offsets.get(next).copied().unwrap_or(blocks_end);
            partitions.push((self.separator(next - 1).to_vec(), self.encode(first, next, end)));
            first = next;
        }
        BuiltIndex::Partitioned(partitions)
    }

    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] }
    }

    fn separator(&self, i: usize) -> &[u8] {
        &self.separators[self.start(i)..self.ends[i]]
    }

    fn encode(&self, first: usize, next: usize, end: u32) -> Vec<u8> {
        let count = next - first;
        let prefix = common_prefix(self.separator(first), self.separator(next - 1));
        let length = self.ends[next - 1] - self.start(first);
        let mut out = Vec::with_capacity(count * ENTRY_BYTES + length + 2 * FOOTER_BYTES);
        for i in first..next {
            out.extend_from_slice(&head(self.separator(i), prefix).to_le_bytes());
        }
        let mut at = 0u32;
        out.extend_from_slice(&at.to_le_bytes());
        for i in first..next {
            at += (self.separator(i).len() - prefix) as u32;
            out.extend_from_slice(&at.to_le_bytes());
        }
        for offset in &self.offsets[first..next] {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        out.extend_from_slice(&end.to_le_bytes());
        for i in first..next {
            out.extend_from_slice(&self.separator(i)[prefix..]);
        }
        out.extend_from_slice(&self.separator(first)[..prefix]);
        out.extend_from_slice(&(count as u32).to_le_bytes());
        out.extend_from_slice(&(prefix as u32).to_le_bytes());
        out
    }
}

//! A position in a block that moves entry by entry.

use super::{Block, Entry};
use crate::base::key::Tag;

/// The place of a cursor in one block. It borrows nothing, so that it can stand beside the `Arc` of its block; every call takes
/// that same block.
#[derive(Debug, Default)]
pub struct Walk {
    index: u32,
    entry: Entry,
    tag: u64,
    restart_at: u32,
    /// The key, where it shares bytes with its restart. Otherwise its first `entry.shared` = 0 bytes: nothing.
    key: Vec<u8>,
    /// Leading bytes of `key` that equal the key of the restart at `restart_at`.
    kept: u32,
}

impl Walk {
    /// Stands on entry `index`, which is below `block.count()`.
    pub(crate) fn set(&mut self, block: &Block, index: u32) {
        assert!(index < block.count, "entry {index} of {}", block.count);
        let restart = block.entry(index >> block.restart_shift << block.restart_shift);
        self.restart_at = restart.suffix_at;
        self.kept = 0;
        self.stand(block, index, block.entry(index));
    }

    /// Moves on; false at the end of the block, and then nothing changed.
    #[inline]
    pub(crate) fn next(&mut self, block: &Block) -> bool {
        let index = self.index + 1;
        if index >= block.count {
            return false;
        }
        // By its offset, not from the end of the entry before: loads of several entries then overlap.
        let entry = block.entry(index);
        if index & ((1 << block.restart_shift) - 1) == 0 {
            self.restart_at = entry.suffix_at;
            self.kept = 0;
        }
        self.stand(block, index, entry);
        true
    }

    /// Moves back; false at the start of the block, and then nothing changed.
    #[inline]
    pub(crate) fn prev(&mut self, block: &Block) -> bool {
        if self.index == 0 {
            return false;
        }
        let index = self.index - 1;
        if self.index & ((1 << block.restart_shift) - 1) == 0 {
            self.set(block, index);
        } else {
            self.stand(block, index, block.entry(index));
        }
        true
    }

    #[inline]
    fn stand(&mut self, block: &Block, index: u32, entry: Entry) {
        self.index = index;
        self.entry = entry;
        self.tag = block.tag(index).0;
        if entry.shared != 0 {
            // Keys are sorted, so going forward `shared` only shrinks within a group: mostly just the suffix is copied.
            let kept = self.kept.min(entry.shared);
            self.key.truncate(kept as usize);
            if kept < entry.shared {
                self.key
                    .extend_from_slice(block.slice(self.restart_at + kept, entry.shared - kept));
            }
            self.key.extend_from_slice(block.slice(entry.suffix_at, entry.suffix_length));
            self.kept = entry.shared;
        }
    }

    /// Index of the entry in its block.
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    /// The user key.
    #[inline]
    pub(crate) fn key<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        if self.entry.shared == 0 {
            block.slice(self.entry.suffix_at, self.entry.suffix_length)
        } else {
            &self.key
        }
    }

    /// Sequence number and kind.
    #[inline]
    pub(crate) fn tag(&self) -> Tag {
        Tag(self.tag)
    }

    /// The value.
    #[inline]
    pub(crate) fn value<'a>(&self, block: &'a Block) -> &'a [u8] {
        block.slice(self.entry.value_at(), self.entry.value_length)
    }
}

/// A walk together with its block: for tools and tests, who cannot be trusted to bring the same block each time.
#[derive(Debug)]
pub struct BlockCursor<'a> {
    block: &'a Block,
    walk: Walk,
}

impl<'a> BlockCursor<'a> {
    /// A cursor on entry `index`.
    ///
    /// # Panics
    /// If `index` is not below `block.count()`.
    pub fn new(block: &'a Block, index: u32) -> BlockCursor<'a> {
        let mut walk = Walk::default();
        walk.set(block, index);
        BlockCursor { block, walk }
    }

    /// Moves on; false at the end of the block, and then nothing changed.
    pub fn step_on(&mut self) -> bool {
        self.walk.next(self.block)
    }

    /// Moves back; false at the start of the block, and then nothing changed.
    pub fn step_back(&mut self) -> bool {
        self.walk.prev(self.block)
    }

    /// Index of the entry in its block.
    pub fn index(&self) -> u32 {
        self.walk.index()
    }

    /// The user key, the tag and the value.
    pub fn entry(&self) -> (&[u8], Tag, &[u8]) {
        (self.walk.key(self.block), self.walk.tag(), self.walk.value(self.block))
    }
}

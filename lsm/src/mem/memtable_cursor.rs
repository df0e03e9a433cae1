//! A cursor over a memtable: copies and sorts one leaf at a time.
//!
//! Promises:
//! 1. Moves go strictly up or down in the order of entries, while inserts go on.
//! 2. Every entry inserted before the cursor was made is met. The copy of a leaf and the tower after it are taken together
//!    (leaf first), and what stands at or after that tower is cut off the copy, because it will be met there.
//! 3. Keys and values are those in the arena, which the cursor keeps alive.

use std::sync::Arc;

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::prefetch::prefetch;
use crate::base::slice::PinnedSlice;
use crate::mem::entry::Entry;
use crate::mem::leaf::{LEAF_SLOTS, Leaf};
use crate::mem::memtable::Memtable;
use crate::mem::skiplist::{Pair, Position, Root, pair_entry, pair_head};
use crate::mem::tower::Tower;

/// Entries ahead of the cursor that are being brought into the cache.
const AHEAD: usize = 12;

/// Cursor over a [`Memtable`]; see [`Memtable::cursor`].
pub struct MemtableCursor {
    memtable: Arc<Memtable>,
    place: Option<Place>,
    /// The entries of the leaf, in order; the first `count` are set.
    pairs: Box<[Pair; LEAF_SLOTS]>,
    count: usize,
    /// The cursor is valid while this is below `count`.
    index: usize,
}

/// Where the copied leaf comes from. The pointers live as long as the memtable.
#[derive(Clone, Copy)]
struct Place {
    root: *const Root,
    tower: Tower,
    next: Option<Tower>,
}

// SAFETY: the pointers lead into the memtable, which is Sync and kept alive by the cursor.
unsafe impl Send for MemtableCursor {}
// SAFETY: shared access only reads.
unsafe impl Sync for MemtableCursor {}

impl MemtableCursor {
    pub(super) fn new(memtable: Arc<Memtable>) -> MemtableCursor {
        MemtableCursor {
            memtable,
            place: None,
            pairs: Box::new([0; LEAF_SLOTS]),
            count: 0,
            index: 0,
        }
    }

    /// Sequence number of the newest entry of the memtable.
    pub fn newest(&self) -> SequenceNumber {
        self.memtable.newest()
    }

    fn invalidate(&mut self) {
        (self.count, self.index) = (0, 0);
    }

    fn entry(&self) -> Entry<'_> {
        assert!(self.valid(), "the cursor stands on no entry");
        self.memtable.list().entry(pair_entry(self.pairs[self.index]))
    }

    /// Copies the leaf of `position` up to the tower after it.
    fn load(&mut self, root: *const Root, position: Position<'_>) {
        let list = self.memtable.list();
        let Position { tower, leaf, next } = position;
        self.count = leaf.count();
        list.sort_leaf(leaf, self.count, &mut self.pairs);
        if let Some(next) = next {
            prefetch_leaf(next.leaf());
            let end = list.entry(next.entry());
            let (key, tag) = (end.key(), end.tag());
            // Usually nothing is beyond: look at the last one first.
            let is_below = |pair: &Pair| list.entry(pair_entry(*pair)).compare(key, tag).is_lt();
            if !self.pairs[..self.count].last().is_none_or(is_below) {
                self.count = self.pairs[..self.count].partition_point(is_below);
            }
        }
        self.place = Some(Place { root, tower, next });
    }

    fn load_of(&mut self, tower: Tower) {
        let memtable = Arc::clone(&self.memtable);
        if let Some(place) = self.place {
            self.load(place.root, memtable.list().at(tower));
        }
    }

    /// Goes to the first entry after the loaded leaf.
    fn load_next(&mut self) {
        while let Some(Place { next: Some(next), .. }) = self.place {
            self.load_of(next);
            if self.count > 0 {
                self.index = 0;
                self.prefetch_from(0);
                return;
            }
        }
        self.invalidate();
    }

    /// Goes to the last entry before the loaded leaf.
    fn load_previous(&mut self) {
        let memtable = Arc::clone(&self.memtable);
        let list = memtable.list();
        let Some(Place { root, tower, .. }) = self.place else { return self.invalidate() };
        // SAFETY: roots live as long as the memtable.
        let index = unsafe { &*root };
        if tower == list.first(index).tower {
            return self.invalidate();
        }
        let end = list.entry(tower.entry());
        // The last tower before this one: not after the version that would come just before its separator.
        let before = Tag(end.tag().0.saturating_add(1));
        let position = list.descend(index, end.key(), before);
        self.load(root, Position { next: Some(tower), ..position });
        if self.count == 0 {
            return self.invalidate();
        }
        self.index = self.count - 1;
    }

    #[inline]
    fn prefetch_from(&self, index: usize) {
        let base = self.memtable.list().base();
        for &pair in self.pairs[..self.count].iter().skip(index).take(AHEAD) {
            Entry::prefetch(base, pair_entry(pair));
        }
    }

    /// Loads the leaf of (`key`, `tag`) and answers the index of the first entry at or after it, perhaps one past the end.
    fn locate(&mut self, key: &[u8], tag: Tag) -> Option<usize> {
        let memtable = Arc::clone(&self.memtable);
        let list = memtable.list();
        let root = list.root()?;
        let position = list.descend(root, key, tag);
        self.load(root, position);
        let head = list.leaf_head(root, position.leaf, key);
        Some(self.pairs[..self.count].partition_point(|&pair| {
            if pair_head(pair) != head {
                return pair_head(pair) < head;
            }
            list.entry(pair_entry(pair)).compare(key, tag).is_lt()
        }))
    }
}

fn prefetch_leaf(leaf: *const Leaf) {
    for line in 0..size_of::<Leaf>() / 64 {
        prefetch(leaf.cast::<u8>().wrapping_add(line * 64));
    }
}

impl EntryCursor for MemtableCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.index < self.count
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.entry().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.entry().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.entry().value()
    }

    fn pin_value(&self) -> PinnedSlice {
        let owner = Arc::clone(&self.memtable);
        // SAFETY: the value lies in the arena that the memtable holds, and is never changed.
        unsafe { PinnedSlice::new(owner, self.entry().value()) }
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.invalidate();
        let memtable = Arc::clone(&self.memtable);
        if let Some(root) = memtable.list().root() {
            self.load(root, memtable.list().first(root));
            self.index = 0;
            self.prefetch_from(0);
            if self.count == 0 {
                self.load_next();
            }
        }
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.invalidate();
        let memtable = Arc::clone(&self.memtable);
        if let Some(root) = memtable.list().root() {
            self.load(root, memtable.list().last(root));
            if self.count == 0 {
                self.load_previous();
            } else {
                self.index = self.count - 1;
            }
        }
        Ok(())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.invalidate();
        if let Some(index) = self.locate(key, tag) {
            self.index = index;
            if index == self.count {
                self.load_next();
            } else {
                self.prefetch_from(index);
            }
        }
        Ok(())
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.invalidate();
        match self.locate(key, Tag::MAX) {
            None => {}
            Some(0) => self.load_previous(),
            Some(index) => self.index = index - 1,
        }
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        assert!(self.valid(), "the cursor stands on no entry");
        self.index += 1;
        if self.index == self.count {
            self.load_next();
        } else if let Some(&pair) = self.pairs[..self.count].get(self.index + AHEAD) {
            Entry::prefetch(self.memtable.list().base(), pair_entry(pair));
        }
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        assert!(self.valid(), "the cursor stands on no entry");
        if self.index > 0 {
            self.index -= 1;
        } else {
            self.load_previous();
        }
        Ok(())
    }
}

impl std::fmt::Debug for MemtableCursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemtableCursor").field("valid", &self.valid()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Kind;
    use crate::mem::arena::ArenaPool;

    #[test]
    fn a_leaf_that_splits_under_the_cursor_is_not_met_twice() {
        // Promise 2, at the one moment that a race seldom hits: the leaf is loaded before the split, the tower after it behind.
        let memtable = Arc::new(Memtable::new(ArenaPool::new(1 << 20, 0).take(0).unwrap(), b""));
        let insert = |n: u64| {
            let key = (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
            assert!(memtable.insert(&key, Tag::new(n, Kind::Put), b""));
        };
        (0..LEAF_SLOTS as u64).for_each(insert);
        let list = memtable.list();
        let root = list.root().unwrap();
        let before = list.first(root);
        (LEAF_SLOTS as u64..600).for_each(insert);
        let next = list.first(root).next;
        assert!(before.next.is_none() && next.is_some());
        let mut cursor = memtable.cursor();
        cursor.load(root, Position { next, ..before });
        assert!((1..=LEAF_SLOTS / 2).contains(&cursor.count));
        let mut last = Vec::new();
        let mut met = 0;
        while cursor.valid() {
            assert!(met == 0 || cursor.key() > &last[..]);
            last = cursor.key().to_vec();
            met += 1;
            cursor.next().unwrap();
        }
        assert!(met >= LEAF_SLOTS);
    }
}

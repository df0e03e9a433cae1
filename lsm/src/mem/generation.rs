//! A generation: the memtables of all keyspaces between two switches of the WAL segment.
//!
//! All memtables of a generation share one arena and are frozen and flushed together, so that one point of the log divides
//! what is in tables from what must be replayed, and one idle keyspace never holds old log segments back.

use crate::base::key::{KeyspaceId, SequenceNumber, Tag};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::mem::arena::Arena;
use crate::mem::key_filter::KeyFilter;
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// See the head of the file.
#[derive(Debug)]
pub struct Generation {
    number: u64,
    arena: Arc<Arena>,
    memtables: Vec<Arc<Memtable>>,
    filter: KeyFilter,
    /// Memory of the range deletes of all memtables: readers ask it before they ask a memtable.
    range_bytes: AtomicU64,
}

/// Range deletes may take one part in so many of a generation's size before it counts as full.
const RANGE_SHARE: u64 = 8;

/// The hash by which the filter of all keyspaces knows a key of this one.
#[inline]
fn filter_hash(keyspace: KeyspaceId, hash: u64) -> u64 {
    hash ^ u64::from(keyspace.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Generation {
    /// An empty generation with one memtable per keyspace; `prefixes[i]` is the hint for keyspace `i`.
    pub fn new(number: u64, arena: Arc<Arena>, prefixes: &[Vec<u8>]) -> Generation {
        let memtable = |prefix: &Vec<u8>| Arc::new(Memtable::new(Arc::clone(&arena), prefix));
        let memtables = prefixes.iter().map(memtable).collect();
        let filter = KeyFilter::new(arena.capacity());
        Generation { number, arena, memtables, filter, range_bytes: AtomicU64::new(0) }
    }

    /// Its number; later generations have larger ones.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The memtable of a keyspace; `None` for one made after this generation.
    #[inline]
    pub fn memtable(&self, keyspace: KeyspaceId) -> Option<&Arc<Memtable>> {
        self.memtables.get(keyspace.0 as usize)
    }

    /// Inserts a version of a key, as [`Memtable::insert`]; `hash` is the key's. `None` if there is no memtable for the keyspace.
    #[inline]
    pub fn insert(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        hash: u64,
        tag: Tag,
        value: &[u8],
    ) -> Option<bool> {
        let memtable = self.memtable(keyspace)?;
        let hash = filter_hash(keyspace, hash);
        self.filter.prefetch(hash);
        let inserted = memtable.insert(key, tag, value);
        // Also before the version is published: readers ask the filter first.
        self.filter.add(hash);
        Some(inserted)
    }

    /// Deletes a range of keys, as [`Memtable::delete_range`]. `None` if there is no memtable for the keyspace.
    pub fn delete_range(
        &self,
        keyspace: KeyspaceId,
        start: &[u8],
        end: &[u8],
        sequence: SequenceNumber,
        unseen_from: SequenceNumber,
    ) -> Option<()> {
        let memtable = self.memtable(keyspace)?;
        let before = memtable.range_bytes();
        memtable.delete_range(start, end, sequence, unseen_from);
        let others = self.range_bytes() - before;
        // One applier; published with the sequence number.
        self.range_bytes.store(others + memtable.range_bytes(), Ordering::Relaxed);
        Some(())
    }

    /// Memory of all range deletes; 0 if there are none.
    #[inline]
    pub fn range_bytes(&self) -> u64 {
        self.range_bytes.load(Ordering::Relaxed)
    }

    /// True if entries that cost so much fit, and there is room for range deletes.
    #[inline]
    pub fn has_room(&self, cost: usize) -> bool {
        self.capacity() - self.used() >= cost
            && self.range_bytes() <= self.capacity() as u64 / RANGE_SHARE
    }

    /// Asks the CPU for what [`may_hold`](Self::may_hold) looks at.
    #[inline]
    pub fn prefetch(&self, keyspace: KeyspaceId, hash: u64) {
        self.filter.prefetch(filter_hash(keyspace, hash));
    }

    /// False only if no published version of a key with this hash is in the memtable of the keyspace.
    #[inline]
    pub fn may_hold(&self, keyspace: KeyspaceId, hash: u64) -> bool {
        self.filter.may_hold(filter_hash(keyspace, hash))
    }

    /// All memtables with their keyspaces.
    pub fn memtables(&self) -> impl Iterator<Item = (KeyspaceId, &Arc<Memtable>)> {
        self.memtables
            .iter()
            .enumerate()
            .map(|(index, memtable)| (KeyspaceId(index as u32), memtable))
    }

    /// Bytes taken from the arena.
    #[inline]
    pub fn used(&self) -> usize {
        self.arena.used()
    }

    /// Bytes of the arena.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Heap bytes beside the arena: the filter, and the towers of the memtables.
    pub fn index_bytes(&self) -> usize {
        let memtables = self.memtables.iter().map(|memtable| memtable.index_bytes());
        self.filter.bytes() + memtables.sum::<usize>() + self.range_bytes() as usize
    }

    /// Bytes of keys and values.
    pub fn data_bytes(&self) -> u64 {
        self.memtables.iter().map(|memtable| memtable.data_bytes()).sum()
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.memtables.iter().all(|memtable| memtable.is_empty())
    }

    /// Hints for the next generation.
    pub fn prefixes(&self) -> Vec<Vec<u8>> {
        self.memtables.iter().map(|memtable| memtable.common_prefix()).collect()
    }
}

//! The block cache: parsed, uncompressed blocks by table and offset.
//!
//! A hash table of small sets that readers use without a lock (sets.rs), and a list of the loads that are running (loads.rs).
//! Own code, for the look-up was the largest single part of a cached point read: the crate `quick_cache`, which stood here before, takes a
//! shared lock, a hash table and an entry, where this takes one pair of cache lines. The two were compared in whole workloads only;
//! a look-up among 150,000 blocks takes about 250 ns here, nearly all of it waiting for memory (bench/PROFILE.md).
//!
//! Promises:
//! 1. The weight of a block is the heap memory that it really takes: buffer and `Arc` rounded up as an allocator does, and
//!    the cache's own places. So the sum stays inside the budget's capacity, and follows when that shrinks.
//! 2. A missing block is loaded once: others who want it wait for that load. A failed load inserts nothing, and one of the
//!    waiters tries again.
//! 3. Table ids are never used twice, so blocks of deleted tables are never found; they age out.
//!
//! Partitions of large indexes live in the same cache, under their own offsets. Tables with numbers from 2^32 on are not cached.

mod loads;
mod sets;

use super::budget::{CapacityListener, MemoryBudget};
use crate::format::block::Block;
use crate::format::index::Index;
use loads::Loads;
use sets::{PLACE_BYTES, Sets, Value};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Bytes of the cache's own for a value: half of the places are empty.
const ENTRY_BYTES: usize = 2 * PLACE_BYTES;
/// Typical block, for the number of places.
const BLOCK_BYTES_TYPICAL: u64 = 4 << 10;
/// Counters are spread over this many cache lines, so that threads rarely share one.
const COUNTER_STRIPES: usize = 16;
/// Loads of others that one read waits for before it loads past the cache.
const WAITS_MAX: usize = 4;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Uncompressed blocks in memory, shared by all tables of a database.
pub struct BlockCache {
    sets: Sets,
    loads: Loads,
    capacity: AtomicU64,
    stripes: [Stripe; COUNTER_STRIPES],
}

/// Both numbers in one; `None` for a table that is not cached.
#[inline]
fn key_of(table_id: u64, offset: u32) -> Option<u64> {
    (table_id <= u64::from(u32::MAX)).then_some(table_id << 32 | u64::from(offset))
}

impl BlockCache {
    /// A cache that takes what `budget` has left, and follows it.
    pub fn new(budget: Arc<MemoryBudget>) -> Arc<BlockCache> {
        let cache = Arc::new(BlockCache {
            sets: Sets::new(budget.limit() / BLOCK_BYTES_TYPICAL, weigh),
            loads: Loads::default(),
            capacity: AtomicU64::new(budget.cache_capacity()),
            stripes: Default::default(),
        });
        let weak: Weak<BlockCache> = Arc::downgrade(&cache);
        budget.set_listener(weak);
        cache
    }

    /// Asks the CPU for what [`get`](Self::get) will look at.
    #[inline]
    pub fn prefetch(&self, table_id: u64, offset: u32) {
        if let Some(key) = key_of(table_id, offset) {
            self.sets.prefetch(key);
        }
    }

    /// Asks the CPU for the head of what [`get`](Self::get) will find, if it is here.
    #[inline]
    pub fn prefetch_value(&self, table_id: u64, offset: u32) {
        if let Some(key) = key_of(table_id, offset) {
            self.sets.prefetch_value(key);
        }
    }

    /// The block at `offset` of a table, if it is here.
    #[inline]
    pub fn get(&self, table_id: u64, offset: u32) -> Option<Arc<Block>> {
        let found = self.peek(table_id, offset);
        match found {
            Some(_) => self.stripe().hits.fetch_add(1, Ordering::Relaxed),
            None => self.stripe().misses.fetch_add(1, Ordering::Relaxed),
        };
        found
    }

    #[inline]
    fn peek(&self, table_id: u64, offset: u32) -> Option<Arc<Block>> {
        match self.sets.get(key_of(table_id, offset)?) {
            Some(Value::Block(block)) => Some(block),
            _ => None,
        }
    }

    /// True if the block is here; does not count as a use.
    pub fn contains(&self, table_id: u64, offset: u32) -> bool {
        key_of(table_id, offset).is_some_and(|key| self.sets.contains(key))
    }

    /// Keeps a block.
    pub fn insert(&self, table_id: u64, offset: u32, block: Arc<Block>) {
        self.keep(table_id, offset, Value::Block(block));
    }

    fn keep(&self, table_id: u64, offset: u32, value: Value) {
        if let Some(key) = key_of(table_id, offset) {
            self.sets.insert(key, value, self.capacity());
        }
    }

    /// Forgets a block (or a partition).
    pub fn remove(&self, table_id: u64, offset: u32) {
        if let Some(key) = key_of(table_id, offset) {
            self.sets.remove(key);
        }
    }

    /// The block, loaded by `load` if it is not here. One thread loads, others wait for it.
    ///
    /// # Errors
    /// Those of `load`; nothing is kept then.
    #[inline]
    pub fn get_or_load<E>(
        &self,
        table_id: u64,
        offset: u32,
        load: impl FnOnce() -> Result<Arc<Block>, E>,
    ) -> Result<Arc<Block>, E> {
        match self.get(table_id, offset) {
            Some(block) => Ok(block),
            None => {
                let look = || self.peek(table_id, offset);
                self.load_once(table_id, offset, look, load, Value::Block)
            }
        }
    }

    /// As [`get_or_load`](Self::get_or_load), for a partition of an index.
    ///
    /// # Errors
    /// Those of `load`; nothing is kept then.
    pub fn partition<E>(
        &self,
        table_id: u64,
        offset: u32,
        load: impl FnOnce() -> Result<Arc<Index>, E>,
    ) -> Result<Arc<Index>, E> {
        let look = || self.peek_partition(table_id, offset);
        match look() {
            Some(index) => Ok(index),
            None => self.load_once(table_id, offset, look, load, Value::Partition),
        }
    }

    /// Loads what `look` does not find, unless another thread is at it: then that one is waited for.
    #[cold]
    fn load_once<T, E>(
        &self,
        table_id: u64,
        offset: u32,
        look: impl Fn() -> Option<Arc<T>>,
        load: impl FnOnce() -> Result<Arc<T>, E>,
        value: fn(Arc<T>) -> Value,
    ) -> Result<Arc<T>, E> {
        let Some(key) = key_of(table_id, offset) else { return load() };
        for _ in 0..WAITS_MAX {
            let running = self.loads.begin(key);
            if let Some(found) = look() {
                return Ok(found);
            }
            if running.is_some() {
                let loaded = load()?;
                self.keep(table_id, offset, value(Arc::clone(&loaded)));
                return Ok(loaded);
            }
        }
        load()
    }

    /// A partition of an index, if it is here.
    pub fn peek_partition(&self, table_id: u64, offset: u32) -> Option<Arc<Index>> {
        match self.sets.get(key_of(table_id, offset)?) {
            Some(Value::Partition(index)) => Some(index),
            _ => None,
        }
    }

    /// Block reads that found their block.
    pub fn hits(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.hits.load(Ordering::Relaxed)).sum()
    }

    /// Block reads that did not.
    pub fn misses(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.misses.load(Ordering::Relaxed)).sum()
    }

    /// Heap bytes of everything kept.
    pub fn used_bytes(&self) -> u64 {
        self.sets.used()
    }

    /// Most bytes that it may keep now.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    #[inline]
    fn stripe(&self) -> &Stripe {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) as usize % COUNTER_STRIPES;
        }
        &self.stripes[MINE.with(|mine| *mine)]
    }
}

impl CapacityListener for BlockCache {
    fn capacity_changed(&self, bytes: u64) {
        self.capacity.store(bytes, Ordering::Relaxed);
        self.sets.shrink(bytes);
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockCache({} of {} bytes)", self.used_bytes(), self.capacity())
    }
}

/// Heap bytes of a value.
fn weigh(value: &Value) -> u64 {
    let bytes = match value {
        Value::Block(block) => {
            allocated(block.heap_bytes()) + allocated(16 + size_of::<Block>()) + ENTRY_BYTES
        }
        Value::Partition(index) => {
            allocated(index.partition_bytes()) + index.heap_bytes() + ENTRY_BYTES
        }
    };
    bytes as u64
}

/// What an allocator takes for `bytes` in the long run: rounding to a size class (an eighth of a power of two), and an eighth for
/// the holes that replacing blocks of different sizes leaves. Measured with mimalloc over a full 1 GiB cache: 10 to 13 % above the bytes
/// asked for.
fn allocated(bytes: usize) -> usize {
    let grain = (bytes.next_power_of_two() / 16).clamp(16, 4096);
    let rounded = (bytes + 8).next_multiple_of(grain);
    rounded + rounded / 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::{Kind, Tag};
    use crate::format::block::BlockBuilder;
    use crate::mem::budget::Use;
    use std::sync::Barrier;

    fn block(value_bytes: usize) -> Arc<Block> {
        let mut builder = BlockBuilder::new();
        builder.add(b"key", 1, Tag::new(1, Kind::Put), &vec![7; value_bytes]);
        Arc::new(Block::parse(builder.finish(b"key", b"key").to_vec()).expect("parses"))
    }

    #[test]
    fn the_cache_never_holds_more_than_its_capacity() {
        let budget = MemoryBudget::new(4 << 20);
        let cache = BlockCache::new(Arc::clone(&budget));
        for i in 0..5000 {
            cache.insert(1, i, block(1000 + i as usize % 3000));
            assert!(cache.used_bytes() <= 4 << 20);
        }
        assert!(cache.used_bytes() > 3 << 20);
        let charge = budget.charge(Use::Memtables, 3 << 20);
        assert!(cache.used_bytes() <= 1 << 20, "{cache:?}");
        drop(charge);
        assert!(cache.capacity() >= 4 << 20);
    }

    #[test]
    fn a_failed_load_keeps_nothing_and_a_block_is_loaded_once() {
        let cache = BlockCache::new(MemoryBudget::new(4 << 20));
        assert_eq!(cache.get_or_load(1, 0, || Err("damaged")).err(), Some("damaged"));
        assert!(!cache.contains(1, 0));

        let loads = AtomicU64::new(0);
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let load = || -> Result<_, ()> {
                        loads.fetch_add(1, Ordering::Relaxed);
                        Ok(block(100))
                    };
                    assert!(cache.get_or_load(1, 0, load).is_ok());
                });
            }
        });
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert_eq!(cache.hits() + cache.misses(), 5);
    }
}

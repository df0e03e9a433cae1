//! The places of the block cache: a hash table of small sets, read without a lock.
//!
//! ```text
//! set, 128 bytes:  | key u64 x 8 | word u64 x 8 |
//! key:             | table 32 | offset 32 |
//! word:            | pins 14 | uses 2 | address of the value 47, its lowest bit says which kind |     0: empty
//! ```
//!
//! A key has two sets, chosen by its hash; it stands in the first unless that was full when it came. Both lines of a set are asked
//! for together, so that a hit costs one miss of the CPU's caches, where a table of pointers to entries costs two or three.
//!
//! A reader pins the word (one addition), looks at the key again, takes a reference on the value and lets the word go. A word with pins is
//! never taken away. Whoever changes a set holds the locks of the stripes of both of its key's sets; readers know no lock.
//!
//! Eviction is a clock with a count: a hit raises `uses` up to three, the hand lowers it, and takes what has none left. What was read only
//! once goes at the first round, so a scan does not wash out what is read again and again.
//!
//! Promises:
//! 1. A value that was found was put there under that key, and lives as long as the reference.
//! 2. The sum of the weights never exceeds the capacity that `insert` was told.
//! 3. A reference is given back for each that was taken (a model of loom counts them).
//!
//! Limit: 16,383 threads inside one lookup of one block at the same moment.
//!
//! Concurrent clock caches: Fan et al., MemC3 (2013), for sets and a clock beside them; RocksDB's HyperClockCache for counters in the word.

use crate::base::prefetch::prefetch;
use crate::base::sync::Mutex;
use crate::base::sync::fine::{AtomicU64, AtomicUsize, Ordering};
use crate::format::block::Block;
use crate::format::index::Index;
use std::sync::Arc;

/// Places in a set.
const WAYS: usize = if cfg!(loom) { 2 } else { 8 };
/// Bytes of a set's place beside the value.
pub(super) const PLACE_BYTES: usize = 16;
/// Locks of those who change sets.
const STRIPES: usize = if cfg!(loom) { 1 } else { 64 };

const KIND: u64 = 1;
const ADDRESS: u64 = (1 << 48) - 1;
const USE: u64 = 1 << 48;
const USES: u64 = 3 << 48;
const PIN: u64 = 1 << 50;
/// Rounds of the hand after which everything that is not pinned has been taken.
const ROUNDS: usize = 5;

/// Sets of the largest cache: enough for 256 GiB of blocks.
const SETS_MAX: u64 = 1 << 24;

/// What the cache keeps.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Block(Arc<Block>),
    Partition(Arc<Index>),
}

impl Value {
    /// Gives the reference to a word.
    fn into_word(self) -> u64 {
        let word = match self {
            Value::Block(block) => Arc::into_raw(block).expose_provenance() as u64,
            Value::Partition(index) => Arc::into_raw(index).expose_provenance() as u64 | KIND,
        };
        assert!(word & !ADDRESS == 0, "addresses of this system have 48 bits");
        word
    }

    /// Takes the reference that a word holds.
    ///
    /// # Safety
    /// The word holds a reference and gives it up.
    unsafe fn from_word(word: u64) -> Value {
        let address = (word & ADDRESS & !KIND) as usize;
        // SAFETY: `into_word` made the address out of an Arc of this type.
        unsafe {
            if word & KIND == 0 {
                Value::Block(Arc::from_raw(std::ptr::with_exposed_provenance(address)))
            } else {
                Value::Partition(Arc::from_raw(std::ptr::with_exposed_provenance(address)))
            }
        }
    }

    /// One more reference on what a word holds.
    ///
    /// # Safety
    /// The word holds a reference and keeps it during the call.
    #[inline]
    unsafe fn of_word(word: u64) -> Value {
        // SAFETY: as in `from_word`; the reference of the word is not given up.
        let own = std::mem::ManuallyDrop::new(unsafe { Value::from_word(word) });
        Value::clone(&own)
    }
}

#[repr(align(128))]
#[cfg_attr(loom, derive(Default))]
struct Set {
    keys: [AtomicU64; WAYS],
    words: [AtomicU64; WAYS],
}

impl Set {
    #[inline]
    fn find(&self, key: u64) -> Option<Value> {
        (0..WAYS).find_map(|way| match self.keys[way].load(Ordering::Relaxed) == key {
            true => self.take(way, key),
            false => None,
        })
    }

    /// The value of a place, if it still holds `key`.
    #[inline]
    fn take(&self, way: usize, key: u64) -> Option<Value> {
        let word = &self.words[way];
        if word.load(Ordering::Relaxed) & ADDRESS == 0 {
            return None;
        }
        let seen = word.fetch_add(PIN, Ordering::Acquire);
        let mut found = None;
        if seen & ADDRESS != 0 && self.keys[way].load(Ordering::Relaxed) == key {
            // SAFETY: the pin keeps the word, and so its reference, in place.
            found = Some(unsafe { Value::of_word(seen) });
            // Lets go and counts the use at once, if nobody else came by.
            let counted = seen & USES != USES
                && word
                    .compare_exchange(seen + PIN, seen + USE, Ordering::Release, Ordering::Relaxed)
                    .is_ok();
            if counted {
                return found;
            }
        }
        word.fetch_sub(PIN, Ordering::Release);
        found
    }

    /// Puts a value into an empty place. The caller holds the set's lock.
    fn fill(&self, way: usize, key: u64, value: Value) {
        self.keys[way].store(key, Ordering::Relaxed);
        let word = value.into_word();
        // A reader that came for the key before may hold a pin on the empty word for a moment.
        while self.words[way]
            .compare_exchange(0, word, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            crate::base::sync::thread::yield_now();
        }
    }

    /// Empties a place, unless a reader is at it. The caller holds the set's lock.
    fn clear(&self, way: usize, seen: u64) -> Option<Value> {
        if seen & ADDRESS == 0 || seen >= PIN {
            return None;
        }
        let cleared =
            self.words[way].compare_exchange(seen, 0, Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: the word held a reference, nobody was pinning it, and now it is ours.
        cleared.is_ok().then(|| unsafe { Value::from_word(seen) })
    }

    /// The place of `key`, if it is here.
    fn place_of(&self, key: u64) -> Option<usize> {
        (0..WAYS).find(|&way| {
            self.keys[way].load(Ordering::Relaxed) == key
                && self.words[way].load(Ordering::Relaxed) & ADDRESS != 0
        })
    }

    fn empty_place(&self) -> Option<usize> {
        (0..WAYS).find(|&way| self.words[way].load(Ordering::Relaxed) & ADDRESS == 0)
    }
}

/// See the head of the file.
pub(super) struct Sets {
    sets: Box<[Set]>,
    locks: [Mutex<()>; STRIPES],
    /// Sum of the weights.
    used: AtomicU64,
    hand: AtomicUsize,
    /// What a value weighs; the same at every call.
    weigh: fn(&Value) -> u64,
}

impl Sets {
    /// Places for about `values` values; twice as many, so that few sets are ever full.
    pub(super) fn new(values: u64, weigh: fn(&Value) -> u64) -> Sets {
        let count = (values / (WAYS as u64 / 2)).clamp(1, SETS_MAX).next_power_of_two();
        Sets {
            sets: empty_sets(count as usize),
            locks: std::array::from_fn(|_| Mutex::new(())),
            used: AtomicU64::new(0),
            hand: AtomicUsize::new(0),
            weigh,
        }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    #[inline]
    fn homes(&self, key: u64) -> (usize, usize) {
        let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f_u128;
        let hash = product as u64 ^ (product >> 64) as u64;
        let mask = self.sets.len() - 1;
        (hash as usize & mask, (hash >> 32) as usize & mask)
    }

    /// Asks the CPU for the set of a key.
    #[inline]
    pub(super) fn prefetch(&self, key: u64) {
        let set = &self.sets[self.homes(key).0];
        prefetch(set.keys.as_ptr().cast());
        prefetch(set.words.as_ptr().cast());
    }

    /// Asks the CPU for the value of a key, if it is here. The address is only a hint: the value may be gone by then.
    #[inline]
    pub(super) fn prefetch_value(&self, key: u64) {
        let (first, second) = self.homes(key);
        for set in [first, second].map(|set| &self.sets[set]) {
            if let Some(way) = set.place_of(key) {
                let address = set.words[way].load(Ordering::Relaxed) & ADDRESS & !KIND;
                let value = std::ptr::without_provenance::<u8>(address as usize);
                prefetch(value);
                prefetch(value.wrapping_add(64));
                return;
            }
        }
    }

    /// The value of a key, and one use counted.
    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<Value> {
        let (first, second) = self.homes(key);
        self.sets[first].find(key).or_else(|| self.sets[second].find(key))
    }

    /// True if the key is here; does not count as a use.
    pub(super) fn contains(&self, key: u64) -> bool {
        let (first, second) = self.homes(key);
        [first, second].iter().any(|&set| self.sets[set].place_of(key).is_some())
    }

    /// Keeps a value, unless its key is here already or it is larger than `capacity`. Others go to make room.
    pub(super) fn insert(&self, key: u64, value: Value, capacity: u64) {
        let weight = (self.weigh)(&value);
        if !self.reserve(weight, capacity) {
            return;
        }
        let (first, second) = self.homes(key);
        let mut freed = 0;
        {
            let _locks = self.lock_both(first, second);
            let (first, second) = (&self.sets[first], &self.sets[second]);
            if first.place_of(key).or_else(|| second.place_of(key)).is_some() {
                freed = weight;
            } else if let Some(way) = first.empty_place() {
                first.fill(way, key, value);
            } else if let Some(way) = second.empty_place() {
                second.fill(way, key, value);
            } else if let Some((set, way, old)) = self.least_used(first, second) {
                freed = (self.weigh)(&old);
                set.fill(way, key, value);
            } else {
                // Every place of both sets is being read at this moment.
                freed = weight;
            }
        }
        self.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Forgets a key.
    pub(super) fn remove(&self, key: u64) {
        let (first, second) = self.homes(key);
        if !self.contains(key) {
            return;
        }
        let _locks = self.lock_both(first, second);
        for set in [first, second].map(|set| &self.sets[set]) {
            while let Some(way) = set.place_of(key) {
                match set.clear(way, set.words[way].load(Ordering::Relaxed)) {
                    Some(value) => {
                        self.used.fetch_sub((self.weigh)(&value), Ordering::Relaxed);
                    }
                    None => crate::base::sync::thread::yield_now(),
                }
            }
        }
    }

    /// Lets values go until the sum of the weights is at most `capacity`.
    pub(super) fn shrink(&self, capacity: u64) {
        let mut steps = self.sets.len() * ROUNDS;
        while self.used() > capacity && steps > 0 {
            self.sweep();
            steps -= 1;
        }
    }

    /// Adds a weight to the sum; false if no room could be made for it.
    fn reserve(&self, weight: u64, capacity: u64) -> bool {
        if weight > capacity {
            return false;
        }
        let mut steps = self.sets.len() * ROUNDS;
        loop {
            let used = self.used();
            if used + weight <= capacity {
                let added = self.used.compare_exchange(
                    used,
                    used + weight,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                if added.is_ok() {
                    return true;
                }
            } else if steps == 0 {
                return false;
            } else {
                self.sweep();
                steps -= 1;
            }
        }
    }

    /// Moves the hand over one set.
    fn sweep(&self) {
        let at = self.hand.fetch_add(1, Ordering::Relaxed) & (self.sets.len() - 1);
        let set = &self.sets[at];
        let mut gone: [Option<Value>; WAYS] = Default::default();
        {
            let _lock = self.locks[at % STRIPES].lock();
            for (way, gone) in gone.iter_mut().enumerate() {
                let seen = set.words[way].load(Ordering::Relaxed);
                if seen & ADDRESS != 0 && seen & USES != 0 {
                    // Lost to a reader, who has used it again.
                    let _ = set.words[way].compare_exchange(
                        seen,
                        seen - USE,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                } else {
                    *gone = set.clear(way, seen);
                }
            }
        }
        let freed = gone.iter().flatten().map(|value| (self.weigh)(value)).sum();
        self.used.fetch_sub(freed, Ordering::Relaxed);
    }

    /// Empties the place with the fewest uses in two full sets.
    fn least_used<'a>(&self, first: &'a Set, second: &'a Set) -> Option<(&'a Set, usize, Value)> {
        let mut best: Option<(u64, &Set, usize, u64)> = None;
        for set in [first, second] {
            for way in 0..WAYS {
                let seen = set.words[way].load(Ordering::Relaxed);
                let uses = seen & USES;
                if seen < PIN && best.is_none_or(|(least, ..)| uses < least) {
                    best = Some((uses, set, way, seen));
                }
            }
        }
        let (_, set, way, seen) = best?;
        set.clear(way, seen).map(|value| (set, way, value))
    }

    /// The locks of two sets, always in the same order.
    fn lock_both(&self, first: usize, second: usize) -> Locks<'_> {
        let (first, second) = (first % STRIPES, second % STRIPES);
        let low = self.locks[first.min(second)].lock();
        let high = (first != second).then(|| self.locks[first.max(second)].lock());
        Locks { _low: low, _high: high }
    }
}

/// Sets whose memory is not touched before it is used: those of a large cache are many.
#[cfg(not(loom))]
fn empty_sets(count: usize) -> Box<[Set]> {
    let layout = std::alloc::Layout::array::<Set>(count).expect("SETS_MAX sets are an array");
    // SAFETY: there is at least one set, so the layout has a size.
    let start = unsafe { std::alloc::alloc_zeroed(layout) };
    if start.is_null() {
        std::alloc::handle_alloc_error(layout);
    }
    // SAFETY: the memory is new, has this layout and is all zero, which is what empty sets are: atomic numbers, nothing else.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(start.cast::<Set>(), count)) }
}

#[cfg(loom)]
fn empty_sets(count: usize) -> Box<[Set]> {
    (0..count).map(|_| Set::default()).collect()
}

struct Locks<'a> {
    _low: crate::base::sync::MutexGuard<'a, ()>,
    _high: Option<crate::base::sync::MutexGuard<'a, ()>>,
}

impl Drop for Sets {
    fn drop(&mut self) {
        for set in &self.sets {
            for way in 0..WAYS {
                drop(set.clear(way, set.words[way].load(Ordering::Relaxed)));
            }
        }
    }
}

/// The cache under every order of two threads. See base/sync.rs for how to run it.
#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::base::key::{Kind, Tag};
    use crate::base::sync::check;
    use crate::format::block::BlockBuilder;
    use loom::thread;

    fn block(byte: u8) -> Arc<Block> {
        let mut builder = BlockBuilder::new();
        builder.add(&[byte], 1, Tag::new(1, Kind::Put), &[byte]);
        Arc::new(Block::parse(builder.finish(&[byte], &[byte]).to_vec()).expect("parses"))
    }

    /// A found block is the one that was put there, and all references are given back. Fails if a reader does not look at the key
    /// again under its pin, or if a pinned word is cleared.
    #[test]
    fn loom_readers_and_an_eviction_leave_no_reference() {
        let (old, new) = (block(1), block(2));
        let models = (Arc::clone(&old), Arc::clone(&new));
        check("readers and an eviction leave no reference", 3, move || {
            let (old, new) = (Arc::clone(&models.0), Arc::clone(&models.1));
            let sets = Arc::new(Sets::new(1, |_| 1));
            sets.insert(1, Value::Block(Arc::clone(&old)), 1);
            let reader = {
                let (sets, old, new) = (Arc::clone(&sets), Arc::clone(&old), Arc::clone(&new));
                thread::spawn(move || {
                    for (key, block) in [(1, &old), (2, &new)] {
                        match sets.get(key) {
                            Some(Value::Block(found)) => assert!(Arc::ptr_eq(&found, block)),
                            Some(Value::Partition(_)) => panic!("no partition was put there"),
                            None => {}
                        }
                    }
                })
            };
            sets.insert(2, Value::Block(Arc::clone(&new)), 1);
            reader.join().expect("the reader ends");
            assert!(sets.used() <= 1);
            drop(sets);
            // The models' own, and the two of this run.
            assert_eq!((Arc::strong_count(&old), Arc::strong_count(&new)), (3, 3));
        });
    }
}

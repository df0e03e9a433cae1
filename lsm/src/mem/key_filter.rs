//! A Bloom filter over the keys of a generation, so that a read of a key that was not written lately passes the memtables by with one
//! miss of the CPU's caches instead of a search through towers and leaves (about 300 ns in a memtable of 64 MiB).
//!
//! All bits of a key stand in one word, chosen by its hash (Putze, Sanders and Singler, Cache-, Hash- and Space-Efficient Bloom Filters,
//! 2007, with a block of 64 bits): one load answers. With entries of 100 bytes there are about 20 bits for each, and one or two reads in
//! a hundred search in vain.
//!
//! Promise: a key whose insertion was published is always said to be possible. The applier adds it before it publishes; the words are
//! only ever added to, by the one applier, so a plain load and store suffice.

use crate::base::prefetch::prefetch;
use crate::base::sync::fine::{AtomicU64, Ordering};

/// Arena bytes for each word of the filter: a sixty-fourth of the arena.
const ARENA_BYTES_PER_WORD: usize = 512;
/// Bits set for a key.
const PROBES: u32 = 4;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct KeyFilter {
    words: Box<[AtomicU64]>,
}

impl KeyFilter {
    /// An empty filter for the keys that fit an arena of this size.
    pub(super) fn new(arena_bytes: usize) -> KeyFilter {
        let count = (arena_bytes / ARENA_BYTES_PER_WORD).max(1);
        KeyFilter { words: (0..count).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Bytes of the filter.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    #[inline]
    fn word(&self, hash: u64) -> &AtomicU64 {
        // The high half of the product spreads the hash over any number of words.
        &self.words[((u128::from(hash) * self.words.len() as u128) >> 64) as usize]
    }

    /// The bits of a key, from the low bits of its hash: the word comes from the high ones.
    #[inline]
    fn bits(hash: u64) -> u64 {
        (0..PROBES).fold(0, |bits, probe| bits | 1 << (hash >> (6 * probe) & 63))
    }

    /// Asks the CPU for the word of a key.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(std::ptr::from_ref(self.word(hash)).cast());
    }

    /// Adds a key. One caller at a time.
    #[inline]
    pub(super) fn add(&self, hash: u64) {
        let word = self.word(hash);
        word.store(word.load(Ordering::Relaxed) | Self::bits(hash), Ordering::Relaxed);
    }

    /// False only if the key was not added.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = Self::bits(hash);
        self.word(hash).load(Ordering::Relaxed) & bits == bits
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::hash::key_hash;

    #[test]
    fn every_added_key_may_be_there_and_few_others() {
        let filter = KeyFilter::new(1 << 20);
        // As many as fit: entries of 100 bytes take about 175 of the arena.
        let hashes: Vec<u64> = (0..6000_u64).map(|i| key_hash(&i.to_be_bytes())).collect();
        hashes.iter().for_each(|&hash| filter.add(hash));
        assert!(hashes.iter().all(|&hash| filter.may_hold(hash)));
        let others = (6000..106_000_u64).map(|i| key_hash(&i.to_be_bytes()));
        let wrong = others.filter(|&hash| filter.may_hold(hash)).count();
        assert!(wrong < 3000, "{wrong} of 100,000");
    }
}

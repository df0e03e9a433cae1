//! The order of unique keys: `std::shuffle` of libstdc++ over 0, 1, 2, ... with `std::mt19937`.
//!
//! RocksDB's filluniquerandom shuffles all key numbers with the seed cut to 32 bits. libstdc++ draws two swap positions
//! from one number while the product of both ranges fits 32 bits, and one at a time for longer lists.

use crate::generate::mersenne::Mersenne32;

/// Largest list that can be shuffled: positions are drawn as 32-bit numbers.
pub(crate) const SHUFFLE_COUNT_MAX: u64 = u32::MAX as u64;

/// The numbers below `count` in RocksDB's order for `seed`.
pub(crate) fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..count).collect();
    if count == 0 {
        return numbers;
    }
    let mut random = Mersenne32::new(seed as u32);
    if u32::MAX / count >= count {
        let mut i = 1;
        if count.is_multiple_of(2) {
            numbers.swap(1, random.below(2) as usize);
            i = 2;
        }
        while i < count {
            let range = i + 1;
            let both = random.below(range * (range + 1));
            numbers.swap(i as usize, (both / (range + 1)) as usize);
            numbers.swap(i as usize + 1, (both % (range + 1)) as usize);
            i += 2;
        }
    } else {
        for i in 1..count {
            // The range i + 1 is at most `count`, so it fits.
            numbers.swap(i as usize, random.below(i + 1) as usize);
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_lost_or_doubled() {
        for count in [0, 1, 2, 3, 1000, 65_535, 65_536, 70_001] {
            let mut numbers = shuffled(count, 42);
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(0..count), "{count}");
        }
    }
}

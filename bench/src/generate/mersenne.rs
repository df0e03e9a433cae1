//! The Mersenne Twisters `mt19937_64` and `mt19937`, bit for bit those of the C++ standard library.
//!
//! RocksDB draws keys from `std::mt19937_64`, one per thread, and shuffles unique keys with `std::mt19937`. A crate would
//! do for one of the two; both are a page, and the test vectors are published.

const LENGTH_64: usize = 312;
const SHIFT_64: usize = 156;
const LENGTH_32: usize = 624;
const SHIFT_32: usize = 397;

/// `std::mt19937_64`.
#[derive(Clone)]
pub(crate) struct Mersenne64 {
    state: Box<[u64; LENGTH_64]>,
    next: usize,
}

impl Mersenne64 {
    /// The generator that `std::mt19937_64(seed)` makes.
    pub(crate) fn new(seed: u64) -> Mersenne64 {
        let mut state = Box::new([0; LENGTH_64]);
        state[0] = seed;
        for i in 1..LENGTH_64 {
            let before = state[i - 1];
            state[i] = 6_364_136_223_846_793_005u64
                .wrapping_mul(before ^ (before >> 62))
                .wrapping_add(i as u64);
        }
        Mersenne64 { state, next: LENGTH_64 }
    }

    /// The next 64 bits.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        if self.next == LENGTH_64 {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= (word >> 29) & 0x5555_5555_5555_5555;
        word ^= (word << 17) & 0x71d6_7fff_eda6_0000;
        word ^= (word << 37) & 0xfff7_eee0_0000_0000;
        word ^ (word >> 43)
    }

    #[inline(never)]
    fn refill(&mut self) {
        const UPPER: u64 = !0 << 31;
        const MATRIX: u64 = 0xb502_6f5a_a966_19e9;
        let state = &mut *self.state;
        for i in 0..LENGTH_64 {
            let word = (state[i] & UPPER) | (state[(i + 1) % LENGTH_64] & !UPPER);
            let twist = if word & 1 == 1 { MATRIX } else { 0 };
            state[i] = state[(i + SHIFT_64) % LENGTH_64] ^ (word >> 1) ^ twist;
        }
        self.next = 0;
    }
}

/// `std::mt19937`.
pub(crate) struct Mersenne32 {
    state: Box<[u32; LENGTH_32]>,
    next: usize,
}

impl Mersenne32 {
    /// The generator that `std::mt19937(seed)` makes.
    pub(crate) fn new(seed: u32) -> Mersenne32 {
        let mut state = Box::new([0; LENGTH_32]);
        state[0] = seed;
        for i in 1..LENGTH_32 {
            let before = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Mersenne32 { state, next: LENGTH_32 }
    }

    /// The next 32 bits.
    #[inline]
    pub(crate) fn next(&mut self) -> u32 {
        if self.next == LENGTH_32 {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `range`, drawn as `std::uniform_int_distribution` of libstdc++ 11 and later draws it: the upper
    /// half of a product, with Lemire's rejection of the uneven rest.
    #[inline]
    pub(crate) fn below(&mut self, range: u32) -> u32 {
        let mut product = u64::from(self.next()) * u64::from(range);
        if (product as u32) < range {
            let threshold = range.wrapping_neg() % range;
            while (product as u32) < threshold {
                product = u64::from(self.next()) * u64::from(range);
            }
        }
        (product >> 32) as u32
    }

    #[inline(never)]
    fn refill(&mut self) {
        const UPPER: u32 = 1 << 31;
        const MATRIX: u32 = 0x9908_b0df;
        let state = &mut *self.state;
        for i in 0..LENGTH_32 {
            let word = (state[i] & UPPER) | (state[(i + 1) % LENGTH_32] & !UPPER);
            let twist = if word & 1 == 1 { MATRIX } else { 0 };
            state[i] = state[(i + SHIFT_32) % LENGTH_32] ^ (word >> 1) ^ twist;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_64_bit_stream_never_departs_from_the_published_one() {
        let mut random = Mersenne64::new(5489);
        let first = [random.next(), random.next(), random.next()];
        assert_eq!(first, [14514284786278117030, 4620546740167642908, 13109570281517897720]);
        // The C++ standard (rand.predef) fixes the 10,000th number of the default seed.
        let mut random = Mersenne64::new(5489);
        let last = (0..10_000).map(|_| random.next()).last();
        assert_eq!(last, Some(9981545732273789042));
    }

    #[test]
    fn the_32_bit_stream_never_departs_from_the_published_one() {
        let mut random = Mersenne32::new(5489);
        assert_eq!(random.next(), 3499211612);
        let mut random = Mersenne32::new(5489);
        let last = (0..10_000).map(|_| random.next()).last();
        assert_eq!(last, Some(4123659995));
    }
}

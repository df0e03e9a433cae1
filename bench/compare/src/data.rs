//! Keys and values: the same for every engine, from the same seeds.

/// Bytes of a key: the number, big-endian, and eight zeros, as db_bench writes them.
pub(crate) const KEY_BYTES: usize = 16;

/// The key of a number.
#[inline]
pub(crate) fn key_of(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key
}

/// A key beside that of a number, which no database holds.
#[inline]
pub(crate) fn missing_key_of(number: u64) -> [u8; KEY_BYTES] {
    let mut key = key_of(number);
    key[KEY_BYTES - 1] = b'.';
    key
}

/// splitmix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

/// The output function of splitmix64.
#[inline]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Begins far from where any other seed does: neighbouring states would draw each other's numbers.
    pub(crate) fn new(seed: u64) -> Random {
        Random(mix(seed.wrapping_add(0x1234_5678_9abc_def1)))
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    #[inline]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Values: slices of one text, half of which repeats.
#[derive(Debug)]
pub(crate) struct Values {
    text: Vec<u8>,
    at: usize,
    bytes: usize,
}

impl Values {
    pub(crate) fn new(bytes: usize) -> Values {
        let mut random = Random::new(301);
        let mut text = Vec::with_capacity(1 << 20);
        while text.len() < 1 << 20 {
            let half: Vec<u8> = (0..50).map(|_| b' ' + random.below(95) as u8).collect();
            text.extend_from_slice(&half);
            text.extend_from_slice(&half);
        }
        Values { text, at: 0, bytes }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> &[u8] {
        if self.at + self.bytes > self.text.len() {
            self.at = 0;
        }
        self.at += self.bytes;
        &self.text[self.at - self.bytes..self.at]
    }
}

/// Takes every key and value that an engine gives, so that none of them is only promised.
#[derive(Debug, Default)]
pub(crate) struct Sink(u64);

impl Sink {
    #[inline]
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let ends =
            bytes.first().zip(bytes.last()).map_or(0, |(a, b)| u64::from(*a) + u64::from(*b));
        self.0 = self.0.wrapping_mul(31).wrapping_add(ends + bytes.len() as u64);
    }

    /// Keeps the compiler from leaving the work out.
    pub(crate) fn close(self) {
        std::hint::black_box(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_do_not_share_their_numbers() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.next()).collect::<std::collections::HashSet<_>>()
        };
        assert!((1..20).all(|seed| draw(0).is_disjoint(&draw(seed))));
    }
}

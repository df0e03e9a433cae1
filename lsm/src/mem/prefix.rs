//! The prefix that most keys of a memtable share, and key heads taken after it.
//!
//! Eight bytes decide nearly every comparison of keys if they are the eight bytes that differ. Skipping what the keys have in
//! common is worth 1.7x on inserts of "user000123..." keys. The prefix is a guess about keys that are still to come:
//!
//! 1. Heads never lie: `head(a) < head(b)` implies `a < b` for any keys, with any prefix. A key below the prefix has head 0, one
//!    above it `u64::MAX`; equal heads say nothing and the keys must be compared.
//! 2. A wrong guess is therefore only slow, never wrong.

use crate::base::key;

/// Keys looked at that must differ before a prefix is learned from them.
const SAMPLE_MIN: usize = 64;

/// Bytes beyond those that tell a random sample apart which a head should cover: later keys lie denser.
const MARGIN_BYTES: usize = 6;

/// A guessed common prefix.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Prefix {
    bytes: Box<[u8]>,
}

impl Prefix {
    /// The prefix `bytes`.
    pub(crate) fn new(bytes: &[u8]) -> Prefix {
        Prefix { bytes: bytes.into() }
    }

    /// The bytes skipped.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// True if `key` begins with the prefix.
    #[inline]
    pub(crate) fn fits(&self, key: &[u8]) -> bool {
        // A comparison of no bytes at the dangling address of an empty box costs 60 ns with a vectorised memcmp (a masked load of an
        // unmapped page takes a microcode assist), so it is not made.
        self.bytes.is_empty() || key.starts_with(&self.bytes)
    }

    /// The head of `key`: order-preserving, see promise 1.
    #[inline]
    pub(crate) fn head(&self, key: &[u8]) -> u64 {
        if self.fits(key) { key::head(key, self.bytes.len()) } else { self.clamped(key) }
    }

    #[cold]
    fn clamped(&self, key: &[u8]) -> u64 {
        if key < &self.bytes[..] { 0 } else { u64::MAX }
    }

    /// Whether the prefix serves `sample` (ascending): nearly all keys fit, and nearly all neighbours differ in their heads.
    pub(crate) fn serves(&self, sample: &[&[u8]]) -> bool {
        let fit = sample.iter().filter(|key| self.fits(key)).count();
        let (mut distinct, mut told_apart) = (0, 0);
        for pair in sample.windows(2).filter(|pair| pair[0] != pair[1]) {
            distinct += 1;
            told_apart += usize::from(self.head(pair[0]) != self.head(pair[1]));
        }
        fit * 8 >= sample.len() * 7 && told_apart * 8 >= distinct * 7
    }

    /// Learns a prefix from the keys of a full leaf (`sample`, ascending) of a memtable whose keys lie between `smallest` and
    /// `largest`. `None` if the sample says too little.
    ///
    /// As short as serves: it reaches the bytes that tell most neighbours apart, with a margin for denser keys to come, but goes
    /// no deeper, because each byte more is one that a later key may not share. Keys that come in ascending order
    /// (`arrived_ascending`) are as dense as they will get and need no margin, but they will leave a long prefix soon.
    pub(crate) fn learn(
        sample: &[&[u8]],
        smallest: &[u8],
        largest: &[u8],
        arrived_ascending: bool,
    ) -> Option<Prefix> {
        let mut depths: Vec<usize> = sample
            .windows(2)
            .filter(|pair| pair[0] != pair[1])
            .map(|pair| key::common_prefix(pair[0], pair[1]))
            .collect();
        if depths.len() + 1 < SAMPLE_MIN {
            return None;
        }
        let index = depths.len() * 7 / 8;
        let (_, depth, _) = depths.select_nth_unstable(index);
        let margin = if arrived_ascending { 0 } else { MARGIN_BYTES };
        let wanted = (*depth + 1 + margin).saturating_sub(8);
        let shared = key::common_prefix(smallest, largest);
        Some(Prefix::new(&smallest[..wanted.min(shared)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn a_wrong_prefix_never_reverses_two_keys() {
        // Promise 1, over a small alphabet so that prefixes of each other are common.
        let mut random = Random::new(11);
        let mut key = || -> Vec<u8> {
            (0..random.below(5)).map(|_| [0, b'a', 0xff][random.below(3) as usize]).collect()
        };
        for _ in 0..20_000 {
            let (prefix, left, right) = (Prefix::new(&key()), key(), key());
            if prefix.head(&left) < prefix.head(&right) {
                assert!(left < right, "{prefix:?} {left:?} {right:?}");
            }
        }
    }

    fn learned(keys: &mut [Vec<u8>], ascending: bool) -> usize {
        keys.sort();
        let sample: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
        let prefix = Prefix::learn(&sample, sample[0], sample[127], ascending).unwrap();
        assert!(prefix.serves(&sample));
        prefix.bytes().len()
    }

    #[test]
    fn ascending_keys_are_not_trusted_to_keep_their_leading_zeros() {
        // 16 digits, 128 keys: 13 digits in common, but the head needs to reach only the last one.
        let mut keys: Vec<_> = (0..128).map(|n| format!("{n:016}").into_bytes()).collect();
        assert_eq!(learned(&mut keys, true), 8);
    }

    #[test]
    fn random_keys_get_their_whole_prefix_skipped_but_no_more_than_helps() {
        let mut random = Random::new(5);
        let mut keys: Vec<_> =
            (0..128).map(|_| format!("user{:012}", random.below(1e12 as u64)).into()).collect();
        assert_eq!(learned(&mut keys, false), 4);
        let mut keys: Vec<_> = (0..128)
            .map(|_| [&random.below(5_000_000).to_be_bytes()[..], b"00000000"].concat())
            .collect();
        assert!((2..=5).contains(&learned(&mut keys, false)));
    }

    #[test]
    fn many_versions_of_few_keys_teach_nothing() {
        let keys: Vec<&[u8]> = [vec![&b"aa"[..]; 100], vec![&b"ab"[..]; 28]].concat();
        assert_eq!(Prefix::learn(&keys, b"aa", b"ab", false), None);
    }
}

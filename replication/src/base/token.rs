//! Tokens: where on the ring a key lives, and the tablets that the ring is cut into.
//!
//! The token of a key is XXH3 (64 bits, seed 0) of its partition part. The ring, 0 to 2^64 - 1, is cut into a power of two of equal tablets, so the
//! tablet of a token is its top bits: no table, no search, and a tablet is one contiguous range of tokens for ever (as "strategy 3" of Dynamo,
//! DeCandia and others, SOSP 2007, section 6.2: fixed partitions, whose number does not depend on that of the nodes).

use crate::base::error::{Error, Result};
use crate::base::ids::TabletId;
use std::ops::RangeInclusive;
use xxhash_rust::xxh3::xxh3_64;

/// Most tablets of a keyspace.
pub const TABLET_COUNT_MAX: u32 = 1 << 16;

/// A place on the ring.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token(pub u64);

impl Token {
    /// The token of a key's partition part.
    #[inline]
    pub fn of(partition: &[u8]) -> Token {
        Token(xxh3_64(partition))
    }

    /// As the first bytes of a stored key: they sort as the tokens do.
    #[inline]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

/// How the ring is cut.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tablets {
    count: u32,
}

impl Tablets {
    /// `count` equal tablets.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] unless it is a power of two from 1 to [`TABLET_COUNT_MAX`].
    pub fn new(count: u32) -> Result<Tablets> {
        if !count.is_power_of_two() || count > TABLET_COUNT_MAX {
            let detail =
                format!("{count} given; a power of two up to {TABLET_COUNT_MAX} is possible");
            return Err(Error::invalid_setting("tablets", detail));
        }
        Ok(Tablets { count })
    }

    /// How many there are.
    #[inline]
    pub fn count(self) -> u32 {
        self.count
    }

    /// All of them, in the order of the ring.
    pub fn all(self) -> impl Iterator<Item = TabletId> {
        (0..self.count).map(TabletId)
    }

    /// The tablet that a token lies in.
    #[inline]
    pub fn of(self, token: Token) -> TabletId {
        match self.count.trailing_zeros() {
            0 => TabletId(0),
            bits => TabletId((token.0 >> (64 - bits)) as u32),
        }
    }

    /// The tokens of a tablet.
    ///
    /// # Panics
    /// If there is no such tablet.
    pub fn tokens(self, tablet: TabletId) -> RangeInclusive<u64> {
        assert!(tablet.0 < self.count, "{tablet} of {}", self.count);
        match self.count.trailing_zeros() {
            0 => 0..=u64::MAX,
            bits => {
                let first = u64::from(tablet.0) << (64 - bits);
                first..=first + (u64::MAX >> bits)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_lies_in_exactly_the_tablet_that_says_so() {
        for count in [1, 2, 256, TABLET_COUNT_MAX] {
            let tablets = Tablets::new(count).unwrap();
            let mut next = Some(0);
            for tablet in tablets.all() {
                let tokens = tablets.tokens(tablet);
                assert_eq!(Some(*tokens.start()), next, "no gap and no overlap");
                assert_eq!(tablets.of(Token(*tokens.start())), tablet);
                assert_eq!(tablets.of(Token(*tokens.end())), tablet);
                next = tokens.end().checked_add(1);
            }
            assert_eq!(next, None, "the ring is closed");
        }
    }

    #[test]
    fn a_ring_that_cannot_be_cut_is_refused() {
        for count in [0, 3, TABLET_COUNT_MAX * 2, u32::MAX] {
            let refused = Tablets::new(count).unwrap_err().to_string();
            assert!(refused.contains("a power of two up to 65536"), "{refused}");
        }
    }

    #[test]
    fn the_token_of_a_key_never_changes() {
        // Promise: it is on disk and on the wire; another hash would lose every key.
        assert_eq!(Token::of(b"").0, 0x2d06_8005_38d3_94c2);
        assert_eq!(Token::of(b"treering").to_bytes(), Token::of(b"treering").0.to_be_bytes());
    }
}

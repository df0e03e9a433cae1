//! Guard keys: where the tables of a keyspace are always cut, so that a range between two of them is made of whole tables.
//!
//! Whoever moves, drops or exports such ranges (tablets, tenants, days) then touches no table of its neighbours. Fragmented LSM trees use guards
//! to partition levels (Raju and others, "PebblesDB", SOSP 2017); here they only cut.

use crate::base::error::{Error, Result};
use crate::base::limits::KEY_BYTES_MAX;

/// Most guard keys of a keyspace.
pub const GUARD_COUNT_MAX: usize = 1 << 16;
/// Most bytes of all guard keys of a keyspace together.
pub const GUARD_BYTES_MAX: usize = 4 << 20;

/// Sorted keys, each the first of a range.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GuardKeys {
    keys: Vec<Vec<u8>>,
}

impl GuardKeys {
    /// These keys, in any order.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for too many of them, [`Error::KeyTooLarge`] for one that is no key.
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k [u8]>) -> Result<GuardKeys> {
        let mut sorted: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        for key in keys {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(Error::KeyTooLarge { length: key.len(), max: KEY_BYTES_MAX });
            }
            bytes += key.len();
            if sorted.len() == GUARD_COUNT_MAX || bytes > GUARD_BYTES_MAX {
                let detail = format!(
                    "up to {GUARD_COUNT_MAX} keys of {GUARD_BYTES_MAX} bytes together are possible; give coarser ones"
                );
                return Err(Error::invalid_option("guard_keys", detail));
            }
            sorted.push(key.to_vec());
        }
        sorted.sort_unstable();
        sorted.dedup();
        Ok(GuardKeys { keys: sorted })
    }

    /// In order.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// True if a table from `smallest` to `largest` should be two.
    pub fn cut(&self, smallest: &[u8], largest: &[u8]) -> bool {
        let next = self.keys.partition_point(|guard| &guard[..] <= smallest);
        self.keys.get(next).is_some_and(|guard| &guard[..] <= largest)
    }

    /// For a walk over ascending keys.
    pub fn walk(&self) -> GuardWalk<'_> {
        GuardWalk { rest: &self.keys }
    }
}

/// Says of ascending keys where a guard lies between one and the one before.
#[derive(Debug)]
pub struct GuardWalk<'a> {
    rest: &'a [Vec<u8>],
}

impl GuardWalk<'_> {
    /// True if a guard lies at `key`, or between it and the key before.
    #[inline]
    pub fn passes(&mut self, key: &[u8]) -> bool {
        match self.rest.first() {
            Some(guard) if &guard[..] <= key => {
                let passed = self.rest.partition_point(|guard| &guard[..] <= key);
                self.rest = &self.rest[passed..];
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guards_cut_before_their_key() {
        let guards = GuardKeys::new([&b"m"[..], b"c", b"m"]).unwrap();
        assert_eq!(guards.keys(), [b"c", b"m"]);
        let cuts = [("a", "b", false), ("a", "c", true), ("c", "l", false), ("d", "z", true)];
        for (smallest, largest, expected) in cuts {
            assert_eq!(guards.cut(smallest.as_bytes(), largest.as_bytes()), expected);
        }
        let mut walk = guards.walk();
        let passed = ["a", "b", "c", "d", "z", "zz"].map(|key| walk.passes(key.as_bytes()));
        assert_eq!(passed, [false, false, true, false, true, false]);
    }

    #[test]
    fn guards_that_are_no_keys_or_too_many_are_refused() {
        assert!(matches!(GuardKeys::new([&b""[..]]), Err(Error::KeyTooLarge { .. })));
        let many: Vec<[u8; 4]> = (0..=GUARD_COUNT_MAX as u32).map(u32::to_be_bytes).collect();
        let refused = GuardKeys::new(many.iter().map(|key| &key[..])).unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { option: "guard_keys", .. }), "{refused}");
        assert!(GuardKeys::new(many[1..].iter().map(|key| &key[..])).is_ok());
        let large = vec![vec![1; KEY_BYTES_MAX]; GUARD_BYTES_MAX / KEY_BYTES_MAX + 1];
        assert!(GuardKeys::new(large.iter().map(|key| &key[..])).is_err());
    }
}

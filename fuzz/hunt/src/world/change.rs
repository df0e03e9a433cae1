//! One write of a commit: what it makes of a map, and how a batch says it.

use super::history::Map;
use crate::drive::Chance;
use std::collections::BTreeMap;
use std::ops::Bound;
use treering_lsm::{Error, Keyspace, WriteBatch};

/// One range in so many has no end, and one no start.
const UNBOUNDED_ONE_IN: u64 = 40;
/// Keys of a usual range, at most.
const RANGE_KEYS_MAX: u64 = 12;

/// What is written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// The key has this value.
    Put(Vec<u8>),
    /// The key is gone.
    Delete,
    /// All keys from this one to before the given one are gone; all from it on, if that is empty.
    DeleteTo(Vec<u8>),
}

/// A write to one keyspace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Number of the keyspace.
    pub keyspace: u8,
    /// The key, or the first one of a range.
    pub key: Vec<u8>,
    /// What becomes of it.
    pub what: What,
}

/// Contents of all keyspaces, borrowed from the commits that make them.
pub type Shown<'a> = BTreeMap<(u8, &'a [u8]), &'a [u8]>;

/// A map as [`Shown`].
pub fn shown(map: &Map) -> Shown<'_> {
    map.iter().map(|((keyspace, key), value)| ((*keyspace, &key[..]), &value[..])).collect()
}

/// The bounds of a range; an empty end is none.
pub fn bounds<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let end = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    (Bound::Included(start), end)
}

impl Change {
    /// A put.
    pub fn put(keyspace: u8, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
        Change { keyspace, key: key.into(), what: What::Put(value.into()) }
    }

    /// A delete.
    pub fn delete(keyspace: u8, key: impl Into<Vec<u8>>) -> Change {
        Change { keyspace, key: key.into(), what: What::Delete }
    }

    /// A range delete; without end if that is empty.
    pub fn delete_range(
        keyspace: u8,
        start: impl Into<Vec<u8>>,
        end: impl Into<Vec<u8>>,
    ) -> Change {
        Change { keyspace, key: start.into(), what: What::DeleteTo(end.into()) }
    }

    /// Draws a range delete over the keys that `name` gives to numbers below `count`: mostly a few of them. `last` stands behind
    /// all of them, and is the end of a range that has none; empty where nothing else is in the keyspace.
    pub fn draw_range(
        chance: &mut Chance,
        keyspace: u8,
        count: u64,
        name: impl Fn(u64) -> Vec<u8>,
        last: &[u8],
    ) -> Change {
        let from = chance.below(count);
        let to = from + 1 + chance.below(RANGE_KEYS_MAX);
        match chance.below(UNBOUNDED_ONE_IN) {
            0 => Change::delete_range(keyspace, name(from), last),
            1 => Change::delete_range(keyspace, Vec::new(), name(to)),
            _ => Change::delete_range(keyspace, name(from), name(to)),
        }
    }

    /// Carries it out.
    pub fn apply<'a>(&'a self, map: &mut Shown<'a>) {
        let place = (self.keyspace, &self.key[..]);
        match &self.what {
            What::Put(value) => {
                map.insert(place, value);
            }
            What::Delete => {
                map.remove(&place);
            }
            What::DeleteTo(_) => {
                let inside = map.range(place..).map(|(place, _)| *place);
                let inside: Vec<_> = inside.take_while(|(at, key)| self.holds(*at, key)).collect();
                for place in inside {
                    map.remove(&place);
                }
            }
        }
    }

    /// True if it says what becomes of this key.
    pub fn holds(&self, keyspace: u8, key: &[u8]) -> bool {
        keyspace == self.keyspace
            && match &self.what {
                What::Put(_) | What::Delete => self.key == key,
                What::DeleteTo(end) => &self.key[..] <= key && (end.is_empty() || key < &end[..]),
            }
    }

    /// Adds it to a batch.
    ///
    /// # Errors
    /// The engine's.
    pub fn add_to(&self, batch: &mut WriteBatch, keyspace: &Keyspace) -> Result<(), Error> {
        match &self.what {
            What::Put(value) => batch.put(keyspace, &self.key, value),
            What::Delete => batch.delete(keyspace, &self.key),
            What::DeleteTo(end) => batch.delete_range(keyspace, bounds(&self.key, end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_its_keys_and_no_others() {
        let all: Vec<Change> = [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "c")]
            .map(|(at, key)| Change::put(at, key, "1"))
            .into();
        for (range, left) in [
            (Change::delete_range(0, "a", "c"), &[(0, "c"), (1, "a"), (1, "c")][..]),
            (Change::delete_range(0, "b", ""), &[(0, "a"), (1, "a"), (1, "c")]),
            (Change::delete_range(1, "", "b"), &[(0, "a"), (0, "b"), (0, "c"), (1, "c")]),
        ] {
            let mut map = Shown::new();
            all.iter().chain([&range]).for_each(|change| change.apply(&mut map));
            let keys: Vec<_> = map.into_keys().collect();
            let left: Vec<_> = left.iter().map(|(at, key)| (*at, key.as_bytes())).collect();
            assert_eq!(keys, left);
        }
    }
}

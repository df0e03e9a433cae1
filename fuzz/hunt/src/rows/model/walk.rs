//! A cursor beside the oracle, moved about at random.

use super::oracle::{Oracle, Time, show};
use super::world::failed;
use crate::drive::{Chance, Failure};
use crate::world::Keys;
use std::ops::Bound;
use treering_lsm::{Cursor, Error, Keyspace, ReadOptions};

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Walk {
    cursor: Cursor,
    at: usize,
    time: Time,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    /// Where it stands.
    here: Option<Vec<u8>>,
}

/// A move of a cursor.
#[derive(Clone, Copy, Debug)]
enum Move {
    First,
    Last,
    Seek,
    SeekForPrev,
    Next,
    Prev,
}

impl Walk {
    /// A cursor over a keyspace as of a moment; the options ask for just that moment.
    pub(super) fn new(
        keyspace: &Keyspace,
        at: usize,
        time: Time,
        options: ReadOptions,
    ) -> Result<Walk, Error> {
        let cursor = keyspace.cursor(&options)?;
        let (lower, upper) = (options.lower_bound, options.upper_bound);
        Ok(Walk { cursor, at, time, lower, upper, here: None })
    }

    /// Number of the keyspace that it walks over.
    pub(super) fn keyspace(&self) -> usize {
        self.at
    }

    /// The moment that it sees.
    pub(super) fn time(&self) -> Time {
        self.time
    }

    /// Makes `moves` moves, most of them in one direction, and compares each.
    pub(super) fn wander(
        &mut self,
        moves: u64,
        chance: &mut Chance,
        keys: &Keys,
        oracle: &Oracle,
    ) -> Result<(), Failure> {
        let mut target = Vec::new();
        let ahead = if chance.one_in(2) { Move::Next } else { Move::Prev };
        for index in 0..moves {
            let draw =
                if index == 0 && self.here.is_none() { chance.below(6) } else { chance.below(24) };
            let mut step = match draw {
                0 => Move::First,
                1 => Move::Last,
                2 | 3 => Move::Seek,
                4 | 5 => Move::SeekForPrev,
                6 => Move::Next,
                7 => Move::Prev,
                _ => ahead,
            };
            // A cursor that stands nowhere does not move on.
            if self.here.is_none() && matches!(step, Move::Next | Move::Prev) {
                step = Move::Seek;
            }
            if matches!(step, Move::Seek | Move::SeekForPrev) {
                keys.draw(chance, &mut target);
            }
            self.go(step, &target, oracle)?;
        }
        Ok(())
    }

    fn go(&mut self, step: Move, target: &[u8], oracle: &Oracle) -> Result<(), Failure> {
        let lower = self.lower.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let upper = self.upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let from = match &self.lower {
            Some(lower) if &lower[..] > target => Bound::Included(&lower[..]),
            _ => Bound::Included(target),
        };
        let to = match &self.upper {
            Some(upper) if &upper[..] <= target => Bound::Excluded(&upper[..]),
            _ => Bound::Included(target),
        };
        let here = self.here.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (at, time) = (self.at, self.time);
        let (moved, expected) = match step {
            Move::First => (self.cursor.seek_to_first(), oracle.first_in(at, time, (lower, upper))),
            Move::Last => (self.cursor.seek_to_last(), oracle.last_in(at, time, (lower, upper))),
            Move::Seek => (self.cursor.seek(target), oracle.first_in(at, time, (from, upper))),
            Move::SeekForPrev => {
                (self.cursor.seek_for_prev(target), oracle.last_in(at, time, (lower, to)))
            }
            Move::Next => (self.cursor.next(), oracle.first_in(at, time, (here, upper))),
            Move::Prev => (self.cursor.prev(), oracle.last_in(at, time, (lower, here))),
        };
        let moved = moved.map_err(failed)?;
        let found = self.cursor.valid().then(|| (self.cursor.key(), self.cursor.value()));
        if found != expected || moved != found.is_some() {
            return Err(format!(
                "{step:?} {} of a cursor at {time} (bounds {:?}, {:?}): stands on {:?}, expected {:?}",
                show(target),
                self.lower.as_deref().map(show),
                self.upper.as_deref().map(show),
                found.map(|(key, value)| (show(key), show(value))),
                expected.map(|(key, value)| (show(key), show(value)))
            ));
        }
        match (expected, &mut self.here) {
            (Some((key, _)), Some(here)) => {
                here.clear();
                here.extend_from_slice(key);
            }
            (expected, here) => *here = expected.map(|(key, _)| key.to_vec()),
        }
        Ok(())
    }
}

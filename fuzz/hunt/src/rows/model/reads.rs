//! The point reads and ranges of the model row, now or at a held moment.

use super::oracle::{Time, show};
use super::walk::Walk;
use super::world::{WALKS_MAX, World, failed};
use crate::drive::Failure;
use std::ops::Bound;
use treering_lsm::ReadOptions;

/// Keys of a multi_get at most.
const MULTI_GET_MAX: u64 = 16;
/// Entries taken from a range at most.
const RANGE_MAX: u64 = 40;
/// Moves of a cursor at once, at most.
const MOVES_MAX: u64 = 24;
/// One get in so many is asked what answered it.
const LOCATE_ONE_IN: u64 = 32;

/// What to read: a keyspace, as of when, and the options that ask for it.
struct Reading {
    at: usize,
    time: Time,
    options: ReadOptions,
}

impl World {
    fn reading(&mut self) -> Reading {
        let mut options = ReadOptions {
            fill_cache: self.chance.one_in(2),
            read_ahead: self.chance.one_in(2),
            ..ReadOptions::default()
        };
        let mut time = self.oracle.now();
        if !self.snapshots.is_empty() && self.chance.one_in(3) {
            let (snapshot, taken) = self.chance.pick(&self.snapshots);
            time = *taken;
            options.snapshot = Some(snapshot.clone());
        }
        Reading { at: self.which(), time, options }
    }

    pub(super) fn get(&mut self) -> Result<(), Failure> {
        let Reading { at, time, options } = self.reading();
        self.keys.draw(&mut self.chance, &mut self.key);
        let keyspace = &self.keyspaces[at];
        let found = keyspace.get_with(&self.key, &options).map_err(failed)?;
        let expected = self.oracle.value_at(at, &self.key, time);
        if found.as_deref() != expected {
            return Err(wrong(at, &self.key, time, found.as_deref(), expected));
        }
        if self.chance.one_in(LOCATE_ONE_IN) {
            let place = keyspace.locate(&self.key, &options).map_err(failed)?;
            if place.is_none() && expected.is_some() {
                return Err(format!("{} is there and nowhere", show(&self.key)));
            }
            self.coverage.answered(place);
        }
        Ok(())
    }

    pub(super) fn multi_get(&mut self) -> Result<(), Failure> {
        let Reading { at, time, options } = self.reading();
        let mut keys = vec![Vec::new(); self.chance.below(MULTI_GET_MAX + 1) as usize];
        keys.iter_mut().for_each(|key| self.keys.draw(&mut self.chance, key));
        let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let found = self.keyspaces[at].multi_get(&slices, &options);
        if found.len() != keys.len() {
            return Err(format!("{} answers for {} keys", found.len(), keys.len()));
        }
        for (key, found) in keys.iter().zip(found) {
            let found = found.map_err(failed)?;
            let expected = self.oracle.value_at(at, key, time);
            if found.as_deref() != expected {
                return Err(wrong(at, key, time, found.as_deref(), expected));
            }
        }
        self.operations += keys.len() as u64;
        Ok(())
    }

    /// A cursor, moved about; some are held for later.
    pub(super) fn walk(&mut self) -> Result<(), Failure> {
        let Reading { at, time, mut options } = self.reading();
        let (mut low, mut high) = (Vec::new(), Vec::new());
        self.keys.draw(&mut self.chance, &mut low);
        self.keys.draw(&mut self.chance, &mut high);
        if low > high {
            std::mem::swap(&mut low, &mut high);
        }
        options.lower_bound = self.chance.one_in(3).then_some(low);
        options.upper_bound = self.chance.one_in(3).then_some(high);
        let mut walk = Walk::new(&self.keyspaces[at], at, time, options).map_err(failed)?;
        let moves = self.chance.below(MOVES_MAX);
        walk.wander(moves, &mut self.chance, &self.keys, &self.oracle)?;
        self.operations += moves;
        if self.walks.len() < WALKS_MAX && self.chance.one_in(8) {
            self.oracle.pin(time);
            self.walks.push(walk);
        }
        Ok(())
    }

    /// Goes on with a cursor that was held; perhaps for the last time.
    pub(super) fn walk_on(&mut self) -> Result<(), Failure> {
        if self.walks.is_empty() {
            return Ok(());
        }
        let index = self.chance.below(self.walks.len() as u64) as usize;
        let moves = self.chance.below(MOVES_MAX);
        self.walks[index].wander(moves, &mut self.chance, &self.keys, &self.oracle)?;
        self.operations += moves;
        self.coverage.note("cursors_held", 1);
        if self.chance.one_in(8) {
            let walk = self.walks.swap_remove(index);
            self.oracle.unpin(walk.time());
        }
        Ok(())
    }

    /// A range or a prefix, from both ends.
    pub(super) fn range(&mut self) -> Result<(), Failure> {
        let Reading { at, time, options } = self.reading();
        let (mut low, mut high) = (Vec::new(), Vec::new());
        self.keys.draw(&mut self.chance, &mut low);
        self.keys.draw(&mut self.chance, &mut high);
        if low > high {
            std::mem::swap(&mut low, &mut high);
        }
        let by_prefix = self.chance.one_in(3);
        let (mut lower, mut upper) = (self.bound(low), self.bound(high));
        let keyspace = &self.keyspaces[at];
        let mut range = if by_prefix {
            let mut prefix = Vec::new();
            self.keys.prefix(&mut self.chance, &mut prefix);
            let range = keyspace.prefix(&prefix, &options).map_err(failed)?;
            let end = (0..prefix.len()).rev().find(|&index| prefix[index] < 0xff);
            upper = end.map_or(Bound::Unbounded, |index| {
                let mut end = prefix[..=index].to_vec();
                end[index] += 1;
                Bound::Excluded(end)
            });
            lower = Bound::Included(prefix);
            range
        } else {
            let bounds = (as_slice(&lower), as_slice(&upper));
            keyspace.range(bounds, &options).map_err(failed)?
        };
        let only_front = self.chance.one_in(3);
        for _ in 0..self.chance.below(RANGE_MAX) {
            self.operations += 1;
            let bounds = (as_slice(&lower), as_slice(&upper));
            let at_front = only_front || self.chance.one_in(2);
            let (found, expected) = match at_front {
                true => (range.next(), self.oracle.first_in(at, time, bounds)),
                false => (range.next_back(), self.oracle.last_in(at, time, bounds)),
            };
            let found = found.transpose().map_err(failed)?;
            let entry = found.as_ref().map(|(key, value)| (&key[..], &value[..]));
            if entry != expected {
                let side = if at_front { "front" } else { "back" };
                return Err(format!(
                    "the {side} of a range at {time}: {:?}, expected {:?}",
                    entry.map(|(key, value)| (show(key), show(value))),
                    expected.map(|(key, value)| (show(key), show(value)))
                ));
            }
            match found {
                Some((key, _)) if at_front => lower = Bound::Excluded(key),
                Some((key, _)) => upper = Bound::Excluded(key),
                None => break,
            }
        }
        Ok(())
    }

    fn bound(&mut self, key: Vec<u8>) -> Bound<Vec<u8>> {
        match self.chance.below(3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

fn wrong(
    at: usize,
    key: &[u8],
    time: Time,
    found: Option<&[u8]>,
    expected: Option<&[u8]>,
) -> Failure {
    format!(
        "keyspace {at}, {} at {time}: {:?}, expected {:?}",
        show(key),
        found.map(show),
        expected.map(show)
    )
}

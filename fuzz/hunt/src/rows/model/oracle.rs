//! What the database should answer: sorted maps that remember versions.
//!
//! Time is the number of the commit. A key keeps its newest version, those that a held snapshot or cursor sees, and those that a
//! death of the process may bring back: a write of class None is lost with its memtable, and what it hid is seen again. Flushes go in the order
//! of the commits, so a death loses exactly the writes of class None after some moment.
//!
//! ```text
//!   commits:     1 put a   2 put b (None)   3 delete a (None)   4 put c   5 put b (None)
//!   a death with all up to 2 flushed leaves:   a@1  b@2  c@4
//! ```

use super::span::Span;
use crate::drive::Failure;
use crate::world::{Change, What, bounds};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

/// Number of a commit.
pub(super) type Time = u64;
/// What a scan of a keyspace found.
pub(super) type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Clone, Debug)]
struct Version {
    time: Time,
    value: Option<Vec<u8>>,
    /// Survives a death of the process; false for class None.
    logged: bool,
}

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// By keyspace; versions oldest first, never none.
    maps: Vec<BTreeMap<Vec<u8>, Vec<Version>>>,
    now: Time,
    /// Moments that somebody still looks at, with how many do.
    pinned: BTreeMap<Time, usize>,
    /// Everything up to here is certainly in tables.
    flushed: Time,
    /// Keys with writes of class None since then.
    unlogged: BTreeSet<(usize, Vec<u8>)>,
    first_unlogged: Option<Time>,
    /// Moments after which somebody asks what was changed, and what was, oldest first.
    watched: BTreeSet<Time>,
    changed: VecDeque<(Time, Span)>,
}

impl Oracle {
    /// Adds an empty keyspace.
    pub(super) fn add_keyspace(&mut self) {
        self.maps.push(BTreeMap::new());
    }

    /// Forgets the last keyspace.
    pub(super) fn drop_keyspace(&mut self) {
        self.maps.pop();
        let left = self.maps.len();
        self.unlogged.retain(|(at, _)| *at < left);
        self.changed.retain(|(_, span)| span.keyspace < left);
    }

    /// True if a death may still take a write to the key.
    pub(super) fn is_unsure(&self, at: usize, key: &[u8]) -> bool {
        self.unlogged.contains(&(at, key.to_vec()))
    }

    /// The oldest commit that a death may take.
    pub(super) fn first_unlogged(&self) -> Option<Time> {
        self.first_unlogged
    }

    /// The newest commit.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Keeps what is seen at `time` until it is unpinned.
    pub(super) fn pin(&mut self, time: Time) {
        *self.pinned.entry(time).or_default() += 1;
    }

    pub(super) fn unpin(&mut self, time: Time) {
        if let Some(count) = self.pinned.get_mut(&time) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&time);
            }
        }
    }

    /// Keeps the changes after all of these moments, from now on.
    pub(super) fn watch(&mut self, moments: impl IntoIterator<Item = Time>) {
        self.watched = moments.into_iter().collect();
        let oldest = self.watched.first().copied().unwrap_or(Time::MAX);
        let passed = self.changed.partition_point(|(time, _)| *time <= oldest);
        self.changed.drain(..passed);
    }

    /// What was changed after a watched moment, oldest first.
    pub(super) fn changed_after(&self, since: Time) -> impl Iterator<Item = &Span> {
        let from = self.changed.partition_point(|(time, _)| *time <= since);
        self.changed.range(from..).map(|(_, span)| span)
    }

    /// Everything written so far is in tables.
    pub(super) fn flush(&mut self) {
        self.flushed = self.now;
        self.unlogged.clear();
        self.first_unlogged = None;
    }

    /// One commit.
    pub(super) fn write(&mut self, changes: impl IntoIterator<Item = Change>, logged: bool) {
        self.now += 1;
        if !logged {
            self.first_unlogged.get_or_insert(self.now);
        }
        for change in changes {
            if !self.watched.is_empty() {
                self.changed.push_back((self.now, Span::of(&change)));
            }
            let Change { keyspace, key, what } = change;
            let at = usize::from(keyspace);
            match what {
                What::Put(value) => self.set(at, key, Some(value), logged),
                What::Delete => self.set(at, key, None, logged),
                What::DeleteTo(end) => {
                    // To the memory of old versions it is a delete of every key that has any.
                    let inside = self.entries(at, bounds(&key, &end)).into_iter().flatten();
                    let inside: Vec<_> = inside.map(|(key, _)| key.clone()).collect();
                    inside.into_iter().for_each(|key| self.set(at, key, None, logged));
                }
            }
        }
    }

    /// The newest version of a key, by the newest commit.
    fn set(&mut self, at: usize, key: Vec<u8>, value: Option<Vec<u8>>, logged: bool) {
        if !logged {
            self.unlogged.insert((at, key.clone()));
        }
        let version = Version { time: self.now, value, logged };
        let Some(versions) = self.maps[at].get_mut(&key) else {
            if version.value.is_some() {
                self.maps[at].insert(key, vec![version]);
            }
            return;
        };
        // Within a batch the later one wins.
        if versions.last().is_some_and(|last| last.time == version.time) {
            versions.pop();
        }
        versions.push(version);
        prune(versions, self.flushed, &self.pinned);
        if versions.iter().all(|version| version.value.is_none()) {
            self.maps[at].remove(&key);
        }
    }

    /// The value of a key at a moment.
    pub(super) fn value_at(&self, at: usize, key: &[u8], time: Time) -> Option<&[u8]> {
        self.maps[at].get(key).and_then(|versions| seen(versions, time))
    }

    /// All entries between the bounds at a moment.
    pub(super) fn all_in(
        &self,
        at: usize,
        time: Time,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Entries {
        let entries = self.entries(at, bounds).into_iter().flatten();
        let seen = |(key, versions): (&Vec<u8>, &Vec<Version>)| {
            Some((key.clone(), seen(versions, time)?.to_vec()))
        };
        entries.filter_map(seen).collect()
    }

    /// The first entry between the bounds at a moment.
    pub(super) fn first_in(
        &self,
        at: usize,
        time: Time,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Option<(&[u8], &[u8])> {
        let mut entries = self.entries(at, bounds)?;
        entries.find_map(|(key, versions)| Some((&key[..], seen(versions, time)?)))
    }

    /// The last entry between the bounds at a moment.
    pub(super) fn last_in(
        &self,
        at: usize,
        time: Time,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Option<(&[u8], &[u8])> {
        let entries = self.entries(at, bounds)?;
        entries.rev().find_map(|(key, versions)| Some((&key[..], seen(versions, time)?)))
    }

    /// `None` for bounds that leave nothing between them.
    fn entries(
        &self,
        at: usize,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Option<impl DoubleEndedIterator<Item = (&Vec<u8>, &Vec<Version>)>> {
        use Bound::{Excluded, Included, Unbounded};
        let nothing = match bounds {
            (Excluded(low), Excluded(high)) => low >= high,
            (Included(low) | Excluded(low), Included(high) | Excluded(high)) => low > high,
            (Unbounded, _) | (_, Unbounded) => false,
        };
        (!nothing).then(|| self.maps[at].range::<[u8], _>(bounds))
    }

    /// Judges what a scan of every keyspace found after a death or a close, and takes it for the only version that there is.
    ///
    /// # Errors
    /// There is no moment after which exactly the writes of class None are lost.
    pub(super) fn settle(&mut self, found: &[Entries]) -> Result<(), Failure> {
        let last_flushed = self.last_flushed(found)?;
        for (at, key) in std::mem::take(&mut self.unlogged) {
            if let Some(versions) = self.maps[at].get_mut(&key) {
                versions.retain(|version| version.logged || version.time <= last_flushed);
            }
        }
        self.pinned.clear();
        self.flushed = self.now;
        self.first_unlogged = None;
        for map in &mut self.maps {
            map.retain(|_, versions| {
                versions.drain(..versions.len().saturating_sub(1));
                versions.last().is_some_and(|newest| newest.value.is_some())
            });
        }
        found.iter().enumerate().try_for_each(|(at, found)| self.check(at, found))
    }

    /// Up to which commit the writes of class None survived: the latest possible moment.
    fn last_flushed(&self, found: &[Entries]) -> Result<Time, Failure> {
        if self.unlogged.is_empty() {
            return Ok(self.now);
        }
        // How many keys allow each moment, as differences.
        let mut allowed = vec![0i64; (self.now - self.flushed) as usize + 2];
        let place = |time: Time| time.saturating_sub(self.flushed) as usize;
        for (at, key) in &self.unlogged {
            let versions = self.maps[*at].get(key).map_or(&[][..], Vec::as_slice);
            let value = found[*at].get(key);
            let (sure, maybe) = versions.split_at(sure_count(versions, self.flushed));
            let mut from = self.flushed;
            let mut state = sure.last().and_then(|version| version.value.as_ref());
            for version in maybe {
                if state == value {
                    allowed[place(from)] += 1;
                    allowed[place(version.time)] -= 1;
                }
                (from, state) = (version.time, version.value.as_ref());
            }
            if state == value {
                allowed[place(from)] += 1;
            }
        }
        let (mut sum, mut latest, mut most) = (0, None, 0);
        for (index, change) in allowed[..allowed.len() - 1].iter().enumerate() {
            sum += change;
            most = most.max(sum);
            if sum == self.unlogged.len() as i64 {
                latest = Some(self.flushed + index as u64);
            }
        }
        latest.ok_or_else(|| {
            let keys = self.unlogged.len();
            format!("{keys} keys had writes of class None; no moment of the flush fits more than {most} of them")
        })
    }

    /// Compares a scan of a keyspace with what it holds now.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn check(&self, at: usize, found: &Entries) -> Result<(), Failure> {
        let newest = self.maps[at]
            .iter()
            .filter_map(|(key, versions)| Some((key, versions.last()?.value.as_ref()?)));
        compare(newest, found).map_err(|failure| format!("keyspace {at}: {failure}"))
    }
}

/// What a reader at `time` sees of a key.
fn seen(versions: &[Version], time: Time) -> Option<&[u8]> {
    let version = versions.iter().rev().find(|version| version.time <= time)?;
    version.value.as_deref()
}

/// Versions up to the newest one that a death of the process cannot take.
fn sure_count(versions: &[Version], flushed: Time) -> usize {
    let sure = versions.iter().rposition(|version| version.logged || version.time <= flushed);
    sure.map_or(0, |index| index + 1)
}

/// Forgets versions that nobody can see any more.
fn prune(versions: &mut Vec<Version>, flushed: Time, pinned: &BTreeMap<Time, usize>) {
    let sure = sure_count(versions, flushed).saturating_sub(1);
    let mut kept = 0;
    for index in 0..versions.len() {
        let is_seen = index >= sure || {
            let span = versions[index].time..versions[index + 1].time;
            pinned.range(span).next().is_some()
        };
        if is_seen {
            versions.swap(kept, index);
            kept += 1;
        }
    }
    versions.truncate(kept);
}

/// Compares what should be there with what is.
fn compare<'a>(
    expected: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    found: &Entries,
) -> Result<(), Failure> {
    let mut found = found.iter();
    for (key, value) in expected {
        match found.next() {
            Some((other, _)) if other < key => {
                return Err(format!("{} was invented", show(other)));
            }
            Some((other, there)) if other == key && there == value => {}
            Some((other, there)) if other == key => {
                return Err(format!(
                    "{} has the value {}, {} was written",
                    show(key),
                    show(there),
                    show(value)
                ));
            }
            _ => return Err(format!("{} is lost", show(key))),
        }
    }
    match found.next() {
        Some((key, _)) => Err(format!("{} was invented", show(key))),
        None => Ok(()),
    }
}

/// Bytes for a person, shortened.
pub(super) fn show(bytes: &[u8]) -> String {
    let rest =
        if bytes.len() > 40 { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    format!("{}{rest}", bytes[..bytes.len().min(40)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        Change::put(0, key, value)
    }

    fn found(entries: &[(&str, &str)]) -> [Entries; 1] {
        [entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), (*value).into())).collect()]
    }

    /// The commits drawn at the head of the file.
    fn drawn() -> Oracle {
        let mut oracle = Oracle::default();
        oracle.add_keyspace();
        oracle.write([put("a", "1")], true);
        oracle.write([put("b", "2")], false);
        oracle.write([Change::delete(0, "a")], false);
        oracle.write([put("c", "4")], true);
        oracle.write([put("b", "5")], false);
        oracle
    }

    #[test]
    fn a_death_loses_the_writes_of_class_none_after_one_moment_and_nothing_else() {
        for good in [
            &[("a", "1"), ("c", "4")][..],
            &[("a", "1"), ("b", "2"), ("c", "4")],
            &[("b", "2"), ("c", "4")],
            &[("b", "5"), ("c", "4")],
        ] {
            drawn().settle(&found(good)).unwrap();
        }
        for bad in [
            &[("b", "5")][..],
            &[("c", "4")],
            &[("a", "1"), ("b", "5"), ("c", "4")],
            &[("a", "1"), ("c", "4"), ("d", "6")],
            &[("a", "1"), ("c", "5")],
        ] {
            drawn().settle(&found(bad)).unwrap_err();
        }
        let mut flushed = drawn();
        flushed.flush();
        flushed.settle(&found(&[("a", "1"), ("c", "4")])).unwrap_err();
    }

    #[test]
    fn a_range_delete_of_class_none_is_lost_with_the_others() {
        let ranged = || {
            let mut oracle = drawn();
            oracle.write([Change::delete_range(0, "b", "")], false);
            oracle
        };
        assert_eq!(ranged().value_at(0, b"c", 6), None);
        ranged().settle(&found(&[])).unwrap();
        ranged().settle(&found(&[("b", "5"), ("c", "4")])).unwrap();
        ranged().settle(&found(&[("b", "5")])).unwrap_err();
    }

    #[test]
    fn a_pinned_moment_is_seen_until_it_is_unpinned() {
        let mut oracle = Oracle::default();
        oracle.add_keyspace();
        oracle.write([put("a", "1")], true);
        oracle.pin(1);
        for value in ["2", "3", "4"] {
            oracle.write([put("a", value)], true);
        }
        oracle.write([Change::delete(0, "a")], true);
        let all = (Bound::Unbounded, Bound::Unbounded);
        assert_eq!(oracle.value_at(0, b"a", 1), Some(&b"1"[..]));
        assert_eq!(oracle.first_in(0, 1, all), Some((&b"a"[..], &b"1"[..])));
        assert_eq!(oracle.last_in(0, oracle.now(), all), None);
        oracle.unpin(1);
        oracle.write([Change::delete(0, "a")], true);
        assert!(oracle.maps[0].is_empty());
    }
}

//! Range deletes, fragmented: for every key the sequence numbers of the range deletes that cover it.
//!
//! The ranges are cut at each other's ends into *steps*, so that a look-up is one search in a sorted map, however the ranges overlap:
//!
//! ```text
//!   delete a..m @5, delete f..z @9          a        f        m        z
//!                                           | 5      | 9 5    | 9      | -
//! ```
//!
//! A step holds for all keys from its own up to the next one. It says how far an answer holds, so that a scan asks once per step and not
//! once per key. Fragmentation is what RocksDB does for its tables; here one map holds the range deletes of a whole keyspace.
//!
//! Promises:
//! 1. [`at`](RangeDeletes::at) gives exactly the sequence numbers of the ranges added that hold the key, newest first.
//! 2. [`tidy`](RangeDeletes::tidy) changes nothing for a reader at a snapshot of its list, or at a later moment than all of the ranges,
//!    but for what its caller gives up.
//!
//! Cost: O(log n) for a look-up; adding a range visits every step inside it.

use crate::base::key::SequenceNumber;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Memory of a step beside its key and its sequence numbers.
const STEP_BYTES: usize = 64;

const NUMBER_BYTES: isize = size_of::<SequenceNumber>() as isize;

/// The steps of a range.
fn inside<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    let until = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
    (Bound::Included(start), until)
}

/// Some range deletes of one keyspace.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RangeDeletes {
    /// By first key: the numbers that hold up to the next step, newest first.
    steps: BTreeMap<Vec<u8>, Vec<SequenceNumber>>,
    bytes: usize,
}

/// What holds for a key, and how far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step<'a> {
    /// First key for which it holds; `None`: there is no smaller one.
    pub from: Option<&'a [u8]>,
    /// First key for which it holds no more; `None`: there is no larger one.
    pub to: Option<&'a [u8]>,
    /// The numbers of the range deletes, newest first.
    pub sequences: &'a [SequenceNumber],
}

impl Step<'_> {
    /// The newest range delete that a reader at `snapshot` sees; 0 if there is none.
    #[inline]
    pub fn newest(&self, snapshot: SequenceNumber) -> SequenceNumber {
        self.sequences.iter().copied().find(|&sequence| sequence <= snapshot).unwrap_or(0)
    }
}

/// One range delete, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RangeDelete {
    /// First key.
    pub start: Vec<u8>,
    /// First key that is not deleted; empty: all keys from `start` on are.
    pub end: Vec<u8>,
    /// Position in the order of all commits.
    pub sequence: SequenceNumber,
}

impl RangeDeletes {
    /// True without any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Number of steps: twice the number of ranges at most.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a range: keys from `start` to before `end`, without end if that is empty.
    pub fn add(&mut self, start: &[u8], end: &[u8], sequence: SequenceNumber) {
        self.add_superseding(start, end, sequence, SequenceNumber::MAX);
    }

    /// The same where no reader stands between two numbers from `from` on: of those, every step keeps only the newest. So ranges inside
    /// one another do not make lists that grow with each of them.
    pub fn add_superseding(
        &mut self,
        start: &[u8],
        end: &[u8],
        sequence: SequenceNumber,
        from: SequenceNumber,
    ) {
        if !end.is_empty() {
            if start >= end {
                return;
            }
            self.cut(end);
        }
        self.cut(start);
        let mut grown = 0;
        for (_, sequences) in self.steps.range_mut::<[u8], _>(inside(start, end)) {
            let before = sequences.len();
            let at = sequences.partition_point(|&newer| newer > sequence);
            let is_superseded = at > 0 && sequence >= from;
            if sequences.get(at) != Some(&sequence) && !is_superseded {
                let last = at + sequences[at..].partition_point(|&older| older >= from);
                sequences.splice(at..last, [sequence]);
            }
            grown += (sequences.len() as isize - before as isize) * NUMBER_BYTES;
        }
        self.bytes = self.bytes.saturating_add_signed(grown);
        if from < sequence {
            self.join(start, end);
        }
    }

    /// Forgets the numbers up to `sequence` of the keys from `start` to before `end`, without end if that is empty.
    pub fn forget(&mut self, start: &[u8], end: &[u8], sequence: SequenceNumber) {
        if self.steps.is_empty() || (!end.is_empty() && start >= end) {
            return;
        }
        if !end.is_empty() {
            self.cut(end);
        }
        self.cut(start);
        let mut gone = 0;
        for (_, sequences) in self.steps.range_mut::<[u8], _>(inside(start, end)) {
            let kept = sequences.partition_point(|&newer| newer > sequence);
            gone += (sequences.len() - kept) * size_of::<SequenceNumber>();
            sequences.truncate(kept);
        }
        self.bytes = self.bytes.saturating_sub(gone);
        self.join(start, end);
    }

    /// Joins the steps from `start` to `end`, both included, with those before them that are equal.
    fn join(&mut self, start: &[u8], end: &[u8]) {
        let upto = if end.is_empty() { Bound::Unbounded } else { Bound::Included(end) };
        let before = (Bound::Unbounded, Bound::Excluded(start));
        let mut before =
            self.steps.range::<[u8], _>(before).next_back().map_or(&[][..], |s| &s.1[..]);
        let mut equal = Vec::new();
        for (from, sequences) in self.steps.range::<[u8], _>((Bound::Included(start), upto)) {
            if sequences == before {
                equal.push(from.clone());
            }
            before = sequences;
        }
        for from in equal {
            if let Some(sequences) = self.steps.remove(&from) {
                let bytes = STEP_BYTES + from.len() + size_of_val(&sequences[..]);
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
    }

    /// Makes a step begin at `key`.
    fn cut(&mut self, key: &[u8]) {
        if self.steps.contains_key(key) {
            return;
        }
        let sequences = self.at(key).sequences.to_vec();
        self.bytes += STEP_BYTES + key.len() + size_of_val(&sequences[..]);
        self.steps.insert(key.to_vec(), sequences);
    }

    /// What holds for `key`.
    #[inline]
    pub fn at(&self, key: &[u8]) -> Step<'_> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let step = self.steps.range::<[u8], _>(upto).next_back();
        let next = self.steps.range::<[u8], _>(after).next();
        Step {
            from: step.map(|(from, _)| &from[..]),
            to: next.map(|(to, _)| &to[..]),
            sequences: step.map_or(&[], |(_, sequences)| sequences),
        }
    }

    /// The steps that meet the keys from `smallest` to `largest`, both inclusive.
    fn meeting(&self, smallest: &[u8], largest: &[u8]) -> impl Iterator<Item = Step<'_>> {
        let mut step = Some(self.at(smallest));
        let largest = largest.to_vec();
        std::iter::from_fn(move || {
            let this = step?;
            step = this.to.filter(|&to| to <= &largest[..]).map(|to| self.at(to));
            Some(this)
        })
    }

    /// The steps in which something is deleted.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_>> {
        let ends = self.steps.keys().skip(1).map(|key| Some(&key[..])).chain([None]);
        let steps = self.steps.iter().zip(ends);
        steps
            .filter(|((_, sequences), _)| !sequences.is_empty())
            .map(|((from, sequences), to)| Step { from: Some(from), to, sequences })
    }

    /// The same as single ranges, one for every step and sequence number.
    pub fn ranges(&self) -> impl Iterator<Item = RangeDelete> {
        self.steps().flat_map(|step| {
            step.sequences.iter().map(move |&sequence| RangeDelete {
                start: step.from.unwrap_or_default().to_vec(),
                end: step.to.unwrap_or_default().to_vec(),
                sequence,
            })
        })
    }

    /// The newest range delete that a reader at `snapshot` sees anywhere; 0 if there is none.
    pub fn newest(&self, snapshot: SequenceNumber) -> SequenceNumber {
        self.steps().map(|step| step.newest(snapshot)).max().unwrap_or(0)
    }

    /// True if some key from `smallest` to `largest` (inclusive) is covered by a range delete newer than `than`.
    pub fn any_newer(&self, smallest: &[u8], largest: &[u8], than: SequenceNumber) -> bool {
        self.meeting(smallest, largest)
            .any(|step| step.sequences.first().is_some_and(|&newest| newest > than))
    }

    /// The first key from `lower` to before `upper` that a range delete newer than `than` covers.
    pub fn first_newer(
        &self,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        than: SequenceNumber,
    ) -> Option<Vec<u8>> {
        let lower = lower.unwrap_or_default();
        let mut step = self.at(lower);
        loop {
            let from = step.from.map_or(lower, |from| from.max(lower));
            if upper.is_some_and(|upper| from >= upper) {
                return None;
            }
            if step.sequences.first().is_some_and(|&newest| newest > than) {
                return Some(from.to_vec());
            }
            step = self.at(step.to?);
        }
    }

    /// Steps that meet the keys from `smallest` to `largest` (inclusive) and hold a range delete newer than `than` and not newer than
    /// `upto`.
    pub fn count_between(
        &self,
        smallest: &[u8],
        largest: &[u8],
        than: SequenceNumber,
        upto: SequenceNumber,
    ) -> usize {
        self.meeting(smallest, largest).filter(|step| step.newest(upto) > than).count()
    }

    /// The oldest reader for whom every key from `smallest` to `largest` (inclusive) is covered by a range delete newer than `than`;
    /// `None` if that is nobody.
    pub fn all_newer(
        &self,
        smallest: &[u8],
        largest: &[u8],
        than: SequenceNumber,
    ) -> Option<SequenceNumber> {
        let mut needed = 0;
        for step in self.meeting(smallest, largest) {
            // The oldest one that is newer than `than`: every reader from then on.
            needed = needed.max(step.sequences.iter().copied().rfind(|&s| s > than)?);
        }
        Some(needed)
    }

    /// Forgets what no reader needs: the older of two numbers of a step between which no snapshot lies, and those that `is_needed` gives
    /// up. Joins neighbours that have become equal. `snapshots` ascend.
    pub fn tidy(
        &mut self,
        snapshots: &[SequenceNumber],
        mut is_needed: impl FnMut(Step<'_>, SequenceNumber) -> bool,
    ) {
        let stripe = |sequence| snapshots.partition_point(|&snapshot| snapshot < sequence);
        let old = std::mem::take(self);
        let mut before: Vec<SequenceNumber> = Vec::new();
        let ends = old.steps.keys().skip(1).map(|key| Some(&key[..])).chain([None]);
        for ((from, sequences), to) in old.steps.iter().zip(ends) {
            let step = Step { from: Some(from), to, sequences };
            let mut kept: Vec<SequenceNumber> = Vec::with_capacity(sequences.len());
            for &sequence in sequences {
                let hidden = kept.last().is_some_and(|&newer| stripe(newer) == stripe(sequence));
                if !hidden && is_needed(step, sequence) {
                    kept.push(sequence);
                }
            }
            if kept != before {
                self.bytes += STEP_BYTES + from.len() + size_of_val(&kept[..]);
                before.clone_from(&kept);
                self.steps.insert(from.clone(), kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    fn key(random: &mut Random) -> Vec<u8> {
        (0..1 + random.below(3)).map(|_| b'a' + random.below(4) as u8).collect()
    }

    /// Ranges as they were added.
    fn model(added: &[RangeDelete], key: &[u8]) -> Vec<SequenceNumber> {
        let holds = |range: &&RangeDelete| {
            &range.start[..] <= key && (range.end.is_empty() || key < &range.end[..])
        };
        let mut found: Vec<_> = added.iter().filter(holds).map(|range| range.sequence).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }

    fn sample(random: &mut Random) -> (RangeDeletes, Vec<RangeDelete>) {
        let (mut set, mut added) = (RangeDeletes::default(), Vec::new());
        for sequence in 1..=random.below(30) {
            let (start, end) = (key(random), key(random));
            let end = if random.one_in(8) { Vec::new() } else { end };
            set.add(&start, &end, sequence);
            if end.is_empty() || start < end {
                added.push(RangeDelete { start, end, sequence });
            }
        }
        (set, added)
    }

    #[test]
    fn a_look_up_gives_what_was_added() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let (set, added) = sample(&mut random);
            let mut again = RangeDeletes::default();
            set.ranges().for_each(|range| again.add(&range.start, &range.end, range.sequence));
            for _ in 0..60 {
                let key = key(&mut random);
                let step = set.at(&key);
                assert_eq!(step.sequences, model(&added, &key), "seed {seed}");
                assert_eq!(again.at(&key).sequences, step.sequences);
                assert!(step.from.is_none_or(|from| from <= &key[..]));
                assert!(step.to.is_none_or(|to| to > &key[..]));
                // The answer holds in the whole step.
                let other = super::tests::key(&mut random);
                let inside = step.from.is_none_or(|from| from <= &other[..])
                    && step.to.is_none_or(|to| to > &other[..]);
                assert!(!inside || model(&added, &other) == step.sequences);
            }
        }
    }

    #[test]
    fn tidying_changes_no_answer_of_a_snapshot() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let (set, _) = sample(&mut random);
            let mut snapshots: Vec<_> = (0..random.below(4)).map(|_| random.below(31)).collect();
            snapshots.sort_unstable();
            snapshots.dedup();
            let mut tidy = set.clone();
            let given_up = random.below(10);
            tidy.tidy(&snapshots, |_, sequence| sequence > given_up);
            assert!(tidy.len() <= set.len() && tidy.bytes() <= set.bytes());
            for _ in 0..60 {
                let key = key(&mut random);
                for &snapshot in snapshots.iter().chain([&SequenceNumber::MAX]) {
                    let before = set.at(&key).newest(snapshot);
                    let expected = if before > given_up { before } else { 0 };
                    assert_eq!(tidy.at(&key).newest(snapshot), expected, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn superseding_and_forgetting_keep_the_other_answers() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let (mut set, mut added) = sample(&mut random);
            let from = random.below(31);
            for sequence in 31..31 + random.below(20) {
                let (start, end) = (key(&mut random), key(&mut random));
                let end = if random.one_in(8) { Vec::new() } else { end };
                // Also one that is older than what is there, as expiry brings them.
                let sequence = if random.one_in(5) { sequence - 10 } else { sequence };
                set.add_superseding(&start, &end, sequence, from);
                if end.is_empty() || start < end {
                    added.push(RangeDelete { start, end, sequence });
                }
            }
            for _ in 0..40 {
                let key = key(&mut random);
                let all = model(&added, &key);
                let (newest, found) = (set.at(&key).sequences, set.at(&key).newest(u64::MAX));
                assert_eq!(found, all.first().copied().unwrap_or(0), "seed {seed}");
                let below: Vec<_> = newest.iter().filter(|&&s| s < from.min(21)).collect();
                let expected: Vec<_> = all.iter().filter(|&&s| s < from.min(21)).collect();
                assert!(newest.is_sorted_by(|a, b| a > b) && below == expected, "seed {seed}");
            }
            let (start, end, upto) = (key(&mut random), key(&mut random), random.below(45));
            let before = set.clone();
            set.forget(&start, &end, upto);
            for _ in 0..40 {
                let key = key(&mut random);
                let mut expected = before.at(&key).sequences.to_vec();
                if start <= key && key < end {
                    expected.retain(|&sequence| sequence > upto);
                }
                assert_eq!(set.at(&key).sequences, expected, "seed {seed}");
            }
            // The sum of what is there.
            let bytes = |(from, sequences): (&Vec<u8>, &Vec<u64>)| {
                STEP_BYTES + from.len() + size_of_val(&sequences[..])
            };
            assert_eq!(set.bytes(), set.steps.iter().map(bytes).sum::<usize>(), "seed {seed}");
        }
    }

    #[test]
    fn a_growing_range_stays_one_step() {
        let mut set = RangeDeletes::default();
        for day in 1..=1000u64 {
            set.add(b"\0", &day.to_be_bytes(), day);
            set.tidy(&[], |_, _| true);
        }
        assert_eq!((set.len(), set.newest(SequenceNumber::MAX)), (2, 1000));
        let mut set = RangeDeletes::default();
        for day in 1..=1000u64 {
            set.add_superseding(b"\0", &day.to_be_bytes(), day, 0);
        }
        assert_eq!((set.len(), set.newest(SequenceNumber::MAX)), (2, 1000));
    }

    #[test]
    fn covering_is_known_for_whole_ranges() {
        let mut set = RangeDeletes::default();
        set.add(b"b", b"f", 5);
        set.add(b"d", b"k", 9);
        assert_eq!(set.all_newer(b"b", b"e", 4), Some(5));
        assert_eq!(set.all_newer(b"b", b"e", 5), None, "b..d is not covered by anything newer");
        assert_eq!(set.all_newer(b"d", b"j", 5), Some(9));
        assert_eq!(set.all_newer(b"c", b"j", 3), Some(9));
        assert_eq!(set.all_newer(b"a", b"e", 0), None);
        assert_eq!(set.all_newer(b"d", b"k", 0), None, "the end is not covered");
        assert!(set.any_newer(b"a", b"d", 8) && !set.any_newer(b"a", b"c", 8));
        assert!(set.any_newer(b"a", b"c", 4) && !set.any_newer(b"k", b"z", 0));
        assert_eq!(set.count_between(b"a", b"z", 0, 9), 3);
        assert_eq!(set.count_between(b"a", b"z", 0, 8), 2);
        assert_eq!(set.count_between(b"a", b"z", 5, 9), 2);
        assert_eq!(set.first_newer(None, None, 4), Some(b"b".to_vec()));
        assert_eq!(set.first_newer(None, Some(b"b"), 4), None);
        assert_eq!(set.first_newer(Some(b"c"), None, 5), Some(b"d".to_vec()));
        assert_eq!(set.first_newer(Some(b"e"), None, 5), Some(b"e".to_vec()));
        assert_eq!(set.first_newer(Some(b"k"), None, 0), None);
    }
}

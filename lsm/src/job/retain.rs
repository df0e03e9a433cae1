//! Which versions of a key a flush or compaction keeps.
//!
//! Live snapshots cut the sequence numbers into *stripes*: two versions in one stripe cannot be told apart by any reader
//! but by the newer one, so the older goes; so does one that a range delete of its stripe hides. A tombstone that every reader sees, with nothing of its key below, goes too.
//!
//! Promises:
//! 1. For every snapshot in the list, and for every later reader, the newest visible version of a key is the same before
//!    and after.
//! 2. Input comes key by key, newest version first.

use crate::base::key::{Kind, SEQUENCE_MAX, SequenceNumber, Tag};
use crate::base::planted::{Bug, planted};
use crate::base::range_deletes::RangeDeletes;

/// What is to happen to an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Keep it as it is.
    Keep,
    /// Keep it with sequence number 0: nobody can ask about an older one, and zero takes less space.
    KeepOld,
    /// Every reader that sees it sees a newer version of its key.
    DropHidden,
    /// A tombstone that every reader sees, with nothing of its key left to hide.
    DropTombstone,
    /// An operand: what becomes of it depends on what comes after it.
    Operand,
    /// The put or tombstone under the operands before it. It goes, unless they cannot be merged with it.
    Base,
    /// A range delete lies under the operands before it. It goes in any case.
    DropUnderOperands,
}

/// The decision for a run of entries.
#[derive(Debug)]
pub struct Retain {
    snapshots: Vec<SequenceNumber>,
    bottom: bool,
    stripe: usize,
    ranges: RangeDeletes,
    /// Those over the key at hand, newest first, and the first key for which they hold no more.
    over: Vec<SequenceNumber>,
    over_to: Option<Vec<u8>>,
    over_known: bool,
    /// The last entry was an operand, of this stripe.
    in_operands: bool,
    keeps_numbers: bool,
}

impl Retain {
    /// `snapshots` that are alive, in any order. `bottom`: nothing of the key range lies below the output.
    pub fn new(mut snapshots: Vec<SequenceNumber>, bottom: bool) -> Retain {
        snapshots.sort_unstable();
        snapshots.dedup();
        Retain {
            snapshots,
            bottom,
            stripe: 0,
            ranges: RangeDeletes::default(),
            over: Vec::new(),
            over_to: None,
            over_known: false,
            in_operands: false,
            keeps_numbers: false,
        }
    }

    /// Leaves every entry the sequence number by which it will expire.
    pub fn keeping_numbers(mut self) -> Retain {
        self.keeps_numbers = true;
        self
    }

    /// True if a value that every reader sees, with nothing below it, needs no number any more.
    fn drops_number(&self) -> bool {
        // One that is newer than a range delete over it must stay newer.
        self.bottom && self.stripe == 0 && self.over.is_empty() && !self.keeps_numbers
    }

    /// Drops what these ranges delete.
    pub fn without(mut self, ranges: RangeDeletes) -> Retain {
        self.ranges = ranges;
        self
    }

    /// Up to which sequence number no range delete is left to apply to the entries that stay. `known`: all up to there were given to
    /// [`Retain::without`], or have been applied to the input, or were forgotten because nothing needed them.
    ///
    /// This is more than the number of the newest one given: a forgotten one is done with, too. The manifest says what is forgotten; that a table
    /// says it as well is the second line of defence, for its entries may have lost the numbers by which they are newer.
    ///
    /// One that is newer than a snapshot says nothing about those before it: expiry brings some that are newer than what a memtable still holds.
    pub fn applied(&self, known: SequenceNumber) -> SequenceNumber {
        let oldest = self.snapshots.first().copied().unwrap_or(SEQUENCE_MAX);
        self.ranges.newest(oldest).max(known).min(oldest)
    }

    /// The tag of a value made of the entries at hand.
    pub fn tag_of_value(&self, tag: Tag) -> Tag {
        if self.drops_number() { Tag(u64::from(tag.kind_byte())) } else { tag }
    }

    /// The stripe of the last entry.
    #[inline]
    pub fn stripe(&self) -> usize {
        self.stripe
    }

    /// True if nothing older than the input lies below it; `covers_below` as in [`Retain::decide`].
    pub fn nothing_below(&self, covers_below: impl FnOnce() -> bool) -> bool {
        self.bottom || !covers_below()
    }

    /// True if no snapshot sees the last entry.
    #[inline]
    pub fn is_unseen(&self) -> bool {
        self.stripe == self.snapshots.len()
    }

    /// True without snapshots.
    #[inline]
    pub fn has_no_snapshots(&self) -> bool {
        self.snapshots.is_empty()
    }

    /// The range deletes over `key`. Keys come in order.
    fn look_over(&mut self, key: &[u8]) {
        if self.over_known && self.over_to.as_ref().is_none_or(|to| key < &to[..]) {
            return;
        }
        let step = self.ranges.at(key);
        self.over.clear();
        self.over.extend_from_slice(step.sequences);
        self.over_to = step.to.map(<[u8]>::to_vec);
        self.over_known = true;
    }

    /// Decides about one entry. `same_key`: its key is that of the entry before. `covers_below` says whether an older version of the
    /// key may lie below the output; it is asked for tombstones only.
    #[inline]
    pub fn decide(
        &mut self,
        key: &[u8],
        same_key: bool,
        tag: Tag,
        covers_below: impl FnOnce() -> bool,
    ) -> Verdict {
        if !self.ranges.is_empty() && !same_key {
            self.look_over(key);
        }
        let stripe = match self.snapshots.first() {
            None => 0,
            Some(_) => self.snapshots.partition_point(|&snapshot| snapshot < tag.sequence()),
        };
        let is_under = same_key && stripe == self.stripe;
        if is_under && !self.in_operands {
            return Verdict::DropHidden;
        }
        self.stripe = stripe;
        // A range delete that every reader sees who sees the entry: newer, with no snapshot between them.
        let next_snapshot = self.snapshots.get(stripe).copied().unwrap_or(SEQUENCE_MAX);
        let next_snapshot =
            if planted(Bug::RangeCrossesSnapshot) { SEQUENCE_MAX } else { next_snapshot };
        let hides = |&range: &SequenceNumber| range > tag.sequence() && range <= next_snapshot;
        let is_hidden = self.over.iter().any(hides);
        self.in_operands = tag.kind() == Kind::Merge && !is_hidden;
        match tag.kind() {
            Kind::Merge if !is_hidden => return Verdict::Operand,
            _ if is_under && is_hidden => return Verdict::DropUnderOperands,
            _ if is_under => return Verdict::Base,
            _ if is_hidden => return Verdict::DropHidden,
            _ => {}
        }
        if stripe > 0 {
            return Verdict::Keep;
        }
        match tag.kind() {
            Kind::Delete if self.bottom || !covers_below() => Verdict::DropTombstone,
            Kind::Delete if planted(Bug::TombstoneDroppedEarly) => Verdict::DropTombstone,
            Kind::Put if self.drops_number() => Verdict::KeepOld,
            Kind::Put if self.bottom && planted(Bug::NumberLostUnderRange) => Verdict::KeepOld,
            _ => Verdict::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        snapshots: &[u64],
        bottom: bool,
        below: bool,
        tags: &[(u64, Kind)],
    ) -> Vec<(u64, Verdict)> {
        let mut retain = Retain::new(snapshots.to_vec(), bottom);
        let decide = |(index, &(sequence, kind)): (usize, &(u64, Kind))| {
            (sequence, retain.decide(b"k", index > 0, Tag::new(sequence, kind), || below))
        };
        tags.iter().enumerate().map(decide).collect()
    }

    #[test]
    fn a_range_delete_hides_what_no_snapshot_sees_past_it() {
        use Verdict::{DropHidden, Keep, KeepOld};
        let decide = |snapshots: &[u64], key: &[u8], tags: &[u64]| -> Vec<Verdict> {
            let mut ranges = RangeDeletes::default();
            ranges.add(b"b", b"d", 6);
            let mut retain = Retain::new(snapshots.to_vec(), true).without(ranges);
            let tags = tags.iter().enumerate();
            tags.map(|(i, &s)| retain.decide(key, i > 0, Tag::new(s, Kind::Put), || false))
                .collect()
        };
        assert_eq!(decide(&[], b"a", &[5]), [KeepOld]);
        assert_eq!(decide(&[], b"b", &[5]), [DropHidden]);
        assert_eq!(decide(&[], b"d", &[5]), [KeepOld]);
        // Newer than the range: its number must go on saying so.
        assert_eq!(decide(&[], b"c", &[8, 5, 3]), [Keep, DropHidden, DropHidden]);
        // A snapshot before the range sees what it deletes; one after it does not.
        assert_eq!(decide(&[5], b"c", &[8, 5, 3]), [Keep, Keep, DropHidden]);
        assert_eq!(decide(&[6], b"c", &[8, 5, 3]), [Keep, DropHidden, DropHidden]);
        let mut ranges = RangeDeletes::default();
        ranges.add(b"b", b"d", 6);
        ranges.add(b"x", b"", 9);
        assert_eq!(Retain::new(vec![], false).without(ranges.clone()).applied(0), 9);
        assert_eq!(Retain::new(vec![], false).without(ranges.clone()).applied(12), 12);
        assert_eq!(Retain::new(vec![8], false).without(ranges).applied(12), 8);
    }

    #[test]
    fn without_snapshots_only_the_newest_version_stays() {
        use Verdict::{DropHidden, Keep};
        let tags = [(9, Kind::Put), (5, Kind::Delete), (1, Kind::Put)];
        assert_eq!(run(&[], false, true, &tags), [(9, Keep), (5, DropHidden), (1, DropHidden)]);
    }

    #[test]
    fn a_version_that_a_snapshot_sees_is_never_dropped() {
        use Verdict::{DropHidden, Keep, KeepOld};
        let tags = [(9, Kind::Put), (6, Kind::Put), (5, Kind::Put), (4, Kind::Put), (1, Kind::Put)];
        let expected = [(9, Keep), (6, DropHidden), (5, Keep), (4, KeepOld), (1, DropHidden)];
        assert_eq!(run(&[4, 5], true, false, &tags), expected);
    }

    #[test]
    fn a_tombstone_stays_while_something_older_lies_below_or_a_snapshot_looks_past_it() {
        use Verdict::{DropHidden, DropTombstone, Keep};
        let tags = [(7, Kind::Delete), (3, Kind::Put)];
        assert_eq!(run(&[], false, true, &tags), [(7, Keep), (3, DropHidden)]);
        assert_eq!(run(&[], false, false, &tags), [(7, DropTombstone), (3, DropHidden)]);
        assert_eq!(run(&[5], false, false, &tags), [(7, Keep), (3, Keep)]);
        assert_eq!(run(&[8], true, false, &tags), [(7, DropTombstone), (3, DropHidden)]);
    }
}

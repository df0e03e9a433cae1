//! Which versions of a key a flush or compaction keeps.
//!
//! Live snapshots cut the sequence numbers into *stripes*: two versions in one stripe cannot be told apart by any reader
//! but by the newer one, so the older goes. A tombstone that every reader sees, with nothing of its key below, goes too.
//!
//! Promises:
//! 1. For every snapshot in the list, and for every later reader, the newest visible version of a key is the same before
//!    and after.
//! 2. Input comes key by key, newest version first.

use crate::base::key::{Kind, SequenceNumber, Tag};
use crate::base::planted::{Bug, planted};

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
}

/// The decision for a run of entries.
#[derive(Debug)]
pub struct Retain {
    snapshots: Vec<SequenceNumber>,
    bottom: bool,
    stripe: usize,
}

impl Retain {
    /// `snapshots` that are alive, in any order. `bottom`: nothing of the key range lies below the output.
    pub fn new(mut snapshots: Vec<SequenceNumber>, bottom: bool) -> Retain {
        snapshots.sort_unstable();
        snapshots.dedup();
        Retain { snapshots, bottom, stripe: 0 }
    }

    /// Decides about one entry. `same_key`: it has the key of the entry before. `covers_below` says whether an older version of the
    /// key may lie below the output; it is asked for tombstones only.
    #[inline]
    pub fn decide(
        &mut self,
        same_key: bool,
        tag: Tag,
        covers_below: impl FnOnce() -> bool,
    ) -> Verdict {
        let stripe = match self.snapshots.first() {
            None => 0,
            Some(_) => self.snapshots.partition_point(|&snapshot| snapshot < tag.sequence()),
        };
        if same_key && stripe == self.stripe {
            return Verdict::DropHidden;
        }
        self.stripe = stripe;
        if stripe > 0 {
            return Verdict::Keep;
        }
        match tag.kind() {
            Kind::Delete if self.bottom || !covers_below() => Verdict::DropTombstone,
            Kind::Delete if planted(Bug::TombstoneDroppedEarly) => Verdict::DropTombstone,
            Kind::Put if self.bottom => Verdict::KeepOld,
            Kind::Delete | Kind::Put => Verdict::Keep,
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
            (sequence, retain.decide(index > 0, Tag::new(sequence, kind), || below))
        };
        tags.iter().enumerate().map(decide).collect()
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

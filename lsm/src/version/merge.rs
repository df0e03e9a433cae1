//! The merge of several sorted sources into one.
//!
//! A loser tree (Knuth, TAOCP vol. 3, 5.4.1): inner node `i` remembers the source that lost there, the winner stands on top. After a
//! move only the path of the winner is played again: log2(k) comparisons, where a heap needs twice as many.
//!
//! ```text
//!                    winner: 2
//!                       |
//!               1: loser of the final                 sources 0..k are the leaves k..2k of a complete tree;
//!              /                     \                the parent of node n is n / 2
//!        2: loser                 3: loser
//!       /        \               /        \
//!     4 = src 0  5 = src 1    6 = src 2   7 = src 3
//! ```
//!
//! Each source has the eight-byte head of its current key cached beside its number, so that most comparisons touch no key. Heads are
//! taken after a prefix (mem/prefix.rs) that the current keys share, less two bytes, so that it holds for some 65,000 keys to come; it
//! is taken anew when the merge leaves it. Backward the heads are inverted, and the same tree finds the largest.
//!
//! Measured on the 2-core test machine (AMD EPYC, family 25), random 16-byte keys, sources in memory whose own move costs 1 ns, best of
//! 5: a `next` costs 3 ns with 1 source, 6 to 10 with 2, 8 to 9 with 4, 10 to 13 with 10; 15 to 19 where ascending digits leave one
//! prefix after the other.
//!
//! Promises:
//! 1. Entries come in the order of entries (user key ascending, tag descending), those of equal key and tag by the number of the
//!    source: lower, which is newer, first. Backward, exactly the reverse.
//! 2. On a change of direction every other source is placed anew around the current entry, so that none is met twice or left out.
//! 3. One source is passed through as it is.
//! 4. After an error the cursor is not valid until the next seek.

use crate::base::cursor::{EntryCursor, Target};
use crate::base::error::Result;
use crate::base::key::{self, SequenceNumber, Tag};
use crate::base::slice::PinnedSlice;
use crate::mem::prefix::Prefix;

/// Bytes of the common prefix that are left in the heads.
const PREFIX_SLACK_BYTES: usize = 2;

/// Moves after which leaving the prefix is answered with a new one.
const MOVES_MIN: u32 = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Forward,
    Backward,
}

/// A source in the tree: its head, inverted when going backward, `u64::MAX` when exhausted; and its number.
#[derive(Clone, Copy, Debug)]
struct Player {
    head: u64,
    source: u32,
}

/// Merges sources; a cursor itself.
#[derive(Debug)]
pub struct MergeCursor<C> {
    sources: Vec<C>,
    /// `tree[0]` is the winner, the others are losers.
    tree: Vec<Player>,
    /// Winners of the subtrees while the whole tree is played; node `count + i` is source `i`.
    winners: Vec<Player>,
    prefix: Prefix,
    direction: Direction,
    /// Moves since the prefix was taken.
    moves: u32,
    valid: bool,
}

impl<C: EntryCursor> MergeCursor<C> {
    /// A merge of `sources`, newest first. Stands nowhere until the first seek.
    pub fn new(sources: Vec<C>) -> MergeCursor<C> {
        let tree = (0..sources.len() as u32).map(|source| Player { head: u64::MAX, source });
        MergeCursor {
            tree: tree.collect(),
            winners: vec![Player { head: u64::MAX, source: 0 }; 2 * sources.len()],
            sources,
            prefix: Prefix::default(),
            direction: Direction::Forward,
            moves: 0,
            valid: false,
        }
    }

    /// The sources.
    pub fn sources(&self) -> &[C] {
        &self.sources
    }

    #[inline]
    fn winner(&self) -> usize {
        self.tree[0].source as usize
    }

    #[inline]
    fn current(&self) -> &C {
        assert!(self.valid, "the cursor stands on no entry");
        &self.sources[self.winner()]
    }

    /// Moves all sources together and plays the whole tree.
    fn place_all(&mut self, direction: Direction, target: Target<'_>) -> Result<()> {
        self.valid = false;
        C::go_all(&mut self.sources, target)?;
        self.direction = direction;
        self.play_all();
        Ok(())
    }

    /// Takes the prefix of the current keys and plays the whole tree.
    fn play_all(&mut self) {
        let count = self.sources.len();
        self.moves = 0;
        if count <= 1 {
            self.valid = self.sources.first().is_some_and(C::valid);
            return;
        }
        self.take_prefix();
        for source in 0..count {
            self.winners[count + source] = self.player(source);
        }
        for node in (1..count).rev() {
            let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
            let (winner, loser) =
                if self.is_before(left, right) { (left, right) } else { (right, left) };
            self.winners[node] = winner;
            self.tree[node] = loser;
        }
        self.tree[0] = self.winners[1];
        self.valid = self.sources[self.winner()].valid();
    }

    fn take_prefix(&mut self) {
        let mut keys = self.sources.iter().filter(|source| source.valid()).map(C::key);
        let Some(first) = keys.next() else { return };
        let shared = keys.map(|key| key::common_prefix(first, key)).min().unwrap_or(0);
        let bytes = &first[..shared.saturating_sub(PREFIX_SLACK_BYTES)];
        if bytes != self.prefix.bytes() {
            self.prefix = Prefix::new(bytes);
        }
    }

    #[inline]
    fn player(&self, source: usize) -> Player {
        let cursor = &self.sources[source];
        let head = if cursor.valid() {
            let head = self.prefix.head(cursor.key());
            if self.direction == Direction::Forward { head } else { !head }
        } else {
            u64::MAX
        };
        Player { head, source: source as u32 }
    }

    /// True if `left` comes before `right` in the direction of the merge.
    #[inline]
    fn is_before(&self, left: Player, right: Player) -> bool {
        if left.head != right.head {
            return left.head < right.head;
        }
        self.is_before_in_full(left, right)
    }

    #[inline(never)]
    fn is_before_in_full(&self, left: Player, right: Player) -> bool {
        let (a, b) = (&self.sources[left.source as usize], &self.sources[right.source as usize]);
        if !a.valid() || !b.valid() {
            return a.valid();
        }
        let order = (a.key().cmp(b.key()))
            .then_with(|| b.tag().cmp(&a.tag()))
            .then(left.source.cmp(&right.source));
        if self.direction == Direction::Forward { order.is_lt() } else { order.is_gt() }
    }

    /// Plays the path of the winner, which has moved.
    #[inline]
    fn replay(&mut self) {
        let count = self.sources.len();
        let mut winner = self.player(self.winner());
        self.moves = self.moves.saturating_add(1);
        if winner.head == u64::MAX && self.moves >= MOVES_MIN && self.has_left_prefix() {
            return self.play_all();
        }
        let mut node = (winner.source as usize + count) / 2;
        while node > 0 {
            let other = self.tree[node];
            let overtaken = self.is_before(other, winner);
            self.tree[node] = if overtaken { winner } else { other };
            winner = if overtaken { other } else { winner };
            node /= 2;
        }
        self.tree[0] = winner;
        self.valid = winner.head != u64::MAX || self.sources[winner.source as usize].valid();
    }

    /// True if the source that has just moved stands on a key outside the prefix.
    #[cold]
    fn has_left_prefix(&self) -> bool {
        let source = &self.sources[self.winner()];
        source.valid() && !self.prefix.fits(source.key())
    }

    /// Moves the winner, by `step`, in the direction of the merge.
    #[inline]
    fn advance(&mut self, step: impl FnOnce(&mut C) -> Result<()>) -> Result<()> {
        assert!(self.valid, "the cursor stands on no entry");
        self.valid = false;
        let winner = self.winner();
        step(&mut self.sources[winner])?;
        if self.sources.len() == 1 {
            self.valid = self.sources[0].valid();
        } else {
            self.replay();
        }
        Ok(())
    }

    /// Turns around and moves: places all other sources around the current entry (promise 2), moves the winner, and plays the tree.
    #[cold]
    fn turn_and_advance(&mut self, direction: Direction) -> Result<()> {
        assert!(self.valid, "the cursor stands on no entry");
        self.valid = false;
        self.direction = direction;
        let winner = self.winner();
        let (key, tag) = (self.sources[winner].key().to_vec(), self.sources[winner].tag());
        for (number, source) in self.sources.iter_mut().enumerate() {
            if number == winner {
                match direction {
                    Direction::Forward => source.next()?,
                    Direction::Backward => source.prev()?,
                }
                continue;
            }
            source.seek(&key, tag)?;
            // An equal entry of a newer source comes before the current one.
            let is_before =
                number < winner && source.valid() && source.tag() == tag && source.key() == key;
            match direction {
                Direction::Forward if is_before => source.next()?,
                Direction::Backward if is_before => {}
                Direction::Forward => {}
                Direction::Backward if source.valid() => source.prev()?,
                Direction::Backward => source.seek_to_last()?,
            }
        }
        self.play_all();
        Ok(())
    }
}

impl<C: EntryCursor> EntryCursor for MergeCursor<C> {
    #[inline]
    fn valid(&self) -> bool {
        self.valid
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.current().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.current().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.current().value()
    }

    fn pin_value(&self) -> PinnedSlice {
        self.current().pin_value()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.place_all(Direction::Forward, Target::First)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.place_all(Direction::Backward, Target::Last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.place_all(Direction::Forward, Target::At(key, tag))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.place_all(Direction::Backward, Target::Before(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if self.direction != Direction::Forward {
            return self.turn_and_advance(Direction::Forward);
        }
        self.advance(C::next)
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if self.direction != Direction::Backward {
            return self.turn_and_advance(Direction::Backward);
        }
        self.advance(C::prev)
    }

    fn next_past(&mut self, key: Option<&[u8]>, below: SequenceNumber) -> Result<()> {
        if self.direction != Direction::Forward {
            return self.turn_and_advance(Direction::Forward);
        }
        self.advance(|source| source.next_past(key, below))
    }

    fn prev_past(&mut self, key: &[u8], below: SequenceNumber) -> Result<()> {
        if self.direction != Direction::Backward {
            return self.turn_and_advance(Direction::Backward);
        }
        self.advance(|source| source.prev_past(key, below))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::base::key::Kind;
    use crate::base::random::Random;
    use std::cmp::Reverse;

    pub(in crate::version) type Entries = Vec<(Vec<u8>, Reverse<Tag>, Vec<u8>)>;

    /// A cursor over a sorted vector that counts its steps and fails when told to.
    #[derive(Clone, Debug, Default)]
    pub(in crate::version) struct VecCursor {
        entries: Entries,
        at: Option<usize>,
        pub(in crate::version) steps: usize,
        fail_at: Option<usize>,
    }

    impl VecCursor {
        pub(in crate::version) fn new(mut entries: Entries) -> VecCursor {
            entries.sort();
            VecCursor { entries, ..VecCursor::default() }
        }

        fn go(&mut self, at: Option<usize>) -> Result<()> {
            self.steps += 1;
            self.at = at.filter(|&at| at < self.entries.len());
            if self.fail_at == Some(self.steps) {
                self.at = None;
                return Err(Error::Closed);
            }
            Ok(())
        }

        fn newest(&self) -> SequenceNumber {
            self.entries.iter().map(|entry| entry.1.0.sequence()).max().unwrap_or(0)
        }

        fn entry(&self) -> &(Vec<u8>, Reverse<Tag>, Vec<u8>) {
            &self.entries[self.at.unwrap()]
        }
    }

    impl EntryCursor for VecCursor {
        fn valid(&self) -> bool {
            self.at.is_some()
        }
        fn key(&self) -> &[u8] {
            &self.entry().0
        }
        fn tag(&self) -> Tag {
            self.entry().1.0
        }
        fn value(&self) -> &[u8] {
            &self.entry().2
        }
        fn pin_value(&self) -> PinnedSlice {
            PinnedSlice::from(self.value().to_vec())
        }
        fn seek_to_first(&mut self) -> Result<()> {
            self.go(Some(0))
        }
        fn seek_to_last(&mut self) -> Result<()> {
            self.go(self.entries.len().checked_sub(1))
        }
        fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
            let at =
                self.entries.partition_point(|entry| (&entry.0[..], entry.1) < (key, Reverse(tag)));
            self.go(Some(at))
        }
        fn seek_before(&mut self, key: &[u8]) -> Result<()> {
            let at = self.entries.partition_point(|entry| &entry.0[..] < key);
            self.go(at.checked_sub(1))
        }
        fn next(&mut self) -> Result<()> {
            self.go(Some(self.at.unwrap() + 1))
        }
        fn prev(&mut self) -> Result<()> {
            self.go(self.at.unwrap().checked_sub(1))
        }
        fn next_past(&mut self, key: Option<&[u8]>, below: SequenceNumber) -> Result<()> {
            if self.newest() < below { self.leave_for(key) } else { self.next() }
        }
        fn prev_past(&mut self, key: &[u8], below: SequenceNumber) -> Result<()> {
            if self.newest() < below { self.seek_before(key) } else { self.prev() }
        }
    }

    pub(in crate::version) fn random_key(random: &mut Random) -> Vec<u8> {
        match random.below(4) {
            0 => random.below(300).to_string().into_bytes(),
            1 => format!("user{:010}", random.below(500)).into_bytes(),
            2 => format!("a-rather-long-common-prefix/{:04}", random.below(300)).into_bytes(),
            _ => (0..random.below(4)).map(|_| [0, b'u', 0xff][random.below(3) as usize]).collect(),
        }
    }

    /// `count` entries dealt to `sources` sources, values naming the source; with `ties`, some stand in several sources.
    fn deal(random: &mut Random, sources: usize, count: u64, ties: bool) -> Vec<Entries> {
        let mut dealt = vec![Entries::new(); sources];
        for sequence in 0..count {
            let (key, tag) = (random_key(random), Tag::new(sequence, Kind::Put));
            let mut source = random.below(sources as u64) as usize;
            loop {
                dealt[source].push((key.clone(), Reverse(tag), vec![source as u8]));
                source += 1;
                if !ties || source >= sources || random.one_in(2) {
                    break;
                }
            }
        }
        dealt
    }

    type At = Option<(Vec<u8>, Reverse<Tag>, Vec<u8>)>;

    fn at(cursor: &impl EntryCursor) -> At {
        cursor
            .valid()
            .then(|| (cursor.key().to_vec(), Reverse(cursor.tag()), cursor.value().to_vec()))
    }

    #[test]
    fn the_merge_walks_as_one_sorted_run_would() {
        // Promises 1 to 3: every operation in random order, beside the sorted model.
        for seed in 0..60 {
            println!("seed {seed}");
            let mut random = Random::new(seed);
            let sources = random.below(12) as usize;
            let count = if sources == 0 { 0 } else { random.below(600) };
            let dealt = deal(&mut random, sources.max(1), count, seed % 3 == 0);
            let mut model: Entries = dealt.iter().flatten().cloned().collect();
            model.sort();
            let cursors = dealt.into_iter().take(sources).map(VecCursor::new).collect();
            let mut merge = MergeCursor::new(cursors);
            assert!(!merge.valid());
            let mut here: Option<usize> = None;
            for _ in 0..3000 {
                let key = random_key(&mut random);
                match random.below(12) {
                    0 => {
                        let tag = Tag::seek(random.below(count + 1));
                        merge.seek(&key, tag).unwrap();
                        let at = model.partition_point(|e| (&e.0, e.1) < (&key, Reverse(tag)));
                        here = Some(at).filter(|&at| at < model.len());
                    }
                    1 => {
                        merge.seek_before(&key).unwrap();
                        here = model.partition_point(|e| e.0 < key).checked_sub(1);
                    }
                    2 if random.one_in(5) => {
                        merge.seek_to_first().unwrap();
                        here = Some(0).filter(|_| !model.is_empty());
                    }
                    3 if random.one_in(5) => {
                        merge.seek_to_last().unwrap();
                        here = model.len().checked_sub(1);
                    }
                    _ => {
                        let forward = random.one_in(2);
                        for _ in 0..=random.below(8) {
                            let Some(index) = here else { break };
                            if forward {
                                merge.next().unwrap();
                                here = Some(index + 1).filter(|&at| at < model.len());
                            } else {
                                merge.prev().unwrap();
                                here = index.checked_sub(1);
                            }
                            assert_eq!(at(&merge), here.map(|at| model[at].clone()));
                        }
                    }
                }
                assert_eq!(at(&merge), here.map(|at| model[at].clone()));
            }
        }
    }

    #[test]
    fn long_walks_leave_one_prefix_after_the_other() {
        for seed in 0..4 {
            let mut random = Random::new(seed);
            let mut dealt = vec![Entries::new(); 5];
            for n in 0..5000u64 {
                let family = ["a", "family/of/keys/", "zz"][(n / 1700) as usize];
                let key = format!("{family}{n:012}").into_bytes();
                dealt[random.below(5) as usize].push((
                    key,
                    Reverse(Tag::new(n, Kind::Put)),
                    vec![],
                ));
            }
            let mut merge = MergeCursor::new(dealt.into_iter().map(VecCursor::new).collect());
            merge.seek_to_first().unwrap();
            for n in 0..5000 {
                assert_eq!(merge.tag().sequence(), n);
                merge.next().unwrap();
            }
            assert!(!merge.valid());
            merge.seek_to_last().unwrap();
            for n in (0..5000).rev() {
                assert_eq!(merge.tag().sequence(), n);
                merge.prev().unwrap();
            }
            assert!(!merge.valid());
        }
    }

    #[test]
    fn a_failed_source_never_leaves_a_valid_cursor() {
        // Promise 4. Every place where a source can fail, in turn.
        let mut failures = 0;
        for fail_at in 1..60 {
            let mut random = Random::new(7);
            let mut cursors: Vec<_> =
                deal(&mut random, 3, 60, false).into_iter().map(VecCursor::new).collect();
            cursors[1].fail_at = Some(fail_at);
            let mut merge = MergeCursor::new(cursors);
            let mut moved = merge.seek_to_first();
            for _ in 0..200 {
                if moved.is_err() {
                    break;
                }
                moved = match (merge.valid(), random.one_in(3)) {
                    (false, _) => merge.seek_to_first(),
                    (true, true) => merge.prev(),
                    (true, false) => merge.next(),
                };
            }
            if moved.is_err() {
                failures += 1;
                assert!(!merge.valid());
                merge.seek_to_last().unwrap();
                assert!(merge.valid());
            }
        }
        assert!(failures == 59, "{failures}");
    }
}

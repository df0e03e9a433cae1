//! What a reader sees of a sorted run of versions: one entry per key, as of a snapshot, within bounds.
//!
//! ```text
//!   run (key asc, tag desc):   a@9 put | a@5 put | b@7 delete | b@3 put | c@8 put | c@2 put
//!   snapshot 6 sees:                     a@5                    b@3                 c@2
//!   snapshot 7 sees:                     a@5       (b is gone)                      c@2
//! ```
//!
//! Going forward the inner cursor stands on the entry that is shown. Going backward the versions of a key are met oldest first, so
//! the newest visible one is known only when the inner cursor has left the key: the entry shown is then kept here, and the inner
//! cursor stands before it (the way of LevelDB's DBIter). A value made of operands is kept here in both directions.
//!
//! Promises:
//! 1. Shown are exactly the keys whose newest version not above the snapshot is a put and not deleted by a newer range, from `lower` (inclusive) to `upper`
//!    (exclusive).
//! 2. A walk stops at the first entry beyond a bound: tombstones out there are not scanned.
//! 3. At most [`STEPS_MAX`] versions of a key are walked over; a longer run is passed by a seek. A run of tombstones of different
//!    keys within the bounds must be walked. Of a run that a range deletes, [`STEPS_MAX`] entries are; then each source that holds nothing
//!    newer than the range goes to its end by one seek, over tables that are not even opened.
//! 4. After an error the cursor is not valid until the next seek.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::{Kind, SequenceNumber, Tag};
use crate::base::merge::{self, MergeOperator};
use crate::base::planted::{Bug, planted};
use crate::base::slice::PinnedSlice;
use crate::version::deleted::Deleted;
use std::sync::Arc;

/// Versions of one key that are walked over before a seek is cheaper.
pub const STEPS_MAX: usize = 8;

/// The smallest tag: sorts after all other versions of a key.
const TAG_MIN: Tag = Tag(0);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Not valid.
    Nowhere,
    /// The inner cursor stands on the entry shown.
    OnEntry,
    /// The entry shown is in `key` and `value`; the inner cursor stands somewhere before the key's versions, or nowhere.
    BeforeEntry,
    /// The entry shown is in `key` and `value`, made of operands; the inner cursor stands on an older version of it or behind them.
    AfterEntry,
}

/// A user's view of a run of versions.
#[derive(Debug)]
pub struct VisibleCursor<C> {
    inner: C,
    snapshot: SequenceNumber,
    lower: Option<Vec<u8>>,
    upper: Option<Vec<u8>>,
    state: State,
    /// The key shown in `BeforeEntry`; scratch otherwise.
    key: Vec<u8>,
    /// The value shown in `BeforeEntry`.
    value: PinnedSlice,
    deleted: Deleted,
    operator: Option<Arc<dyn MergeOperator>>,
    /// Entries deleted by ranges that were stepped over one by one.
    hidden: usize,
    /// Tombstones and entries deleted by ranges that the last move has passed.
    passed: usize,
}

impl<C: EntryCursor> VisibleCursor<C> {
    /// A view of `inner` as of `snapshot`, of the keys from `lower` (inclusive) to `upper` (exclusive). Stands nowhere yet.
    pub fn new(
        inner: C,
        snapshot: SequenceNumber,
        lower: Option<Vec<u8>>,
        upper: Option<Vec<u8>>,
    ) -> VisibleCursor<C> {
        VisibleCursor {
            inner,
            snapshot,
            lower,
            upper,
            state: State::Nowhere,
            key: Vec::new(),
            value: PinnedSlice::empty(),
            deleted: Deleted::none(),
            operator: None,
            hidden: 0,
            passed: 0,
        }
    }

    /// Without what these ranges delete.
    pub fn without(mut self, deleted: Deleted) -> VisibleCursor<C> {
        self.deleted = deleted;
        self
    }

    /// With the values that `operator` makes of operands.
    pub fn merging(mut self, operator: Option<Arc<dyn MergeOperator>>) -> VisibleCursor<C> {
        self.operator = operator;
        self
    }

    /// How many tombstones, and entries that ranges have deleted, the last move went over one by one.
    #[inline]
    pub fn passed(&self) -> usize {
        self.passed
    }

    /// The cursor below.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    /// True while the cursor stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.state != State::Nowhere
    }

    /// The key. Only while valid.
    #[inline]
    pub fn key(&self) -> &[u8] {
        match self.state {
            State::BeforeEntry | State::AfterEntry => &self.key,
            _ => self.inner.key(),
        }
    }

    /// The value. Only while valid.
    #[inline]
    pub fn value(&self) -> &[u8] {
        match self.state {
            State::BeforeEntry | State::AfterEntry => &self.value,
            _ => self.inner.value(),
        }
    }

    /// The value, kept alive by itself. Only while valid.
    pub fn pin_value(&self) -> PinnedSlice {
        match self.state {
            State::BeforeEntry | State::AfterEntry => self.value.clone(),
            _ => self.inner.pin_value(),
        }
    }

    /// Moves to the first key; false if there is none.
    ///
    /// # Errors
    /// What reading the sources meets; the same for all moves.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.state = State::Nowhere;
        match &self.lower {
            Some(lower) => self.inner.seek(lower, Tag::seek(self.snapshot))?,
            None => self.inner.seek_to_first()?,
        }
        self.find_forward(false)
    }

    /// Moves to the last key; false if there is none.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.state = State::Nowhere;
        match &self.upper {
            Some(_) if planted(Bug::UpperBoundIgnored) => self.inner.seek_to_last()?,
            Some(upper) => self.inner.seek_before(upper)?,
            None => self.inner.seek_to_last()?,
        }
        self.find_backward()
    }

    /// Moves to the first key at or after `target`; false if there is none.
    pub fn seek(&mut self, target: &[u8]) -> Result<bool> {
        self.state = State::Nowhere;
        let target = match &self.lower {
            Some(lower) if &lower[..] > target => lower,
            _ => target,
        };
        self.inner.seek(target, Tag::seek(self.snapshot))?;
        self.find_forward(false)
    }

    /// Moves to the last key at or before `target`; false if there is none.
    pub fn seek_for_prev(&mut self, target: &[u8]) -> Result<bool> {
        self.state = State::Nowhere;
        match &self.upper {
            Some(upper) if &upper[..] <= target => self.inner.seek_before(upper)?,
            _ => {
                // The key right after `target`.
                self.key.clear();
                self.key.extend_from_slice(target);
                self.key.push(0);
                self.inner.seek_before(&self.key)?;
            }
        }
        self.find_backward()
    }

    /// Moves to the next key; false if this was the last one, or if the cursor stands nowhere.
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor lends its entries; it is no Iterator"
    )]
    pub fn next(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, State::Nowhere) {
            State::OnEntry => {
                self.save_key();
                self.inner.next()?;
            }
            State::BeforeEntry => {
                self.value = PinnedSlice::empty();
                self.inner.seek(&self.key, TAG_MIN)?;
            }
            State::AfterEntry => self.value = PinnedSlice::empty(),
            State::Nowhere => return Ok(false),
        }
        self.find_forward(true)
    }

    /// Moves to the key before; false if this was the first one, or if the cursor stands nowhere.
    pub fn prev(&mut self) -> Result<bool> {
        match std::mem::replace(&mut self.state, State::Nowhere) {
            State::OnEntry => {
                self.save_key();
                self.inner.seek_before(&self.key)?;
            }
            State::AfterEntry => self.inner.seek_before(&self.key)?,
            State::BeforeEntry => {}
            State::Nowhere => return Ok(false),
        }
        self.find_backward()
    }

    fn save_key(&mut self) {
        self.key.clear();
        self.key.extend_from_slice(self.inner.key());
    }

    /// Goes forward to the first visible entry from where the inner cursor stands. With `skip`, versions of the saved key are behind
    /// us already.
    fn find_forward(&mut self, mut skip: bool) -> Result<bool> {
        // Steps taken over shadowed versions of the saved key.
        let mut steps = 0;
        self.passed = 0;
        while self.inner.valid() {
            let (key, tag) = (self.inner.key(), self.inner.tag());
            if self.upper.as_ref().is_some_and(|upper| key >= &upper[..]) {
                return Ok(false);
            }
            if skip && key == &self.key[..] {
                // Shadowed by a newer version, shown or deleted.
                steps += 1;
                if steps == STEPS_MAX {
                    self.inner.seek(&self.key, TAG_MIN)?;
                } else {
                    self.inner.next()?;
                }
                continue;
            }
            if tag.sequence() > self.snapshot {
                self.skip_newer()?;
                skip = false;
                continue;
            }
            let gone = if self.deleted.is_empty() { 0 } else { self.deleted.at(self.inner.key()) };
            if tag.kind() == Kind::Put && tag.sequence() >= gone {
                self.state = State::OnEntry;
                return Ok(true);
            }
            if tag.sequence() < gone {
                self.next_hidden(gone)?;
                skip = false;
                continue;
            }
            if tag.kind() == Kind::Merge {
                self.save_key();
                self.merge_forward(gone)?;
                self.state = State::AfterEntry;
                return Ok(true);
            }
            self.save_key();
            self.passed += 1;
            (skip, steps) = (true, 0);
            self.inner.next()?;
        }
        Ok(false)
    }

    /// From the newest operand of the saved key on over those before it to what they are for; makes the value.
    #[cold]
    fn merge_forward(&mut self, gone: SequenceNumber) -> Result<()> {
        let mut operands = Vec::new();
        let mut base = None;
        while self.inner.valid() && self.inner.key() == &self.key[..] {
            let tag = self.inner.tag();
            if tag.sequence() < gone || tag.kind() == Kind::Delete {
                break;
            }
            if tag.kind() == Kind::Put {
                base = Some(self.inner.pin_value());
                break;
            }
            operands.push(self.inner.pin_value());
            self.inner.next()?;
        }
        operands.reverse();
        self.value = self.merged(base.as_ref(), &operands)?;
        Ok(())
    }

    /// The value of the saved key.
    fn merged(&self, base: Option<&PinnedSlice>, operands: &[PinnedSlice]) -> Result<PinnedSlice> {
        let operands: Vec<&[u8]> = operands.iter().map(|operand| &operand[..]).collect();
        let base = base.map(|value| &value[..]);
        merge::merged(self.operator.as_deref(), &self.key, base, &operands).map(PinnedSlice::from)
    }

    /// On from an entry that a range delete at `gone` hides.
    #[inline(never)]
    fn next_hidden(&mut self, gone: SequenceNumber) -> Result<()> {
        self.hidden += 1;
        self.passed += 1;
        if self.hidden < STEPS_MAX {
            return self.inner.next();
        }
        self.hidden = 0;
        self.inner.next_past(self.deleted.span().1, gone)
    }

    /// Back from an entry that a range delete at `gone` hides.
    fn prev_hidden(&mut self, gone: SequenceNumber) -> Result<()> {
        self.hidden += 1;
        if self.hidden < STEPS_MAX {
            return self.inner.prev();
        }
        self.hidden = 0;
        self.inner.prev_past(self.deleted.span().0, gone)
    }

    /// From a version newer than the snapshot to the first entry that is not such a version of the same key.
    fn skip_newer(&mut self) -> Result<()> {
        self.save_key();
        for _ in 1..STEPS_MAX {
            self.inner.next()?;
            let is_over = !self.inner.valid()
                || self.inner.tag().sequence() <= self.snapshot
                || self.inner.key() != &self.key[..];
            if is_over {
                return Ok(());
            }
        }
        self.inner.seek(&self.key, Tag::seek(self.snapshot))
    }

    /// Goes backward to the first visible entry from where the inner cursor stands, which is on the oldest version of a key.
    fn find_backward(&mut self) -> Result<bool> {
        self.passed = 0;
        while self.inner.valid() {
            if self.lower.as_ref().is_some_and(|lower| self.inner.key() < &lower[..]) {
                break;
            }
            self.save_key();
            if self.newest_visible()? {
                self.state = State::BeforeEntry;
                return Ok(true);
            }
            self.passed += 1;
        }
        self.value = PinnedSlice::empty();
        Ok(false)
    }

    /// Walks from the oldest version of the saved key to the entry before all of them. True if the newest visible version is a put;
    /// its value is then saved.
    fn newest_visible(&mut self) -> Result<bool> {
        let mut is_put = false;
        // Those of the last put or delete before them.
        let mut operands = Vec::new();
        let gone = self.deleted.at(&self.key);
        for _ in 0..STEPS_MAX {
            let tag = self.inner.tag();
            if tag.sequence() < gone {
                self.prev_hidden(gone)?;
            } else {
                if tag.sequence() <= self.snapshot {
                    match tag.kind() {
                        Kind::Merge => operands.push(self.inner.pin_value()),
                        kind => {
                            operands.clear();
                            is_put = kind != Kind::Delete;
                            if is_put {
                                self.value = self.inner.pin_value();
                            }
                        }
                    }
                }
                self.inner.prev()?;
            }
            if !self.inner.valid() || self.inner.key() != &self.key[..] {
                if operands.is_empty() {
                    return Ok(is_put);
                }
                let base = is_put.then(|| std::mem::replace(&mut self.value, PinnedSlice::empty()));
                self.value = self.merged(base.as_ref(), &operands)?;
                return Ok(true);
            }
        }
        // A long run: the answer, if there is one, is where a read would find it.
        self.inner.seek(&self.key, Tag::seek(self.snapshot))?;
        if self.inner.valid() && self.inner.key() == &self.key[..] {
            let tag = self.inner.tag();
            is_put = tag.kind() != Kind::Delete && tag.sequence() >= gone;
            match tag.kind() {
                Kind::Merge if is_put => self.merge_forward(gone)?,
                _ if is_put => self.value = self.inner.pin_value(),
                _ => {}
            }
        }
        self.inner.seek_before(&self.key)?;
        Ok(is_put)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::merge::Append;
    use crate::base::random::Random;
    use crate::base::range_deletes::RangeDeletes;
    use crate::version::merge::MergeCursor;
    use crate::version::merge::tests::{Entries, VecCursor, random_key};
    use std::cmp::Reverse;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    type Run = VisibleCursor<VecCursor>;

    fn put(key: &str, sequence: u64) -> (Vec<u8>, Reverse<Tag>, Vec<u8>) {
        let value = sequence.to_string().into_bytes();
        (key.into(), Reverse(Tag::new(sequence, Kind::Put)), value)
    }

    fn delete(key: &str, sequence: u64) -> (Vec<u8>, Reverse<Tag>, Vec<u8>) {
        (key.into(), Reverse(Tag::new(sequence, Kind::Delete)), vec![])
    }

    fn run(entries: Entries, snapshot: u64, lower: Option<&str>, upper: Option<&str>) -> Run {
        let bound = |bound: Option<&str>| bound.map(|bound| bound.as_bytes().to_vec());
        VisibleCursor::new(VecCursor::new(entries), snapshot, bound(lower), bound(upper))
    }

    #[test]
    fn a_random_walk_shows_what_the_model_holds() {
        // Promise 1, over a merge, with long runs of versions, bounds and every snapshot.
        for seed in 0..80 {
            println!("seed {seed}");
            let mut random = Random::new(seed);
            let (count, keys) = (random.below(400) + 1, random.below(60) + 1);
            let keys: Vec<_> = (0..keys).map(|_| random_key(&mut random)).collect();
            let any_key =
                |random: &mut Random| keys[random.below(keys.len() as u64) as usize].clone();
            let mut dealt = vec![Entries::new(); 3];
            let mut versions = BTreeMap::new();
            let mut ranges = RangeDeletes::default();
            let hot = any_key(&mut random);
            for sequence in 0..count {
                let key = if random.one_in(3) { hot.clone() } else { any_key(&mut random) };
                if seed % 2 == 0 && random.one_in(20) {
                    let end = any_key(&mut random);
                    ranges.add(&key, &end, sequence);
                    for key in keys.iter().filter(|k| **k >= key && (end.is_empty() || **k < end)) {
                        versions.insert((key.clone(), sequence), (Kind::DeleteRange, vec![]));
                    }
                    continue;
                }
                let kind = match random.below(if seed % 3 == 0 { 3 } else { 6 }) {
                    0 => Kind::Delete,
                    1 | 2 => Kind::Put,
                    _ => Kind::Merge,
                };
                let value = sequence.to_le_bytes().to_vec();
                let tag = Tag::new(sequence, kind);
                dealt[random.below(3) as usize].push((key.clone(), Reverse(tag), value.clone()));
                versions.insert((key, sequence), (kind, value));
            }
            for _ in 0..12 {
                let snapshot = random.below(count + 1);
                let mut bound = || random.one_in(2).then(|| any_key(&mut random));
                let (lower, upper) = (bound(), bound());
                let mut model = BTreeMap::new();
                for ((key, sequence), (kind, value)) in &versions {
                    let is_inside = lower.as_ref().is_none_or(|lower| key >= lower)
                        && upper.as_ref().is_none_or(|upper| key < upper);
                    if *sequence <= snapshot && is_inside {
                        match kind {
                            Kind::Put => drop(model.insert(key.clone(), value.clone())),
                            Kind::Delete | Kind::DeleteRange => drop(model.remove(key)),
                            // The operator appends.
                            Kind::Merge => model.entry(key.clone()).or_default().extend(value),
                        }
                    }
                }
                let merge = MergeCursor::new(dealt.iter().cloned().map(VecCursor::new).collect());
                let deleted = Deleted::in_tables(ranges.clone(), snapshot);
                let mut cursor = VisibleCursor::new(merge, snapshot, lower, upper)
                    .without(deleted)
                    .merging(Some(Arc::new(Append)));
                for _ in 0..80 {
                    let target = if random.one_in(2) {
                        any_key(&mut random)
                    } else {
                        random_key(&mut random)
                    };
                    let here = cursor.valid().then(|| cursor.key().to_vec());
                    let (found, expected) = match (random.below(10), here) {
                        (0, _) => (cursor.seek_to_first(), model.iter().next()),
                        (1, _) => (cursor.seek_to_last(), model.iter().next_back()),
                        (2, _) => (cursor.seek(&target), model.range(target..).next()),
                        (3, _) => {
                            (cursor.seek_for_prev(&target), model.range(..=target).next_back())
                        }
                        (4..7, Some(here)) => {
                            let after = (Bound::Excluded(here), Bound::Unbounded);
                            (cursor.next(), model.range(after).next())
                        }
                        (_, Some(here)) => (cursor.prev(), model.range(..here).next_back()),
                        (_, None) => continue,
                    };
                    assert_eq!(found.unwrap(), expected.is_some());
                    assert_eq!(cursor.valid(), expected.is_some());
                    if let Some((key, value)) = expected {
                        assert_eq!((cursor.key(), cursor.value()), (&key[..], &value[..]));
                        assert_eq!(cursor.pin_value(), value);
                    }
                }
            }
        }
    }

    #[test]
    fn tombstones_beyond_a_bound_are_not_scanned() {
        // Promise 2.
        let mut entries: Entries = (0..1000).map(|n| delete(&format!("a{n:04}"), n)).collect();
        entries.extend((0..1000).map(|n| delete(&format!("z{n:04}"), n)));
        entries.push(put("m", 5));
        let mut cursor = run(entries, 2000, Some("b"), Some("n"));
        assert!(cursor.seek_to_first().unwrap());
        assert!(!cursor.next().unwrap());
        assert!(cursor.seek_to_last().unwrap());
        assert!(!cursor.prev().unwrap());
        assert!(!cursor.seek(b"n").unwrap());
        assert!(!cursor.seek_for_prev(b"a").unwrap());
        assert!(cursor.inner().steps < 12, "{} steps", cursor.inner().steps);
    }

    #[test]
    fn what_a_range_deletes_is_passed_by_a_seek_of_each_source() {
        let old: Entries = (1000..4000).map(|n| put(&format!("k{n}"), n)).collect();
        let mut mixed: Entries = (1000..4000).map(|n| put(&format!("k{n}"), n)).collect();
        mixed.extend([put("k2500", 9000), put("a", 1), put("z", 1)]);
        for (entries, shown, most) in
            [(vec![old], vec![], 40), (vec![mixed], vec!["a", "k2500", "z"], 7000)]
        {
            let sources = entries.into_iter().map(VecCursor::new).collect();
            let mut ranges = RangeDeletes::default();
            ranges.add(b"k", b"l", 8000);
            let deleted = Deleted::in_tables(ranges, 10_000);
            let mut cursor =
                VisibleCursor::new(MergeCursor::new(sources), 10_000, None, None).without(deleted);
            let mut keys = Vec::new();
            cursor.seek_to_first().unwrap();
            while cursor.valid() {
                keys.push(String::from_utf8(cursor.key().to_vec()).unwrap());
                cursor.next().unwrap();
            }
            assert_eq!(keys, shown);
            cursor.seek_to_last().unwrap();
            while cursor.valid() {
                assert_eq!(keys.pop().unwrap().as_bytes(), cursor.key());
                cursor.prev().unwrap();
            }
            assert!(keys.is_empty());
            let steps = cursor.inner().sources()[0].steps;
            assert!(steps < most, "{steps} steps");
        }
    }

    #[test]
    fn a_long_run_of_versions_is_passed_by_a_seek() {
        // Promise 3: newer than the snapshot, shadowed, and under a tombstone, in both directions.
        for snapshot in [500, 1500] {
            let mut entries: Entries = (100..1000).map(|n| put("hot", n)).collect();
            entries.extend((100..999).map(|n| put("gone", n)));
            entries.push(delete("gone", 999));
            entries.extend([put("a", 1), put("z", 1)]);
            let mut cursor = run(entries, snapshot, None, None);
            let mut keys = Vec::new();
            assert!(cursor.seek_to_first().unwrap());
            loop {
                keys.push((
                    String::from_utf8(cursor.key().to_vec()).unwrap(),
                    cursor.value().to_vec(),
                ));
                if !cursor.next().unwrap() {
                    break;
                }
            }
            assert_eq!(keys.len(), if snapshot == 500 { 4 } else { 3 });
            assert!(cursor.seek_to_last().unwrap());
            while let Some(expected) = keys.pop() {
                assert_eq!(
                    (cursor.key(), cursor.value()),
                    (expected.0.as_bytes(), &expected.1[..])
                );
                assert_eq!(cursor.prev().unwrap(), !keys.is_empty());
            }
            assert!(cursor.inner().steps < 100, "{} steps", cursor.inner().steps);
        }
    }

    #[test]
    fn a_cursor_that_stands_nowhere_stays_there() {
        let mut cursor = run(vec![put("k", 1)], 0, None, None);
        assert!(!cursor.next().unwrap() && !cursor.prev().unwrap());
        assert!(!cursor.seek_to_first().unwrap(), "the only version is newer than the snapshot");
        assert!(!cursor.seek_to_last().unwrap());
        assert!(!cursor.valid());
    }
}

//! Writes that are not committed yet, and what a reader sees who looks at the database through them.
//!
//! Of each key only what matters is kept: the last put or delete, and the operands after it. A range delete removes what was written before
//! it in the range, and hides what the database has there; neighbouring ranges become one. So a batch is made from it by all ranges first
//! and then all keys, whatever the order of the calls was.
//!
//! Promises:
//! 1. A read through it shows what the same read would show after the writes were committed to what it reads from.
//! 2. Memory is what the last writes of each key take; a key that is written a thousand times takes the place of one, but for operands.
//!
//! Left out: passing what a range delete of its own hides by a seek. It is passed entry by entry, until it is committed.

use crate::base::error::Result;
use crate::base::key::KeyspaceId;
use crate::base::merge::{MergeOperator, merged};
use crate::base::slice::PinnedSlice;
use crate::db::cursor::Range;
use crate::db::keyspace::{Keyspace, ReadOptions, bounds_of, range_to_delete};
use crate::format::batch::{BatchBuilder, OperationHeader};
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// What was written to one key.
#[derive(Clone, Debug, Default)]
struct OwnKey {
    /// The last put (`Some`) or delete; `None` if there was none, so that what the database has counts.
    base: Option<Option<Vec<u8>>>,
    /// What was merged after it, oldest first.
    operands: Vec<Vec<u8>>,
}

impl OwnKey {
    /// The value that a reader sees, over what is `stored` in the database.
    fn value(
        &self,
        key: &[u8],
        operator: Option<&Arc<dyn MergeOperator>>,
        stored: Option<PinnedSlice>,
    ) -> Result<Option<PinnedSlice>> {
        let base = match &self.base {
            Some(own) => own.clone().map(PinnedSlice::from),
            None => stored,
        };
        if self.operands.is_empty() {
            return Ok(base);
        }
        let operands: Vec<&[u8]> = self.operands.iter().map(Vec::as_slice).collect();
        let operator = operator.map(|operator| &**operator);
        merged(operator, key, base.as_deref(), &operands)
            .map(|value| Some(PinnedSlice::from(value)))
    }
}

/// The writes to one keyspace.
#[derive(Clone, Debug, Default)]
struct OwnKeyspace {
    keys: BTreeMap<Vec<u8>, OwnKey>,
    /// Deleted ranges by their first keys, apart from one another; the key after each, empty for none.
    ranges: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl OwnKeyspace {
    /// True if a range delete hides what the database has of a key.
    fn hides(&self, key: &[u8]) -> bool {
        let mut before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        before.next_back().is_some_and(|(_, end)| end.is_empty() || key < &end[..])
    }

    /// The place of a key that is written now.
    fn key(&mut self, key: &[u8]) -> &mut OwnKey {
        let base = if self.hides(key) { Some(None) } else { None };
        self.keys.entry(key.to_vec()).or_insert_with(|| OwnKey { base, operands: Vec::new() })
    }

    fn delete_range(&mut self, mut start: Vec<u8>, mut end: Vec<u8>) {
        let is_inside =
            |key: &[u8], start: &[u8], end: &[u8]| key >= start && (end.is_empty() || key < end);
        self.keys.retain(|key, _| !is_inside(key, &start, &end));
        // Those that meet it, or end where it begins, become one with it.
        let meets = |from: &[u8], to: &[u8], start: &[u8], end: &[u8]| {
            (end.is_empty() || from <= end) && (to.is_empty() || start <= to)
        };
        self.ranges.retain(|from, to| {
            let joins = meets(from, to, &start, &end);
            if joins {
                if *from < start {
                    start.clone_from(from);
                }
                if !end.is_empty() && (to.is_empty() || *to > end) {
                    end.clone_from(to);
                }
            }
            !joins
        });
        self.ranges.insert(start, end);
    }
}

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    keyspaces: BTreeMap<KeyspaceId, OwnKeyspace>,
}

impl Overlay {
    /// Writes that set a key.
    pub(crate) fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        let _checked = OperationHeader::put(keyspace.id(), key, value)?;
        self.set(keyspace, key, Some(value.to_vec()));
        Ok(())
    }

    /// Writes that remove one.
    pub(crate) fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        let _checked = OperationHeader::delete(keyspace.id(), key)?;
        self.set(keyspace, key, None);
        Ok(())
    }

    fn set(&mut self, keyspace: &Keyspace, key: &[u8], value: Option<Vec<u8>>) {
        let own = self.keyspaces.entry(keyspace.id()).or_default();
        own.keys.insert(key.to_vec(), OwnKey { base: Some(value), operands: Vec::new() });
    }

    /// Writes that add to the value of one.
    pub(crate) fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        keyspace.handle.engine.check_mergeable(keyspace.id())?;
        let _checked = OperationHeader::merge(keyspace.id(), key, operand)?;
        let own = self.keyspaces.entry(keyspace.id()).or_default();
        own.key(key).operands.push(operand.to_vec());
        Ok(())
    }

    /// Writes that remove all keys of a range.
    pub(crate) fn delete_range<'k>(
        &mut self,
        keyspace: &Keyspace,
        range: &impl RangeBounds<&'k [u8]>,
    ) -> Result<()> {
        let Some((start, end)) = range_to_delete(range)? else { return Ok(()) };
        let _checked = OperationHeader::delete_range(keyspace.id(), &start, &end)?;
        self.keyspaces.entry(keyspace.id()).or_default().delete_range(start, end);
        Ok(())
    }

    /// True if the writes say what the value of a key is, whatever the database has.
    pub(crate) fn decides(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let Some(own) = self.keyspaces.get(&keyspace) else { return false };
        own.keys.get(key).map_or_else(|| own.hides(key), |key| key.base.is_some())
    }

    /// The value of a key over what is `stored`, which counts only where the writes do not decide.
    pub(crate) fn value(
        &self,
        keyspace: &Keyspace,
        key: &[u8],
        stored: Option<PinnedSlice>,
    ) -> Result<Option<PinnedSlice>> {
        let Some(own) = self.keyspaces.get(&keyspace.id()) else { return Ok(stored) };
        match own.keys.get(key) {
            Some(own) => own.value(key, operator_of(keyspace)?.as_ref(), stored),
            None if own.hides(key) => Ok(None),
            None => Ok(stored),
        }
    }

    /// The entries of a key range over those that `options` read.
    pub(crate) fn range<'k>(
        &self,
        keyspace: &Keyspace,
        range: &impl RangeBounds<&'k [u8]>,
        mut options: ReadOptions,
    ) -> Result<OverlayRange<'_>> {
        let (lower, upper) = bounds_of(range);
        let stored = {
            (options.lower_bound, options.upper_bound) = (lower.clone(), upper.clone());
            Ends::of(Range::new(keyspace, options)?)
        };
        // A map does not take a range whose end is before its start.
        let is_empty = lower.as_ref().zip(upper.as_ref()).is_some_and(|(low, high)| low >= high);
        let writes = self.keyspaces.get(&keyspace.id()).filter(|_| !is_empty);
        let from = lower.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let to = upper.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let own = writes.map(|writes| (writes, Ends::of(writes.keys.range::<[u8], _>((from, to)))));
        let operator = operator_of(keyspace)?;
        Ok(OverlayRange { stored, own, operator, done: false })
    }

    /// Keys and ranges that are written.
    pub(crate) fn len(&self) -> usize {
        self.keyspaces.values().map(|own| own.keys.len() + own.ranges.len()).sum()
    }

    /// True without writes.
    pub(crate) fn is_empty(&self) -> bool {
        self.keyspaces.values().all(|own| own.keys.is_empty() && own.ranges.is_empty())
    }

    /// All keys that are written.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (KeyspaceId, &[u8])> {
        let keyspaces = self.keyspaces.iter();
        keyspaces.flat_map(|(id, own)| own.keys.keys().map(|key| (*id, &key[..])))
    }

    /// All ranges that are deleted: the first key, and the key after the last, if there is one.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (KeyspaceId, &[u8], Option<&[u8]>)> {
        self.keyspaces.iter().flat_map(|(id, own)| {
            own.ranges
                .iter()
                .map(|(start, end)| (*id, &start[..], Some(&end[..]).filter(|end| !end.is_empty())))
        })
    }

    /// The writes as the operations of a batch.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`](crate::Error::BatchTooLarge).
    pub(crate) fn operations(&self) -> Result<BatchBuilder> {
        let mut operations = BatchBuilder::new();
        for (id, own) in &self.keyspaces {
            for (start, end) in &own.ranges {
                operations.push_delete_range(*id, start, end)?;
            }
            for (key, OwnKey { base, operands }) in &own.keys {
                match base {
                    Some(Some(value)) => operations.push_put(*id, key, value)?,
                    Some(None) => operations.push_delete(*id, key)?,
                    None => {}
                }
                for operand in operands {
                    operations.push_merge(*id, key, operand)?;
                }
            }
        }
        Ok(operations)
    }
}

fn operator_of(keyspace: &Keyspace) -> Result<Option<Arc<dyn MergeOperator>>> {
    let engine = &keyspace.handle.engine;
    let view = engine.current.view();
    let shape = view.shape(keyspace.id()).ok_or_else(|| engine.dropped(keyspace.id()))?;
    Ok(shape.operator().cloned())
}

/// An iterator of which the next item of either end can be looked at.
struct Ends<I: Iterator> {
    inner: I,
    front: Option<I::Item>,
    back: Option<I::Item>,
}

impl<I: DoubleEndedIterator> Ends<I> {
    fn of(inner: I) -> Ends<I> {
        Ends { inner, front: None, back: None }
    }

    /// The next item of one end: where nothing is left between the ends, it is the one that the other end has looked at.
    fn peek(&mut self, at: End) -> Option<&I::Item> {
        let Ends { inner, front, back } = self;
        match at {
            End::Front if front.is_none() => *front = inner.next().or_else(|| back.take()),
            End::Back if back.is_none() => *back = inner.next_back().or_else(|| front.take()),
            _ => {}
        }
        match at {
            End::Front => front.as_ref(),
            End::Back => back.as_ref(),
        }
    }

    fn take(&mut self, at: End) -> Option<I::Item> {
        self.peek(at);
        match at {
            End::Front => self.front.take(),
            End::Back => self.back.take(),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Front,
    Back,
}

type OwnKeys<'o> = btree_map::Range<'o, Vec<u8>, OwnKey>;

/// The entries of a range, from both ends, as a transaction or an indexed batch sees them. It ends after an error.
///
/// Made by [`Transaction::range`](crate::Transaction::range) and [`IndexedBatch::range`](crate::IndexedBatch::range).
pub struct OverlayRange<'o> {
    stored: Ends<Range>,
    own: Option<(&'o OwnKeyspace, Ends<OwnKeys<'o>>)>,
    operator: Option<Arc<dyn MergeOperator>>,
    done: bool,
}

impl fmt::Debug for OverlayRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OverlayRange")
    }
}

impl OverlayRange<'_> {
    fn step(&mut self, at: End) -> Option<Result<(Vec<u8>, PinnedSlice)>> {
        loop {
            let Some((writes, own)) = &mut self.own else { return self.stored.take(at) };
            let stored = match self.stored.peek(at) {
                Some(Err(_)) => return self.stored.take(at),
                Some(Ok((key, _))) => Some(key),
                None => None,
            };
            let order = match (stored, own.peek(at)) {
                (None, None) => return None,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(stored), Some((key, _))) if at == End::Front => stored.cmp(key),
                (Some(stored), Some((key, _))) => stored.cmp(key).reverse(),
            };
            // Less: what is stored comes first, and nothing was written to its key.
            if order.is_lt() {
                match self.stored.take(at) {
                    Some(Ok((key, _))) if writes.hides(&key) => continue,
                    other => return other,
                }
            }
            let below = if order.is_eq() { self.stored.take(at) } else { None };
            let (key, own) = own.take(at)?;
            let below = below.and_then(|entry| entry.ok()).map(|(_, value)| value);
            match own.value(key, self.operator.as_ref(), below) {
                Ok(Some(value)) => return Some(Ok((key.clone(), value))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn next_at(&mut self, at: End) -> Option<Result<(Vec<u8>, PinnedSlice)>> {
        if self.done {
            return None;
        }
        let step = self.step(at);
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

impl Iterator for OverlayRange<'_> {
    type Item = Result<(Vec<u8>, PinnedSlice)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_at(End::Front)
    }
}

impl DoubleEndedIterator for OverlayRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_at(End::Back)
    }
}

impl std::iter::FusedIterator for OverlayRange<'_> {}

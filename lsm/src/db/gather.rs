//! What the versions of a key say, as a read meets them from the newest on: a value, nothing, or operands and what they are for.
//!
//! A read asks its sources one after the other. Nearly always the first version decides. An operand does not: the read goes on, below it in
//! the same source and in older ones, until it meets a put, a tombstone, a range delete or the end.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::{Kind, SequenceNumber, Tag};
use crate::base::merge::{MergeOperator, merged};
use crate::base::planted::{Bug, planted};
use crate::base::slice::PinnedSlice;
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// A read of one key on its way.
#[derive(Debug)]
pub(crate) struct Gather {
    /// The newest version that it may still see.
    bound: SequenceNumber,
    /// The newest range delete over the key: what is older is gone.
    deleted: SequenceNumber,
    /// Newest first.
    operands: Vec<PinnedSlice>,
}

/// The end of a read: what the operands are for, or the value if there are none.
pub(crate) type Base = Option<PinnedSlice>;

impl Gather {
    /// A read at `snapshot`.
    #[inline]
    pub(crate) fn new(snapshot: SequenceNumber, deleted: SequenceNumber) -> Gather {
        Gather { bound: snapshot, deleted, operands: Vec::new() }
    }

    /// Takes the versions of one source. `find` gives the newest not above a sequence number. `None`: older sources are to be asked.
    #[inline]
    pub(crate) fn take(
        &mut self,
        mut find: impl FnMut(SequenceNumber) -> Result<Option<(Tag, PinnedSlice)>>,
    ) -> Result<Option<Base>> {
        loop {
            let Some((tag, value)) = find(self.bound)? else { return Ok(None) };
            if let Some(base) = self.take_version(tag, || value) {
                return Ok(Some(base));
            }
        }
    }

    /// Takes the next older version.
    #[inline]
    fn take_version(&mut self, tag: Tag, value: impl FnOnce() -> PinnedSlice) -> Option<Base> {
        if tag.sequence() < self.deleted {
            return Some(None);
        }
        match tag.kind() {
            Kind::Merge => {
                self.operands.push(value());
                // Only values lose their number, so an operand has one; but no loop rests on it.
                match tag.sequence().checked_sub(1) {
                    Some(older) => self.bound = older,
                    None => return Some(None),
                }
                None
            }
            Kind::Delete => Some(None),
            _ => Some(Some(value())),
        }
    }

    /// As `take`, of a memtable.
    #[inline]
    pub(crate) fn take_memtable(
        &mut self,
        memtable: &Arc<Memtable>,
        key: &[u8],
    ) -> Result<Option<Base>> {
        let Some((tag, value)) = memtable.get(key, self.bound) else { return Ok(None) };
        // SAFETY: the bytes live in the memtable's arena, where entries never change, until the last Arc goes.
        let pin = || unsafe { PinnedSlice::new(memtable.clone(), value) };
        match self.take_version(tag, pin) {
            Some(base) => Ok(Some(base)),
            None => self.take_more(memtable, key),
        }
    }

    /// Under an operand in a memtable there are often many more.
    #[cold]
    fn take_more(&mut self, memtable: &Arc<Memtable>, key: &[u8]) -> Result<Option<Base>> {
        let mut cursor = memtable.cursor();
        cursor.seek(key, Tag::seek(self.bound))?;
        while cursor.valid() && cursor.key() == key {
            if let Some(base) = self.take_version(cursor.tag(), || cursor.pin_value()) {
                return Ok(Some(base));
            }
            cursor.next()?;
        }
        Ok(None)
    }

    /// The value of the key.
    ///
    /// # Errors
    /// [`Error::Merge`](crate::Error::Merge).
    #[inline]
    pub(crate) fn end(
        &mut self,
        operator: Option<&Arc<dyn MergeOperator>>,
        key: &[u8],
        base: Base,
    ) -> Result<Option<PinnedSlice>> {
        if self.operands.is_empty() { Ok(base) } else { self.merge(operator, key, base) }
    }

    #[cold]
    fn merge(
        &mut self,
        operator: Option<&Arc<dyn MergeOperator>>,
        key: &[u8],
        base: Base,
    ) -> Result<Option<PinnedSlice>> {
        let mut operands: Vec<&[u8]> =
            self.operands.iter().rev().map(|operand| &operand[..]).collect();
        if planted(Bug::OperandsReversed) {
            operands.reverse();
        }
        let operator = operator.map(|operator| &**operator);
        merged(operator, key, base.as_deref(), &operands)
            .map(|value| Some(PinnedSlice::from(value)))
    }

    /// The newest range delete over the key.
    #[inline]
    pub(crate) fn deleted(&self) -> SequenceNumber {
        self.deleted
    }
}

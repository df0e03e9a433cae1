//! Which keys of a view are covered by range deletes: the memtables' own and the shape's, as one answer.

use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::mem::memtable::Memtable;
use crate::version::shape::Shape;
use crate::version::view::View;
use std::sync::Arc;

impl View {
    /// The newest range delete over `key` that a reader at `snapshot` sees; 0 if there is none. What is older than it is gone.
    #[inline]
    pub fn deleted(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: SequenceNumber,
    ) -> SequenceNumber {
        let in_tables = self.shape(keyspace).is_some_and(|shape| !shape.ranges().is_empty());
        if !in_tables && self.generations().all(|generation| generation.range_bytes() == 0) {
            return 0;
        }
        self.deleted_by_ranges(keyspace, key, snapshot)
    }

    /// The first key from `lower` to before `upper` that a range delete newer than `than` covers.
    pub fn first_deleted(
        &self,
        keyspace: KeyspaceId,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        than: SequenceNumber,
    ) -> Option<Vec<u8>> {
        let memtables = self.generations().filter_map(|generation| generation.memtable(keyspace));
        let in_memory = memtables
            .filter(|memtable| memtable.range_bytes() > 0)
            .find_map(|memtable| memtable.first_range_newer(lower, upper, than));
        let shape = self.shape(keyspace);
        in_memory.or_else(|| shape?.ranges().first_newer(lower, upper, than))
    }

    #[cold]
    fn deleted_by_ranges(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: SequenceNumber,
    ) -> SequenceNumber {
        let memtables = self.generations().filter_map(|generation| generation.memtable(keyspace));
        let memtables = memtables.filter(|memtable| memtable.range_bytes() > 0);
        // A range of the shape may be newer than those of memtables: one that expiry has set.
        let in_memory =
            memtables.map(|memtable| memtable.range_at(key, |step| step.newest(snapshot)));
        let in_tables = self.shape(keyspace).map(|shape| shape.ranges().at(key).newest(snapshot));
        in_memory.chain(in_tables).max().unwrap_or(0)
    }
}

/// The range deletes of a view for a reader who goes from key to key: asks once for all keys between two ends of ranges.
#[derive(Debug)]
pub struct Deleted {
    memtables: Vec<Arc<Memtable>>,
    shape: Option<Arc<Shape>>,
    snapshot: SequenceNumber,
    /// The answer holds from here...
    from: Vec<u8>,
    /// ...to before here; `None`: to the end.
    to: Option<Vec<u8>>,
    newest: SequenceNumber,
    is_known: bool,
}

impl Deleted {
    /// Those of a keyspace that a reader at `snapshot` sees. The view was taken before the snapshot, as by all readers.
    pub fn of(view: &View, keyspace: KeyspaceId, snapshot: SequenceNumber) -> Deleted {
        let memtables = view.generations().filter_map(|generation| generation.memtable(keyspace));
        let memtables = memtables.filter(|memtable| memtable.range_bytes() > 0).cloned().collect();
        let shape = view.shape(keyspace).filter(|shape| !shape.ranges().is_empty()).cloned();
        Deleted { memtables, shape, snapshot, ..Deleted::none() }
    }

    /// None at all.
    pub fn none() -> Deleted {
        Deleted {
            memtables: Vec::new(),
            shape: None,
            snapshot: 0,
            from: Vec::new(),
            to: None,
            newest: 0,
            is_known: false,
        }
    }

    /// These, as they were in the tables of a keyspace.
    #[cfg(test)]
    pub(super) fn in_tables(
        ranges: crate::base::range_deletes::RangeDeletes,
        snapshot: SequenceNumber,
    ) -> Deleted {
        let shape = Some(Arc::new(Shape::default().with_ranges(ranges)));
        Deleted { shape, snapshot, ..Deleted::none() }
    }

    /// True if nothing is deleted by ranges.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.memtables.is_empty() && self.shape.is_none()
    }

    /// As [`View::deleted`].
    #[inline]
    pub fn at(&mut self, key: &[u8]) -> SequenceNumber {
        if self.is_empty() {
            return 0;
        }
        let holds = self.is_known
            && &self.from[..] <= key
            && self.to.as_ref().is_none_or(|to| key < &to[..]);
        if !holds {
            self.look(key);
        }
        self.newest
    }

    /// For which keys the last answer holds: from the first (inclusive) to the second (exclusive; `None`: to the end).
    #[inline]
    pub fn span(&self) -> (&[u8], Option<&[u8]>) {
        (&self.from, self.to.as_deref())
    }

    #[inline(never)]
    fn look(&mut self, key: &[u8]) {
        let snapshot = self.snapshot;
        let Deleted { memtables, shape, from, to, newest, .. } = self;
        from.clear();
        (*to, *newest) = (None, 0);
        let mut take = |step: crate::base::range_deletes::Step<'_>| {
            if let Some(begin) = step.from.filter(|&begin| begin > &from[..]) {
                from.clear();
                from.extend_from_slice(begin);
            }
            if let Some(end) = step.to
                && to.as_ref().is_none_or(|to| end < &to[..])
            {
                *to = Some(end.to_vec());
            }
            *newest = step.newest(snapshot).max(*newest);
        };
        memtables.iter().for_each(|memtable| memtable.range_at(key, &mut take));
        shape.iter().for_each(|shape| take(shape.ranges().at(key)));
        self.is_known = true;
    }
}

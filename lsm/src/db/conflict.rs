//! Whether something was changed since a sequence number: what a transaction asks before it commits.
//!
//! Promises:
//! 1. While the caller holds a snapshot at `since` and the commit lock, the answer is exact: nothing newer than a live snapshot loses
//!    its sequence number or is dropped, tombstones included, and nothing is committed meanwhile.
//! 2. A table is opened only if it holds something newer than `since`. For a short transaction that is none, so it reads no device.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, SEQUENCE_MAX, SequenceNumber, Tag};
use crate::db::engine::Engine;
use crate::file::table_cursor::{ReadAhead, TableCursorOptions};
use crate::version::table::Table;
use crate::version::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was changed after a sequence number, as one view shows it.
pub(crate) struct Changes {
    view: Arc<View>,
    since: SequenceNumber,
    /// By keyspace, once asked for: the tables that hold something newer.
    newer: BTreeMap<KeyspaceId, Vec<Arc<Table>>>,
}

impl Changes {
    /// Those that the view of now shows.
    pub(crate) fn after(since: SequenceNumber, engine: &Engine) -> Changes {
        Changes { view: engine.current.view_full(), since, newer: BTreeMap::new() }
    }

    /// True if a later commit wrote or deleted `key`.
    ///
    /// # Errors
    /// Those of reading tables.
    pub(crate) fn has_key(&mut self, keyspace: KeyspaceId, key: &[u8]) -> Result<bool> {
        let is_dropped = self.view.shape(keyspace).is_none();
        if is_dropped || self.view.deleted(keyspace, key, SEQUENCE_MAX) > self.since {
            return Ok(true);
        }
        let hash = key_hash(key);
        for generation in self.view.generations() {
            let memtable = generation.memtable(keyspace);
            let memtable = memtable.filter(|_| generation.may_hold(keyspace, hash));
            if let Some((tag, _)) = memtable.and_then(|memtable| memtable.get(key, SEQUENCE_MAX)) {
                return Ok(tag.sequence() > self.since);
            }
        }
        let since = self.since;
        for table in self.newer_tables(keyspace).iter().filter(|table| table.covers(key)) {
            let reader = table.reader()?;
            if reader.may_contain(hash)
                && let Some((tag, _)) = reader.get(key, hash, SEQUENCE_MAX, true)?
                && tag.sequence() > since
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A key from `lower` to below `upper` that a later commit wrote or deleted, or the first that it may have, where it deleted a range.
    ///
    /// # Errors
    /// Those of reading tables.
    pub(crate) fn key_within(
        &mut self,
        keyspace: KeyspaceId,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Result<Option<Vec<u8>>> {
        let since = self.since;
        if self.view.shape(keyspace).is_none() {
            return Ok(Some(lower.unwrap_or_default().to_vec()));
        }
        let deleted = self.view.first_deleted(keyspace, lower, upper, since);
        if deleted.is_some() {
            return Ok(deleted);
        }
        for generation in self.view.generations() {
            let memtable = generation.memtable(keyspace);
            let Some(memtable) = memtable.filter(|memtable| !memtable.is_empty()) else { continue };
            let found = first_newer(&mut memtable.cursor(), lower, upper, since)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let options = TableCursorOptions { fill_cache: false, read_ahead: ReadAhead::Auto };
        for table in self.newer_tables(keyspace) {
            let info = table.info();
            let is_below = lower.is_some_and(|lower| &info.largest[..] < lower);
            if is_below || upper.is_some_and(|upper| &info.smallest[..] >= upper) {
                continue;
            }
            let found = first_newer(&mut table.reader()?.cursor(options), lower, upper, since)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn newer_tables(&mut self, keyspace: KeyspaceId) -> &[Arc<Table>] {
        let (view, since) = (&self.view, self.since);
        self.newer.entry(keyspace).or_insert_with(|| {
            let levels = view.shape(keyspace).into_iter().flat_map(|shape| shape.levels());
            let tables = levels.flat_map(|level| level.tables());
            tables.filter(|table| table.info().sequence_max > since).cloned().collect()
        })
    }
}

/// The first key between the bounds with an entry newer than `since`.
fn first_newer(
    cursor: &mut impl EntryCursor,
    lower: Option<&[u8]>,
    upper: Option<&[u8]>,
    since: SequenceNumber,
) -> Result<Option<Vec<u8>>> {
    match lower {
        Some(lower) => cursor.seek(lower, Tag::MAX)?,
        None => cursor.seek_to_first()?,
    }
    while cursor.valid() && upper.is_none_or(|upper| cursor.key() < upper) {
        if cursor.tag().sequence() > since {
            return Ok(Some(cursor.key().to_vec()));
        }
        cursor.next()?;
    }
    Ok(None)
}

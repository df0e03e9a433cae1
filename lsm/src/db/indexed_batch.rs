//! A batch that can be read: what is put into it shows in its own reads, over the database, before it is written.
//!
//! The same overlay as that of a transaction, without a snapshot and without a look for conflicts: reads show the newest state, and
//! whoever writes in between is overwritten. The idea is that of RocksDB's WriteBatchWithIndex.

use crate::base::error::{Error, Result};
use crate::base::slice::PinnedSlice;
use crate::db::batch::another_database;
use crate::db::database::{Db, Handle};
use crate::db::histograms::Timed;
use crate::db::keyspace::{Keyspace, ReadOptions, WriteOptions};
use crate::db::overlay::{Overlay, OverlayRange};
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

/// Writes that happen together or not at all, and that its own reads see before they happen. Made by [`Db::indexed_batch`].
///
/// It guards against nothing: what others write meanwhile shows in its reads, and is overwritten by [`write`](IndexedBatch::write). Who reads,
/// decides and writes takes a [`Transaction`](crate::Transaction). A [`WriteBatch`](crate::WriteBatch) is cheaper where nothing is read back.
#[derive(Clone)]
pub struct IndexedBatch {
    handle: Arc<Handle>,
    overlay: Overlay,
}

impl Db {
    /// An empty batch over any keyspaces of the database, which reads its own writes.
    ///
    /// ```
    /// use treering_lsm::{Db, WriteOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Db::open(directory.path(), Default::default())?;
    /// let trees = db.default_keyspace();
    /// trees.put(b"elm", b"300 years")?;
    /// trees.put(b"oak", b"600 years")?;
    /// let mut batch = db.indexed_batch();
    /// batch.delete_range(trees, ..&b"f"[..])?;
    /// batch.put(trees, b"yew", b"2000 years")?;
    /// assert!(batch.get(trees, b"elm")?.is_none() && trees.get(b"elm")?.is_some());
    /// let keys: Result<Vec<_>, _> = batch.range(trees, ..)?.map(|entry| entry.map(|(key, _)| key)).collect();
    /// assert_eq!(keys?, [b"oak", b"yew"]);
    /// batch.write(&WriteOptions::sync())?;
    /// assert!(trees.get(b"elm")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn indexed_batch(&self) -> IndexedBatch {
        let handle = Arc::clone(&self.default_keyspace().handle);
        IndexedBatch { handle, overlay: Overlay::default() }
    }
}

impl IndexedBatch {
    /// The value that `key` would have if the batch were written now.
    ///
    /// # Errors
    /// As [`Keyspace::get_with`]; [`Error::InvalidOption`] for a keyspace of another database.
    pub fn get(&self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<PinnedSlice>> {
        self.check_owner(keyspace)?;
        let decided = self.overlay.decides(keyspace.id(), key);
        let stored = if decided { None } else { keyspace.get(key)? };
        self.overlay.value(keyspace, key, stored)
    }

    /// The entries that a key range would have if the batch were written now, from both ends. Shows one moment of the database.
    ///
    /// # Errors
    /// As [`Keyspace::range`]; [`Error::InvalidOption`] for a keyspace of another database.
    ///
    /// # Cost
    /// That of a range, and a look into the batch for each entry. What a range delete of the batch hides is passed entry by entry.
    pub fn range<'k>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<&'k [u8]>,
    ) -> Result<OverlayRange<'_>> {
        self.check_owner(keyspace)?;
        self.overlay.range(keyspace, &range, ReadOptions::default())
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::ValueTooLarge`], [`Error::InvalidOption`] for a keyspace of another database; the batch is unchanged then.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.overlay.put(keyspace, key, value)
    }

    /// Removes `key`, if it is there. Errors as [`put`](IndexedBatch::put).
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.overlay.delete(keyspace, key)
    }

    /// Adds `operand` to the value of `key`, as by [`Keyspace::merge_with`]. Errors as [`put`](IndexedBatch::put), and
    /// [`Error::InvalidOption`] for a keyspace without a merge operator.
    pub fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.overlay.merge(keyspace, key, operand)
    }

    /// Removes all keys of a range, those included that the batch put there before. Errors as [`put`](IndexedBatch::put), and
    /// [`Error::InvalidOption`] for a range that ends before it begins.
    pub fn delete_range<'k>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<&'k [u8]>,
    ) -> Result<()> {
        self.check_owner(keyspace)?;
        self.overlay.delete_range(keyspace, &range)
    }

    /// Keys and ranges that it would write.
    pub fn len(&self) -> usize {
        self.overlay.len()
    }

    /// True if it would write nothing.
    pub fn is_empty(&self) -> bool {
        self.overlay.is_empty()
    }

    /// Forgets all writes.
    pub fn clear(&mut self) {
        self.overlay = Overlay::default();
    }

    /// Applies all of it or nothing. The batch stays as it is: written again, its merges add again.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`]: nothing was written. Others as [`Keyspace::put_with`].
    pub fn write(&self, options: &WriteOptions) -> Result<()> {
        let engine = &self.handle.engine;
        let operations = self.overlay.operations()?;
        let durability = options.durability.unwrap_or(engine.options.durability);
        engine.timed(Timed::Write, || engine.write_batch(&operations, durability))
    }

    fn check_owner(&self, keyspace: &Keyspace) -> Result<()> {
        let same = Arc::ptr_eq(&keyspace.handle.engine, &self.handle.engine);
        if same { Ok::<(), Error>(()) } else { Err(another_database("batch")) }
    }
}

impl fmt::Debug for IndexedBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexedBatch({} writes)", self.len())
    }
}

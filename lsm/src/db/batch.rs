//! A batch of writes that happen together or not at all.

use crate::base::error::{Error, Result};
use crate::db::engine::Engine;
use crate::db::keyspace::{Keyspace, range_to_delete};
use crate::format::batch::BatchBuilder;
use std::ops::RangeBounds;
use std::sync::Arc;

/// Writes to any number of keyspaces, applied atomically by [`Db::write`](crate::Db::write).
///
/// Later operations on a key win over earlier ones. Limits: [`limits`](crate::limits). Reuse one with
/// [`WriteBatch::clear`] to keep its memory.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    pub(crate) operations: BatchBuilder,
    /// Identity of the database that the keyspaces belong to.
    owner: Option<Arc<()>>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Adds a put.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`](crate::Error::KeyTooLarge), [`Error::ValueTooLarge`](crate::Error::ValueTooLarge),
    /// [`Error::BatchTooLarge`](crate::Error::BatchTooLarge); the batch is unchanged then.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.adopt(keyspace)?;
        self.operations.push_put(keyspace.id(), key, value)
    }

    /// Adds a delete.
    ///
    /// # Errors
    /// As [`WriteBatch::put`].
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.adopt(keyspace)?;
        self.operations.push_delete(keyspace.id(), key)
    }

    /// Adds a merge: `operand` is added to the value of `key`, as by [`Keyspace::merge_with`].
    ///
    /// # Errors
    /// As [`WriteBatch::put`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for a keyspace without a merge operator.
    pub fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        self.adopt(keyspace)?;
        keyspace.handle.engine.check_mergeable(keyspace.id())?;
        self.operations.push_merge(keyspace.id(), key, operand)
    }

    /// Adds the removal of all keys of a range, those included that earlier operations of the batch put there. An empty range adds nothing.
    ///
    /// # Errors
    /// As [`WriteBatch::put`]; [`Error::InvalidOption`](crate::Error::InvalidOption) for a range that ends before it begins.
    pub fn delete_range<'k>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<&'k [u8]>,
    ) -> Result<()> {
        self.adopt(keyspace)?;
        match range_to_delete(&range)? {
            Some((start, end)) => self.operations.push_delete_range(keyspace.id(), &start, &end),
            None => Ok(()),
        }
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.operations.len() as usize
    }

    /// True without operations.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Encoded size in bytes.
    pub fn bytes(&self) -> usize {
        self.operations.bytes().len()
    }

    /// Forgets all operations, keeps the memory.
    pub fn clear(&mut self) {
        self.operations.clear();
        self.owner = None;
    }

    /// Keyspace numbers mean something in their own database only: one batch, one database.
    fn adopt(&mut self, keyspace: &Keyspace) -> Result<()> {
        let identity = &keyspace.handle.engine.identity;
        match &self.owner {
            Some(owner) if Arc::ptr_eq(owner, identity) => Ok(()),
            Some(_) => Err(another_database("batch")),
            None => {
                self.owner = Some(Arc::clone(identity));
                Ok(())
            }
        }
    }

    pub(crate) fn check_owner(&self, engine: &Engine) -> Result<()> {
        match &self.owner {
            Some(owner) if !Arc::ptr_eq(owner, &engine.identity) => Err(another_database("batch")),
            _ => Ok(()),
        }
    }
}

#[cold]
pub(crate) fn another_database(of: &'static str) -> Error {
    let detail = format!(
        "its keyspaces belong to another database or another opening of this one; make a new {of}"
    );
    Error::invalid_option(of, detail)
}

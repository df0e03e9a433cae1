//! Optimistic transactions: read at one moment, write in memory, and commit only if nobody got in between.
//!
//! Backward validation (Kung and Robinson, "On optimistic methods for concurrency control", 1981) over the snapshots of the engine: under the
//! commit lock, where nothing else can be committed, a transaction looks whether what it relies on was changed after its snapshot.
//! First committer wins. No lock is held while a transaction runs, so none can wait for another and there are no deadlocks.
//!
//! Promises:
//! 1. Reads see the snapshot and, over it, the transaction's own writes.
//! 2. A commit applies all writes as one batch or, with [`Error::Conflict`] or any other error, nothing.
//! 3. `Isolation::Snapshot`: no key that was written or merged here, none of a range that was deleted here, or read by `get_for_update`, was changed since the snapshot.
//!    `Isolation::Serializable`: neither was any key or range that was read, so committed transactions that write equal some
//!    serial order, the order of their commits; phantoms included.
//! 4. Writes outside of transactions count as changes, too.
//!
//! Left out: waiting for locks (pessimistic transactions), savepoints.

use crate::base::error::{Error, Result};
use crate::base::key::KeyspaceId;
use crate::base::planted::{Bug, planted};
use crate::base::slice::PinnedSlice;
use crate::db::batch::another_database;
use crate::db::conflict::Changes;
use crate::db::database::{Db, Handle};
use crate::db::engine::Engine;
use crate::db::keyspace::{Keyspace, ReadOptions, WriteOptions, bounds_of};
use crate::db::overlay::{Overlay, OverlayRange};
use crate::db::snapshot::Snapshot;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

/// What a transaction is protected from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Isolation {
    /// Lost updates: a key that it writes must not have been changed since it began. Two transactions that each write what the
    /// other read may both commit (write skew); [`Transaction::get_for_update`] guards single reads against that.
    #[default]
    Snapshot,
    /// Everything: what it read, ranges and absent keys included, must not have been changed either.
    Serializable,
}

/// First key of a range, and the key after its last.
type Bounds = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads and writes that take effect together, at [`commit`](Transaction::commit), or never. Made by [`Db::transaction`].
///
/// It keeps its writes in memory and a [`Snapshot`] for as long as it lives: short transactions are cheap, and conflict less.
/// Dropping it without a commit is a rollback. It belongs to one thread at a time.
pub struct Transaction {
    handle: Arc<Handle>,
    isolation: Isolation,
    snapshot: Snapshot,
    writes: Overlay,
    /// Keys read for an update: their change is a conflict even if nothing is written.
    keys_guarded: BTreeSet<(KeyspaceId, Vec<u8>)>,
    /// Other keys whose change is a conflict although they are not written here.
    keys_read: BTreeSet<(KeyspaceId, Vec<u8>)>,
    /// Likewise ranges.
    ranges_read: BTreeSet<(KeyspaceId, Bounds)>,
}

impl Db {
    /// Begins an optimistic transaction over any keyspaces of the database. Costs what a snapshot costs.
    ///
    /// ```
    /// use treering_lsm::{Db, Error, Isolation, WriteOptions};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Db::open(directory.path(), Default::default())?;
    /// let accounts = db.default_keyspace();
    /// accounts.put(b"ann", &[10])?;
    /// accounts.put(b"bob", &[0])?;
    /// loop {
    ///     let mut transfer = db.transaction(Isolation::Serializable);
    ///     let of = |found: Option<treering_lsm::PinnedSlice>| found.map_or(0, |value| value[0]);
    ///     let (ann, bob) = (of(transfer.get(accounts, b"ann")?), of(transfer.get(accounts, b"bob")?));
    ///     transfer.put(accounts, b"ann", &[ann - 3])?;
    ///     transfer.put(accounts, b"bob", &[bob + 3])?;
    ///     match transfer.commit(&WriteOptions::sync()) {
    ///         Err(Error::Conflict { .. }) => continue, // somebody was faster: look again
    ///         other => break other?,
    ///     }
    /// }
    /// assert_eq!(accounts.get(b"bob")?.as_deref(), Some(&[3][..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn transaction(&self, isolation: Isolation) -> Transaction {
        Transaction {
            handle: Arc::clone(&self.default_keyspace().handle),
            isolation,
            snapshot: self.snapshot(),
            writes: Overlay::default(),
            keys_guarded: BTreeSet::new(),
            keys_read: BTreeSet::new(),
            ranges_read: BTreeSet::new(),
        }
    }
}

impl Transaction {
    /// The state that it reads, without its own writes.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The value of `key`: what this transaction wrote, else that of its snapshot. Serializable: a later change of it by others is a conflict.
    ///
    /// # Errors
    /// As [`Keyspace::get_with`]; [`Error::InvalidOption`] for a keyspace of another database.
    pub fn get(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<Option<PinnedSlice>> {
        self.check_owner(keyspace)?;
        if self.writes.decides(keyspace.id(), key) {
            return self.writes.value(keyspace, key, None);
        }
        if self.isolation == Isolation::Serializable {
            self.keys_read.insert((keyspace.id(), key.to_vec()));
        }
        let stored = keyspace.get_with(key, &self.read_options())?;
        self.writes.value(keyspace, key, stored)
    }

    /// As [`get`](Transaction::get), and a change of the key by others is a conflict at any isolation, also if this
    /// transaction writes nothing.
    pub fn get_for_update(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
    ) -> Result<Option<PinnedSlice>> {
        self.check_owner(keyspace)?;
        if self.writes.decides(keyspace.id(), key) {
            return self.writes.value(keyspace, key, None);
        }
        self.keys_guarded.insert((keyspace.id(), key.to_vec()));
        let stored = keyspace.get_with(key, &self.read_options())?;
        self.writes.value(keyspace, key, stored)
    }

    /// The entries of a key range, from both ends, with the transaction's own writes among them. Serializable: any change inside of the
    /// whole range by others is a conflict, however far the iterator was used.
    ///
    /// # Errors
    /// As [`Keyspace::range`]; [`Error::InvalidOption`] for a keyspace of another database.
    pub fn range<'k>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<&'k [u8]>,
    ) -> Result<OverlayRange<'_>> {
        self.check_owner(keyspace)?;
        if self.isolation == Isolation::Serializable {
            self.ranges_read.insert((keyspace.id(), bounds_of(&range)));
        }
        self.writes.range(keyspace, &range, self.read_options())
    }

    /// Sets `key` to `value` at the commit.
    ///
    /// # Errors
    /// [`Error::KeyTooLarge`], [`Error::ValueTooLarge`], [`Error::InvalidOption`] for a keyspace of another database; nothing is changed then.
    pub fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.writes.put(keyspace, key, value)
    }

    /// Removes `key` at the commit, if it is there. Errors as [`put`](Transaction::put).
    pub fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.writes.delete(keyspace, key)
    }

    /// Adds `operand` to the value of `key` at the commit, as by [`Keyspace::merge_with`]. It is a write of the key: a change by others is a conflict.
    ///
    /// # Errors
    /// As [`put`](Transaction::put); [`Error::InvalidOption`] for a keyspace without a merge operator.
    pub fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) -> Result<()> {
        self.check_owner(keyspace)?;
        self.writes.merge(keyspace, key, operand)
    }

    /// Removes all keys of a range at the commit, those included that it put there before. It is a write of every key of the range: a
    /// change by others of any of them, or a new one, is a conflict.
    ///
    /// # Errors
    /// As [`put`](Transaction::put); [`Error::InvalidOption`] for a range that ends before it begins.
    pub fn delete_range<'k>(
        &mut self,
        keyspace: &Keyspace,
        range: impl RangeBounds<&'k [u8]>,
    ) -> Result<()> {
        self.check_owner(keyspace)?;
        self.writes.delete_range(keyspace, &range)
    }

    /// Keys and ranges that a commit would write.
    pub fn len(&self) -> usize {
        self.writes.len()
    }

    /// True if a commit would write nothing.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Applies all writes as one batch, if nothing that the transaction relies on was changed since it began. Without writes only what
    /// was read by [`get_for_update`](Transaction::get_for_update) must not have been: all else is the state at one moment.
    ///
    /// # Errors
    /// [`Error::Conflict`]: nothing was written; run the transaction again from its beginning. [`Error::BatchTooLarge`]: nothing was
    /// written. Others as [`Keyspace::put_with`].
    ///
    /// # Cost
    /// That of a batch, and under the commit lock a look into the memtables for each key that counts. Ranges are walked there,
    /// entry by entry: keep them short where others write. Tables are read only if they hold something newer than the transaction.
    pub fn commit(self, options: &WriteOptions) -> Result<()> {
        let engine = &self.handle.engine;
        if self.is_empty() {
            engine.health.check_open()?;
            return self.check_guarded(engine).map_err(|refusal| refusal.into_error(engine));
        }
        let operations = self.writes.operations()?;
        let durability = options.durability.unwrap_or(engine.options.durability);
        let written = engine.write_batch_if(&operations, durability, || self.check(engine));
        written.map_err(|refusal| refusal.into_error(engine))
    }

    /// Forgets all writes; the same as dropping it.
    pub fn rollback(self) {}

    /// For a transaction without writes.
    fn check_guarded(&self, engine: &Engine) -> std::result::Result<(), Refusal> {
        if self.keys_guarded.is_empty() {
            return Ok(());
        }
        let _no_commit_meanwhile = engine.commit.lock();
        check_keys(&mut Changes::after(self.snapshot.sequence(), engine), &self.keys_guarded)
    }

    /// Called with the commit lock held.
    fn check(&self, engine: &Engine) -> std::result::Result<(), Refusal> {
        let since = self.snapshot.sequence();
        // A drop has no sequence number.
        let no_drops = engine.current.view().shapes.iter().all(Option::is_some);
        if no_drops && engine.current.visible() == since {
            return Ok(());
        }
        let mut changes = Changes::after(since, engine);
        for (keyspace, key) in self.writes.keys() {
            check_key(&mut changes, keyspace, key)?;
        }
        for (keyspace, start, end) in self.writes.ranges() {
            check_range(&mut changes, keyspace, Some(start), end)?;
        }
        check_keys(&mut changes, &self.keys_guarded)?;
        check_keys(&mut changes, &self.keys_read)?;
        let unread = planted(Bug::PhantomsIgnored);
        for (keyspace, (lower, upper)) in self.ranges_read.iter().filter(|_| !unread) {
            check_range(&mut changes, *keyspace, lower.as_deref(), upper.as_deref())?;
        }
        Ok(())
    }

    fn read_options(&self) -> ReadOptions {
        ReadOptions { snapshot: Some(self.snapshot.clone()), ..ReadOptions::default() }
    }

    fn check_owner(&self, keyspace: &Keyspace) -> Result<()> {
        let same = Arc::ptr_eq(&keyspace.handle.engine, &self.handle.engine);
        if same { Ok(()) } else { Err(another_database("transaction")) }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Transaction({:?} at {}, {} keys)",
            self.isolation,
            self.snapshot.sequence(),
            self.len()
        )
    }
}

fn check_keys(
    changes: &mut Changes,
    keys: &BTreeSet<(KeyspaceId, Vec<u8>)>,
) -> std::result::Result<(), Refusal> {
    keys.iter().try_for_each(|(keyspace, key)| check_key(changes, *keyspace, key))
}

fn check_key(
    changes: &mut Changes,
    keyspace: KeyspaceId,
    key: &[u8],
) -> std::result::Result<(), Refusal> {
    match changes.has_key(keyspace, key)? {
        true => Err(Refusal::Changed(keyspace, key.to_vec())),
        false => Ok(()),
    }
}

fn check_range(
    changes: &mut Changes,
    keyspace: KeyspaceId,
    lower: Option<&[u8]>,
    upper: Option<&[u8]>,
) -> std::result::Result<(), Refusal> {
    match changes.key_within(keyspace, lower, upper)? {
        Some(key) => Err(Refusal::Changed(keyspace, key)),
        None => Ok(()),
    }
}

/// Why a commit wrote nothing.
enum Refusal {
    /// This key was changed.
    Changed(KeyspaceId, Vec<u8>),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Failed(error)
    }
}

impl Refusal {
    /// Asks for a name, which may have to wait for the manifest: not for when the commit lock is held.
    #[cold]
    fn into_error(self, engine: &Engine) -> Error {
        match self {
            Refusal::Changed(id, key) => {
                Error::Conflict { keyspace: engine.keyspace_name(id), key }
            }
            Refusal::Failed(error) => error,
        }
    }
}

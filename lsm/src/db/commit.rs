//! The write path.
//!
//! One short critical section gives out sequence numbers, copies the record into the WAL ring, applies it to the memtables
//! and makes it visible; so commits become visible in the order of their numbers and of the log. A lone writer meets no
//! queue, no system call and no heap allocation. A Sync write then waits, outside the section, for the group sync that
//! covers its record: it is visible to readers before it is durable, and acknowledged after.
//!
//! Promises:
//! 1. When the WAL refuses a record, nothing of it reaches a memtable.
//! 2. Room is made before the record goes to the WAL, so that applying it cannot fail.
//! 3. The active generation has a memtable for every keyspace that there is: a keyspace is made after its memtable.
//! 4. A batch lies in one generation, so a reader's view holds all of it or nothing.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::KeyspaceId;
use crate::base::key::{Kind, SEQUENCE_MAX, SequenceNumber, Tag};
use crate::base::options::{Durability, MEMTABLE_COUNT_MAX};
use crate::base::perf;
use crate::base::planted::{Bug, planted};
use crate::base::sync::MutexGuard;
use crate::db::engine::{Commit, Engine};
use crate::db::histograms::Timed;
use crate::db::large_batch::is_large;
use crate::db::listener::LogSegmentStarted;
use crate::format::batch::{BatchBuilder, BatchReader, Operation, OperationHeader};
use crate::mem::generation::Generation;
use crate::mem::memtable::Memtable;
use crate::version::set::VersionSet;
use std::sync::Arc;

impl Engine {
    /// Writes one put, delete or merge.
    #[inline]
    pub(crate) fn write_one(
        &self,
        kind: Kind,
        keyspace: KeyspaceId,
        key: &[u8],
        value: &[u8],
        durability: Durability,
    ) -> Result<()> {
        let header = match kind {
            Kind::Merge => {
                self.check_mergeable(keyspace)?;
                OperationHeader::merge(keyspace, key, value)?
            }
            Kind::Delete => OperationHeader::delete(keyspace, key)?,
            _ => OperationHeader::put(keyspace, key, value)?,
        };
        let parts = [header.bytes(), key, value];
        let cost = Memtable::cost(key.len(), value.len());
        self.commit(
            &parts,
            1,
            cost,
            durability,
            |commit| self.check_live(commit, |id| *id == keyspace),
            |generation, sequence| {
                apply(generation, keyspace, key, Tag::new(sequence, kind), value)
            },
        )
    }

    /// `Ok` if the keyspace has a merge operator.
    pub(crate) fn check_mergeable(&self, keyspace: KeyspaceId) -> Result<()> {
        let view = self.current.view();
        match view.shape(keyspace) {
            None => return Err(self.dropped(keyspace)),
            Some(shape) if shape.operator().is_some() => return Ok(()),
            Some(_) => {}
        }
        let detail = format!(
            "keyspace {:?} has none; name one when it is made, as in KeyspaceOptions::merge_operator",
            self.keyspace_name(keyspace)
        );
        Err(Error::invalid_option("merge_operator", detail))
    }

    /// Deletes the keys from `start` to before `end`, without end if that is empty.
    pub(crate) fn write_range_delete(
        &self,
        keyspace: KeyspaceId,
        start: &[u8],
        end: &[u8],
        durability: Durability,
    ) -> Result<()> {
        let header = OperationHeader::delete_range(keyspace, start, end)?;
        let parts = [header.bytes(), start, end];
        let live = |commit: &Commit| self.check_live(commit, |id| *id == keyspace);
        self.commit(&parts, 1, 0, durability, live, |generation, sequence| {
            apply_range_delete(generation, keyspace, (start, end), sequence, sequence)
        })
    }

    /// Writes a batch.
    pub(crate) fn write_batch(
        &self,
        operations: &BatchBuilder,
        durability: Durability,
    ) -> Result<()> {
        if operations.is_empty() {
            return self.check_writable();
        }
        self.write_batch_if(operations, durability, || Ok::<(), Error>(()))
    }

    /// Writes a batch that is not empty, unless `check` has an error. It is asked when nothing can be committed in between.
    pub(crate) fn write_batch_if<E: From<Error>>(
        &self,
        operations: &BatchBuilder,
        durability: Durability,
        check: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (bytes, count) = (operations.bytes(), operations.len());
        let cost = batch_cost(bytes, count);
        // Whoever follows the database is told of batches by the memtables' way only.
        let is_followed = self.changes.is_some();
        if !is_followed && is_large(operations, cost, self.options.write_buffer_bytes()) {
            return self.write_large(operations, check);
        }
        let written = |id: &KeyspaceId| {
            BatchReader::new(bytes, count).any(|item| item.is_ok_and(|op| op.keyspace == *id))
        };
        let checked = |commit: &Commit| {
            self.check_live(commit, written)?;
            check()
        };
        self.commit(&[bytes], count, cost, durability, checked, |generation, first| {
            apply_batch(generation, bytes, count, first, first)
        })
    }

    /// `Ok` unless what is written was dropped.
    #[inline]
    fn check_live(&self, commit: &Commit, is_written: impl Fn(&KeyspaceId) -> bool) -> Result<()> {
        let found = commit.dropped.iter().find(|id| is_written(id));
        found.map_or(Ok(()), |id| Err(self.dropped(*id)))
    }

    #[inline]
    fn commit<E: From<Error>>(
        &self,
        parts: &[&[u8]],
        count: u32,
        cost: usize,
        durability: Durability,
        check: impl FnOnce(&Commit) -> std::result::Result<(), E>,
        apply: impl FnOnce(&Generation, SequenceNumber) -> Result<()>,
    ) -> std::result::Result<(), E> {
        self.check_writable()?;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.pace(bytes);
        let mut commit = self.commit.lock();
        // Again, for `close` and others changed it under the lock that we waited for.
        self.check_writable()?;
        if !commit.active.has_room(cost) {
            commit = self.make_room(commit, cost)?;
        }
        // After the last moment at which the lock was let go.
        check(&commit)?;
        let reused = u64::from(planted(Bug::SequenceReused) && commit.sequence > 0);
        let first = commit.sequence + 1 - reused;
        let last = commit.sequence + u64::from(count) - reused;
        assert!(last <= SEQUENCE_MAX, "56 bits of sequence numbers are used up");
        let lsn = match durability {
            Durability::None => None,
            Durability::Sync | Durability::Buffered => {
                let appended = self.wal.append(first, count, parts);
                Some(appended.map_err(|error| self.fail(error))?)
            }
        };
        commit.sequence = last;
        if let Some(changes) = &self.changes {
            changes.append(first, count, parts);
        }
        if planted(Bug::BatchPublishedEarly) {
            self.current.publish(last);
        }
        let applied = apply(&commit.active, first);
        self.current.publish(last);
        drop(commit);
        if let Some(changes) = &self.changes {
            changes.tell();
        }
        applied?;
        self.writes.add(u64::from(count), bytes as u64);
        if self.wal.wants_drain() {
            self.request_drain()?;
        }
        match (durability, lsn) {
            (Durability::Sync, Some(lsn)) => {
                let wait = || self.timed(Timed::SyncWait, || self.wal.sync(lsn));
                let synced = perf::timed(|counts, time| counts.sync_time += time, wait);
                Ok(synced.map_err(|error| self.fail(error))?)
            }
            _ => Ok(()),
        }
    }

    /// Waits as long as so many bytes cost now.
    #[inline]
    pub(crate) fn pace(&self, bytes: usize) {
        if let Some(sleep) = self.pacer.charge(bytes as u64) {
            self.environment.clock.sleep(sleep);
            perf::count(|counts| counts.pace_time += sleep);
        }
    }

    /// Makes sure that the active generation has room for `cost` bytes.
    #[cold]
    fn make_room<'a>(
        &'a self,
        mut commit: MutexGuard<'a, Commit>,
        cost: usize,
    ) -> Result<MutexGuard<'a, Commit>> {
        let mut stall = None;
        loop {
            self.check_writable()?;
            let active = &commit.active;
            if active.has_room(cost) {
                break;
            }
            if active.is_empty() {
                self.replace_active(&mut commit, cost, 0)?;
            } else if (self.schedule.frozen_count() as u64) < MEMTABLE_COUNT_MAX - 1 {
                self.freeze(&mut commit, cost, 0)?;
            } else {
                stall.get_or_insert_with(|| self.begin_stall());
                commit = self.wait_for_flush(commit)?;
            }
        }
        Ok(commit)
    }

    /// Freezes the active generation, so that it is flushed, and starts a new one with room for `cost` bytes and memtables for
    /// as many keyspaces as before, at least `keyspaces`.
    pub(crate) fn freeze(
        &self,
        commit: &mut MutexGuard<'_, Commit>,
        cost: usize,
        keyspaces: usize,
    ) -> Result<()> {
        let next = self.new_generation(commit, cost, keyspaces)?;
        let lsn = self.wal.rotate().map_err(|error| self.fail(error))?;
        self.change_buffer(&next);
        let old = std::mem::replace(&mut commit.active, Arc::clone(&next));
        commit.active_since = commit.sequence;
        self.current.change(|view| {
            let mut frozen = view.frozen.clone();
            frozen.insert(0, Arc::clone(&old));
            crate::version::view::View { active: next, frozen, shapes: view.shapes.clone() }
        });
        self.events.raise(|| LogSegmentStarted { lsn }.into());
        let waiting = self.schedule.add_frozen(old, lsn);
        self.pacer.set_waiting_memtables(waiting as u64);
        self.tell_pace();
        Ok(())
    }

    /// Puts a new generation in the place of an empty active one; otherwise as `freeze`.
    pub(crate) fn replace_active(
        &self,
        commit: &mut MutexGuard<'_, Commit>,
        cost: usize,
        keyspaces: usize,
    ) -> Result<()> {
        debug_assert!(commit.active.is_empty());
        let next = self.new_generation(commit, cost, keyspaces)?;
        self.changes.iter().for_each(|changes| changes.replace(next.number()));
        commit.active = Arc::clone(&next);
        commit.active_since = commit.sequence;
        self.current.change(|view| crate::version::view::View { active: next, ..view.clone() });
        Ok(())
    }

    /// Makes sure that the active generation, and so each one after it, has memtables for so many keyspaces.
    pub(crate) fn add_memtables(&self, keyspaces: usize) -> Result<()> {
        let mut commit = self.commit.lock();
        loop {
            self.check_writable()?;
            if commit.active.memtables().count() >= keyspaces {
                return Ok(());
            }
            if commit.active.is_empty() {
                self.replace_active(&mut commit, 0, keyspaces)?;
            } else if (self.schedule.frozen_count() as u64) < MEMTABLE_COUNT_MAX - 1 {
                self.freeze(&mut commit, 0, keyspaces)?;
            } else {
                commit = self.wait_for_flush(commit)?;
            }
        }
    }

    /// Has the change log follow a change of the active generation.
    pub(crate) fn change_buffer(&self, next: &Generation) {
        if let Some(changes) = &self.changes {
            changes.freeze(next.number());
        }
    }

    /// The number up to which a database that was followed once is followed no more; `None` if it still is, or never was. For every edit that brings
    /// commits: a change file that is left over must never look as if it went up to the last of them.
    pub(crate) fn unfollowed(&self, versions: &VersionSet) -> Option<SequenceNumber> {
        let was_followed = self.changes.is_none() && versions.changes() > 0;
        was_followed.then(|| self.current.visible())
    }

    /// A generation to follow the active one, with room for `cost` bytes.
    pub(crate) fn new_generation(
        &self,
        commit: &Commit,
        cost: usize,
        keyspaces: usize,
    ) -> Result<Arc<Generation>> {
        let bytes = (self.options.write_buffer_bytes() as usize).max(cost + Memtable::cost(0, 0));
        let arena = self.arenas.take(bytes)?;
        let mut prefixes = commit.active.prefixes();
        prefixes.resize(prefixes.len().max(keyspaces), Vec::new());
        Ok(Arc::new(Generation::new(commit.active.number() + 1, arena, &prefixes)))
    }
}

/// Arena bytes that a batch needs at most.
pub(crate) fn batch_cost(bytes: &[u8], count: u32) -> usize {
    let cost = |operation: Operation<'_>| match operation.kind {
        // Not the arena's memory.
        Kind::DeleteRange => 0,
        _ => Memtable::cost(operation.key.len(), operation.value.len()),
    };
    BatchReader::new(bytes, count).map(|item| item.map_or(0, cost)).sum()
}

/// Applies the operations of a batch with sequence numbers from `first` on. No reader stands, or will stand, between two numbers from
/// `unseen_from` on; in a batch none does anyway.
pub(crate) fn apply_batch(
    generation: &Generation,
    bytes: &[u8],
    count: u32,
    first: SequenceNumber,
    unseen_from: SequenceNumber,
) -> Result<()> {
    for (index, item) in BatchReader::new(bytes, count).enumerate() {
        let operation = item.expect("a batch is well-formed by construction");
        let Operation { kind, keyspace, key, value } = operation;
        let sequence = first + index as u64;
        match kind {
            Kind::DeleteRange => {
                let unseen_from = first.min(unseen_from);
                apply_range_delete(generation, keyspace, (key, value), sequence, unseen_from)?;
            }
            _ => apply(generation, keyspace, key, Tag::new(sequence, kind), value)?,
        }
    }
    Ok(())
}

fn apply_range_delete(
    generation: &Generation,
    keyspace: KeyspaceId,
    (start, end): (&[u8], &[u8]),
    sequence: SequenceNumber,
    unseen_from: SequenceNumber,
) -> Result<()> {
    let deleted = generation.delete_range(keyspace, start, end, sequence, unseen_from);
    deleted.ok_or_else(|| no_keyspace(keyspace))
}

#[inline]
fn apply(
    generation: &Generation,
    keyspace: KeyspaceId,
    key: &[u8],
    tag: Tag,
    value: &[u8],
) -> Result<()> {
    let fits = generation
        .insert(keyspace, key, key_hash(key), tag, value)
        .ok_or_else(|| no_keyspace(keyspace))?;
    assert!(fits, "room was made before the record was written");
    Ok(())
}

#[cold]
fn no_keyspace(keyspace: KeyspaceId) -> Error {
    Error::KeyspaceNotFound { name: format!("number {}", keyspace.0) }
}

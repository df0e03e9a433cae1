//! Work that a caller asks for and waits for: a step in manual mode, flush, waiting, compaction of a range, close.

use crate::base::error::{Error, Result};
use crate::base::guard_keys::GuardKeys;
use crate::base::key::KeyspaceId;
use crate::base::planted::{Bug, planted};
use crate::base::sync::atomic::Ordering;
use crate::db::background::{LOOK_AGAIN, RETRY_PAUSE};
use crate::db::engine::Engine;
use crate::db::listener::{Closed, CompactionReason};
use crate::db::schedule::{Caller, Exclusive, State};
use crate::db::spans::span;
use crate::format::edit::VersionEdit;
use crate::job::pick::{self, Circumstances};
use crate::version::view::View;

impl Engine {
    /// One unit of background work in manual mode: a flush, else draining, else a compaction.
    pub(crate) fn step(&self) -> Result<bool> {
        if self.health.is_full() {
            self.try_resume();
        }
        if self.flush_step()? {
            return Ok(true);
        }
        if self.wal.wants_drain() {
            self.request_drain()?;
            return Ok(true);
        }
        self.compaction_step()
    }

    /// Freezes what is in memory and waits until it is in tables.
    pub(crate) fn flush_all(&self) -> Result<()> {
        let target = {
            let mut commit = self.commit.lock();
            self.check_writable()?;
            if !commit.active.is_empty() {
                self.freeze(&mut commit, 0, 0)?;
            }
            commit.active.number()
        };
        self.wait_until_flushed(target)
    }

    /// Waits until every frozen generation with a number below this one is in tables.
    pub(crate) fn wait_until_flushed(&self, target: u64) -> Result<()> {
        let flushed =
            |state: &State| state.frozen.iter().all(|frozen| frozen.generation.number() >= target);
        if self.is_manual() {
            while !flushed(&self.schedule.state.lock()) {
                if !self.flush_step()? {
                    self.check_writable()?;
                }
            }
            return Ok(());
        }
        let mut state = self.schedule.state.lock();
        while !flushed(&state) {
            if state.closing {
                return Err(Error::Closed);
            }
            self.check_writable()?;
            if let Some(error) = &state.flush_error {
                return Err(error.clone());
            }
            self.schedule.done.wait_for(&mut state, LOOK_AGAIN);
        }
        Ok(())
    }

    /// Waits until no compaction is due or running.
    pub(crate) fn wait_for_compactions(&self) -> Result<()> {
        if self.health.is_read_only() {
            return Ok(());
        }
        if self.is_manual() {
            while self.step()? {}
            return Ok(());
        }
        loop {
            let due = {
                let versions = self.versions.lock();
                let oldest = self.snapshots.oldest();
                let due = |keyspace: &crate::version::set::KeyspaceState| {
                    let now = Circumstances { oldest, is_scanned: keyspace.is_scanned };
                    pick::is_due(&keyspace.shape, &keyspace.record.options, now)
                };
                versions.keyspaces().iter().any(due)
            };
            self.check_writable()?;
            let mut state = self.schedule.state.lock();
            if state.closing {
                return Err(Error::Closed);
            }
            if let Some(error) = &state.compaction_error {
                return Err(error.clone());
            }
            if !due && state.compacting == 0 && state.frozen.is_empty() {
                return Ok(());
            }
            if due && state.compacting == 0 {
                // It may have become due by nothing that wakes a thread: a snapshot went, or time passed.
                state.events += 1;
                self.schedule.work.notify_all();
            }
            self.schedule.done.wait_for(&mut state, RETRY_PAUSE);
        }
    }

    /// Changes where tables of a keyspace are cut.
    pub(crate) fn set_guards(&self, keyspace: KeyspaceId, guards: GuardKeys) -> Result<()> {
        self.check_writable()?;
        if self.current.view().shape(keyspace).is_none() {
            return Err(self.dropped(keyspace));
        }
        let edit = VersionEdit { guards: vec![(keyspace, guards)], ..VersionEdit::default() };
        self.install(&edit, |view, shapes| View { shapes, ..view.clone() })?;
        let is_dropped = self.current.view().shape(keyspace).is_none();
        if is_dropped { Err(self.dropped(keyspace)) } else { Ok(()) }
    }

    /// Merges everything of a key range (`None`: all) into the last level, in the caller's thread.
    pub(crate) fn compact_range(
        &self,
        keyspace: KeyspaceId,
        range: Option<(&[u8], &[u8])>,
    ) -> Result<()> {
        self.flush_all()?;
        let exclusive = self.begin_exclusive()?;
        let result = self.compact_exclusively(keyspace, range);
        self.bury_tables();
        drop(exclusive);
        self.events.tell();
        result
    }

    fn begin_exclusive(&self) -> Result<Exclusive<'_>> {
        let mut state = self.schedule.state.lock();
        // Work of a poisoned database may never end.
        let hopeless = |state: &State| state.closing || self.health.is_poisoned();
        // One manual compaction at a time; automatic ones finish first.
        while state.exclusive > 0 && !hopeless(&state) {
            self.schedule.done.wait(&mut state);
        }
        state.exclusive += 1;
        while state.compacting > 0 && !hopeless(&state) {
            self.schedule.done.wait(&mut state);
        }
        let closing = state.closing;
        drop(state);
        let exclusive = Exclusive { schedule: &self.schedule };
        if closing { Err(Error::Closed) } else { self.check_writable().map(|()| exclusive) }
    }

    fn compact_exclusively(
        &self,
        keyspace: KeyspaceId,
        range: Option<(&[u8], &[u8])>,
    ) -> Result<()> {
        let plan = {
            let versions = self.versions.lock();
            let Some(state) = versions.live(keyspace) else {
                drop(versions);
                return Err(self.dropped(keyspace));
            };
            let plan = pick::whole_range(keyspace, &state.shape, &state.record.options, range);
            let Some(plan) = plan else { return Ok(()) };
            // Under the lock: whoever adds tables looks at what is reserved.
            assert!(plan.reserve(), "no other compaction runs while this one is exclusive");
            plan
        };
        self.run_plan(&plan, CompactionReason::Manual)
            .inspect_err(|error| self.note_job_error(error))
    }

    /// Ends background work and writes out what the WAL ring holds. The first caller does it, others wait for it and get the same
    /// answer: whoever was told that the database is closed may open it again.
    pub(crate) fn close(&self) -> Result<()> {
        let mut lock = self.lock.lock();
        if let Some(result) = self.close_result.get() {
            return result.clone();
        }
        let _span = span!("close", directory = %self.directory.display());
        let is_read_only = self.health.is_read_only();
        {
            // No commit is under way when the state changes.
            let _commit = self.commit.lock();
            self.health.close();
        }
        self.jobs.closing.store(true, Ordering::Relaxed);
        self.schedule.close();
        self.changes.iter().for_each(|changes| changes.close());
        self.reactor.close();
        self.pool.join();
        self.wait_for_callers();
        self.bury_tables();
        // Asked last, for a thread may have panicked while it ended. What is not durable of a poisoned database will not become
        // so, and the device is let alone.
        let result = match self.health.failure() {
            // A log of its own in memory, and a manifest that is somebody else's.
            None if is_read_only => Ok(()),
            None => self.close_log(),
            Some(error) => {
                self.wal.abandon();
                if planted(Bug::PoisonClosesWell) { Ok(()) } else { Err(error) }
            }
        };
        // However that went: a keyspace that somebody is making must not reach the manifest any more.
        self.versions.lock().abandon();
        let _set_once_under_the_lock = self.close_result.set(result.clone());
        drop(lock.take());
        drop(lock);
        self.events.raise(|| Closed { error: result.as_ref().err().cloned() }.into());
        self.events.close();
        result
    }

    /// Waits for compactions and the making of tables in callers' threads: nothing may be written or removed once the lock is given back.
    fn wait_for_callers(&self) {
        let mut state = self.schedule.state.lock();
        while state.exclusive > 0 || state.callers > 0 {
            self.schedule.done.wait(&mut state);
        }
    }

    /// For callers that make or remove files: the database is not closed before they are done. Never under the lock of the commits or of the versions.
    pub(crate) fn begin_call(&self) -> Result<Caller<'_>> {
        let mut state = self.schedule.state.lock();
        if state.closing {
            return Err(Error::Closed);
        }
        state.callers += 1;
        Ok(Caller { schedule: &self.schedule })
    }

    fn close_log(&self) -> Result<()> {
        if let Err(Error::NoSpace { .. }) = self.wal.sync(self.wal.appended_lsn()) {
            // The reserve is there for this. Closing syncs once more, and its word is final.
            self.remove_ballast();
        }
        self.wal.close()?;
        // From now on a log that ends early is damage, whatever happened to its files.
        let mut versions = self.versions.lock();
        let noted = self.time_note(&versions);
        let promised = Some(self.wal.durable_lsn());
        let edit = VersionEdit { promised, changes: self.unfollowed(&versions), ..noted };
        if let Err(error) = versions.apply(&edit) {
            let Error::NoSpace { .. } = error else { return Err(error) };
            self.remove_ballast();
            versions.apply(&edit)?;
        }
        versions.close()
    }
}

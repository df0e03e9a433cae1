//! Background work: who does it, and what happens when it fails.
//!
//! With threads: one flushes, the others compact, one drains the WAL ring. In manual mode the same steps are taken by
//! [`Engine::step`] and by writers that find no free memtable, in a fixed order.
//!
//! A job that fails leaves no file and is tried again after a pause that doubles; the error is shown by whoever waits
//! (`flush`, `compact`, and a writer without a free memtable, once a flush has failed [`FLUSH_FAILURES_MAX`] times in a row) and in
//! the statistics. A failed manifest write poisons the database, and so does a thread that panics.

use crate::base::error::{Error, Result};
use crate::base::key::{FileNumber, KeyspaceId};
use crate::base::options::{MEMTABLE_COUNT_MAX, Options};
use crate::base::planted::{Bug, planted};
use crate::base::sync::MutexGuard;
use crate::base::sync::atomic::Ordering;
use crate::db::engine::{Commit, Engine};
use crate::db::events;
use crate::db::histograms::Timed;
use crate::db::listener::{CompactionReason, FlushBegun};
use crate::db::schedule::Frozen;
use crate::db::spans::span;
use crate::file::name;
use crate::format::edit::{LogMark, VersionEdit};
use crate::format::table_info::TableInfo;
use crate::job::compact::{Compacted, compact};
use crate::job::counters::LevelWork;
use crate::job::flush::{Flushed, flush};
use crate::job::output::remove_all;
use crate::job::pick::{self, Action, Circumstances, Plan};
use crate::job::pool::Urgency;
use crate::version::set::VersionSet;
use crate::version::view::{Shapes, View};
use std::sync::Arc;
use std::time::Duration;

/// First pause after a failed job; it doubles up to [`RETRY_PAUSE_MAX`].
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two tries of a failed job, and between two looks at a full disk.
pub(crate) const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Failed flushes in a row after which a writer that waits for a memtable is told instead of waiting on.
const FLUSH_FAILURES_MAX: u32 = 6;

/// Whoever waits for background work is woken when it is done or failed, and looks again after this time as a precaution.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// Flush and compaction threads, given or derived.
pub(crate) fn job_count(options: &Options) -> usize {
    let cores = || std::thread::available_parallelism().map_or(2, usize::from);
    options.background_jobs.unwrap_or_else(|| cores().clamp(2, 16))
}

/// A thread that panics poisons the database: what it was at will never be done, and nobody may wait for it.
struct PanicGuard<'a> {
    engine: &'a Engine,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = Arc::new(std::io::Error::other("a background thread panicked"));
            let path = self.engine.directory.clone();
            let _told_by_health =
                self.engine.fail(Error::Io { operation: "background work", path, source });
        }
    }
}

impl Engine {
    /// Starts the threads.
    pub(crate) fn start_threads(self: &Arc<Self>) -> Result<()> {
        self.events.start()?;
        let jobs = job_count(&self.options);
        let engine = Arc::clone(self);
        self.pool.start("treering-flush", Urgency::Soon, move || engine.run(Engine::flush_step))?;
        for index in 1..jobs.max(2) {
            let engine = Arc::clone(self);
            self.pool.start(&format!("treering-compact-{index}"), Urgency::Later, move || {
                engine.run(Engine::compaction_step)
            })?;
        }
        let engine = Arc::clone(self);
        self.pool.start("treering-wal", Urgency::Now, move || engine.run_drain())
    }

    /// The body of a flush or compaction thread.
    fn run(self: Arc<Self>, step: fn(&Engine) -> Result<bool>) {
        let _guard = PanicGuard { engine: &self };
        let mut pause = RETRY_PAUSE;
        loop {
            let seen = {
                let state = self.schedule.state.lock();
                if state.closing {
                    return;
                }
                state.events
            };
            let expiry = self.expiry_interval();
            let worked = step(&self);
            let mut state = self.schedule.state.lock();
            match worked {
                Ok(true) => pause = RETRY_PAUSE,
                Ok(false) => {
                    pause = RETRY_PAUSE;
                    if self.health.is_full() {
                        self.schedule.work.wait_for(&mut state, RETRY_PAUSE_MAX / 4);
                        drop(state);
                        if self.health.is_full() && self.try_resume() {
                            self.schedule.wake();
                        }
                        continue;
                    }
                    while state.events == seen && !state.closing && !self.health.is_full() {
                        match expiry {
                            None => self.schedule.work.wait(&mut state),
                            Some(interval) => {
                                self.schedule.work.wait_for(&mut state, interval);
                                break;
                            }
                        }
                    }
                }
                Err(_) => {
                    // The step has recorded the error. Events do not cut the pause short, closing does.
                    if !state.closing {
                        self.schedule.work.wait_for(&mut state, pause);
                    }
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                    drop(state);
                    if self.health.is_full() && self.try_resume() {
                        self.schedule.wake();
                    }
                }
            }
        }
    }

    /// The body of the thread that drains the WAL ring.
    fn run_drain(self: Arc<Self>) {
        let _guard = PanicGuard { engine: &self };
        loop {
            {
                let mut closing = self.schedule.drain.lock();
                while !*closing && !self.schedule.drain_asked.load(Ordering::Acquire) {
                    self.schedule.drain_work.wait(&mut closing);
                }
                if *closing {
                    return;
                }
            }
            self.schedule.drain_asked.store(false, Ordering::Release);
            if let Err(error) = self.wal.drain() {
                // The state of health says it to the writers; a closed log ends this thread at its next look.
                self.fail(error);
                self.environment.clock.sleep(RETRY_PAUSE);
            }
        }
    }

    /// Has the ring drained: by the thread, or at once in manual mode.
    #[cold]
    pub(crate) fn request_drain(&self) -> Result<()> {
        if self.is_manual() {
            return self.wal.drain().map_err(|error| self.fail(error));
        }
        if !self.schedule.drain_asked.swap(true, Ordering::AcqRel) {
            let _ordered = self.schedule.drain.lock();
            self.schedule.drain_work.notify_one();
        }
        Ok(())
    }

    /// Waits until another generation may be frozen, or writes are refused.
    ///
    /// # Errors
    /// That of the flush, if it keeps failing: nobody waits for a device that is gone.
    pub(crate) fn wait_for_flush<'a>(
        &'a self,
        mut commit: MutexGuard<'a, Commit>,
    ) -> Result<MutexGuard<'a, Commit>> {
        if self.is_manual() {
            drop(commit);
            self.flush_step()?;
            return Ok(self.commit.lock());
        }
        let mut state = self.schedule.state.lock();
        // The lock of the state ends with the closure: it comes after that of the commits.
        let gave_up = MutexGuard::unlocked(&mut commit, move || {
            // Not "until the number changes": since the caller looked at it, it may have changed for the last time.
            while state.frozen.len() as u64 >= MEMTABLE_COUNT_MAX - 1
                && !state.closing
                && self.health.check().is_ok()
            {
                if state.flush_failures >= FLUSH_FAILURES_MAX {
                    return state.flush_error.clone();
                }
                self.schedule.done.wait_for(&mut state, LOOK_AGAIN);
            }
            None
        });
        gave_up.map_or(Ok(commit), Err)
    }

    /// Flushes the oldest frozen generation; false if there is none or somebody is at it.
    pub(crate) fn flush_step(&self) -> Result<bool> {
        if !self.is_manual() && self.schedule.frozen_count() == 1 {
            // The next switch of generations should not meet pages that were never touched. With two frozen ones all arenas exist.
            self.arenas.prepare();
        }
        let frozen = {
            let mut state = self.schedule.state.lock();
            if state.flushing || state.closing || self.health.is_poisoned() {
                return Ok(false);
            }
            let Some(frozen) = state.frozen.front().cloned() else { return Ok(false) };
            state.flushing = true;
            frozen
        };
        let started = self.environment.clock.now();
        let (generation, bytes) = (frozen.generation.number(), frozen.generation.data_bytes());
        let _span = span!("flush", generation = generation, bytes = bytes);
        self.events.raise(|| FlushBegun { generation, bytes }.into());
        let result = self.flush_generation(&frozen);
        let took = self.environment.clock.now() - started;
        // Before the lock is taken: who waits for this flush looks at the health under it, and would sleep through a full disk.
        if let Err(error) = &result {
            self.note_job_error(error);
        }
        {
            let mut state = self.schedule.state.lock();
            state.flushing = false;
            state.events += 1;
            match &result {
                Ok(_) => {
                    state.frozen.pop_front();
                    self.pacer.flushed(
                        frozen.generation.data_bytes(),
                        took,
                        state.frozen.len() as u64,
                    );
                    state.flush_error = None;
                    state.flush_failures = 0;
                }
                Err(error) => {
                    state.flush_error = Some(error.clone());
                    // A full disk is told by the health, and waited out.
                    let failed = u32::from(!error.is_retry_safe());
                    state.flush_failures = state.flush_failures.saturating_add(failed);
                }
            }
        }
        self.note_time(Timed::Flush, took);
        self.tell_flush(&frozen, &result, took);
        self.schedule.done.notify_all();
        self.schedule.work.notify_all();
        self.events.tell();
        result.map(|_| true)
    }

    fn flush_generation(&self, frozen: &Frozen) -> Result<VersionEdit> {
        let keyspaces: Vec<_> = {
            let versions = self.versions.lock();
            versions.keyspaces().to_vec()
        };
        let mut edit = VersionEdit::default();
        let mut done: Vec<(KeyspaceId, LevelWork)> = Vec::new();
        for (id, memtable) in
            frozen.generation.memtables().filter(|(_, memtable)| !memtable.is_empty())
        {
            let clock = &self.environment.clock;
            let (started, cpu_before) = (clock.now(), clock.thread_cpu());
            let keyspace = &keyspaces[id.0 as usize];
            if keyspace.is_dropped {
                continue;
            }
            let (options, shape) = (&keyspace.record.options, &keyspace.shape);
            let snapshots = self.snapshots.list();
            let flushed = flush(&self.jobs, id, options, shape, memtable, snapshots);
            let Flushed { tables, range_deletes, mut work } =
                flushed.inspect_err(|_| self.remove_tables(&edit))?;
            work.time = clock.now() - started;
            work.cpu = clock.thread_cpu().saturating_sub(cpu_before);
            edit.added.extend(tables.into_iter().map(|info| (id, 0, info)));
            edit.range_deletes.extend(range_deletes.into_iter().map(|range| (id, range)));
            done.push((id, work));
        }
        edit.last_sequence = Some(self.current.visible());
        let changes = match &self.changes {
            Some(changes) => {
                let written = changes.write(frozen.generation.number());
                written.inspect_err(|_| self.remove_tables(&edit))?
            }
            None => None,
        };
        let kept = changes.map(|(_, kept)| kept.last);
        edit.changes = kept.or_else(|| self.unfollowed(&self.versions.lock()));
        let late = planted(Bug::LogStartsTooLate);
        let lsn = if late { self.wal.appended_lsn() } else { frozen.lsn };
        edit.log = Some(LogMark { epoch: self.epoch, lsn });
        edit.promised = Some(self.wal.durable_lsn());
        edit.next_file = Some(self.jobs.next_file.load(Ordering::Relaxed));
        self.install(&edit, |view, shapes| {
            let gone = frozen.generation.number();
            let frozen = view.frozen.iter().filter(|generation| generation.number() != gone);
            View { active: Arc::clone(&view.active), frozen: frozen.cloned().collect(), shapes }
        })?;
        for (id, work) in &done {
            self.counters.add(*id, 0, work);
        }
        if let Some(log) = &self.changes {
            log.written(frozen.generation.number(), changes);
        }
        self.wal.release(frozen.lsn);
        Ok(edit)
    }

    /// Makes an edit durable and shows it to readers. On failure the tables it adds are removed.
    pub(crate) fn install(
        &self,
        edit: &VersionEdit,
        change: impl FnOnce(&View, Shapes) -> View,
    ) -> Result<()> {
        self.install_under(&mut self.versions.lock(), edit, change)
    }

    /// As `install`, for whoever holds the lock of the versions.
    pub(crate) fn install_under(
        &self,
        versions: &mut VersionSet,
        edit: &VersionEdit,
        change: impl FnOnce(&View, Shapes) -> View,
    ) -> Result<()> {
        // A keyspace may be dropped while a job works for it.
        let lawful = versions.without_dropped(edit);
        let (edit, lost) = match &lawful {
            Some((edit, lost)) => (edit, &lost[..]),
            None => (edit, &[][..]),
        };
        let lost = lost.iter().map(|number| name::table(&self.directory, *number));
        remove_all(&*self.environment.disk, &lost.collect::<Vec<_>>());
        let mut applied = versions.apply(edit);
        if let Err(Error::NoSpace { .. }) = applied {
            self.drop_ballast();
            applied = versions.apply(edit);
        }
        if let Err(error) = applied {
            // After a failed write nobody knows whether the manifest names the new tables: they stay for the next open to judge.
            if matches!(error, Error::NoSpace { .. }) {
                self.remove_tables(edit);
            }
            return Err(self.fail(error));
        }
        // Who reads now counts as well: the edit may bring ranges that are not visible yet, and they must not supersede those that are.
        let mut readers = self.snapshots.list();
        readers.push(self.current.visible());
        readers.dedup();
        versions.tidy_ranges(&readers);
        let shapes = versions.shapes();
        self.current.change(|view| change(view, shapes));
        self.update_pace(versions);
        if versions.wants_rewrite() {
            self.rewrite_manifest(versions)?;
        }
        Ok(())
    }

    fn rewrite_manifest(&self, versions: &mut VersionSet) -> Result<()> {
        let old = versions.manifest_number();
        let number = self.jobs.new_file();
        let next_file = Some(self.jobs.next_file.load(Ordering::Relaxed));
        let edit = VersionEdit { next_file, ..VersionEdit::default() };
        let gone = match versions.rewrite(number, &edit) {
            Ok(()) => old,
            // The old one is in force and goes on. The edit that brought us here is durable: its job has succeeded.
            Err(error @ Error::NoSpace { .. }) => {
                self.note_job_error(&error);
                Some(number)
            }
            Err(error) => return Err(self.fail(error)),
        };
        let gone = gone.map(|number| name::manifest(&self.directory, number));
        remove_all(&*self.environment.disk, gone.as_slice());
        Ok(())
    }

    fn remove_tables(&self, edit: &VersionEdit) {
        let moved = |number: u64| edit.removed.iter().any(|(_, _, gone)| gone.0 == number);
        let new = edit.added.iter().filter(|(_, _, info)| !moved(info.table_id));
        let paths: Vec<_> = new
            .map(|(_, _, info)| name::table(&self.directory, FileNumber(info.table_id)))
            .collect();
        remove_all(&*self.environment.disk, &paths);
    }

    /// Runs the most urgent compaction; false if none is due. Also buries dead tables.
    pub(crate) fn compaction_step(&self) -> Result<bool> {
        if self.health.is_closed() {
            return Ok(false);
        }
        let expired = self.expire()?;
        let buried = self.bury_tables();
        let Some(plan) = self.next_plan() else {
            self.events.tell();
            return Ok(buried || expired);
        };
        let result = self.run_plan(&plan, events::reason(&plan));
        if let Err(error) = &result {
            self.note_job_error(error);
        }
        {
            let mut state = self.schedule.state.lock();
            state.compacting -= 1;
            state.events += 1;
            state.compaction_error = result.as_ref().err().cloned();
        }
        self.schedule.done.notify_all();
        self.schedule.work.notify_all();
        self.events.tell();
        result.map(|()| true)
    }

    /// A scan went over very many deleted entries: they are worth being flushed and compacted away. Waits
    /// for no lock and no flush: the next scan asks again.
    #[cold]
    pub(crate) fn clear_the_way_of_scans(&self, keyspace: KeyspaceId) {
        if self.check_writable().is_err() {
            return;
        }
        let noted = self.versions.try_lock().map(|mut versions| versions.note_scanned(keyspace));
        let frozen = self.commit.try_lock().is_some_and(|mut commit| {
            let memtable = commit.active.memtable(keyspace);
            let in_the_way = memtable.is_some_and(|memtable| {
                memtable.tombstones() * 2 > memtable.len() || memtable.range_bytes() > 0
            });
            // What fails here is told by the health, and to the next writer.
            in_the_way
                && (self.schedule.frozen_count() as u64) < MEMTABLE_COUNT_MAX - 1
                && self.freeze(&mut commit, 0, 0).is_ok()
        });
        if noted == Some(true) || frozen {
            self.schedule.wake();
        }
    }

    /// Picks the most urgent plan over all keyspaces and reserves its inputs.
    pub(crate) fn next_plan(&self) -> Option<Plan> {
        let versions = self.versions.lock();
        let mut state = self.schedule.state.lock();
        let takes_work = !self.health.is_poisoned() && !self.health.is_read_only();
        if state.exclusive > 0 || state.closing || !takes_work {
            return None;
        }
        let oldest = self.snapshots.oldest();
        let plans = versions.keyspaces().iter().filter_map(|keyspace| {
            let now = Circumstances { oldest, is_scanned: keyspace.is_scanned };
            pick::pick(keyspace.record.id, &keyspace.shape, &keyspace.record.options, now)
        });
        let (_, plan) = plans.max_by(|a, b| a.0.total_cmp(&b.0))?;
        if !plan.reserve() {
            return None;
        }
        state.compacting += 1;
        Some(plan)
    }

    /// Carries out a reserved plan and gives the reservation back.
    pub(crate) fn run_plan(&self, plan: &Plan, reason: CompactionReason) -> Result<()> {
        let started = self.environment.clock.now();
        let _span = span!(
            "compaction",
            keyspace = plan.keyspace.0,
            output_level = plan.output_level,
            inputs = plan.inputs.len()
        );
        self.tell_compaction_begun(plan, reason);
        let result = self.merge_or_move(plan);
        plan.release();
        let took = self.environment.clock.now() - started;
        self.note_time(Timed::Compaction, took);
        self.tell_compaction(plan, reason, &result, took);
        result.map(drop)
    }

    /// Merges the inputs of a plan. Where a filter has changed something, nobody can take a snapshot until what comes with the answer is dropped.
    fn merge(&self, plan: &Plan) -> Result<(Compacted, Option<MutexGuard<'_, ()>>)> {
        let skip = planted(Bug::SnapshotsIgnored);
        let snapshots = || if skip { Vec::new() } else { self.snapshots.list() };
        let made = compact(&self.jobs, plan, snapshots(), plan.shape.filter().cloned())?;
        let Some(touched) = made.touched else { return Ok((made, None)) };
        let quiet = self.snapshots.hold();
        if self.snapshots.newest().is_none_or(|newest| newest < touched) {
            return Ok((made, Some(quiet)));
        }
        // A snapshot that was taken meanwhile would see another state than before.
        drop(quiet);
        let numbers = made.tables.iter().map(|info| FileNumber(info.table_id));
        let paths: Vec<_> = numbers.map(|number| name::table(&self.directory, number)).collect();
        remove_all(&*self.environment.disk, &paths);
        let mut again = compact(&self.jobs, plan, snapshots(), None)?;
        again.work.filter_redone = 1;
        Ok((again, None))
    }

    fn merge_or_move(&self, plan: &Plan) -> Result<VersionEdit> {
        let clock = &self.environment.clock;
        let (started, cpu_before) = (clock.now(), clock.thread_cpu());
        let infos = || plan.inputs.iter().map(|(_, table)| table.info());
        let mut quiet = None;
        let (added, mut work): (Vec<TableInfo>, LevelWork) = match plan.action {
            Action::Move => {
                let moved_bytes = infos().map(|info| info.file_bytes).sum();
                let work = LevelWork { jobs: 1, moves: 1, moved_bytes, ..LevelWork::default() };
                (infos().cloned().collect(), work)
            }
            Action::Drop => {
                let keys_dropped = infos().map(|info| info.entry_count).sum();
                (Vec::new(), LevelWork { jobs: 1, keys_dropped, ..LevelWork::default() })
            }
            Action::Merge => {
                let (made, held) = self.merge(plan)?;
                quiet = held;
                (made.tables, made.work)
            }
        };
        work.time = clock.now() - started;
        work.cpu = clock.thread_cpu().saturating_sub(cpu_before);
        let (id, output_level) = (plan.keyspace, plan.output_level as u8);
        let inputs = plan.inputs.iter();
        let edit = VersionEdit {
            next_file: Some(self.jobs.next_file.load(Ordering::Relaxed)),
            added: added.into_iter().map(|info| (id, output_level, info)).collect(),
            removed: inputs.map(|(level, table)| (id, *level as u8, table.number())).collect(),
            ..VersionEdit::default()
        };
        if planted(Bug::InputsRemovedEarly) && plan.action == Action::Merge {
            plan.inputs.iter().for_each(|(_, table)| {
                remove_all(
                    &*self.environment.disk,
                    &[name::table(&self.directory, table.number())],
                );
            });
        }
        self.install(&edit, |view, shapes| View { shapes, ..view.clone() })?;
        drop(quiet);
        self.counters.add(id, plan.output_level, &work);
        Ok(edit)
    }
}

//! The way of an event to the listener: raised under any lock, told under none.
//!
//! ```text
//! raise (any thread, any lock) ─► waiting, WAITING_MAX at most ─► one teller at a time ─► listener
//! ```
//!
//! The queue's lock is the last of all locks and held for a push or a pop. What events promise stands in
//! [`listener`](crate::db::listener).

use crate::base::error::{Error, Result};
use crate::base::perf;
use crate::base::sync::{Condvar, Mutex};
use crate::db::engine::Engine;
use crate::db::listener::{
    BackgroundFailed, BackgroundRecovered, CompactionBegun, CompactionEnded, CompactionReason,
    DiskFull, DiskHasSpace, Event, EventListener, EventTable, EventsMissed, FlushEnded, Ingested,
    Job, LogReleased, Opened, Pace, PaceChanged, Poisoned, StallBegun, StallEnded, TableCreated,
    TableDeleted, WAITING_MAX,
};
use crate::db::schedule::Frozen;
use crate::format::edit::VersionEdit;
use crate::job::pick::{Action, Plan};
use crate::job::pool::{Pool, Urgency};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    missed: u64,
    /// Somebody tells events: whoever comes meanwhile leaves his to him.
    telling: bool,
    closing: bool,
    told: Told,
}

/// What the listener knows, so that it is told changes only.
#[derive(Debug, Default)]
struct Told {
    flushes_fail: bool,
    compactions_fail: bool,
    disk_is_full: bool,
    is_poisoned: bool,
    pace: Pace,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct Events {
    /// `None` if nobody listens; empty once the database is closed.
    listener: Option<Mutex<Option<Arc<dyn EventListener>>>>,
    is_manual: bool,
    shared: Arc<Shared>,
    thread: Pool,
}

impl Events {
    pub(crate) fn new(listener: Option<Arc<dyn EventListener>>, is_manual: bool) -> Events {
        Events {
            listener: listener.map(|listener| Mutex::new(Some(listener))),
            is_manual,
            shared: Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::default() }),
            thread: Pool::default(),
        }
    }

    /// True if somebody listens: what an event holds is made for nobody else.
    #[inline]
    pub(crate) fn wanted(&self) -> bool {
        self.listener.is_some()
    }

    fn listener(&self) -> Option<Arc<dyn EventListener>> {
        self.listener.as_ref().and_then(|listener| listener.lock().clone())
    }

    /// Starts the thread that tells, if somebody listens.
    pub(crate) fn start(&self) -> Result<()> {
        let Some(listener) = self.listener() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        self.thread.start("treering-events", Urgency::Soon, move || shared.run(&*listener))
    }

    /// Leaves an event for the listener. From any thread, under any lock.
    pub(crate) fn raise(&self, event: impl FnOnce() -> Event) {
        self.raise_if(|_| Some(event()));
    }

    /// As `raise`, if what the listener was told last calls for it.
    fn raise_if(&self, event: impl FnOnce(&mut Told) -> Option<Event>) {
        if !self.wanted() {
            return;
        }
        {
            let mut queue = self.shared.queue.lock();
            let Some(event) = event(&mut queue.told) else { return };
            queue.push(event);
        }
        if !self.is_manual {
            self.shared.arrived.notify_one();
        }
    }

    /// In manual mode, tells what waits. The caller holds no lock.
    pub(crate) fn tell(&self) {
        if self.is_manual
            && let Some(listener) = self.listener()
        {
            self.shared.tell(&*listener);
        }
    }

    /// Tells all that waits, and lets go of the listener. The caller holds no lock.
    pub(crate) fn close(&self) {
        self.tell();
        self.shared.queue.lock().closing = true;
        self.shared.arrived.notify_all();
        self.thread.join();
        if let Some(listener) = &self.listener {
            let gone = listener.lock().take();
            // Not under the lock: it may hold a handle of this database.
            drop(gone);
        }
    }
}

impl Queue {
    fn push(&mut self, event: Event) {
        if self.waiting.len() >= WAITING_MAX {
            self.missed += 1;
            return;
        }
        if self.missed > 0 {
            let count = std::mem::take(&mut self.missed);
            self.waiting.push_back(EventsMissed { count }.into());
        }
        self.waiting.push_back(event);
    }

    fn pop(&mut self) -> Option<Event> {
        let missed = |count| EventsMissed { count }.into();
        let left = (self.missed > 0).then_some(&mut self.missed);
        self.waiting.pop_front().or_else(|| left.map(std::mem::take).map(missed))
    }
}

impl Shared {
    fn tell(&self, listener: &dyn EventListener) {
        {
            let mut queue = self.queue.lock();
            if std::mem::replace(&mut queue.telling, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut queue = self.queue.lock();
                let next = queue.pop();
                queue.telling = next.is_some();
                next
            };
            let Some(event) = next else { return };
            // The panic has printed its message, and the listener is not ours: nothing of the database can be half done.
            let _panicked = catch_unwind(AssertUnwindSafe(|| event.tell(listener)));
        }
    }

    /// The body of the thread.
    fn run(&self, listener: &dyn EventListener) {
        loop {
            {
                let mut queue = self.queue.lock();
                while queue.waiting.is_empty() && queue.missed == 0 {
                    if queue.closing {
                        return;
                    }
                    self.arrived.wait(&mut queue);
                }
            }
            self.tell(listener);
        }
    }
}

/// The tables that an edit adds.
fn added(edit: &VersionEdit) -> Vec<EventTable> {
    let tables = edit.added.iter();
    tables.map(|(id, level, info)| EventTable::new(*id, usize::from(*level), info)).collect()
}

fn inputs(plan: &Plan) -> Vec<EventTable> {
    let tables = plan.inputs.iter();
    tables.map(|(level, table)| EventTable::new(plan.keyspace, *level, table.info())).collect()
}

fn bytes(tables: &[EventTable]) -> u64 {
    tables.iter().map(|table| table.file_bytes).sum()
}

/// Why a plan that nobody asked for is carried out.
pub(crate) fn reason(plan: &Plan) -> CompactionReason {
    if plan.action == Action::Drop {
        return CompactionReason::Deleted;
    }
    let from_level0 = plan.inputs.iter().any(|(level, _)| *level == 0);
    if from_level0 { CompactionReason::Level0 } else { CompactionReason::LevelSize }
}

impl Engine {
    /// Tells that the database is open, `began` being when that began.
    pub(crate) fn tell_opened(&self, is_new: bool, records_replayed: u64, began: Duration) {
        let (path, duration) = (self.directory.clone(), self.opened_at - began);
        self.events.raise(|| Opened { path, is_new, records_replayed, duration }.into());
    }

    /// Tells what was ingested.
    pub(crate) fn tell_ingested(&self, edit: &VersionEdit) {
        if self.events.wanted() {
            let (tables, sequence) = (added(edit), edit.last_sequence.unwrap_or(0));
            self.tell_created(&tables);
            self.events.raise(|| Ingested { sequence, tables }.into());
        }
    }

    /// Tells of tables that came past the memtables.
    pub(crate) fn tell_written(&self, edit: &VersionEdit) {
        if self.events.wanted() {
            self.tell_created(&added(edit));
        }
    }

    /// Tells how a flush ended.
    pub(crate) fn tell_flush(
        &self,
        frozen: &Frozen,
        result: &Result<VersionEdit>,
        duration: Duration,
    ) {
        if !self.events.wanted() {
            return;
        }
        let tables = result.as_ref().map_or_else(|_| Vec::new(), added);
        self.tell_created(&tables);
        self.events.raise(|| {
            FlushEnded {
                generation: frozen.generation.number(),
                written_bytes: bytes(&tables),
                tables,
                duration,
                error: result.as_ref().err().cloned(),
            }
            .into()
        });
        if result.is_ok() {
            let lsn = frozen.lsn;
            self.events.raise(|| LogReleased { lsn }.into());
        }
        self.tell_outcome(Job::Flush, result.as_ref().err());
        self.tell_pace();
    }

    /// Tells that a compaction begins.
    pub(crate) fn tell_compaction_begun(&self, plan: &Plan, reason: CompactionReason) {
        let (keyspace, output_level) = (plan.keyspace, plan.output_level);
        self.events.raise(|| {
            let (inputs, is_move) = (inputs(plan), plan.action == Action::Move);
            CompactionBegun { keyspace, reason, inputs, output_level, is_move }.into()
        });
    }

    /// Tells how a compaction ended.
    pub(crate) fn tell_compaction(
        &self,
        plan: &Plan,
        reason: CompactionReason,
        result: &Result<VersionEdit>,
        duration: Duration,
    ) {
        if !self.events.wanted() {
            return;
        }
        let outputs = result.as_ref().map_or_else(|_| Vec::new(), added);
        if plan.action != Action::Move {
            self.tell_created(&outputs);
        }
        let inputs = inputs(plan);
        let cost = |tables: &[EventTable]| {
            if plan.action == Action::Merge { bytes(tables) } else { 0 }
        };
        self.events.raise(|| {
            CompactionEnded {
                keyspace: plan.keyspace,
                reason,
                read_bytes: cost(&inputs),
                written_bytes: cost(&outputs),
                inputs,
                outputs,
                output_level: plan.output_level,
                is_move: plan.action == Action::Move,
                duration,
                error: result.as_ref().err().cloned(),
            }
            .into()
        });
        self.tell_outcome(Job::Compaction, result.as_ref().err());
    }

    fn tell_created(&self, tables: &[EventTable]) {
        tables.iter().for_each(|&table| self.events.raise(|| TableCreated { table }.into()));
    }

    /// Tells failures and recoveries of background work; the end of the database is neither.
    fn tell_outcome(&self, job: Job, error: Option<&Error>) {
        if matches!(error, Some(Error::Closed)) {
            return;
        }
        self.events.raise_if(|told| {
            let fails = match job {
                Job::Flush => &mut told.flushes_fail,
                Job::Compaction => &mut told.compactions_fail,
            };
            let failed = std::mem::replace(fails, error.is_some());
            match error {
                Some(error) if !failed => {
                    Some(BackgroundFailed { job, error: error.clone() }.into())
                }
                None if failed => Some(BackgroundRecovered { job }.into()),
                _ => None,
            }
        });
    }

    /// Tells the class of the price of a written byte, if it is another one.
    pub(crate) fn tell_pace(&self) {
        let nanos_per_byte = self.pacer.price_nanos();
        let pace = Pace::at(nanos_per_byte);
        self.events.raise_if(|told| {
            let before = std::mem::replace(&mut told.pace, pace);
            (before != pace).then(|| PaceChanged { pace, nanos_per_byte }.into())
        });
    }

    /// Tells that the database is poisoned, or that the disk is full, if it is.
    pub(crate) fn tell_trouble(&self) {
        if !self.events.wanted() {
            return;
        }
        match self.health.check() {
            Err(Error::NoSpace { path }) => self.events.raise_if(|told| {
                (!std::mem::replace(&mut told.disk_is_full, true)).then(|| DiskFull { path }.into())
            }),
            Err(Error::Poisoned { cause }) => self.events.raise_if(|told| {
                let error = (*cause).clone();
                let is_new = !std::mem::replace(&mut told.is_poisoned, true);
                is_new.then(|| Poisoned { error }.into())
            }),
            _ => {}
        }
    }

    /// Tells that the disk has space again.
    pub(crate) fn tell_space(&self, free_bytes: u64) {
        self.events.raise_if(|told| {
            let was_full = std::mem::replace(&mut told.disk_is_full, false);
            was_full.then(|| DiskHasSpace { free_bytes }.into())
        });
    }

    /// A writer begins to wait for a memtable, until what this returns is dropped.
    pub(crate) fn begin_stall(&self) -> Stall<'_> {
        let memtables_waiting = self.schedule.frozen_count() as u64;
        self.events.raise(|| StallBegun { memtables_waiting }.into());
        Stall { engine: self, since: self.environment.clock.now() }
    }

    /// Unlinks the tables that nobody holds any more; true if there were some.
    pub(crate) fn bury_tables(&self) -> bool {
        let mut buried = false;
        while let Some(number) = self.tables.bury_one() {
            self.events.raise(|| TableDeleted { number: number.0 }.into());
            buried = true;
        }
        buried
    }
}

/// A writer's wait for a memtable.
pub(crate) struct Stall<'a> {
    engine: &'a Engine,
    since: Duration,
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        let duration = self.engine.environment.clock.now() - self.since;
        self.engine.writes.stalled(duration);
        perf::count(|counts| counts.memtable_time += duration);
        self.engine.events.raise(|| StallEnded { duration }.into());
    }
}

//! What waits for background work, who works, and the two ways of waiting for it.

use crate::base::error::Error;
use crate::base::sync::atomic::AtomicBool;
use crate::base::sync::{Condvar, Mutex};
use crate::mem::generation::Generation;
use std::collections::VecDeque;
use std::sync::Arc;

/// A generation that waits for its flush, and where the log continues after it.
#[derive(Clone, Debug)]
pub(crate) struct Frozen {
    pub(crate) generation: Arc<Generation>,
    pub(crate) lsn: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) frozen: VecDeque<Frozen>,
    pub(crate) flushing: bool,
    pub(crate) compacting: usize,
    /// While above zero no compaction is started on its own: a manual one wants or has the tables. `close` waits for it.
    pub(crate) exclusive: usize,
    /// Callers that make tables in their own threads. `close` waits for them.
    pub(crate) callers: usize,
    /// Steps to which nobody has reacted: raised by every event that may make work.
    pub(crate) events: u64,
    pub(crate) closing: bool,
    pub(crate) flush_error: Option<Error>,
    /// Flushes that failed since the last one that succeeded.
    pub(crate) flush_failures: u32,
    pub(crate) compaction_error: Option<Error>,
}

/// What is waiting, and the two ways of waiting for it.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    pub(crate) state: Mutex<State>,
    /// Work may have come, for the threads.
    pub(crate) work: Condvar,
    /// Work was done or failed, for those who wait for it.
    pub(crate) done: Condvar,
    pub(crate) drain: Mutex<bool>,
    pub(crate) drain_work: Condvar,
    pub(crate) drain_asked: AtomicBool,
}

impl Schedule {
    pub(crate) fn frozen_count(&self) -> usize {
        self.state.lock().frozen.len()
    }

    /// Has a generation flushed; returns how many wait now.
    pub(crate) fn add_frozen(&self, generation: Arc<Generation>, lsn: u64) -> usize {
        let waiting = {
            let mut state = self.state.lock();
            state.frozen.push_back(Frozen { generation, lsn });
            state.frozen.len()
        };
        self.wake();
        waiting
    }

    /// Tells the threads that something changed.
    pub(crate) fn wake(&self) {
        self.state.lock().events += 1;
        self.work.notify_all();
    }

    /// As `wake`, and tells those who wait for work to be done: what they wait for may not come.
    pub(crate) fn alarm(&self) {
        self.wake();
        self.done.notify_all();
    }

    /// Tells the threads to end.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.done.notify_all();
        *self.drain.lock() = true;
        self.drain_work.notify_all();
    }

    /// The last errors of background work: flush, compaction.
    pub(crate) fn errors(&self) -> (Option<Error>, Option<Error>) {
        let state = self.state.lock();
        (state.flush_error.clone(), state.compaction_error.clone())
    }
}

/// The right to compact alone, or the wait for it. Given back on drop.
pub(crate) struct Exclusive<'a> {
    pub(crate) schedule: &'a Schedule,
}

impl Drop for Exclusive<'_> {
    fn drop(&mut self) {
        self.schedule.state.lock().exclusive -= 1;
        self.schedule.alarm();
    }
}

/// A caller that makes or removes files of the database. Given back on drop.
pub(crate) struct Caller<'a> {
    pub(crate) schedule: &'a Schedule,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.schedule.state.lock().callers -= 1;
        self.schedule.done.notify_all();
    }
}

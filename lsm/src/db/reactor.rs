//! The reactor: one thread that reads the blocks of asynchronous gets, many at once.
//!
//! ```text
//!   get_async ──(block is cached)──────────────────────────────────────────> known
//!       └──> inbox ──(doorbell)──> reactor: push, wait, check, search ──> promise kept
//!                                     ^                         │
//!                                     └── another block wanted ─┘
//! ```
//!
//! It is started by the first get that needs a block from the device. While completions are there it takes them all before it looks
//! at the inbox and enters the kernel again, so reads are submitted and reaped in batches. A doorbell (a read of an eventfd in the same
//! ring) wakes it for arrivals; it is rung only if the reactor waits. Where there is no ring, arrivals wait for the next completion, and
//! an idle reactor waits at a condition variable.
//!
//! Promises:
//! 1. Every promise is kept: with what was found, with the error of its read, or with `Closed`. So it is after a panic.
//! 2. After `close` returned and the thread was joined, nothing is read any more.
//! 3. A get holds the view that it began with, so what it may see is not compacted away; it holds no handle of the database.
//!
//! At most [`DEPTH`] reads are in flight; gets above that wait in the inbox, whose length is the number of futures that callers keep.
//! In manual mode, and under the model checkers, there is no reactor: the caller reads.

use crate::base::error::Result;
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::sync::{Condvar, Mutex};
use crate::db::engine::Engine;
use crate::db::get_future::{GetFuture, Promise};
use crate::db::keyspace::ReadOptions;
use crate::db::read::{Looked, Progress};
use crate::db::snapshot::Snapshot;
use crate::file::table_reader::{BlockHandle, TableReader};
use crate::io::doorbell::{DOORBELL_BYTES, Doorbell};
use crate::io::{AlignedBuffer, Completion, Disk, Operation, Queue, Request};
use crate::job::pool::{Pool, Urgency};
use crate::version::view::View;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Reads in flight.
const DEPTH: usize = 127;
/// Token of the doorbell's read; those of blocks are below [`DEPTH`].
const BELL: u64 = u64::MAX;

/// A get whose block must be read.
#[derive(Debug)]
struct ColdGet {
    key: Box<[u8]>,
    fill_cache: bool,
    view: Arc<View>,
    progress: Progress,
    reader: Arc<TableReader>,
    handle: BlockHandle,
    promise: Promise,
    _snapshot: Option<Snapshot>,
}

impl ColdGet {
    /// Takes the block that was read and goes on; gives itself back if it wants another one.
    fn go_on(mut self, completion: Completion) -> Option<ColdGet> {
        let block = self.reader.admit(self.handle, completion, self.fill_cache);
        let looked = block.and_then(|block| self.progress.take(&block, &self.view, &self.key));
        match looked {
            Ok(Looked::Known(found)) => self.promise.keep(Ok(found)),
            Err(error) => self.promise.keep(Err(error)),
            Ok(Looked::Wants(reader, handle)) => {
                (self.reader, self.handle) = (reader, handle);
                return Some(self);
            }
        }
        None
    }
}

#[derive(Debug, Default)]
struct Inbox {
    arrivals: VecDeque<ColdGet>,
    running: bool,
    /// No more arrivals: the database closes, or the thread has ended.
    closed: bool,
    /// The reactor waits, or is about to, and has not seen what arrives from now on.
    waiting: bool,
}

#[derive(Debug, Default)]
struct Shared {
    inbox: Mutex<Inbox>,
    arrived: Condvar,
    /// Rung for arrivals; made with the thread, absent where the system has none to give.
    bell: OnceLock<Arc<Doorbell>>,
}

impl Shared {
    fn wake(&self, was_waiting: bool) {
        if was_waiting {
            self.arrived.notify_one();
            if let Some(bell) = self.bell.get() {
                bell.ring();
            }
        }
    }
}

/// The door to the reactor.
#[derive(Debug)]
pub(crate) struct Reactor {
    shared: Arc<Shared>,
}

impl Reactor {
    /// A reactor that has not been started.
    pub(crate) fn new() -> Reactor {
        Reactor { shared: Arc::default() }
    }

    /// Hands a get over, starting the thread for the first one. A get that is refused is answered with `Closed`.
    fn submit(&self, disk: &Arc<dyn Disk>, pool: &Pool, get: ColdGet) {
        let was_waiting = {
            let mut inbox = self.shared.inbox.lock();
            if inbox.closed {
                return;
            }
            if !inbox.running {
                if let Ok(bell) = Doorbell::new() {
                    self.shared.bell.get_or_init(|| Arc::new(bell));
                }
                let (shared, disk) = (Arc::clone(&self.shared), Arc::clone(disk));
                if let Err(error) =
                    pool.start("treering-read", Urgency::Now, move || run(&shared, &*disk))
                {
                    drop(inbox);
                    return get.promise.keep(Err(error));
                }
                inbox.running = true;
            }
            inbox.arrivals.push_back(get);
            std::mem::take(&mut inbox.waiting)
        };
        self.shared.wake(was_waiting);
    }

    /// Has the thread end. Its pool joins it.
    pub(crate) fn close(&self) {
        let was_waiting = {
            let mut inbox = self.shared.inbox.lock();
            inbox.closed = true;
            std::mem::take(&mut inbox.waiting)
        };
        self.shared.wake(was_waiting);
    }
}

/// However the thread ends, what is in the inbox is answered, and nothing comes in any more.
struct EndGuard<'a> {
    shared: &'a Shared,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let arrivals = {
            let mut inbox = self.shared.inbox.lock();
            inbox.closed = true;
            std::mem::take(&mut inbox.arrivals)
        };
        // Outside the lock: it wakes their callers.
        drop(arrivals);
    }
}

/// The body of the thread.
fn run(shared: &Shared, disk: &dyn Disk) {
    let _end = EndGuard { shared };
    let ring = shared.bell.get().and_then(|_| disk.ring(DEPTH + 1));
    let bell = if ring.is_some() { shared.bell.get().cloned() } else { None };
    let queue = ring.unwrap_or_else(|| disk.queue(DEPTH));
    let slots = (0..DEPTH).map(|_| None).collect();
    let mut work = Work { queue, bell, bell_pushed: false, slots, free: (0..DEPTH).collect() };
    let mut ready: VecDeque<ColdGet> = VecDeque::new();
    while work.take_arrivals(shared, &mut ready) {
        work.push_bell();
        while let Some(slot) = work.free.pop() {
            let Some(get) = ready.pop_front() else {
                work.free.push(slot);
                break;
            };
            work.push(slot, get);
        }
        work.take_completions(&mut ready);
    }
}

/// What the thread has in flight.
struct Work {
    queue: Box<dyn Queue>,
    /// In the ring while `bell_pushed`; gone if the ring has failed.
    bell: Option<Arc<Doorbell>>,
    bell_pushed: bool,
    slots: Vec<Option<ColdGet>>,
    free: Vec<usize>,
}

impl Work {
    fn reads_in_flight(&self) -> usize {
        DEPTH - self.free.len()
    }

    /// Moves the inbox to `ready`; waits for arrivals if there is nothing else to do and no bell to wait with. False when it is time
    /// to end.
    fn take_arrivals(&self, shared: &Shared, ready: &mut VecDeque<ColdGet>) -> bool {
        let mut inbox = shared.inbox.lock();
        let is_idle = ready.is_empty() && self.reads_in_flight() == 0;
        while is_idle && self.bell.is_none() && inbox.arrivals.is_empty() && !inbox.closed {
            inbox.waiting = true;
            shared.arrived.wait(&mut inbox);
        }
        if inbox.closed {
            let refused = std::mem::take(&mut inbox.arrivals);
            drop(inbox);
            drop(refused);
            ready.clear();
            return self.reads_in_flight() > 0;
        }
        ready.append(&mut inbox.arrivals);
        inbox.waiting = true;
        true
    }

    fn push_bell(&mut self) {
        let Some(bell) = self.bell.as_ref().filter(|_| !self.bell_pushed) else { return };
        self.bell_pushed = true;
        self.queue.push(Request {
            token: BELL,
            file: Arc::clone(bell) as Arc<_>,
            operation: Operation::Read,
            offset: 0,
            buffer: AlignedBuffer::zeroed(DOORBELL_BYTES),
        });
    }

    fn push(&mut self, slot: usize, get: ColdGet) {
        self.queue.push(get.reader.request(get.handle, slot as u64));
        self.slots[slot] = Some(get);
    }

    /// Waits for a completion and takes all that are there; gets that want another block go to `ready`.
    fn take_completions(&mut self, ready: &mut VecDeque<ColdGet>) {
        loop {
            let Some(completion) = self.queue.wait() else { return };
            if completion.token == BELL {
                self.bell_pushed = false;
                if completion.result.is_err() {
                    self.bell = None;
                }
            } else {
                let slot = completion.token as usize;
                self.free.push(slot);
                let get = self.slots[slot].take().expect("a slot is answered once");
                ready.extend(get.go_on(completion));
            }
            if self.queue.ready() == 0 {
                return;
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // The queue is dropped next, and waits for what is in flight: for the bell, too.
        if let Some(bell) = self.bell.as_ref().filter(|_| self.bell_pushed) {
            bell.ring();
        }
    }
}

impl Engine {
    /// See [`Keyspace::get_async`](crate::Keyspace::get_async).
    pub(crate) fn get_async(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: Option<SequenceNumber>,
        options: &ReadOptions,
    ) -> GetFuture {
        if self.is_manual() || cfg!(any(loom, shuttle)) {
            return GetFuture::known(self.get(keyspace, key, snapshot, options.fill_cache));
        }
        self.look_and_submit(keyspace, key, snapshot, options)
            .unwrap_or_else(|error| GetFuture::known(Err(error)))
    }

    fn look_and_submit(
        &self,
        keyspace: KeyspaceId,
        key: &[u8],
        snapshot: Option<SequenceNumber>,
        options: &ReadOptions,
    ) -> Result<GetFuture> {
        self.health.check_open()?;
        let (view, sequence) = self.current.read(snapshot);
        if view.shape(keyspace).is_none() {
            return Err(self.dropped(keyspace));
        }
        let mut progress = Progress::new(keyspace, key_hash(key), sequence);
        let (reader, handle) = match progress.look(&view, key)? {
            Looked::Known(found) => return Ok(GetFuture::known(Ok(found))),
            Looked::Wants(reader, handle) => (reader, handle),
        };
        let (future, promise) = GetFuture::promised();
        let get = ColdGet {
            key: key.into(),
            fill_cache: options.fill_cache,
            view: Arc::clone(&view),
            progress,
            reader,
            handle,
            promise,
            _snapshot: options.snapshot.clone(),
        };
        self.reactor.submit(&self.environment.disk, &self.pool, get);
        Ok(future)
    }
}

//! The `fault` body: any other disk, with faults in front of it.
//!
//! The simulated disk has faults of its own and loses what was not synced. This one puts the same faults before real files and
//! the real ring, so that what the engine does with an error is seen with real threads, real descriptors and real queues.
//!
//! ```text
//!   engine ──> FaultDisk ── rules: (index | matcher) -> fault, once or from then on ──> uring, posix, sim
//!                  └── FaultFile, FaultQueue: each call and each queued request is judged once
//! ```
//!
//! Promises:
//! 1. Without armed faults it is the disk that it wraps. What a fault does not touch goes through to the inner disk, file and queue.
//! 2. Each call of the disk and its files, and each queued request at its `push`, has an index. The first armed rule that
//!    matches and applies fires, and is counted by call and kind.
//! 3. No request gets past the rules: a wrapped file has no descriptor, so a ring that does not know the wrapper takes the
//!    plain call, which is judged.
//! 4. The queue keeps the contract of [`Queue`]: an error belongs to its request, a short transfer is carried on, and
//!    every request comes back once with its own buffer.
//! 5. EINTR stays on this floor (promise 4 of [`io`](super)): the real bodies try again wherever the system says EINTR, and an
//!    injected EINTR is such a try: it fires, the next try goes through, and the caller sees nothing. EAGAIN and
//!    ECANCELED leave the floor like any other error when they are injected here: no blocking call on a regular file may say
//!    either, so whoever does has no hope of better luck next time. What the *ring* says of the kind is met inside `uring`.
//! 6. A sync that fails has not reached the inner disk; the next one does, and says Ok. That is what Linux does, and it is a lie, because
//!    Linux has dropped the pages meanwhile. [`FaultDisk::syncs_after_failure`] counts whoever believes it.
//!
//! Left out: lost data. What the inner disk was given, it has; power cuts are the business of `sim`.

mod file;
mod queue;
mod rule;
#[cfg(test)]
mod tests;

pub use rule::{Call, Fault, FaultKind, Fired};
pub(in crate::io) use rule::{Faults, Target, flip};

use super::{Disk, File, Lock, OpenMode, Queue, SharedMap};
use crate::base::clock::{Clock, SystemClock};
use crate::base::random::Random;
use file::FaultFile;
use parking_lot::Mutex;
use queue::FaultQueue;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Any disk with faults in front of it. Clones are handles of the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    shared: Arc<Shared>,
}

/// The rules, and what they need; shared with the files and queues.
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    faults: Faults,
    io_count: u64,
    random: Random,
    syncs_after_failure: u64,
}

impl Shared {
    /// Counts a call and says what goes wrong with it. Delays are still to be slept.
    fn judge_only(&self, target: Target<'_>) -> Option<Fault> {
        let mut state = self.state.lock();
        let index = state.io_count;
        state.io_count += 1;
        match state.faults.take(index, &Target { has_time: true, ..target }) {
            // The real bodies try again; the second try goes through.
            Some(Fault::Error(libc::EINTR)) => None,
            fault => fault,
        }
    }

    /// Counts a call, lets it wait if it is to be late, and says what else goes wrong with it.
    fn judge(&self, target: Target<'_>) -> Option<Fault> {
        match self.judge_only(target) {
            Some(Fault::Delay(delay)) => {
                self.clock.sleep(delay);
                None
            }
            fault => fault,
        }
    }

    fn below(&self, bound: u64) -> u64 {
        self.state.lock().random.below(bound)
    }
}

impl FaultDisk {
    /// `inner` with no faults yet. `seed` decides which bits flip and how much of a failing write is written.
    pub fn new(inner: Arc<dyn Disk>, seed: u64) -> FaultDisk {
        FaultDisk::with_clock(inner, seed, Arc::new(SystemClock::new()))
    }

    /// Like [`new`](FaultDisk::new), with another clock for the delays.
    pub fn with_clock(inner: Arc<dyn Disk>, seed: u64, clock: Arc<dyn Clock>) -> FaultDisk {
        let state = State {
            faults: Faults::default(),
            io_count: 0,
            random: Random::new(seed),
            syncs_after_failure: 0,
        };
        FaultDisk { inner, shared: Arc::new(Shared { clock, state: Mutex::new(state) }) }
    }

    /// The disk underneath.
    pub fn inner(&self) -> &Arc<dyn Disk> {
        &self.inner
    }

    /// Calls so far, each queued request one of them; the first has index 0.
    pub fn io_count(&self) -> u64 {
        self.shared.state.lock().io_count
    }

    /// Injects a fault at the call with this index; with `once` false, also at all later calls.
    /// A fault that cannot apply (a short transfer of something else than a read or write) does nothing and does not count as fired.
    pub fn fail_at(&self, index: u64, fault: impl Into<Fault>, once: bool) {
        self.shared.state.lock().faults.at(index, fault.into(), once);
    }

    /// Injects a fault at the first call (with `once` false: at every call) that `matches` picks by kind and path.
    /// `matches` must not call this disk.
    pub fn fail_matching(
        &self,
        matches: impl Fn(Call, &Path) -> bool + Send + Sync + 'static,
        fault: impl Into<Fault>,
        once: bool,
    ) {
        self.shared.state.lock().faults.matching(Arc::new(matches), fault.into(), once);
    }

    /// Removes all faults that are still armed.
    pub fn clear_faults(&self) {
        self.shared.state.lock().faults.clear();
    }

    /// Faults that have fired. A run with 0 here has proved nothing.
    pub fn fired(&self) -> u64 {
        self.shared.state.lock().faults.fired.total()
    }

    /// Faults that have fired, by call and kind.
    pub fn fired_by(&self) -> Fired {
        self.shared.state.lock().faults.fired.clone()
    }

    /// Syncs and durable writes of an open file after one of them had failed by an injected error. The engine promises 0.
    pub fn syncs_after_failure(&self) -> u64 {
        self.shared.state.lock().syncs_after_failure
    }

    /// Carries out a call that is not a transfer; an injected error comes before any effect.
    fn named<T>(
        &self,
        call: Call,
        path: &Path,
        body: impl FnOnce(&dyn Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.shared.judge(Target::named(call, path)) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => body(&*self.inner),
        }
    }
}

impl fmt::Debug for FaultDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultDisk({:?})", self.inner)
    }
}

impl Disk for FaultDisk {
    fn name(&self) -> &'static str {
        "fault"
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.named(Call::CreateDirectory, path, |disk| disk.create_directory(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.named(Call::List, path, |disk| disk.list(path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.named(Call::Open, path, |disk| disk.open(path, mode))?;
        Ok(Arc::new(FaultFile::new(file, self.shared.clone())))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.named(Call::Remove, path, |disk| disk.remove(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.named(Call::Rename, from, |disk| disk.rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.named(Call::Link, from, |disk| disk.hard_link(from, to))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        match self.shared.judge(Target::named(Call::SyncDirectory, path)) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::SyncIgnored) => Ok(()),
            _ => self.inner.sync_directory(path),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.named(Call::Lock, path, |disk| disk.lock(path))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.named(Call::Lock, path, |disk| disk.lock_shared(path))
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        self.named(Call::Map, path, |disk| disk.map_shared(path, length))
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        Box::new(FaultQueue::new(self.inner.queue(depth), self.shared.clone()))
    }

    fn ring(&self, depth: usize) -> Option<Box<dyn Queue>> {
        let inner = self.inner.ring(depth)?;
        Some(Box::new(FaultQueue::new(inner, self.shared.clone())))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.named(Call::FreeBytes, path, |disk| disk.free_bytes(path))
    }
}

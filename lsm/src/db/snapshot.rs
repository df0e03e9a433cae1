//! Snapshots: sequence numbers that flushes and compactions must respect while somebody holds them.

use crate::base::error::{Error, Result};
use crate::base::key::{SEQUENCE_MAX, SequenceNumber};
use crate::base::sync::{Mutex, MutexGuard};
use crate::version::view::Current;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The live snapshots of a database, with how often each is held.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    live: Mutex<BTreeMap<SequenceNumber, usize>>,
    /// Held by whoever takes one, and by whoever makes that nobody can. Comes before every other lock but that of the commits.
    gate: Mutex<()>,
}

impl Snapshots {
    /// Takes a snapshot at the newest visible sequence number.
    pub(crate) fn take(self: &Arc<Self>, current: &Current) -> Snapshot {
        let _gate = self.gate.lock();
        let mut live = self.live.lock();
        // Read inside the lock: a job that lists snapshots before this line works on entries that are visible already.
        let sequence = current.visible();
        *live.entry(sequence).or_insert(0) += 1;
        Snapshot { held: Arc::new(Held { sequence, snapshots: Arc::clone(self) }) }
    }

    /// Nobody takes a snapshot while the answer is held.
    pub(crate) fn hold(&self) -> MutexGuard<'_, ()> {
        self.gate.lock()
    }

    /// The newest live snapshot.
    pub(crate) fn newest(&self) -> Option<SequenceNumber> {
        self.live.lock().keys().next_back().copied()
    }

    /// All live snapshots, ascending.
    pub(crate) fn list(&self) -> Vec<SequenceNumber> {
        self.live.lock().keys().copied().collect()
    }

    /// The oldest live snapshot; the largest number there is, without any.
    pub(crate) fn oldest(&self) -> SequenceNumber {
        self.live.lock().keys().next().copied().unwrap_or(SEQUENCE_MAX)
    }

    /// How many handles are alive.
    pub(crate) fn count(&self) -> usize {
        self.live.lock().values().sum()
    }
}

struct Held {
    sequence: SequenceNumber,
    snapshots: Arc<Snapshots>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut live = self.snapshots.live.lock();
        if let Some(count) = live.get_mut(&self.sequence) {
            *count -= 1;
            if *count == 0 {
                live.remove(&self.sequence);
            }
        }
    }
}

/// A view of all keyspaces as they were at one moment. Cheap to take and to clone.
///
/// While one is alive, compaction keeps every version that it sees: a snapshot held for long costs disk space. It
/// does not keep memtables or files from being replaced.
#[derive(Clone)]
pub struct Snapshot {
    held: Arc<Held>,
}

impl Snapshot {
    /// The sequence number to read at, if the snapshot is one of `snapshots`.
    pub(crate) fn sequence_in(&self, snapshots: &Arc<Snapshots>) -> Result<SequenceNumber> {
        if Arc::ptr_eq(&self.held.snapshots, snapshots) {
            return Ok(self.held.sequence);
        }
        let detail =
            "it belongs to another database or another opening of this one; take a new one";
        Err(Error::invalid_option("snapshot", detail))
    }

    /// Position in the order of all commits: it sees those up to here.
    pub fn sequence(&self) -> u64 {
        self.held.sequence
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.held.sequence)
    }
}

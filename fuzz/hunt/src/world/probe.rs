//! Watches every call of a simulated disk, makes chosen ones fail, and knows what must follow from that.
//!
//! It hangs in the disk as one rule that is asked at every call. So it sees which file and which call a fault met, and
//! whatever is done to that file afterwards.

use super::consequence::{Consequence, Hit, Touched, consequence};
use super::strike::{Kind, Strike};
use crate::drive::Failure;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::io::sim::{Call, Fault, FaultKind, SimDisk};

#[derive(Debug, Default)]
struct Log {
    calls: Vec<(Call, Touched)>,
    hits: Vec<Hit>,
    /// Files whose sync or, for log and manifest, write failed in this opening of the database.
    failed: Vec<FileKind>,
    /// What nobody may do.
    violation: Option<Failure>,
    worst: Option<Consequence>,
    silent: bool,
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct Probe {
    log: Arc<Mutex<Log>>,
}

impl Probe {
    /// Watches the disk from now on. More than `calls_max` calls are a panic: nothing that ends does so much.
    pub fn arm(disk: &SimDisk, strike: Option<Strike>, calls_max: usize) -> Probe {
        let log = Arc::new(Mutex::new(Log::default()));
        let probe = Probe { log: Arc::clone(&log) };
        let matcher = move |call: Call, path: &Path| {
            let place = path.file_name().and_then(|name| name::parse(&name.to_string_lossy()));
            let mut log = lock(&log);
            let index = log.calls.len();
            if index >= calls_max && !log.silent {
                log.silent = true;
                drop(log);
                panic!("a hang: more than {calls_max} calls of the disk");
            }
            log.observe(call, place);
            let Some(strike) = strike else { return false };
            let index = index as u64;
            let due = if strike.once { index == strike.index } else { index >= strike.index };
            let hit = due && strike.kind.meets(call);
            if hit {
                log.strike(call, place, strike.kind);
            }
            hit
        };
        let fault = strike.map_or(Fault::Error(libc::EIO), |strike| strike.kind.fault());
        disk.fail_matching(matcher, fault, false);
        probe
    }

    /// Calls so far.
    pub fn calls(&self) -> usize {
        lock(&self.log).calls.len()
    }

    /// All calls so far.
    pub fn trace(&self) -> Vec<(Call, Touched)> {
        lock(&self.log).calls.clone()
    }

    /// Errors injected so far, from number `from` on. Only those that the engine is told of.
    pub fn hits(&self, from: usize) -> Vec<Hit> {
        lock(&self.log).hits[from..].to_vec()
    }

    /// Their number.
    pub fn hit_count(&self) -> usize {
        lock(&self.log).hits.len()
    }

    /// What the errors since the last opening of the database mean for writes.
    pub fn consequence(&self) -> Consequence {
        lock(&self.log).worst.unwrap_or(Consequence::None)
    }

    /// # Errors
    /// A sync or write of a file after one that failed.
    pub fn check(&self) -> Result<(), Failure> {
        lock(&self.log).violation.clone().map_or(Ok(()), Err)
    }
}

/// What a disk without shared maps answers. No strike says this.
pub(super) const NO_MAPS: i32 = libc::EOPNOTSUPP;

/// Faults that have struck, without the refusals that a workload lives with from its start.
pub fn struck(disk: &SimDisk) -> u64 {
    disk.fired() - disk.fired_by().of_kind(FaultKind::Error(NO_MAPS))
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(|poison| poison.into_inner())
}

impl Log {
    fn observe(&mut self, call: Call, place: Touched) {
        self.calls.push((call, place));
        if call == Call::Lock {
            self.failed.clear();
            self.worst = None;
        }
        let Some(file) = place.filter(|file| self.failed.contains(file)) else { return };
        let is_log = matches!(file, FileKind::Wal(_) | FileKind::Manifest(_));
        let bad = match call {
            Call::Sync | Call::WriteDurable => true,
            Call::Write => is_log,
            _ => false,
        };
        if bad && self.violation.is_none() {
            self.violation = Some(format!("{call:?} of {file:?} after one that failed"));
        }
    }

    fn strike(&mut self, call: Call, place: Touched, kind: Kind) {
        if !kind.is_error() {
            return;
        }
        let index = self.calls.len() - 1;
        let after = index.checked_sub(1).map(|before| self.calls[before]);
        let hit = Hit { call, place, index, after };
        let consequence = consequence(hit, kind);
        self.worst = self.worst.max(Some(consequence));
        self.hits.push(hit);
        let of_table = matches!(place, Some(FileKind::Table(_))) && call == Call::Sync;
        if let Some(file) = place.filter(|_| consequence == Consequence::MustPoison || of_table) {
            self.failed.push(file);
        }
    }
}

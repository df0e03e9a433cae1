//! Watches every call of a simulated disk, makes chosen ones fail, and knows what must follow from that.
//!
//! It hangs in the disk as one rule that is asked at every call. So it sees which file and which call a fault met, and
//! whatever is done to that file afterwards.

use super::consequence::{Consequence, Hit, Touched, consequence};
use crate::drive::Failure;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::io::sim::{Call, Fault, SimDisk};

/// One way for a call to go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The device fails.
    Eio,
    /// The disk is full.
    Enospc,
    /// A read gives about half.
    ShortRead,
    /// A write takes about half.
    ShortWrite,
    /// Try again.
    Eagain,
    /// A signal came in between.
    Eintr,
    /// What an io_uring says of a request behind one that failed.
    Ecanceled,
    /// A bit of what was read is wrong.
    FlipRead,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Eio,
        Kind::Enospc,
        Kind::ShortRead,
        Kind::ShortWrite,
        Kind::Eagain,
        Kind::Eintr,
        Kind::Ecanceled,
        Kind::FlipRead,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Eio => "eio",
            Kind::Enospc => "enospc",
            Kind::ShortRead => "short_read",
            Kind::ShortWrite => "short_write",
            Kind::Eagain => "eagain",
            Kind::Eintr => "eintr",
            Kind::Ecanceled => "ecanceled",
            Kind::FlipRead => "flip_read",
        }
    }

    fn fault(self) -> Fault {
        match self {
            Kind::Eio => Fault::Error(libc::EIO),
            Kind::Enospc => Fault::Error(libc::ENOSPC),
            Kind::Eagain => Fault::Error(libc::EAGAIN),
            Kind::Eintr => Fault::Error(libc::EINTR),
            Kind::Ecanceled => Fault::Error(libc::ECANCELED),
            Kind::ShortRead | Kind::ShortWrite => Fault::Short,
            Kind::FlipRead => Fault::Flip,
        }
    }

    /// True if such a thing can happen to this call.
    pub fn meets(self, call: Call) -> bool {
        match self {
            Kind::ShortRead | Kind::FlipRead => call == Call::Read,
            Kind::ShortWrite => matches!(call, Call::Write | Call::WriteDurable),
            _ => true,
        }
    }

    /// True if the engine is told of it. What it is not told of must not be noticed, or be found by a checksum.
    pub fn is_error(self) -> bool {
        matches!(self, Kind::Eio | Kind::Enospc | Kind::Eagain | Kind::Ecanceled)
    }
}

/// A fault at one call, or from that call on.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// Index of the call, counted from the arming.
    pub index: u64,
    /// What happens.
    pub kind: Kind,
    /// Only there.
    pub once: bool,
}

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

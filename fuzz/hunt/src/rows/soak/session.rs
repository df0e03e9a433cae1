//! The load on one opening of the database: threads that write and compare what they read, and go on reading and trying
//! while the disk is full.

use crate::drive::{Chance, Failure};
use crate::world::{Ledger, Load, Trouble};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, Error};

/// Reads between two tries to write on a full disk.
const READS_WHILE_FULL: u64 = 10;
/// The pause between them.
const REFUSED_PAUSE: Duration = Duration::from_millis(1);

/// What the threads say.
#[derive(Debug, Default)]
pub(super) struct Session {
    stop: AtomicBool,
    /// Of each thread: its last write was refused.
    refused: Vec<AtomicBool>,
    pub(super) operations: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) reads_while_full: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

impl Session {
    pub(super) fn new(threads: usize) -> Session {
        let refused = (0..threads).map(|_| AtomicBool::default()).collect();
        Session { refused, ..Session::default() }
    }

    /// Starts the threads.
    pub(super) fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        db: &'scope Db,
        ledger: &'scope Ledger,
        seed: u64,
    ) {
        for thread in 0..ledger.plan().threads {
            scope.spawn(move || {
                let chance = Chance::new(seed.wrapping_add(thread as u64));
                if let Err(failure) = self.work(db, ledger, thread, chance) {
                    self.fail(failure);
                }
            });
        }
    }

    fn work(&self, db: &Db, ledger: &Ledger, thread: usize, chance: Chance) -> Result<(), Failure> {
        let load = Load::new(db, ledger, thread, chance);
        let mut load = load.map_err(|error| error.to_string())?;
        while !self.stop.load(Ordering::Acquire) {
            match load.step() {
                Ok(()) => {
                    self.operations.fetch_add(1, Ordering::Relaxed);
                    if !load.was_refused() {
                        self.refused[thread].store(false, Ordering::Release);
                    }
                }
                Err(Trouble::Refused(Error::NoSpace { .. })) => {
                    self.refused[thread].store(true, Ordering::Release);
                    self.refusals.fetch_add(1, Ordering::Relaxed);
                    self.read_while_full(&mut load)?;
                }
                Err(Trouble::Refused(error)) => return Err(format!("a write failed: {error}")),
                Err(Trouble::Found(failure)) => return Err(failure),
            }
        }
        Ok(())
    }

    fn read_while_full(&self, load: &mut Load<'_>) -> Result<(), Failure> {
        for _ in 0..READS_WHILE_FULL {
            match load.read() {
                Ok(()) => {}
                Err(Trouble::Refused(error)) => return Err(format!("a read wrote: {error}")),
                Err(Trouble::Found(failure)) => return Err(format!("on a full disk: {failure}")),
            }
        }
        self.reads_while_full.fetch_add(READS_WHILE_FULL, Ordering::Relaxed);
        SystemClock::new().sleep(REFUSED_PAUSE);
        Ok(())
    }

    fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock().unwrap_or_else(|poison| poison.into_inner());
        first.get_or_insert(failure);
    }

    /// What a thread has found.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let failure = self.failure.lock().unwrap_or_else(|poison| poison.into_inner());
        failure.clone().map_or(Ok(()), Err)
    }

    pub(super) fn all_refused(&self) -> bool {
        self.refused.iter().all(|refused| refused.load(Ordering::Acquire))
    }

    pub(super) fn none_refused(&self) -> bool {
        !self.refused.iter().any(|refused| refused.load(Ordering::Acquire))
    }

    /// Tells the threads to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }
}

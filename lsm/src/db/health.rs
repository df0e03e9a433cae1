//! Whether the database takes writes, and why not.
//!
//! - *Healthy*: it does.
//! - *NoSpace*: a write to disk met a full disk. Writes are refused until a look at the disk finds space again; the
//!   ballast file is given up so that flush, compaction and manifest can go on.
//! - *Poisoned*: the WAL or the manifest failed. Writes are refused until the database is reopened, because what the
//!   device holds is no longer known. Reads go on.
//! - *Read-only*: it was opened so and stays so until it is closed.
//! - *Closed*: everything is refused.

use crate::base::error::{Error, Result};
use crate::base::planted::{Bug, planted};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicU8, Ordering};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const HEALTHY: u8 = 0;
const READ_ONLY: u8 = 4;
const NO_SPACE: u8 = 1;
const POISONED: u8 = 2;
const CLOSED: u8 = 3;

/// See the head of the file. The state only rises, but for the way back from NoSpace.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    cause: Mutex<Option<Arc<Error>>>,
    full_path: Mutex<PathBuf>,
}

impl Health {
    /// Of a database that takes no writes.
    pub(crate) fn read_only() -> Health {
        Health { state: AtomicU8::new(READ_ONLY), ..Health::default() }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.state.load(Ordering::Acquire) == READ_ONLY
    }

    /// `Ok` if writes are taken; one relaxed load.
    #[inline]
    pub(crate) fn check(&self) -> Result<()> {
        match self.state.load(Ordering::Relaxed) {
            HEALTHY => Ok(()),
            state => Err(self.refusal(state)),
        }
    }

    /// What `state` means to a writer. Not the state of now: that of a full disk may have passed meanwhile.
    #[cold]
    fn refusal(&self, state: u8) -> Error {
        match state {
            CLOSED => Error::Closed,
            READ_ONLY => Error::ReadOnly,
            NO_SPACE => Error::NoSpace { path: self.full_path.lock().clone() },
            _ => match &*self.cause.lock() {
                Some(cause) => Error::Poisoned { cause: Arc::clone(cause) },
                None => Error::Closed,
            },
        }
    }

    /// Records a failure of the WAL or the manifest and returns what the caller should answer.
    pub(crate) fn poison(&self, error: Error) -> Error {
        match error {
            Error::NoSpace { path } if !planted(Bug::NoSpacePoisons) => {
                self.set_no_space(&path);
                Error::NoSpace { path }
            }
            // Nothing failed: the database is closing, or was poisoned before.
            Error::Closed | Error::Poisoned { .. } => error,
            error if planted(Bug::ManifestErrorForgotten) => error,
            error => {
                let mut cause = self.cause.lock();
                cause.get_or_insert_with(|| Arc::new(error.clone()));
                self.state.fetch_max(POISONED, Ordering::AcqRel);
                error
            }
        }
    }

    /// The failure that poisoned the database, also after it was closed.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.cause.lock().clone().map(|cause| Error::Poisoned { cause })
    }

    /// Records a full disk.
    pub(crate) fn set_no_space(&self, path: &Path) {
        let mut full_path = self.full_path.lock();
        *full_path = path.to_owned();
        self.state.fetch_max(NO_SPACE, Ordering::AcqRel);
    }

    /// Back to healthy if the only trouble was space.
    pub(crate) fn clear_no_space(&self) {
        let _ = self.state.compare_exchange(NO_SPACE, HEALTHY, Ordering::AcqRel, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.state.store(CLOSED, Ordering::Release);
    }

    /// `Ok` if reads are answered.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.state.load(Ordering::Acquire) == POISONED
    }

    pub(crate) fn is_full(&self) -> bool {
        self.state.load(Ordering::Acquire) == NO_SPACE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_meets_the_end_of_a_full_disk_is_not_told_that_the_database_is_closed() {
        let health = Health::default();
        health.set_no_space(Path::new("/db"));
        let seen = health.state.load(Ordering::Relaxed);
        health.clear_no_space();
        assert!(
            matches!(health.refusal(seen), Error::NoSpace { path } if path == Path::new("/db"))
        );
        assert!(health.check().is_ok());
    }
}

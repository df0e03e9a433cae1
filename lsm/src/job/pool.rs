//! The only place where threads are made.

use crate::base::error::{Error, Result};
use crate::base::sync::Mutex;
use crate::base::sync::thread::{self, Builder, JoinHandle};
use std::path::Path;

/// How much a thread's work matters beside the caller's threads, as the system's nice value.
///
/// A read or write that waits for a core behind a compaction waits for milliseconds. What is owed is regulated by the price of a written
/// byte, not by a fight for cores: a compaction that falls behind slows the writers down, and then it has the cores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Urgency {
    /// Somebody waits for it, or soon will: as the caller's own threads.
    Now = 0,
    /// Writers wait for it once all memtables are full.
    Soon = 4,
    /// Nobody waits for it.
    Later = 8,
}

impl Urgency {
    /// Gives it to the calling thread. Where the system refuses, the thread stays as it is: slower for others, not wrong.
    fn take(self) {
        if self == Urgency::Now || cfg!(any(loom, shuttle, miri)) {
            return;
        }
        // SAFETY: a plain system call. On Linux, 0 means the calling thread and the value is its own.
        let _may_be_refused = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, self as i32) };
    }
}

/// Background threads of one database; all are joined before `join` returns.
#[derive(Debug, Default)]
pub struct Pool {
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// Starts a named thread.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no thread to give.
    pub fn start(
        &self,
        name: &str,
        urgency: Urgency,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<()> {
        let body = move || {
            urgency.take();
            body();
        };
        let builder = Builder::new().name(name.to_owned());
        let thread =
            builder.spawn(body).map_err(|e| Error::io("start thread for", Path::new(name), e))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Waits for all threads. Their bodies must have been told to end.
    ///
    /// A thread that panicked has printed its message; there is nothing left to do for it here.
    pub fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        let own = thread::current().id();
        for thread in threads {
            // The last handle of a database may be dropped by one of its own threads, which cannot wait for itself.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}

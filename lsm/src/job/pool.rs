//! The only place where threads are made.

use crate::base::error::{Error, Result};
use crate::base::sync::Mutex;
use crate::base::sync::thread::{self, Builder, JoinHandle};
use std::path::Path;

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
    pub fn start(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
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

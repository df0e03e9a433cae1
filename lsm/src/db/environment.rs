//! The world that a database runs in: disk, time, chance and who does the background work.

use crate::base::clock::{Clock, ManualClock, SystemClock};
use crate::base::error::Result;
use crate::base::options::IoChoice;
use crate::db::listener::EventListener;
use crate::io::{self, Disk};
use std::sync::Arc;

/// Who flushes and compacts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Background {
    /// Threads of the database.
    #[default]
    Threads,
    /// Nobody but [`Db::step`](crate::Db::step), and a writer that finds no free memtable. With a simulated disk everything is
    /// then deterministic: the same calls and seed give the same trace.
    Manual,
}

/// Everything that a database takes from outside.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Where files are.
    pub disk: Arc<dyn Disk>,
    /// How the disk was chosen, for the statistics.
    pub disk_reason: String,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Background work.
    pub background: Background,
    /// Is told what the database does. Default: nobody.
    pub listener: Option<Arc<dyn EventListener>>,
}

impl Environment {
    /// Real files, real time, threads.
    ///
    /// # Errors
    /// [`Error::InvalidOption`](crate::Error::InvalidOption) if the environment variable `TREERING_IO` has an unknown value,
    /// [`Error::Io`](crate::Error::Io) if io_uring was demanded and is refused.
    pub fn system(choice: IoChoice) -> Result<Environment> {
        let (disk, disk_reason) = io::choose(choice)?;
        Ok(Environment {
            disk,
            disk_reason,
            clock: Arc::new(SystemClock::new()),
            background: Background::Threads,
            listener: None,
        })
    }

    /// This world, and somebody who is told what the database does in it: see [`EventListener`].
    pub fn with_listener(self, listener: Arc<dyn EventListener>) -> Environment {
        Environment { listener: Some(listener), ..self }
    }

    /// A deterministic world on `disk`: manual time and manual background work.
    pub fn manual(disk: Arc<dyn Disk>) -> Environment {
        let disk_reason = disk.name().to_owned();
        Environment {
            disk,
            disk_reason,
            clock: Arc::new(ManualClock::default()),
            background: Background::Manual,
            listener: None,
        }
    }
}

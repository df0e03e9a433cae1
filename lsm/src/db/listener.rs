//! Events: what an embedder is told while a database works.
//!
//! Promises, kept by [`events`](crate::db::events):
//! 1. No lock of the database is held while a listener is called. It may use the database: read, write, ask for statistics, close.
//! 2. Events come one at a time, in the order in which they happened. A call under way never delays the database: with
//!    [`Background::Threads`](crate::Background::Threads) they come on a thread of their own, "treering-events".
//! 3. With [`Background::Manual`](crate::Background::Manual) they come on the thread of the caller, at the end of the step, flush,
//!    compaction, open or close in which they happened (or in the next one of these), and the same calls give the same events.
//! 4. A listener that panics loses that event and nothing else: the panic is caught, and the next event comes.
//! 5. What a slow listener leaves waiting is bounded ([`WAITING_MAX`]): what is too much is dropped and counted by
//!    [`EventsMissed`].
//!
//! Without a listener an event costs one comparison, and none happens in a read or in a write that has room in its memtable.

use crate::base::error::Error;
use crate::base::key::KeyspaceId;
use crate::format::table_info::TableInfo;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Events that wait for a slow listener at most.
pub const WAITING_MAX: usize = 4096;

/// A table in an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct EventTable {
    /// Whose it is.
    pub keyspace: KeyspaceId,
    /// Number of its file.
    pub number: u64,
    /// 0 to 6.
    pub level: usize,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Entries, tombstones included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
}

impl EventTable {
    pub(crate) fn new(keyspace: KeyspaceId, level: usize, info: &TableInfo) -> EventTable {
        EventTable {
            keyspace,
            number: info.table_id,
            level,
            file_bytes: info.file_bytes,
            entries: info.entry_count,
            tombstones: info.tombstone_count,
        }
    }
}

/// Why a compaction runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CompactionReason {
    /// L0 has too many tables, or too many bytes.
    Level0,
    /// A level is larger than its target, or should be empty.
    LevelSize,
    /// Somebody asked for it.
    Manual,
    /// Ranges have deleted all that the inputs hold: they are forgotten unread.
    Deleted,
}

/// Which background work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Job {
    /// A memtable to tables.
    Flush,
    /// Tables to tables.
    Compaction,
}

/// How hard writers are held back.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Pace {
    /// Not at all.
    #[default]
    Free,
    /// A written byte costs something, less than 100 ns: above 10 MB a second.
    Slowed,
    /// A written byte costs 100 ns or more.
    Crawling,
}

impl Pace {
    /// The pace at a price.
    pub fn at(nanos_per_byte: f64) -> Pace {
        match nanos_per_byte {
            price if price <= 0.0 => Pace::Free,
            price if price < 100.0 => Pace::Slowed,
            _ => Pace::Crawling,
        }
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $method:ident $event:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug)]
            #[non_exhaustive]
            pub struct $event {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl From<$event> for Event {
                fn from(event: $event) -> Event {
                    Event::$event(event)
                }
            }
        )*

        /// Is told what a database does. Every method does nothing unless it is written; see the head of the file for threads, locks,
        /// order, panics and cost.
        ///
        /// It is given with [`Environment::with_listener`](crate::Environment::with_listener) and let go of when the database is closed.
        /// One that holds a handle of the database keeps it open: close it with [`Db::close`](crate::Db::close) then.
        ///
        /// ```
        /// use std::sync::Arc;
        /// use std::sync::atomic::{AtomicU64, Ordering};
        /// use treering_lsm::{Db, Environment, EventListener, FlushEnded, Options};
        ///
        /// #[derive(Default)]
        /// struct Flushed(AtomicU64);
        ///
        /// impl EventListener for Flushed {
        ///     fn flush_ended(&self, event: &FlushEnded) {
        ///         self.0.fetch_add(event.written_bytes, Ordering::Relaxed);
        ///     }
        /// }
        ///
        /// # let directory = tempfile::tempdir()?;
        /// # let path = directory.path();
        /// let (flushed, options) = (Arc::new(Flushed::default()), Options::default());
        /// let environment = Environment::system(options.io)?.with_listener(flushed.clone());
        /// let db = Db::open_in(environment, path, options)?;
        /// db.put(b"oak", b"600 years")?;
        /// db.flush()?;
        /// db.close()?; // every event has come when this returns
        /// assert!(flushed.0.load(Ordering::Relaxed) > 0);
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        pub trait EventListener: Send + Sync {
            $($(#[$doc])* fn $method(&self, event: &$event) { let _nobody_listens = event; })*
        }

        /// Any event.
        #[derive(Clone, Debug)]
        pub(crate) enum Event {
            $($event($event),)*
        }

        impl Event {
            pub(crate) fn tell(&self, listener: &dyn EventListener) {
                match self {
                    $(Event::$event(event) => listener.$method(event),)*
                }
            }
        }
    };
}

events! {
    /// The database is open.
    opened Opened {
        /// Where.
        path: PathBuf,
        /// There was none before.
        is_new: bool,
        /// Commits that were found in the log and are in tables now.
        records_replayed: u64,
        /// What opening took.
        duration: Duration,
    }
    /// The database is closed; the last event.
    closed Closed {
        /// What [`Db::close`](crate::Db::close) answers.
        error: Option<Error>,
    }
    /// A full memtable begins to be written out.
    flush_begun FlushBegun {
        /// Number of the generation of memtables; rises.
        generation: u64,
        /// Bytes of its keys and values.
        bytes: u64,
    }
    /// A flush has ended, well or not. One that failed is tried again.
    flush_ended FlushEnded {
        /// As when it began.
        generation: u64,
        /// What it wrote: one table per keyspace that had something.
        tables: Vec<EventTable>,
        /// Bytes of these.
        written_bytes: u64,
        /// Wall time.
        duration: Duration,
        /// Why it failed.
        error: Option<Error>,
    }
    /// A compaction begins.
    compaction_begun CompactionBegun {
        /// Whose tables.
        keyspace: KeyspaceId,
        /// Why.
        reason: CompactionReason,
        /// What it merges.
        inputs: Vec<EventTable>,
        /// Where its tables go.
        output_level: usize,
        /// The inputs go there by name, without being read.
        is_move: bool,
    }
    /// A compaction has ended, well or not. One that failed has changed nothing.
    compaction_ended CompactionEnded {
        /// Whose tables.
        keyspace: KeyspaceId,
        /// Why.
        reason: CompactionReason,
        /// What it merged.
        inputs: Vec<EventTable>,
        /// What it made; the inputs on their new level if it moved them.
        outputs: Vec<EventTable>,
        /// Where its tables went.
        output_level: usize,
        /// The inputs went there by name.
        is_move: bool,
        /// Bytes read: 0 for a move.
        read_bytes: u64,
        /// Bytes written: 0 for a move.
        written_bytes: u64,
        /// Wall time.
        duration: Duration,
        /// Why it failed.
        error: Option<Error>,
    }
    /// Files from outside are tables now.
    ingested Ingested {
        /// The sequence number of all their entries.
        sequence: u64,
        /// They.
        tables: Vec<EventTable>,
    }
    /// A table is in the manifest and can be read. Not told for tables that opening made of the log.
    table_created TableCreated {
        /// It.
        table: EventTable,
    }
    /// The file of a table that no reader needs any more is gone.
    table_deleted TableDeleted {
        /// Number of the file.
        number: u64,
    }
    /// The log goes on in another segment.
    log_segment_started LogSegmentStarted {
        /// Its first byte in the log, counted from the beginning of the database.
        lsn: u64,
    }
    /// What was logged before is in tables: its segments may be used again.
    log_released LogReleased {
        /// The first byte that is still needed.
        lsn: u64,
    }
    /// A writer waits for a free memtable; others wait behind it.
    stall_begun StallBegun {
        /// Memtables that wait for their flush.
        memtables_waiting: u64,
    }
    /// That writer goes on, or gave up.
    stall_ended StallEnded {
        /// How long it waited.
        duration: Duration,
    }
    /// Writers are held back more, or less, by a class.
    pace_changed PaceChanged {
        /// From now on.
        pace: Pace,
        /// What a written byte costs now.
        nanos_per_byte: f64,
    }
    /// Background work failed for the first time since it last succeeded. It goes on trying.
    background_failed BackgroundFailed {
        /// Which.
        job: Job,
        /// Why.
        error: Error,
    }
    /// Background work that had failed has succeeded.
    background_recovered BackgroundRecovered {
        /// Which.
        job: Job,
    }
    /// The disk is full, and writes are refused until there is space.
    disk_full DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    }
    /// There is space again, and writes are taken.
    disk_has_space DiskHasSpace {
        /// Of the file system, in bytes, about.
        free_bytes: u64,
    }
    /// Log or manifest failed: no write is taken until the database is opened again.
    poisoned Poisoned {
        /// The first failure.
        error: Error,
    }
    /// The listener was too slow: so many events were dropped since the one before this.
    events_missed EventsMissed {
        /// How many.
        count: u64,
    }
}

impl fmt::Debug for dyn EventListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventListener")
    }
}

//! Treering's engine: an embedded, crash-safe key-value store for Linux. A log-structured merge tree on io_uring.
//!
//! ```
//! use treering_lsm::{Db, Options, ReadOptions};
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path();
//!
//! let db = Db::open(path, Options::default())?;
//! db.put(b"tree/oak", b"600 years")?;
//! db.put(b"tree/yew", b"2000 years")?;
//! assert_eq!(db.get(b"tree/oak")?.as_deref(), Some(&b"600 years"[..]));
//! for entry in db.default_keyspace().prefix(b"tree/", &ReadOptions::default())? {
//!     let (key, value) = entry?;
//!     println!("{} = {}", key.escape_ascii(), value.escape_ascii());
//! }
//! db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is here
//!
//! | want | see |
//! | --- | --- |
//! | open (to write, or read-only), close, make and drop keyspaces | [`Db`], [`Options`], [`KeyspaceOptions`] |
//! | put, get, delete, delete a range | [`Db`] for the default keyspace, [`Keyspace`] for any |
//! | add to a value without reading it | [`Keyspace::merge`], [`MergeOperator`], [`Counter`] |
//! | several writes or none | [`WriteBatch`], [`Db::write`]; [`Db::indexed_batch`] reads its own writes |
//! | sorted reads, both ways | [`Cursor`], [`Keyspace::range`], [`Keyspace::prefix`] |
//! | many keys at once | [`Keyspace::multi_get`], [`Keyspace::multi_get_async`] |
//! | read, decide, write | [`Db::transaction`]: optimistic, snapshot isolation or serializable |
//! | how large a range is | [`Keyspace::estimate`] |
//! | entries that go by themselves | [`KeyspaceOptions::ttl`], [`CompactionFilter`] |
//! | ranges that are whole tables | [`Keyspace::set_guard_keys`] |
//! | a stable view | [`Snapshot`] |
//! | a copy that costs nothing | [`Db::checkpoint`] |
//! | following what is written | [`Db::changes`], [`ChangeFeed`] |
//! | a range as files, files as a range | [`Keyspace::export`], [`Keyspace::ingest`], [`SortedFileWriter`] |
//! | what `Ok` means | [`Durability`] |
//! | what it is doing | [`Db::stats`] and [`Keyspace::shape`], whose `Display` is made for people |
//! | how long operations take | [`Options::histograms`], [`Db::histograms`] |
//! | what one operation did | [`Db::measure`] |
//! | whether it is well | [`Db::health`] |
//! | being told of flushes, compactions, stalls, failures | [`EventListener`] |
//! | tests without files, time or threads | [`Environment`], [`io::sim::SimDisk`] |
//!
//! # Threads
//!
//! All handles are `Send + Sync` and cheap to clone. Writers are serialised by one short critical section; readers take no
//! lock. A [`Cursor`] belongs to one thread at a time.
//!
//! # Memory
//!
//! [`Options::memory_limit`] bounds memtables, block cache, filters, indexes and compaction buffers together. What a caller
//! pins (cursors, [`PinnedSlice`]s, open iterators' blocks) comes on top.
//!
//! # Limits
//!
//! In [`limits`]: keys of 1 byte to 64 KiB, values to 64 MiB, batches to 1 GiB.
//!
//! # Modules
//!
//! The names re-exported here are the interface. The modules are public so that tools and tests can read
//! the formats and simulate disks; they may change with any release.

pub mod base;
pub mod db;
pub mod file;
pub mod format;
pub mod io;
pub mod job;
pub mod mem;
pub mod version;

pub use base::compaction_filter::{CompactionFilter, FilterEntry, FilterVerdict};
pub use base::error::{Error, Result};
pub use base::histogram::Latency;
pub use base::key::KeyspaceId;
pub use base::limits;
pub use base::merge::{Append, Counter, MergeOperator, SetUnion};
pub use base::options::{
    Compression, Durability, FilterPolicy, IoChoice, KeyspaceOptions, Options,
};
pub use base::perf::PerfContext;
pub use base::slice::PinnedSlice;
pub use db::*;

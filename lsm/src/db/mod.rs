//! Floor 7: the database as its user sees it.

mod background;
mod batch;
mod block_reads;
mod change_feed;
mod change_log;
mod checkpoint;
mod commit;
mod conflict;
mod cursor;
mod database;
mod drop_keyspace;
mod engine;
mod environment;
mod estimate;
mod events;
mod expiry;
mod export;
mod gather;
mod get_future;
mod health;
mod health_report;
mod histograms;
mod indexed_batch;
mod ingest;
mod keyspace;
mod large_batch;
mod level_shape;
mod listener;
#[cfg(all(test, loom))]
mod loom_models;
mod manual;
mod open;
mod overlay;
mod reactor;
mod read;
mod replay;
mod schedule;
mod snapshot;
mod sorted_file;
mod spans;
mod stats;
mod strays;
mod transaction;

pub use batch::WriteBatch;
pub use change_feed::{Change, ChangeFeed, ChangeSet};
pub use cursor::{Cursor, Range};
pub use database::Db;
pub use environment::{Background, Environment};
pub use estimate::Estimate;
pub use get_future::{GetFuture, MultiGetFuture};
pub use health_report::{Degradation, HealthReport, HealthState};
pub use histograms::Latencies;
pub use indexed_batch::IndexedBatch;
pub use ingest::IngestOptions;
pub use keyspace::{Keyspace, ReadOptions, WriteOptions};
pub use level_shape::{LevelShape, ShapeLevel};
pub use listener::{
    BackgroundFailed, BackgroundRecovered, Closed, CompactionBegun, CompactionEnded,
    CompactionReason, DiskFull, DiskHasSpace, EventListener, EventTable, EventsMissed, FlushBegun,
    FlushEnded, Ingested, Job, LogReleased, LogSegmentStarted, Opened, Pace, PaceChanged, Poisoned,
    StallBegun, StallEnded, TableCreated, TableDeleted, WAITING_MAX,
};
pub use overlay::OverlayRange;
pub use read::Place;
pub use snapshot::Snapshot;
pub use sorted_file::{SortedFile, SortedFileWriter};
pub use stats::{KeyspaceStats, LevelStats, Stats};
pub use transaction::{Isolation, Transaction};

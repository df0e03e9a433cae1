//! What a run prints and writes: RocksDB's lines on the screen, report.csv, the JSON document.

pub(crate) mod csv;
pub(crate) mod engine_stats;
pub(crate) mod header;
pub(crate) mod histogram;
pub(crate) mod json;
pub(crate) mod local_time;
pub(crate) mod memory;
pub(crate) mod notes;
pub(crate) mod repeats;
pub(crate) mod result;
pub(crate) mod thread_stats;

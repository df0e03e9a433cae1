//! Floor 0: the words that every other floor speaks. Nothing here does I/O or starts a thread of its own.

pub mod checksum;
pub mod clock;
pub mod coding;
pub mod compaction_filter;
pub mod cursor;
pub mod error;
pub mod guard_keys;
pub mod hash;
pub mod histogram;
pub mod key;
pub mod limits;
pub mod merge;
pub mod options;
pub mod perf;
pub mod planted;
pub(crate) mod prefetch;
pub mod random;
pub mod range_deletes;
pub mod slice;
pub mod sync;

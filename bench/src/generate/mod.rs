//! What RocksDB's db_bench would write: keys, values and the order of both, for a given seed.
//!
//! Everything here is a pure function of flags, seed and thread number, so that `verify` can replay a run.

pub(crate) mod key;
pub(crate) mod mersenne;
pub(crate) mod mixgraph;
pub(crate) mod shuffle;
pub(crate) mod stream;
pub(crate) mod value;

//! Floor 5: which files make up a keyspace, and the merged view over them.

pub mod merge;
pub mod visible;

//! Floor 5: which files make up a keyspace, and the merged view over them.

pub mod deleted;
pub mod level;
pub mod level_cursor;
pub mod merge;
pub mod seek;
pub mod set;
pub mod shape;
pub mod source;
pub mod table;
pub mod view;
pub mod visible;

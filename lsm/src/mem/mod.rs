//! Floor 3: what is held in memory: the memtable and its arena, the block cache, the memory budget.

pub mod arena;
pub mod budget;
pub mod cache;
mod entry;
pub mod generation;
mod key_filter;
mod leaf;
#[cfg(all(test, loom))]
mod loom_models;
pub mod memtable;
pub mod memtable_cursor;
#[cfg(test)]
mod memtable_tests;
pub(crate) mod prefix;
mod reindex;
mod skiplist;
mod tower;

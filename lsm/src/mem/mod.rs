//! Floor 3: what is held in memory: the memtable and its arena, the block cache, the memory budget.

pub mod arena;
pub mod budget;
pub mod cache;
pub mod memtable;
pub mod skiplist;

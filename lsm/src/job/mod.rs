//! Floor 6: background work. What to do is decided by pure functions; one thin place each does it.

pub mod compact;
pub mod counters;
pub mod filtering;
pub mod flush;
pub mod operands;
pub mod output;
pub mod pace;
pub mod pick;
pub mod place;
pub mod pool;
pub mod retain;
pub mod rewrite;

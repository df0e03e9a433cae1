//! Floor 0: names for things, and what can go wrong.

pub mod error;
pub mod ids;
pub mod token;

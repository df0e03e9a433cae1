//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod history;
mod sizes;

pub use history::{COUNTER, Commit, History, Map, contents, make_commit, scan, work, write};
pub use sizes::{NAMES, open, other_options, tiny_options};

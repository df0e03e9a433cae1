//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod history;
mod keys;
mod sizes;

pub use history::{COUNTER, Commit, History, Map, contents, make_commit, scan, work, write};
pub use keys::Keys;
pub use sizes::{NAMES, draw_keyspace_options, open, other_options, tiny_options};

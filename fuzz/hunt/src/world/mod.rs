//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod examine;
mod files;
mod history;
mod keys;
mod sizes;
mod specimen;

pub use examine::{Allowed, Answer, Known, examine, interrogate, is_corruption_of};
pub use files::{Files, disk_of, files_of, first_changed};
pub use history::{COUNTER, Commit, History, Map, contents, make_commit, scan, work, write};
pub use keys::Keys;
pub use sizes::{DIRECTORY, NAMES, draw_keyspace_options, open, other_options, tiny_options};
pub use specimen::{Recipe, Rest, Specimen};

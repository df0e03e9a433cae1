//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod child;
mod history;
mod image;
mod sizes;
mod words;

pub use child::{CHILD, Child, End, begin, set_program};
pub use history::{COUNTER, Commit, History, Map, batch, contents, make_commit, scan, work, write};
pub use image::{Image, Plug, in_private_mounts};
pub use sizes::{NAMES, open, other_options, tiny_options};
pub use words::Words;

//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod child;
mod history;
mod image;
mod ledger;
mod load;
mod sizes;
mod strays;
mod words;

pub use child::{CHILD, Child, End, begin, set_program};
pub use history::{COUNTER, Commit, History, Map, batch, contents, make_commit, scan, work, write};
pub use image::{Image, Plug, in_private_mounts, outside_directory};
pub use ledger::{Expected, Ledger, Place, Plan};
pub use load::{Load, Trouble};
pub use sizes::{NAMES, open, other_options, tiny_options};
pub use strays::check_directory;
pub use words::Words;

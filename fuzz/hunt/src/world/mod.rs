//! Floor 1: databases small enough to be broken by the thousand, and what is known about their contents.

mod account;
mod change;
mod child;
mod consequence;
mod examine;
mod files;
mod history;
mod image;
mod keys;
mod ledger;
mod load;
mod play;
mod probe;
mod range;
mod reopened;
mod script;
mod sizes;
mod specimen;
mod strays;
mod strike;
mod words;
mod workload;

pub use account::{Account, MARKS, Outcome, Possible, Promise, mark};
pub use change::{Change, Shown, What, bounds, shown};
pub use child::{CHILD, Child, End, PLANTED, begin, set_program};
pub use consequence::{Consequence, Hit, Touched};
pub use examine::{Allowed, Answer, Known, examine, interrogate, is_corruption_of};
pub use files::{Files, disk_of, files_of, first_changed};
pub use history::{
    COUNTER, Commit, History, Map, batch, contents, make_commit, scan, scan_named, work, write,
};
pub use image::{Image, Plug, in_private_mounts, outside_directory};
pub use keys::Keys;
pub use ledger::{Expected, Ledger, Place, Plan};
pub use load::{Load, Trouble};
pub use play::Player;
pub use probe::{Probe, struck};
pub use reopened::check_reopened;
pub use script::{KEYSPACES, Scribe, Step};
pub use sizes::{DIRECTORY, NAMES, draw_keyspace_options, open, other_options, tiny_options};
pub use specimen::{Recipe, Rest, Specimen};
pub use strays::check_directory;
pub use strike::{Kind, Strike};
pub use words::Words;
pub use workload::{Prepared, VARIANTS, WORKLOADS, Workload, variant};

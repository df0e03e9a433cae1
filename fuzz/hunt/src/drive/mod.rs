//! Floor 0 of the program: what a row is, and how its cases are run, counted, stopped and reported.

mod allocations;
mod chance;
mod kept;
mod line;
mod panics;
mod row;
mod run;
mod tally;

pub use allocations::take_largest_allocation;
pub use chance::Chance;
pub use kept::{Kept, keep, kept};
pub use line::{Line, Verdict};
pub use panics::{caught, count as panic_count};
pub use row::{Case, Failure, Row};
pub use run::{Budget, Watch, run};
pub use tally::{Left, Tally};

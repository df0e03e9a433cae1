//! A row of the scoreboard: one promise, and a function that tries to break it.

use super::tally::Tally;

/// Why a case failed, for a person.
pub type Failure = String;

/// How a case ended, if it did not fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Case {
    /// It was checked.
    Done,
    /// There is no case of this number: the row is finite, and all of it below has been run.
    Exhausted,
    /// The machine cannot run this row (not root, no loop devices); the text of the row says what it takes.
    Impossible,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number on the scoreboard.
    pub number: u8,
    /// Its name, which the command line takes as well.
    pub name: &'static str,
    /// What must hold.
    pub promise: &'static str,
    /// What `n` counts.
    pub unit: &'static str,
    /// Cases that continuous integration runs.
    pub ci_cases: u64,
    /// Units of a nightly run.
    pub nightly: u64,
    /// Cases run side by side; false where a case needs the machine for itself.
    pub parallel: bool,
    /// Runs the case with this seed. Everything that it does follows from the seed; what it finds is its failure, and so is a
    /// panic anywhere in it.
    pub run: fn(seed: u64, tally: &mut Tally) -> Result<Case, Failure>,
}

//! What a row has counted.

use std::collections::BTreeMap;
use std::time::Duration;

/// How much of the run was left when a case began, for a case that is as long as it may be; `None` where there is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Left {
    /// Time.
    pub time: Option<Duration>,
    /// Units of the row.
    pub units: Option<u64>,
}

/// Counts of one case, or of all cases of a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// What was left when the case began.
    pub left: Left,
    /// Units checked: images, cuts, kills, runs, flips, operations, as the row says.
    pub n: u64,
    /// Faults that really happened, by kind.
    pub fired: BTreeMap<String, u64>,
    /// Whatever else is worth a number.
    pub notes: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts `count` units.
    pub fn checked(&mut self, count: u64) {
        self.n += count;
    }

    /// Counts `count` faults of a kind.
    pub fn fired(&mut self, kind: &str, count: u64) {
        if count > 0 {
            *self.fired.entry(kind.to_owned()).or_default() += count;
        }
    }

    /// Counts something else.
    pub fn note(&mut self, name: &str, count: u64) {
        if count > 0 {
            *self.notes.entry(name.to_owned()).or_default() += count;
        }
    }

    /// Keeps the largest value that was noted under a name beginning with `max_`.
    pub fn note_max(&mut self, name: &str, value: u64) {
        debug_assert!(name.starts_with("max_"), "merging takes the maximum of these only");
        let entry = self.notes.entry(name.to_owned()).or_default();
        *entry = (*entry).max(value);
    }

    /// All faults.
    pub fn fired_total(&self) -> u64 {
        self.fired.values().sum()
    }

    /// Adds another tally.
    pub fn add(&mut self, other: &Tally) {
        self.n += other.n;
        for (kind, count) in &other.fired {
            self.fired(kind, *count);
        }
        for (name, count) in &other.notes {
            match name.starts_with("max_") {
                true => self.note_max(name, *count),
                false => self.note(name, *count),
            }
        }
    }
}

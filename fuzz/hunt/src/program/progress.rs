//! How far a hunt is, for a person at a terminal; nothing where nobody watches.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;
use treering_hunt::drive::{Budget, Row, Watch};

pub(crate) struct Progress {
    bar: ProgressBar,
    unit: &'static str,
    /// Length of the bar is a time, not a count.
    by_time: bool,
}

impl Progress {
    pub(crate) fn new(row: &Row, budget: &Budget, quiet: bool) -> Progress {
        let length = budget.time.map(|time| time.as_secs()).or(budget.units);
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        if let Some(length) = length {
            bar.set_length(length);
        }
        let template = "{prefix} {wide_bar} {percent:>3}% {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(format!("row {} {}", row.number, row.name));
        Progress { bar, unit: row.unit, by_time: budget.time.is_some() }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn progress(&self, n: u64, bad: u64, elapsed: Duration) {
        self.bar.set_position(if self.by_time { elapsed.as_secs() } else { n });
        self.bar.set_message(format!("{n} {}, {bad} bad, {} s", self.unit, elapsed.as_secs()));
    }
}

//! The line that a row prints: for people, for `RELIABILITY.md`, and for programs.
//!
//! ```text
//! row=2 name=long-worlds n=5000 unit=images bad=0 fired=9120 cases=70 secs=61.3 seed=1 commit=c9f34e3 fired_cut=9120 ...
//! ```
//! Keys are words, values have no spaces. `complete=yes` says that the row is finite and was run to its end.

use super::row::Failure;
use super::tally::Tally;
use std::fmt;

/// What a run says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing was found, and faults did happen.
    Good,
    /// Something was found.
    Bad,
    /// Nothing went wrong on the way, so nothing is proved.
    Void,
    /// The machine cannot run it.
    Impossible,
}

/// The result of a run of a row.
#[derive(Clone, Debug)]
pub struct Line {
    /// Number of the row.
    pub row: u8,
    /// Its name.
    pub name: String,
    /// What `n` counts.
    pub unit: String,
    /// What it says.
    pub verdict: Verdict,
    /// Cases run.
    pub cases: u64,
    /// Cases that failed.
    pub bad: u64,
    /// True if the row is finite and all of it was run.
    pub complete: bool,
    /// Time that it took.
    pub seconds: f64,
    /// The first seed.
    pub seed: u64,
    /// Counts.
    pub tally: Tally,
    /// Seeds that failed, and why.
    pub failures: Vec<(u64, Failure)>,
}

impl Line {
    /// All fields as words.
    pub fn fields(&self) -> Vec<(String, String)> {
        let mut fields: Vec<(String, String)> = [
            ("row", self.row.to_string()),
            ("name", self.name.clone()),
            ("n", self.tally.n.to_string()),
            ("unit", self.unit.clone()),
            ("bad", self.bad.to_string()),
            ("fired", self.tally.fired_total().to_string()),
            ("cases", self.cases.to_string()),
            ("secs", format!("{:.1}", self.seconds)),
            ("seed", self.seed.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if self.complete {
            fields.push(("complete".to_owned(), "yes".to_owned()));
        }
        let word = |text: &str| text.replace([' ', '='], "_");
        let fired =
            self.tally.fired.iter().map(|(kind, count)| (format!("fired_{}", word(kind)), count));
        let notes = self.tally.notes.iter().map(|(name, count)| (word(name), count));
        fields.extend(fired.chain(notes).map(|(key, count)| (key, count.to_string())));
        fields
    }

    /// The same as one JSON object.
    pub fn json(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.escape_default());
        let value = |text: &str| match text.parse::<f64>() {
            Ok(_) => text.to_owned(),
            Err(_) => quoted(text),
        };
        let fields: Vec<String> = self
            .fields()
            .iter()
            .map(|(key, text)| format!("{}:{}", quoted(key), value(text)))
            .collect();
        format!("{{{}}}", fields.join(","))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.fields().iter().enumerate() {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{key}={value}")?;
        }
        Ok(())
    }
}

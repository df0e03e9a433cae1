//! Arguments of the program.

use clap::{Args, Parser, Subcommand};

/// Hunts for lost, invented and silently damaged data.
///
/// Each row of the scoreboard is a promise and a way to break it: `hunt list` shows them, `hunt ROW` runs one.
#[derive(Debug, Parser)]
#[command(
    name = "hunt",
    version,
    after_help = "hunt 2 --secs 60          row 2 for a minute\n\
hunt power-cut --n 2000   the row of that name until 2,000 cuts were made\n\
hunt 2 --seed 7 --n 1     the case with seed 7 alone: how a failure is replayed"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows the rows.
    List,
    /// Runs every seed that once failed.
    Kept,
    /// Runs the row that must fail; succeeds if it does.
    Canary,
    /// Wakes one planted bug after the other and says which row catches it.
    Planted(PlantedArguments),
    /// Keeps lines that are given on standard input, of `fuzz/run` for example, in fuzz/results.txt.
    Record,
    /// Writes RELIABILITY.md from the recorded lines.
    Report(ReportArguments),
    /// ROW [--seed S] [--secs N | --n N]: runs a row, by number or name; `hunt 2 --help` shows more.
    #[command(external_subcommand)]
    Row(Vec<String>),
}

#[derive(Args, Debug)]
pub(crate) struct PlantedArguments {
    /// This bug alone.
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,
    /// Seconds for each row that is tried.
    #[arg(long, default_value_t = 30)]
    pub(crate) secs: u64,
    /// Keep the lines in fuzz/results.txt.
    #[arg(long)]
    pub(crate) record: bool,
}

impl PlantedArguments {
    /// The same as words, for the program that carries the bugs.
    #[cfg(not(planted))]
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = vec!["--secs".to_owned(), self.secs.to_string()];
        if let Some(only) = &self.only {
            words.extend(["--only".to_owned(), only.clone()]);
        }
        if self.record {
            words.push("--record".to_owned());
        }
        words
    }
}

#[derive(Args, Debug)]
pub(crate) struct ReportArguments {
    /// Only say whether RELIABILITY.md is what the lines give.
    #[arg(long)]
    pub(crate) check: bool,
}

/// Runs one row and prints its line. Without --n and --secs it runs to its nightly figure.
#[derive(Debug, Parser)]
#[command(name = "hunt")]
struct RowLine {
    #[command(flatten)]
    arguments: RowArguments,
}

#[derive(Args, Debug)]
pub(crate) struct RowArguments {
    /// Number or name of the row.
    #[arg(value_name = "ROW")]
    pub(crate) row: String,
    /// The first seed; the following ones are run in order.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Stop once so many units (images, cuts, kills, ...) were checked; 1 runs one case.
    #[arg(long)]
    pub(crate) n: Option<u64>,
    /// Stop after so many seconds; a case that has begun is finished.
    #[arg(long)]
    pub(crate) secs: Option<u64>,
    /// Cases run side by side; default all cores.
    #[arg(long, default_value_t = 0)]
    pub(crate) jobs: usize,
    /// Keep the line in fuzz/results.txt, from which RELIABILITY.md is made.
    #[arg(long)]
    pub(crate) record: bool,
    /// The line as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl RowArguments {
    pub(crate) fn from_words(words: &[String]) -> Result<RowArguments, clap::Error> {
        let line = std::iter::once("hunt").chain(words.iter().map(String::as_str));
        RowLine::try_parse_from(line).map(|line| line.arguments)
    }
}

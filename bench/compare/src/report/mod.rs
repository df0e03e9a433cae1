//! The results as a document, and what is read off it.

pub(crate) mod chart;
pub(crate) mod markdown;
pub(crate) mod terminal;

use crate::machine::{self, Machine};
use crate::measure::Measurement;
use crate::row::{self, Row, Target};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// A figure of the long overwrite: what, whether it is reached, ours, RocksDB's, unit.
type TailFigure = (&'static str, bool, f64, f64, &'static str);

/// Everything that was measured, and where.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Document {
    pub(crate) machine: Machine,
    pub(crate) commit: String,
    pub(crate) date: String,
    pub(crate) command: String,
    pub(crate) rounds: usize,
    pub(crate) secs: f64,
    /// By row, then by engine, one for each round.
    pub(crate) results: BTreeMap<String, BTreeMap<String, Vec<Measurement>>>,
    /// By row, then by engine: why it did not come to an end.
    pub(crate) failures: BTreeMap<String, BTreeMap<String, String>>,
}

impl Document {
    pub(crate) fn load(path: &Path) -> Result<Document, String> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        write(path, &text)
    }

    /// Says where and when.
    pub(crate) fn begin(&mut self, directory: &Path, rounds: usize, secs: f64) {
        self.machine = Machine::look(directory);
        self.commit = machine::commit();
        self.date = machine::today();
        // Where the data was does not matter to whoever repeats it.
        let place = directory.display().to_string();
        let arguments: Vec<String> =
            std::env::args().skip(1).map(|argument| argument.replace(&place, "DIR")).collect();
        let command = format!(
            "cargo run --release --manifest-path bench/compare/Cargo.toml -- {}",
            arguments.join(" ")
        );
        // A run that goes on with the results of another is made by both.
        self.command = match self.command.is_empty() {
            true => command.trim_end_matches([' ', '-']).to_owned(),
            false => format!("{}\n{command}", self.command),
        };
        self.rounds = rounds;
        self.secs = secs;
    }

    pub(crate) fn has(&self, row: &str) -> bool {
        self.results.contains_key(row)
    }

    pub(crate) fn forget(&mut self, row: &str) {
        self.results.remove(row);
        self.failures.remove(row);
    }

    pub(crate) fn add(&mut self, row: &str, engine: &str, measurement: Measurement) {
        let row = self.results.entry(row.to_owned()).or_default();
        row.entry(engine.to_owned()).or_default().push(measurement);
    }

    pub(crate) fn fail(&mut self, row: &str, engine: &str, error: String) {
        let row = self.failures.entry(row.to_owned()).or_default();
        row.insert(engine.to_owned(), error);
    }

    /// The rounds of an engine in a row.
    pub(crate) fn rounds_of(&self, row: &str, engine: &str) -> &[Measurement] {
        self.results.get(row).and_then(|row| row.get(engine)).map_or(&[], Vec::as_slice)
    }

    /// Median, least and most of a figure over the rounds.
    pub(crate) fn spread(
        &self,
        row: &str,
        engine: &str,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Option<Spread> {
        let mut values: Vec<f64> = self.rounds_of(row, engine).iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values[middle - 1] + values[middle]) / 2.0,
        };
        Some(Spread { median, least, most })
    }

    pub(crate) fn throughput(&self, row: &str, engine: &str) -> Option<Spread> {
        self.spread(row, engine, Measurement::ops_per_sec)
    }

    /// Treering's median throughput as a multiple of a peer's.
    pub(crate) fn ratio(&self, row: &str, peer: &str) -> Option<f64> {
        let ours = self.throughput(row, "treering")?.median;
        Some(ours / self.throughput(row, peer)?.median)
    }

    /// Treering's median throughput as a share of what the device gives in another row.
    pub(crate) fn share(&self, row: &str, other: &str) -> Option<f64> {
        let ours = self.throughput(row, "treering")?.median;
        Some(ours / self.throughput(other, "device")?.median)
    }

    /// Whether a row reaches its target, with the figures; `None` if it cannot be said.
    pub(crate) fn verdict(&self, row: &Row) -> Option<(bool, String)> {
        match row.target {
            Target::None => None,
            Target::Ratio(least) => {
                let ratio = self.ratio(row.name, "rocksdb")?;
                Some((ratio >= least, format!("at least {least:.1}x")))
            }
            Target::ShareOf(other, least) => {
                let share = self.share(row.name, other)?;
                let text =
                    format!("at least {:.0} % of {other}: {:.0} %", least * 100.0, share * 100.0);
                Some((share >= least, text))
            }
            Target::Tail => {
                let tail = self.tail(row.name)?;
                let text = tail.iter().map(|(what, good, ours, peer, unit)| {
                    let mark = if *good { "" } else { " (not reached)" };
                    format!("{what} {ours:.2} against {peer:.2} {unit}{mark}")
                });
                let text: Vec<String> = text.collect();
                Some((tail.iter().all(|(_, good, ..)| *good), text.join("; ")))
            }
        }
    }

    /// The figures of the long overwrite: what, whether it is reached, ours, RocksDB's, unit.
    fn tail(&self, row: &str) -> Option<Vec<TailFigure>> {
        type Figure = fn(&Measurement) -> f64;
        let figures: [(&str, f64, Figure, &str); 5] = [
            ("p99.9", 1.0 / 3.0, |m| m.latency.p999 as f64 / 1e3, "us"),
            ("longest put", 1.0 / 3.0, |m| m.latency.max as f64 / 1e6, "ms"),
            ("write amplification", 1.0, write_amplification, ""),
            ("space amplification", 1.0, space_amplification, ""),
            ("peak RSS", 1.0, |m| m.rss_bytes as f64 / 1048576.0, "MiB"),
        ];
        let one = |&(what, share, figure, unit): &(&'static str, f64, Figure, &'static str)| {
            let ours = self.spread(row, "treering", figure)?.median;
            let peer = self.spread(row, "rocksdb", figure)?.median;
            Some((what, ours <= peer * share, ours, peer, unit))
        };
        figures.iter().map(one).collect()
    }
}

/// Bytes that the system wrote per byte of keys and values.
pub(crate) fn write_amplification(measurement: &Measurement) -> f64 {
    measurement.written_bytes as f64 / measurement.user_bytes.max(1) as f64
}

/// Bytes on the device per byte of live keys and values, before compression.
pub(crate) fn space_amplification(measurement: &Measurement) -> f64 {
    measurement.disk_bytes as f64 / measurement.live_bytes.max(1) as f64
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Rows of the document in their order.
pub(crate) fn rows_of(document: &Document) -> Vec<Row> {
    row::all().into_iter().filter(|row| document.has(row.name)).collect()
}

/// Three digits, with K or M.
pub(crate) fn short(value: f64) -> String {
    let (scaled, unit) = match value {
        v if v >= 1e6 => (v / 1e6, " M"),
        v if v >= 1e3 => (v / 1e3, " K"),
        v => (v, ""),
    };
    let digits = if scaled >= 100.0 { 0 } else { usize::from(scaled < 10.0) + 1 };
    format!("{scaled:.digits$}{unit}")
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(say)?;
    }
    std::fs::write(path, text).map_err(say)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::measure::Latency;

    pub(crate) fn canned() -> Document {
        let mut document = Document { rounds: 3, ..Document::default() };
        let run = |ops: u64, p999: u64| Measurement {
            ops,
            secs: 1.0,
            latency: Latency { p50: 1, p99: 2, p999, p9999: 4 * p999, max: 8 * p999, stride: 1 },
            cpu_secs: 1.0,
            written_bytes: 300,
            user_bytes: 100,
            disk_bytes: 110,
            live_bytes: 100,
            rss_bytes: 1 << 20,
            ..Measurement::default()
        };
        for ops in [300, 100, 200] {
            document.add("fillrandom", "treering", run(ops * 10, 100));
            document.add("fillrandom", "rocksdb", run(ops, 1000));
            document.add("overwrite_long", "treering", run(ops * 10, 1000));
            document.add("overwrite_long", "rocksdb", run(ops, 1000));
        }
        document.fail("fillrandom", "fjall", "it | fell over".to_owned());
        document
    }

    #[test]
    fn ratios_are_of_medians_and_verdicts_follow_the_targets() {
        let document = canned();
        let spread = document.throughput("fillrandom", "rocksdb").unwrap();
        assert_eq!(spread, Spread { median: 200.0, least: 100.0, most: 300.0 });
        assert_eq!(document.ratio("fillrandom", "rocksdb"), Some(10.0));
        let row = |name: &str| row::all().into_iter().find(|row| row.name == name).unwrap();
        assert!(document.verdict(&row("fillrandom")).unwrap().0);
        let (good, text) = document.verdict(&row("overwrite_long")).unwrap();
        assert!(!good && text.contains("p99.9 1.00 against 1.00 us (not reached)"), "{text}");
        assert!(document.verdict(&row("readseq")).is_none());
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown: Vec<String> =
            [1.234, 12.34, 999.4, 1234.0, 123_456.0, 1_234_567.0].map(short).to_vec();
        assert_eq!(shown, ["1.23", "12.3", "999", "1.23 K", "123 K", "1.23 M"]);
    }
}

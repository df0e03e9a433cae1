//! The result of a benchmark: the counts of its threads put together, and RocksDB's line for it.

use crate::report::thread_stats::{Latencies, Operation, ThreadStats};
use std::fmt::Write;
use std::time::Instant;

/// The merged counts of all threads that are part of the result.
pub(crate) struct Outcome {
    /// From the first start to the last finish.
    pub(crate) elapsed_seconds: f64,
    /// The sum over all threads.
    pub(crate) thread_seconds: f64,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) message: String,
    pub(crate) latencies: Vec<(Operation, Latencies)>,
    /// Write calls of all threads, background ones included.
    pub(crate) writes: u64,
}

impl Outcome {
    /// Merges the counts of the threads of one run.
    pub(crate) fn merge(threads: &[ThreadStats<'_>]) -> Outcome {
        let counted = || threads.iter().filter(|thread| !thread.excluded);
        let start = counted().map(|thread| thread.start).min();
        let finish = counted().map(|thread| thread.finish).max();
        let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs_f64();
        let mut latencies = Vec::new();
        for (i, kind) in Operation::ALL.into_iter().enumerate() {
            let mut all = counted().filter_map(|thread| thread.latencies[i].as_deref());
            if let Some(first) = all.next() {
                let mut merged = first.clone();
                all.for_each(|other| merged.merge(other));
                latencies.push((kind, merged));
            }
        }
        Outcome {
            elapsed_seconds: start.zip(finish).map_or(0.0, |(from, to)| seconds(from, to)),
            thread_seconds: counted().map(|thread| seconds(thread.start, thread.finish)).sum(),
            operations: counted().map(|thread| thread.done).sum(),
            bytes: counted().map(|thread| thread.bytes).sum(),
            // As RocksDB: of the messages, that of the first thread.
            message: counted()
                .map(|thread| thread.message.as_str())
                .find(|message| !message.is_empty())
                .unwrap_or_default()
                .to_owned(),
            latencies,
            writes: threads.iter().map(|thread| thread.writes).sum(),
        }
    }

    /// Operations, at least one: a benchmark such as compact counts none.
    fn operations_or_one(&self) -> u64 {
        self.operations.max(1)
    }

    /// Operations per second of wall time.
    pub(crate) fn operations_per_second(&self) -> f64 {
        self.operations_or_one() as f64 / self.elapsed_seconds.max(1e-9)
    }

    /// Megabytes per second of wall time, if bytes were counted.
    pub(crate) fn megabytes_per_second(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bytes as f64 / 1048576.0 / self.elapsed_seconds.max(1e-9))
    }

    /// Microseconds that an operation took, on average over all threads.
    pub(crate) fn micros_per_operation(&self) -> f64 {
        self.thread_seconds * 1e6 / self.operations_or_one() as f64
    }

    /// RocksDB's line, without its end; with `histogram` also the text of the latencies.
    pub(crate) fn text(&self, name: &str, histogram: bool) -> String {
        let mut text = format!(
            "{name:<12} : {:11.3} micros/op {} ops/sec {:.3} seconds {} operations;",
            self.micros_per_operation(),
            self.operations_per_second() as u64,
            self.elapsed_seconds,
            self.operations_or_one(),
        );
        // Writing to a string cannot fail.
        if let Some(rate) = self.megabytes_per_second() {
            let _ = write!(text, " {rate:6.1} MB/s");
        }
        if !self.message.is_empty() {
            let _ = write!(text, " {}", self.message);
        }
        if histogram {
            for (kind, latencies) in &self.latencies {
                let word = kind.word();
                let _ = write!(text, "\nMicroseconds per {word}:\n{}", latencies.histogram.text());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            elapsed_seconds: 0.030,
            thread_seconds: 0.060,
            operations: 20_000,
            bytes: 2_320_000,
            message: "(12545 of 20000 found)\n".to_owned(),
            latencies: Vec::new(),
            writes: 0,
        }
    }

    #[test]
    fn the_line_is_that_of_rocksdb() {
        assert_eq!(
            outcome().text("readrandom", false),
            "readrandom   :       3.000 micros/op 666666 ops/sec 0.030 seconds 20000 operations;   73.8 MB/s (12545 of 20000 found)\n"
        );
        let bare = Outcome { bytes: 0, message: String::new(), operations: 0, ..outcome() };
        assert_eq!(
            bare.text("seekrandomwhilewriting", false),
            "seekrandomwhilewriting :   60000.000 micros/op 33 ops/sec 0.030 seconds 1 operations;"
        );
    }

    #[test]
    fn awk_of_benchmark_sh_finds_its_columns() {
        // `if (NF >= 10 && $8 == "seconds")`, $5 operations per second, $11 megabytes per second.
        let line = outcome().text("readrandom", false);
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((fields[7], fields[4], fields[10]), ("seconds", "666666", "73.8"));
    }
}

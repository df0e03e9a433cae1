//! Average, median and confidence interval of repeated runs, as RocksDB prints them.

/// Throughput of the runs so far.
#[derive(Default)]
pub(crate) struct Repeats {
    operations: Vec<f64>,
    megabytes: Vec<f64>,
}

impl Repeats {
    /// Adds a run: operations per second, and megabytes per second if it counted bytes.
    pub(crate) fn add(&mut self, operations: f64, megabytes: Option<f64>) {
        self.operations.push(operations);
        self.megabytes.extend(megabytes);
    }

    fn has_bytes(&self) -> bool {
        self.megabytes.len() == self.operations.len()
    }

    /// The line after each run but the first.
    pub(crate) fn running(&self, name: &str) -> Option<String> {
        self.average_line(name, "AVG ")
    }

    fn average_line(&self, name: &str, word: &str) -> Option<String> {
        let runs = self.operations.len();
        if runs < 2 {
            return None;
        }
        let (average, interval) = average_and_confidence(&self.operations);
        let (average, interval) = (average as i64, interval as i64);
        let mut line = format!("{name} [{word}{runs} runs] : {average} (± {interval}) ops/sec");
        if self.has_bytes() {
            let (average, interval) = average_and_confidence(&self.megabytes);
            line += &format!("; {average:6.1} (± {interval:.1}) MB/sec");
        }
        Some(line)
    }

    /// The line after each run but the first with --confidence_interval_only.
    pub(crate) fn confidence(&self, name: &str) -> Option<String> {
        let runs = self.operations.len();
        if runs < 2 {
            return None;
        }
        let (average, interval) = average_and_confidence(&self.operations);
        let (average, interval) = (average as i64, interval as i64);
        let (low, high) = (average - interval, average + interval);
        let mut line = format!("{name} [CI95 {runs} runs] : ({low}, {high}) ops/sec");
        if self.has_bytes() {
            let (average, interval) = average_and_confidence(&self.megabytes);
            line += &format!("; ({:.1}, {:.1}) MB/sec", average - interval, average + interval);
        }
        Some(line)
    }

    /// The two lines at the end.
    pub(crate) fn last(&self, name: &str) -> Option<String> {
        let average = self.average_line(name, "AVG    ")?;
        let runs = self.operations.len();
        let mut line = format!(
            "{average}\n{name} [MEDIAN {runs} runs] : {} ops/sec",
            median(&self.operations) as i64
        );
        if self.has_bytes() {
            line += &format!("; {:6.1} MB/sec", median(&self.megabytes));
        }
        Some(line)
    }
}

/// The mean and the half width of its 95 % interval, for normally spread samples.
fn average_and_confidence(samples: &[f64]) -> (f64, f64) {
    let count = samples.len() as f64;
    let average = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|sample| (sample - average).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    (average, 1.959964 * deviation / count.sqrt())
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_those_of_rocksdb() {
        // Three fillseq runs of RocksDB 7.8.3.
        let mut repeats = Repeats::default();
        repeats.add(199_084.3, Some(22.0));
        assert_eq!(repeats.running("fillseq"), None);
        repeats.add(222_123.4, Some(24.6));
        assert_eq!(
            repeats.running("fillseq").unwrap(),
            "fillseq [AVG 2 runs] : 210603 (± 22577) ops/sec;   23.3 (± 2.5) MB/sec"
        );
        repeats.add(218_842.0, Some(24.2));
        assert_eq!(
            repeats.last("fillseq").unwrap(),
            "fillseq [AVG    3 runs] : 213349 (± 14102) ops/sec;   23.6 (± 1.6) MB/sec\n\
             fillseq [MEDIAN 3 runs] : 218842 ops/sec;   24.2 MB/sec"
        );
        assert_eq!(
            repeats.confidence("fillseq").unwrap(),
            "fillseq [CI95 3 runs] : (199247, 227451) ops/sec; (22.0, 25.2) MB/sec"
        );
        let mut bare = Repeats::default();
        bare.add(10.0, None);
        bare.add(20.0, None);
        assert_eq!(bare.running("x").unwrap(), "x [AVG 2 runs] : 15 (± 9) ops/sec");
    }
}

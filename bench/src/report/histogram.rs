//! Latencies in RocksDB's buckets, printed as RocksDB prints them.
//!
//! Bucket bounds are 1, 2, then each 1.5 times the one before, cut to two leading digits. Values are whole microseconds.
//! Owned by one thread while it runs, merged afterwards.

use std::fmt::Write;
use std::sync::LazyLock;

/// Values up to this have their bucket in a table; the search is for the rest.
const TABLE_LENGTH: usize = 1024;

struct Buckets {
    bounds: Vec<u64>,
    small: [u8; TABLE_LENGTH],
}

static BUCKETS: LazyLock<Buckets> = LazyLock::new(|| {
    let mut bounds = vec![1, 2];
    let mut bound = 2.0f64;
    loop {
        bound *= 1.5;
        // u64::MAX is not a float; the next one above it is 2^64.
        if bound > u64::MAX as f64 {
            break;
        }
        let (mut digits, mut power) = (bound as u64, 1);
        while digits / 10 > 10 {
            digits /= 10;
            power *= 10;
        }
        bounds.push(digits * power);
    }
    let mut small = [0; TABLE_LENGTH];
    for (value, bucket) in small.iter_mut().enumerate() {
        *bucket = bounds.partition_point(|bound| *bound < value as u64) as u8;
    }
    Buckets { bounds, small }
});

impl Buckets {
    #[inline]
    fn index(&self, value: u64) -> usize {
        match self.small.get(value as usize) {
            Some(bucket) => usize::from(*bucket),
            None => {
                let index = self.bounds.partition_point(|bound| *bound < value);
                index.min(self.bounds.len() - 1)
            }
        }
    }
}

/// A histogram of microseconds.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    min: u64,
    max: u64,
    count: u64,
    sum: u64,
    sum_of_squares: u64,
}

impl Histogram {
    /// An empty one.
    pub(crate) fn new() -> Histogram {
        let bounds = &BUCKETS.bounds;
        let min = bounds.last().copied().unwrap_or(u64::MAX);
        let counts = vec![0; bounds.len()];
        Histogram { counts, min, max: 0, count: 0, sum: 0, sum_of_squares: 0 }
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn add(&mut self, micros: u64) {
        self.counts[BUCKETS.index(micros)] += 1;
        self.min = self.min.min(micros);
        self.max = self.max.max(micros);
        self.count += 1;
        self.sum = self.sum.wrapping_add(micros);
        self.sum_of_squares = self.sum_of_squares.wrapping_add(micros.wrapping_mul(micros));
    }

    /// Adds another thread's values.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (count, added) in self.counts.iter_mut().zip(&other.counts) {
            *count += added;
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
        self.sum_of_squares = self.sum_of_squares.wrapping_add(other.sum_of_squares);
    }

    /// The value below which `percent` of all values lie, interpolated inside its bucket.
    pub(crate) fn percentile(&self, percent: f64) -> f64 {
        let threshold = self.count as f64 * (percent / 100.0);
        let mut below = 0u64;
        for (i, count) in self.counts.iter().enumerate() {
            let before = below;
            below += count;
            if below as f64 >= threshold {
                let left = if i == 0 { 0 } else { BUCKETS.bounds[i - 1] };
                let width = (BUCKETS.bounds[i] - left) as f64;
                let part =
                    if *count == 0 { 0.0 } else { (threshold - before as f64) / *count as f64 };
                let value = left as f64 + width * part;
                // Not clamp: of an empty histogram the least value is above the greatest.
                return value.max(self.min as f64).min(self.max as f64);
            }
        }
        self.max as f64
    }

    fn average(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    fn standard_deviation(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let (count, sum) = (self.count as f64, self.sum as f64);
        let variance = (self.sum_of_squares as f64 * count - sum * sum) / (count * count);
        variance.max(0.0).sqrt()
    }

    /// RocksDB's text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let (min, max) = if self.count == 0 { (0, 0) } else { (self.min, self.max) };
        let percentile = |percent| self.percentile(percent);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "Count: {} Average: {:.4}  StdDev: {:.2}\n\
             Min: {min}  Median: {:.4}  Max: {max}\n\
             Percentiles: P50: {:.2} P75: {:.2} P99: {:.2} P99.9: {:.2} P99.99: {:.2}\n\
             ------------------------------------------------------\n",
            self.count,
            self.average(),
            self.standard_deviation(),
            percentile(50.0),
            percentile(50.0),
            percentile(75.0),
            percentile(99.0),
            percentile(99.9),
            percentile(99.99),
        );
        let share = 100.0 / self.count as f64;
        let mut total = 0;
        for (i, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            total += count;
            let (open, left) = if i == 0 { ('[', 0) } else { ('(', BUCKETS.bounds[i - 1]) };
            let right = BUCKETS.bounds[i];
            let percent = share * *count as f64;
            let marks = "#".repeat((percent / 5.0 + 0.5) as usize);
            let cumulative = share * total as f64;
            let _ = writeln!(
                text,
                "{open} {left:7}, {right:7} ] {count:8} {percent:7.3}% {cumulative:7.3}% {marks}"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_of_rocksdb() {
        assert_eq!(BUCKETS.bounds.len(), 109);
        assert_eq!(
            BUCKETS.bounds[..18],
            [1, 2, 3, 4, 6, 10, 15, 22, 34, 51, 76, 110, 170, 250, 380, 580, 870, 1300]
        );
        for value in 0..5000 {
            let index = BUCKETS.index(value);
            assert!(value <= BUCKETS.bounds[index]);
            assert!(index == 0 || value > BUCKETS.bounds[index - 1]);
        }
        assert_eq!(BUCKETS.index(u64::MAX), 108);
    }

    #[test]
    fn the_text_is_that_of_rocksdb() {
        // Buckets and percentiles of a readrandom of RocksDB 7.8.3 with one value more; sums worked out by hand.
        let mut histogram = Histogram::new();
        let mut other = Histogram::new();
        for (value, count) in [(1, 15_750), (2, 2157), (3, 69), (4, 5), (6, 6), (10, 4), (13, 1)] {
            (0..count).for_each(|_| histogram.add(value));
        }
        for (value, count) in [(20, 2), (30, 5), (2272, 1)] {
            (0..count).for_each(|_| other.add(value));
        }
        other.add(0);
        histogram.merge(&other);
        let text = histogram.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Count: 18001 Average: 1.2689  StdDev: 16.94");
        assert_eq!(lines[1], "Min: 0  Median: 0.5714  Max: 2272");
        assert_eq!(
            lines[2],
            "Percentiles: P50: 0.57 P75: 0.86 P99: 1.96 P99.9: 4.33 P99.99: 32.08"
        );
        assert_eq!(lines[3], "------------------------------------------------------");
        assert_eq!(lines[4], "[       0,       1 ]    15751  87.501%  87.501% ##################");
        assert_eq!(lines[5], "(       1,       2 ]     2157  11.983%  99.483% ##");
        assert_eq!(lines[13], "(    1900,    2900 ]        1   0.006% 100.000% ");
        assert_eq!(lines.len(), 14);
    }

    #[test]
    fn an_empty_histogram_has_no_buckets_and_no_nonsense() {
        let text = Histogram::new().text();
        assert!(text.starts_with(
            "Count: 0 Average: 0.0000  StdDev: 0.00\nMin: 0  Median: 0.0000  Max: 0\n"
        ));
        assert_eq!(text.lines().count(), 4);
    }
}

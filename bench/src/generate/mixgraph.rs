//! The social-graph mix of RocksDB's FAST '20 paper: gets, puts and scans over hot and cold key ranges.
//!
//! Three models, as in RocksDB: the key ranges' hotness is a two-term exponential, the keys' hotness inside a range a
//! power law, value sizes and scan lengths generalised Pareto. All formulas and roundings are those of RocksDB.

use crate::generate::mersenne::Mersenne64;
use crate::generate::stream::ReadDraws;
use crate::generate::value::{ValuePlace, ValueStream};

/// The largest value that RocksDB's workload writes, whatever the flags say.
const VALUE_BYTES_MAX: i64 = 1 << 20;
const VALUE_BYTES_MIN: i64 = 10;
/// The operations are chosen out of this many shares.
const SHARE_COUNT: f64 = 1000.0;

/// The parameters of the mix, all from flags of the same names.
#[derive(Clone, Debug)]
pub(crate) struct MixOptions {
    pub num: u64,
    pub get_ratio: f64,
    pub put_ratio: f64,
    pub seek_ratio: f64,
    pub keyrange_dist: [f64; 4],
    pub keyrange_num: u64,
    pub key_dist: [f64; 2],
    /// theta, k, sigma
    pub value: [f64; 3],
    /// theta, k, sigma
    pub scan: [f64; 3],
    pub value_bytes_max: i64,
    pub scan_length_max: i64,
}

/// One operation.
#[derive(Debug, PartialEq)]
pub(crate) enum MixOperation {
    Get { number: u64 },
    Put { number: u64, value: ValuePlace },
    Seek { number: u64, scan_length: u64 },
}

/// The operations of one thread.
pub(crate) struct MixStream {
    draws: ReadDraws,
    pub(crate) values: ValueStream,
    options: MixOptions,
    /// Upper bounds of the shares of get, put and seek.
    shares: [u64; 3],
    ranges: Option<KeyRanges>,
}

impl MixStream {
    /// A stream for one thread.
    pub(crate) fn new(draws: ReadDraws, values: ValueStream, options: MixOptions) -> MixStream {
        let ratios = [options.get_ratio, options.put_ratio, options.seek_ratio];
        let total: f64 = ratios.iter().sum();
        let mut bound = 0;
        let shares = ratios.map(|ratio| {
            bound += (SHARE_COUNT * (ratio / total)).ceil() as u64;
            bound
        });
        let ranged = options.keyrange_dist.iter().any(|parameter| *parameter != 0.0);
        let ranges = ranged.then(|| KeyRanges::new(&options));
        MixStream { draws, values, options, shares, ranges }
    }

    /// The next operation.
    pub(crate) fn next(&mut self) -> MixOperation {
        self.draws.choose_database();
        let draw = self.draws.number();
        let unit = draw as f64 / self.options.num as f64;
        let number = self.key(draw, unit);
        let share = draw % self.shares[2];
        if share < self.shares[0] {
            MixOperation::Get { number }
        } else if share < self.shares[1] {
            let max = self.options.value_bytes_max.min(VALUE_BYTES_MAX);
            let size = match pareto(unit, self.options.value) {
                size if size < VALUE_BYTES_MIN => VALUE_BYTES_MIN,
                size if size > max => size % max,
                size => size,
            };
            MixOperation::Put { number, value: self.values.take(size as usize) }
        } else {
            let length = pareto(unit, self.options.scan) % self.options.scan_length_max;
            MixOperation::Seek { number, scan_length: length.max(0) as u64 }
        }
    }

    fn key(&self, draw: u64, unit: f64) -> u64 {
        let [a, b] = self.options.key_dist;
        if a == 0.0 || b == 0.0 {
            return draw;
        }
        match &self.ranges {
            Some(ranges) => ranges.key(draw, a, b),
            // RocksDB takes the draw as a signed number here: half of the keys are "negative" ones that no fill writes.
            // Its counts of found keys can only be met by doing the same.
            None => {
                let draw = Mersenne64::new(power(unit, a, b) as u64).next() as i64;
                (draw % self.options.num as i64) as u64
            }
        }
    }
}

fn pareto(unit: f64, [theta, k, sigma]: [f64; 3]) -> i64 {
    let value = if k == 0.0 {
        theta - sigma * unit.ln()
    } else {
        theta + sigma * (unit.powf(-k) - 1.0) / k
    };
    value.ceil() as i64
}

fn power(unit: f64, a: f64, b: f64) -> i64 {
    (unit / a).powf(1.0 / b).ceil() as i64
}

/// One range of keys: which draws lead to it.
#[derive(Clone, Copy)]
struct KeyRange {
    start: u64,
    width: u64,
}

struct KeyRanges {
    ranges: Vec<KeyRange>,
    keys_per_range: u64,
    draw_bound: u64,
}

impl KeyRanges {
    fn new(options: &MixOptions) -> KeyRanges {
        let count = options.keyrange_num.max(1);
        let [a, b, c, d] = options.keyrange_dist;
        let mut amplify = 0.0;
        let mut draw_bound = 0;
        let mut ranges = Vec::new();
        for position in (1..=count).rev() {
            let x = position as f64;
            let mut share = a * (b * x).exp() + c * (d * x).exp();
            if share < 1e-16 {
                share = 0.0;
            }
            if amplify == 0.0 && share > 0.0 {
                amplify = (1.0 / share).floor() + 1.0;
            }
            let width = (amplify * share).floor() as u64;
            ranges.push(KeyRange { start: 0, width });
            draw_bound += width;
        }
        // Hot and cold ranges are mixed; the seed depends on the distribution only, so every run mixes them alike.
        let mut random = Mersenne64::new(draw_bound);
        for i in 0..ranges.len() {
            let other = (random.next() % count) as usize;
            ranges.swap(i, other);
        }
        let mut start = 0;
        for range in &mut ranges {
            range.start = start;
            start += range.width;
        }
        let keys_per_range = (options.num / count).max(1);
        KeyRanges { ranges, keys_per_range, draw_bound: draw_bound.max(1) }
    }

    fn key(&self, draw: u64, a: f64, b: f64) -> u64 {
        let position = draw % self.draw_bound;
        let after = self.ranges.partition_point(|range| range.start <= position);
        let range = after.saturating_sub(1) as u64;
        let unit = (draw % self.keys_per_range) as f64 / self.keys_per_range as f64;
        let offset = Mersenne64::new(power(unit, a, b) as u64).next() % self.keys_per_range;
        self.keys_per_range * range + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::value::{ValueBuffer, ValueSize};

    fn options() -> MixOptions {
        MixOptions {
            num: 10_000,
            get_ratio: 0.83,
            put_ratio: 0.14,
            seek_ratio: 0.03,
            keyrange_dist: [14.18, -2.917, 0.0164, -0.08082],
            keyrange_num: 30,
            key_dist: [0.002312, 0.3467],
            value: [0.0, 0.2615, 25.45],
            scan: [0.0, 2.517, 14.236],
            value_bytes_max: 1024,
            scan_length_max: 10_000,
        }
    }

    fn counts(options: MixOptions, operations: usize) -> [u64; 3] {
        let values = ValueStream::new(ValueBuffer::new(0.5, 1 << 20), ValueSize::Fixed(100), 0);
        let draws = ReadDraws::new(Mersenne64::new(1235), options.num, 0.0);
        let num = options.num;
        let mut stream = MixStream::new(draws, values, options);
        let mut counts = [0; 3];
        for _ in 0..operations {
            let (kind, number) = match stream.next() {
                MixOperation::Get { number } => (0, number),
                MixOperation::Put { number, value } => {
                    assert!((10..=1024).contains(&value.length));
                    (1, number)
                }
                MixOperation::Seek { number, scan_length } => {
                    assert!(scan_length < 10_000);
                    (2, number)
                }
            };
            assert!(number < num);
            counts[kind] += 1;
        }
        counts
    }

    #[test]
    fn the_shares_of_the_operations_are_those_asked_for() {
        let [gets, puts, seeks] = counts(options(), 20_000);
        assert!((16_300..16_900).contains(&gets), "{gets}");
        assert!((2600..3000).contains(&puts), "{puts}");
        assert!((500..700).contains(&seeks), "{seeks}");
        let even = MixOptions { key_dist: [0.0, 0.0], ..options() };
        assert_eq!(counts(even, 20_000), [gets, puts, seeks], "keys do not change the shares");
    }
}

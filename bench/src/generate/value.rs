//! Values: slices of one buffer that compresses as asked, taken one after the other.
//!
//! The buffer is made of pieces of 100 bytes; of each piece the part `compression_ratio` is random printable text and the
//! rest repeats it. The text comes from the Park-Miller generator with seed 301, so the buffer is the same in every run.
//! A value costs no generation, only the next position; at the end of the buffer the position starts again.

use crate::generate::mersenne::Mersenne64;
use std::sync::Arc;

const PIECE_BYTES: usize = 100;
const BUFFER_BYTES_MIN: usize = 1 << 20;

/// The minimal standard generator of Park and Miller: multiply by 16807 modulo 2^31 - 1.
struct ParkMiller(u32);

impl ParkMiller {
    fn next(&mut self) -> u32 {
        self.0 = (u64::from(self.0) * 16807 % 0x7fff_ffff) as u32;
        self.0
    }
}

/// How long values are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ValueSize {
    /// Always the same.
    Fixed(usize),
    /// Evenly between both bounds, inclusive.
    Uniform(usize, usize),
    /// Around the middle; 99.7 % between the bounds, the rest cut to them.
    Normal(usize, usize),
}

impl ValueSize {
    /// Longest possible value.
    pub(crate) fn max(self) -> usize {
        match self {
            ValueSize::Fixed(size) => size,
            ValueSize::Uniform(_, max) | ValueSize::Normal(_, max) => max,
        }
    }
}

/// The shared text that values are slices of.
pub(crate) struct ValueBuffer(Vec<u8>);

impl ValueBuffer {
    /// A buffer for values of up to `value_bytes_max` bytes.
    pub(crate) fn new(compression_ratio: f64, value_bytes_max: usize) -> Arc<ValueBuffer> {
        let mut random = ParkMiller(301);
        let raw_bytes = ((PIECE_BYTES as f64 * compression_ratio) as usize).max(1);
        let mut text = Vec::with_capacity(BUFFER_BYTES_MIN.max(value_bytes_max) + raw_bytes);
        while text.len() < BUFFER_BYTES_MIN.max(value_bytes_max) {
            let raw: Vec<u8> = (0..raw_bytes).map(|_| b' ' + (random.next() % 95) as u8).collect();
            text.extend(raw.iter().cycle().take(PIECE_BYTES));
        }
        Arc::new(ValueBuffer(text))
    }

    /// The bytes at a place.
    #[inline]
    pub(crate) fn at(&self, place: ValuePlace) -> &[u8] {
        &self.0[place.position..place.position + place.length]
    }

    /// The whole text.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Where in the buffer a value stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ValuePlace {
    pub(crate) position: usize,
    pub(crate) length: usize,
}

/// The values of one thread of one benchmark.
pub(crate) struct ValueStream {
    buffer: Arc<ValueBuffer>,
    size: ValueSize,
    position: usize,
    /// Draws the lengths. RocksDB takes these from the system's random device; here they repeat with the seed.
    random: Mersenne64,
}

impl ValueStream {
    /// A stream that starts at the front of the buffer.
    pub(crate) fn new(buffer: Arc<ValueBuffer>, size: ValueSize, seed: u64) -> ValueStream {
        ValueStream { buffer, size, position: 0, random: Mersenne64::new(!seed) }
    }

    /// The next value.
    #[inline]
    pub(crate) fn next(&mut self) -> ValuePlace {
        let length = match self.size {
            ValueSize::Fixed(size) => size,
            ValueSize::Uniform(min, max) => {
                min + (self.random.next() % (max - min + 1) as u64) as usize
            }
            ValueSize::Normal(min, max) => self.normal(min, max),
        };
        self.take(length)
    }

    /// The next value, of a given length not above the one that the buffer was made for.
    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> ValuePlace {
        if self.position + length > self.buffer.0.len() {
            self.position = 0;
        }
        let position = self.position;
        self.position += length;
        ValuePlace { position, length }
    }

    /// The bytes at a place.
    #[inline]
    pub(crate) fn at(&self, place: ValuePlace) -> &[u8] {
        self.buffer.at(place)
    }

    fn normal(&mut self, min: usize, max: usize) -> usize {
        let unit = |word: u64| ((word >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let radius = (-2.0 * unit(self.random.next()).ln()).sqrt();
        let angle = std::f64::consts::TAU * unit(self.random.next());
        let mean = (min + max) as f64 / 2.0;
        let deviation = (max - min) as f64 / 6.0;
        ((mean + deviation * radius * angle.cos()) as usize).clamp(min, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_each_other_and_start_again_at_the_end() {
        let buffer = ValueBuffer::new(0.5, 100);
        assert_eq!(buffer.bytes().len(), 1_048_600);
        let mut values = ValueStream::new(Arc::clone(&buffer), ValueSize::Fixed(100), 1);
        let places: Vec<ValuePlace> = (0..10_487).map(|_| values.next()).collect();
        assert_eq!(places[1].position, 100);
        assert_eq!(places[10_485].position, 1_048_500);
        assert_eq!(places[10_486].position, 0);
        let first = values.at(places[0]);
        assert_eq!(first[..50], first[50..], "half of a piece repeats the other half");
    }

    #[test]
    fn drawn_lengths_stay_in_their_bounds_and_repeat() {
        let buffer = ValueBuffer::new(0.5, 500);
        for size in [ValueSize::Uniform(10, 500), ValueSize::Normal(10, 500)] {
            let lengths = |seed| {
                let mut values = ValueStream::new(Arc::clone(&buffer), size, seed);
                (0..5000).map(|_| values.next().length).collect::<Vec<_>>()
            };
            let drawn = lengths(7);
            assert!(drawn.iter().all(|length| (10..=500).contains(length)));
            let mean = drawn.iter().sum::<usize>() as f64 / 5000.0;
            assert!((230.0..280.0).contains(&mean), "{mean}");
            assert_eq!(drawn, lengths(7));
            assert_ne!(drawn, lengths(8));
        }
    }
}

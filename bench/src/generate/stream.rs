//! What one thread of a writing benchmark does, step by step, as pure data.
//!
//! The workloads execute these streams and `verify` replays them, so both agree by construction. The order of draws is
//! RocksDB's (checked against 7.8.3): every batch or single operation first burns one draw for the choice of a database,
//! then each key takes one; sequential writes draw nothing.

use crate::generate::mersenne::Mersenne64;
use crate::generate::value::{ValuePlace, ValueStream};
use std::sync::Arc;

/// The order of the keys of a fill.
pub(crate) enum KeyOrder {
    /// 0, 1, 2, ...
    Sequential,
    /// Drawn below the bound, with repetition.
    Random(u64),
    /// A permutation, each key once.
    Unique(Arc<Vec<u32>>),
}

/// Writes of the fill benchmarks, overwrite, updaterandom and the background writer.
pub(crate) struct WriteStream {
    random: Mersenne64,
    order: KeyOrder,
    pub(crate) values: ValueStream,
    entries_per_batch: u64,
    written: u64,
}

impl WriteStream {
    /// A stream for one thread.
    pub(crate) fn new(
        random: Mersenne64,
        order: KeyOrder,
        values: ValueStream,
        entries_per_batch: u64,
    ) -> WriteStream {
        WriteStream { random, order, values, entries_per_batch, written: 0 }
    }

    /// The next key number and the place of its value.
    #[inline]
    pub(crate) fn next(&mut self) -> (u64, ValuePlace) {
        let first_of_batch = self.written.is_multiple_of(self.entries_per_batch);
        let number = match &self.order {
            KeyOrder::Sequential => self.written,
            KeyOrder::Random(bound) => {
                if first_of_batch {
                    self.random.next();
                }
                self.random.next() % bound
            }
            KeyOrder::Unique(numbers) => u64::from(numbers[self.written as usize]),
        };
        self.written += 1;
        (number, self.values.next())
    }
}

/// Key numbers of deleteseq and deleterandom.
pub(crate) struct DeleteStream {
    random: Mersenne64,
    /// `None` deletes in order.
    bound: Option<u64>,
    entries_per_batch: u64,
    deleted: u64,
}

impl DeleteStream {
    /// A stream for one thread.
    pub(crate) fn new(
        random: Mersenne64,
        bound: Option<u64>,
        entries_per_batch: u64,
    ) -> DeleteStream {
        DeleteStream { random, bound, entries_per_batch, deleted: 0 }
    }

    /// The next key number.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        let first_of_batch = self.deleted.is_multiple_of(self.entries_per_batch);
        let in_order = self.deleted;
        self.deleted += 1;
        match self.bound {
            None => in_order,
            Some(bound) => {
                if first_of_batch {
                    self.random.next();
                }
                self.random.next() % bound
            }
        }
    }
}

/// Operations of readrandomwriterandom: `read_percent` reads, then the writes, in rounds of one hundred.
pub(crate) struct ReadWriteStream {
    random: Mersenne64,
    bound: u64,
    pub(crate) values: ValueStream,
    read_percent: u64,
    done: u64,
}

impl ReadWriteStream {
    /// A stream for one thread.
    pub(crate) fn new(
        random: Mersenne64,
        bound: u64,
        values: ValueStream,
        read_percent: u64,
    ) -> ReadWriteStream {
        ReadWriteStream { random, bound, values, read_percent, done: 0 }
    }

    /// The next key number, with the place of a value if it is a write.
    #[inline]
    pub(crate) fn next(&mut self) -> (u64, Option<ValuePlace>) {
        self.random.next();
        let number = self.random.next() % self.bound;
        let is_read = self.done % 100 < self.read_percent;
        self.done += 1;
        (number, if is_read { None } else { Some(self.values.next()) })
    }
}

/// Draws of the reading benchmarks.
pub(crate) struct ReadDraws {
    random: Mersenne64,
    num: u64,
    /// `--read_random_exp_range`: 0 is even, larger prefers few keys.
    exp_range: f64,
}

impl ReadDraws {
    /// The draws of one thread.
    pub(crate) fn new(random: Mersenne64, num: u64, exp_range: f64) -> ReadDraws {
        ReadDraws { random, num, exp_range }
    }

    /// Burns the draw that chooses the database.
    #[inline]
    pub(crate) fn choose_database(&mut self) {
        self.random.next();
    }

    /// A key number, evenly drawn.
    #[inline]
    pub(crate) fn even(&mut self) -> u64 {
        self.random.next() % self.num
    }

    /// A key number, drawn as the flags say.
    #[inline]
    pub(crate) fn number(&mut self) -> u64 {
        let draw = self.random.next();
        if self.exp_range == 0.0 { draw % self.num } else { self.skewed(draw) }
    }

    /// RocksDB computes this in 80-bit floats; the 64-bit ones here pick a neighbouring key now and then.
    fn skewed(&self, draw: u64) -> u64 {
        const BIG: u64 = 1 << 62;
        let order = -((draw % BIG) as f64) / BIG as f64 * self.exp_range;
        let rank = (order.exp() * self.num as f64) as u64;
        rank.wrapping_mul(0x5bd1_e995) % self.num
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::shuffle::shuffled;
    use crate::generate::value::{ValueBuffer, ValueSize};
    use std::collections::BTreeMap;

    fn values() -> ValueStream {
        ValueStream::new(ValueBuffer::new(0.5, 100), ValueSize::Fixed(100), 0)
    }

    /// Key numbers and the first four bytes of their values after `count` writes.
    fn contents(mut stream: WriteStream, count: usize) -> BTreeMap<u64, [u8; 4]> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (number, place) = stream.next();
            let value = stream.values.at(place);
            entries.insert(number, [value[0], value[1], value[2], value[3]]);
        }
        entries
    }

    #[test]
    fn fillrandom_never_differs_from_rocksdb() {
        // `db_bench --benchmarks=fillrandom --num=100 --writes=5 --seed=7` of RocksDB 7.8.3, read with ldb.
        let written = BTreeMap::from([
            (0x0e, *b"L*bQ"),
            (0x45, *b"axew"),
            (0x46, *b"bO{\\"),
            (0x56, *b"~@~T"),
        ]);
        let random = Mersenne64::new(7 + 1);
        assert_eq!(
            contents(WriteStream::new(random, KeyOrder::Random(100), values(), 1), 5),
            written
        );
    }

    #[test]
    fn filluniquerandom_never_differs_from_rocksdb() {
        // As above with filluniquerandom, --writes=6, below and above the change of method at 65,536 keys.
        for (num, numbers) in [
            (100, [0x33, 0x34, 0x37, 0x4c, 0x57, 0x5d]),
            (65_535, [0xc95, 0x1802, 0x2a00, 0x614b, 0x897e, 0xf8fd]),
            (65_536, [0x54d9, 0x93bb, 0x9e52, 0xb591, 0xcf09, 0xd8de]),
            (100_000, [0x93bb, 0xb591, 0xd8de, 0x10c81, 0x12fbd, 0x15968]),
        ] {
            let order = KeyOrder::Unique(Arc::new(shuffled(num, 7)));
            let stream = WriteStream::new(Mersenne64::new(8), order, values(), 1);
            let written: Vec<u64> = contents(stream, 6).into_keys().collect();
            assert_eq!(written, numbers, "{num}");
        }
    }

    #[test]
    fn a_batch_burns_one_draw_and_not_one_per_key() {
        let mut single = WriteStream::new(Mersenne64::new(8), KeyOrder::Random(1000), values(), 1);
        let mut batched = WriteStream::new(Mersenne64::new(8), KeyOrder::Random(1000), values(), 3);
        let mut random = Mersenne64::new(8);
        let draws: Vec<u64> = (0..8).map(|_| random.next() % 1000).collect();
        assert_eq!([single.next().0, single.next().0], [draws[1], draws[3]]);
        let numbers: Vec<u64> = (0..6).map(|_| batched.next().0).collect();
        assert_eq!(numbers, [draws[1], draws[2], draws[3], draws[5], draws[6], draws[7]]);
    }

    #[test]
    fn reads_and_writes_come_in_rounds_of_a_hundred() {
        let mut stream = ReadWriteStream::new(Mersenne64::new(1), 1000, values(), 90);
        let writes: Vec<bool> = (0..200).map(|_| stream.next().1.is_some()).collect();
        assert!(writes.iter().enumerate().all(|(i, is_write)| *is_write == (i % 100 >= 90)));
    }
}

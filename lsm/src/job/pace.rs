//! Smooth back-pressure: how long a written byte should take, given how far compaction is behind.
//!
//! Up to the soft limits a write costs nothing extra. Above them each byte owes a delay that grows with the square of how
//! far the debt is into the range between soft and hard limit, so writers settle at the speed of compaction instead of
//! falling from full speed to a stop. There is no hard stop here: the only one is memory (no memtable free).
//!
//! Two things move the price beside that. While readers are about, the soft limit of L0 is nearer, for each of its tables costs every read
//! a filter and its merging takes the readers' cores. And with the last memtable in use, a byte costs what it takes to flush
//! one: writers who go on at full speed would fill it and then stand still until the flush is done.
//!
//! Owed time is collected and slept off in pieces of at least [`PIECE`], outside all locks.

use crate::base::options::MEMTABLE_COUNT_MAX;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Shortest sleep that is worth a system call.
pub const PIECE: Duration = Duration::from_millis(1);
/// Longest sleep of one write.
pub const SLEEP_MAX: Duration = Duration::from_millis(5);
/// Delay per byte at the hard limit: 1 MiB/s.
const NANOS_PER_BYTE_MAX: f64 = 1000.0;

/// How far compaction is behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// L0 tables of the fullest keyspace, beyond which reads suffer.
    pub level0_tables: u64,
    /// Its trigger.
    pub level0_trigger: u64,
    /// Bytes that compaction has to move.
    pub debt_bytes: u64,
    /// Bytes of debt that are normal for the memtable and level sizes.
    pub debt_soft_bytes: u64,
    /// Whether somebody reads tables at present.
    pub readers_about: bool,
}

/// Nanoseconds that each written byte owes.
pub fn nanos_per_byte(backlog: &Backlog) -> f64 {
    let into = |value: f64, soft: f64, hard: f64| ((value - soft) / (hard - soft)).clamp(0.0, 1.0);
    let trigger = backlog.level0_trigger.max(1) as f64;
    let (soft, hard) = if backlog.readers_about { (1.5, 6.0) } else { (4.0, 12.0) };
    let tables = into(backlog.level0_tables as f64, trigger * soft, trigger * hard);
    let soft = backlog.debt_soft_bytes.max(1) as f64;
    let debt = into(backlog.debt_bytes as f64, soft, soft * 8.0);
    let pressure = tables.max(debt);
    pressure * pressure * NANOS_PER_BYTE_MAX
}

/// The current price of a byte, and who owes what.
#[derive(Debug, Default)]
pub struct Pacer {
    /// The price: the higher of the next two.
    picos_per_byte: AtomicU64,
    /// What compaction asks for.
    backlog_picos: AtomicU64,
    /// What it takes to flush a byte, and whether a memtable is left.
    flush_picos: AtomicU64,
    is_last_memtable: AtomicBool,
    owed_nanos: AtomicU64,
    slept_nanos: AtomicU64,
    sleeps: AtomicU64,
}

impl Pacer {
    /// Sets the price from the backlog; called after every change of a shape.
    pub fn update(&self, backlog: &Backlog) {
        self.backlog_picos.store((nanos_per_byte(backlog) * 1000.0) as u64, Ordering::Relaxed);
        self.set_price();
    }

    /// Says how many memtables wait for their flush.
    pub fn set_waiting_memtables(&self, waiting: u64) {
        self.is_last_memtable.store(waiting >= MEMTABLE_COUNT_MAX - 1, Ordering::Relaxed);
        self.set_price();
    }

    /// Says that `bytes` were flushed in `time`, and how many memtables still wait.
    pub fn flushed(&self, bytes: u64, time: Duration, waiting: u64) {
        let picos = time.as_nanos().saturating_mul(1000) / u128::from(bytes.max(1));
        let price_max = NANOS_PER_BYTE_MAX * 1000.0;
        self.flush_picos.store((picos as f64).min(price_max) as u64, Ordering::Relaxed);
        self.set_waiting_memtables(waiting);
    }

    fn set_price(&self) {
        let flush = match self.is_last_memtable.load(Ordering::Relaxed) {
            true => self.flush_picos.load(Ordering::Relaxed),
            false => 0,
        };
        let price = flush.max(self.backlog_picos.load(Ordering::Relaxed));
        self.picos_per_byte.store(price, Ordering::Relaxed);
    }

    /// Charges a write of `bytes`; returns what the caller should sleep now, if it has come to a piece.
    #[inline]
    pub fn charge(&self, bytes: u64) -> Option<Duration> {
        let price = self.picos_per_byte.load(Ordering::Relaxed);
        if price == 0 {
            return None;
        }
        self.charge_slow(bytes, price)
    }

    #[cold]
    fn charge_slow(&self, bytes: u64, price: u64) -> Option<Duration> {
        let owes = bytes.saturating_mul(price) / 1000;
        let total = self.owed_nanos.fetch_add(owes, Ordering::Relaxed).saturating_add(owes);
        if total < PIECE.as_nanos() as u64 {
            return None;
        }
        let taken = self.owed_nanos.swap(0, Ordering::Relaxed);
        let sleep = Duration::from_nanos(taken).min(SLEEP_MAX);
        self.slept_nanos.fetch_add(sleep.as_nanos() as u64, Ordering::Relaxed);
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        Some(sleep)
    }

    /// Nanoseconds that a byte costs now.
    pub fn price_nanos(&self) -> f64 {
        self.picos_per_byte.load(Ordering::Relaxed) as f64 / 1000.0
    }

    /// Time slept so far, and how often.
    pub fn slept(&self) -> (Duration, u64) {
        let nanos = self.slept_nanos.load(Ordering::Relaxed);
        (Duration::from_nanos(nanos), self.sleeps.load(Ordering::Relaxed))
    }

    /// Starts the counters over.
    pub fn reset(&self) {
        self.slept_nanos.store(0, Ordering::Relaxed);
        self.sleeps.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_price_rises_smoothly_and_is_zero_when_all_is_well() {
        let mut backlog =
            Backlog { level0_trigger: 4, debt_soft_bytes: 1 << 20, ..Backlog::default() };
        assert_eq!(nanos_per_byte(&backlog), 0.0);
        let mut last = 0.0;
        for tables in 16..60 {
            backlog.level0_tables = tables;
            let price = nanos_per_byte(&backlog);
            assert!(price >= last && price - last < NANOS_PER_BYTE_MAX / 10.0);
            last = price;
        }
        assert_eq!(last, NANOS_PER_BYTE_MAX);
    }

    #[test]
    fn with_the_last_memtable_in_use_a_byte_costs_what_its_flush_takes() {
        let pacer = Pacer::default();
        pacer.flushed(1000, Duration::from_micros(8), 1);
        assert_eq!(pacer.price_nanos(), 0.0);
        pacer.set_waiting_memtables(2);
        assert_eq!(pacer.price_nanos(), 8.0);
        pacer.flushed(1000, Duration::from_micros(4), 1);
        assert_eq!(pacer.price_nanos(), 0.0);
    }

    #[test]
    fn readers_bring_the_price_nearer() {
        let quiet = Backlog {
            level0_tables: 10,
            level0_trigger: 4,
            debt_soft_bytes: 1,
            ..Backlog::default()
        };
        assert_eq!(nanos_per_byte(&quiet), 0.0);
        assert!(nanos_per_byte(&Backlog { readers_about: true, ..quiet }) > 0.0);
    }

    #[test]
    fn small_debts_are_collected_and_slept_off_together() {
        let pacer = Pacer::default();
        assert_eq!(pacer.charge(1 << 30), None);
        pacer.update(&Backlog {
            debt_bytes: 4 << 20,
            debt_soft_bytes: 1 << 20,
            ..Backlog::default()
        });
        let mut slept = Duration::ZERO;
        for _ in 0..10_000 {
            slept += pacer.charge(100).unwrap_or_default();
        }
        let owed = Duration::from_nanos((pacer.price_nanos() * 1e6) as u64);
        assert!(
            slept <= owed && owed - slept <= PIECE + Duration::from_millis(1),
            "{slept:?} of {owed:?}"
        );
    }
}

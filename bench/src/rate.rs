//! Limits: how many operations or seconds a benchmark runs, and how fast.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// When a benchmark is over: after a time, or after a number of operations.
pub(crate) struct Limit<'a> {
    seconds: u64,
    operations: u64,
    check_every: u64,
    done: u64,
    start: Instant,
    stop: &'a AtomicBool,
}

impl<'a> Limit<'a> {
    /// `seconds` if it is not 0, else `operations`; over early when `stop` is set.
    pub(crate) fn new(
        seconds: u64,
        operations: u64,
        check_every: u64,
        stop: &'a AtomicBool,
    ) -> Limit<'a> {
        Limit { seconds, operations, check_every, done: 0, start: Instant::now(), stop }
    }

    /// True if the next `operations` are not to be run any more.
    #[inline]
    pub(crate) fn is_over(&mut self, operations: u64) -> bool {
        let before = self.done;
        self.done += operations;
        if self.stop.load(Ordering::Relaxed) {
            return true;
        }
        if self.seconds == 0 {
            return self.done > self.operations;
        }
        before / self.check_every != self.done / self.check_every
            && self.start.elapsed().as_secs() >= self.seconds
    }
}

/// A rate that all threads share: each request waits for its turn.
pub(crate) struct RateLimit {
    state: Mutex<RateState>,
}

struct RateState {
    per_second: f64,
    /// When the units handed out so far are used up.
    next: Instant,
}

/// Unused time that may be caught up, as the refill period of RocksDB's limiter.
const BURST: Duration = Duration::from_millis(100);

impl RateLimit {
    /// A limit of `per_second` units.
    pub(crate) fn new(per_second: f64) -> RateLimit {
        RateLimit { state: Mutex::new(RateState { per_second, next: Instant::now() }) }
    }

    /// Changes the rate; a rate of zero or less is left out, as RocksDB does.
    pub(crate) fn set(&self, per_second: f64) {
        if per_second > 0.0
            && let Ok(mut state) = self.state.lock()
        {
            state.per_second = per_second;
        }
    }

    /// Waits until `units` may be used.
    pub(crate) fn take(&self, units: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        let now = Instant::now();
        let from = now.checked_sub(BURST).map_or(now, |earliest| state.next.max(earliest));
        state.next = from + Duration::from_secs_f64(units as f64 / state.per_second);
        drop(state);
        std::thread::sleep(from.saturating_duration_since(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_would_go_over_the_count_is_not_run() {
        let stop = AtomicBool::new(false);
        let mut limit = Limit::new(0, 10, 1000, &stop);
        let batches = (0..100).take_while(|_| !limit.is_over(3)).count();
        assert_eq!(batches, 3);
        stop.store(true, Ordering::Relaxed);
        assert!(Limit::new(0, 10, 1000, &stop).is_over(1));
    }

    #[test]
    fn a_rate_delays_what_comes_too_early() {
        let rate = RateLimit::new(1000.0);
        let start = Instant::now();
        (0..20).for_each(|_| rate.take(10));
        assert!(start.elapsed() >= Duration::from_millis(80), "200 units, 100 of them as a burst");
    }
}

//! Time comes in here. The engine never reads a clock of its own.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic clock that can also wait.
pub trait Clock: Send + Sync + Debug {
    /// Time since some fixed point; never goes back.
    fn now(&self) -> Duration;
    /// Time since 1970 (UTC), as the machine says: may jump. Only what must be known after a restart is measured by it. A clock that is
    /// not the machine's has no other time than `now`.
    fn wall(&self) -> Duration {
        self.now()
    }
    /// Returns after about `duration`.
    fn sleep(&self, duration: Duration);
    /// CPU time that the calling thread has used; for the statistics only. Zero on a clock that is not the machine's.
    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts at zero now.
    #[allow(clippy::disallowed_methods, reason = "this file owns the clock")]
    pub fn new() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this file owns the clock")]
    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    #[allow(clippy::disallowed_methods, reason = "this file owns the clock")]
    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration);
    }

    fn thread_cpu(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes into the timespec and nowhere else.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) } != 0;
        if failed {
            return Duration::ZERO;
        }
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }
}

/// A clock that moves only when told: each `now` adds one microsecond, each `sleep` its duration.
#[derive(Debug, Default)]
pub struct ManualClock {
    nanos: AtomicU64,
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.fetch_add(1_000, Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

//! The substitutes of `loom` and `shuttle`, in the shape of `parking_lot` and `arc_swap`.

#[cfg(loom)]
use loom::sync as body;
#[cfg(shuttle)]
use shuttle::sync as body;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a wait for a time lets the others go on before the time is over.
const LOOKS: usize = 6;
/// A wait of this time is a precaution (`LOOK_AGAIN` of db/background.rs). In a model it never ends by itself, so that whoever would
/// sleep through it is found.
const PRECAUTION: Duration = Duration::from_secs(3);

/// A mutex that does not poison.
#[derive(Default)]
pub struct Mutex<T> {
    body: body::Mutex<T>,
}

/// A lock for many readers or one writer; to a model every holder is alone.
#[derive(Debug, Default)]
pub struct RwLock<T> {
    alone: Mutex<T>,
}

impl<T> RwLock<T> {
    /// Waits for the right to read.
    pub fn read(&self) -> MutexGuard<'_, T> {
        self.alone.lock()
    }

    /// Waits for the right to write.
    pub fn write(&self) -> MutexGuard<'_, T> {
        self.alone.lock()
    }
}

/// The right to the value of a [`Mutex`].
pub struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    /// Taken out only while the mutex is given up for a moment.
    body: Option<body::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// An open mutex.
    pub fn new(value: T) -> Mutex<T> {
        Mutex { body: body::Mutex::new(value) }
    }

    /// Waits for the right.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        MutexGuard { mutex: self, body: Some(body) }
    }

    /// The right, if nobody has it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let body = self.body.try_lock().ok()?;
        Some(MutexGuard { mutex: self, body: Some(body) })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> MutexGuard<'_, T> {
    /// Gives the mutex up while `work` runs.
    pub fn unlocked<R>(guard: &mut Self, work: impl FnOnce() -> R) -> R {
        guard.body = None;
        let result = work();
        guard.body = guard.mutex.lock().body;
        result
    }

    /// As a drop; whoever waits may be next.
    pub fn unlock_fair(guard: Self) {
        drop(guard);
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.body.as_ref().expect("a guard in use holds its mutex")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.body.as_mut().expect("a guard in use holds its mutex")
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A condition variable.
#[derive(Default)]
pub struct Condvar {
    body: body::Condvar,
    /// Calls of the two `notify`, for those who wait for a time.
    calls: AtomicU64,
}

impl Condvar {
    /// Sleeps until somebody notifies.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let body = guard.body.take().expect("a guard in use holds its mutex");
        guard.body = Some(self.body.wait(body).unwrap_or_else(PoisonError::into_inner));
    }

    /// Sleeps until somebody notifies or the time is over: no time passes in a model, but the others may take some steps.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) {
        if time >= PRECAUTION {
            return self.wait(guard);
        }
        let seen = self.calls.load(Ordering::Relaxed);
        for _ in 0..LOOKS {
            MutexGuard::unlocked(guard, super::thread::yield_now);
            if self.calls.load(Ordering::Relaxed) != seen {
                return;
            }
        }
    }

    /// Wakes one who waits.
    pub fn notify_one(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.body.notify_one();
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.body.notify_all();
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

/// A pointer that is replaced as a whole.
#[derive(Debug)]
pub struct ArcSwap<T> {
    current: Mutex<Arc<T>>,
    releases: Arc<super::atomic::AtomicU64>,
}

/// What a load gives.
#[derive(Debug)]
pub struct ViewOf<T> {
    value: Arc<T>,
    releases: Arc<super::atomic::AtomicU64>,
}

impl<T> Deref for ViewOf<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.value
    }
}

/// Who drops the last `Arc` sees all that others did before they dropped theirs. The models do not know of std's counters, so they are
/// told with one of their own.
impl<T> Drop for ViewOf<T> {
    fn drop(&mut self) {
        release(&self.releases);
    }
}

fn release(releases: &super::atomic::AtomicU64) {
    releases.fetch_add(1, Ordering::AcqRel);
}

impl<T> ArcSwap<T> {
    /// Points at `value`.
    pub fn from_pointee(value: T) -> ArcSwap<T> {
        ArcSwap {
            current: Mutex::new(Arc::new(value)),
            releases: Arc::new(super::atomic::AtomicU64::new(0)),
        }
    }

    /// The present value.
    pub fn load(&self) -> ViewOf<T> {
        ViewOf { value: self.load_full(), releases: Arc::clone(&self.releases) }
    }

    /// The present value.
    pub fn load_full(&self) -> Arc<T> {
        Arc::clone(&self.current.lock())
    }

    /// Replaces the value; the old one goes when its last holder does.
    pub fn store(&self, value: Arc<T>) {
        let old = std::mem::replace(&mut *self.current.lock(), value);
        release(&self.releases);
        drop(old);
    }
}

/// Runs a model to its end, with at most `preemptions` switches away from a thread that could go on, or as many as
/// LOOM_MAX_PREEMPTIONS says. Nothing else cuts the search short. The last of all models says so in one line.
#[cfg(all(test, loom))]
pub(crate) fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    use std::io::Write;
    use std::sync::atomic::AtomicUsize;
    /// Models in the crate.
    const MODELS: usize = 9;
    static COMPLETE: AtomicUsize = AtomicUsize::new(0);
    let runs = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = builder.max_branches.max(50_000);
    assert!(
        builder.max_permutations.is_none() && builder.max_duration.is_none(),
        "models run to their end"
    );
    let counter = Arc::clone(&runs);
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    // Past the capture of the test harness: these lines are for programs that read them.
    let mut out = std::io::stdout();
    let mut say = |line: String| out.write_all(line.as_bytes()).expect("stdout takes a line");
    say(format!("\nloom_model={name} executions={}\n", runs.load(Ordering::Relaxed)));
    if COMPLETE.fetch_add(1, Ordering::Relaxed) + 1 == MODELS {
        say(format!("\nloom_models={MODELS} complete={MODELS}\n"));
    }
}

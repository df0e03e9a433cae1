//! Runs the cases of a row, one seed after the other, until the budget is used up or the row is finished.

use super::line::{Line, Verdict};
use super::panics::{caught, count as panic_count};
use super::row::{Case, Failure, Row};
use super::tally::{Left, Tally};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};

/// Where the seeds of a finite row begin.
const FIRST_SEED: u64 = 1;

/// Failing cases that are kept word for word; more are only counted.
const FAILURES_KEPT_MAX: usize = 20;

/// How much of a row to run: until whichever limit is met first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// The first seed; the following ones are run in order.
    pub seed: u64,
    /// Cases.
    pub cases: Option<u64>,
    /// Units of the row.
    pub units: Option<u64>,
    /// Time; a case that has begun is finished.
    pub time: Option<Duration>,
    /// Failing cases.
    pub failures: Option<u64>,
    /// Threads that run cases side by side; 0 takes all cores.
    pub jobs: usize,
}

/// Somebody who wants to know how far it is.
pub trait Watch: Sync {
    /// Units so far, findings so far, time so far.
    fn progress(&self, n: u64, bad: u64, elapsed: Duration);
}

/// Nobody.
impl Watch for () {
    fn progress(&self, _: u64, _: u64, _: Duration) {}
}

struct Sum {
    tally: Tally,
    cases: u64,
    bad: u64,
    failures: Vec<(u64, Failure)>,
}

/// Runs a row.
pub fn run(row: &Row, budget: &Budget, watch: &dyn Watch) -> Line {
    let clock = SystemClock::new();
    let next = AtomicU64::new(0);
    // The first case that there was not.
    let exhausted = AtomicU64::new(u64::MAX);
    let impossible = AtomicBool::new(false);
    let sum = Mutex::new(Sum { tally: Tally::default(), cases: 0, bad: 0, failures: Vec::new() });
    let work = || {
        loop {
            let stop = exhausted.load(Ordering::Relaxed) < u64::MAX
                || impossible.load(Ordering::Relaxed)
                || budget.time.is_some_and(|time| clock.now() >= time)
                || budget.units.is_some_and(|units| lock(&sum).tally.n >= units)
                || budget.failures.is_some_and(|failures| lock(&sum).bad >= failures);
            if stop {
                return;
            }
            // Whoever has taken a number runs it.
            let index = next.fetch_add(1, Ordering::Relaxed);
            if budget.cases.is_some_and(|cases| index >= cases) {
                return;
            }
            let seed = budget.seed.wrapping_add(index);
            let left = Left {
                time: budget.time.map(|time| time.saturating_sub(clock.now())),
                units: budget.units.map(|units| units.saturating_sub(lock(&sum).tally.n)),
            };
            let mut tally = Tally { left, ..Tally::default() };
            let result = run_case(row, seed, &mut tally);
            let mut sum = lock(&sum);
            match result {
                Ok(Case::Exhausted) => {
                    exhausted.fetch_min(index, Ordering::Relaxed);
                }
                Ok(Case::Impossible) => impossible.store(true, Ordering::Relaxed),
                Ok(Case::Done) => sum.cases += 1,
                Err(failure) => {
                    sum.cases += 1;
                    sum.bad += 1;
                    if sum.failures.len() < FAILURES_KEPT_MAX {
                        sum.failures.push((seed, failure));
                    }
                }
            }
            sum.tally.add(&tally);
            watch.progress(sum.tally.n, sum.bad, clock.now());
        }
    };
    let jobs = match (row.parallel, budget.jobs) {
        (false, _) => 1,
        (true, 0) => std::thread::available_parallelism().map_or(1, usize::from),
        (true, jobs) => jobs,
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(work);
        }
        work();
    });
    let sum = sum.into_inner().unwrap_or_else(|poison| poison.into_inner());
    let verdict = match (sum.bad, sum.tally.fired_total(), impossible.into_inner()) {
        (1.., _, _) => Verdict::Bad,
        (0, _, true) => Verdict::Impossible,
        (0, 0, false) => Verdict::Void,
        (0, _, false) => Verdict::Good,
    };
    Line {
        row: row.number,
        name: row.name.to_owned(),
        unit: row.unit.to_owned(),
        verdict,
        cases: sum.cases,
        bad: sum.bad,
        complete: budget.seed == FIRST_SEED && exhausted.into_inner() == sum.cases,
        seconds: clock.now().as_secs_f64(),
        seed: budget.seed,
        tally: sum.tally,
        failures: sum.failures,
    }
}

/// Runs one case. A panic of this thread, or of a thread that the case started, is a finding.
pub(super) fn run_case(row: &Row, seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let before = panic_count();
    let result = caught(|| (row.run)(seed, tally)).and_then(|result| result);
    // Side by side, a panic of another case would be blamed on this one.
    let elsewhere = !row.parallel && result.is_ok() && panic_count() > before;
    if elsewhere { Err("a background thread panicked".to_owned()) } else { result }
}

fn lock(sum: &Mutex<Sum>) -> std::sync::MutexGuard<'_, Sum> {
    sum.lock().unwrap_or_else(|poison| poison.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: fn(u64, &mut Tally) -> Result<Case, Failure>) -> Row {
        Row {
            number: 0,
            name: "test",
            promise: "",
            unit: "cases",
            ci_cases: 1,
            nightly: 1,
            parallel: true,
            run,
        }
    }

    #[test]
    fn a_run_ends_where_the_row_does_and_counts_everything_once() {
        let row = row(|seed, tally| {
            if seed > 100 {
                return Ok(Case::Exhausted);
            }
            tally.checked(2);
            tally.fired("cut", 1);
            Ok(Case::Done)
        });
        let line = run(&row, &Budget { seed: 1, jobs: 4, ..Budget::default() }, &());
        assert_eq!((line.tally.n, line.cases, line.tally.fired_total()), (200, 100, 100));
        assert!(line.complete && line.verdict == Verdict::Good);
        let rest = run(&row, &Budget { seed: 50, jobs: 4, ..Budget::default() }, &());
        assert!(!rest.complete, "the first half was not run");
    }

    #[test]
    fn a_run_without_a_fault_is_void_and_a_panic_is_a_finding() {
        let silent = row(|_, tally| {
            tally.checked(1);
            Ok(Case::Done)
        });
        let budget = Budget { cases: Some(3), ..Budget::default() };
        assert_eq!(run(&silent, &budget, &()).verdict, Verdict::Void);
        let panics = row(|seed, _| if seed == 1 { panic!("lost a key") } else { Ok(Case::Done) });
        let line = run(&panics, &budget, &());
        assert_eq!((line.verdict, line.bad), (Verdict::Bad, 1));
        assert_eq!(line.failures[0].0, 1);
        assert!(line.failures[0].1.contains("lost a key"), "{:?}", line.failures);
    }
}

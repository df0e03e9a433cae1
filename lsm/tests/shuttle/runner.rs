//! Runs worlds under many schedules, and counts those that broke a promise.

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A world that keeps its promises under every schedule.
#[derive(Clone, Copy)]
pub struct World {
    pub name: &'static str,
    pub run: fn(),
}

const SCHEDULES: u64 = 4000;
/// Surprises of a PCT schedule and one.
const PCT_DEPTH: usize = 4;
/// The engine keeps sorting arrays and block builders on the stack.
const STACK_BYTES: usize = 512 << 10;
/// Steps of the longest schedule that is no livelock.
const STEPS_MAX: usize = 300_000;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.failure_persistence = FailurePersistence::Print;
    config
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs all schedules; the process fails if one was bad.
pub fn run(worlds: &[World]) {
    let only = std::env::var("TREERING_WORLD").ok();
    let chosen: Vec<World> = worlds
        .iter()
        .filter(|world| only.as_ref().is_none_or(|name| name == world.name))
        .copied()
        .collect();
    assert!(
        !chosen.is_empty(),
        "TREERING_WORLD is one of {:?}",
        worlds.iter().map(|world| world.name).collect::<Vec<_>>()
    );
    if let Ok(schedule) = std::env::var("TREERING_SCHEDULE") {
        assert!(only.is_some(), "a schedule belongs to a world: set TREERING_WORLD");
        let run = chosen[0].run;
        let scheduler = shuttle::scheduler::ReplayScheduler::new_from_encoded(schedule.trim());
        Runner::new(scheduler, config()).run(run);
        println!("schedules=1 bad=0");
        return;
    }
    let total = number("TREERING_SCHEDULES").unwrap_or(SCHEDULES);
    let seed = number("TREERING_SEED").unwrap_or(1);
    let (mut done, mut bad) = (0, 0);
    for (index, world) in chosen.iter().enumerate() {
        // What does not divide goes to the last world.
        let upto = total * (index as u64 + 1) / chosen.len() as u64;
        let share = upto - total * index as u64 / chosen.len() as u64;
        let half = share / 2;
        let started = std::time::Instant::now();
        for (kind, count) in [("random", share - half), ("pct", half)] {
            let (ran, failed) = batch(world, kind, seed, count);
            done += ran;
            bad += u64::from(failed);
        }
        eprintln!("{}: {share} schedules, {:.1} s", world.name, started.elapsed().as_secs_f64());
    }
    println!("schedules={done} bad={bad}");
    if bad > 0 {
        std::process::exit(1);
    }
}

/// Runs `count` schedules of one kind, or those up to the first bad one.
fn batch(world: &World, kind: &str, seed: u64, count: u64) -> (u64, bool) {
    if count == 0 {
        return (0, false);
    }
    let ran = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&ran);
    let run = world.run;
    let body = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        run();
    };
    let result = catch_unwind(AssertUnwindSafe(|| match kind {
        "random" => {
            Runner::new(RandomScheduler::new_from_seed(seed, count as usize), config()).run(body)
        }
        _ => Runner::new(PctScheduler::new_from_seed(seed, PCT_DEPTH, count as usize), config())
            .run(body),
    }));
    let failed = result.is_err();
    if failed {
        eprintln!(
            "world {} failed at {kind} schedule {} of seed {seed}; replay it with TREERING_WORLD={} TREERING_SCHEDULE=... and the \
             schedule printed above",
            world.name,
            ran.load(Ordering::Relaxed),
            world.name
        );
    }
    (ran.load(Ordering::Relaxed), failed)
}

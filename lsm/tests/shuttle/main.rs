//! Whole databases under schedules that nobody would wait for: the threads of a tiny world, the background threads included, run
//! one at a time, and shuttle decides at each lock, atomic and disk call who goes on.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p treering-lsm --profile hunt --test shuttle --target-dir target/shuttle
//! ```
//!
//! - `TREERING_SCHEDULES`: schedules over all worlds; 4000 by default, some twenty seconds.
//! - `TREERING_SEED`: which ones; 1 by default. The same seed meets the same schedules.
//! - `TREERING_WORLD`: one world only.
//! - `TREERING_SCHEDULE`: with `TREERING_WORLD`, replays the schedule that a failure has printed.
//!
//! Half of the schedules are random, half are those of PCT (Burckhardt et al., 2010): a thread runs until it blocks, but for a few
//! surprises, which finds the bugs that need one thread to be left behind for long.
//!
//! The last line says `schedules=N bad=M`. Without `--cfg shuttle` there is nothing here.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test")]

#[cfg(shuttle)]
mod common;
#[cfg(shuttle)]
mod runner;
#[cfg(shuttle)]
mod worlds;

fn main() {
    #[cfg(planted)]
    treering_lsm::base::planted::wake(std::env::var("TREERING_PLANTED").ok().as_deref());
    #[cfg(shuttle)]
    runner::run(worlds::WORLDS);
}

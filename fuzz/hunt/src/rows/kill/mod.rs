//! Row 4: kill -9 at any moment, real files, several threads.
//!
//! One case is one database with several lives. In each a child opens it, compares all of it with a ledger outside (so openings and
//! comparisons are killed as well), writes with several threads, and is killed. The last opening is left alone: then the
//! tables verify, and the directory holds nothing but what the database needs.

#![allow(clippy::disallowed_methods, reason = "the files of the row are real ones")]

mod child;

pub(super) use child::{run as child, write_for_ever};

use crate::drive::{Case, Chance, Failure, Row, Tally};
use crate::world::{Child, Ledger, Plan, check_directory};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, IoChoice, Options};

pub(super) const ROW: Row = Row {
    number: 4,
    name: "kill",
    promise: "after kill -9 every acknowledged write is there, batches whole, and nothing else",
    unit: "kills",
    ci_cases: 4,
    nightly: 2_000,
    parallel: true,
    run,
};

/// Name of the child's task.
pub(super) const TASK: &str = "kill";

/// Lives of one database.
const LIVES: u64 = 10;
/// Times of a kill, from the start of the child.
const KILL_MILLIS: (u64, u64) = (5, 2_000);
/// The longest wait for a child to get somewhere.
const CHILD_SECONDS_MAX: u64 = 60;

/// What the child is at.
pub(super) const STARTED: u64 = 0;
pub(super) const OPENING: u64 = 1;
pub(super) const OPEN: u64 = 2;
pub(super) const AT_WORK: u64 = 3;

/// How much a case writes; parent and child draw the same.
fn plan(seed: u64) -> Plan {
    let mut chance = Chance::new(seed);
    Plan {
        threads: 2 + chance.below(3) as usize,
        keys: 50 << chance.below(5),
        value_bytes: 20 << chance.below(5),
    }
}

fn options(seed: u64, io: IoChoice) -> Options {
    let mut options = crate::world::tiny_options();
    options.io = io;
    options.memory_limit = 32 << 20;
    // Small memtables, so that flushes and compactions run when the blow falls.
    let sizes = [16 << 10, 128 << 10, 1 << 20, 4 << 20];
    options.write_buffer_bytes = Some(*Chance::new(!seed).pick(&sizes));
    options
}

/// io_uring and plain calls take turns.
fn io(life: u64) -> IoChoice {
    if life.is_multiple_of(2) { IoChoice::Auto } else { IoChoice::Posix }
}

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let directory = tempfile::Builder::new().prefix("treering-hunt-").tempdir();
    let directory = directory.map_err(|error| format!("temporary directory: {error}"))?;
    let mut chance = Chance::new(seed);
    for life in 0..LIVES {
        live(seed, life, directory.path(), &mut chance, tally)
            .map_err(|failure| format!("life {life}: {failure}"))?;
    }
    let ledger = ledger(directory.path(), plan(seed))?;
    let path = directory.path().join("db");
    let db = Db::open(&path, options(seed, io(LIVES)));
    let db = db.map_err(|error| format!("last open: {error}"))?;
    child::make_keyspaces(&db).map_err(|error| error.to_string())?;
    let there = ledger.verify(&db).map_err(|failure| format!("last open: {failure}"))?;
    tally.note("keys", there);
    db.verify().map_err(|error| format!("verify: {error}"))?;
    db.wait_for_compactions().map_err(|error| format!("compactions: {error}"))?;
    let stats = db.stats();
    db.close().map_err(|error| format!("close: {error}"))?;
    check_directory(&path, &stats)?;
    Ok(Case::Done)
}

pub(super) fn ledger(directory: &Path, plan: Plan) -> Result<Ledger, Failure> {
    Ledger::open(&directory.join("ledger"), plan).map_err(|error| format!("ledger: {error}"))
}

/// One life of the database: a child works, and is killed.
fn live(
    seed: u64,
    life: u64,
    directory: &Path,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let ledger = ledger(directory, plan(seed))?;
    ledger.state().store(STARTED, Ordering::Release);
    let path = directory.to_string_lossy().into_owned();
    let child = Child::start(TASK, [path, seed.to_string(), life.to_string()]);
    let mut child = child.map_err(|error| format!("child: {error}"))?;
    let clock = SystemClock::new();
    if chance.one_in(10) {
        while ledger.state().load(Ordering::Acquire) == STARTED && !child.has_ended() {
            if clock.now().as_secs() > CHILD_SECONDS_MAX {
                return Err("the child does not begin".to_owned());
            }
            clock.sleep(Duration::from_micros(50));
        }
        clock.sleep(Duration::from_micros(chance.below(4_000)));
    } else {
        clock.sleep(Duration::from_millis(kill_time(chance)));
    }
    let state = ledger.state().load(Ordering::Acquire);
    child.kill(false)?;
    let when = ["in_open", "in_comparison", "at_work"];
    match (state as usize).checked_sub(1) {
        // Nothing was at stake yet.
        None => tally.note("killed_before_open", 1),
        Some(state) => {
            tally.checked(1);
            tally.fired(when[state.min(when.len() - 1)], 1);
        }
    }
    Ok(())
}

/// A time such that each doubling is as likely as any other: short lives are cheap, long ones meet more.
fn kill_time(chance: &mut Chance) -> u64 {
    let (least, most) = KILL_MILLIS;
    let doublings = (most / least).ilog2();
    let base = least << chance.below(u64::from(doublings) + 1);
    (base + chance.below(base)).min(most)
}

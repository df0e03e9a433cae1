//! Row 12: the queue over io_uring against a ring that is as difficult as the kernel may be.
//!
//! The worlds, the fake ring and what is checked stand beside the queue, in `treering_lsm::io::uring::contract`. One case is
//! [`WORLDS`] of them, because one takes microseconds.

use crate::drive::{Case, Failure, Row, Tally};
use treering_lsm::io::uring::contract::{self, Outcome};

pub(super) const ROW: Row = Row {
    number: 12,
    name: "ring-contract",
    promise: "every request of a ring completes once, with its bytes; no buffer in flight is touched, freed or forgotten",
    unit: "worlds",
    ci_cases: 20,
    nightly: 2_000_000,
    parallel: true,
    run,
};

/// Worlds of a case: those of seed s are `s * WORLDS` and the following.
const WORLDS: u64 = 1_000;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let mut sum = Outcome::default();
    for world in 0..WORLDS {
        sum.add(&contract::run(seed.wrapping_mul(WORLDS).wrapping_add(world))?);
    }
    tally.checked(WORLDS);
    let kinds = [
        ("short", sum.short),
        ("nothing", sum.nothing),
        ("again", sum.again),
        ("interrupted", sum.interrupted),
        ("cancelled", sum.cancelled),
        ("error", sum.errors),
        ("refused_enter", sum.refused_enters),
        ("partial_submit", sum.partial_submits),
        ("death", sum.deaths),
        ("drop_in_flight", sum.dropped),
    ];
    for (kind, count) in kinds {
        tally.fired(kind, count);
    }
    tally.note("requests", sum.requests);
    tally.note("plain_calls", sum.plain_calls);
    tally.note("leaked_by_dead_rings", sum.leaked);
    Ok(Case::Done)
}

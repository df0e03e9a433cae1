//! Row 5: an error at every I/O of every workload.
//!
//! A workload is run once for every call that it makes, every kind of fault, and both "at this call" and "from this call on", some
//! way or all the way to its end. Every answer is judged at once. Afterwards the database that is still open, the disk after a kill
//! and the disk after a power cut are held against what was promised, and the disk is well again: the database takes writes, or refuses
//! them if it must.
//!
//! The row is finite. Seeds count rounds; a round touches every workload with every kind, a dozen calls of each:
//!
//! ```text
//! seed - 1 = ((variant * rounds + round) * kinds * 2 + kind and once) * workloads + workload
//! the calls of a round: round, round + stride, round + 2 stride, ...     stride = calls / CALLS_A_CASE, rounded up
//! ```

use crate::drive::{Case, Chance, Failure, Row, Tally};
use crate::world::{
    Kind, Player, Prepared, Probe, Promise, Strike, VARIANTS, WORKLOADS, check_reopened, struck,
    variant,
};
use treering_lsm::io::sim::LossModel;

pub(super) const ROW: Row = Row {
    number: 5,
    name: "io-error",
    promise: "an error at any I/O is reported or survived; nothing acknowledged is lost, nothing read is wrong",
    unit: "runs",
    ci_cases: CASES_A_ROUND,
    nightly: 280_000,
    parallel: true,
    run,
};

/// Calls that one case makes fail, one after the other.
const CALLS_A_CASE: usize = 12;
/// A run that makes so many times the calls of one without faults does not end.
const HANG_FACTOR: usize = 50;
/// Steps after the fault, in half of the runs, before the process dies or the power goes.
const STEPS_BEYOND: usize = 12;
/// Every kind, once and from then on.
const STRIKES: u64 = Kind::ALL.len() as u64 * 2;
const CASES_A_ROUND: u64 = STRIKES * WORKLOADS.len() as u64;

fn stride(prepared: &Prepared) -> usize {
    prepared.trace.len().div_ceil(CALLS_A_CASE)
}

/// What a seed stands for.
struct Place {
    prepared: &'static Prepared,
    kind: Kind,
    once: bool,
    round: usize,
}

fn place(seed: u64) -> Result<Option<Place>, Failure> {
    let Some(mut index) = seed.checked_sub(1) else { return Ok(None) };
    let workloads = WORKLOADS.len() as u64;
    for number in 0..VARIANTS {
        let all = match variant(number) {
            Err(failure) if index == 0 => return Err(failure),
            Err(_) => return Ok(None),
            Ok(all) => all,
        };
        let rounds = all.iter().map(stride).max().unwrap_or(0);
        let cases = rounds as u64 * CASES_A_ROUND;
        if index >= cases {
            index -= cases;
            continue;
        }
        let strike = index / workloads % STRIKES;
        return Ok(Some(Place {
            prepared: &all[(index % workloads) as usize],
            kind: Kind::ALL[(strike / 2) as usize],
            once: strike.is_multiple_of(2),
            round: (index / CASES_A_ROUND) as usize,
        }));
    }
    Ok(None)
}

/// The calls of a round that the fault can happen to. Where it cannot, nothing happens, or what happens at the next one.
fn indices(prepared: &Prepared, kind: Kind, round: usize) -> impl Iterator<Item = usize> {
    let stride = stride(prepared);
    // A longer workload has more rounds.
    let end = if round < stride { prepared.trace.len() } else { 0 };
    (round..end).step_by(stride).filter(move |&index| kind.meets(prepared.trace[index].0))
}

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let Some(Place { prepared, kind, once, round }) = place(seed)? else {
        return Ok(Case::Exhausted);
    };
    tally.note_max("max_workloads", WORKLOADS.len() as u64);
    // The last case of a workload's last round: with this every call of it has met every kind.
    let last = (Kind::ALL[Kind::ALL.len() - 1], false, stride(prepared));
    tally.note("workloads_whole", u64::from((kind, once, round + 1) == last));
    tally.note_max(&format!("max_ios_{}", prepared.name), prepared.trace.len() as u64);
    for index in indices(prepared, kind, round) {
        let strike = Strike { index: index as u64, kind, once };
        let mut chance = Chance::new(seed ^ (index as u64) << 32);
        strike_once(prepared, strike, &mut chance, tally).map_err(|failure| {
            let (call, place) = prepared.trace[index];
            let when = if once { "once" } else { "from then on" };
            format!(
                "{} {kind:?} {when} at call {index} ({call:?} of {place:?}): {failure}",
                prepared.name
            )
        })?;
    }
    Ok(Case::Done)
}

fn strike_once(
    prepared: &Prepared,
    strike: Strike,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (disk, account) = prepared.begin();
    let probe = Probe::arm(&disk, Some(strike), prepared.trace.len() * HANG_FACTOR);
    prepared.limit(&disk);
    let mut player = Player::new(&disk, &probe, Some(strike), &prepared.options, account);
    // What comes later hides some losses: a flush, for one, hides those of the log.
    let beyond = match chance.one_in(2) {
        true => STEPS_BEYOND,
        false => prepared.steps.len(),
    };
    player.play_beyond(&prepared.steps, chance.below(beyond as u64 + 1) as usize)?;
    let fired = struck(&disk);
    disk.clear_faults();
    let killed = disk.after_kill();
    let model = *chance.pick(&LossModel::ALL);
    let cut = disk.after_power_cut(chance.draw(), model);
    let before = player.account.clone();
    player.check_aftermath(prepared.next_number)?;
    let mut account = before;
    account.adopt_shown(&player.account);
    check_reopened(&killed, &prepared.options, &account, Promise::Kill, chance.one_in(4))
        .map_err(|failure| format!("killed: {failure}"))?;
    check_reopened(&cut, &prepared.options, &account, Promise::Cut, chance.one_in(4))
        .map_err(|failure| format!("cut, {model:?}: {failure}"))?;
    if chance.one_in(4) {
        let image = disk.after_power_cut(chance.draw(), LossModel::DropAll);
        check_reopened(&image, &prepared.options, &player.account, Promise::Cut, false)
            .map_err(|failure| format!("cut after all: {failure}"))?;
    }
    match fired {
        0 => tally.note("without_effect", 1),
        _ => tally.checked(1),
    }
    tally.fired(strike.kind.name(), fired);
    tally.note("reported", player.reported);
    tally.note("runs_reporting", u64::from(player.reported > 0));
    for (reason, count) in &player.tolerated {
        tally.note("tolerated", *count);
        tally.note(&format!("tolerated_{reason}"), *count);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_call_of_every_workload_is_struck_in_every_way_exactly_once() {
        let mut seen = HashSet::new();
        let mut seed = 1;
        while let Some(Place { prepared, kind, once, round }) = place(seed).expect("workloads run")
        {
            for index in indices(prepared, kind, round) {
                let which = std::ptr::from_ref(prepared) as usize;
                assert!(seen.insert((which, kind.name(), once, index)), "seed {seed}");
            }
            seed += 1;
        }
        let ways = |call| Kind::ALL.iter().filter(|kind| kind.meets(call)).count() * 2;
        let all = (0..VARIANTS).flat_map(|number| variant(number).expect("workloads run"));
        let calls = all.flat_map(|prepared| prepared.trace.iter());
        assert_eq!(seen.len(), calls.map(|(call, _)| ways(*call)).sum::<usize>());
        println!("{} strikes in {} cases", seen.len(), seed - 1);
    }
}

//! The simulated disk: every sync, durable write and directory sync of a workload fails once.
//!
//! ```text
//! first life: work ─ sync fails ─ work goes on ──┬─ power cut, at once or later ──┐
//!                                                ├─ kill                          ├── second life: open, work ─ power cut ── open, compare
//!                                                └─ close, on the same disk       ┘
//! ```
//! After a kill or a close the second life reads what the first could not sync. What it shows once it is open must survive.

use crate::drive::{Chance, Failure, Tally};
use crate::world::{
    Account, Kind, Player, Prepared, Probe, Promise, Scribe, Step, Strike, Touched, VARIANTS,
    WORKLOADS, check_reopened, variant,
};
use treering_lsm::file::name::FileKind;
use treering_lsm::io::sim::{Call, LossModel, SimDisk};

/// Calls after which a life has hung.
const CALLS_MAX: usize = 100_000;
/// Commits of the second life.
const COMMITS: usize = 40;

pub(super) fn run(seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    let mut chance = Chance::new(seed);
    let workloads = WORKLOADS.len() as u64;
    let prepared = &variant(seed / workloads % VARIANTS)?[(seed % workloads) as usize];
    let syncs: Vec<usize> =
        (0..prepared.trace.len()).filter(|&at| makes_durable(prepared.trace[at].0)).collect();
    let index = syncs[(seed / workloads / VARIANTS) as usize % syncs.len()];
    let (call, place) = prepared.trace[index];
    let named =
        |failure| format!("{}, {call:?} of {place:?} at call {index}: {failure}", prepared.name);
    let (disk, account) = first_life(prepared, index, &mut chance, tally).map_err(named)?;
    second_life(prepared, &disk, account, &mut chance, tally).map_err(named)?;
    tally.checked(1);
    tally.note(&format!("failed_{}", word(place)), 1);
    tally.note_max(&format!("max_syncs_{}", prepared.name), syncs.len() as u64);
    Ok(())
}

fn makes_durable(call: Call) -> bool {
    matches!(call, Call::Sync | Call::WriteDurable | Call::SyncDirectory)
}

fn word(place: Touched) -> &'static str {
    match place {
        Some(FileKind::Wal(_)) => "log",
        Some(FileKind::Manifest(_)) => "manifest",
        Some(FileKind::Table(_)) => "table",
        Some(FileKind::Temporary) => "current",
        Some(_) => "other",
        None => "directory",
    }
}

/// Works until the power goes or the script ends; returns the disk of the second life, and what it must hold.
fn first_life(
    prepared: &Prepared,
    index: usize,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(SimDisk, Account), Failure> {
    let (disk, account) = prepared.begin();
    let strike = Strike { index: index as u64, kind: Kind::Eio, once: true };
    let probe = Probe::arm(&disk, Some(strike), CALLS_MAX);
    prepared.limit(&disk);
    let after = (prepared.trace.len() - index) as u64;
    let cut = match chance.below(4) {
        0 => Some(1),
        1 => Some(1 + chance.below(after)),
        _ => None,
    };
    cut.into_iter().for_each(|later| disk.cut_power_at(index as u64 + later));
    let mut player = Player::new(&disk, &probe, Some(strike), &prepared.options, account);
    player.play(&prepared.steps)?;
    tally.fired("sync", probe.hit_count() as u64);
    tally.note("reported", player.reported);
    if disk.power_is_cut() {
        tally.fired("cut", 1);
        let model = *chance.pick(&LossModel::ALL);
        let image = disk.after_power_cut(chance.draw(), model);
        check_reopened(&image.after_kill(), &prepared.options, &player.account, Promise::Cut, true)
            .map_err(|failure| format!("cut, {model:?}: {failure}"))?;
        // The second life may lose what was acknowledged and not synced.
        return Ok((image, player.account.after_cut()));
    }
    disk.clear_faults();
    player.check_aftermath(prepared.next_number)?;
    match chance.below(3) {
        0 => {
            player.play_step(&Step::Close)?;
            Ok((disk.clone(), player.account.clone()))
        }
        _ => Ok((disk.after_kill(), player.account.clone())),
    }
}

/// Opens, works, loses power somewhere, and compares.
fn second_life(
    prepared: &Prepared,
    disk: &SimDisk,
    account: Account,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut scribe = Scribe::after(chance.clone(), prepared.next_number + 1);
    for _ in 0..COMMITS {
        scribe.write_some(3);
        if scribe.chance.one_in(5) {
            scribe.add(Step::Background(1));
        }
    }
    scribe.add(Step::Flush);
    let probe = Probe::arm(disk, None, CALLS_MAX);
    prepared.limit(disk);
    disk.cut_power_at(disk.io_count() + chance.below(200));
    let mut player = Player::new(disk, &probe, None, &prepared.options, account);
    player.play(&scribe.take()).map_err(|failure| format!("second life: {failure}"))?;
    tally.fired("cut", u64::from(disk.power_is_cut()));
    let model = *chance.pick(&LossModel::ALL);
    let image = disk.after_power_cut(chance.draw(), model);
    check_reopened(&image, &prepared.options, &player.account, Promise::Cut, chance.one_in(2))
        .map_err(|failure| format!("second life, cut, {model:?}: {failure}"))
}

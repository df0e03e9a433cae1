//! The same list under the same setting, twice: every I/O must be the same, also up to a power cut and in the recovery after it.

use super::list::Step;
use super::play::{Watch, play};
use super::setting::Setting;
use crate::drive::{Chance, Failure, Tally};
use crate::world::open;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Db, ReadOptions};

/// Settings that are played twice.
const SETTINGS: usize = 3;
/// Power cuts of each.
const CUTS: usize = 2;

/// Plays some settings twice, whole and cut.
pub(super) fn check(
    list: &[Step],
    settings: &[Setting],
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let possible: Vec<_> = settings.iter().filter(|setting| setting.is_deterministic()).collect();
    for _ in 0..SETTINGS {
        let setting = *chance.pick(&possible);
        let place = |failure: Failure| format!("under {setting:?}: {failure}");
        let lives = same(list, setting, None, tally).map_err(place)?;
        for _ in 0..CUTS {
            let life = chance.below(lives.len() as u64) as usize;
            let index = chance.below(lives[life].1);
            let loss = (chance.draw(), *chance.pick(&LossModel::ALL));
            let cut = Some(((life, index), loss));
            same(list, setting, cut, tally)
                .map_err(|failure| place(format!("cut in life {life} at {index}: {failure}")))?;
        }
    }
    Ok(())
}

type Cut = ((usize, u64), (u64, LossModel));

/// Plays twice and compares; returns the traces of all lives.
fn same(
    list: &[Step],
    setting: &Setting,
    cut: Option<Cut>,
    tally: &mut Tally,
) -> Result<Vec<(u64, u64)>, Failure> {
    let watch = Watch { cut: cut.map(|(at, _)| at), ..Watch::default() };
    let (one, two) = (play(list, setting, watch)?, play(list, setting, watch)?);
    tally.checked(2);
    tally.note("operations", (one.lines.len() + two.lines.len()) as u64);
    tally.note("traces_compared", one.traces.len() as u64);
    if one.lines != two.lines {
        return Err("the same setting answered differently the second time".to_owned());
    }
    if let Some(life) = (0..one.traces.len().max(two.traces.len()))
        .find(|&life| one.traces.get(life) != two.traces.get(life))
    {
        return Err(format!(
            "the trace of life {life} differs: {:?} and {:?}",
            one.traces.get(life),
            two.traces.get(life)
        ));
    }
    if let (Some((_, loss)), Some(left), Some(right)) = (cut, &one.dead, &two.dead) {
        tally.fired("cut", 1);
        let left = recover(&left.after_power_cut(loss.0, loss.1), setting)?;
        let right = recover(&right.after_power_cut(loss.0, loss.1), setting)?;
        if left != right {
            return Err("two recoveries of the same cut differ".to_owned());
        }
        tally.note("recoveries_compared", 1);
    }
    Ok(one.traces)
}

/// Opens what a cut left, reads all of it, and closes; returns the trace and the contents.
fn recover(disk: &SimDisk, setting: &Setting) -> Result<(u64, u64, Vec<u8>), Failure> {
    let read = || {
        let db = open(disk, &setting.options)?;
        let all = contents(&db)?;
        db.close()?;
        Ok(all)
    };
    let all = read().map_err(|error: treering_lsm::Error| format!("recovery: {error}"))?;
    Ok((disk.trace(), disk.io_count(), all))
}

fn contents(db: &Db) -> treering_lsm::Result<Vec<u8>> {
    let mut all = Vec::new();
    for name in db.keyspace_names() {
        all.extend_from_slice(name.as_bytes());
        for entry in db.keyspace(&name)?.range(.., &ReadOptions::default())? {
            let (key, value) = entry?;
            all.extend_from_slice(&key);
            all.extend_from_slice(&value);
        }
    }
    Ok(all)
}

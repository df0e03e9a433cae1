//! Row 2: power cuts and deaths at random I/Os of long lives, also inside recovery.
//!
//! One case is one disk with several lives. Each life works until it is cut, then the image of every kind of loss is opened
//! and compared. One of these images is the next life. Every opening may itself be cut, up to three times in a row.

use crate::drive::{Case, Chance, Failure, Row, Tally};
use crate::world::{History, Map, contents, open, other_options, tiny_options, work};
use treering_lsm::io::sim::{LossModel, SimDisk};

pub(super) const ROW: Row = Row {
    number: 2,
    name: "long-worlds",
    promise: "after a cut the database opens and is a prefix of its commits that holds every promised one",
    unit: "images",
    ci_cases: 60,
    nightly: 500_000,
    parallel: true,
    run,
};

/// Lives on one disk.
const LIVES: usize = 8;
/// Cuts inside one recovery, one after the other.
const DEPTH_MAX: u64 = 3;
/// Images of one cut.
const IMAGES: u64 = 4;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let mut chance = Chance::new(seed);
    let mut disk = SimDisk::new(seed);
    let mut history = History::default();
    let db = open(&disk, &tiny_options()).map_err(|error| format!("first open: {error}"))?;
    db.create_keyspace("other", other_options()).map_err(|error| error.to_string())?;
    drop(db);
    let length = if chance.one_in(8) { 4_000 } else { 400 };
    for life in 0..LIVES {
        disk = live(disk, &mut chance, &mut history, length, tally)
            .map_err(|failure| format!("life {life}: {failure}"))?;
    }
    Ok(Case::Done)
}

/// One life: work, die, recover each image, compare. Returns the disk of the next life.
fn live(
    disk: SimDisk,
    chance: &mut Chance,
    history: &mut History,
    length: usize,
    tally: &mut Tally,
) -> Result<SimDisk, Failure> {
    let db = open(&disk, &tiny_options()).map_err(|error| format!("open: {error}"))?;
    let until_cut = chance.below(1 + chance.clone().below(length as u64 * 2));
    disk.cut_power_at(disk.io_count() + until_cut);
    let worked = work(&db, chance, history, length);
    if let Err(error) = worked.as_ref().map_err(|error| error.to_string())
        && !disk.power_is_cut()
    {
        return Err(format!("an error before the cut: {error}"));
    }
    tally.fired("cut", u64::from(disk.power_is_cut()));
    let mut next = None;
    for _ in 0..IMAGES {
        let power = !chance.one_in(4);
        let model = *chance.pick(&LossModel::ALL);
        let seed = chance.draw();
        let image = if power { disk.after_power_cut(seed, model) } else { disk.after_kill() };
        let promised = if power { history.synced } else { history.acknowledged };
        let place = |failure| format!("power {power} model {model:?}: {failure}");
        let (disk, survived) =
            recover(image, chance, history, promised, power, tally).map_err(place)?;
        next = Some((disk, survived));
    }
    drop(db);
    let (disk, survived) = next.expect("there is at least one image");
    history.settle(survived);
    Ok(disk)
}

/// Opens an image, dying a few more times on the way, and compares. Returns the disk, cleanly closed.
fn recover(
    image: SimDisk,
    chance: &mut Chance,
    history: &History,
    promised: usize,
    power: bool,
    tally: &mut Tally,
) -> Result<(SimDisk, usize), Failure> {
    let mut disk = image;
    // After a power cut everything that is left is durable, so every recovery of it must come to the same.
    let reference = match power {
        true => Some(state_of(&disk.after_kill())?),
        false => None,
    };
    for _ in 0..chance.below(DEPTH_MAX + 1) {
        disk.cut_power_at(disk.io_count() + chance.below(60));
        let opened = open(&disk, &tiny_options());
        if let (Err(error), false) = (&opened, disk.power_is_cut()) {
            return Err(format!("open: {error}"));
        }
        if disk.power_is_cut() {
            tally.fired("cut_in_recovery", 1);
        }
        let model = *chance.pick(&LossModel::ALL);
        let next =
            if power { disk.after_power_cut(chance.draw(), model) } else { disk.after_kill() };
        drop(opened);
        disk = next;
        tally.checked(1);
        tally.note("images_in_recovery", 1);
    }
    let db = open(&disk, &tiny_options()).map_err(|error| format!("does not open: {error}"))?;
    let found = contents(&db).map_err(|error| format!("scan: {error}"))?;
    let survived = history.check_prefix(&found, promised)?;
    if reference.is_some_and(|reference| reference != found) {
        return Err("two recoveries of one image came to different contents".to_owned());
    }
    db.verify().map_err(|error| format!("verify: {error}"))?;
    db.close().map_err(|error| format!("close: {error}"))?;
    tally.checked(1);
    Ok((disk, survived))
}

fn state_of(disk: &SimDisk) -> Result<Map, Failure> {
    let db = open(disk, &tiny_options()).map_err(|error| format!("does not open: {error}"))?;
    contents(&db).map_err(|error| format!("scan: {error}"))
}

//! Row 1: every short sequence of operations, cut after every I/O, with every subset of what was not durable.
//!
//! Small and exhaustive beats large and random: 24 of 26 known crash bugs of file systems need at most three operations
//! (CrashMonkey, Mohan et al., OSDI 2018). Seeds count the sequences, the shorter first:
//!
//! ```text
//! seeds 1 to 11: one operation     12 to 132: two     133 to 1463: three     1464 to 16104: four
//! ```
//!
//! A world is run once to its end, then once more for every I/O of it, with the power cut there. Up to ten pending changes
//! are kept and lost in all subsets, more in 64 drawn ones; a few images more have torn writes, and one is that of a death
//! without a power cut. Images that are equal are opened once.

use crate::drive::{Case, Chance, Failure, Row, Tally};
use crate::world::{
    COUNTER, Change, Commit, History, Map, contents, open, other_options, scan, tiny_options, write,
};
use std::collections::HashSet;
use std::sync::OnceLock;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Db, Durability, Error, ReadOptions, Snapshot, WriteOptions};

pub(super) const ROW: Row = Row {
    number: 1,
    name: "small-worlds",
    promise: "no short sequence of operations, cut anywhere, loses, tears or invents a commit",
    unit: "images",
    ci_cases: 60,
    nightly: 2_000_000,
    parallel: true,
    run,
};

/// Longest sequence.
const LENGTH_MAX: u32 = 4;
/// Pending changes of which all subsets are tried.
const SUBSET_BITS_MAX: usize = 10;
/// Drawn subsets where there are more.
const SAMPLES: u64 = 64;
/// Images with torn writes, after each cut.
const TORN: u64 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Buffered.
    Put,
    SyncedPut,
    /// Buffered, over both keyspaces.
    Batch,
    /// Buffered.
    Delete,
    /// Buffered, over both keyspaces; one range has no end.
    DeleteRange,
    /// So large that the second fills the memtable and starts a new log segment.
    LargePut,
    Flush,
    Compact,
    /// One unit of background work.
    Background,
    /// A snapshot that is held, and must go on to show what it showed.
    Snapshot,
    /// Close and open.
    Reopen,
}

const STEPS: [Step; 11] = [
    Step::Put,
    Step::SyncedPut,
    Step::Batch,
    Step::Delete,
    Step::DeleteRange,
    Step::LargePut,
    Step::Flush,
    Step::Compact,
    Step::Background,
    Step::Snapshot,
    Step::Reopen,
];

/// The sequence of a seed.
fn sequence(seed: u64) -> Option<Vec<Step>> {
    let mut index = seed.checked_sub(1)?;
    let base = STEPS.len() as u64;
    for length in 1..=LENGTH_MAX {
        let count = base.pow(length);
        if index < count {
            let digit = |place: u32| STEPS[(index / base.pow(place) % base) as usize];
            return Some((0..length).rev().map(digit).collect());
        }
        index -= count;
    }
    None
}

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let Some(steps) = sequence(seed) else { return Ok(Case::Exhausted) };
    let named = |failure| format!("{steps:?}: {failure}");
    let disk = base();
    let start = disk.io_count();
    play_whole(&disk, &steps).map_err(named)?;
    let count = disk.io_count() - start;
    let mut seen = HashSet::new();
    for index in 0..count {
        let disk = base();
        let history = play_until_cut(&disk, &steps, start + index).map_err(named)?;
        tally.fired("cut", u64::from(disk.power_is_cut()));
        check_images(&disk, &history, seed ^ (index << 32), &mut seen, tally)
            .map_err(|failure| named(format!("cut at I/O {index} of {count}: {failure}")))?;
    }
    tally.note(&format!("worlds_of_{}", steps.len()), 1);
    Ok(Case::Done)
}

/// A disk with a closed database of two keyspaces; each call gives one of its own.
fn base() -> SimDisk {
    static BASE: OnceLock<SimDisk> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let disk = SimDisk::new(1);
        let db = open(&disk, &tiny_options()).expect("a fresh disk takes a database");
        db.create_keyspace("other", other_options()).expect("a new name");
        db.close().expect("nothing fails yet");
        disk.after_power_cut(1, LossModel::DropAll)
    });
    base.after_kill()
}

/// A database on its way through the steps.
struct World<'a> {
    disk: &'a SimDisk,
    db: Db,
    history: History,
    snapshots: Vec<(Snapshot, Map)>,
}

impl World<'_> {
    fn step(&mut self, step: Step) -> Result<(), Error> {
        let number = self.history.commits.len();
        let value = |length: usize| {
            let mut value = format!("{number}:").into_bytes();
            value.resize(length, b'x');
            value
        };
        let put = |keyspace, key: &str, length| Change::put(keyspace, key, value(length));
        let buffered = Durability::Buffered;
        match step {
            Step::Put => self.write(vec![put(0, "a", 20)], buffered),
            Step::SyncedPut => self.write(vec![put(0, "b", 20)], Durability::Sync),
            Step::Batch => {
                let commit = vec![put(0, "a", 9), put(1, "a", 300), Change::delete(0, "b")];
                self.write(commit, buffered)
            }
            Step::Delete => self.write(vec![Change::delete(0, "a")], buffered),
            Step::DeleteRange => {
                let ranges = [("b", ""), ("a", "b")];
                let ranges = (0..)
                    .zip(ranges)
                    .map(|(at, (start, end))| Change::delete_range(at, start, end));
                self.write(ranges.collect(), buffered)
            }
            Step::LargePut => self.write(vec![put(0, "b", 9_000)], buffered),
            Step::Flush => self.db.flush(),
            Step::Compact => self.db.compact(),
            Step::Background => self.db.step().map(|_| ()),
            Step::Snapshot => {
                let state = self.history.state_after(number);
                self.snapshots.push((self.db.snapshot(), state));
                Ok(())
            }
            Step::Reopen => {
                // A snapshot belongs to one opening.
                self.snapshots.clear();
                self.db.clone().close()?;
                self.db = open(self.disk, &tiny_options())?;
                // Closing made everything durable.
                self.history.synced = number;
                Ok(())
            }
        }
    }

    fn write(&mut self, mut commit: Commit, durability: Durability) -> Result<(), Error> {
        let number = self.history.commits.len().to_string().into_bytes();
        for keyspace in 0..2 {
            commit.push(Change::put(keyspace, COUNTER, number.clone()));
        }
        write(&self.db, &mut self.history, commit, durability)
    }

    /// What the open database shows is what was written, now and at every snapshot.
    fn check(&self) -> Result<(), Failure> {
        let now = self.history.state_after(self.history.commits.len());
        let found = contents(&self.db).map_err(|error| format!("scan: {error}"))?;
        if found != now {
            return Err("the open database does not show what was written".to_owned());
        }
        for (snapshot, state) in &self.snapshots {
            let options =
                ReadOptions { snapshot: Some(snapshot.clone()), ..ReadOptions::default() };
            let found = scan(&self.db, &options).map_err(|error| format!("scan: {error}"))?;
            if found != *state {
                return Err(format!("snapshot {} changed", snapshot.sequence()));
            }
        }
        Ok(())
    }
}

/// The world without a cut: everything succeeds, and after each step the database shows what it should.
fn play_whole(disk: &SimDisk, steps: &[Step]) -> Result<(), Failure> {
    let db = open(disk, &tiny_options()).map_err(|error| format!("open: {error}"))?;
    let mut world = World { disk, db, history: History::default(), snapshots: Vec::new() };
    for step in steps {
        world.step(*step).map_err(|error| format!("{step:?} without a cut: {error}"))?;
        world.check().map_err(|failure| format!("after {step:?}: {failure}"))?;
    }
    Ok(())
}

/// The world with the power cut at an I/O: what was tried and promised by then.
fn play_until_cut(disk: &SimDisk, steps: &[Step], index: u64) -> Result<History, Failure> {
    disk.cut_power_at(index);
    let mut history = History::default();
    if let Ok(db) = open(disk, &tiny_options()) {
        let mut world = World { disk, db, history, snapshots: Vec::new() };
        for step in steps {
            if let Err(error) = world.step(*step) {
                if !disk.power_is_cut() {
                    return Err(format!("{step:?} failed before the cut: {error}"));
                }
                break;
            }
        }
        history = std::mem::take(&mut world.history);
    }
    Ok(history)
}

/// Opens every image of the disk as it is now and compares.
fn check_images(
    disk: &SimDisk,
    history: &History,
    seed: u64,
    seen: &mut HashSet<(u64, usize, usize)>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut chance = Chance::new(seed);
    let mut check = |image: SimDisk, promised: usize, what: &dyn Fn() -> String| {
        if !seen.insert((image.fingerprint(), promised, history.commits.len())) {
            tally.note("equal_images", 1);
            return Ok(());
        }
        tally.checked(1);
        let again = chance.one_in(16);
        check_image(image, history, promised, again)
            .map_err(|failure| format!("{}: {failure}", what()))
    };
    check(disk.after_kill(), history.acknowledged, &|| "killed".to_owned())?;
    let pending: Vec<u64> = disk.pending().iter().map(|change| change.sequence).collect();
    let describe = |mask: u64| {
        let all = disk.pending();
        let lost = all.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 0);
        let lost: Vec<&str> = lost.map(|(_, change)| change.what.as_str()).collect();
        format!("lost {lost:?}")
    };
    if pending.len() <= SUBSET_BITS_MAX {
        for mask in 0..1u64 << pending.len() {
            let keep = |sequence| {
                let bit = pending.iter().position(|pending| *pending == sequence);
                bit.is_none_or(|bit| mask >> bit & 1 == 1)
            };
            check(disk.after_power_cut_keeping(keep), history.synced, &|| describe(mask))?;
        }
    }
    let drawn = if pending.len() <= SUBSET_BITS_MAX { TORN } else { SAMPLES };
    for sample in 0..drawn {
        let model = if drawn == TORN && sample % 2 == 0 {
            LossModel::Tear512
        } else if drawn == TORN {
            LossModel::Tear4096
        } else {
            LossModel::ALL[sample as usize % LossModel::ALL.len()]
        };
        let image = disk.after_power_cut(seed.wrapping_add(sample), model);
        check(image, history.synced, &|| format!("{model:?} number {sample}"))?;
    }
    Ok(())
}

fn check_image(
    image: SimDisk,
    history: &History,
    promised: usize,
    again: bool,
) -> Result<(), Failure> {
    let db = open(&image, &tiny_options()).map_err(|error| format!("does not open: {error}"))?;
    let found = contents(&db).map_err(|error| format!("scan: {error}"))?;
    history.check_prefix(&found, promised)?;
    db.verify().map_err(|error| format!("verify: {error}"))?;
    if again {
        // It is a database like any other: what it takes now survives as well.
        let put = db.default_keyspace().put_with(b"after", b"1", &WriteOptions::sync());
        put.map_err(|error| format!("takes no write: {error}"))?;
        drop(db);
        let image = image.after_power_cut(1, LossModel::DropAll);
        let db = open(&image, &tiny_options()).map_err(|error| format!("second open: {error}"))?;
        let kept = db.get(b"after").map_err(|error| format!("second open: {error}"))?;
        if kept.as_deref() != Some(b"1") {
            return Err("a Sync write after the recovery is lost".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_has_one_seed() {
        let count = (1..=LENGTH_MAX).map(|length| (STEPS.len() as u64).pow(length)).sum::<u64>();
        let all: HashSet<String> =
            (1..=count).map(|seed| format!("{:?}", sequence(seed).expect("in range"))).collect();
        assert_eq!(all.len() as u64, count);
        assert!(sequence(0).is_none() && sequence(count + 1).is_none());
    }
}

//! Row 8: right checksums in the wrong place, and whatever else a disk, a restore or a person does to whole files.
//!
//! Blocks and sectors are swapped, doubled, zeroed and taken from older states of their file; files are cut, extended,
//! deleted, renamed and put over each other; CURRENT is put back. One change at a time, each on a fresh copy of a database
//! that was drawn: how many runs, flushes and syncs, how it came to rest.
//!
//! ```text
//! seed = 1 + block * 400 + slice * 50 + database      a block has 50 databases; a case makes every eighth change of one
//! ```

mod blocks;
mod change;
mod list;

use crate::drive::{Case, Chance, Failure, Row, Tally, take_largest_allocation};
use crate::world::{
    Allowed, Answer, COUNTER, Files, Known, Map, Recipe, Rest, Specimen, contents, disk_of,
    examine, is_corruption_of, open, other_options, tiny_options,
};
use change::Change;
use list::changes;
use treering_lsm::file::name;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Compression, Error, FilterPolicy};

pub(super) const ROW: Row = Row {
    number: 8,
    name: "wrong-place",
    promise: "bytes that are intact but in the wrong place give an error or the truth, and a refused opening changes nothing",
    unit: "cases",
    ci_cases: 16,
    nightly: 200_000,
    parallel: true,
    run,
};

/// Databases of a block: so many cases, one after the other, have different ones.
const DATABASES: u64 = 50;
/// Cases that share the changes of a database.
const SLICES: u64 = 8;
/// After one in so many right answers the database is written to, killed and opened again.
const LIVED_ON_ONE_IN: u64 = 4;
/// No damaged length may make the engine ask for more.
const ALLOCATION_BYTES_MAX: u64 = 1 << 30;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let index = seed.saturating_sub(1);
    let (block, slice) = (index / (DATABASES * SLICES), index / DATABASES % SLICES);
    let database = block * DATABASES + index % DATABASES;
    let mut chance = Chance::new(database);
    let recipe = draw_recipe(database, &mut chance);
    let specimen = Specimen::make(&recipe)?;
    let disk = disk_of(&specimen.files).map_err(|error| error.to_string())?;
    let undamaged =
        open(&disk, &specimen.options).map_err(|error| format!("undamaged: {error}"))?;
    let known = Known { trace: disk.trace(), commits: specimen.commits() };
    drop(undamaged);
    let all = changes(&specimen, &mut chance);
    take_largest_allocation();
    for change in all.iter().skip(slice as usize).step_by(SLICES as usize) {
        let mut files = specimen.files.clone();
        change.apply(&specimen, &mut files);
        if files == specimen.files {
            tally.note("without_effect", 1);
            continue;
        }
        let place = |failure| format!("{change} of a database {:?}: {failure}", recipe.rest);
        check(&specimen, &files, change, known, &mut chance, tally).map_err(place)?;
        let largest = take_largest_allocation();
        if largest > ALLOCATION_BYTES_MAX {
            return Err(place(format!("an allocation of {largest} bytes")));
        }
        tally.note_max("max_allocation_bytes", largest);
    }
    Ok(Case::Done)
}

fn draw_recipe(seed: u64, chance: &mut Chance) -> Recipe {
    let mut options = tiny_options();
    // Otherwise each opening asks the system for the number of its cores.
    options.background_jobs = Some(2);
    let policies = [
        FilterPolicy::None,
        FilterPolicy::Blocked { bits: 10 },
        FilterPolicy::Standard { bits: 8 },
    ];
    let compressions = [Compression::None, Compression::Lz4, Compression::Zstd];
    let mut other = other_options();
    for keyspace in [&mut options.default_keyspace, &mut other] {
        keyspace.filter = *chance.pick(&policies);
        keyspace.compression = [*chance.pick(&compressions); 7];
    }
    // One in three writes several times what the ring holds, so that it and the segments are used again and again.
    let long = chance.one_in(3);
    Recipe {
        seed,
        options,
        other,
        commits: 20 + chance.below(230) as usize + if long { 200 } else { 0 },
        keys: 10 + chance.below(60),
        value_bytes_end: if long { 2_000 } else { *chance.pick(&[1, 40, 90, 400]) },
        flush_every: if long { 30 } else { *chance.pick(&[0, 15, 40, 90]) },
        sync_one_in: *chance.pick(&[0, 3, 20]),
        earlier_runs: chance.below(4) as usize,
        rest: *chance.pick(&[Rest::Closed, Rest::Killed, Rest::Killed, Rest::Flushed]),
    }
}

fn check(
    specimen: &Specimen,
    files: &Files,
    change: &Change,
    known: Known,
    chance: &mut Chance,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let touched: Vec<&str> = specimen
        .files
        .keys()
        .chain(files.keys())
        .map(String::as_str)
        .filter(|name| specimen.files.get(*name) != files.get(*name))
        .collect();
    let in_log = touched.iter().any(|name| is_log(name));
    let only_log = touched.iter().all(|name| is_log(name));
    let report = |error: &Error| match error {
        Error::NotADatabase { .. } => !files.contains_key(name::CURRENT),
        error => is_corruption_of(error, |name| touched.iter().any(|at| may_blame(at, name))),
    };
    let allowed = Allowed {
        commits_min: if in_log { specimen.synced } else { specimen.commits() },
        report: &report,
        keyspaces: &[0, 1],
        known: Some(known).filter(|_| only_log),
        turn: chance.draw(),
    };
    let disk = disk_of(files).map_err(|error| error.to_string())?;
    let answer = examine(specimen, &disk, &|| files.clone(), &allowed)?;
    tally.checked(1);
    tally.fired(change.word(), 1);
    match answer {
        Answer::Refused(error) | Answer::Reported(error) => {
            let exact = is_corruption_of(&error, |name| touched.contains(&name));
            tally.note("detected", 1);
            tally.note("named_another_file", u64::from(!exact));
        }
        Answer::Right(commits) => {
            tally.note("right", 1);
            tally.note("shorter_log", u64::from(commits < specimen.commits()));
            if chance.one_in(LIVED_ON_ONE_IN) {
                let truth = specimen.state(commits).ok_or("there is no such state")?;
                live_on(specimen, &disk, truth)?;
                tally.note("lived_on", 1);
            }
        }
    }
    Ok(())
}

fn is_log(name: &str) -> bool {
    name == name::RING || name.ends_with(".wal")
}

/// True if damage to `touched` may show as a fault of `name`: where one file vouches for another, both are suspect.
fn may_blame(touched: &str, name: &str) -> bool {
    let is_state = |name: &str| name == name::CURRENT || name.starts_with("MANIFEST-");
    touched == name
        || is_log(touched) && is_log(name)
        // A state that is too old names tables that are gone, and a log that is too young.
        || is_state(touched) && (is_state(name) || is_log(name) || name.ends_with(".sst"))
}

/// What was left must not come back: a new write after the recovery, a death, and nothing else is there.
fn live_on(specimen: &Specimen, disk: &SimDisk, truth: &Map) -> Result<(), Failure> {
    let disk = disk.after_kill();
    let after = |error: Error| format!("afterwards: {error}");
    let db = open(&disk, &specimen.options).map_err(after)?;
    db.put(COUNTER, b"after").map_err(after)?;
    let disk = disk.after_kill();
    drop(db);
    let db = open(&disk, &specimen.options).map_err(after)?;
    let found = contents(&db).map_err(after)?;
    let mut expected = truth.clone();
    expected.insert((0, COUNTER.to_vec()), b"after".to_vec());
    if found != expected {
        return Err(
            "a write after the recovery, and a death: now the contents are wrong".to_owned()
        );
    }
    Ok(())
}

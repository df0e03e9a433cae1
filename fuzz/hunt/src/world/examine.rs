//! Opens a database that was damaged, asks it everything, and judges the answers.
//!
//! Allowed are two: an error for damage that names a damaged file, and the truth. What was promised must be in it, and an
//! opening that was refused must have left every file as it was.

use super::files::{Files, first_changed};
use super::history::{COUNTER, Map};
use super::sizes::{DIRECTORY, NAMES, open};
use super::specimen::Specimen;
use crate::drive::Failure;
use std::path::Path;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Db, Error, Keyspace, ReadOptions};

/// I/Os of one examination at most. An engine that needs more goes round in circles: the disk then fails, which no damage explains.
const IO_COUNT_MAX: u64 = 100_000;
/// Of so many keys one is asked for alone; all are asked for together.
const SAMPLED_ONE_IN: u64 = 5;

/// What is allowed.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    /// Commits that must be there, unless damage is reported.
    pub commits_min: usize,
    /// Whether this error is a right report of what was damaged.
    pub report: &'a dyn Fn(&Error) -> bool,
    /// Keyspaces to ask; the others cannot be touched by the damage.
    pub keyspaces: &'a [u8],
    /// If opening makes these calls, down to the bytes of its writes, the answers are known without asking.
    pub known: Option<Known>,
    /// Which of the keys are also asked for one by one.
    pub turn: u64,
}

/// What an undamaged opening of the same files did. It tells the truth of damage to files that are read by opening alone.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// [`SimDisk::trace`] after it.
    pub trace: u64,
    /// The commits that it found.
    pub commits: usize,
}

/// How it answered.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Opening was refused, and has changed nothing.
    Refused(Error),
    /// Damage was reported by reads, or by `verify` alone; whatever else was answered was the truth.
    Reported(Error),
    /// The truth, after so many commits.
    Right(usize),
}

/// True if `error` is damage of a file of the database that `names` takes.
pub fn is_corruption_of(error: &Error, names: impl Fn(&str) -> bool) -> bool {
    let Error::Corruption { path, .. } = error else { return false };
    path.parent() == Some(Path::new(DIRECTORY))
        && path.file_name().and_then(|name| name.to_str()).is_some_and(names)
}

/// Opens what is on `disk` (`files`, as they were damaged) and asks it everything.
///
/// # Errors
/// What was answered and must not be.
pub fn examine(
    specimen: &Specimen,
    disk: &SimDisk,
    files: &dyn Fn() -> Files,
    allowed: &Allowed<'_>,
) -> Result<Answer, Failure> {
    disk.cut_power_at(IO_COUNT_MAX);
    let db = match open(disk, &specimen.options) {
        Ok(db) => db,
        Err(error) => {
            if !(allowed.report)(&error) {
                return Err(format!("refused with the wrong words: {error}"));
            }
            let changed = first_changed(&files(), disk).map_err(|error| error.to_string())?;
            return match changed {
                Some(name) => Err(format!("{name} was changed, then: {error}")),
                None => Ok(Answer::Refused(error)),
            };
        }
    };
    match allowed.known.filter(|known| known.trace == disk.trace()) {
        Some(known) => Ok(Answer::Right(known.commits)),
        None => interrogate(specimen, &db, allowed),
    }
}

/// Asks an open database everything.
///
/// # Errors
/// As [`examine`].
pub fn interrogate(specimen: &Specimen, db: &Db, allowed: &Allowed<'_>) -> Result<Answer, Failure> {
    let mut inquiry = Inquiry { allowed, report: None };
    let keyspaces: Vec<(u8, Keyspace)> = allowed
        .keyspaces
        .iter()
        .map(|&number| Ok((number, db.keyspace(NAMES[usize::from(number)])?)))
        .collect::<treering_lsm::Result<_>>()
        .map_err(|error| format!("a keyspace is gone: {error}"))?;
    // Nothing of this may find in the cache what the one before it read.
    let cold = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    let mut points = Vec::new();
    let mut forward = Map::new();
    let mut backward = Map::new();
    for (number, keyspace) in &keyspaces {
        let keys = &specimen.keys[usize::from(*number)];
        let sampled = keys.iter().skip((allowed.turn % SAMPLED_ONE_IN) as usize);
        for key in sampled.step_by(SAMPLED_ONE_IN as usize) {
            let value = inquiry.note(keyspace.get_with(key, &cold))?;
            points.extend(value.map(|value| ("get", *number, key, value)));
        }
        let all: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (key, value) in keys.iter().zip(keyspace.multi_get(&all, &cold)) {
            let value = inquiry.note(value)?;
            points.extend(value.map(|value| ("multi_get", *number, key, value)));
        }
        let shown = scan(*number, keyspace, true, &cold, &mut forward);
        inquiry.note(shown)?;
        let shown = scan(*number, keyspace, false, &cold, &mut backward);
        inquiry.note(shown)?;
    }
    let all = specimen.commits();
    let commits = match (&inquiry.report, allowed.commits_min == all) {
        (None, _) => commits_in(&forward, allowed)?,
        (Some(_), true) => all,
        // A scan broke off, and the truth is one of several.
        (Some(_), false) => return inquiry.finish(db, all),
    };
    if commits < allowed.commits_min || commits > all {
        let promised = allowed.commits_min;
        return Err(format!("{commits} commits are there, {promised} to {all} are right"));
    }
    let truth = specimen.state(commits).ok_or("there is no such state")?;
    let in_part = |map: &Map| map.iter().all(|(key, value)| truth.get(key) == Some(value));
    let whole = |map: &Map| {
        let asked = truth.iter().filter(|((number, _), _)| allowed.keyspaces.contains(number));
        asked.eq(map.iter())
    };
    let right = match inquiry.report {
        Some(_) => in_part(&forward) && in_part(&backward),
        None => whole(&forward) && whole(&backward),
    };
    if !right {
        return Err(format!("a scan does not show the state after {commits} commits"));
    }
    for (how, number, key, value) in points {
        if value.as_deref() != truth.get(&(number, key.clone())).map(Vec::as_slice) {
            return Err(format!("{how} of {} is wrong", key.escape_ascii()));
        }
    }
    inquiry.finish(db, commits)
}

struct Inquiry<'a> {
    allowed: &'a Allowed<'a>,
    /// The first report of damage.
    report: Option<Error>,
}

impl Inquiry<'_> {
    /// Takes a report of damage; other errors are findings.
    fn note<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if (self.allowed.report)(&error) => {
                self.report.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(format!("a read failed with the wrong words: {error}")),
        }
    }

    /// Has all tables verified: that must find whatever the reads found, and nothing that is not there.
    fn finish(mut self, db: &Db, commits: usize) -> Result<Answer, Failure> {
        let reads = self.report.take();
        let verified = db.verify();
        match (self.note(verified)?, reads) {
            (Some(()), Some(error)) => Err(format!("verify found nothing, a read did: {error}")),
            (Some(()), None) => Ok(Answer::Right(commits)),
            (None, reads) => {
                let report = reads.or(self.report).expect("verify or a read reported something");
                Ok(Answer::Reported(report))
            }
        }
    }
}

/// Adds what a cursor shows, up to its end or the first error.
fn scan(
    number: u8,
    keyspace: &Keyspace,
    forward: bool,
    options: &ReadOptions,
    map: &mut Map,
) -> Result<(), Error> {
    let mut cursor = keyspace.cursor(options)?;
    let mut valid = if forward { cursor.seek_to_first()? } else { cursor.seek_to_last()? };
    while valid {
        map.insert((number, cursor.key().to_vec()), cursor.value().to_vec());
        valid = if forward { cursor.next()? } else { cursor.prev()? };
    }
    Ok(())
}

/// How many commits a complete scan claims to show.
fn commits_in(map: &Map, allowed: &Allowed<'_>) -> Result<usize, Failure> {
    let number = allowed.keyspaces.first().copied().unwrap_or(0);
    let Some(value) = map.get(&(number, COUNTER.to_vec())) else { return Ok(0) };
    let text = String::from_utf8_lossy(value);
    let count: usize = text.parse().map_err(|_| format!("the counter says {text:?}"))?;
    Ok(count + 1)
}

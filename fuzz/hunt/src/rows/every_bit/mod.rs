//! Row 7: every bit of every file, flipped.
//!
//! A case is some bits of one file of one database. It takes every n-th bit, so that each case meets all parts of its
//! file, and the first cases meet every file: all of them together flip each bit of each byte once.
//!
//! ```text
//! seed 1 .. t: the first share of each of t files     t+1 ..: the second share of each file that has one     ... Exhausted
//! ```
//!
//! After a flip the database is opened and asked everything. Allowed are an error for damage that names this very file and
//! the truth; the truth alone is not enough where FORMAT.md says that a reader looks: there the flip must be reported.

mod place;
mod targets;

use crate::drive::{Case, Failure, Row, Tally, take_largest_allocation};
use crate::world::{Allowed, Answer, examine, is_corruption_of};
use place::must_be_found;
use std::sync::Arc;
use targets::{Kind, Target, cases, targets};

pub(super) const ROW: Row = Row {
    number: 7,
    name: "every-bit",
    promise: "no flipped bit of any file gives a wrong answer: it is reported with the file's name, or harmless",
    unit: "flips",
    ci_cases: 60,
    nightly: 6_000_000,
    parallel: true,
    run,
};

/// No damaged length may make the engine ask for more.
const ALLOCATION_BYTES_MAX: u64 = 1 << 30;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let targets = targets()?;
    let Some((target, share)) = seed.checked_sub(1).and_then(|index| cases(targets, index)) else {
        return Ok(Case::Exhausted);
    };
    take_largest_allocation();
    for bit in (share..target.bits()).step_by(target.shares() as usize) {
        let place = |failure| format!("bit {bit} of {}: {failure}", target.name());
        flip(target, bit, tally).map_err(place)?;
        let largest = take_largest_allocation();
        if largest > ALLOCATION_BYTES_MAX {
            return Err(place(format!("an allocation of {largest} bytes")));
        }
        tally.note_max("max_allocation_bytes", largest);
    }
    Ok(Case::Done)
}

fn flip(target: &Target, bit: u64, tally: &mut Tally) -> Result<(), Failure> {
    let disk = target.database.disk.after_kill();
    disk.flip_bit(&target.path, bit).map_err(|error| error.to_string())?;
    let specimen = &target.database.specimen;
    let by_log = matches!(target.kind, Kind::Segment | Kind::Ring);
    let by_opening_alone = by_log || target.kind == Kind::Ballast;
    let allowed = Allowed {
        // The end of a log that was only killed is promised to nobody once it is damaged.
        commits_min: if by_log { specimen.synced } else { specimen.commits() },
        report: &|error| is_corruption_of(error, |name| name == target.file),
        keyspaces: &target.keyspaces,
        known: target.database.known.filter(|_| by_opening_alone),
        turn: bit,
    };
    let files = || {
        let mut files = specimen.files.clone();
        if let Some(bytes) = files.get_mut(&target.file) {
            Arc::make_mut(bytes)[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        files
    };
    let answer = examine(specimen, &disk, &files, &allowed)?;
    let byte = (bit / 8) as usize;
    let kind = target.kind.word();
    tally.checked(1);
    tally.fired(kind, 1);
    match answer {
        Answer::Right(_)
            if must_be_found(target.kind, specimen.files[&target.file].len(), byte) =>
        {
            return Err("nobody saw it".to_owned());
        }
        Answer::Right(_) => tally.note(&format!("harmless_{kind}"), 1),
        Answer::Refused(_) | Answer::Reported(_) if target.kind == Kind::Ballast => {
            return Err("damage was reported in a file that is never read".to_owned());
        }
        Answer::Refused(_) => tally.note(&format!("refused_{kind}"), 1),
        Answer::Reported(_) => tally.note(&format!("reported_{kind}"), 1),
    }
    Ok(())
}

//! `verify`: single files, each recognised by its name.

use crate::database::Database;
use crate::failure::{Failure, Verdict};
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::report::{self, bytes, count};
use crate::table::check_line;
use crate::wal::LogFiles;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use treering_lsm::Error;
use treering_lsm::file::change_file::ChangeReader;
use treering_lsm::file::manifest::walk as manifest_walk;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::wal::LogStart;
use treering_lsm::file::wal::walk;

/// Runs the command.
pub(crate) fn run(files: &[PathBuf], json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let total = files.iter().filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum();
    let progress = Progress::new("verifying", total);
    let mut sound = true;
    for file in files {
        progress.at(&file.display().to_string());
        let verdict = verify(file);
        progress.add(file.metadata().map_or(0, |data| data.len()));
        let (word, detail, damage) = match &verdict {
            Ok(detail) => ("sound", detail.clone(), None),
            Err(Failure::Engine(
                error @ (Error::Corruption { .. } | Error::NewerFormat { .. }),
            )) => ("damaged", report::damage_line(error), Some(report::damage_json(error))),
            Err(_) => {
                verdict?;
                continue;
            }
        };
        sound &= damage.is_none();
        if json {
            let file = file.display().to_string();
            writeln!(out, "{}", json!({ "file": file, "verdict": word, "damage": damage }))?;
        } else {
            writeln!(out, "{}: {word}: {detail}", file.display())?;
        }
    }
    Ok(Verdict::of(sound))
}

/// What was looked at, in words.
fn verify(file: &Path) -> Result<String, Failure> {
    let (database, kind) = Database::of_file(file)?;
    match kind {
        Some(FileKind::Table(number)) => Ok(check_line(&database.open_table(number)?.verify()?)),
        Some(FileKind::Manifest(number)) => verify_manifest(&database, number),
        Some(FileKind::Current) => match manifest_walk::named(&database.disk, &database.path)? {
            Some((number, durable)) => {
                Ok(format!("names MANIFEST-{:06}, durable to {durable}", number.0))
            }
            None => Failure::refused("CURRENT went away"),
        },
        Some(FileKind::Wal(slot)) => verify_segment(&database, slot),
        Some(FileKind::Ring) => match LogFiles::read(&database)?.ring {
            Some(ring) => Ok(format!("the ring of run {}, {}", ring.epoch, bytes(ring.capacity))),
            None => Err(invalid_header(file)),
        },
        Some(FileKind::Lock | FileKind::Ballast | FileKind::Notes) => {
            Ok("nobody reads what is in it".to_owned())
        }
        Some(FileKind::Changes(first)) => {
            let (commits, last) = read_changes(&database, first)?;
            Ok(format!("{}, sequence numbers {first} to {last}", count(commits, "commit")))
        }
        Some(FileKind::Temporary) => Ok("half-made; the next open removes it".to_owned()),
        None => Failure::refused(format!(
            "{} is named like no file of a database; tables are n.sst, manifests MANIFEST-n, segments of the log n.wal",
            file.display()
        )),
    }
}

fn verify_manifest(
    database: &Database,
    number: treering_lsm::base::key::FileNumber,
) -> Result<String, Failure> {
    let named = manifest_walk::named(&database.disk, &database.path).unwrap_or(None);
    let vouched = named.filter(|(of, _)| *of == number).map(|(_, durable)| durable);
    let manifest = Manifest::read(database, number, vouched)?;
    match manifest.walked.damage {
        Some(damage) => Err(damage.into()),
        None => {
            let edits = manifest.walked.records.iter().filter(|record| record.edit.is_some());
            let tables = count(manifest.state.tables().count() as u64, "table");
            Ok(format!("{}, {tables}", count(edits.count() as u64, "edit")))
        }
    }
}

/// A segment by itself: its header, and every fragment from its base on to the end of the log or of the segment.
fn verify_segment(database: &Database, slot: u64) -> Result<String, Failure> {
    let path = name::wal(&database.path, slot);
    let files = LogFiles::read(database)?;
    let Some(segment) = files.segments.iter().find(|segment| segment.slot == slot) else {
        return Failure::refused(format!("{} went away", path.display()));
    };
    let Some(header) = segment.header else {
        return if segment.is_spare {
            Ok("a spare".to_owned())
        } else {
            Err(invalid_header(&path))
        };
    };
    if Some(header.epoch) != files.epoch() {
        return Ok(format!("of run {}, which is over", header.epoch));
    }
    let end = header.base + header.capacity;
    let start = LogStart { epoch: header.epoch, lsn: header.base };
    let mut records = 0;
    let walked = walk::walk(&database.disk, &database.path, start, &mut |record| {
        records += u64::from(record.lsn < end);
        Ok(())
    })?;
    // The manifest promises, too, where one can be read.
    let known = Manifest::sound(database).ok().map(|manifest| manifest.state);
    let known = known.filter(|state| state.log.epoch == header.epoch);
    let promised = known.map_or(0, |state| state.promised).max(walked.promised);
    let first = walked.holes.first().unwrap_or(&walked.end);
    let at = first.lsns.start;
    // What lies behind the last promise is a torn tail, and what is behind this segment is another's matter.
    let is_here = at < end && first.path == path;
    if is_here && (first.impossible.is_some() || promised > at) {
        let detail = first.impossible.map_or_else(
            || format!("nothing validates here, but everything below LSN {} was acknowledged as durable", promised),
            str::to_owned,
        );
        return Err(Error::corruption(&path, first.offset, detail).into());
    }
    Ok(format!("{} of run {} begin in it", count(records, "record"), header.epoch))
}

fn invalid_header(path: &Path) -> Failure {
    Error::corruption(path, 0, "the header does not validate: a torn write, or damage").into()
}

/// Reads a change file to its end; how many commits it holds, and the last sequence number.
pub(crate) fn read_changes(database: &Database, first: u64) -> Result<(u64, u64), Error> {
    let mut reader = ChangeReader::open(&database.disk, &database.path, first)?;
    let (mut commits, last) = (0, reader.last());
    while reader.next_frame()?.is_some() {
        commits += 1;
    }
    Ok((commits, last))
}

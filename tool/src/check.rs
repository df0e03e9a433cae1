//! `check`: a whole closed database, from CURRENT to the last byte of every table, without changing it.

use crate::database::{Database, Entry};
use crate::failure::{Failure, Verdict};
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::report::{self, bytes, count};
use crate::verify::read_changes;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use treering_lsm::Error;
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::wal::{self, LogStart, Recovered};
use treering_lsm::format::batch::BatchReader;
use treering_lsm::format::table_info::TableInfo;

/// What the check has found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Everything that is wrong.
    pub(crate) damage: Vec<Error>,
    /// Files that the next open removes, or that are not ours.
    pub(crate) strays: Vec<String>,
    tables: u64,
    entries: u64,
    bytes: u64,
    log: Recovered,
}

/// Runs the command.
pub(crate) fn run(directory: &Path, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut database = Database::at(directory)?;
    database.must_hold_something()?;
    database.lock()?;
    let findings = check(&database)?;
    let sound = findings.damage.is_empty();
    if json {
        let document = json!({
            "verdict": if sound { "sound" } else { "damaged" },
            "tables": findings.tables,
            "entries": findings.entries,
            "table_bytes": findings.bytes,
            "log_records": findings.log.records,
            "log_torn_tail": findings.log.torn_tail,
            "damage": findings.damage.iter().map(report::damage_json).collect::<Vec<_>>(),
            "strays": findings.strays,
        });
        writeln!(out, "{document}")?;
        return Ok(Verdict::of(sound));
    }
    for damage in &findings.damage {
        writeln!(out, "damaged: {}", report::damage_line(damage))?;
    }
    for stray in &findings.strays {
        writeln!(out, "stray: {stray}")?;
    }
    let torn = if findings.log.torn_tail { ", then a torn tail" } else { "" };
    writeln!(
        out,
        "{}, {}, {} in tables; {} in the log{torn}",
        count(findings.tables, "table"),
        count(findings.entries, "entry"),
        bytes(findings.bytes),
        count(findings.log.records, "record"),
    )?;
    match sound {
        true => writeln!(out, "sound: {}", directory.display())?,
        false => writeln!(
            out,
            "DAMAGED: {}: {} found; DURABILITY.md says what can be done",
            directory.display(),
            count(findings.damage.len() as u64, "fault")
        )?,
    }
    Ok(Verdict::of(sound))
}

/// Looks at everything.
pub(crate) fn check(database: &Database) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let manifest = match Manifest::in_force(database) {
        Ok(manifest) => manifest,
        Err(error @ Error::NotADatabase { .. }) => {
            let path = database.path.join(name::CURRENT);
            let detail = match error {
                Error::NotADatabase { detail, .. } => detail,
                other => other.to_string(),
            };
            findings.damage.push(Error::corruption(&path, 0, detail));
            return Ok(findings);
        }
        Err(error @ Error::Corruption { .. }) => {
            findings.damage.push(error);
            return Ok(findings);
        }
        Err(error) => return Err(error.into()),
    };
    findings.damage.extend(manifest.walked.damage.clone());
    check_shape(database, &manifest, &mut findings);
    check_tables(database, &manifest, &mut findings)?;
    check_log(database, &manifest, &mut findings)?;
    let entries = database.entries()?;
    for entry in &entries {
        let Some(FileKind::Changes(first)) = entry.kind else { continue };
        if first <= manifest.state.changes {
            match read_changes(database, first) {
                Err(error @ (Error::Corruption { .. } | Error::NewerFormat { .. })) => {
                    findings.damage.push(error);
                }
                other => drop(other?),
            }
        }
    }
    findings.strays = entries.iter().filter_map(|entry| stray(entry, &manifest)).collect();
    Ok(findings)
}

/// Levels, numbers, and tables that stand in two places.
fn check_shape(database: &Database, manifest: &Manifest, findings: &mut Findings) {
    let path = name::manifest(&database.path, manifest.number);
    let mut wrong = |detail: String| findings.damage.push(Error::corruption(&path, 0, detail));
    let state = &manifest.state;
    for (keyspace, level, left, right) in state.overlaps() {
        wrong(format!("tables {left} and {right} overlap in L{level} of keyspace {keyspace:?}"));
    }
    let mut seen = BTreeSet::new();
    for (keyspace, level, table) in state.tables() {
        if !seen.insert(table.table_id) {
            let name = &keyspace.record.name;
            wrong(format!("table {} stands a second time in L{level} of {name:?}", table.table_id));
        }
        if table.sequence_max > state.last_sequence {
            wrong(format!(
                "table {} holds sequence number {}, the last one is {}",
                table.table_id, table.sequence_max, state.last_sequence
            ));
        }
    }
}

fn check_tables(
    database: &Database,
    manifest: &Manifest,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let total = manifest.state.tables().map(|(_, _, table)| table.file_bytes).sum();
    let progress = Progress::new("checking", total);
    for (keyspace, _, info) in manifest.state.tables() {
        let path = name::table(&database.path, FileNumber(info.table_id));
        progress.at(&format!("{:06}.sst", info.table_id));
        match check_table(database, info, keyspace.record.id.0) {
            Ok(()) => {
                findings.tables += 1;
                findings.entries += info.entry_count;
                findings.bytes += info.file_bytes;
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let detail = "the manifest names this table, but it is not there";
                findings.damage.push(Error::corruption(&path, 0, detail));
            }
            // A device that cannot read a block is damage, too: the other tables are still worth a look.
            Err(error) => findings.damage.push(error),
        }
        progress.add(info.file_bytes);
    }
    Ok(())
}

/// A table is what the manifest says, and every byte of it is sound.
fn check_table(database: &Database, info: &TableInfo, keyspace: u32) -> Result<(), Error> {
    let reader = database.open_table_as(info)?;
    let written_for = reader.properties().keyspace;
    // Who made a file that was ingested did not know.
    if written_for != keyspace && info.ingested.is_none() {
        let path = name::table(&database.path, FileNumber(info.table_id));
        let detail = format!("it is of keyspace {written_for}, the manifest says {keyspace}");
        return Err(Error::corruption(&path, info.tail_offset, detail));
    }
    reader.verify().map(drop)
}

fn check_log(
    database: &Database,
    manifest: &Manifest,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let log = manifest.state.log;
    let start = LogStart { epoch: log.epoch, lsn: log.lsn };
    let keyspaces = manifest.state.keyspaces.len();
    let path = &database.path;
    let apply = &mut |sequence: u64, count: u32, batch: &[u8]| {
        let wrong = |detail: String| {
            let detail = format!("log record with sequence number {sequence}: {detail}");
            Err(Error::corruption(path, 0, detail))
        };
        for item in BatchReader::new(batch, count) {
            match item {
                Err(damage) => return wrong(damage.detail.to_owned()),
                Ok(operation) if operation.keyspace.0 as usize >= keyspaces => {
                    return wrong(format!("there is no keyspace {}", operation.keyspace.0));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    };
    match wal::recover(&database.disk, path, start, manifest.state.promised, apply) {
        Ok(recovered) => findings.log = recovered,
        Err(error @ (Error::Corruption { .. } | Error::NewerFormat { .. })) => {
            findings.damage.push(error);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Why a file does not belong to the database.
fn stray(entry: &Entry, manifest: &Manifest) -> Option<String> {
    let name = &entry.name;
    match entry.kind {
        Some(FileKind::Table(number))
            if !manifest.state.tables().any(|(_, _, table)| table.table_id == number.0) =>
        {
            Some(format!("{name} (the manifest does not name it; the next open removes it)"))
        }
        Some(FileKind::Manifest(number)) if number != manifest.number => {
            Some(format!("{name} (not in force; the next open removes it)"))
        }
        Some(FileKind::Changes(first)) if first > manifest.state.changes => {
            Some(format!("{name} (the manifest does not count it; the next open removes it)"))
        }
        Some(FileKind::Temporary) => Some(format!("{name} (half-made; the next open removes it)")),
        None => Some(format!("{name} (not a file of the database; left alone)")),
        Some(_) => None,
    }
}

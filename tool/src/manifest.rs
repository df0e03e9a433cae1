//! `manifest`: every edit, one a line, then what they add up to.

use crate::database::{Database, file_name};
use crate::failure::{Failure, Verdict};
use crate::key_text::escape;
use crate::report::{self, count};
use crate::state::State;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use treering_lsm::Error;
use treering_lsm::base::key::FileNumber;
use treering_lsm::base::key::KeyspaceId;
use treering_lsm::base::range_deletes::RangeDelete;
use treering_lsm::file::manifest::walk::{self, Walked};
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::format::edit::VersionEdit;

/// A manifest and what it adds up to.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) number: FileNumber,
    pub(crate) walked: Walked,
    /// The sum of the edits, up to the first that contradicts those before.
    pub(crate) state: State,
    /// What CURRENT says was durable of it, if it names this one.
    pub(crate) vouched: Option<u64>,
}

impl Manifest {
    /// Reads manifest `number`, as far as it can be read.
    ///
    /// # Errors
    /// As [`walk::walk`].
    pub(crate) fn read(
        database: &Database,
        number: FileNumber,
        vouched: Option<u64>,
    ) -> Result<Manifest, Error> {
        let mut walked = walk::walk(&database.disk, &database.path, number, vouched.unwrap_or(0))?;
        let mut state = State::default();
        for record in &walked.records {
            let Some(edit) = &record.edit else { continue };
            if let Err(detail) = state.apply(edit) {
                let path = name::manifest(&database.path, number);
                walked.damage = Some(Error::corruption(&path, record.offset, detail));
                break;
            }
        }
        if walked.damage.is_none() && state.keyspaces.is_empty() {
            let path = name::manifest(&database.path, number);
            walked.damage = Some(Error::corruption(&path, 0, "no default keyspace"));
        }
        Ok(Manifest { number, walked, state, vouched })
    }

    /// Reads the manifest that CURRENT names.
    ///
    /// # Errors
    /// [`Error::NotADatabase`] without CURRENT, and as [`Manifest::read`].
    pub(crate) fn in_force(database: &Database) -> Result<Manifest, Error> {
        match walk::named(&database.disk, &database.path)? {
            Some((number, durable)) => Manifest::read(database, number, Some(durable)),
            None => {
                let detail = "CURRENT is missing; `treering-tool repair` can make a new one";
                let path = database.path.clone();
                Err(Error::NotADatabase { path, detail: detail.to_owned() })
            }
        }
    }

    /// As [`Manifest::in_force`], where what it says is to be relied on.
    ///
    /// # Errors
    /// Its damage, too.
    pub(crate) fn sound(database: &Database) -> Result<Manifest, Error> {
        let manifest = Manifest::in_force(database)?;
        match &manifest.walked.damage {
            Some(damage) => Err(damage.clone()),
            None => Ok(manifest),
        }
    }
}

/// Runs the command.
pub(crate) fn run(target: &Path, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let manifest = find(target)?;
    if json {
        let document = document(&manifest);
        serde_json::to_writer(&mut *out, &document).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&manifest, out)?;
    }
    Ok(Verdict::of(manifest.walked.damage.is_none()))
}

fn find(target: &Path) -> Result<Manifest, Failure> {
    if target.is_dir() {
        return Ok(Manifest::in_force(&Database::at(target)?)?);
    }
    match Database::of_file(target)? {
        (database, Some(FileKind::Manifest(number))) => {
            // A damaged CURRENT says nothing about this manifest, and is not what was asked.
            let named = walk::named(&database.disk, &database.path).unwrap_or(None);
            let vouched = named.filter(|(of, _)| *of == number).map(|(_, durable)| durable);
            Ok(Manifest::read(&database, number, vouched)?)
        }
        _ => {
            let name = file_name(target);
            Failure::refused(format!("{name} is not named as a manifest is, MANIFEST-000012"))
        }
    }
}

fn print(manifest: &Manifest, out: &mut dyn Write) -> std::io::Result<()> {
    let Manifest { number, walked, state, vouched } = manifest;
    let edits = walked.records.iter().filter(|record| record.edit.is_some()).count();
    write!(out, "MANIFEST-{:06}: {}, ", number.0, count(edits as u64, "edit"))?;
    write!(out, "{} of {} bytes are records; ", walked.end, walked.file_bytes)?;
    match vouched {
        Some(durable) => writeln!(out, "in force, CURRENT vouches for {durable} bytes")?,
        None => writeln!(out, "CURRENT does not name it")?,
    }
    for record in &walked.records {
        if let Some(edit) = &record.edit {
            writeln!(out, "@{:<8} {}", record.offset, edit_line(edit))?;
        }
    }
    match &walked.damage {
        Some(damage) => writeln!(out, "damaged: {}", report::damage_line(damage))?,
        None if walked.end < walked.file_bytes => {
            writeln!(out, "torn tail: the last edit was not finished, and nobody was told of it")?;
        }
        None => {}
    }
    print_state(state, out)
}

/// Keyspaces, levels and tables.
fn print_state(state: &State, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out)?;
    writeln!(
        out,
        "next file {}, last sequence {}, log from epoch {} LSN {}, promised below {}",
        state.next_file, state.last_sequence, state.log.epoch, state.log.lsn, state.promised
    )?;
    for keyspace in &state.keyspaces {
        let record = &keyspace.record;
        writeln!(out, "keyspace {} \"{}\"", record.id.0, record.name.escape_debug())?;
        writeln!(out, "  {}", report::options_line(&record.options))?;
        for (level, tables) in keyspace.levels.iter().enumerate() {
            if tables.is_empty() {
                continue;
            }
            let size = tables.iter().map(|table| table.file_bytes).sum();
            let tables_count = count(tables.len() as u64, "table");
            writeln!(out, "  L{level}: {tables_count}, {}", report::bytes(size))?;
            for table in tables {
                writeln!(out, "    {}", report::table_line(table))?;
            }
        }
    }
    Ok(())
}

/// An edit in one line.
fn edit_line(edit: &VersionEdit) -> String {
    let mut parts = Vec::new();
    for record in &edit.keyspaces {
        parts.push(format!("make keyspace {} \"{}\"", record.id.0, record.name.escape_debug()));
    }
    for (keyspace, level, number) in &edit.removed {
        parts.push(format!("- {:06}.sst from L{level} of keyspace {}", number.0, keyspace.0));
    }
    for (keyspace, level, info) in &edit.added {
        parts.push(format!(
            "+ {:06}.sst to L{level} of keyspace {} ({}, seq {}..={})",
            info.table_id,
            keyspace.0,
            report::bytes(info.file_bytes),
            info.sequence_min,
            info.sequence_max
        ));
    }
    for (word, ranges) in [("forget", &edit.range_forgets), ("delete", &edit.range_deletes)] {
        for (keyspace, range) in ranges {
            let end = match &range.end[..] {
                [] => "the end".to_owned(),
                end => format!("\"{}\"", end.escape_ascii()),
            };
            parts.push(format!(
                "{word} range \"{}\" to {end} of keyspace {} at seq {}",
                range.start.escape_ascii(),
                keyspace.0,
                range.sequence
            ));
        }
    }
    if let Some(changes) = edit.changes {
        parts.push(format!("changes kept up to seq {changes}"));
    }
    for keyspace in &edit.dropped {
        parts.push(format!("drop keyspace {}", keyspace.0));
    }
    for (keyspace, guards) in &edit.guards {
        let keys = report::count(guards.keys().len() as u64, "guard key");
        parts.push(format!("{keys} in keyspace {}", keyspace.0));
    }
    for mark in &edit.time_marks {
        parts.push(format!("seq {} was written by {} ms", mark.sequence, mark.millis));
    }
    if let Some(log) = edit.log {
        parts.push(format!("log from epoch {} LSN {}", log.epoch, log.lsn));
    }
    if let Some(promised) = edit.promised {
        parts.push(format!("log durable below {promised}"));
    }
    if let Some(sequence) = edit.last_sequence {
        parts.push(format!("last sequence {sequence}"));
    }
    if let Some(next) = edit.next_file {
        parts.push(format!("next file {next}"));
    }
    parts.join("; ")
}

fn ranges_json(ranges: &[(KeyspaceId, RangeDelete)]) -> Vec<Value> {
    ranges
        .iter()
        .map(|(keyspace, range)| {
            json!({
                "keyspace": keyspace.0,
                "start": range.start.escape_ascii().to_string(),
                "end": range.end.escape_ascii().to_string(),
                "sequence": range.sequence
            })
        })
        .collect()
}

fn document(manifest: &Manifest) -> Value {
    let Manifest { number, walked, state, vouched } = manifest;
    let edits: Vec<Value> = walked
        .records
        .iter()
        .filter_map(|record| {
            let edit = record.edit.as_ref()?;
            Some(json!({
                "offset": record.offset,
                "next_file": edit.next_file,
                "last_sequence": edit.last_sequence,
                "log": edit.log.map(|log| json!({ "epoch": log.epoch, "lsn": log.lsn })),
                "promised": edit.promised,
                "keyspaces": edit.keyspaces.iter()
                    .map(|record| json!({ "id": record.id.0, "name": record.name }))
                    .collect::<Vec<_>>(),
                "added": edit.added.iter()
                    .map(|(keyspace, level, info)| json!({
                        "keyspace": keyspace.0, "level": level, "table": report::table_json(info)
                    }))
                    .collect::<Vec<_>>(),
                "removed": edit.removed.iter()
                    .map(|(keyspace, level, number)| json!({
                        "keyspace": keyspace.0, "level": level, "number": number.0
                    }))
                    .collect::<Vec<_>>(),
                "range_deletes": ranges_json(&edit.range_deletes),
                "range_forgets": ranges_json(&edit.range_forgets),
                "changes": edit.changes,
                "dropped": edit.dropped.iter().map(|id| id.0).collect::<Vec<_>>(),
                "guard_keys": edit.guards.iter()
                    .map(|(keyspace, guards)| json!({
                        "keyspace": keyspace.0,
                        "keys": guards.keys().iter().map(|key| escape(key)).collect::<Vec<_>>()
                    }))
                    .collect::<Vec<_>>(),
                "time_marks": edit.time_marks.iter()
                    .map(|mark| json!({ "millis": mark.millis, "sequence": mark.sequence }))
                    .collect::<Vec<_>>(),
            }))
        })
        .collect();
    let keyspaces: Vec<Value> = state
        .keyspaces
        .iter()
        .map(|keyspace| {
            let levels: Vec<Vec<Value>> = keyspace
                .levels
                .iter()
                .map(|tables| tables.iter().map(report::table_json).collect())
                .collect();
            json!({
                "id": keyspace.record.id.0,
                "name": keyspace.record.name,
                "options": report::options_json(&keyspace.record.options),
                "levels": levels,
            })
        })
        .collect();
    json!({
        "number": number.0,
        "in_force": vouched.is_some(),
        "vouched_bytes": vouched,
        "record_bytes": walked.end,
        "file_bytes": walked.file_bytes,
        "damage": walked.damage.as_ref().map(report::damage_json),
        "edits": edits,
        "next_file": state.next_file,
        "last_sequence": state.last_sequence,
        "log": { "epoch": state.log.epoch, "lsn": state.log.lsn },
        "promised": state.promised,
        "keyspaces": keyspaces,
    })
}

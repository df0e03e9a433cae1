//! `repair`: a new CURRENT and manifest for a database that has lost them, from what its files still say.
//!
//! ```text
//! evidence (manifests, every table read, headers of the log)
//!   → arrangement: which table stands in which level      (arrange.rs)
//!   → log: where the next open begins to replay           (log.rs)
//!   → plan, printed; with --dry-run that is all
//!   → links of all that goes to lost-<n>, new tables, new manifest, CURRENT, then the old names go   (carry_out.rs)
//! ```
//!
//! Promises:
//! 1. What a sound table or an intact record of the log holds is in the repaired database.
//! 2. Nothing is destroyed: every file that leaves the database has a name in `lost-<n>` first. A repair that is cut off can be run again.
//! 3. A database that needs no repair is not changed.
//!
//! What cannot be known without a manifest: that a table is an old input of a compaction whose other inputs are unlinked already. It
//! looks like a newer table above the output. It is kept (losing nothing comes first) and the plan says so: an entry that was
//! deleted or overwritten may come back then.

mod arrange;
mod carry_out;
mod evidence;
mod log;

use crate::arguments::Repair;
use crate::check;
use crate::database::Database;
use crate::failure::{Failure, Verdict};
use crate::report::{self, count};
use arrange::{Arrangement, arrange};
use evidence::Evidence;
use log::{LogFate, LogPlan};
use serde_json::json;
use std::io::Write;
use treering_lsm::base::key::{FileNumber, KeyspaceId};
use treering_lsm::base::options::KeyspaceOptions;
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, VersionEdit};

/// Everything that is to be done.
#[derive(Debug)]
struct Plan {
    /// The first edit of the new manifest; merged tables are added when they are written.
    edit: VersionEdit,
    manifest: FileNumber,
    arrangement: Arrangement,
    log: LogPlan,
    /// Names that go to `lost-<n>`, and why.
    lost: Vec<(String, String)>,
    /// What the operator should know.
    notes: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Repair, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let mut database = Database::at(&arguments.directory)?;
    database.must_hold_something()?;
    database.lock()?;
    if check::check(&database)?.damage.is_empty() {
        match json {
            true => writeln!(out, "{}", json!({ "needed": false }))?,
            false => writeln!(out, "sound: {}: nothing to repair", database.path.display())?,
        }
        return Ok(Verdict::Sound);
    }
    let evidence = Evidence::gather(&database)?;
    let plan = make_plan(&database, &evidence)?;
    if json {
        writeln!(out, "{}", document(&plan, arguments.dry_run))?;
    } else {
        print(&plan, out)?;
    }
    if arguments.dry_run {
        if !json {
            writeln!(out, "nothing was changed (--dry-run)")?;
        }
        return Ok(Verdict::Sound);
    }
    let lost = carry_out::carry_out(&database, plan)?;
    if !json {
        writeln!(out, "repaired; what was taken out is in {}", lost.display())?;
        writeln!(
            out,
            "the next open replays the log; `treering-tool check` reads all of it again"
        )?;
    }
    Ok(Verdict::Sound)
}

fn make_plan(database: &Database, evidence: &Evidence) -> Result<Plan, Failure> {
    let mut notes = evidence.notes.clone();
    let arrangement = arrange(database, evidence, &mut notes)?;
    let log = LogPlan::make(database, evidence, &mut notes)?;
    let mut edit = VersionEdit {
        last_sequence: Some(evidence.last_sequence()),
        log: Some(log.mark),
        keyspaces: keyspaces(evidence, &log, &mut notes),
        ..VersionEdit::default()
    };
    // What was promised of a log that is kept still holds; a new one carries its promises itself.
    if let (LogFate::Kept, Some(base)) = (&log.fate, &evidence.base)
        && base.state.log.epoch == log.mark.epoch
    {
        edit.promised = Some(base.state.promised);
    }
    if let Some(base) = &evidence.base {
        // Of a manifest without its end nobody knows which change files count: the feed says that its changes are gone.
        let counted = Some(base.state.changes).filter(|&changes| changes > 0);
        edit.changes = counted.filter(|_| evidence.base_is_whole);
        // What has expired is told by time and number, whatever else is lost.
        edit.time_marks = base.state.time_marks.clone();
        for keyspace in &base.state.keyspaces {
            let ranges = keyspace.ranges.ranges().map(|range| (keyspace.record.id, range));
            edit.range_deletes.extend(ranges);
            if keyspace.is_dropped {
                edit.dropped.push(keyspace.record.id);
            }
            if !keyspace.guards.keys().is_empty() {
                edit.guards.push((keyspace.record.id, keyspace.guards.clone()));
            }
        }
    }
    if !evidence.base_is_whole {
        // One that was forgotten later would hide what is newer.
        edit.range_deletes.clear();
        notes.push(
            "range deletes stood in the manifest only: those that tables had not applied are lost, and what they deleted may come back".to_owned(),
        );
    }
    edit.added = arrangement.placed.clone();
    // A table may have applied a range delete that is newer than every entry.
    let applied = edit.added.iter().map(|(_, _, info)| info.applied).max();
    edit.last_sequence = edit.last_sequence.max(applied);
    let manifest = FileNumber(evidence.next_file());
    let lost = evidence.lost(&arrangement);
    Ok(Plan { edit, manifest, arrangement, log, lost, notes })
}

/// Names and options from the manifest where one knows them, else guessed from the tables.
fn keyspaces(evidence: &Evidence, log: &LogPlan, notes: &mut Vec<String>) -> Vec<KeyspaceRecord> {
    let base = evidence.base.as_ref().map(|base| &base.state.keyspaces);
    let known = base.map_or(0, Vec::len) as u32;
    let of_tables = evidence.tables.iter().map(|table| table.keyspace + 1).max().unwrap_or(0);
    let total = known.max(of_tables).max(log.keyspace_count).max(1);
    let record = |id: u32| {
        if let Some(state) = base.and_then(|keyspaces| keyspaces.get(id as usize)) {
            return state.record.clone();
        }
        let name = if id == 0 { "default".to_owned() } else { format!("recovered-{id}") };
        notes.push(format!(
            "keyspace {id}: no manifest names it; called {name:?}, options are guessed"
        ));
        KeyspaceRecord { id: KeyspaceId(id), name, options: guess_options(evidence, id) }
    };
    (0..total).map(record).collect()
}

/// Block size and filter of the newest table, compression by level of the newest table that was written for it.
fn guess_options(evidence: &Evidence, id: u32) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::default();
    let mut tables: Vec<_> = evidence.tables.iter().filter(|table| table.keyspace == id).collect();
    tables.sort_by_key(|table| table.info.table_id);
    for table in tables {
        let found = &table.properties;
        (options.block_bytes, options.filter) = (found.block_bytes, found.filter);
        if let Some(slot) = options.compression.get_mut(usize::from(found.level)) {
            *slot = found.compression;
        }
    }
    if options.validate().is_err() { KeyspaceOptions::default() } else { options }
}

fn print(plan: &Plan, out: &mut dyn Write) -> std::io::Result<()> {
    let edit = &plan.edit;
    for note in &plan.notes {
        writeln!(out, "note: {note}")?;
    }
    for (name, why) in &plan.lost {
        writeln!(out, "take out {name}: {why}")?;
    }
    for record in &edit.keyspaces {
        writeln!(out, "keyspace {} \"{}\"", record.id.0, record.name.escape_debug())?;
        for (_, level, info) in edit.added.iter().filter(|(of, _, _)| *of == record.id) {
            writeln!(out, "  L{level} {}", report::table_line(info))?;
        }
        for merge in plan.arrangement.merges.iter().filter(|merge| merge.keyspace == record.id) {
            let from = count(merge.inputs.len() as u64, "table");
            writeln!(out, "  L6 a merge of {from} whose order no arrangement can keep")?;
        }
    }
    writeln!(out, "log: {}", plan.log.line())?;
    writeln!(out, "new manifest: MANIFEST-{:06}", plan.manifest.0)
}

fn document(plan: &Plan, dry_run: bool) -> serde_json::Value {
    let LogMark { epoch, lsn } = plan.log.mark;
    let merges = plan.arrangement.merges.iter().map(|merge| {
        json!({
            "keyspace": merge.keyspace.0,
            "inputs": merge.inputs.iter().map(|info| info.table_id).collect::<Vec<_>>(),
        })
    });
    json!({
        "needed": true,
        "dry_run": dry_run,
        "manifest": plan.manifest.0,
        "log": { "epoch": epoch, "lsn": lsn, "records": plan.log.records, "fate": plan.log.line() },
        "keyspaces": plan.edit.keyspaces.iter()
            .map(|record| json!({ "id": record.id.0, "name": record.name }))
            .collect::<Vec<_>>(),
        "tables": plan.edit.added.iter()
            .map(|(keyspace, level, info)| json!({
                "keyspace": keyspace.0, "level": level, "table": report::table_json(info)
            }))
            .collect::<Vec<_>>(),
        "merges": merges.collect::<Vec<_>>(),
        "lost": plan.lost.iter()
            .map(|(name, why)| json!({ "file": name, "why": why }))
            .collect::<Vec<_>>(),
        "notes": plan.notes,
    })
}

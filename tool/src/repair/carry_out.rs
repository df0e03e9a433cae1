//! Carries a plan out, so that being cut off anywhere leaves a database that can be repaired again.
//!
//! ```text
//! lost-<n> made → links of everything that goes there, durable → merged tables → new log, moved into place
//!   → manifest → CURRENT → the linked names go
//! ```

use super::Plan;
use super::arrange::{Merge, TableMerge};
use super::log::LogFate;
use crate::database::Database;
use crate::failure::Failure;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use treering_lsm::base::clock::SystemClock;
use treering_lsm::base::key::{FileNumber, Kind};
use treering_lsm::base::options::KeyspaceOptions;
use treering_lsm::file::manifest::ManifestWriter;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::table_writer::{TableSpec, TableWriter};
use treering_lsm::file::wal::walk;
use treering_lsm::file::wal::{LogStart, Wal, WalOptions};
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::limits::LEVEL_COUNT;
use treering_lsm::{Error, Result};

/// Lost directories of one database at most.
const LOST_MAX: u32 = 10_000;
/// The size of memtable whose log is written anew.
const LOG_BYTES: u64 = 16 << 20;

/// Does everything; returns the lost directory.
pub(super) fn carry_out(
    database: &Database,
    mut plan: Plan,
) -> std::result::Result<PathBuf, Failure> {
    let lost = make_lost(database)?;
    let mut gone: Vec<String> = plan.lost.iter().map(|(name, _)| name.clone()).collect();
    let rewritten = matches!(plan.log.fate, LogFate::Rewritten { .. });
    if rewritten {
        gone.extend(plan.log.files.iter().cloned());
    }
    for name in &gone {
        let (from, to) = (database.path.join(name), lost.join(name));
        database.disk.hard_link(&from, &to).map_err(|e| Error::io("link", &to, e))?;
    }
    sync(database, &lost)?;

    let mut next = plan.manifest.0 + 1;
    for merge in &plan.arrangement.merges {
        let record = &plan.edit.keyspaces[merge.keyspace.0 as usize];
        let made = write_merged(database, merge, &record.options, &mut next)?;
        let last = (LEVEL_COUNT - 1) as u8;
        plan.edit.added.extend(made.into_iter().map(|info| (merge.keyspace, last, info)));
    }
    plan.edit.next_file = Some(next);
    sync(database, &database.path)?;
    if let LogFate::Rewritten { from } = plan.log.fate {
        rewrite_log(database, &plan, from, &lost)?;
    }
    ManifestWriter::create(&database.disk, &database.path, plan.manifest, &plan.edit)?;
    for name in &gone {
        // CURRENT is the new one by now, and a new log may have taken an old one's names.
        let is_new = *name == name::CURRENT || rewritten && plan.log.files.contains(name);
        if !is_new {
            let path = database.path.join(name);
            database.disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
    }
    sync(database, &database.path)?;
    Ok(lost)
}

fn sync(database: &Database, directory: &Path) -> Result<()> {
    database.disk.sync_directory(directory).map_err(|e| Error::io("sync", directory, e))
}

/// Makes the first `lost-<n>` that is not there.
fn make_lost(database: &Database) -> std::result::Result<PathBuf, Failure> {
    let taken = database.entries()?;
    let free = (1..=LOST_MAX)
        .map(|number| format!("lost-{number}"))
        .find(|name| taken.iter().all(|entry| entry.name != *name));
    let Some(name) = free else {
        return Failure::refused(format!("{LOST_MAX} lost directories are there; remove some"));
    };
    let path = database.path.join(name);
    database.disk.create_directory(&path).map_err(|e| Error::io("create", &path, e))?;
    Ok(path)
}

/// The newest version of each key, and what is below operands; what is deleted has nothing below it any more.
fn write_merged(
    database: &Database,
    merge: &Merge,
    options: &KeyspaceOptions,
    next: &mut u64,
) -> Result<Vec<TableInfo>> {
    let mut entries = TableMerge::open(database, merge.inputs.iter())?;
    let mut versions = Vec::new();
    let mut made = Vec::new();
    let mut writer: Option<TableWriter> = None;
    while let Some(key) = entries.next_key(&mut versions)? {
        // Operands, and what they are for; of anything else the newest version alone.
        let below = entries.values.iter().position(|(tag, _)| tag.kind() != Kind::Merge);
        entries.values.truncate(below.map_or(usize::MAX, |below| below + 1));
        entries.values.retain(|(tag, _)| tag.kind() != Kind::Delete);
        if entries.values.is_empty() {
            continue;
        }
        if let Some(full) = writer.take_if(|writer| writer.file_bytes() >= options.table_bytes) {
            made.push(full.finish()?);
        }
        let open = match &mut writer {
            Some(open) => open,
            None => {
                let number = FileNumber(*next);
                *next += 1;
                let spec = TableSpec {
                    table_id: number.0,
                    block_bytes: options.block_bytes,
                    compression: options.compression[LEVEL_COUNT - 1],
                    filter: options.filter,
                    prefix_bytes: options.prefix_bytes,
                    keyspace: merge.keyspace,
                    level: (LEVEL_COUNT - 1) as u8,
                    direct: false,
                    applied: 0,
                };
                let path = name::table(&database.path, number);
                writer.insert(TableWriter::create(&database.disk, &path, spec)?)
            }
        };
        for (tag, value) in &entries.values {
            open.add(&key, *tag, value)?;
        }
    }
    if let Some(last) = writer {
        made.push(last.finish()?);
    }
    Ok(made)
}

/// Writes what can be read of the log to a new one: made aside, durable, then moved over the old files, which have other names by now.
fn rewrite_log(database: &Database, plan: &Plan, from: LogStart, lost: &Path) -> Result<()> {
    let aside = lost.join("new-log");
    database.disk.create_directory(&aside).map_err(|e| Error::io("create", &aside, e))?;
    let start = LogStart { epoch: plan.log.mark.epoch, lsn: plan.log.mark.lsn };
    let options = WalOptions::for_write_buffer(LOG_BYTES, Arc::new(SystemClock::new()));
    let log = Wal::create(&database.disk, &aside, options, start, &[])?;
    walk::walk(&database.disk, &database.path, from, &mut |record| {
        log.append(record.sequence, record.count, &[record.batch]).map(drop)
    })?;
    log.close()?;
    drop(log);
    for name in &plan.log.files {
        let path = database.path.join(name);
        database.disk.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
    }
    let names = database.disk.list(&aside).map_err(|e| Error::io("list", &aside, e))?;
    for name in names {
        if let Some(FileKind::Wal(_) | FileKind::Ring) = name::parse(&name) {
            let (from, to) = (aside.join(&name), database.path.join(&name));
            database.disk.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))?;
        }
    }
    sync(database, &database.path)?;
    match std::fs::remove_dir(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::io("remove", &aside, error))
        }
        _ => Ok(()),
    }
}

//! The files of a database's directory, as opening finds them: which are there, which are missing, which nobody needs.

use crate::base::error::{Error, Result};
use crate::base::key::{FileNumber, SequenceNumber};
use crate::base::limits::{NUMBER_MAX, NUMBER_SHARE_MAX};
use crate::file::name::{self, FileKind};
use crate::io::Disk;
use crate::job::output::remove_all;
use crate::version::set::VersionSet;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The sequence numbers with which change files begin, ascending.
pub(super) fn change_files(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Vec<SequenceNumber>> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let first = |name: &String| match name::parse(name) {
        Some(FileKind::Changes(first)) => Some(first),
        _ => None,
    };
    let mut firsts: Vec<SequenceNumber> = names.iter().filter_map(first).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Removes the change files that begin after a number.
pub(super) fn remove_changes_after(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    counted: SequenceNumber,
) -> Result<()> {
    let gone = change_files(disk, directory)?.into_iter().filter(|first| *first > counted);
    let paths: Vec<PathBuf> = gone.map(|first| name::changes(directory, first)).collect();
    remove_all(&**disk, &paths);
    Ok(())
}

/// The largest file number in use, so that a stray of a crash is never overwritten.
pub(super) fn highest_number(disk: &Arc<dyn Disk>, directory: &Path) -> Result<u64> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let mut highest = 0;
    for name in names {
        let (number, is_slot) = match name::parse(&name) {
            Some(FileKind::Table(number) | FileKind::Manifest(number)) => (number.0, false),
            Some(FileKind::Wal(slot)) => (slot, true),
            _ => continue,
        };
        // The numbers of new files go on from here.
        if number > NUMBER_MAX / NUMBER_SHARE_MAX {
            let detail = "a file number that no database reaches; move the file away";
            return Err(Error::corruption(&directory.join(name), 0, detail));
        }
        if !is_slot {
            highest = highest.max(number);
        }
    }
    Ok(highest)
}

/// Every table that the manifest names is there. Opening opens none, but it removes those that the manifest does not name: from a
/// manifest that lost its end these are the good ones, and the ones that it names are gone.
pub(super) fn check_tables(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    versions: &VersionSet,
) -> Result<()> {
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let there: HashSet<FileNumber> = names
        .iter()
        .filter_map(|name| match name::parse(name) {
            Some(FileKind::Table(number)) => Some(number),
            _ => None,
        })
        .collect();
    match live_tables(versions).difference(&there).min() {
        Some(number) => {
            let detail = "the manifest names this table, but it is not there";
            Err(Error::corruption(&name::table(directory, *number), 0, detail))
        }
        None => Ok(()),
    }
}

fn live_tables(versions: &VersionSet) -> HashSet<FileNumber> {
    let shapes = versions.shapes();
    let tables =
        shapes.iter().flatten().flat_map(|shape| shape.levels()).flat_map(|level| level.tables());
    tables.map(|table| table.number()).collect()
}

/// Removes tables and manifests that the manifest in force does not name, and half-made files.
pub(super) fn remove_strays(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    versions: &VersionSet,
    manifest: FileNumber,
) -> Result<()> {
    let live = live_tables(versions);
    let names = disk.list(directory).map_err(|e| Error::io("list", directory, e))?;
    let stray = |name: &&String| match name::parse(name) {
        Some(FileKind::Table(number)) => !live.contains(&number),
        Some(FileKind::Manifest(number)) => number != manifest,
        Some(FileKind::Temporary) => true,
        _ => false,
    };
    let paths: Vec<PathBuf> = names.iter().filter(stray).map(|name| directory.join(name)).collect();
    remove_all(&**disk, &paths);
    Ok(())
}

//! A closed database leaves in its directory what its manifest names and the files that it always has, and nothing else.

#![allow(clippy::disallowed_methods, reason = "looks at a directory from outside")]

use crate::drive::Failure;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use treering_lsm::Stats;
use treering_lsm::file::name::{FileKind, parse};

/// WAL segments that a closed database may keep: those in use and those that it keeps to use again.
const SEGMENTS_MAX: usize = 8;

/// Checks the directory of a database that was closed when it had come to rest with these `stats`; returns the bytes of its files.
///
/// # Errors
/// What is there and should not, or the other way round.
pub fn check_directory(directory: &Path, stats: &Stats) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut bytes, mut table_bytes) = (0, 0);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let size = entry.metadata().map_err(failed)?.len();
        bytes += size;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = match parse(&name) {
            Some(FileKind::Table(_)) => {
                table_bytes += size;
                "table"
            }
            Some(FileKind::Wal(_)) => "segment",
            Some(FileKind::Manifest(_)) => "manifest",
            Some(FileKind::Lock | FileKind::Current | FileKind::Ring | FileKind::Ballast) => {
                "other"
            }
            Some(FileKind::Temporary | FileKind::Notes | FileKind::Changes(_)) | None => {
                return Err(format!("{name} was left behind"));
            }
        };
        *counts.entry(kind).or_default() += 1;
    }
    let count = |kind: &str| counts.get(kind).copied().unwrap_or(0);
    let levels = || stats.keyspaces.iter().flat_map(|keyspace| &keyspace.levels);
    let tables: u64 = levels().map(|level| level.files).sum();
    let named_bytes: u64 = levels().map(|level| level.bytes).sum();
    if count("table") as u64 != tables || table_bytes != named_bytes {
        return Err(format!(
            "the manifest names {tables} tables of {named_bytes} bytes, {} of {table_bytes} are there",
            count("table")
        ));
    }
    if count("manifest") != 1 || count("segment") > SEGMENTS_MAX {
        return Err(format!("unexpected numbers of files: {counts:?}"));
    }
    Ok(bytes)
}

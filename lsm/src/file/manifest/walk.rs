//! Reads a manifest for a person: every record that can be read, where it stands, and why there are no more.
//!
//! [`read`](super::read) answers whether a database may be opened, and says no at the first doubt. This one goes as far as the
//! chain of records goes, so that a tool can show a damaged manifest and repair can take from it what it still says.
//!
//! Promise: what is shown was covered by a checksum that knows this manifest and this offset.

use super::{
    Current, HEADER_BYTES, MANIFEST_BYTES_MAX, RECORD_HEADER_BYTES, Record, TYPE_EDIT, TYPE_MARK,
    check_header, current, decode_record, read_file,
};
use crate::base::error::{Error, Result};
use crate::base::key::FileNumber;
use crate::file::name;
use crate::format::edit::VersionEdit;
use crate::io::Disk;
use std::path::Path;
use std::sync::Arc;

/// A record that can be read.
#[derive(Clone, Debug, PartialEq)]
pub struct WalkedRecord {
    /// Where it begins in the file.
    pub offset: u64,
    /// The manifest was durable below this offset when the record was written.
    pub durable: u64,
    /// Its edit; `None` for a mark.
    pub edit: Option<VersionEdit>,
}

/// What a manifest holds.
#[derive(Clone, Debug)]
pub struct Walked {
    /// Its records, oldest first.
    pub records: Vec<WalkedRecord>,
    /// Where the last of them ends.
    pub end: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Why it must not be relied on; `None` if it ends as a manifest may.
    pub damage: Option<Error>,
}

/// Walks through manifest `number` of `directory`. `durable` is what CURRENT says of it, 0 if unknown.
///
/// # Errors
/// [`Error::Corruption`] if the file is not there or its header is not that of this manifest, [`Error::NewerFormat`], [`Error::Io`].
pub fn walk(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    number: FileNumber,
    durable: u64,
) -> Result<Walked> {
    let path = name::manifest(directory, number);
    let bytes = read_file(disk, &path, MANIFEST_BYTES_MAX)?
        .ok_or_else(|| Error::corruption(&path, 0, "this manifest is not there"))?;
    check_header(&path, number, &bytes)?;
    let mut records = Vec::new();
    let mut offset = HEADER_BYTES;
    let mut damage = None;
    while let Some(Record { kind, durable, payload }) = decode_record(number, offset, &bytes) {
        let edit = match kind {
            TYPE_EDIT => VersionEdit::decode(payload).map(Some),
            TYPE_MARK => Ok(None),
            other => Err(format!("record type {other}, this release knows 1 and 2")),
        };
        match edit {
            Ok(edit) => records.push(WalkedRecord { offset: offset as u64, durable, edit }),
            Err(detail) => {
                damage = Some(Error::corruption(&path, offset as u64, detail));
                break;
            }
        }
        offset += RECORD_HEADER_BYTES + payload.len();
    }
    let end = offset as u64;
    let behind = (offset + 1..bytes.len()).filter_map(|at| decode_record(number, at, &bytes));
    let promised = behind.map(|record| record.durable).max().unwrap_or(0).max(durable);
    if damage.is_none() && promised > end {
        let detail = format!("the records end here, but they were durable up to {promised}");
        damage = Some(Error::corruption(&path, end, detail));
    }
    if damage.is_none() && records.iter().all(|record| record.edit.is_none()) {
        damage = Some(Error::corruption(&path, end, "no edit of it can be read"));
    }
    Ok(Walked { records, end, file_bytes: bytes.len() as u64, damage })
}

/// The manifest that CURRENT names, and how far it was durable then; `None` if there is no CURRENT.
///
/// # Errors
/// [`Error::Corruption`] if CURRENT is damaged, [`Error::Io`].
pub fn named(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<(FileNumber, u64)>> {
    let found = current(disk, directory)?;
    Ok(found.map(|Current { number, durable }| (number, durable)))
}

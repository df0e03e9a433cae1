//! The manifest: the log of version edits that says which files make up the database.
//!
//! ```text
//! MANIFEST-n = header record*
//! header  | magic u64 | version u32 | 0 u32 | number u64 | crc u32 | 0 u32 |                 32 bytes
//! record  | crc u32 | length u32 | type u8 | durable u64 | payload: length bytes |
//!           crc over all that follows it, with the context (number, offset of the record);
//!           durable = offset below which the manifest was durable when the record was written
//! type 1 = version edit; type 2 = mark: no payload, written for its `durable` alone
//! CURRENT   "MANIFEST-000012 durable=4711 crc32c=xxxxxxxx\n"
//! ```
//!
//! Promises:
//! 1. When `append` returns Ok, the edit is durable. It is one record, so it is there whole or not at all.
//! 2. After an edit is durable a mark follows it (without waiting for the device). So a damaged record below what any
//!    intact record behind it calls durable is damage and is reported; a damaged record above is the torn tail of an edit that nobody was
//!    told about. (That a later record is intact proves nothing by itself: unsynced writes may survive in any order.)
//! 3. CURRENT says, too, how far the manifest was durable when CURRENT was written: when the manifest began, after every edit
//!    without which something would be missing (one that moves the start of the log, or makes a keyspace), and when the
//!    database was closed. A manifest that ends before is damaged. What can be cut off it unseen is compactions: the tables
//!    that they read are still there, with the same contents, or their absence is seen.
//! 4. A manifest is in force from the moment when CURRENT, replaced by rename, is durable.
//! 5. After a failed write or sync the writer refuses everything: the database is then poisoned and must be reopened. Only a
//!    write that met a full disk may be tried again, at the same place.

pub mod walk;

use crate::base::checksum::{context_seed, extend};
use crate::base::coding::{take_u32, take_u64};
use crate::base::error::{Error, Result};
use crate::base::key::FileNumber;
use crate::base::limits::FORMAT_VERSION;
use crate::base::planted::{Bug, planted};
use crate::file::name;
use crate::format::edit::VersionEdit;
use crate::io::{self, Disk, File, OpenMode};
use std::path::Path;
use std::sync::Arc;

/// First eight bytes of a manifest.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TreeMANI");
/// Bytes of the header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 17;
/// Largest manifest that is read.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;
/// Largest CURRENT that is read.
const CURRENT_BYTES_MAX: u64 = 4096;

const TYPE_EDIT: u8 = 1;
const TYPE_MARK: u8 = 2;

/// Appends edits to one manifest file.
#[derive(Debug)]
pub struct ManifestWriter {
    file: Arc<dyn File>,
    number: FileNumber,
    offset: u64,
    durable: u64,
    failed: Option<Error>,
}

impl ManifestWriter {
    /// Makes a manifest that begins with `snapshot`, makes it durable and puts it in force.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: the old manifest is still in force. [`Error::Io`]: so it is, unless the rename was the last thing
    /// done; the caller must not go on without reading CURRENT again.
    pub fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        number: FileNumber,
        snapshot: &VersionEdit,
    ) -> Result<ManifestWriter> {
        let path = name::manifest(directory, number);
        let mode = OpenMode { exclusive: false, ..OpenMode::CREATE };
        let file = disk.open(&path, mode).map_err(|e| Error::io("create", &path, e))?;
        file.set_size(0).map_err(|e| Error::io("truncate", &path, e))?;
        let mut writer =
            ManifestWriter { file, number, offset: HEADER_BYTES as u64, durable: 0, failed: None };
        let header = encode_header(number);
        io::write_full(&*writer.file, 0, &header, false)
            .map_err(|e| Error::io("write", &path, e))?;
        writer.append(snapshot)?;
        disk.sync_directory(directory).map_err(|e| Error::io("sync", directory, e))?;
        writer.put_in_force(disk, directory)?;
        Ok(writer)
    }

    /// Writes CURRENT: this manifest counts, and it does not end before what is durable of it now.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`]; see [`ManifestWriter::create`].
    pub fn put_in_force(&self, disk: &Arc<dyn Disk>, directory: &Path) -> Result<()> {
        set_current(disk, directory, Current { number: self.number, durable: self.durable })
    }

    /// Appends an edit and makes it durable.
    ///
    /// # Errors
    /// The first failure poisons the writer: every later call returns it again.
    pub fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let mut payload = Vec::new();
        edit.encode(&mut payload);
        let path = self.file.path().to_owned();
        let record = encode_record(self.number, self.offset, TYPE_EDIT, self.durable, &payload);
        let written = io::write_full(&*self.file, self.offset, &record, false);
        if let Err(error) = written.map_err(|e| Error::io("write", &path, e)) {
            // On a full disk nothing behind `offset` counts yet: the next append writes over it.
            if !matches!(error, Error::NoSpace { .. }) {
                self.failed = Some(error.clone());
            }
            return Err(error);
        }
        let skip = planted(Bug::ManifestSyncSkipped);
        if let Err(source) = if skip { Ok(()) } else { self.file.sync_data() } {
            let source = std::sync::Arc::new(source);
            let error = Error::Io { operation: "sync", path, source };
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.offset += record.len() as u64;
        self.durable = self.offset;
        // The edit is durable; without its mark only less can be said about damage. The next record stands in the same place then.
        let mark = encode_record(self.number, self.offset, TYPE_MARK, self.durable, &[]);
        if io::write_full(&*self.file, self.offset, &mark, false).is_ok() {
            self.offset += mark.len() as u64;
        }
        Ok(())
    }

    /// Says in CURRENT that the manifest reaches this far, and with it the edit that was appended last. On a full disk it stays
    /// unsaid until the next time: that loses nothing, only less can be said about damage.
    ///
    /// # Errors
    /// [`Error::Io`]; it poisons the writer.
    pub fn vouch(&mut self, disk: &Arc<dyn Disk>, directory: &Path) -> Result<()> {
        match self.put_in_force(disk, directory) {
            Err(Error::NoSpace { .. }) => Ok(()),
            Err(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Takes no more edits: from now on every one gets `error`.
    pub fn refuse(&mut self, error: &Error) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Its file number.
    pub fn number(&self) -> FileNumber {
        self.number
    }
}

/// What CURRENT and its manifest say.
#[derive(Debug)]
pub struct ManifestContents {
    /// Number of the manifest in force.
    pub number: FileNumber,
    /// Its edits, oldest first; the first is a snapshot.
    pub edits: Vec<VersionEdit>,
}

/// Reads the manifest in force; `None` if there is no CURRENT.
///
/// # Errors
/// [`Error::Corruption`] for damage anywhere but in a torn tail, [`Error::NewerFormat`], [`Error::Io`].
pub fn read(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<ManifestContents>> {
    let Some(Current { number, durable }) = current(disk, directory)? else { return Ok(None) };
    let path = name::manifest(directory, number);
    let bytes = read_file(disk, &path, MANIFEST_BYTES_MAX)?.ok_or_else(|| {
        Error::corruption(&path, 0, "CURRENT names this manifest, but it is not there")
    })?;
    check_header(&path, number, &bytes)?;
    let (edits, end) = read_records(&path, number, &bytes)?;
    if end < durable || edits.is_empty() {
        let detail =
            format!("the manifest ends here, but CURRENT says that it was durable up to {durable}");
        return Err(Error::corruption(&path, end, detail));
    }
    Ok(Some(ManifestContents { number, edits }))
}

/// A whole file, or `None` if it is not there. One that is longer than any that is written is damaged.
fn read_file(disk: &Arc<dyn Disk>, path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>> {
    match io::read_whole(&**disk, path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(Error::corruption(path, bytes_max, format!("the file is too long: {error}")))
        }
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// The edits, and where the last intact record ends.
fn read_records(path: &Path, number: FileNumber, bytes: &[u8]) -> Result<(Vec<VersionEdit>, u64)> {
    let mut edits = Vec::new();
    let mut offset = HEADER_BYTES;
    while let Some(Record { kind, payload, .. }) = decode_record(number, offset, bytes) {
        match kind {
            TYPE_EDIT => {
                let edit = VersionEdit::decode(payload)
                    .map_err(|what| Error::corruption(path, offset as u64, what))?;
                edits.push(edit);
            }
            TYPE_MARK => {}
            other => {
                let detail = format!("record type {other}, this release knows 1 and 2");
                return Err(Error::corruption(path, offset as u64, detail));
            }
        }
        offset += RECORD_HEADER_BYTES + payload.len();
    }
    // The chain ends here: a torn tail, unless a record behind it says that this place was durable.
    let behind = (offset + 1..bytes.len()).filter_map(|at| decode_record(number, at, bytes));
    if behind.map(|record| record.durable).any(|durable| durable > offset as u64) {
        let detail = "a damaged record, although the manifest was durable beyond it";
        return Err(Error::corruption(path, offset as u64, detail));
    }
    Ok((edits, offset as u64))
}

struct Record<'a> {
    kind: u8,
    durable: u64,
    payload: &'a [u8],
}

fn decode_record(number: FileNumber, offset: usize, bytes: &[u8]) -> Option<Record<'_>> {
    let mut input = bytes.get(offset..)?;
    let crc = take_u32(&mut input)?;
    let length = u32::from_le_bytes(*input.first_chunk::<4>()?) as usize;
    let covered = input.get(..RECORD_HEADER_BYTES - 4 + length)?;
    let right = extend(context_seed(number.0, offset as u64), covered) == crc;
    if !right && !planted(Bug::ManifestChecksumSkipped) {
        return None;
    }
    let mut fields = &covered[5..];
    let durable = take_u64(&mut fields)?;
    Some(Record { kind: covered[4], durable, payload: fields })
}

fn encode_record(
    number: FileNumber,
    offset: u64,
    kind: u8,
    durable: u64,
    payload: &[u8],
) -> Vec<u8> {
    let mut record = vec![0; 4];
    record.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    record.push(kind);
    record.extend_from_slice(&durable.to_le_bytes());
    record.extend_from_slice(payload);
    let crc = extend(context_seed(number.0, offset), &record[4..]);
    record[..4].copy_from_slice(&crc.to_le_bytes());
    record
}

fn encode_header(number: FileNumber) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC.to_le_bytes());
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&number.0.to_le_bytes());
    let crc = extend(context_seed(number.0, 0), &header[..24]);
    header[24..28].copy_from_slice(&crc.to_le_bytes());
    header
}

fn check_header(path: &Path, number: FileNumber, bytes: &[u8]) -> Result<()> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(Error::corruption(
            path,
            0,
            format!("{} bytes, shorter than a header", bytes.len()),
        ));
    };
    // The checksum first: a flipped bit must not send anybody looking for a newer release.
    let crc = extend(context_seed(number.0, 0), &header[..24]).to_le_bytes();
    let (magic, version) = (header[..8] == MAGIC.to_le_bytes(), &mut &header[8..12]);
    let version = take_u32(version).unwrap_or(0);
    if magic && header[24..28] == crc && version > FORMAT_VERSION {
        return Err(Error::NewerFormat {
            path: path.to_owned(),
            found: version,
            supported: FORMAT_VERSION,
        });
    }
    if *header != encode_header(number) {
        return Err(Error::corruption(path, 0, "the header is not that of this manifest"));
    }
    Ok(())
}

/// What CURRENT says.
#[derive(Clone, Copy, Debug)]
struct Current {
    number: FileNumber,
    durable: u64,
}

fn current(disk: &Arc<dyn Disk>, directory: &Path) -> Result<Option<Current>> {
    let path = directory.join(name::CURRENT);
    let Some(bytes) = read_file(disk, &path, CURRENT_BYTES_MAX)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).unwrap_or("");
    let mut words = text.split(' ');
    let number = match words.next().and_then(name::parse) {
        Some(name::FileKind::Manifest(number)) => Some(number),
        _ => None,
    };
    let durable = words.next().and_then(|word| word.strip_prefix("durable=")?.parse().ok());
    let found = number.zip(durable).map(|(number, durable)| Current { number, durable });
    match found.filter(|found| text == current_text(*found)) {
        Some(found) => Ok(Some(found)),
        None => {
            let detail = "expected a manifest's name, length and checksum, \"MANIFEST-n durable=n crc32c=x\"";
            Err(Error::corruption(&path, 0, detail))
        }
    }
}

fn current_text(current: Current) -> String {
    let path = name::manifest(Path::new(""), current.number);
    let text = format!("{} durable={}", path.display(), current.durable);
    format!("{text} crc32c={:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// Puts a manifest in force.
fn set_current(disk: &Arc<dyn Disk>, directory: &Path, current: Current) -> Result<()> {
    let path = directory.join(name::CURRENT);
    let temporary = directory.join(format!("{}.tmp", name::CURRENT));
    let mode = OpenMode { exclusive: false, ..OpenMode::CREATE };
    let file = disk.open(&temporary, mode).map_err(|e| Error::io("create", &temporary, e))?;
    let text = current_text(current);
    file.set_size(0).map_err(|e| Error::io("truncate", &temporary, e))?;
    io::write_full(&*file, 0, text.as_bytes(), false)
        .map_err(|e| Error::io("write", &temporary, e))?;
    if !planted(Bug::CurrentNotSynced) {
        file.sync_data().map_err(|e| Error::io("sync", &temporary, e))?;
    }
    disk.rename(&temporary, &path).map_err(|e| Error::io("rename", &temporary, e))?;
    if planted(Bug::CurrentDirectorySyncSkipped) {
        return Ok(());
    }
    // Not even for want of space may this pass for a failure after which the old manifest is in force.
    disk.sync_directory(directory).map_err(|error| {
        let source = Arc::new(error);
        Error::Io { operation: "sync", path: directory.to_owned(), source }
    })
}

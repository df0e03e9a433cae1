//! Sorted files: tables that are made outside of a database and taken in by [`Keyspace::ingest`](crate::Keyspace::ingest).
//!
//! A sorted file is a table like any other, but for two things: all its entries have sequence number 0, and its checksums are made with a
//! number of its own (of its path), not with that of a file of a database. The manifest of the database that takes it in says both, so the file stays as
//! it is and can be shared by a hard link.
//!
//! Promises:
//! 1. A file that is not finished is removed; one that is finished is durable, its name included.
//! 2. Keys ascend, each has one entry, and keys and values keep to the limits, or the call that breaks this is refused and changes nothing.

use crate::base::error::{Error, Result};
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, Kind, Tag};
use crate::base::limits::{KEY_BYTES_MAX, LEVEL_COUNT, NUMBER_MAX, VALUE_BYTES_MAX};
use crate::base::options::{IoChoice, KeyspaceOptions};
use crate::db::environment::Environment;
use crate::file::table_writer::{TableSpec, TableWriter};
use crate::format::footer::TABLE_BYTES_MAX;
use crate::io::Disk;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a sorted file may grow to: half of what the format can say leaves room for index and filter.
const FILE_BYTES_SOFT: u64 = TABLE_BYTES_MAX / 2;

/// A finished sorted file.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SortedFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its first key.
    pub smallest: Vec<u8>,
    /// Its last key.
    pub largest: Vec<u8>,
    /// Entries, deletes included.
    pub entries: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Writes a sorted file: for loading much data without going through log, memtables and compactions.
///
/// ```
/// use treering_lsm::{Db, IngestOptions, KeyspaceOptions, SortedFileWriter};
/// # let directory = tempfile::tempdir()?;
/// # let (path, file) = (directory.path().join("db"), directory.path().join("trees.sst"));
/// let mut writer = SortedFileWriter::create(&file, &KeyspaceOptions::default())?;
/// writer.put(b"oak", b"600 years")?;
/// writer.put(b"yew", b"2000 years")?;
/// let made = writer.finish()?;
/// assert_eq!(made.entries, 2);
///
/// let db = Db::open(path, Default::default())?;
/// db.default_keyspace().ingest(&[made.path], &IngestOptions::default())?;
/// assert_eq!(db.get(b"yew")?.as_deref(), Some(&b"2000 years"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SortedFileWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// None once it is finished.
    writer: Option<TableWriter>,
    last_key: Vec<u8>,
}

impl SortedFileWriter {
    /// Makes the file, which must not exist. Of the options it takes what the last level of a keyspace takes: block size, compression,
    /// filter.
    ///
    /// # Errors
    /// [`Error::InvalidOption`]; [`Error::Io`] and [`Error::NoSpace`] from the file system.
    pub fn create(path: impl AsRef<Path>, options: &KeyspaceOptions) -> Result<SortedFileWriter> {
        let disk = Environment::system(IoChoice::Auto)?.disk;
        SortedFileWriter::create_on(&disk, path.as_ref(), options)
    }

    /// As [`create`](Self::create), on a disk of the caller's choice.
    ///
    /// # Errors
    /// As `create`.
    pub fn create_on(
        disk: &Arc<dyn Disk>,
        path: &Path,
        options: &KeyspaceOptions,
    ) -> Result<SortedFileWriter> {
        options.validate()?;
        let level = LEVEL_COUNT - 1;
        let spec = TableSpec {
            table_id: key_hash(path.as_os_str().as_bytes()) & NUMBER_MAX,
            block_bytes: options.block_bytes,
            compression: options.compression[level],
            filter: options.filter,
            prefix_bytes: options.prefix_bytes,
            keyspace: KeyspaceId(0),
            level: level as u8,
            direct: true,
            applied: 0,
        };
        let writer = Some(TableWriter::create(disk, path, spec)?);
        let (disk, path) = (Arc::clone(disk), path.to_owned());
        Ok(SortedFileWriter { disk, path, writer, last_key: Vec::new() })
    }

    /// Adds an entry behind the last one.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if `key` is not above the last one, or the file is full (over 1 GiB: begin another);
    /// [`Error::KeyTooLarge`], [`Error::ValueTooLarge`]: nothing was added, go on with another entry. After [`Error::Io`] and
    /// [`Error::NoSpace`] the file is lost.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.add(key, Kind::Put, value)
    }

    /// Adds a delete: where the file is ingested, what the key had before is gone. Errors as [`put`](Self::put).
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.add(key, Kind::Delete, &[])
    }

    fn add(&mut self, key: &[u8], kind: Kind, value: &[u8]) -> Result<()> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::KeyTooLarge { length: key.len(), max: KEY_BYTES_MAX });
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Error::ValueTooLarge { length: value.len(), max: VALUE_BYTES_MAX });
        }
        if key <= &self.last_key[..] {
            let detail = format!(
                "b\"{}\" does not come after b\"{}\"; sort the entries, one for each key",
                key.escape_ascii(),
                self.last_key.escape_ascii()
            );
            return Err(Error::invalid_option("key", detail));
        }
        let writer = self.writer.as_mut().ok_or(Error::Closed)?;
        if writer.file_bytes() > FILE_BYTES_SOFT {
            let detail = format!("it has {} bytes; go on in another file", writer.file_bytes());
            return Err(Error::invalid_option("file", detail));
        }
        writer.add(key, Tag::new(0, kind), value)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        Ok(())
    }

    /// Bytes of the file so far, about; without index and filter.
    pub fn file_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, TableWriter::file_bytes)
    }

    /// Writes the end of the file and makes it durable.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] without an entry; [`Error::Io`], [`Error::NoSpace`]. The file is removed then.
    pub fn finish(mut self) -> Result<SortedFile> {
        let writer = self.writer.take().ok_or(Error::Closed)?;
        let finished = writer.finish().and_then(|info| {
            let directory = self.path.parent().unwrap_or(Path::new("."));
            // The parent of a bare name is the empty path, which no system call takes.
            let directory =
                if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            let synced = self.disk.sync_directory(directory);
            synced.map(|()| info).map_err(|error| Error::io("sync", directory, error))
        });
        match finished {
            Ok(info) => Ok(SortedFile {
                path: self.path.clone(),
                smallest: info.smallest,
                largest: info.largest,
                entries: info.entry_count,
                bytes: info.file_bytes,
            }),
            Err(error) => {
                let _the_first_error_counts = self.disk.remove(&self.path);
                Err(error)
            }
        }
    }
}

impl Drop for SortedFileWriter {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _nobody_to_tell = self.disk.remove(&self.path);
        }
    }
}

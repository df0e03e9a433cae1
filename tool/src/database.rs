//! A database directory as files: what is in it, who has it open, and its tables one by one.
//!
//! Everything goes through the engine's I/O door, on plain system calls: a tool has no use for a ring.

use crate::failure::Failure;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::table_reader::TableReader;
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::{Disk, Lock};
use treering_lsm::mem::budget::MemoryBudget;
use treering_lsm::mem::cache::BlockCache;
use treering_lsm::{Error, Result};

/// Memory for the few blocks that are looked at more than once.
const CACHE_BYTES: u64 = 16 << 20;

/// A directory with files of a database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    budget: Arc<MemoryBudget>,
    cache: Arc<BlockCache>,
    lock: Option<Box<dyn Lock>>,
}

/// A file of it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// `None` for a file that is not ours.
    pub(crate) kind: Option<FileKind>,
}

impl Database {
    /// The directory `path`, which must be one. Opens nothing in it.
    pub(crate) fn at(path: &Path) -> std::result::Result<Database, Failure> {
        if !path.is_dir() {
            let what = if path.exists() { "is not a directory" } else { "is not there" };
            return Failure::refused(format!(
                "{} {what}; give a database directory",
                path.display()
            ));
        }
        let budget = MemoryBudget::new(CACHE_BYTES);
        let cache = BlockCache::new(Arc::clone(&budget));
        let disk: Arc<dyn Disk> = Arc::new(PosixDisk::new());
        Ok(Database { disk, path: path.to_owned(), budget, cache, lock: None })
    }

    /// The directory of `file`, which must be there, and what the file is by its name.
    pub(crate) fn of_file(
        file: &Path,
    ) -> std::result::Result<(Database, Option<FileKind>), Failure> {
        if !file.is_file() {
            let what = if file.exists() { "is not a file" } else { "is not there" };
            return Failure::refused(format!("{} {what}", file.display()));
        }
        let database = Database::at(&treering_lsm::io::parent(file))?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        Ok((database, name.and_then(|name| name::parse(&name))))
    }

    /// Refuses a database that somebody has open, and keeps others out as long as `self` lives.
    ///
    /// A directory without LOCK (a checkpoint that was never opened) is open nowhere; none is made.
    pub(crate) fn lock(&mut self) -> std::result::Result<(), Failure> {
        let path = self.path.join(name::LOCK);
        if !path.exists() {
            return Ok(());
        }
        match self.disk.lock(&path) {
            Ok(lock) => {
                self.lock = Some(lock);
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(Error::Locked { path: self.path.clone() }.into())
            }
            Err(error) => Err(Error::io("lock", &path, error).into()),
        }
    }

    /// Refuses a directory in which nothing is a database's.
    pub(crate) fn must_hold_something(&self) -> std::result::Result<Vec<Entry>, Failure> {
        let entries = self.entries()?;
        if entries.iter().all(|entry| entry.kind.is_none()) {
            let detail = "none of its files is one of ours".to_owned();
            return Err(Error::NotADatabase { path: self.path.clone(), detail }.into());
        }
        Ok(entries)
    }

    /// Its files, sorted by name.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let names =
            self.disk.list(&self.path).map_err(|error| Error::io("list", &self.path, error))?;
        Ok(names
            .into_iter()
            .map(|name| {
                let is_file = !self.path.join(&name).is_dir();
                Entry { kind: name::parse(&name).filter(|_| is_file), name }
            })
            .collect())
    }

    /// Opens a table as the one that it says it is. A file that was made outside of a database, or ingested by one, does not say what the
    /// manifest says of it: it is opened as what it is, with sequence number 0.
    pub(crate) fn open_table(&self, number: FileNumber) -> Result<Arc<TableReader>> {
        let path = name::table(&self.path, number);
        let info = TableReader::info_from_file(&self.disk, &path)?;
        if info.table_id != number.0 && info.sequence_max == 0 {
            return self.open_table_as(&info.ingested_as(number.0, 0));
        }
        if info.table_id != number.0 {
            let detail = format!("this is table {}, under another's name", info.table_id);
            return Err(Error::corruption(&path, info.file_bytes, detail));
        }
        self.open_table_as(&info)
    }

    /// Opens a table as the one that the manifest describes.
    pub(crate) fn open_table_as(&self, info: &TableInfo) -> Result<Arc<TableReader>> {
        let path = name::table(&self.path, FileNumber(info.table_id));
        let cache = Arc::clone(&self.cache);
        let reader = TableReader::open(&self.disk, &path, info, false, cache, &self.budget)?;
        let found = &reader.properties().info;
        if found != info {
            let detail = format!("the table says {found:?}, the manifest says {info:?}");
            return Err(Error::corruption(&path, info.tail_offset, detail));
        }
        Ok(reader)
    }
}

/// The last part of a path.
pub(crate) fn file_name(path: &Path) -> String {
    match path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => path.display().to_string(),
    }
}

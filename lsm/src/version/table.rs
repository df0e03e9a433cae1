//! A table of a version: its description from the manifest, its reader once somebody needs it, and its end.
//!
//! Promises:
//! 1. Opening a database opens no table: the reader is made at the first read.
//! 2. A table that was marked obsolete is handed to the graveyard when the last version, cursor or compaction that
//!    holds it lets go, and never before; background work unlinks it (`bury_one`). It is marked only after the manifest that forgets it is durable.

use crate::base::error::{Error, Result};
use crate::base::key::FileNumber;
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, Ordering};
use crate::file::name;
use crate::file::table_reader::TableReader;
use crate::format::table_info::TableInfo;
use crate::io::Disk;
use crate::mem::budget::MemoryBudget;
use crate::mem::cache::BlockCache;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// What every table of a database needs to be read.
#[derive(Debug)]
pub struct TableContext {
    /// Where the files are reached.
    pub disk: Arc<dyn Disk>,
    /// The database directory.
    pub directory: PathBuf,
    /// Read past the page cache.
    pub direct: bool,
    /// The block cache.
    pub cache: Arc<BlockCache>,
    /// The memory knob.
    pub budget: Arc<MemoryBudget>,
    /// Tables that nobody holds any more, to be unlinked; with their readers, whose cached blocks are to go.
    pub graveyard: Mutex<Vec<(FileNumber, Option<Arc<TableReader>>)>>,
}

impl TableContext {
    /// Unlinks one table that nobody holds any more, and takes its blocks out of the cache; its number, if there was one.
    pub fn bury_one(&self) -> Option<FileNumber> {
        let (number, reader) = self.graveyard.lock().pop()?;
        if let Some(reader) = reader {
            reader.forget_blocks();
        }
        // A failure leaves a stray file, which the next open removes.
        let _stray = self.disk.remove(&name::table(&self.directory, number));
        Some(number)
    }
}

/// One table.
pub struct Table {
    info: TableInfo,
    context: Arc<TableContext>,
    reader: OnceLock<Arc<TableReader>>,
    opening: Mutex<()>,
    busy: AtomicBool,
    obsolete: AtomicBool,
}

impl Table {
    /// A table that the manifest describes.
    pub fn new(info: TableInfo, context: Arc<TableContext>) -> Table {
        Table {
            info,
            context,
            reader: OnceLock::new(),
            opening: Mutex::new(()),
            busy: AtomicBool::new(false),
            obsolete: AtomicBool::new(false),
        }
    }

    /// Its file number.
    pub fn number(&self) -> FileNumber {
        FileNumber(self.info.table_id)
    }

    /// Reads the whole table: it is sound, and what the manifest says of it is what it says of itself.
    ///
    /// # Errors
    /// As [`TableReader::open`] and [`TableReader::verify`].
    pub fn verify(&self) -> Result<()> {
        let reader = self.reader()?;
        let found = &reader.properties().info;
        if *found != self.info {
            let path = name::table(&self.context.directory, self.number());
            let detail = format!("the table is {found:?}, the manifest says {:?}", self.info);
            return Err(Error::corruption(&path, self.info.tail_offset, detail));
        }
        reader.verify().map(drop)
    }

    /// What the manifest says of it.
    pub fn info(&self) -> &TableInfo {
        &self.info
    }

    /// Its reader, opened on first use.
    ///
    /// # Errors
    /// Whatever opening the file gives; the next call tries again.
    #[inline]
    pub fn reader(&self) -> Result<&Arc<TableReader>> {
        match self.reader.get() {
            Some(reader) => Ok(reader),
            None => self.open(),
        }
    }

    /// Its reader, if somebody has opened it.
    pub fn opened(&self) -> Option<&Arc<TableReader>> {
        self.reader.get()
    }

    #[cold]
    fn open(&self) -> Result<&Arc<TableReader>> {
        let _one_opener = self.opening.lock();
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let context = &self.context;
        let path = name::table(&context.directory, self.number());
        let cache = Arc::clone(&context.cache);
        let reader = TableReader::open(
            &context.disk,
            &path,
            &self.info,
            context.direct,
            cache,
            &context.budget,
        )?;
        Ok(self.reader.get_or_init(|| reader))
    }

    /// True if `key` lies inside the key range of the table.
    #[inline]
    pub fn covers(&self, key: &[u8]) -> bool {
        key >= &self.info.smallest[..] && key <= &self.info.largest[..]
    }

    /// True if the key range of the table meets `smallest..=largest`.
    pub fn overlaps(&self, smallest: &[u8], largest: &[u8]) -> bool {
        &self.info.smallest[..] <= largest && &self.info.largest[..] >= smallest
    }

    /// Reserves the table for one compaction; false if another has it.
    pub fn try_reserve(&self) -> bool {
        !self.busy.swap(true, Ordering::Relaxed)
    }

    /// Gives the reservation back.
    pub fn release(&self) {
        self.busy.store(false, Ordering::Relaxed);
    }

    /// True while a compaction has it.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Says that no manifest names the table any more.
    pub fn mark_obsolete(&self) {
        self.obsolete.store(true, Ordering::Release);
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            let dead = (self.number(), self.reader.take());
            self.context.graveyard.lock().push(dead);
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:06}.sst[{}..={}, {} bytes]",
            self.info.table_id,
            self.info.smallest.escape_ascii(),
            self.info.largest.escape_ascii(),
            self.info.file_bytes
        )
    }
}

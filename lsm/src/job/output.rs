//! The tables that a flush or compaction writes: made one after the other, cut at table size, removed if the job fails.

use crate::base::error::{Error, Result};
use crate::base::key::{FileNumber, KeyspaceId, SequenceNumber, Tag};
use crate::base::options::KeyspaceOptions;
use crate::base::planted::{Bug, planted};
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::file::name;
use crate::file::table_writer::{TableSpec, TableWriter};
use crate::format::table_info::TableInfo;
use crate::io::Disk;
use crate::mem::cache::BlockCache;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fewer block reads than this between two flushes do not make a flush warm the cache.
const READS_FEW: u64 = 1000;

/// What every job needs.
#[derive(Debug)]
pub struct JobContext {
    /// Where files are reached.
    pub disk: Arc<dyn Disk>,
    /// The database directory.
    pub directory: PathBuf,
    /// Write tables past the page cache.
    pub direct: bool,
    /// Takes the blocks of tables that will be read soon.
    pub cache: Arc<BlockCache>,
    /// Block reads that the cache had seen when the last flush began.
    pub reads_seen: AtomicU64,
    /// Block reads that the cache had seen when the price of a written byte was last set.
    pub reads_paced: AtomicU64,
    /// The next free file number.
    pub next_file: AtomicU64,
    /// Set when the database closes: long jobs give up.
    pub closing: AtomicBool,
}

impl JobContext {
    /// A file number that nobody else gets.
    pub fn new_file(&self) -> FileNumber {
        FileNumber(self.next_file.fetch_add(1, Ordering::Relaxed))
    }

    /// True if readers were about since the last call: then what a flush writes will be read.
    pub fn readers_about(&self) -> bool {
        self.reads_since(&self.reads_seen)
    }

    /// As `readers_about`, for the price of a written byte.
    pub fn readers_about_for_pace(&self) -> bool {
        self.reads_since(&self.reads_paced)
    }

    fn reads_since(&self, seen: &AtomicU64) -> bool {
        let reads = self.cache.hits() + self.cache.misses();
        reads.saturating_sub(seen.swap(reads, Ordering::Relaxed)) > READS_FEW
    }

    /// `Err(Closed)` once the database closes.
    pub fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::Relaxed) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// Writes sorted entries to as many tables as they need.
#[derive(Debug)]
pub struct Output<'a> {
    context: &'a JobContext,
    keyspace: KeyspaceId,
    level: usize,
    options: &'a KeyspaceOptions,
    writer: Option<(PathBuf, TableWriter)>,
    made: Vec<PathBuf>,
    done: Vec<TableInfo>,
    finished: bool,
    warm: bool,
    applied: SequenceNumber,
}

impl<'a> Output<'a> {
    /// Output for one level of a keyspace.
    pub fn new(
        context: &'a JobContext,
        keyspace: KeyspaceId,
        level: usize,
        options: &'a KeyspaceOptions,
    ) -> Output<'a> {
        Output {
            context,
            keyspace,
            level,
            options,
            writer: None,
            made: vec![],
            done: vec![],
            finished: false,
            warm: false,
            applied: 0,
        }
    }

    /// Puts the blocks of all tables into the cache.
    pub fn warm(mut self, warm: bool) -> Output<'a> {
        self.warm = warm;
        self
    }

    /// Says of all tables that range deletes up to `sequence` have been applied to them.
    pub fn applied(mut self, sequence: SequenceNumber) -> Output<'a> {
        self.applied = sequence;
        self
    }

    /// Bytes of the table being written.
    #[inline]
    pub fn table_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, writer)| writer.file_bytes())
    }

    /// Appends an entry; keys ascend.
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        if let Some((_, writer)) = &mut self.writer {
            return writer.add(key, tag, value);
        }
        self.start()?.add(key, tag, value)
    }

    #[cold]
    fn start(&mut self) -> Result<&mut TableWriter> {
        let number = self.context.new_file();
        let path = name::table(&self.context.directory, number);
        let spec = TableSpec {
            table_id: number.0,
            block_bytes: self.options.block_bytes,
            compression: self.options.compression[self.level],
            filter: self.options.filter,
            prefix_bytes: self.options.prefix_bytes,
            keyspace: self.keyspace,
            level: self.level as u8,
            direct: self.context.direct,
            applied: self.applied,
        };
        self.made.push(path.clone());
        let mut writer = TableWriter::create(&self.context.disk, &path, spec)?;
        if self.warm {
            writer.keep_blocks_in(Arc::clone(&self.context.cache));
        }
        Ok(&mut self.writer.insert((path, writer)).1)
    }

    /// Ends the current table; the next entry begins another. Only between two user keys.
    pub fn cut(&mut self) -> Result<()> {
        if let Some((_, writer)) = self.writer.take() {
            self.done.push(writer.finish()?);
        }
        Ok(())
    }

    /// Ends the last table and makes all names durable.
    ///
    /// # Errors
    /// As the writes behind it; the tables are then removed on drop.
    pub fn finish(mut self) -> Result<Vec<TableInfo>> {
        self.cut()?;
        if !self.done.is_empty() && !planted(Bug::TableDirectorySyncSkipped) {
            let directory = &self.context.directory;
            self.context
                .disk
                .sync_directory(directory)
                .map_err(|e| Error::io("sync", directory, e))?;
        }
        self.finished = true;
        Ok(std::mem::take(&mut self.done))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.writer = None;
        if !self.finished {
            remove_all(&*self.context.disk, &self.made);
        }
    }
}

/// Removes files that no manifest names. A failure is left to the next open, which removes strays.
pub fn remove_all(disk: &dyn Disk, paths: &[impl AsRef<Path>]) {
    for path in paths {
        let _ = disk.remove(path.as_ref());
    }
}

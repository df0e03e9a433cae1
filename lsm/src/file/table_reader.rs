//! Reads a table: point reads through the block cache, and the pieces from which batched reads and cursors are made.
//!
//! Opening reads the tail in one request and keeps it: filter and index are used in the bytes that were read, without
//! decoding. A warm point read is an index search, a cache lookup and a block search; it allocates nothing and its value is
//! a slice of the cached block.
//!
//! Promises:
//! 1. Every byte that is used was covered by a checksum that knows this table and this offset.
//! 2. Damage is [`Error::Corruption`] with file and offset; a damaged block is never cached; nothing allocates more than the
//!    file's size and its properties allow.
//!
//! Measured (2-core EPYC guest, the table of `table_writer`, on one thread, times with the making of the random key): `get` of a
//! cached block 84 ns over 2 K keys, about 115 over 20 K, 500 to 600 over 500 K (62 MB of blocks, far more than L2); of that the index takes 22 to 29 and the block cache 23 to over 100. `may_contain` takes 7.
//!
//! Not here: when a table is opened and closed, and in which order tables are asked.

mod verify;

pub use crate::format::index::BlockHandle;
pub use verify::TableCheck;

use crate::base::error::{Error, Result};
use crate::base::hash::prefix_hash;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::limits::FORMAT_VERSION;
use crate::base::options::Compression;
use crate::base::perf::{self, PerfContext};
use crate::base::slice::PinnedSlice;
use crate::file::bounds::Bounds;
use crate::file::table_cursor::{TableCursor, TableCursorOptions};
use crate::format::block::{Block, frame};
use crate::format::compression::{BLOCK_BYTES_MAX, decompress};
use crate::format::filter::Filter;
use crate::format::footer::{FOOTER_BYTES, Footer, FooterError, TABLE_BYTES_MAX};
use crate::format::index::Index;
use crate::format::properties::Properties;
use crate::format::table_info::TableInfo;
use crate::io::{AlignedBuffer, Completion, Disk, File, OpenMode, Operation, Request, read_full};
use crate::mem::budget::{Charge, MemoryBudget, Use};
use crate::mem::cache::BlockCache;
use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A thread keeps a read buffer up to this size; larger blocks get one of their own.
const SCRATCH_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// Where stored blocks are read before they are decompressed into their own memory.
    static SCRATCH: RefCell<AlignedBuffer> = RefCell::new(AlignedBuffer::with_capacity(16 << 10));
}

/// Buffers of block requests that a thread keeps for the next ones, and the largest of them.
const SPARES_MAX: usize = 64;
const SPARE_BYTES_MAX: usize = 16 << 10;

thread_local! {
    /// Buffers of requests that were answered: a new one costs an allocation and a page of zeros.
    static SPARES: RefCell<Vec<AlignedBuffer>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for a request; what is in it does not matter.
fn take_buffer(length: usize) -> AlignedBuffer {
    let spare = SPARES.with_borrow_mut(|spares| {
        let at = spares.iter().rposition(|spare| spare.capacity() >= length)?;
        Some(spares.swap_remove(at))
    });
    match spare {
        Some(mut spare) => {
            spare.set_length(length);
            spare
        }
        None => AlignedBuffer::zeroed(length),
    }
}

fn give_back(buffer: AlignedBuffer) {
    if buffer.capacity() <= SPARE_BYTES_MAX {
        SPARES.with_borrow_mut(|spares| {
            if spares.len() < SPARES_MAX {
                spares.push(buffer);
            }
        });
    }
}

/// Blocks looked at by [`TableReader::cached_share`].
const SAMPLES: usize = 64;

/// An open table. Any number of threads may use it at once.
#[derive(Debug)]
pub struct TableReader {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    /// What the places and lengths of its reads are multiples of.
    read_unit: u64,
    table_id: u64,
    /// What its checksums were made with.
    context: u64,
    /// The sequence number of all entries, which have 0 in the file; for a table that was ingested.
    sequence: Option<SequenceNumber>,
    filter: Filter,
    top: Index,
    partitioned: bool,
    data_end: u64,
    properties: Properties,
    cache: Arc<BlockCache>,
    charge: Charge,
}

impl TableReader {
    /// Opens a table that the manifest knows as `info`, with one read of its tail. `direct` reads past the page cache.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corruption`] where the file is not what `info` says, [`Error::NewerFormat`].
    pub fn open(
        disk: &Arc<dyn Disk>,
        path: &Path,
        info: &TableInfo,
        direct: bool,
        cache: Arc<BlockCache>,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Arc<TableReader>> {
        let mode = OpenMode { direct, ..OpenMode::READ };
        let file = disk.open(path, mode).map_err(|error| Error::io("open", path, error))?;
        let size = file.size().map_err(|error| Error::io("stat", path, error))?;
        let fits = info.tail_offset.checked_add(FOOTER_BYTES as u64).is_some_and(|end| end <= size);
        if size != info.file_bytes || size > TABLE_BYTES_MAX || !fits {
            let detail = format!(
                "the table has {size} bytes, the manifest says {} with a tail at {}",
                info.file_bytes, info.tail_offset
            );
            return Err(Error::corruption(path, size, detail));
        }
        let tail = Tail::read(&*file, info.tail_offset, size)?;
        let footer = tail.footer(path)?;
        if footer.table_id != info.checksum_context() || footer.tail_offset != info.tail_offset {
            let detail = format!(
                "this is table {} with a tail at {}, expected table {} with a tail at {}",
                footer.table_id,
                footer.tail_offset,
                info.checksum_context(),
                info.tail_offset
            );
            return Err(Error::corruption(path, size - FOOTER_BYTES as u64, detail));
        }
        let wrong = |offset: u64| move |detail: String| Error::corruption(path, offset, detail);

        let filter = if footer.filter.is_empty() {
            Filter::none()
        } else {
            let range = tail.part(&footer, &footer.filter, path)?;
            Filter::parse(Arc::clone(&tail.bytes), range).map_err(wrong(footer.filter.start))?
        };
        let range = tail.part(&footer, &footer.index, path)?;
        let blocks = if footer.partitioned {
            footer.data_end..footer.tail_offset
        } else {
            0..footer.data_end
        };
        let top = Index::parse(Arc::clone(&tail.bytes), range, blocks)
            .map_err(wrong(footer.index.start))?;
        let range = tail.part(&footer, &footer.properties, path)?;
        let mut properties =
            Properties::decode(&tail.bytes[range]).map_err(wrong(footer.properties.start))?;
        properties.info.file_bytes = size;
        if let Some(ingested) = info.ingested {
            properties.info = properties.info.ingested_as(info.table_id, ingested.sequence);
        }

        let bytes = tail.bytes.capacity() + filter.heap_bytes() + top.heap_bytes();
        let bytes = bytes + size_of::<TableReader>();
        Ok(Arc::new(TableReader {
            disk: Arc::clone(disk),
            read_unit: file.read_unit() as u64,
            file,
            table_id: info.table_id,
            context: info.checksum_context(),
            sequence: info.ingested.map(|ingested| ingested.sequence),
            filter,
            top,
            partitioned: footer.partitioned,
            data_end: footer.data_end,
            properties,
            cache,
            charge: budget.charge(Use::TableMetadata, bytes as u64),
        }))
    }

    /// What a table file says of itself, for repair and ingest: without a manifest.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn info_from_file(disk: &Arc<dyn Disk>, path: &Path) -> Result<TableInfo> {
        let file =
            disk.open(path, OpenMode::READ).map_err(|error| Error::io("open", path, error))?;
        let size = file.size().map_err(|error| Error::io("stat", path, error))?;
        let Some(footer_offset) = size.checked_sub(FOOTER_BYTES as u64) else {
            return Err(Error::corruption(path, 0, format!("{size} bytes, shorter than a footer")));
        };
        let footer = Tail::read(&*file, footer_offset, size)?.footer(path)?;
        let tail = Tail::read(&*file, footer.properties.start, size)?;
        let range = tail.part(&footer, &footer.properties, path)?;
        let properties = Properties::decode(&tail.bytes[range])
            .map_err(|detail| Error::corruption(path, footer.properties.start, detail))?;
        let info = TableInfo { file_bytes: size, ..properties.info };
        if info.table_id != footer.table_id || info.tail_offset != footer.tail_offset {
            let detail = "properties and footer belong to different tables";
            return Err(Error::corruption(path, footer.properties.start, detail));
        }
        Ok(info)
    }

    /// Asks the CPU for the part of the index that a search for `key` will read.
    #[inline]
    pub(crate) fn prefetch_index(&self, key: &[u8]) {
        self.top.prefetch(key);
    }

    /// Asks the CPU for the filter line that [`may_contain`](Self::may_contain) will read.
    #[inline]
    pub fn prefetch_filter(&self, hash: u64) {
        self.filter.prefetch(hash);
    }

    /// False only if no version of a key with this hash is in the table.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        self.filter.may_contain(hash)
    }

    /// False only if no key between the bounds is in the table, by the prefix that they all have.
    pub fn may_hold(&self, bounds: &Bounds) -> bool {
        let Some(length) = self.properties.prefix_bytes else { return true };
        let Some(prefix) = bounds.prefix(usize::from(length)) else { return true };
        let may_hold = self.filter.may_contain(prefix_hash(prefix));
        if !may_hold {
            perf::count(|counts| counts.prefix_negatives += 1);
        }
        may_hold
    }

    /// The newest version of `key` not newer than `sequence`. `hash` is the key's. Does not ask the filter.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corruption`].
    pub fn get(
        &self,
        key: &[u8],
        hash: u64,
        sequence: u64,
        fill_cache: bool,
    ) -> Result<Option<(Tag, PinnedSlice)>> {
        let Some(handle) = self.locate(key)? else { return Ok(None) };
        let block = self.block(handle, fill_cache)?;
        Ok(pin(block, key, hash, sequence))
    }

    /// Where the only block that can hold `key` lies; `None` if `key` is above all keys of the table.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corruption`] from loading a partition of a large index.
    #[inline]
    pub fn locate(&self, key: &[u8]) -> Result<Option<BlockHandle>> {
        let Some(found) = self.top.search(key) else { return Ok(None) };
        if self.partitioned {
            return self.locate_in_partition(found, key);
        }
        Ok(Some(self.top.handle(found)))
    }

    #[cold]
    fn locate_in_partition(&self, number: usize, key: &[u8]) -> Result<Option<BlockHandle>> {
        let partition = self.partition(number)?;
        Ok(partition.search(key).map(|found| partition.handle(found)))
    }

    /// The block, if the cache has it.
    #[inline]
    pub fn cached(&self, handle: BlockHandle) -> Option<Arc<Block>> {
        self.cache.get(self.table_id, handle.offset)
    }

    /// Asks the CPU for the place of a block in the cache.
    #[inline]
    pub fn prefetch_place(&self, handle: BlockHandle) {
        self.cache.prefetch(self.table_id, handle.offset);
    }

    /// Asks the CPU for the head of a block, if the cache has it: for after [`prefetch_place`](Self::prefetch_place).
    #[inline]
    pub fn prefetch_cached(&self, handle: BlockHandle) {
        self.cache.prefetch_value(self.table_id, handle.offset);
    }

    /// The request that reads a block, for a queue. Aligned where the file is direct.
    pub fn request(&self, handle: BlockHandle, token: u64) -> Request {
        let (offset, length) = self.span(handle);
        Request {
            token,
            file: Arc::clone(&self.file),
            operation: Operation::Read,
            offset,
            buffer: take_buffer(length),
        }
    }

    /// Turns the completion of [`request`](Self::request) into a checked block.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Corruption`].
    pub fn admit(
        &self,
        handle: BlockHandle,
        completion: Completion,
        fill_cache: bool,
    ) -> Result<Arc<Block>> {
        let Completion { result, buffer, .. } = completion;
        let read = result.map_err(|error| self.io_error("read", error))?;
        let skew = self.skew(handle);
        let stored = buffer[..read.min(buffer.len())]
            .get(skew..skew + handle.bytes as usize)
            .ok_or_else(|| self.ends_early(handle))?;
        let block = Arc::new(self.decode(handle, stored, Vec::new())?);
        give_back(buffer);
        if fill_cache {
            self.keep(handle, &block);
        }
        Ok(block)
    }

    /// The newest version of `key` in `block` not newer than `sequence`. `hash` is the key's.
    ///
    /// # Errors
    /// None today: blocks are checked when they are admitted.
    #[inline]
    pub fn find(
        block: &Arc<Block>,
        key: &[u8],
        hash: u64,
        sequence: u64,
    ) -> Result<Option<(Tag, PinnedSlice)>> {
        let Some((tag, value)) = block.find(key, hash, sequence) else { return Ok(None) };
        // SAFETY: the value lies in the block's buffer, which stays in place and unchanged as long as the Arc.
        Ok(Some((tag, unsafe { PinnedSlice::new(Arc::clone(block) as Arc<_>, value) })))
    }

    /// A cursor over all entries.
    pub fn cursor(self: &Arc<Self>, options: TableCursorOptions) -> TableCursor {
        TableCursor::new(Arc::clone(self), options)
    }

    /// Memory that the open table holds beside its cached blocks.
    pub fn metadata_bytes(&self) -> u64 {
        self.charge.bytes()
    }

    /// What the table says of itself.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Reads and checks the whole table, past the cache: checksums, order, index, filter, fingerprints and counts.
    ///
    /// # Errors
    /// [`Error::Corruption`] with the first thing that is wrong, or [`Error::Io`].
    pub fn verify(&self) -> Result<TableCheck> {
        verify::verify(self)
    }

    /// The block, from the cache or the file.
    #[inline]
    pub(crate) fn block(&self, handle: BlockHandle, fill_cache: bool) -> Result<Arc<Block>> {
        if fill_cache {
            return self
                .cache
                .get_or_load(self.table_id, handle.offset, || self.load(handle).map(Arc::new));
        }
        match self.cached(handle) {
            Some(block) => Ok(block),
            None => self.load(handle).map(Arc::new),
        }
    }

    /// The block, from the file: whoever calls has asked the cache.
    pub(crate) fn fetch(&self, handle: BlockHandle, fill_cache: bool) -> Result<Arc<Block>> {
        let block = Arc::new(self.load(handle)?);
        if fill_cache {
            self.keep(handle, &block);
        }
        Ok(block)
    }

    /// Keeps a block that a cursor has read by itself.
    pub(crate) fn keep(&self, handle: BlockHandle, block: &Arc<Block>) {
        self.cache.insert(self.table_id, handle.offset, Arc::clone(block));
    }

    /// Reads a block from the file.
    #[cold]
    fn load(&self, handle: BlockHandle) -> Result<Block> {
        let is_compressed = self.properties.compression != Compression::None;
        let add = |counts: &mut PerfContext, time| {
            counts.blocks_read += 1;
            counts.bytes_read += u64::from(handle.bytes);
            counts.decompressions += u64::from(is_compressed);
            counts.read_time += time;
        };
        perf::timed(add, || self.read_block(handle))
    }

    fn read_block(&self, handle: BlockHandle) -> Result<Block> {
        if self.properties.compression != Compression::None || self.file.direct() {
            return self.with_stored(handle, |stored| self.decode(handle, stored, Vec::new()));
        }
        // Raw: the block is used where it was read.
        let mut bytes = vec![0; handle.bytes as usize];
        let read = read_full(&*self.file, u64::from(handle.offset), &mut bytes)
            .map_err(|error| self.io_error("read", error))?;
        if read < bytes.len() {
            return Err(self.ends_early(handle));
        }
        let (kind, payload) = frame::open(self.context, u64::from(handle.offset), &bytes)
            .map_err(|detail| self.damaged(handle, detail))?;
        if kind != Compression::None {
            return self.decode(handle, &bytes, Vec::new());
        }
        let length = payload.len();
        bytes.truncate(length);
        self.parse(bytes).map_err(|detail| self.damaged(handle, detail))
    }

    fn parse(&self, bytes: Vec<u8>) -> std::result::Result<Block, String> {
        let block = Block::parse(bytes)?;
        match self.sequence {
            None => Ok(block),
            Some(sequence) => block.raised_to(sequence),
        }
    }

    /// Checks, decompresses (into `memory`) and parses a stored block.
    pub(crate) fn decode(
        &self,
        handle: BlockHandle,
        stored: &[u8],
        mut memory: Vec<u8>,
    ) -> Result<Block> {
        let decoded = frame::open(self.context, u64::from(handle.offset), stored).and_then(
            |(kind, payload)| {
                if kind == Compression::None {
                    memory.clear();
                    memory.extend_from_slice(payload);
                } else {
                    let bytes_max = self.properties.largest_block as usize;
                    decompress(kind, payload, bytes_max.min(BLOCK_BYTES_MAX), &mut memory)?;
                }
                self.parse(memory)
            },
        );
        decoded.map_err(|detail| self.damaged(handle, detail))
    }

    /// Reads a stored block into the thread's buffer and hands it to `use_it`.
    fn with_stored<T>(
        &self,
        handle: BlockHandle,
        use_it: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<T> {
        let (offset, length) = self.span(handle);
        let read_into = |buffer: &mut AlignedBuffer| {
            buffer.set_length(length);
            let skew = self.skew(handle);
            let end = skew + handle.bytes as usize;
            let read = read_full(&*self.file, offset, buffer)
                .map_err(|error| self.io_error("read", error))?;
            let stored = buffer[..read].get(skew..end);
            use_it(stored.ok_or_else(|| self.ends_early(handle))?)
        };
        // The threads of a shuttle world are one thread of the system, and read while others are in here.
        if length > SCRATCH_BYTES_MAX || cfg!(shuttle) {
            return read_into(&mut AlignedBuffer::with_capacity(length));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.capacity() < length {
                *scratch = AlignedBuffer::with_capacity(length.next_power_of_two());
            }
            read_into(scratch)
        })
    }

    /// The partition of a two-level index.
    pub(crate) fn partition(&self, number: usize) -> Result<Arc<Index>> {
        let handle = self.top.handle(number);
        self.cache.partition(self.table_id, handle.offset, || {
            self.with_stored(handle, |stored| {
                let (_, payload) = frame::open(self.context, u64::from(handle.offset), stored)
                    .map_err(|detail| self.damaged(handle, detail))?;
                let bytes = Arc::new(AlignedBuffer::copy_of(payload));
                let range = 0..payload.len();
                Index::parse(bytes, range, 0..self.data_end)
                    .map(Arc::new)
                    .map_err(|detail| self.damaged(handle, detail))
            })
        })
    }

    /// About how much of the table's data is in the cache, from 0 to 1: a compaction asks whether its output will be read.
    pub fn cached_share(&self) -> f64 {
        let is_cached = |handle: BlockHandle| self.cache.contains(self.table_id, handle.offset);
        let (mut seen, mut cached) = (0u32, 0u32);
        let step = (self.top.count() / SAMPLES).max(1);
        for i in (0..self.top.count()).step_by(step) {
            let handle = self.top.handle(i);
            let found = match self.partitioned {
                false => is_cached(handle),
                // A partition that nobody keeps has blocks that nobody reads.
                true => self
                    .cache
                    .peek_partition(self.table_id, handle.offset)
                    .is_some_and(|partition| is_cached(partition.handle(partition.count() / 2))),
            };
            seen += 1;
            cached += u32::from(found);
        }
        f64::from(cached) / f64::from(seen.max(1))
    }

    /// Takes everything of this table out of the cache: its file is about to go.
    pub fn forget_blocks(&self) {
        for i in 0..self.top.count() {
            let handle = self.top.handle(i);
            if self.partitioned
                && let Some(partition) = self.cache.peek_partition(self.table_id, handle.offset)
            {
                let handles = (0..partition.count()).map(|block| partition.handle(block));
                handles.for_each(|block| self.cache.remove(self.table_id, block.offset));
            }
            self.cache.remove(self.table_id, handle.offset);
        }
    }

    pub(crate) fn top(&self) -> &Index {
        &self.top
    }

    pub(crate) fn partitioned(&self) -> bool {
        self.partitioned
    }

    /// End of the data blocks in the file.
    pub(crate) fn data_end(&self) -> u64 {
        self.data_end
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    pub(crate) fn read_unit(&self) -> u64 {
        self.read_unit
    }

    /// Offset and length of the read that covers a block.
    fn span(&self, handle: BlockHandle) -> (u64, usize) {
        let unit = self.read_unit;
        let start = u64::from(handle.offset) / unit * unit;
        (start, (handle.end().next_multiple_of(unit) - start) as usize)
    }

    /// Bytes of that read before the block.
    fn skew(&self, handle: BlockHandle) -> usize {
        (u64::from(handle.offset) % self.read_unit) as usize
    }

    pub(crate) fn io_error(&self, operation: &'static str, error: std::io::Error) -> Error {
        Error::io(operation, self.file.path(), error)
    }

    #[cold]
    pub(crate) fn damaged(&self, handle: BlockHandle, detail: String) -> Error {
        Error::corruption(self.file.path(), u64::from(handle.offset), detail)
    }

    #[cold]
    pub(crate) fn ends_early(&self, handle: BlockHandle) -> Error {
        self.damaged(handle, format!("the file ends inside a block of {} bytes", handle.bytes))
    }
}

#[inline]
fn pin(block: Arc<Block>, key: &[u8], hash: u64, sequence: u64) -> Option<(Tag, PinnedSlice)> {
    let (tag, value) = block.find(key, hash, sequence)?;
    let value: *const [u8] = value;
    // SAFETY: the value lies in the block's buffer, which stays in place and unchanged as long as the Arc that moves into the
    // slice; the pointer is used for nothing else.
    let slice = unsafe { PinnedSlice::new(block, &*value) };
    Some((tag, slice))
}

/// The end of a table's file, from `start` on.
struct Tail {
    bytes: Arc<AlignedBuffer>,
    /// File offset of `bytes[0]`.
    origin: u64,
    size: u64,
}

impl Tail {
    fn read(file: &dyn File, start: u64, size: u64) -> Result<Tail> {
        let align = file.read_unit() as u64;
        let origin = start / align * align;
        let wanted = (size - origin) as usize;
        let mut bytes = AlignedBuffer::zeroed(wanted.next_multiple_of(align as usize));
        let read = read_full(file, origin, &mut bytes)
            .map_err(|error| Error::io("read", file.path(), error))?;
        if read < wanted {
            let detail = format!("the file ends at {}, not at {size}", origin + read as u64);
            return Err(Error::corruption(file.path(), origin + read as u64, detail));
        }
        bytes.set_length(wanted);
        Ok(Tail { bytes: Arc::new(bytes), origin, size })
    }

    fn footer(&self, path: &Path) -> Result<Footer> {
        let offset = self.size - FOOTER_BYTES as u64;
        let bytes = &self.bytes[(offset - self.origin) as usize..];
        Footer::decode(bytes, offset).map_err(|error| match error {
            FooterError::Damaged(detail) => Error::corruption(path, offset, detail),
            FooterError::Newer(found) => {
                Error::NewerFormat { path: path.to_owned(), found, supported: FORMAT_VERSION }
            }
        })
    }

    /// Checks the frame of a part of the tail and returns where its payload lies in `bytes`.
    fn part(&self, footer: &Footer, part: &Range<u64>, path: &Path) -> Result<Range<usize>> {
        let wrong = |detail: String| Error::corruption(path, part.start, detail);
        let start = part.start.checked_sub(self.origin).map(|start| start as usize);
        let range = start.map(|start| start..start + (part.end - part.start) as usize);
        let stored = range.clone().and_then(|range| self.bytes.get(range));
        let (Some(range), Some(stored)) = (range, stored) else {
            return Err(wrong("a part of the tail lies outside of it".into()));
        };
        match frame::open(footer.table_id, part.start, stored).map_err(wrong)? {
            (Compression::None, payload) => Ok(range.start..range.start + payload.len()),
            (kind, _) => Err(wrong(format!("a part of the tail is compressed as {kind:?}"))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

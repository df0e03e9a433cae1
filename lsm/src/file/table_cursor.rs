//! Moves over the entries of a table in both directions.
//!
//! Within a block `next` decodes the entry that follows, without search or copy of the value; the key is put together in a reused
//! buffer only where it shares bytes with its restart. Three ways to read blocks:
//!
//! - `Off`: one block at a time, through the cache. For point-like seeks.
//! - `Auto`: as `Off`, and from the second of neighbouring blocks on, in either direction, a block that is not cached is fetched by one
//!   read of 32 KiB, and where the scan outruns that, by twice as much each time up to 256 KiB; never past the block of a bound.
//! - `Full`: past the cache, 1 MiB requests with two in flight through the disk's queue, past the page cache too. For
//!   compaction. Blocks are decompressed into the memory of the block before, unless somebody pinned it. Such a cursor
//!   stays with the thread that first moves it.
//!
//! A seek has steps, so that a merge can take each step with all its sources before the next (`version/seek.rs`): [`aim`](TableCursor::aim)
//! finds the block by the index, `look_up` takes it from the cache or says that it must be read, and
//! [`land`](TableCursor::land) finds the entry.
//!
//! Measured (2-core EPYC guest, the table of `table_writer`): 15 to 16 ns an entry over 62 MB of cached blocks, 14 backward. A seek takes
//! 130 ns over 2 K keys and 700 to 900 over 500 K.

mod span;
pub(in crate::file) mod stream;

use crate::base::cursor::{EntryCursor, Target};
use crate::base::error::Result;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::slice::PinnedSlice;
use crate::file::bounds::Bounds;
use crate::file::table_reader::TableReader;
use crate::format::block::{Block, Walk};
use crate::format::index::{BlockHandle, Index};
use span::Span;
use std::ops::Range;
use std::sync::Arc;
use stream::Stream;

/// How a cursor reads what lies ahead.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ReadAhead {
    /// Starts after two neighbouring blocks and grows.
    #[default]
    Auto,
    /// Streams everything, past the caches, in requests of so many bytes, a multiple of [`IO_ALIGN`](crate::base::limits::IO_ALIGN).
    Full {
        /// Bytes of a request. Up to four of them are in memory.
        chunk_bytes: u64,
    },
    /// Never.
    Off,
}

/// How a table cursor reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TableCursorOptions {
    /// Put blocks that were read into the cache. Ignored by [`ReadAhead::Full`].
    pub fill_cache: bool,
    /// What is read ahead.
    pub read_ahead: ReadAhead,
}

impl Default for TableCursorOptions {
    fn default() -> Self {
        TableCursorOptions { fill_cache: true, read_ahead: ReadAhead::Auto }
    }
}

/// A position in a table.
#[derive(Debug)]
pub struct TableCursor {
    table: Arc<TableReader>,
    options: TableCursorOptions,
    bounds: Option<Arc<Bounds>>,
    /// The filter knows that nothing of the table lies between the bounds.
    is_denied: bool,
    /// The partition that `at_block` counts in, and its number; none in a flat index.
    partition: Option<(usize, Arc<Index>)>,
    at_block: usize,
    block: Option<(BlockHandle, Arc<Block>)>,
    walk: Walk,
    valid: bool,
    /// The last `aim` found a block.
    aimed: bool,
    span: Span,
    stream: Option<Box<Stream>>,
}

impl TableCursor {
    pub(crate) fn new(table: Arc<TableReader>, options: TableCursorOptions) -> TableCursor {
        TableCursor {
            table,
            options,
            bounds: None,
            is_denied: false,
            partition: None,
            at_block: 0,
            block: None,
            walk: Walk::default(),
            valid: false,
            aimed: false,
            span: Span::default(),
            stream: None,
        }
    }

    /// Reads nothing ahead beyond these bounds, and nothing at all where the filter denies that anything is between them: then the cursor stands nowhere.
    pub fn set_bounds(&mut self, bounds: Arc<Bounds>) {
        self.is_denied = !self.table.may_hold(&bounds);
        self.bounds = Some(bounds);
    }

    /// The table.
    pub(crate) fn table(&self) -> &Arc<TableReader> {
        &self.table
    }

    /// Sequence number of the newest entry of the table.
    pub fn newest(&self) -> SequenceNumber {
        self.table.properties().info.sequence_max
    }

    /// True if blocks that were read go into the cache.
    pub(crate) fn fills_cache(&self) -> bool {
        self.options.fill_cache
    }

    /// Asks the CPU for what `aim` will read.
    #[inline]
    pub(crate) fn prepare(&self, target: Target<'_>) {
        if let Target::At(key, _) | Target::Before(key) = target {
            self.table.prefetch_index(key);
        }
    }

    /// Goes to the block where `target` lies, without reading it. The cursor stands on no entry until it has landed.
    ///
    /// # Errors
    /// Those of loading a partition of the index.
    pub fn aim(&mut self, target: Target<'_>) -> Result<()> {
        (self.valid, self.aimed) = (false, false);
        if self.is_denied {
            return Ok(());
        }
        self.aimed = match target {
            Target::First => self.find_first_block().map(|()| true)?,
            Target::Last => self.find_last_block().map(|()| true)?,
            Target::At(key, _) => self.find_block(key)?,
            Target::Before(key) => {
                if !self.find_block(key)? {
                    self.find_last_block()?;
                }
                true
            }
        };
        if self.aimed {
            self.table.prefetch_place(self.index().handle(self.at_block));
        }
        Ok(())
    }

    /// After `aim`: asks the CPU for the block, if the cache has it.
    #[inline]
    pub(crate) fn prefetch_cached(&self) {
        if self.aimed {
            self.table.prefetch_cached(self.index().handle(self.at_block));
        }
    }

    /// After `aim`: takes the block from the cache, or says where it is to be read; [`hold`](Self::hold) brings it then. `None` too
    /// where `land` reads by itself: what follows the block before belongs to a scan, which reads ahead.
    pub(crate) fn look_up(&mut self) -> Option<BlockHandle> {
        if !self.aimed || matches!(self.options.read_ahead, ReadAhead::Full { .. }) {
            return None;
        }
        let handle = self.index().handle(self.at_block);
        if let Some((current, _)) = &self.block {
            let adjoins = current.end() == u64::from(handle.offset)
                || handle.end() == u64::from(current.offset);
            if *current == handle || (adjoins && self.options.read_ahead == ReadAhead::Auto) {
                return None;
            }
        }
        self.span.note(false);
        self.block = self.table.cached(handle).map(|block| (handle, block));
        self.block.is_none().then_some(handle)
    }

    /// Takes the block that `look_up` missed.
    pub(crate) fn hold(&mut self, handle: BlockHandle, block: Arc<Block>) {
        self.block = Some((handle, block));
    }

    /// After `look_up`: asks the CPU for what `land` will read.
    #[inline]
    pub(crate) fn prefetch_block(&self) {
        if let Some((_, block)) = &self.block {
            block.prefetch_columns();
        }
    }

    /// Finishes the move that began with `aim` to the same target.
    ///
    /// # Errors
    /// [`Error::Io`](crate::base::error::Error::Io) or [`Error::Corruption`](crate::base::error::Error::Corruption) of blocks that are still to be read.
    pub fn land(&mut self, target: Target<'_>) -> Result<()> {
        if !std::mem::take(&mut self.aimed) {
            return Ok(());
        }
        match target {
            Target::First => self.stand_first(),
            Target::Last => self.stand_last(),
            Target::At(key, tag) => self.stand_at(key, tag),
            Target::Before(key) => self.stand_before(key),
        }
    }

    fn index(&self) -> &Index {
        match &self.partition {
            Some((_, partition)) => partition,
            None => self.table.top(),
        }
    }

    fn open_partition(&mut self, number: usize) -> Result<()> {
        if !matches!(self.partition, Some((open, _)) if open == number) {
            self.partition = Some((number, self.table.partition(number)?));
        }
        Ok(())
    }

    /// Goes to the block that may hold `key`, without reading it. False if `key` is above all.
    fn find_block(&mut self, key: &[u8]) -> Result<bool> {
        let Some(mut found) = self.table.top().search(key) else { return Ok(false) };
        if self.table.partitioned() {
            self.open_partition(found)?;
            match self.index().search(key) {
                Some(inner) => found = inner,
                None => return Ok(false),
            }
        }
        self.at_block = found;
        Ok(true)
    }

    fn find_first_block(&mut self) -> Result<()> {
        if self.table.partitioned() {
            self.open_partition(0)?;
        }
        self.at_block = 0;
        Ok(())
    }

    fn find_last_block(&mut self) -> Result<()> {
        if self.table.partitioned() {
            self.open_partition(self.table.top().count() - 1)?;
        }
        self.at_block = self.index().count() - 1;
        Ok(())
    }

    /// To the next block, without reading it. False at the end.
    fn find_next_block(&mut self) -> Result<bool> {
        if self.at_block + 1 < self.index().count() {
            self.at_block += 1;
            return Ok(true);
        }
        match self.partition {
            Some((number, _)) if number + 1 < self.table.top().count() => {
                self.open_partition(number + 1)?;
                self.at_block = 0;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// To the block before, without reading it. False at the start.
    fn find_previous_block(&mut self) -> Result<bool> {
        if self.at_block > 0 {
            self.at_block -= 1;
            return Ok(true);
        }
        match self.partition {
            Some((number, _)) if number > 0 => {
                self.open_partition(number - 1)?;
                self.at_block = self.index().count() - 1;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Makes the block at the position the current one.
    fn load(&mut self) -> Result<()> {
        let handle = self.index().handle(self.at_block);
        if matches!(&self.block, Some((current, _)) if *current == handle) {
            return Ok(());
        }
        let before = self.block.take();
        let block = match self.options.read_ahead {
            ReadAhead::Off => self.table.block(handle, self.options.fill_cache)?,
            ReadAhead::Auto => self.load_with_span(handle, before.map(|(handle, _)| handle))?,
            ReadAhead::Full { chunk_bytes } => {
                self.load_from_stream(handle, before, chunk_bytes)?
            }
        };
        self.block = Some((handle, block));
        Ok(())
    }

    fn load_with_span(
        &mut self,
        handle: BlockHandle,
        before: Option<BlockHandle>,
    ) -> Result<Arc<Block>> {
        let forward = before.is_some_and(|before| before.end() == u64::from(handle.offset));
        let backward = before.is_some_and(|before| handle.end() == u64::from(before.offset));
        self.span.note(forward || backward);
        let table = &self.table;
        if !self.span.is_warm() {
            return table.block(handle, self.options.fill_cache);
        }
        if let Some(block) = table.cached(handle) {
            return Ok(block);
        }
        if !self.span.holds(handle) {
            let reach = self.reach();
            self.span.fill(table, handle, backward, reach)?;
        }
        let stored = self.span.stored(table, handle)?;
        let block = Arc::new(table.decode(handle, stored, Vec::new())?);
        if self.options.fill_cache {
            table.keep(handle, &block);
        }
        Ok(block)
    }

    /// The part of the file that a scan inside the bounds can come to from here, at least as far as the index at hand tells.
    fn reach(&self) -> Range<u64> {
        let index = self.index();
        let all = u64::from(index.handle(0).offset)..index.blocks_end();
        let Some(bounds) = &self.bounds else { return all };
        // In a partitioned index a bound counts where it lies in the partition at hand: its search knows.
        let block_of = |bound: &Option<Vec<u8>>| {
            bound.as_ref().and_then(|key| index.search(key)).map(|found| index.handle(found))
        };
        let start = block_of(&bounds.lower).map_or(all.start, |block| u64::from(block.offset));
        let end = block_of(&bounds.upper).map_or(all.end, BlockHandle::end);
        start..end
    }

    fn load_from_stream(
        &mut self,
        handle: BlockHandle,
        before: Option<(BlockHandle, Arc<Block>)>,
        chunk_bytes: u64,
    ) -> Result<Arc<Block>> {
        let memory = before.and_then(|(_, block)| Arc::into_inner(block)).map(Block::into_bytes);
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(Box::new(Stream::open(&self.table, chunk_bytes)?)),
        };
        let stored = stream.read(&self.table, handle)?;
        Ok(Arc::new(self.table.decode(handle, stored, memory.unwrap_or_default())?))
    }

    /// Stands on the first entry of the block at the position.
    fn stand_first(&mut self) -> Result<()> {
        self.load()?;
        if let Some((_, block)) = &self.block {
            self.walk.set(block, 0);
            self.valid = true;
        }
        Ok(())
    }

    /// Stands on the last entry of the block at the position.
    fn stand_last(&mut self) -> Result<()> {
        self.load()?;
        if let Some((_, block)) = &self.block {
            self.walk.set(block, block.count() as u32 - 1);
            self.valid = true;
        }
        Ok(())
    }

    /// Stands on the first entry at or after (`key`, `tag`), which lies in the block at the position or begins the next.
    fn stand_at(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.load()?;
        let Some((_, block)) = &self.block else { return Ok(()) };
        let index = block.lower_bound_version(key, tag);
        if index as usize == block.count() {
            // Only older versions than wanted, or a separator above all keys of the block.
            return self.next_block();
        }
        self.walk.set(block, index);
        self.valid = true;
        Ok(())
    }

    /// Stands on the last entry below `key`, which lies in the block at the position or ends the one before.
    fn stand_before(&mut self, key: &[u8]) -> Result<()> {
        self.load()?;
        let Some((_, block)) = &self.block else { return Ok(()) };
        match block.lower_bound(key) {
            0 => self.previous_block(),
            index => {
                self.walk.set(block, index - 1);
                self.valid = true;
                Ok(())
            }
        }
    }

    #[cold]
    fn next_block(&mut self) -> Result<()> {
        self.valid = false;
        if self.find_next_block()? { self.stand_first() } else { Ok(()) }
    }

    #[cold]
    fn previous_block(&mut self) -> Result<()> {
        self.valid = false;
        if self.find_previous_block()? { self.stand_last() } else { Ok(()) }
    }

    #[inline]
    fn current(&self) -> &Arc<Block> {
        debug_assert!(self.valid, "the cursor stands on no entry");
        &self.block.as_ref().expect("a cursor that is valid has a block").1
    }
}

impl EntryCursor for TableCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.valid
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.walk.key(self.current())
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.walk.tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.walk.value(self.current())
    }

    fn pin_value(&self) -> PinnedSlice {
        let block = self.current();
        // SAFETY: the value lies in the block's buffer, which stays in place and unchanged as long as the Arc.
        unsafe { PinnedSlice::new(Arc::clone(block) as Arc<_>, self.walk.value(block)) }
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Target::First)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.go(Target::Last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.go(Target::At(key, tag))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.go(Target::Before(key))
    }

    fn go(&mut self, target: Target<'_>) -> Result<()> {
        self.aim(target)?;
        self.land(target)
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some((_, block)) = &self.block
            && self.walk.next(block)
        {
            return Ok(());
        }
        self.next_block()
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if let Some((_, block)) = &self.block
            && self.walk.prev(block)
        {
            return Ok(());
        }
        self.previous_block()
    }
}

#[cfg(test)]
mod tests;

//! Writes a table: sorted entries in, one file out.
//!
//! ```text
//! data block ... | index partition ... | zeros to 64 | filter | index | properties | footer
//! ```
//!
//! A block is cut before it would pass `block_bytes`, and never between two versions of a user key. Blocks follow one another without
//! padding. The tail begins at a cache line, so that the filter's lines are whole lines in the buffer it is read into.
//!
//! Promises:
//! 1. When `finish` returns `Ok` every byte is durable; the name is not, until the caller syncs the directory. After an error the
//!    caller removes the file.
//! 2. Nothing is allocated per entry or per block once the buffers have grown, but 8 bytes of hash per user key for the filter
//!    and the separators of the index.
//!
//! Measured (2-core EPYC guest, 16-byte keys, 100-byte values that halve, blocked filter, 500 K entries, best of 2): `add` costs 59 ns an
//! entry raw, 135 with LZ4, 534 with zstd level 3; `finish` adds 10.
//!
//! Not here: choosing where tables are cut, dropping versions.

pub(in crate::file) mod output;

use crate::base::error::{Error, Result};
use crate::base::hash::{key_hash, prefix_hash};
use crate::base::key::{KeyspaceId, Kind, SequenceNumber, Tag};
use crate::base::limits::FORMAT_VERSION;
use crate::base::options::{Compression, FilterPolicy};
use crate::base::planted::{Bug, planted};
use crate::format::block::{Block, BlockBuilder, frame};
use crate::format::compression::{BLOCK_BYTES_MAX, Compressor};
use crate::format::filter::{self, FILTER_ALIGN};
use crate::format::footer::{FOOTER_BYTES, Footer, TABLE_BYTES_MAX};
use crate::format::index::{self, BuiltIndex, IndexBuilder, separator};
use crate::format::properties::Properties;
use crate::format::table_info::TableInfo;
use crate::io::Disk;
use crate::mem::cache::BlockCache;
use output::Output;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What a new table is to be.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// File number of the table; the context of every checksum in it.
    pub table_id: u64,
    /// Uncompressed bytes of a data block, about.
    pub block_bytes: u32,
    /// Compression of data blocks.
    pub compression: Compression,
    /// Filter over the user keys.
    pub filter: FilterPolicy,
    /// The filter also holds the first bytes of user keys that have so many.
    pub prefix_bytes: Option<u16>,
    /// Keyspace that the table belongs to.
    pub keyspace: KeyspaceId,
    /// Level that it is written for.
    pub level: u8,
    /// Write past the page cache.
    pub direct: bool,
    /// Every range delete up to this sequence number has been applied to what is added.
    pub applied: SequenceNumber,
}

/// A table being written.
#[derive(Debug)]
pub struct TableWriter {
    spec: TableSpec,
    output: Output,
    block: BlockBuilder,
    compressor: Compressor,
    index: IndexBuilder,
    hashes: Vec<u64>,
    /// First user key of the open block.
    block_first: Vec<u8>,
    /// User key of the last entry.
    last_key: Vec<u8>,
    last_tag: Tag,
    last_hash: u64,
    /// Stored bytes of the open block are those of its blocks before, in 1/256 of the uncompressed ones.
    ratio: u64,
    /// Offset and last key of the finished block whose separator waits for the first key of the next one.
    pending: Option<u32>,
    pending_last: Vec<u8>,
    scratch: Vec<u8>,
    info: TableInfo,
    block_count: u64,
    key_count: u64,
    largest_block: usize,
    data_bytes: u64,
    flat_index_max: usize,
    /// Takes every finished block, where the table will be read soon.
    cache: Option<Arc<BlockCache>>,
}

impl TableWriter {
    /// Makes the file, which must not exist.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`] from the file system.
    pub fn create(disk: &Arc<dyn Disk>, path: &Path, spec: TableSpec) -> Result<TableWriter> {
        Ok(TableWriter {
            output: Output::create(disk, path, spec.direct)?,
            block: BlockBuilder::new(),
            compressor: Compressor::new(spec.compression),
            index: IndexBuilder::new(),
            // Room for the keys of a usual table, so that growing never copies; untouched room costs no memory.
            hashes: Vec::with_capacity(1 << 20),
            block_first: Vec::new(),
            last_key: Vec::new(),
            last_tag: Tag(0),
            last_hash: 0,
            ratio: 256,
            pending: None,
            pending_last: Vec::new(),
            scratch: Vec::new(),
            info: TableInfo {
                table_id: spec.table_id,
                sequence_min: u64::MAX,
                applied: spec.applied,
                ..TableInfo::default()
            },
            block_count: 0,
            key_count: 0,
            largest_block: 0,
            data_bytes: 0,
            flat_index_max: index::FLAT_BYTES_MAX,
            cache: None,
            spec,
        })
    }

    /// Puts the blocks of this table into `cache` as they are written. For tables that take the place of data that is read
    /// now: otherwise every flush and compaction would cost the readers one miss per block.
    pub fn keep_blocks_in(&mut self, cache: Arc<BlockCache>) {
        self.cache = Some(cache);
    }

    /// Appends an entry: user keys ascend, tags of one user key descend.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`] when a write failed, perhaps of an earlier entry; the table is then lost.
    /// [`Error::InvalidOption`] when the versions of one user key do not fit a block of 1 GiB.
    ///
    /// # Panics
    /// If the order is not kept.
    #[inline]
    pub fn add(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> Result<()> {
        let is_new_key = if self.info.entry_count == 0 {
            true
        } else {
            let order = key.cmp(&self.last_key);
            assert!(
                order.is_gt() || order.is_eq() && tag < self.last_tag,
                "entries of a table must ascend"
            );
            order.is_gt()
        };
        if is_new_key {
            self.begin_key(key, value.len())?;
        } else if !self.block.fits(key.len(), value.len()) {
            return Err(versions_too_large());
        }
        self.last_tag = tag;
        self.block.add(key, self.last_hash, tag, value);

        let info = &mut self.info;
        info.entry_count += 1;
        info.tombstone_count += u64::from(tag.kind() == Kind::Delete);
        info.sequence_min = info.sequence_min.min(tag.sequence());
        info.sequence_max = info.sequence_max.max(tag.sequence());
        info.raw_key_bytes += key.len() as u64;
        info.raw_value_bytes += value.len() as u64;
        Ok(())
    }

    /// A key not seen before: the only place where a block may end.
    #[inline]
    fn begin_key(&mut self, key: &[u8], value_length: usize) -> Result<()> {
        let block_bytes = self.spec.block_bytes as usize;
        if !self.block.is_empty() && self.block.bytes_with(key.len(), value_length) > block_bytes {
            self.finish_block()?;
        }
        if self.block.is_empty() {
            if let Some(offset) = self.pending.take() {
                separator(&self.pending_last, key, &mut self.scratch);
                self.index.add(&self.scratch, offset);
            }
            self.block_first.clear();
            self.block_first.extend_from_slice(key);
            if self.info.entry_count == 0 {
                self.info.smallest = key.to_vec();
            }
        }
        if let Some(length) = self.spec.prefix_bytes {
            self.begin_prefix(key, usize::from(length));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_hash = key_hash(key);
        self.key_count += 1;
        if self.spec.filter != FilterPolicy::None {
            self.hashes.push(self.last_hash);
        }
        Ok(())
    }

    /// Keys that share a prefix follow one another.
    fn begin_prefix(&mut self, key: &[u8], length: usize) {
        let is_forgotten = planted(Bug::FilterForgetsPrefix) && self.info.entry_count == 0;
        if let Some(prefix) = key.get(..length)
            && self.last_key.get(..length) != Some(prefix)
            && !is_forgotten
        {
            self.hashes.push(prefix_hash(prefix));
        }
    }

    fn finish_block(&mut self) -> Result<()> {
        let raw = self.block.finish(&self.block_first, &self.last_key);
        self.largest_block = self.largest_block.max(raw.len());
        self.data_bytes += raw.len() as u64;
        self.block_count += 1;
        let (kind, payload) = self.compressor.compress(raw);
        let offset = self.output.offset();
        self.ratio = (payload.len() as u64 * 256 / raw.len() as u64 + self.ratio * 7) / 8;
        append_frame(&mut self.output, self.spec.table_id, kind, payload)?;
        if let Some(cache) = &self.cache {
            // A block of our own making parses; if not, reading it will say so.
            if let Ok(block) = Block::parse(raw.to_vec()) {
                cache.insert(self.spec.table_id, offset as u32, Arc::new(block));
            }
        }
        self.block.reset();
        self.pending = Some(offset as u32);
        self.pending_last.clear();
        self.pending_last.extend_from_slice(&self.last_key);
        Ok(())
    }

    /// Bytes of the file so far, with an estimate for the open block; without index and filter.
    #[inline]
    pub fn file_bytes(&self) -> u64 {
        self.output.offset() + (self.block.bytes() as u64 * self.ratio) / 256
    }

    /// Entries so far.
    #[inline]
    pub fn entry_count(&self) -> u64 {
        self.info.entry_count
    }

    /// Bytes of memory that the writer holds, for the budget: write buffers, hashes, index and the open block.
    pub fn memory_bytes(&self) -> u64 {
        let bytes = Output::memory_bytes()
            + self.hashes.len() * 8
            + self.index.byte_length()
            + 2 * self.block.bytes();
        bytes as u64
    }

    /// Writes the tail and makes the file durable.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`]: the table is lost, remove the file. [`Error::InvalidOption`] for a table without
    /// entries, which the format does not have.
    pub fn finish(mut self) -> Result<TableInfo> {
        if self.info.entry_count == 0 {
            return Err(Error::invalid_option("table", "a table has at least one entry"));
        }
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        if let Some(offset) = self.pending.take() {
            self.index.add(&self.pending_last, offset);
        }
        let data_end = self.output.offset();
        let table_id = self.spec.table_id;
        let mut index_bytes = 0;
        let (partitioned, top) = match self.index.finish(data_end as u32, self.flat_index_max) {
            BuiltIndex::Flat(bytes) => (false, bytes),
            BuiltIndex::Partitioned(partitions) => {
                let mut top = IndexBuilder::new();
                for (last, bytes) in partitions {
                    top.add(&last, self.output.offset() as u32);
                    let range =
                        append_frame(&mut self.output, table_id, Compression::None, &bytes)?;
                    index_bytes += range.end - range.start;
                }
                match top.finish(self.output.offset() as u32, usize::MAX) {
                    BuiltIndex::Flat(bytes) => (true, bytes),
                    // Not reached: nothing is larger than usize::MAX.
                    BuiltIndex::Partitioned(_) => return Err(versions_too_large()),
                }
            }
        };
        self.output.pad(FILTER_ALIGN)?;
        let tail_offset = self.output.offset();
        let none = Compression::None;
        let filter = match filter::build(self.spec.filter, &self.hashes) {
            Some(bytes) => append_frame(&mut self.output, table_id, none, &bytes)?,
            None => tail_offset..tail_offset,
        };
        let index = append_frame(&mut self.output, table_id, none, &top)?;
        self.info.tail_offset = tail_offset;
        self.info.largest = std::mem::take(&mut self.last_key);
        let properties = Properties {
            info: self.info.clone(),
            creation_version: FORMAT_VERSION,
            compression: self.spec.compression,
            filter: self.spec.filter,
            block_bytes: self.spec.block_bytes,
            keyspace: self.spec.keyspace.0,
            level: self.spec.level,
            largest_block: self.largest_block as u32,
            block_count: self.block_count,
            key_count: self.key_count,
            index_bytes: index_bytes + index.end - index.start,
            filter_bytes: filter.end - filter.start,
            data_bytes: self.data_bytes,
            prefix_bytes: self.spec.prefix_bytes,
        };
        let properties = append_frame(&mut self.output, table_id, none, &properties.encode())?;
        let offset = self.output.offset();
        let footer =
            Footer { table_id, partitioned, filter, index, properties, data_end, tail_offset };
        self.output.append(&footer.encode(offset))?;
        let mut info = self.info;
        info.file_bytes = offset + FOOTER_BYTES as u64;
        assert!(info.file_bytes < TABLE_BYTES_MAX, "a table is cut below {TABLE_BYTES_MAX} bytes");
        self.output.finish()?;
        Ok(info)
    }

    /// Cuts the index into partitions of `bytes` as soon as it is longer. Only tests have tables so small that they need to say so.
    pub fn set_flat_index_max(&mut self, bytes: usize) {
        self.flat_index_max = bytes;
    }
}

/// Appends a payload with its trailer; returns its place.
fn append_frame(
    output: &mut Output,
    table_id: u64,
    kind: Compression,
    payload: &[u8],
) -> Result<Range<u64>> {
    let start = output.offset();
    let end = start + (payload.len() + frame::TRAILER_BYTES) as u64;
    assert!(end < TABLE_BYTES_MAX, "a table is cut below {TABLE_BYTES_MAX} bytes");
    output.append(payload)?;
    output.append(&frame::trailer(table_id, start, payload, kind))?;
    Ok(start..end)
}

#[cold]
fn versions_too_large() -> Error {
    let detail = format!(
        "the versions of one key pass {BLOCK_BYTES_MAX} bytes; release snapshots so that old ones can go"
    );
    Error::invalid_option("snapshots", detail)
}

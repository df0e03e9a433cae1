//! The full check of a table: every byte of it is looked at.

use super::{BlockHandle, TableReader};
use crate::base::error::Result;
use crate::base::hash::{key_hash, prefix_hash};
use crate::base::key::{Kind, SEQUENCE_MAX, SequenceNumber, Tag};
use crate::file::table_cursor::stream::Stream;
use crate::format::block::{Walk, fingerprint};
use crate::format::index::Index;

/// Bytes of one read.
const CHUNK_BYTES: u64 = 1 << 20;

/// What a full check went through.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TableCheck {
    /// Data blocks.
    pub blocks: u64,
    /// Entries.
    pub entries: u64,
    /// Tombstones among them.
    pub tombstones: u64,
    /// Stored bytes of the data blocks.
    pub bytes: u64,
}

/// What the check carries from block to block.
struct Progress<'a> {
    table: &'a TableReader,
    stream: Stream,
    /// What the memory of the block before is used for.
    spare: Vec<u8>,
    /// Hashes of the keys of the block at hand.
    hashes: Vec<u64>,
    check: TableCheck,
    last_key: Vec<u8>,
    last_tag: Tag,
    /// Smallest and largest sequence number.
    sequences: (SequenceNumber, SequenceNumber),
    /// Bytes of all keys and values.
    key_bytes: u64,
    value_bytes: u64,
    /// Separator of the block before.
    above: Option<Vec<u8>>,
    end: u64,
}

pub(super) fn verify(table: &TableReader) -> Result<TableCheck> {
    let mut progress = Progress {
        table,
        stream: Stream::open(table, CHUNK_BYTES)?,
        spare: Vec::new(),
        hashes: Vec::new(),
        check: TableCheck::default(),
        last_key: Vec::new(),
        last_tag: Tag(0),
        sequences: (SEQUENCE_MAX, 0),
        key_bytes: 0,
        value_bytes: 0,
        above: None,
        end: 0,
    };
    if table.partitioned {
        for number in 0..table.top.count() {
            let partition = table.partition(number)?;
            progress.index(&partition)?;
            if progress.above.as_ref() != Some(&table.top.separator_key(number)) {
                let detail = format!("partition {number} ends at another key than its index says");
                return Err(table.damaged(table.top.handle(number), detail));
            }
        }
    } else {
        progress.index(&table.top)?;
    }
    let info = &table.properties.info;
    let found = &progress.check;
    if found.entries != info.entry_count
        || found.tombstones != info.tombstone_count
        || found.blocks != table.properties.block_count
        || progress.last_key != info.largest
        || progress.sequences != (info.sequence_min, info.sequence_max)
        || progress.key_bytes != info.raw_key_bytes
        || progress.value_bytes != info.raw_value_bytes
        || progress.end != table.data_end
    {
        let detail = format!("the blocks hold {found:?}, the properties say {info:?}");
        return Err(table.damaged(BlockHandle { offset: 0, bytes: 0 }, detail));
    }
    padding(table)?;
    Ok(progress.check)
}

/// Zeros up to the tail, which no checksum covers: other bytes do no harm, but somebody wrote them.
fn padding(table: &TableReader) -> Result<()> {
    let last = table.top.handle(table.top.count() - 1);
    let Some(bytes) = table.properties.info.tail_offset.checked_sub(last.end()) else {
        return Err(table.damaged(last, "it reaches into the tail".to_owned()));
    };
    let padding = BlockHandle { offset: last.end() as u32, bytes: bytes as u32 };
    if bytes == 0 {
        return Ok(());
    }
    table.with_stored(padding, |stored| match stored.iter().all(|&byte| byte == 0) {
        true => Ok(()),
        false => Err(table.damaged(padding, "the padding before the tail is not zeros".to_owned())),
    })
}

impl Progress<'_> {
    fn index(&mut self, index: &Index) -> Result<()> {
        for i in 0..index.count() {
            let handle = index.handle(i);
            if u64::from(handle.offset) != self.end {
                let detail = format!("the block before ends at {}", self.end);
                return Err(self.table.damaged(handle, detail));
            }
            let separator = index.separator_key(i);
            self.block(handle, &separator)?;
            self.above = Some(separator);
            self.end = handle.end();
        }
        Ok(())
    }

    fn block(&mut self, handle: BlockHandle, separator: &[u8]) -> Result<()> {
        let table = self.table;
        let memory = std::mem::take(&mut self.spare);
        let block = table.decode(handle, self.stream.read(table, handle)?, memory)?;
        let mut walk = Walk::default();
        walk.set(&block, 0);
        loop {
            let (key, tag) = (walk.key(&block), walk.tag());
            let wrong = |what: &str| {
                let detail =
                    format!("entry {} (key {:?}): {what}", walk.index(), key.escape_ascii());
                Err(table.damaged(handle, detail))
            };
            let first = self.check.entries == 0;
            let same = !first && key == self.last_key;
            if first && key != table.properties.info.smallest {
                return wrong("not the smallest key that the properties name");
            }
            if !first && (key < &self.last_key[..] || same && tag >= self.last_tag) {
                return wrong("out of order");
            }
            if same && walk.index() == 0 {
                return wrong("a key with versions in two blocks");
            }
            if key > separator || self.above.as_ref().is_some_and(|above| key <= above) {
                return wrong("outside of what the index says of its block");
            }
            let prefix = table.properties.prefix_bytes.and_then(|n| key.get(..usize::from(n)));
            if let Some(prefix) = prefix
                && !self.last_key.starts_with(prefix)
                && !table.may_contain(prefix_hash(prefix))
            {
                return wrong("its prefix is denied by the filter");
            }
            let hash = key_hash(key);
            table.prefetch_filter(hash);
            self.hashes.push(hash);
            self.check.entries += 1;
            let (min, max) = self.sequences;
            self.sequences = (min.min(tag.sequence()), max.max(tag.sequence()));
            self.key_bytes += key.len() as u64;
            self.value_bytes += walk.value(&block).len() as u64;
            self.check.tombstones += u64::from(tag.kind() == Kind::Delete);
            self.last_tag = tag;
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
            if !walk.next(&block) {
                break;
            }
        }
        self.check.blocks += 1;
        // By now their lines of the filter have come.
        for (index, hash) in self.hashes.drain(..).enumerate() {
            let wrong = |what: &str| Err(table.damaged(handle, format!("entry {index}: {what}")));
            if !table.may_contain(hash) {
                return wrong("denied by the filter");
            }
            // In a block in order this is all that a point read can go wrong by.
            if block.fingerprint_of(index) != fingerprint(hash) {
                return wrong("not found by its fingerprint");
            }
        }
        self.check.bytes += u64::from(handle.bytes);
        self.spare = block.into_bytes();
        Ok(())
    }
}

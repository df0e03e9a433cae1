//! Read-ahead of a user's scan: one plain read that covers several blocks.

use crate::base::error::Result;
use crate::file::table_reader::TableReader;
use crate::format::index::BlockHandle;
use crate::io::{AlignedBuffer, read_full};
use std::ops::Range;

/// Moves to a neighbouring block before the read-ahead starts.
const WARM_AFTER: u32 = 1;
const BYTES_MIN: u64 = 32 << 10;
const BYTES_MAX: u64 = 256 << 10;

/// The bytes read ahead, and how much to read next.
#[derive(Debug, Default)]
pub(super) struct Span {
    buffer: Option<AlignedBuffer>,
    /// File offset of the first byte.
    start: u64,
    sequential: u32,
    next_bytes: u64,
}

impl Span {
    /// Takes note of a move to another block.
    #[inline]
    pub(super) fn note(&mut self, neighbour: bool) {
        if neighbour {
            self.sequential = self.sequential.saturating_add(1);
        } else {
            self.sequential = 0;
            self.next_bytes = 0;
        }
    }

    pub(super) fn is_warm(&self) -> bool {
        self.sequential >= WARM_AFTER
    }

    /// True if the whole block has been read ahead.
    pub(super) fn holds(&self, handle: BlockHandle) -> bool {
        self.place(handle).is_some()
    }

    /// The stored bytes of a block that was read ahead.
    pub(super) fn stored(&self, table: &TableReader, handle: BlockHandle) -> Result<&[u8]> {
        match (&self.buffer, self.place(handle)) {
            (Some(buffer), Some(at)) => Ok(&buffer[at..at + handle.bytes as usize]),
            _ => Err(table.ends_early(handle)),
        }
    }

    /// Index of the block's first byte in the buffer, if the whole block is there.
    fn place(&self, handle: BlockHandle) -> Option<usize> {
        let buffer = self.buffer.as_ref()?;
        let at = u64::from(handle.offset).checked_sub(self.start)?;
        (handle.end() <= self.start + buffer.len() as u64).then_some(at as usize)
    }

    /// True if the block touches what was read ahead: the scan has used that up.
    fn adjoins(&self, handle: BlockHandle) -> bool {
        let end = self.start + self.buffer.as_ref().map_or(0, |buffer| buffer.len() as u64);
        u64::from(handle.offset) <= end && handle.end() >= self.start
    }

    /// Reads the block and what follows it (or comes before it), inside `reach`.
    pub(super) fn fill(
        &mut self,
        table: &TableReader,
        handle: BlockHandle,
        backward: bool,
        reach: Range<u64>,
    ) -> Result<()> {
        // Where cached blocks were in between, little of a longer read would be used.
        let before = if self.adjoins(handle) { self.next_bytes } else { 0 };
        self.next_bytes = (before * 2).clamp(BYTES_MIN, BYTES_MAX);
        let (mut start, mut end) = (u64::from(handle.offset), handle.end());
        if backward {
            start = start.min(end.saturating_sub(self.next_bytes).max(reach.start));
        } else {
            end = end.max((start + self.next_bytes).min(reach.end));
        }
        let unit = table.read_unit();
        (start, end) = (start / unit * unit, end.next_multiple_of(unit));
        let length = (end - start) as usize;
        let mut buffer = match self.buffer.take() {
            Some(buffer) if buffer.capacity() >= length => buffer,
            _ => AlignedBuffer::with_capacity(length),
        };
        buffer.set_length(length);
        let read = read_full(&**table.file(), start, &mut buffer)
            .map_err(|error| table.io_error("read", error))?;
        buffer.set_length(read);
        self.buffer = Some(buffer);
        self.start = start;
        Ok(())
    }
}

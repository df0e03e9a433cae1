//! Read-ahead of a user's scan: one plain read that covers several blocks.

use crate::base::error::Result;
use crate::base::limits::IO_ALIGN;
use crate::file::table_reader::TableReader;
use crate::format::index::BlockHandle;
use crate::io::{AlignedBuffer, read_full};

/// Neighbouring blocks before the read-ahead starts.
const WARM_AFTER: u32 = 2;
const BYTES_MIN: u64 = 16 << 10;
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

    /// The stored bytes of a block, from the span or by reading the next one.
    pub(super) fn read(
        &mut self,
        table: &TableReader,
        handle: BlockHandle,
        backward: bool,
    ) -> Result<&[u8]> {
        if self.place(handle).is_none() {
            self.fill(table, handle, backward)?;
        }
        let place = self.place(handle);
        match (&self.buffer, place) {
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

    fn fill(&mut self, table: &TableReader, handle: BlockHandle, backward: bool) -> Result<()> {
        self.next_bytes = (self.next_bytes * 2).clamp(BYTES_MIN, BYTES_MAX);
        let wanted = self.next_bytes.max(u64::from(handle.bytes));
        let (mut start, mut end) = if backward {
            (handle.end().saturating_sub(wanted), handle.end())
        } else {
            let start = u64::from(handle.offset);
            (start, (start + wanted).min(table.data_end()))
        };
        if table.direct() {
            let align = IO_ALIGN as u64;
            (start, end) = (start / align * align, end.next_multiple_of(align));
        }
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

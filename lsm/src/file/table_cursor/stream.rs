//! The reading side of a compaction, and of a check: large requests, two in flight, in file order.
//!
//! A chunk is handed out while later ones are on their way. A block that crosses chunks is joined in a buffer of its own. A jump
//! (a seek elsewhere) waits for what is in flight and starts anew there.

use crate::base::error::Result;
use crate::base::limits::IO_ALIGN;
use crate::file::table_reader::TableReader;
use crate::format::index::BlockHandle;
use crate::io::{AlignedBuffer, File, Operation, Queue, Request};
use std::collections::VecDeque;
use std::sync::Arc;

/// Requests in flight. With the chunk that is read and a spare one, twice as many buffers.
const DEPTH: usize = 2;

#[derive(Debug)]
struct Chunk {
    offset: u64,
    /// Bytes asked for, then bytes read.
    length: u64,
    /// Absent while in flight.
    buffer: Option<AlignedBuffer>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// Chunks of a table in order, from the one that holds the block last read.
#[derive(Debug)]
pub(in crate::file) struct Stream {
    file: Arc<dyn File>,
    queue: Box<dyn Queue>,
    chunks: VecDeque<Chunk>,
    spare: Vec<AlignedBuffer>,
    chunk_bytes: u64,
    /// Where the next request begins.
    next: u64,
    /// Where the last one ends.
    end: u64,
    joined: Vec<u8>,
}

impl Stream {
    /// A stream over the data blocks of `table`.
    pub(in crate::file) fn open(table: &TableReader, chunk_bytes: u64) -> Result<Stream> {
        debug_assert!(chunk_bytes > 0 && chunk_bytes.is_multiple_of(IO_ALIGN as u64));
        let file = Arc::clone(table.file());
        let end = table.data_end().next_multiple_of(IO_ALIGN as u64);
        Ok(Stream {
            file,
            queue: table.disk().queue(DEPTH),
            chunks: VecDeque::new(),
            spare: Vec::new(),
            chunk_bytes,
            next: 0,
            end,
            joined: Vec::new(),
        })
    }

    /// The stored bytes of a block.
    pub(in crate::file) fn read(
        &mut self,
        table: &TableReader,
        handle: BlockHandle,
    ) -> Result<&[u8]> {
        let start = u64::from(handle.offset);
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= start) {
            match self.chunks.pop_front() {
                Some(Chunk { buffer: Some(buffer), .. }) => self.spare.push(buffer),
                Some(chunk) => {
                    // Still in flight: put it back and take what arrives.
                    self.chunks.push_front(chunk);
                    self.wait(table)?;
                }
                None => break,
            }
        }
        let follows = match self.chunks.front() {
            Some(chunk) => chunk.offset <= start,
            None => start == self.next && start < self.end,
        };
        if !follows {
            while self.queue.in_flight() > 0 {
                self.wait(table)?;
            }
            let buffers = self.chunks.drain(..).filter_map(|chunk| chunk.buffer);
            self.spare.extend(buffers);
            self.next = start / IO_ALIGN as u64 * IO_ALIGN as u64;
        }
        self.request_more();
        // Wait until all chunks that the block touches are here.
        loop {
            let missing = self
                .chunks
                .iter()
                .any(|chunk| chunk.offset < handle.end() && chunk.buffer.is_none());
            let covered = self.chunks.back().is_some_and(|chunk| chunk.end() >= handle.end());
            if !missing && covered {
                break;
            }
            if self.queue.in_flight() == 0 {
                if self.next >= self.end {
                    return Err(table.ends_early(handle));
                }
                self.request_more();
                continue;
            }
            self.wait(table)?;
            self.request_more();
        }
        self.slice(table, handle)
    }

    fn slice(&mut self, table: &TableReader, handle: BlockHandle) -> Result<&[u8]> {
        let start = u64::from(handle.offset);
        self.joined.clear();
        let crosses = self.chunks.front().is_some_and(|chunk| chunk.end() < handle.end());
        if crosses {
            for chunk in &self.chunks {
                let (from, to) = (start.max(chunk.offset), handle.end().min(chunk.end()));
                if let (Some(buffer), true) = (&chunk.buffer, from < to) {
                    let range = (from - chunk.offset) as usize..(to - chunk.offset) as usize;
                    self.joined.extend_from_slice(&buffer[range]);
                }
            }
            if self.joined.len() != handle.bytes as usize {
                return Err(table.ends_early(handle));
            }
            return Ok(&self.joined);
        }
        let chunk =
            self.chunks.front().and_then(|chunk| Some((chunk.offset, chunk.buffer.as_ref()?)));
        let Some((offset, buffer)) = chunk else { return Err(table.ends_early(handle)) };
        let at = (start - offset) as usize;
        buffer.get(at..at + handle.bytes as usize).ok_or_else(|| table.ends_early(handle))
    }

    /// Puts requests in flight up to the depth.
    fn request_more(&mut self) {
        let mut pushed = false;
        while self.queue.in_flight() < DEPTH && self.next < self.end {
            let length = self.chunk_bytes.min(self.end - self.next);
            let mut buffer = match self.spare.pop() {
                Some(buffer) if buffer.capacity() as u64 >= length => buffer,
                _ => AlignedBuffer::with_capacity(length as usize),
            };
            buffer.set_length(length as usize);
            self.queue.push(Request {
                token: self.next,
                file: Arc::clone(&self.file),
                operation: Operation::Read,
                offset: self.next,
                buffer,
            });
            self.chunks.push_back(Chunk { offset: self.next, length, buffer: None });
            self.next += length;
            pushed = true;
        }
        if pushed {
            self.queue.submit();
        }
    }

    /// Waits for one chunk and files it.
    fn wait(&mut self, table: &TableReader) -> Result<()> {
        let Some(completion) = self.queue.wait() else { return Ok(()) };
        let mut buffer = completion.buffer;
        let chunk = self.chunks.iter_mut().find(|chunk| chunk.offset == completion.token);
        let Some(chunk) = chunk else { return Ok(()) };
        match completion.result {
            Ok(read) => {
                buffer.set_length(read.min(buffer.len()));
                chunk.length = buffer.len() as u64;
                chunk.buffer = Some(buffer);
                Ok(())
            }
            Err(error) => {
                // The chunks can no longer be trusted to be whole: start anew at the next read.
                while self.queue.wait().is_some() {}
                self.chunks.clear();
                self.next = self.end;
                Err(table.io_error("read", error))
            }
        }
    }
}

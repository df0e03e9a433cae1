//! A file written once from front to back: large aligned buffers, several in flight through the disk's queue.
//!
//! Buffers are recycled: at most [`DEPTH`] plus the one being filled exist. The first error sticks; later calls repeat it.

use crate::base::error::{Error, Result};
use crate::base::limits::IO_ALIGN;
use crate::base::planted::{Bug, planted};
use crate::io::{AlignedBuffer, Completion, Disk, File, OpenMode, Operation, Queue, Request};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes of one write request.
const BUFFER_BYTES: usize = 512 << 10;
/// Writes in flight.
const DEPTH: usize = 4;

const _: () = assert!(BUFFER_BYTES.is_multiple_of(IO_ALIGN));

#[derive(Debug)]
pub(in crate::file) struct Output {
    disk: Arc<dyn Disk>,
    file: Arc<dyn File>,
    /// Made by the thread that fills the first buffer, because a queue stays with its thread.
    queue: Option<Box<dyn Queue>>,
    current: AlignedBuffer,
    current_offset: u64,
    failed: Option<Error>,
}

impl Output {
    pub(in crate::file) fn create(
        disk: &Arc<dyn Disk>,
        path: &Path,
        direct: bool,
    ) -> Result<Output> {
        let file = disk
            .open(path, OpenMode { direct, ..OpenMode::CREATE })
            .map_err(|error| Error::io("create", path, error))?;
        Ok(Output {
            disk: Arc::clone(disk),
            file,
            queue: None,
            current: AlignedBuffer::with_capacity(BUFFER_BYTES),
            current_offset: 0,
            failed: None,
        })
    }

    /// Most bytes that its buffers take.
    pub(in crate::file) const fn memory_bytes() -> usize {
        (DEPTH + 1) * BUFFER_BYTES
    }

    /// Bytes appended so far.
    #[inline]
    pub(in crate::file) fn offset(&self) -> u64 {
        self.current_offset + self.current.len() as u64
    }

    /// Appends bytes.
    pub(in crate::file) fn append(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let room = BUFFER_BYTES - self.current.len();
            if bytes.len() < room {
                self.current.extend(bytes);
                return Ok(());
            }
            let (now, later) = bytes.split_at(room);
            self.current.extend(now);
            self.send()?;
            bytes = later;
        }
    }

    /// Appends zeros up to a multiple of `align`, which is at most [`IO_ALIGN`].
    pub(in crate::file) fn pad(&mut self, align: usize) -> Result<()> {
        let past = (self.offset() % align as u64) as usize;
        if past == 0 {
            return Ok(());
        }
        self.append(&[0; IO_ALIGN][..align - past])
    }

    /// Puts the current buffer in flight and takes a fresh one.
    fn send(&mut self) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        // A buffer is made only while fewer than DEPTH are in flight; then they go round.
        let returned = if self.in_flight() < DEPTH { None } else { self.wait()? };
        let next = returned.unwrap_or_else(|| AlignedBuffer::with_capacity(BUFFER_BYTES));
        let offset = self.current_offset;
        let buffer = std::mem::replace(&mut self.current, next);
        self.current_offset += buffer.len() as u64;
        let file = Arc::clone(&self.file);
        let queue = self.queue.get_or_insert_with(|| self.disk.queue(DEPTH));
        queue.push(Request { token: offset, file, operation: Operation::Write, offset, buffer });
        queue.submit();
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.in_flight())
    }

    /// Waits for one write and gives its buffer back, emptied. `None` when nothing was in flight.
    fn wait(&mut self) -> Result<Option<AlignedBuffer>> {
        let Some(Completion { mut buffer, result, .. }) =
            self.queue.as_mut().and_then(|queue| queue.wait())
        else {
            return Ok(None);
        };
        let written = match result {
            Ok(bytes) if bytes == buffer.len() => Ok(()),
            Ok(bytes) => Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("{bytes} of {} bytes written", buffer.len()),
            )),
            Err(error) => Err(error),
        };
        if let Err(error) = written
            && !planted(Bug::TableWriteErrorSwallowed)
        {
            let error = Error::io("write", self.file.path(), error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        buffer.set_length(0);
        Ok(Some(buffer))
    }

    /// Writes what is left, cuts the padding and makes the bytes durable.
    pub(in crate::file) fn finish(mut self) -> Result<()> {
        let size = self.offset();
        // Also a body that fell back to a buffered file takes a padded write.
        self.pad(IO_ALIGN)?;
        if !self.current.is_empty() {
            self.send()?;
        }
        while self.wait()?.is_some() {}
        let path = self.file.path();
        self.file.set_size(size).map_err(|error| Error::io("truncate", path, error))?;
        if planted(Bug::TableSyncSkipped) {
            return Ok(());
        }
        self.file.sync_data().map_err(|error| Error::io("sync", path, error))
    }
}

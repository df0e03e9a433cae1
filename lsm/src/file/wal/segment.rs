//! Where the log lives: spans of LSNs, and the files that hold them.
//!
//! The appender decides where a segment begins (a [`Span`]); it needs no file for that. The writer gives a span its file
//! when its first bytes leave the ring. So opening a segment costs the commit path no I/O.

use super::log::{LOG_HEADER_BYTES, Lsn, SegmentHeader};
use crate::base::error::{Error, Result};
use crate::base::limits::IO_ALIGN;
use crate::base::sync::Mutex;
use crate::file::name;
use crate::io::{AlignedBuffer, Disk, File, OpenMode, write_full};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Numbers tried when a new slot's name turns out to be taken.
const SLOT_TRIES_MAX: u64 = 1000;

/// A segment's place in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    /// Number of the segment in this run.
    pub(super) ordinal: u64,
    /// Its first LSN.
    pub(super) base: Lsn,
    /// The LSN after its last; for the newest segment, the latest possible one.
    pub(super) end: Lsn,
}

/// All spans that are not released, in order. Spans follow each other without gaps.
#[derive(Debug)]
pub(super) struct Layout {
    spans: Mutex<VecDeque<Span>>,
    capacity: u64,
}

impl Layout {
    pub(super) fn new(base: Lsn, capacity: u64) -> Layout {
        let first = Span { ordinal: 0, base, end: base + capacity };
        Layout { spans: Mutex::new(VecDeque::from([first])), capacity }
    }

    /// Ends the newest span at `base` and begins the next; returns the end of the new one.
    pub(super) fn open(&self, base: Lsn) -> Lsn {
        let mut spans = self.spans.lock();
        let ordinal = spans.back_mut().map_or(0, |newest| {
            newest.end = base;
            newest.ordinal + 1
        });
        spans.push_back(Span { ordinal, base, end: base + self.capacity });
        base + self.capacity
    }

    /// First LSN of the newest span.
    pub(super) fn newest_base(&self) -> Lsn {
        self.spans.lock().back().map_or(0, |newest| newest.base)
    }

    /// The span that holds `lsn`.
    pub(super) fn find(&self, lsn: Lsn) -> Option<Span> {
        let spans = self.spans.lock();
        spans.iter().rev().find(|span| (span.base..span.end).contains(&lsn)).copied()
    }

    /// Forgets the spans that end at or before `before`, but never the newest; returns the first ordinal left.
    pub(super) fn release(&self, before: Lsn) -> u64 {
        let mut spans = self.spans.lock();
        while spans.len() > 1 && spans[0].end <= before {
            spans.pop_front();
        }
        spans.front().map_or(0, |oldest| oldest.ordinal)
    }

    pub(super) fn len(&self) -> usize {
        self.spans.lock().len()
    }
}

/// A segment file, in use or free.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    /// Bytes that the file has; all of them were written, so rewriting them changes no metadata.
    pub(super) size: u64,
}

impl Slot {
    /// Makes a new file, numbered from `next` on.
    pub(super) fn create(disk: &dyn Disk, directory: &Path, next: &mut u64) -> Result<Slot> {
        let last = *next + SLOT_TRIES_MAX;
        loop {
            let number = *next;
            let path = name::wal(directory, number);
            match disk.open(&path, OpenMode::CREATE_DIRECT) {
                Ok(file) => {
                    *next += 1;
                    return Ok(Slot { number, file, size: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < last => {
                    *next += 1;
                }
                Err(error) => return Err(Error::io("create", &path, error)),
            }
        }
    }

    /// Opens a free file of an earlier run.
    pub(super) fn reuse(disk: &dyn Disk, directory: &Path, number: u64) -> Result<Slot> {
        let path = name::wal(directory, number);
        let mode = OpenMode { write: true, ..OpenMode::READ_DIRECT };
        let opened = disk.open(&path, mode).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|error| Error::io("open", &path, error))?;
        // A power cut may have left a size inside a block; that block does not count as written.
        Ok(Slot { number, file, size: size - size % IO_ALIGN as u64 })
    }

    /// Writes whole blocks at `offset`.
    pub(super) fn write(&mut self, offset: u64, blocks: &[u8], durable: bool) -> Result<()> {
        write_full(&*self.file, offset, blocks, durable)
            .map_err(|error| Error::io("write", self.file.path(), error))?;
        self.size = self.size.max(offset + blocks.len() as u64);
        Ok(())
    }

    /// Grows the file by written zeros up to `size`, at most one `buffer` in this call; true when it is there.
    pub(super) fn fill(&mut self, size: u64, buffer: &mut AlignedBuffer) -> Result<bool> {
        if self.size < size {
            let length = (size - self.size).min(buffer.capacity() as u64) as usize;
            buffer.set_length(length);
            buffer.fill(0);
            self.write(self.size, buffer, false)?;
        }
        Ok(self.size >= size)
    }
}

/// A span with its file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) ordinal: u64,
    pub(super) base: Lsn,
    pub(super) slot: Slot,
    /// Something was written that no sync has covered yet.
    pub(super) unsynced: bool,
}

impl Segment {
    /// Makes `slot` the file of `span` by writing its header block. On an error the slot comes back.
    pub(super) fn begin(
        span: Span,
        mut slot: Slot,
        epoch: u64,
        capacity: u64,
        buffer: &mut AlignedBuffer,
    ) -> std::result::Result<Segment, (Slot, Error)> {
        let Span { ordinal, base, .. } = span;
        let header = SegmentHeader { epoch, slot: slot.number, ordinal, base, capacity };
        buffer.set_length(LOG_HEADER_BYTES);
        buffer.copy_from_slice(&header.encode());
        match slot.write(0, buffer, false) {
            Ok(()) => Ok(Segment { ordinal, base, slot, unsynced: true }),
            Err(error) => Err((slot, error)),
        }
    }

    /// Offset in the file of the byte at `lsn`.
    pub(super) fn offset(&self, lsn: Lsn) -> u64 {
        LOG_HEADER_BYTES as u64 + (lsn - self.base)
    }
}

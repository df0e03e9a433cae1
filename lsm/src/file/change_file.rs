//! Writes and reads change files (`format/change.rs`).
//!
//! Promises:
//! 1. A file gets its name when all of it is durable, and the name is durable when `write` returns. A file of that name is replaced.
//! 2. Reading checks every byte that is handed out; damage is [`Error::Corruption`] with file and offset.

use crate::base::error::{Error, Result};
use crate::base::key::SequenceNumber;
use crate::base::limits::FORMAT_VERSION;
use crate::file::name;
use crate::file::table_writer::output::Output;
use crate::format::change::{
    ChangeDamage, FRAME_HEADER_BYTES, FrameHead, FrameKind, HEADER_BYTES, check_frame, frame_head,
    header, read_frame_head, read_header,
};
use crate::io::{Disk, File, OpenMode, read_full};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is read at once where frames are small.
const CHUNK_BYTES: usize = 256 << 10;

/// A frame to be written: its head and its payload.
pub type Frame<'a> = (FrameHead, &'a [u8]);

/// Writes frames, of which there is at least one, as the file of the first one's sequence number. Returns its size.
///
/// # Errors
/// [`Error::Io`], [`Error::NoSpace`]: no file is left, but perhaps the name of an older one.
pub fn write<'a>(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    frames: impl Iterator<Item = Frame<'a>>,
) -> Result<u64> {
    let mut frames = frames.peekable();
    let first = frames.peek().map_or(0, |(head, _)| head.sequence);
    let path = name::changes(directory, first);
    let half_made = path.with_extension("chg.tmp");
    // Of an earlier try.
    let _there_may_be_none = disk.remove(&half_made);
    let written = write_to(disk, &half_made, first, frames).and_then(|bytes| {
        disk.rename(&half_made, &path).map_err(|e| Error::io("rename", &half_made, e))?;
        disk.sync_directory(directory).map_err(|e| Error::io("sync", directory, e))?;
        Ok(bytes)
    });
    written.inspect_err(|_| {
        let _the_first_error_counts = disk.remove(&half_made);
    })
}

fn write_to<'a>(
    disk: &Arc<dyn Disk>,
    path: &Path,
    first: SequenceNumber,
    frames: impl Iterator<Item = Frame<'a>>,
) -> Result<u64> {
    let mut output = Output::create(disk, path, true)?;
    output.append(&header(first))?;
    let (mut last, mut count) = (first, 0);
    for (head, payload) in frames {
        output.append(&frame_head(first, output.offset(), head, payload))?;
        output.append(payload)?;
        (last, count) = (head.last(), count + 1);
    }
    let end = FrameHead { kind: FrameKind::End, sequence: last, count, length: 0 };
    output.append(&frame_head(first, output.offset(), end, &[]))?;
    let bytes = output.offset();
    output.finish()?;
    Ok(bytes)
}

/// A change file being read from front to back.
#[derive(Debug)]
pub struct ChangeReader {
    file: Arc<dyn File>,
    path: PathBuf,
    first: SequenceNumber,
    last: SequenceNumber,
    size: u64,
    /// Where the next frame begins.
    offset: u64,
    /// Bytes of the file from `chunk_at` on.
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl ChangeReader {
    /// Opens the file that begins with `first`; looks at both ends of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corruption`], [`Error::NewerFormat`].
    pub fn open(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        first: SequenceNumber,
    ) -> Result<ChangeReader> {
        let path = name::changes(directory, first);
        let io = |operation| {
            let path = path.clone();
            move |error| Error::io(operation, &path, error)
        };
        let file = disk.open(&path, OpenMode::READ).map_err(io("open"))?;
        let size = file.size().map_err(io("stat"))?;
        let mut reader = ChangeReader {
            file,
            path: path.clone(),
            first,
            last: 0,
            size,
            offset: HEADER_BYTES as u64,
            chunk: Vec::new(),
            chunk_at: 0,
        };
        let Some(end_at) = size.checked_sub(FRAME_HEADER_BYTES as u64) else {
            return Err(reader.damaged(0, format!("{size} bytes, shorter than its end")));
        };
        let mut head = [0; HEADER_BYTES];
        let read = read_full(&*reader.file, 0, &mut head).map_err(io("read"))?;
        match read_header(&head) {
            Ok(found) if found == first && read == HEADER_BYTES => {}
            Ok(found) => {
                let detail =
                    format!("it begins with sequence number {found}, its name says {first}");
                return Err(reader.damaged(0, detail));
            }
            Err(ChangeDamage::Newer(found)) => {
                return Err(Error::NewerFormat { path, found, supported: FORMAT_VERSION });
            }
            Err(ChangeDamage::Damaged(detail)) => return Err(reader.damaged(0, detail)),
        }
        let mut end = [0; FRAME_HEADER_BYTES];
        read_full(&*reader.file, end_at, &mut end).map_err(io("read"))?;
        match read_frame_head(&end) {
            Ok(found) if found.kind == FrameKind::End && check_frame(first, end_at, &end, &[]) => {
                reader.last = found.sequence;
            }
            _ => return Err(reader.damaged(end_at, "it has no end".to_owned())),
        }
        Ok(reader)
    }

    /// The last sequence number in it.
    pub fn last(&self) -> SequenceNumber {
        self.last
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.size
    }

    /// The next frame; `None` at the end. The payload is good until the next call.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corruption`].
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        let offset = self.offset;
        let head = self.take::<FRAME_HEADER_BYTES>(offset)?;
        let told = read_frame_head(&head).map_err(|detail| self.damaged(offset, detail))?;
        let at = offset + FRAME_HEADER_BYTES as u64;
        self.load(at, told.length as usize)?;
        let from = (at - self.chunk_at) as usize;
        let payload = from..from + told.length as usize;
        if !check_frame(self.first, offset, &head, &self.chunk[payload.clone()]) {
            return Err(self.damaged(offset, "the checksum of a frame is wrong".to_owned()));
        }
        if told.kind == FrameKind::End {
            return Ok(None);
        }
        self.offset = at + u64::from(told.length);
        Ok(Some((told, &self.chunk[payload])))
    }

    fn take<const N: usize>(&mut self, offset: u64) -> Result<[u8; N]> {
        self.load(offset, N)?;
        let from = (offset - self.chunk_at) as usize;
        let mut out = [0; N];
        out.copy_from_slice(&self.chunk[from..from + N]);
        Ok(out)
    }

    /// Has `length` bytes from `offset` on in the chunk.
    fn load(&mut self, offset: u64, length: usize) -> Result<()> {
        let end = offset + length as u64;
        if end > self.size {
            return Err(self.damaged(offset, "it ends inside a frame".to_owned()));
        }
        if offset >= self.chunk_at && end <= self.chunk_at + self.chunk.len() as u64 {
            return Ok(());
        }
        let wanted = length.max(CHUNK_BYTES).min((self.size - offset) as usize);
        self.chunk.resize(wanted, 0);
        self.chunk_at = offset;
        let read = read_full(&*self.file, offset, &mut self.chunk)
            .map_err(|error| Error::io("read", &self.path, error))?;
        self.chunk.truncate(read);
        if read < length {
            return Err(self.damaged(offset, "it ends inside a frame".to_owned()));
        }
        Ok(())
    }

    fn damaged(&self, offset: u64, detail: String) -> Error {
        Error::corruption(&self.path, offset, detail)
    }
}

//! The change log: the commits of the last while, in their order, for whoever follows the database.
//!
//! ```text
//! commit ──> buffer of the active generation ──freeze──> its buffer waits beside it ──flush──> a change file, durable before the manifest forgets the log
//! ```
//!
//! The log itself (`file/wal`) will not do: its segments are overwritten as soon as their commits are in tables, and the youngest bytes of it are in no file. So each
//! generation has its commits once more in memory, and a flush writes them to a file of their own. What a crash takes of a buffer, the replay of the log puts
//! back, for the file is written before the manifest says that the log is not needed any more.
//!
//! Promises:
//! 1. What is in files and buffers together is every commit from some number on. Of numbers whose commits a crash has taken back they say that; any other
//!    hole is told to whoever comes to it.
//! 2. Files are kept up to a number of bytes, and [`FILES_MAX`] of them; nobody who reads slowly keeps them longer.
//! 3. Which files count is said by the manifest: those that begin up to its number. Others were written by a flush that did not come to its end.

use crate::base::error::{Error, Result};
use crate::base::key::SequenceNumber;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{Condvar, Mutex};
use crate::file::change_file;
use crate::file::name;
use crate::format::change::{FrameHead, FrameKind};
use crate::io::Disk;
use crate::job::output::remove_all;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Files that are kept at most: each opening reads the ends of all, and makes one.
const FILES_MAX: usize = 4096;

/// The commits of one generation.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Number of the generation.
    generation: u64,
    frames: Vec<(FrameHead, Range)>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: usize,
    end: usize,
}

impl Buffer {
    fn of(generation: u64) -> Buffer {
        Buffer { generation, ..Buffer::default() }
    }

    pub(crate) fn push(&mut self, kind: FrameKind, sequence: u64, count: u32, parts: &[&[u8]]) {
        let start = self.bytes.len();
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let end = self.bytes.len();
        let head = FrameHead { kind, sequence, count, length: (end - start) as u32 };
        self.frames.push((head, Range { start, end }));
    }

    /// Says of a number that no commit ever had it.
    pub(crate) fn push_void(&mut self, sequence: SequenceNumber) {
        self.push(FrameKind::Void, sequence, 1, &[]);
    }

    /// Says of numbers up to `last` that a crash has taken back the commits that they had.
    pub(crate) fn push_lost(&mut self, first: SequenceNumber, last: SequenceNumber) {
        let mut next = first;
        while next <= last {
            let count = (last - next + 1).min(u64::from(u32::MAX)) as u32;
            self.push(FrameKind::Lost, next, count, &[]);
            next += u64::from(count);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    fn first(&self) -> Option<SequenceNumber> {
        self.frames.first().map(|(head, _)| head.sequence)
    }

    pub(crate) fn last(&self) -> Option<SequenceNumber> {
        self.frames.last().map(|(head, _)| head.last())
    }

    fn frame(&self, index: usize) -> Option<(FrameHead, &[u8])> {
        let (head, range) = self.frames.get(index)?;
        Some((*head, &self.bytes[range.start..range.end]))
    }

    /// Writes it as a file; its size.
    pub(crate) fn write(&self, disk: &Arc<dyn Disk>, directory: &Path) -> Result<u64> {
        let frames = self.frames.iter();
        let frames = frames.map(|(head, range)| (*head, &self.bytes[range.start..range.end]));
        change_file::write(disk, directory, frames)
    }
}

/// A file that counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) last: SequenceNumber,
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By their first sequence number.
    files: BTreeMap<SequenceNumber, Kept>,
    /// Oldest first; the last one is that of the active generation.
    buffers: VecDeque<Arc<Buffer>>,
}

/// See the head of the file.
#[derive(Debug)]
pub(crate) struct ChangeLog {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    bytes_max: u64,
    state: Mutex<State>,
    arrived: Condvar,
    waiting: AtomicU64,
}

/// Where the change with a number is.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here.
    Change(FrameHead, Vec<u8>),
    /// Perhaps in one of these files.
    Files(Vec<SequenceNumber>),
}

impl ChangeLog {
    /// With the files that count, for a database whose active generation is `generation`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        directory: &Path,
        bytes_max: u64,
        files: BTreeMap<SequenceNumber, Kept>,
        generation: u64,
    ) -> ChangeLog {
        let buffers = VecDeque::from([Arc::new(Buffer::of(generation))]);
        let state = Mutex::new(State { files, buffers });
        let (arrived, waiting) = (Condvar::default(), AtomicU64::new(0));
        let directory = directory.to_owned();
        let log = ChangeLog { disk, directory, bytes_max, state, arrived, waiting };
        log.trim();
        log
    }

    /// Appends a commit. Called with the commit lock held, before it becomes visible.
    pub(crate) fn append(&self, sequence: SequenceNumber, count: u32, parts: &[&[u8]]) {
        let mut state = self.state.lock();
        // Nobody else holds that of the active generation.
        if let Some(active) = state.buffers.back_mut().and_then(Arc::get_mut) {
            active.push(FrameKind::Batch, sequence, count, parts);
        }
    }

    /// Says that a number was given out for nothing. Called with the commit lock held.
    pub(crate) fn append_void(&self, sequence: SequenceNumber) {
        let mut state = self.state.lock();
        if let Some(active) = state.buffers.back_mut().and_then(Arc::get_mut) {
            active.push_void(sequence);
        }
    }

    /// Wakes those who wait for a commit: after it became visible.
    #[inline]
    pub(crate) fn tell(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let _ordered = self.state.lock();
            self.arrived.notify_all();
        }
    }

    /// A new generation takes the writes from now on; the one before is to be flushed.
    pub(crate) fn freeze(&self, next: u64) {
        self.state.lock().buffers.push_back(Arc::new(Buffer::of(next)));
    }

    /// A new generation takes the place of one without commits, which is never flushed.
    pub(crate) fn replace(&self, next: u64) {
        if let Some(active) = self.state.lock().buffers.back_mut().and_then(Arc::get_mut) {
            active.generation = next;
        }
    }

    /// Writes the buffer of a generation to a file: before the edit that says that its log is not needed any more. The last sequence number in it.
    pub(crate) fn write(&self, generation: u64) -> Result<Option<(SequenceNumber, Kept)>> {
        // Readers find it in the list meanwhile.
        let frozen = {
            let state = self.state.lock();
            state.buffers.iter().find(|buffer| buffer.generation == generation).map(Arc::clone)
        };
        let Some(frozen) = frozen.filter(|buffer| !buffer.is_empty()) else { return Ok(None) };
        let (Some(first), Some(last)) = (frozen.first(), frozen.last()) else { return Ok(None) };
        let bytes = frozen.write(&self.disk, &self.directory)?;
        Ok(Some((first, Kept { last, bytes })))
    }

    /// The edit is durable: the file takes the place of the buffer.
    pub(crate) fn written(&self, generation: u64, file: Option<(SequenceNumber, Kept)>) {
        {
            let mut state = self.state.lock();
            state.files.extend(file);
            state.buffers.retain(|buffer| buffer.generation != generation);
        }
        self.trim();
    }

    /// Writes a file with one ingest in it: before the edit that makes it so.
    pub(crate) fn write_ingest(
        &self,
        sequence: SequenceNumber,
        payload: &[u8],
    ) -> Result<(SequenceNumber, Kept)> {
        let mut buffer = Buffer::default();
        buffer.push(FrameKind::Ingest, sequence, 1, &[payload]);
        let bytes = buffer.write(&self.disk, &self.directory)?;
        Ok((sequence, Kept { last: sequence, bytes }))
    }

    /// The edit is durable: the file counts.
    pub(crate) fn ingested(&self, file: (SequenceNumber, Kept)) {
        self.state.lock().files.insert(file.0, file.1);
        self.trim();
    }

    /// Lets go of the oldest files above the bound.
    fn trim(&self) {
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            let mut bytes: u64 = state.files.values().map(|kept| kept.bytes).sum();
            while (bytes > self.bytes_max || state.files.len() > FILES_MAX)
                && let Some((first, kept)) = state.files.pop_first()
            {
                bytes -= kept.bytes;
                gone.push(name::changes(&self.directory, first));
            }
        }
        // What stays behind is passed over: reading begins with the number that is asked for.
        remove_all(&*self.disk, &gone);
    }

    /// Wakes those who wait: the database is closed.
    pub(crate) fn close(&self) {
        let _ordered = self.state.lock();
        self.arrived.notify_all();
    }

    /// Bytes of the files that are kept.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.state.lock().files.values().map(|kept| kept.bytes).sum()
    }

    /// Looks for the change that holds the number.
    pub(crate) fn find(&self, wanted: SequenceNumber) -> Found {
        let state = self.state.lock();
        for buffer in &state.buffers {
            let at = buffer.frames.partition_point(|(head, _)| head.last() < wanted);
            if let Some((head, payload)) = buffer.frame(at)
                && head.sequence <= wanted
            {
                return Found::Change(head, payload.to_vec());
            }
        }
        let before = state.files.range(..=wanted).rev();
        let holding = before.filter(|(_, kept)| kept.last >= wanted);
        Found::Files(holding.map(|(first, _)| *first).collect())
    }

    /// The first number after `wanted` of which there is a change, as far as is known without reading files.
    pub(crate) fn first_after(&self, wanted: SequenceNumber) -> Option<SequenceNumber> {
        let state = self.state.lock();
        let in_memory = state.buffers.iter().filter_map(|buffer| {
            let at = buffer.frames.partition_point(|(head, _)| head.sequence <= wanted);
            buffer.frame(at).map(|(head, _)| head.sequence)
        });
        let in_files = state.files.range(wanted + 1..).next().map(|(first, _)| *first);
        in_memory.chain(in_files).min()
    }

    /// Waits until somebody tells of a commit, while `is_idle` says that there is none.
    pub(crate) fn wait(&self, timeout: Duration, is_idle: impl Fn() -> bool) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        {
            let mut state = self.state.lock();
            if is_idle() {
                self.arrived.wait_for(&mut state, timeout);
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The files of a directory that count: those that begin with a number up to `counted`. Each is looked at; damaged ones do not count.
///
/// # Errors
/// As reading their ends.
pub(crate) fn kept_files(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    firsts: &[SequenceNumber],
    counted: SequenceNumber,
) -> Result<BTreeMap<SequenceNumber, Kept>> {
    let mut files = BTreeMap::new();
    for &first in firsts.iter().filter(|first| **first <= counted) {
        match change_file::ChangeReader::open(disk, directory, first) {
            Ok(reader) => {
                files.insert(first, Kept { last: reader.last(), bytes: reader.bytes() });
            }
            // The database is none the worse for it, and who asks for what is in it is told.
            Err(Error::Corruption { .. } | Error::Io { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(files)
}

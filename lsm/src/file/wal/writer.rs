//! The writing side: from the ring to segment files, durably when asked, and the life of those files.

use super::log::{FRAME_BYTES, Lsn};
use super::segment::{Segment, Slot, Span};
use super::{Wal, WalOptions};
use crate::base::error::{Error, Result};
use crate::base::limits::IO_ALIGN;
use crate::base::planted::{Bug, planted};
use crate::base::sync::MutexGuard;
use crate::base::sync::atomic::Ordering;
use crate::file::name::{self, FileKind};
use crate::format::log::LOG_HEADER_BYTES;
use crate::io::{AlignedBuffer, Disk};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest write, and what a sync may have to wait for. The same runs as for `RING_BYTES_MAX`: 21 to 32 ms, and with 256 KiB
/// 26 to 88.
const PIECE_BYTES: u64 = 1 << 20;
/// Zeros that are kept written ahead of the syncs.
const AHEAD_BYTES: u64 = 4 << 20;
/// Zeros written in one hold of the writer's lock: about half a millisecond.
const FILL_BYTES: u64 = 1 << 20;

/// The state of whoever writes: one at a time, under its lock.
#[derive(Debug)]
pub(super) struct Writer {
    /// Segments that have a file, in the order of the log; the last is being written.
    segments: VecDeque<Segment>,
    /// Free files.
    spares: Vec<Slot>,
    next_slot: u64,
    /// A file was made and its name is not synced.
    directory_dirty: bool,
    /// Segments below may be reused, once they are drained.
    release_before: Lsn,
    buffer: AlignedBuffer,
}

impl Writer {
    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        options: &WalOptions,
        reusable: &[u64],
    ) -> Result<Writer> {
        let names = disk.list(directory).map_err(|error| Error::io("list", directory, error))?;
        let slots = names.iter().filter_map(|text| match name::parse(text) {
            Some(FileKind::Wal(slot)) => Some(slot),
            _ => None,
        });
        let next_slot = slots.max().map_or(1, |slot| slot + 1);
        let (kept, surplus) = reusable.split_at(reusable.len().min(options.spare_slots));
        let spares = kept
            .iter()
            .map(|&slot| Slot::reuse(disk, directory, slot))
            .collect::<Result<Vec<Slot>>>()?;
        unlink(disk, surplus.iter().map(|&slot| name::wal(directory, slot)));
        Ok(Writer {
            segments: VecDeque::new(),
            spares,
            next_slot,
            directory_dirty: false,
            release_before: 0,
            buffer: AlignedBuffer::with_capacity(PIECE_BYTES as usize),
        })
    }

    fn has_unsynced(&self) -> bool {
        self.segments.iter().any(|segment| segment.unsynced)
    }
}

/// Removes surplus segment files. One that stays behind costs its space only: the next open finds it and offers it for
/// reuse, so an error needs no answer.
fn unlink(disk: &dyn Disk, paths: impl Iterator<Item = PathBuf>) {
    for path in paths {
        let _stays_behind = disk.remove(&path);
    }
}

impl Wal {
    /// Writes what has gathered in the ring to the segments, in whole blocks, and prepares space ahead of the syncs. From
    /// any thread; meant for a background thread whenever [`wants_drain`](Wal::wants_drain) says so.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: nothing is lost, call again later; the error that poisoned the log.
    pub fn drain(&self) -> Result<()> {
        let target = block_floor(self.appended_lsn());
        while self.drained.0.load(Ordering::Acquire) < target {
            self.drain_piece(target)?;
        }
        self.check()?;
        self.reclaim(0);
        if self.sync_seen.load(Ordering::Relaxed) {
            self.chores.store(false, Ordering::Relaxed);
            // Space ahead is a matter of speed: a full disk is met again, and reported, by who needs the space.
            self.prepare()
                .or_else(|error| if error.is_retry_safe() { Ok(()) } else { Err(error) })?;
        }
        Ok(())
    }

    /// Recycles the segments that lie wholly below `before`. Call it when the manifest says durably that the log starts at
    /// `before`. From any thread.
    pub fn release(&self, before: Lsn) {
        self.reclaim(before);
    }

    /// Writes one piece, unless `drained` has reached `target` already.
    pub(super) fn drain_piece(&self, target: Lsn) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check()?;
        let drained = self.drained.0.load(Ordering::Relaxed);
        if drained < target {
            let available = block_floor(self.appended_lsn());
            let result = self.write_out(&mut writer, available.min(drained + PIECE_BYTES), false);
            result.map_err(|error| self.judge(error))?;
        }
        // Fair, so that a drain of many pieces lets syncs and the appender in between.
        MutexGuard::unlock_fair(writer);
        Ok(())
    }

    /// Writes everything up to `upto`, the last block padded with zeros, so that it survives the process without the ring.
    pub(super) fn write_through(&self, upto: Lsn) -> Result<()> {
        let mut writer = self.writer.lock();
        self.check()?;
        self.write_out(&mut writer, upto, false).map_err(|error| self.judge(error))
    }

    /// Makes everything that is appended now durable. One caller at a time (the leader of a sync group).
    pub(super) fn make_durable(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        self.check()?;
        let target = self.appended_lsn();
        if self.durable.load(Ordering::Relaxed) >= target {
            return Ok(());
        }
        if planted(Bug::AcknowledgedBeforeWrite) {
            self.durable.store(target, Ordering::Release);
            return Ok(());
        }
        self.write_out(writer, target, true).map_err(|error| self.judge(error))?;
        for segment in writer.segments.iter_mut().filter(|segment| segment.unsynced) {
            let file = &segment.slot.file;
            if planted(Bug::WalSyncSkipped) {
                continue;
            }
            let mut synced = file.sync_data();
            if synced.is_err() && planted(Bug::FailedSyncRetried) {
                synced = file.sync_data();
            }
            synced.map_err(|error| self.poison_sync(file.path(), error))?;
            segment.unsynced = false;
        }
        if writer.directory_dirty && !planted(Bug::WalDirectorySyncSkipped) {
            let result = self.disk.sync_directory(&self.directory);
            result.map_err(|error| self.poison_sync(&self.directory, error))?;
            writer.directory_dirty = false;
        }
        self.durable.store(target, Ordering::Release);
        // SAFETY: we hold the writer's lock.
        unsafe { self.ring.promise(target) };
        self.syncs.fetch_add(1, Ordering::Relaxed);
        if self.wants_space_ahead(writer) {
            self.chores.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes `[drained, upto)` to the segments and moves `drained` up to the last whole block. With `durable` a single
    /// piece is written durably if nothing else waits for a sync; whatever is not, leaves its segment marked unsynced.
    ///
    /// The block that `upto` cuts is padded with zeros here and written again next time, with the same bytes in front: a
    /// torn rewrite harms nothing that was acknowledged.
    fn write_out(&self, writer: &mut Writer, upto: Lsn, durable: bool) -> Result<()> {
        loop {
            let from = self.drained.0.load(Ordering::Relaxed);
            if from >= upto {
                return Ok(());
            }
            let span = self.layout.find(from).expect("what is not drained is not released");
            self.give_file(writer, span)?;
            let end = upto.min(span.end).min(from + PIECE_BYTES);
            let length = (end - from) as usize;
            writer.buffer.set_length(length.next_multiple_of(IO_ALIGN));
            // SAFETY: `upto <= appended`, and only we, under the writer's lock, move `drained`.
            unsafe { self.ring.copy_out(from, &mut writer.buffer[..length]) };
            writer.buffer[length..].fill(0);
            let at_once = durable && end == upto && !writer.has_unsynced();
            let segment = writer.segments.back_mut().expect("give_file left one");
            let offset = segment.offset(from);
            segment.unsynced |= !at_once;
            if planted(Bug::DrainedBeforeWritten) {
                self.drained.0.store(block_floor(end), Ordering::Release);
            }
            let durably = at_once && !planted(Bug::WalWriteNotDurable);
            segment.slot.write(offset, &writer.buffer, durably)?;
            self.drained.0.store(block_floor(end), Ordering::Release);
            if end == upto {
                return Ok(());
            }
        }
    }

    /// Makes sure that `span` has a file: a free one, or a new one.
    fn give_file(&self, writer: &mut Writer, span: Span) -> Result<()> {
        if writer.segments.back().is_some_and(|segment| segment.ordinal == span.ordinal) {
            return Ok(());
        }
        let slot = match writer.spares.pop() {
            Some(slot) => slot,
            None => {
                writer.directory_dirty = true;
                Slot::create(&*self.disk, &self.directory, &mut writer.next_slot)?
            }
        };
        let (epoch, capacity) = (self.start.epoch, self.options.segment_bytes);
        match Segment::begin(span, slot, epoch, capacity, &mut writer.buffer) {
            Ok(segment) => {
                writer.segments.push_back(segment);
                Ok(())
            }
            Err((slot, error)) => {
                writer.spares.push(slot);
                Err(error)
            }
        }
    }

    /// Frees the segments below `before` and all earlier such points, as far as they are drained.
    fn reclaim(&self, before: Lsn) {
        let mut surplus = Vec::new();
        {
            let mut writer = self.writer.lock();
            let writer = &mut *writer;
            writer.release_before = writer.release_before.max(before);
            let drained = self.drained.0.load(Ordering::Relaxed);
            let first = self.layout.release(writer.release_before.min(drained));
            while writer.segments.front().is_some_and(|segment| segment.ordinal < first) {
                writer.spares.extend(writer.segments.pop_front().map(|segment| segment.slot));
            }
            while writer.spares.len() > self.options.spare_slots {
                surplus.extend(writer.spares.pop());
            }
        }
        unlink(&*self.disk, surplus.iter().map(|slot| slot.file.path().to_owned()));
    }

    /// Removes the files kept for reuse: a database at rest takes no space for writes to come.
    pub(super) fn remove_spares(&self) {
        let spares = std::mem::take(&mut self.writer.lock().spares);
        unlink(&*self.disk, spares.iter().map(|slot| slot.file.path().to_owned()));
    }

    /// Size that the newest segment's file has when `ahead` bytes behind the written ones are zeros.
    fn size_ahead(&self, segment: &Segment, ahead: u64) -> u64 {
        let used = self.drained.0.load(Ordering::Relaxed).saturating_sub(segment.base);
        LOG_HEADER_BYTES as u64 + self.options.segment_bytes.min(used + ahead)
    }

    fn wants_spare(&self, writer: &Writer) -> bool {
        let half = self.options.segment_bytes / 2;
        let drained = self.drained.0.load(Ordering::Relaxed);
        writer.spares.is_empty()
            && writer.segments.back().is_some_and(|segment| drained - segment.base > half)
    }

    fn wants_space_ahead(&self, writer: &Writer) -> bool {
        // Half of what is kept ahead may go before it is worth a chore.
        let low = |segment: &Segment| segment.slot.size < self.size_ahead(segment, AHEAD_BYTES / 2);
        writer.segments.back().is_some_and(low) || self.wants_spare(writer)
    }

    /// Writes zeros ahead of the syncs in the newest segment, and prepares a spare when that one is half full.
    fn prepare(&self) -> Result<()> {
        let mut zeros = AlignedBuffer::with_capacity(FILL_BYTES as usize);
        let steps_max = AHEAD_BYTES / FILL_BYTES;
        for _ in 0..steps_max {
            let mut writer = self.writer.lock();
            self.check()?;
            let Some(segment) = writer.segments.back_mut() else { break };
            // The zeros lie beyond the file's end, where no log byte stands, and we hold the writer's lock.
            let size = self.size_ahead(segment, AHEAD_BYTES);
            segment.unsynced |= segment.slot.size < size;
            let done = segment.slot.fill(size, &mut zeros).map_err(|error| self.judge(error))?;
            MutexGuard::unlock_fair(writer);
            if done {
                break;
            }
        }
        let slot = {
            let mut writer = self.writer.lock();
            if !self.wants_spare(&writer) {
                return Ok(());
            }
            writer.directory_dirty = true;
            let slot = Slot::create(&*self.disk, &self.directory, &mut writer.next_slot);
            slot.map_err(|error| self.judge(error))?
        };
        let slot = self.fill_spare(slot, &mut zeros)?;
        self.writer.lock().spares.push(slot);
        Ok(())
    }

    /// Fills the beginning of a spare and syncs it; nobody else knows it yet. A disk that fills up meanwhile leaves a shorter
    /// spare, which is as good as a new file.
    fn fill_spare(&self, mut slot: Slot, zeros: &mut AlignedBuffer) -> Result<Slot> {
        let size = LOG_HEADER_BYTES as u64 + self.options.segment_bytes.min(AHEAD_BYTES);
        loop {
            match slot.fill(size, zeros) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) if error.is_retry_safe() => break,
                Err(error) => return Err(self.poison(error)),
            }
        }
        let synced = slot.file.sync_data();
        synced.map_err(|error| self.poison_sync(slot.file.path(), error))?;
        Ok(slot)
    }

    /// A failed sync is never taken for a full disk that passes.
    fn poison_sync(&self, path: &Path, error: io::Error) -> Error {
        let source = Arc::new(error);
        self.poison(Error::Io { operation: "sync", path: path.to_owned(), source })
    }
}

const _: () = assert!(PIECE_BYTES.is_multiple_of(FRAME_BYTES as u64));

fn block_floor(lsn: Lsn) -> Lsn {
    lsn - lsn % IO_ALIGN as u64
}

//! The appending side: cuts records into fragments and copies them into the ring.

use super::log::{
    FRAGMENT_HEADER_BYTES, FragmentKind, Lsn, RECORD_BYTES_MAX, SYNC_MARK_BYTES,
    encode_record_header, frame_left, framed_bytes_max, seal_fragment,
};
use super::{Wal, WalOptions};
use crate::base::error::{Error, Result};
use crate::base::limits::IO_ALIGN;
use crate::base::sync::atomic::Ordering;

/// The state of the one appender.
#[derive(Debug)]
pub(super) struct Appender {
    /// Where the next byte goes.
    lsn: Lsn,
    /// The ring has room up to here; at least, for `drained` moves on.
    limit: Lsn,
    /// Where the newest span ends.
    segment_end: Lsn,
    /// The durable LSN of the last sync mark.
    marked: Lsn,
}

/// The parts of a record as one run of bytes.
struct Gather<'a> {
    part: &'a [u8],
    rest: std::slice::Iter<'a, &'a [u8]>,
}

impl Gather<'_> {
    #[inline]
    fn copy_to(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            let count = self.part.len().min(out.len());
            let (now, later) = out.split_at_mut(count);
            now.copy_from_slice(&self.part[..count]);
            self.part = &self.part[count..];
            out = later;
            if self.part.is_empty() {
                match self.rest.next() {
                    Some(part) => self.part = part,
                    None => break,
                }
            }
        }
    }
}

impl Appender {
    pub(super) fn new(lsn: Lsn, options: &WalOptions) -> Appender {
        Appender {
            lsn,
            limit: lsn + options.ring_bytes,
            segment_end: lsn + options.segment_bytes,
            marked: lsn,
        }
    }
}

impl Wal {
    /// Appends a record of `count` operations whose first has sequence number `sequence`; `parts` together are the batch.
    /// Returns the LSN of its end, for [`sync`](Wal::sync). The caller holds the commit lock.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`]; [`Error::NoSpace`]: the record will not be seen by anybody; the error that poisoned the log.
    ///
    /// # Durability
    /// The record survives the death of the process, not yet the loss of power.
    pub fn append(&self, sequence: u64, count: u32, parts: &[&[u8]]) -> Result<Lsn> {
        let head = encode_record_header(sequence, count);
        let length = head.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        if length > RECORD_BYTES_MAX {
            let (length, max) = (length - head.len(), RECORD_BYTES_MAX - head.len());
            return Err(Error::BatchTooLarge { length, max });
        }
        let mut appender = self.appender.lock();
        let appender = &mut *appender;
        self.check()?;
        let room = framed_bytes_max(length) as u64;
        let fits = room <= self.ring.capacity() / 2;
        if fits {
            self.make_room(appender, room)?;
        }
        self.mark(appender, fits)?;
        let gather = Gather { part: &head, rest: parts.iter() };
        let result = self.put_record(appender, length, gather, fits);
        self.publish(appender);
        result?;
        if !self.ring.is_shared()
            && let Err(error) = self.write_through(appender.lsn)
        {
            if error.is_retry_safe() {
                self.put_fragment(appender, FragmentKind::Cancel, 0, |_| {});
                self.publish(appender);
            }
            return Err(error);
        }
        Ok(appender.lsn)
    }

    /// Ends the segment. Records after this begin at the returned LSN, in a new segment. The caller holds the commit lock.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if the ring is full and cannot be drained; the error that poisoned the log.
    pub fn rotate(&self) -> Result<Lsn> {
        let mut appender = self.appender.lock();
        let appender = &mut *appender;
        self.check()?;
        if appender.lsn == self.layout.newest_base() {
            return Ok(appender.lsn);
        }
        self.make_room(appender, super::FRAME_BYTES as u64)?;
        let left = frame_left(appender.lsn);
        if (FRAGMENT_HEADER_BYTES..super::FRAME_BYTES).contains(&left) {
            self.put_fragment(appender, FragmentKind::Seal, 0, |_| {});
        }
        self.pad_frame(appender);
        appender.segment_end = self.layout.open(appender.lsn);
        self.publish(appender);
        Ok(appender.lsn)
    }

    /// Writes a sync mark if there is something new to promise and the frame has room; else the next append does.
    fn mark(&self, appender: &mut Appender, has_room: bool) -> Result<()> {
        const BYTES: usize = FRAGMENT_HEADER_BYTES + SYNC_MARK_BYTES;
        let durable = self.durable.load(Ordering::Relaxed);
        if durable <= appender.marked {
            return Ok(());
        }
        if !has_room {
            self.make_room(appender, (BYTES + FRAGMENT_HEADER_BYTES) as u64)?;
        }
        if frame_left(appender.lsn) < FRAGMENT_HEADER_BYTES {
            self.pad_frame(appender);
        }
        if frame_left(appender.lsn) >= BYTES {
            let promise = durable.to_le_bytes();
            self.put_fragment(appender, FragmentKind::SyncMark, SYNC_MARK_BYTES, |payload| {
                payload.copy_from_slice(&promise);
            });
            appender.marked = durable;
        }
        Ok(())
    }

    /// Copies a record into the ring. With `fits` there is room for all of it; else room is made for each fragment, and an
    /// error leaves an unfinished record behind.
    #[inline]
    fn put_record(
        &self,
        appender: &mut Appender,
        length: usize,
        mut gather: Gather<'_>,
        fits: bool,
    ) -> Result<()> {
        let mut left = length;
        loop {
            if !fits {
                // Twice a frame's tail and a header: for this fragment and for a cancel after it.
                let room = left.min(super::FRAME_BYTES) + 4 * FRAGMENT_HEADER_BYTES;
                self.make_room(appender, room as u64)?;
            }
            if frame_left(appender.lsn) < FRAGMENT_HEADER_BYTES {
                self.pad_frame(appender);
            }
            let count = left.min(frame_left(appender.lsn) - FRAGMENT_HEADER_BYTES);
            let kind = match (left == length, left == count) {
                (true, true) => FragmentKind::Full,
                (true, false) => FragmentKind::First,
                (false, false) => FragmentKind::Middle,
                (false, true) => FragmentKind::Last,
            };
            self.put_fragment(appender, kind, count, |payload| gather.copy_to(payload));
            left -= count;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Puts a fragment at the appender's position. There is room in the ring and in the frame.
    #[inline]
    fn put_fragment(
        &self,
        appender: &mut Appender,
        kind: FragmentKind,
        length: usize,
        fill: impl FnOnce(&mut [u8]),
    ) {
        if frame_left(appender.lsn) < FRAGMENT_HEADER_BYTES {
            self.pad_frame(appender);
        }
        let total = FRAGMENT_HEADER_BYTES + length;
        self.enter_segment(appender);
        assert!(appender.lsn + total as u64 <= appender.limit, "room was made");
        // SAFETY: we hold the appender's lock and stay below `limit`, which is at most `drained + capacity`.
        // Test: random_worlds_survive_power_cuts.
        let bytes = unsafe { self.ring.bytes_mut(appender.lsn, total) };
        fill(&mut bytes[FRAGMENT_HEADER_BYTES..]);
        seal_fragment(self.start.epoch, appender.lsn, kind, bytes);
        appender.lsn += total as u64;
    }

    /// Fills the rest of the frame with zeros; nothing if a frame begins here.
    #[cold]
    fn pad_frame(&self, appender: &mut Appender) {
        let left = frame_left(appender.lsn);
        if left < super::FRAME_BYTES {
            assert!(appender.lsn + left as u64 <= appender.limit, "room was made");
            // SAFETY: as in `put_fragment`.
            unsafe { self.ring.bytes_mut(appender.lsn, left) }.fill(0);
            appender.lsn += left as u64;
        }
    }

    /// Opens the next segment where the newest is full.
    #[inline]
    fn enter_segment(&self, appender: &mut Appender) {
        if appender.lsn == appender.segment_end {
            appender.segment_end = self.layout.open(appender.lsn);
        }
    }

    /// Lets everybody see what was copied.
    #[inline]
    fn publish(&self, appender: &Appender) {
        self.appended.0.store(appender.lsn, Ordering::Release);
    }

    /// Returns with room for `bytes`, at most half the ring, after the appender's position; drains if there is none.
    #[inline]
    fn make_room(&self, appender: &mut Appender, bytes: u64) -> Result<()> {
        if appender.lsn + bytes <= appender.limit {
            return Ok(());
        }
        self.make_room_slowly(appender, bytes)
    }

    #[cold]
    fn make_room_slowly(&self, appender: &mut Appender, bytes: u64) -> Result<()> {
        debug_assert!(bytes + IO_ALIGN as u64 <= self.ring.capacity());
        self.publish(appender);
        let needed = appender.lsn + bytes;
        loop {
            appender.limit = self.drained.0.load(Ordering::Acquire) + self.ring.capacity();
            if needed <= appender.limit {
                return Ok(());
            }
            self.drain_piece(needed - self.ring.capacity())?;
        }
    }
}

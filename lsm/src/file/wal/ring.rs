//! The resident ring: the newest bytes of the log, in memory that survives the death of the process.
//!
//! The byte of LSN `n` stands at `n % capacity`. The appender writes `[appended, drained + capacity)`, everybody else only
//! reads `[drained, appended)`; the two ranges never meet, and each side learns of the other's progress through the
//! Acquire/Release pairs on `appended` and `drained`.
//!
//! Where the file system has no shared maps the ring is plain memory; then it protects nothing, and every append has to
//! reach its segment before it returns.

use super::log::{
    FRAME_BYTES, LOG_HEADER_BYTES, Lsn, PROMISE_BYTES, PROMISE_OFFSET, RingHeader, encode_promise,
};
use crate::base::sync::RangeAccess;
use crate::file::name;
use crate::io::{AlignedBuffer, Disk, SharedMap};
use std::path::Path;

#[derive(Debug)]
enum Memory {
    /// A mapped file: header block, then the ring.
    Shared(Box<dyn SharedMap>),
    /// The ring alone; held for its pointer.
    #[expect(dead_code, reason = "keeps the memory alive")]
    Plain(AlignedBuffer),
}

#[derive(Debug)]
pub(super) struct Ring {
    memory: Memory,
    data: *mut u8,
    capacity: u64,
    epoch: u64,
    access: RangeAccess,
    promise_access: RangeAccess,
}

// SAFETY: the memory lives as long as the ring and does not move; who may touch which bytes is said above and kept by the
// callers of the unsafe methods. Test: every_thread_finds_its_records_after_recovery.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    /// Maps the ring file, or takes plain memory if that is not possible for any reason.
    pub(super) fn new(disk: &dyn Disk, directory: &Path, epoch: u64, capacity: usize) -> Ring {
        assert!(capacity.is_multiple_of(FRAME_BYTES) && capacity > 0, "whole frames");
        let length = LOG_HEADER_BYTES + capacity;
        let access = RangeAccess::default();
        match disk.map_shared(&directory.join(name::RING), length) {
            Ok(map) if map.length() >= length => {
                let header = RingHeader { epoch, capacity: capacity as u64 }.encode();
                // SAFETY: the map has at least `length` bytes, and nobody else uses it yet.
                let data = unsafe {
                    map.pointer().copy_from_nonoverlapping(header.as_ptr(), header.len());
                    map.pointer().add(LOG_HEADER_BYTES)
                };
                Ring {
                    memory: Memory::Shared(map),
                    data,
                    capacity: capacity as u64,
                    epoch,
                    access,
                    promise_access: RangeAccess::default(),
                }
            }
            _ => {
                let mut buffer = AlignedBuffer::zeroed(capacity);
                let data = buffer.as_mut_ptr();
                Ring {
                    memory: Memory::Plain(buffer),
                    data,
                    capacity: capacity as u64,
                    epoch,
                    access,
                    promise_access: RangeAccess::default(),
                }
            }
        }
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// True where stores survive the death of the process.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.memory, Memory::Shared(_))
    }

    /// The bytes of `[lsn, lsn + length)`, which lie in one frame.
    ///
    /// # Safety
    /// The caller is the appender, the range is in `[appended, drained + capacity)`, and no other slice of it is alive.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "disjoint ranges, see the opening of this file")]
    pub(super) unsafe fn bytes_mut(&self, lsn: Lsn, length: usize) -> &mut [u8] {
        let offset = (lsn % self.capacity) as usize;
        debug_assert!(offset + length <= self.capacity as usize, "a frame never wraps");
        self.access.write(offset as u64, length);
        // SAFETY: inside the ring, as asserted; exclusive by the contract of this method.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(offset), length) }
    }

    /// Copies `[lsn, lsn + out.len())`.
    ///
    /// # Safety
    /// The range is in `[drained, appended)` and stays there: the caller holds the writer's lock.
    pub(super) unsafe fn copy_out(&self, lsn: Lsn, out: &mut [u8]) {
        let offset = (lsn % self.capacity) as usize;
        let first = out.len().min(self.capacity as usize - offset);
        let (head, tail) = out.split_at_mut(first);
        assert!(tail.len() <= offset, "at most one lap");
        self.access.read(offset as u64, head.len());
        self.access.read(0, tail.len());
        // SAFETY: both pieces are inside the ring; published bytes are not written before `drained` passes them.
        unsafe {
            head.as_mut_ptr().copy_from_nonoverlapping(self.data.add(offset), head.len());
            tail.as_mut_ptr().copy_from_nonoverlapping(self.data, tail.len());
        }
    }

    /// Notes in the ring's header block that everything below `durable` is on stable storage.
    ///
    /// # Safety
    /// The caller holds the writer's lock.
    pub(super) unsafe fn promise(&self, durable: Lsn) {
        if let Memory::Shared(map) = &self.memory {
            let bytes = encode_promise(self.epoch, durable);
            self.promise_access.write(0, PROMISE_BYTES);
            const { assert!(PROMISE_OFFSET + PROMISE_BYTES <= LOG_HEADER_BYTES) };
            // SAFETY: inside the header block, which nobody else touches after `new`.
            unsafe {
                let place = map.pointer().add(PROMISE_OFFSET);
                place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            }
        }
    }
}

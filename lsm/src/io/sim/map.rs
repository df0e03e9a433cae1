//! Shared maps of the simulated disk: plain memory that the engine stores into and the disk looks at.
//!
//! The disk cannot see the stores, so it reads the memory when it needs the bytes: in 8-byte words, atomically and
//! relaxed, as another process would see them.

use crate::io::{AlignedBuffer, SharedMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The bytes of a map; freed with the last map and the file.
pub(super) struct MapMemory {
    pointer: *mut u8,
    length: usize,
    _owner: AlignedBuffer,
}

// SAFETY: the memory is only reached through atomics here; what the engine does through its raw pointer is its own promise.
unsafe impl Send for MapMemory {}
// SAFETY: as above.
unsafe impl Sync for MapMemory {}

impl MapMemory {
    pub(super) fn new(bytes: &[u8]) -> MapMemory {
        let mut owner = AlignedBuffer::copy_of(bytes);
        MapMemory { pointer: owner.as_mut_ptr(), length: bytes.len(), _owner: owner }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Copies bytes out.
    pub(super) fn load(&self, offset: usize, target: &mut [u8]) {
        assert!(offset + target.len() <= self.length);
        let mut done = 0;
        while done < target.len() {
            let at = offset + done;
            if at.is_multiple_of(8) && target.len() - done >= 8 {
                // SAFETY: inside the memory (asserted above), aligned: the start is 4096-aligned and `at` a multiple of 8.
                let word = unsafe { AtomicU64::from_ptr(self.pointer.add(at).cast()) };
                target[done..done + 8].copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                done += 8;
            } else {
                // SAFETY: inside the memory (asserted above).
                let byte = unsafe { AtomicU8::from_ptr(self.pointer.add(at)) };
                target[done] = byte.load(Ordering::Relaxed);
                done += 1;
            }
        }
    }

    /// Copies bytes in.
    pub(super) fn store(&self, offset: usize, source: &[u8]) {
        assert!(offset + source.len() <= self.length);
        for (index, byte) in source.iter().enumerate() {
            // SAFETY: inside the memory (asserted above).
            let target = unsafe { AtomicU8::from_ptr(self.pointer.add(offset + index)) };
            target.store(*byte, Ordering::Relaxed);
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.load(0, &mut bytes);
        bytes
    }
}

/// A handle of a map.
pub(super) struct SimMap {
    memory: Arc<MapMemory>,
    length: usize,
}

impl SimMap {
    pub(super) fn new(memory: Arc<MapMemory>, length: usize) -> SimMap {
        SimMap { memory, length }
    }
}

impl SharedMap for SimMap {
    fn pointer(&self) -> *mut u8 {
        self.memory.pointer
    }

    fn length(&self) -> usize {
        self.length
    }
}

impl fmt::Debug for SimMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimMap({} bytes)", self.length)
    }
}

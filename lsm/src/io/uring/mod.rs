//! The `uring` body: real files; queued requests go through an io_uring.
//!
//! A single blocking call is the plain system call of the `posix` body, which beats the ring at depth 1; so is a queued request
//! that is alone. Buffered writes never go through the ring: ext4 punts each to a kernel worker, 68 us instead of 1.
//!
//! Promises beyond those of the trait:
//! 1. A ring belongs to the thread that made it (SINGLE_ISSUER and DEFER_TASKRUN bind it) and is used again by that
//!    thread's next queue; it never crosses threads.
//! 2. Requests in flight never exceed the ring's entries, so the completion queue, twice as long, cannot overflow.
//! 3. The kernel never writes into freed memory: a request in flight is owned by its ring's slab. If the ring itself fails, the
//!    buffers in flight are leaked, and their requests complete with the error.
//! 4. If a ring cannot be made later (memory lock limit), that queue is a `posix` one.
//!
//! Left out: SQPOLL (burns a core), linked write and fsync (a short write breaks the chain), registered files and buffers (others
//! report gains of 0 to 2 % for most loads; not measured here, and they would need the plain path as well).

pub mod contract;
mod queue;
mod ring;
#[cfg(test)]
mod tests;

use super::posix::PosixDisk;
use super::{Disk, File, Lock, OpenMode, Queue, SharedMap};
use queue::UringQueue;
use ring::{Kernel, Ring};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Real files, with an io_uring for what is queued.
#[derive(Debug)]
pub struct UringDisk {
    posix: PosixDisk,
}

impl UringDisk {
    /// Makes a ring and reads through it, so that a refusal shows now.
    ///
    /// # Errors
    /// EPERM (seccomp, `kernel.io_uring_disabled`), ENOSYS, ENOMEM (memory lock limit), EINVAL (kernel too old), as they came.
    pub fn probe() -> io::Result<UringDisk> {
        let mut ring = Ring::take(1)?;
        ring.probe()?;
        ring.give_back();
        Ok(UringDisk { posix: PosixDisk::new() })
    }
}

impl Disk for UringDisk {
    fn name(&self) -> &'static str {
        "uring"
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.posix.create_directory(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.posix.list(path)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.posix.open(path, mode)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.posix.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.posix.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.posix.hard_link(from, to)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.posix.sync_directory(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.posix.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.posix.lock_shared(path)
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        self.posix.map_shared(path, length)
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        match Ring::take(depth) {
            Ok(ring) => Box::new(UringQueue::new(ring, depth)),
            Err(_refused) => self.posix.queue(depth),
        }
    }

    fn ring(&self, depth: usize) -> Option<Box<dyn Queue>> {
        Ring::take(depth).ok().map(|ring| Box::new(UringQueue::new(ring, depth)) as Box<dyn Queue>)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.posix.free_bytes(path)
    }
}

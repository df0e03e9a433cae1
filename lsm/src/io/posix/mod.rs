//! The `posix` body: real files by plain system calls; queued requests by a few threads.
//!
//! It works wherever Linux does, and is what runs when io_uring is refused. Its files are those of the `uring` body too.
//!
//! Promises beyond those of the trait:
//! 1. Every descriptor is close-on-exec.
//! 2. The lock is a `flock` of a descriptor of its own, so that a second handle in the same process is refused too, and the
//!    death of the process frees it.
//! 3. No thread outlives the disk and its queues.

mod file;
mod map;
mod pool;
mod queue;
#[cfg(test)]
mod tests;

use super::{Disk, File, Lock, OpenMode, Queue, SharedMap, parent};
use file::PosixFile;
use map::PosixMap;
use pool::Pool;
use queue::PosixQueue;
use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Calls `operation` again for as long as a signal interrupts it.
fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Real files by plain system calls.
#[derive(Debug)]
pub struct PosixDisk {
    pool: Arc<Pool>,
}

impl PosixDisk {
    /// Starts nothing: threads come with the first queue that has two requests.
    pub fn new() -> PosixDisk {
        PosixDisk { pool: Arc::new(Pool::new()) }
    }
}

impl Default for PosixDisk {
    fn default() -> PosixDisk {
        PosixDisk::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the door")]
impl Disk for PosixDisk {
    fn name(&self) -> &'static str {
        "posix"
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for directory in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
            match retry(|| std::fs::create_dir(directory)) {
                Ok(()) => {
                    self.sync_directory(&parent(directory))?;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !directory.is_dir() {
                        return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
                    }
                    if missing.is_empty() {
                        // It may have been made by a process that died before its own sync. Where we may not even open the
                        // parent, whoever made the directory answers for it.
                        let _best_effort = self.sync_directory(&parent(directory));
                    }
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(directory),
                Err(error) => return Err(error),
            }
        }
        for directory in missing.into_iter().rev() {
            match retry(|| std::fs::create_dir(directory)) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => self.sync_directory(&parent(directory))?,
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in retry(|| std::fs::read_dir(path))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(PosixFile::open(path, mode)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        retry(|| std::fs::remove_file(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        retry(|| std::fs::rename(from, to))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A link to a symbolic link would be one, too: it is the file that is wanted.
        retry(|| std::fs::hard_link(std::fs::canonicalize(from)?, to))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory = retry(|| std::fs::File::open(path))?;
        match directory.sync_all() {
            // A file system that has nothing to sync for a directory says so with EINVAL.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result,
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        PosixLock::take(file::open_for_update(path)?, libc::LOCK_EX)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        PosixLock::take(retry(|| std::fs::File::open(path))?, libc::LOCK_SH)
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        Ok(Box::new(PosixMap::new(path, length)?))
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        Box::new(PosixQueue::new(self.pool.clone(), depth))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        retry(|| {
            // SAFETY: all zeros is a valid statvfs.
            let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
            // SAFETY: a NUL-terminated path and a place for the answer.
            match unsafe { libc::statvfs(path.as_ptr(), &mut stat) } {
                0 => Ok(stat.f_bavail.saturating_mul(stat.f_frsize)),
                _ => Err(io::Error::last_os_error()),
            }
        })
    }
}

/// A held `flock`.
#[derive(Debug)]
struct PosixLock {
    file: std::fs::File,
}

impl PosixLock {
    fn take(file: std::fs::File, kind: i32) -> io::Result<Box<dyn Lock>> {
        retry(|| {
            // SAFETY: a plain system call on a descriptor that we own.
            match unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })?;
        Ok(Box::new(PosixLock { file }))
    }
}

impl Lock for PosixLock {}

impl Drop for PosixLock {
    /// Unlocks in so many words: closing is not enough while a child that was just forked, and has not reached its exec,
    /// shares the open file.
    fn drop(&mut self) {
        // SAFETY: a plain system call on a descriptor that we own. If it fails, closing is all that is left.
        unsafe { libc::flock(self.file.as_raw_fd(), libc::LOCK_UN) };
    }
}

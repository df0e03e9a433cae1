//! Somebody else's files, which take the space of the database.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "somebody else's files")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::{Disk, parent};

/// The first piece that is tried; each failure halves it.
const PIECE_BYTES: u64 = 4 << 20;
const BLOCK_BYTES: u64 = 4 << 10;

/// A file that grows and goes.
#[derive(Debug)]
pub(super) struct Filler {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Filler {
    pub(super) fn new(path: PathBuf) -> Filler {
        Filler { path, file: None, bytes: 0 }
    }

    /// Takes `bytes` more, or all that there is.
    pub(super) fn take(&mut self, bytes: u64) -> io::Result<()> {
        let (mut piece, mut left) = (PIECE_BYTES, bytes);
        while piece >= BLOCK_BYTES && left >= BLOCK_BYTES {
            match self.grow(piece.min(left)) {
                Ok(()) => left -= piece.min(left),
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => piece /= 2,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes free on the file system.
    pub(super) fn free_bytes(&self) -> io::Result<u64> {
        PosixDisk::new().free_bytes(&parent(&self.path))
    }

    fn grow(&mut self, bytes: u64) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                self.file.insert(file)
            }
        };
        // SAFETY: a plain system call on a descriptor that we own.
        let result =
            unsafe { libc::fallocate(file.as_raw_fd(), 0, self.bytes as i64, bytes as i64) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives all of it back.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        if self.file.take().is_some() {
            self.bytes = 0;
            std::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

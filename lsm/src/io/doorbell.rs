//! A doorbell: a file whose read waits until somebody writes to it. In a ring, beside reads of real files, it lets other threads wake
//! the one that waits for completions.

use super::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

/// Bytes of a read and of a write.
pub(crate) const DOORBELL_BYTES: usize = 8;

/// See the head of the file. An eventfd: writes before the read are not lost, and several count as one.
#[derive(Debug)]
pub(crate) struct Doorbell {
    event: OwnedFd,
}

impl Doorbell {
    /// A doorbell that nobody has rung.
    ///
    /// # Errors
    /// The system has no descriptor to give.
    pub(crate) fn new() -> io::Result<Doorbell> {
        // SAFETY: a plain system call.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        Ok(Doorbell { event: unsafe { OwnedFd::from_raw_fd(descriptor) } })
    }

    /// Wakes the reader, now or when it comes.
    pub(crate) fn ring(&self) {
        let _answered_or_already_rung = self.write_at(0, &1u64.to_ne_bytes(), false);
    }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_negative| io::Error::last_os_error())
}

impl File for Doorbell {
    fn path(&self) -> &Path {
        Path::new("doorbell")
    }

    fn read_at(&self, _offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: the pointer and length are of the buffer.
        count(unsafe {
            libc::read(self.event.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len())
        })
    }

    fn write_at(&self, _offset: u64, bytes: &[u8], _durable: bool) -> io::Result<usize> {
        // SAFETY: the pointer and length are of the bytes.
        count(unsafe { libc::write(self.event.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn direct(&self) -> bool {
        false
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.event.as_raw_fd())
    }
}

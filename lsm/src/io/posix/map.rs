//! A real shared map.
//!
//! The file is filled with written zeros, not holes, so that a store into the map can never meet a full disk (SIGBUS), and
//! the pages are populated for writing so that the first stores do not fault one by one.

use super::{file::open_for_update, retry};
use crate::io::SharedMap;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;

/// Zeros written at a time.
const FILL_BYTES: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct PosixMap {
    pointer: NonNull<u8>,
    length: usize,
}

// SAFETY: the map is memory that lives until drop, whichever thread that is.
unsafe impl Send for PosixMap {}
// SAFETY: nothing here touches the bytes; who stores through `pointer` answers for it.
unsafe impl Sync for PosixMap {}

impl PosixMap {
    pub(super) fn new(path: &Path, length: usize) -> io::Result<PosixMap> {
        let file = open_for_update(path)?;
        fill(&file, length as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new map at an address of the kernel's choice; the arguments are checked by it.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENODEV) => io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this file system has no shared maps",
                ),
                _ => error,
            });
        }
        // SAFETY: the whole of a map that was just made. Kernels before 5.14 refuse; the pages then fault in as they are
        // touched, which is slower and nothing else.
        unsafe { libc::madvise(address, length, libc::MADV_POPULATE_WRITE) };
        let pointer = NonNull::new(address.cast()).expect("mmap without MAP_FIXED never gives 0");
        Ok(PosixMap { pointer, length })
    }
}

/// Writes zeros from the end of the file up to `length`.
fn fill(file: &std::fs::File, length: u64) -> io::Result<()> {
    let mut offset = file.metadata()?.len();
    if offset >= length {
        return Ok(());
    }
    let zeros = vec![0; FILL_BYTES as usize];
    while offset < length {
        let piece = (length - offset).min(FILL_BYTES) as usize;
        let count = retry(|| file.write_at(&zeros[..piece], offset))?;
        if count == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        offset += count as u64;
    }
    Ok(())
}

impl SharedMap for PosixMap {
    fn pointer(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }

    fn length(&self) -> usize {
        self.length
    }
}

impl Drop for PosixMap {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this address and length, unmapped once.
        unsafe { libc::munmap(self.pointer.as_ptr().cast(), self.length) };
    }
}

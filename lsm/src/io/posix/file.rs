//! An open real file.

use super::retry;
use crate::base::limits::IO_ALIGN;
use crate::io::{File, OpenMode};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Opens a file for reading and writing, making it if needed.
#[allow(clippy::disallowed_types, reason = "this is the door")]
pub(super) fn open_for_update(path: &Path) -> io::Result<std::fs::File> {
    retry(|| {
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
    })
}

/// Fills the buffer if the page cache holds all of its bytes; false, with the buffer spoilt, if it does not or nobody knows.
pub(super) fn read_cached(descriptor: RawFd, offset: u64, buffer: &mut [u8]) -> bool {
    let Ok(offset) = libc::off64_t::try_from(offset) else { return false };
    let vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: one vector over a buffer that is ours alone through the call.
    let count = unsafe { libc::preadv2(descriptor, &vector, 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(count).is_ok_and(|count| count == buffer.len())
}

/// What direct reads must be aligned to, as the file system says (Linux 6.1); [`IO_ALIGN`] where it does not.
fn direct_read_unit(file: &std::fs::File) -> usize {
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is empty and terminated, the descriptor is open, and the kernel writes one statx there.
    let result = unsafe {
        let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        libc::statx(file.as_raw_fd(), path, flags, libc::STATX_DIOALIGN, found.as_mut_ptr())
    };
    // SAFETY: all zeros are a statx, whether or not the kernel wrote one.
    let found = unsafe { found.assume_init() };
    if result != 0 || found.stx_mask & libc::STATX_DIOALIGN == 0 {
        return IO_ALIGN;
    }
    let unit = found.stx_dio_offset_align.max(found.stx_dio_mem_align) as usize;
    // 0: the file does not take direct transfers.
    if unit.is_power_of_two() { unit.min(IO_ALIGN) } else { IO_ALIGN }
}

#[derive(Debug)]
pub(super) struct PosixFile {
    file: std::fs::File,
    path: PathBuf,
    direct: bool,
    read_unit: usize,
    /// The kernel or file system does not know RWF_DSYNC.
    no_durable_writes: AtomicBool,
}

impl PosixFile {
    #[allow(clippy::disallowed_types, reason = "this is the door")]
    pub(super) fn open(path: &Path, mode: OpenMode) -> io::Result<PosixFile> {
        let open = |direct: bool, exclusive: bool| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(mode.write || mode.create).create(mode.create);
            options.create_new(exclusive);
            if direct {
                options.custom_flags(libc::O_DIRECT);
            }
            retry(|| options.open(path))
        };
        let exclusive = mode.create && mode.exclusive;
        let (file, direct) = match open(mode.direct, exclusive) {
            // The refusal may come after the file was made, so the second try must not insist on making it.
            Err(error) if mode.direct && error.raw_os_error() == Some(libc::EINVAL) => {
                (open(false, false)?, false)
            }
            result => (result?, mode.direct),
        };
        let no_durable_writes = AtomicBool::new(false);
        let read_unit = if direct { direct_read_unit(&file) } else { 1 };
        Ok(PosixFile { file, path: path.to_owned(), direct, read_unit, no_durable_writes })
    }

    /// One `pwritev2` with RWF_DSYNC.
    fn write_durable(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let vector =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let offset = libc::off64_t::try_from(offset)
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let descriptor = self.file.as_raw_fd();
        retry(|| {
            // SAFETY: one vector over bytes that live through the call and are only read.
            let count = unsafe { libc::pwritev2(descriptor, &vector, 1, offset, libc::RWF_DSYNC) };
            usize::try_from(count).map_err(|_| io::Error::last_os_error())
        })
    }
}

impl File for PosixFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| self.file.read_at(buffer, offset))
    }

    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        if durable && !self.no_durable_writes.load(Ordering::Relaxed) {
            match self.write_durable(offset, bytes) {
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) =>
                {
                    self.no_durable_writes.store(true, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let count = retry(|| self.file.write_at(bytes, offset))?;
        if durable {
            self.sync_data()?;
        }
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn direct(&self) -> bool {
        self.direct
    }

    fn read_unit(&self) -> usize {
        self.read_unit
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }
}

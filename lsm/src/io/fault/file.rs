//! An open file with faults in front of it.

use super::rule::{Call, Fault, Target, flip};
use super::{Shared, State};
use crate::base::limits::IO_ALIGN;
use crate::io::{AlignedBuffer, File, unit};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sector of the partial effect of a write that fails.
const SECTOR_BYTES: usize = 512;

pub(super) struct FaultFile {
    pub(super) inner: Arc<dyn File>,
    pub(super) shared: Arc<Shared>,
    /// A sync of it has failed by an injected error.
    sync_failed: AtomicBool,
}

impl FaultFile {
    pub(super) fn new(inner: Arc<dyn File>, shared: Arc<Shared>) -> FaultFile {
        FaultFile { inner, shared, sync_failed: AtomicBool::new(false) }
    }

    /// The transfer of `length` bytes, as the rules see it.
    pub(super) fn transfer(&self, call: Call, length: usize) -> Target<'_> {
        let unit = unit(&*self.inner, call.operation());
        Target { length, unit, ..Target::named(call, self.inner.path()) }
    }

    /// The error of a write that fails. With EIO some of its sectors, in front, are written.
    pub(super) fn fail_write(&self, code: i32, offset: u64, bytes: &[u8]) -> io::Error {
        let unit = if self.inner.direct() { IO_ALIGN } else { SECTOR_BYTES };
        let length = self.shared.below(bytes.len() as u64 + 1) as usize / unit * unit;
        if code == libc::EIO && length > 0 {
            // It fails whatever becomes of this part.
            let _injected_error_wins = self.inner.write_at(offset, &bytes[..length], false);
        }
        io::Error::from_raw_os_error(code)
    }

    /// Notes a call that makes data durable, of which `fault` is the fault. A durable write that finds no space has left
    /// nothing behind that a later one could miss.
    fn note_sync(&self, call: Call, fault: Option<Fault>) {
        if self.sync_failed.load(Ordering::Relaxed) {
            let State { syncs_after_failure, .. } = &mut *self.shared.state.lock();
            *syncs_after_failure += 1;
        }
        let failed = match fault {
            Some(Fault::Error(code)) => call == Call::Sync || code != libc::ENOSPC,
            _ => false,
        };
        if failed {
            self.sync_failed.store(true, Ordering::Relaxed);
        }
    }
}

impl File for FaultFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let target = self.transfer(Call::Read, buffer.len());
        match self.shared.judge(target) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::Short) => {
                let length = target.shortened().unwrap_or(buffer.len());
                self.inner.read_at(offset, &mut buffer[..length])
            }
            Some(Fault::Flip) => {
                let count = self.inner.read_at(offset, buffer)?;
                if count > 0 {
                    flip(buffer, self.shared.below(count as u64 * 8));
                }
                Ok(count)
            }
            _ => self.inner.read_at(offset, buffer),
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let call = if durable { Call::WriteDurable } else { Call::Write };
        let target = self.transfer(call, bytes.len());
        let fault = self.shared.judge(target);
        if durable {
            self.note_sync(call, fault);
        }
        match fault {
            Some(Fault::Error(code)) => Err(self.fail_write(code, offset, bytes)),
            Some(Fault::Short) => {
                let length = target.shortened().unwrap_or(bytes.len());
                self.inner.write_at(offset, &bytes[..length], durable)
            }
            Some(Fault::Flip) => {
                // A copy that is aligned, should the file be direct.
                let mut damaged = AlignedBuffer::copy_of(bytes);
                flip(&mut damaged, self.shared.below(bytes.len() as u64 * 8));
                self.inner.write_at(offset, &damaged, durable)
            }
            Some(Fault::SyncIgnored) => self.inner.write_at(offset, bytes, false),
            _ => self.inner.write_at(offset, bytes, durable),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let fault = self.shared.judge(Target::named(Call::Sync, self.path()));
        self.note_sync(Call::Sync, fault);
        match fault {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            Some(Fault::SyncIgnored) => Ok(()),
            _ => self.inner.sync_data(),
        }
    }

    fn size(&self) -> io::Result<u64> {
        match self.shared.judge(Target::named(Call::Size, self.path())) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => self.inner.size(),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        match self.shared.judge(Target::named(Call::SetSize, self.path())) {
            Some(Fault::Error(code)) => Err(io::Error::from_raw_os_error(code)),
            _ => self.inner.set_size(size),
        }
    }

    fn direct(&self) -> bool {
        self.inner.direct()
    }

    fn read_unit(&self) -> usize {
        self.inner.read_unit()
    }

    /// None, so that no ring gets past the faults.
    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultFile({:?})", self.inner)
    }
}

//! An open file of the simulated disk.

use super::inode::Standing;
use super::names::FileId;
use super::state::{Request, State, Verdict, errno};
use crate::base::limits::IO_ALIGN;
use crate::base::sync::DeviceMutex;
use crate::io::fault::{Call, Target, flip};
use crate::io::{File, OpenMode, Operation, unit};
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sector of the partial effect of a write that fails.
const SECTOR_BYTES: usize = 512;

pub(super) struct SimFile {
    state: Arc<DeviceMutex<State>>,
    id: FileId,
    path: PathBuf,
    /// The path without `.`, for the trace and the faults.
    normal_path: PathBuf,
    mode: OpenMode,
}

impl SimFile {
    pub(super) fn new(
        state: Arc<DeviceMutex<State>>,
        id: FileId,
        path: PathBuf,
        normal_path: PathBuf,
        mode: OpenMode,
    ) -> SimFile {
        SimFile { state, id, path, normal_path, mode }
    }

    fn request(&self, call: Call) -> Request<'_> {
        Request::of(Target::named(call, &self.normal_path))
    }

    fn transfer(&self, call: Call, offset: u64, bytes: &[u8], checksum: u32) -> Request<'_> {
        let unit = unit(self, call.operation());
        let target = Target { length: bytes.len(), unit, ..Target::named(call, &self.normal_path) };
        Request { target, offset, checksum }
    }

    /// A direct file refuses what a device would refuse.
    fn check_alignment(&self, operation: Operation, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let unit = unit(self, operation);
        let aligned =
            (bytes.as_ptr() as usize | bytes.len() | offset as usize).is_multiple_of(unit);
        if aligned { Ok(()) } else { Err(errno(libc::EINVAL)) }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.mode.write { Ok(()) } else { Err(errno(libc::EBADF)) }
    }

    /// A write that fails may have written some of its sectors, in front; one that the power cut strikes may also have
    /// written all of them, or any, as the image says. They are as if a sync had failed on them.
    fn write_a_part(&self, state: &mut State, offset: u64, bytes: &[u8], cut: bool) {
        let length = if cut && state.random.one_in(2) {
            bytes.len()
        } else {
            state.random.below(bytes.len() as u64 + 1) as usize / SECTOR_BYTES * SECTOR_BYTES
        };
        let size = state.inode(self.id).size();
        let growth = (offset + length as u64).saturating_sub(size);
        if state.free.is_none_or(|free| free >= growth) && state.take_space(growth) {
            let sequence = state.sequence();
            state.inode(self.id).write(sequence, offset, &bytes[..length], Standing::Abandoned);
        }
    }

    /// The bytes of a write that there is space for; ENOSPC if there is none.
    fn fit(&self, state: &mut State, offset: u64, length: usize) -> io::Result<usize> {
        let size = state.inode(self.id).size();
        let growth = (offset + length as u64).saturating_sub(size);
        if state.take_space(growth) {
            return Ok(length);
        }
        let room = size.saturating_add(state.free.unwrap_or(0)).saturating_sub(offset);
        let unit = if self.mode.direct { IO_ALIGN as u64 } else { 1 };
        let length = room / unit * unit;
        if length == 0 {
            return Err(errno(libc::ENOSPC));
        }
        // `length` ends inside the free space, so this cannot fail.
        state.take_space((offset + length).saturating_sub(size));
        Ok(length as usize)
    }
}

impl File for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.check_alignment(Operation::Read, offset, buffer)?;
        let mut state = self.state.lock();
        let verdict = state.begin(&self.transfer(Call::Read, offset, buffer, 0))?;
        let length = match verdict {
            Verdict::Cut => return Err(errno(libc::EIO)),
            Verdict::Fail(code) => return Err(errno(code)),
            Verdict::Short(length) => length,
            Verdict::Proceed | Verdict::Flip | Verdict::Ignore => buffer.len(),
        };
        let count = state.inode(self.id).read(offset, &mut buffer[..length]);
        if matches!(verdict, Verdict::Flip) && count > 0 {
            flip(buffer, state.random.below(count as u64 * 8));
        }
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        self.check_writable()?;
        self.check_alignment(Operation::Write, offset, bytes)?;
        let call = if durable { Call::WriteDurable } else { Call::Write };
        let mut state = self.state.lock();
        let verdict = state.begin(&self.transfer(call, offset, bytes, crc32c::crc32c(bytes)))?;
        let length = match verdict {
            Verdict::Cut | Verdict::Fail(libc::EIO) => {
                let cut = matches!(verdict, Verdict::Cut);
                self.write_a_part(&mut state, offset, bytes, cut);
                return Err(errno(libc::EIO));
            }
            Verdict::Fail(code) => return Err(errno(code)),
            Verdict::Short(length) => length,
            Verdict::Proceed | Verdict::Flip | Verdict::Ignore => bytes.len(),
        };
        let length = self.fit(&mut state, offset, length)?;
        let durable = durable && !matches!(verdict, Verdict::Ignore);
        let standing = if durable { Standing::Durable } else { Standing::Pending };
        let sequence = state.sequence();
        if matches!(verdict, Verdict::Flip) {
            let mut damaged = bytes[..length].to_vec();
            flip(&mut damaged, state.random.below(length as u64 * 8));
            state.inode(self.id).write(sequence, offset, &damaged, standing);
        } else {
            state.inode(self.id).write(sequence, offset, &bytes[..length], standing);
        }
        Ok(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        match state.begin(&self.request(Call::Sync))? {
            Verdict::Cut => Err(errno(libc::EIO)),
            Verdict::Fail(code) => {
                state.inode(self.id).abandon();
                Err(errno(code))
            }
            Verdict::Ignore => Ok(()),
            _ => {
                let sequence = state.sequence();
                state.inode(self.id).sync(sequence);
                Ok(())
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.state.lock();
        match state.begin(&self.request(Call::Size))? {
            Verdict::Cut => Err(errno(libc::EIO)),
            Verdict::Fail(code) => Err(errno(code)),
            _ => Ok(state.inode(self.id).size()),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.state.lock();
        let verdict = state.begin(&Request { offset: size, ..self.request(Call::SetSize) })?;
        let after = match verdict {
            Verdict::Fail(code) => return Err(errno(code)),
            Verdict::Cut if state.random.one_in(2) => return Err(errno(libc::EIO)),
            Verdict::Cut => Err(errno(libc::EIO)),
            _ => Ok(()),
        };
        let old = state.inode(self.id).size();
        if !state.take_space(size.saturating_sub(old)) {
            return Err(errno(libc::ENOSPC));
        }
        state.give_back(old.saturating_sub(size));
        let sequence = state.sequence();
        state.inode(self.id).set_size(sequence, size);
        after
    }

    fn direct(&self) -> bool {
        self.mode.direct
    }

    /// The coarsest unit that a device may have, and for every other file a common finer one.
    fn read_unit(&self) -> usize {
        match self.mode.direct {
            false => 1,
            true if self.id.is_multiple_of(2) => IO_ALIGN,
            true => SECTOR_BYTES,
        }
    }

    fn descriptor(&self) -> Option<RawFd> {
        None
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        state.inode(self.id).handles -= 1;
        state.let_go(self.id);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimFile({})", self.path.display())
    }
}

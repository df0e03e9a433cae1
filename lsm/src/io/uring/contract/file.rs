//! The file of one request: in memory, with a descriptor that only the fake ring understands.

use super::world::{Fate, World, pattern};
use crate::io::{File, Operation};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;

/// Descriptors start here: far above what any process has.
const DESCRIPTOR_BASE: RawFd = 1 << 30;

/// The request whose file has this descriptor.
pub(super) fn descriptor_sheet(descriptor: RawFd) -> usize {
    (descriptor - DESCRIPTOR_BASE) as usize
}

pub(super) struct FakeFile {
    world: Arc<Mutex<World>>,
    sheet: usize,
    unit: usize,
}

impl FakeFile {
    pub(super) fn new(world: Arc<Mutex<World>>, sheet: usize, unit: usize) -> FakeFile {
        FakeFile { world, sheet, unit }
    }

    /// Bytes that a plain call moves.
    fn transfer(
        &self,
        world: &mut World,
        operation: Operation,
        offset: u64,
        pointer: *const u8,
        length: usize,
    ) -> io::Result<usize> {
        world.outcome.plain_calls += 1;
        if !world.check_transfer(self.sheet, operation, offset, pointer, length) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        match world.fate(self.sheet, offset, length, true) {
            Fate::Moves(count) => Ok(count),
            Fate::Fails(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

impl File for FakeFile {
    fn path(&self) -> &Path {
        Path::new("fake")
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let world = &mut *self.world.lock();
        let (pointer, length) = (buffer.as_ptr(), buffer.len());
        let count = self.transfer(world, Operation::Read, offset, pointer, length)?;
        let shift = world.sheets[self.sheet].shift;
        buffer[..count].copy_from_slice(pattern(shift, offset, count));
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
        let world = &mut *self.world.lock();
        let (pointer, length) = (bytes.as_ptr(), bytes.len());
        let count = self.transfer(world, Operation::Write, offset, pointer, length)?;
        if durable || bytes != pattern(world.sheets[self.sheet].shift, offset, length) {
            world.blame(format!("request {}: other bytes are written", self.sheet));
        }
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.world.lock().blame("a queue does not sync");
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world.lock().sheets[self.sheet].size)
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        self.world.lock().blame("a queue does not set sizes");
        Ok(())
    }

    fn direct(&self) -> bool {
        self.unit > 1
    }

    fn read_unit(&self) -> usize {
        self.unit
    }

    fn descriptor(&self) -> Option<RawFd> {
        Some(DESCRIPTOR_BASE + self.sheet as RawFd)
    }
}

impl Drop for FakeFile {
    fn drop(&mut self) {
        // The driver holds the world while it frees what was leaked, when there is nothing left to blame.
        let Some(mut world) = self.world.try_lock() else { return };
        let sheet = &mut world.sheets[self.sheet];
        sheet.closed = true;
        if sheet.in_ring {
            world.blame(format!("request {}: closed while the ring has it", self.sheet));
        }
    }
}

impl fmt::Debug for FakeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeFile({})", self.sheet)
    }
}

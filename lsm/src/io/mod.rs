//! Floor 1: the one door to files. Everything above reaches storage through [`Disk`], [`File`] and [`Queue`].
//!
//! Bodies: `uring` (real files; queued requests go through an io_uring), `posix` (real files; queued requests go
//! through threads), `sim` (memory with a volatile and a durable half, for tests) and `fault` (any of them, with faults in front). A
//! single blocking read or write is a plain system call in both real bodies: at queue depth 1 that beats the ring.
//!
//! Promises, for every body:
//! 1. A queued request owns its buffer from `push` until its completion hands it back.
//! 2. `read_at` and `write_at` may be short, as the system calls are; [`read_full`] and [`write_full`] are not. A queued
//!    request is carried out whole: it completes with fewer bytes than asked only for a read that met the end of file.
//! 3. Data is durable after `sync_data` of the file (or a write with `durable` set, for the bytes of that write alone), a name after
//!    `sync_directory` of its parent. A directory is durable once it is made. Nothing else makes anything durable.
//! 4. EINTR never leaves this floor. All other errors of plain calls do, as they came, EAGAIN and ECANCELED too: a blocking call on a
//!    regular file has no reason to say either, so there is nothing to wait for. Where a *ring* says one of them for a request,
//!    the request has not been carried out and is given to one plain call, whose word is final.
//! 5. A transfer that moves no whole unit is repeated [`STALL_COUNT_MAX`] times and is then an error (`WriteZero`).

pub mod buffer;
pub(crate) mod doorbell;
pub mod fault;
pub mod posix;
pub mod sim;
pub mod uring;

mod choose;

use crate::base::limits::IO_ALIGN;
use crate::base::planted::{Bug, planted};
use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use buffer::AlignedBuffer;
pub use choose::choose;

/// Tries of a transfer that moves no whole unit, before it counts as failed.
pub const STALL_COUNT_MAX: usize = 8;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenMode {
    /// Allow writes.
    pub write: bool,
    /// Create the file if it is not there.
    pub create: bool,
    /// With `create`: fail if it is there (`AlreadyExists`).
    pub exclusive: bool,
    /// Bypass the page cache. Offsets, lengths and buffer addresses are then multiples of
    /// [`IO_ALIGN`], of reads at least of [`File::read_unit`]. A file system that refuses O_DIRECT (EINVAL) gets a buffered file
    /// instead.
    pub direct: bool,
}

impl OpenMode {
    /// Read an existing file through the page cache.
    pub const READ: OpenMode =
        OpenMode { write: false, create: false, exclusive: false, direct: false };
    /// Read an existing file past the page cache.
    pub const READ_DIRECT: OpenMode = OpenMode { direct: true, ..OpenMode::READ };
    /// Make a new file and write it through the page cache.
    pub const CREATE: OpenMode =
        OpenMode { write: true, create: true, exclusive: true, direct: false };
    /// Make a new file and write it past the page cache.
    pub const CREATE_DIRECT: OpenMode = OpenMode { direct: true, ..OpenMode::CREATE };
}

/// A directory tree of files: a real one or a simulated one.
pub trait Disk: Send + Sync + Debug {
    /// Name of the body, for stats and the log: "uring", "posix", "sim", "fault".
    fn name(&self) -> &'static str;
    /// Makes a directory and its parents, durably; fine if it is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// Names (not paths) in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Opens or makes a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name in the same file system; `AlreadyExists` if the name is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes creates, links, renames and unlinks in this directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on a lock file, making the file if needed. `WouldBlock` if somebody has it. Released on drop.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Takes the shared lock on a lock file, which must be there: as many as like may have it, while nobody has the exclusive one. Changes nothing.
    /// `WouldBlock` if somebody has the exclusive one.
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Maps `length` bytes of a file shared, making the file and filling it with written zeros (no holes) where it is shorter.
    /// Stores into the map survive the death of the process. `Unsupported` where the file system has no shared maps.
    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>>;
    /// A queue for up to `depth` requests in flight. Made and used by one thread.
    fn queue(&self, depth: usize) -> Box<dyn Queue>;
    /// As `queue`, if a request that waits for long does not hold up the others there; `None` if the body has no such queue.
    fn ring(&self, depth: usize) -> Option<Box<dyn Queue>> {
        let _ = depth;
        None
    }
    /// Bytes free for this user on the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. All methods take offsets, so any number of threads may use it at once.
/// (`Any`, so that a queue knows the files of its own disk again.)
pub trait File: Any + Send + Sync + Debug {
    /// The path it was opened by, for error messages.
    fn path(&self) -> &Path;
    /// Reads up to `buffer.len()` bytes; 0 at the end of file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes some of `bytes`. With `durable` the written bytes (and the file size, if they extend it) are durable when it
    /// returns; bytes written earlier without it are not made durable by this.
    fn write_at(&self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize>;
    /// Makes everything written so far durable (fdatasync). After an error the file must not be used for durable data again.
    fn sync_data(&self) -> io::Result<()>;
    /// Size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// True where offsets, lengths and addresses must be aligned.
    fn direct(&self) -> bool;
    /// What offsets, lengths and addresses of reads must be multiples of: a power of two up to [`IO_ALIGN`]. Below that where
    /// the device takes it: a block that straddles two pages is then not read as both of them.
    fn read_unit(&self) -> usize {
        if self.direct() { IO_ALIGN } else { 1 }
    }
    /// The descriptor, for a ring; `None` for a file that a ring must not touch.
    fn descriptor(&self) -> Option<std::os::fd::RawFd>;
}

/// A held lock file.
pub trait Lock: Send + Sync + Debug {}

/// Memory that is a file: stores survive the death of the process, and reach the device whenever the system likes.
pub trait SharedMap: Send + Sync + Debug {
    /// Start of the map, aligned to 4096. Valid for `length` bytes until the map is dropped.
    fn pointer(&self) -> *mut u8;
    /// Length in bytes.
    fn length(&self) -> usize;
}

/// What a queued request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Fill the buffer (its whole length) from the file.
    Read,
    /// Write the whole buffer to the file.
    Write,
}

/// A request for a [`Queue`].
#[derive(Debug)]
pub struct Request {
    /// Handed back in the completion.
    pub token: u64,
    /// The file; kept open by the request.
    pub file: Arc<dyn File>,
    /// Read or write.
    pub operation: Operation,
    /// Offset in bytes; a multiple of the alignment for a direct file.
    pub offset: u64,
    /// The bytes; its length is the length of the request.
    pub buffer: AlignedBuffer,
}

/// A carried-out request.
#[derive(Debug)]
pub struct Completion {
    /// The request's token.
    pub token: u64,
    /// The request's buffer.
    pub buffer: AlignedBuffer,
    /// Bytes transferred: the buffer's length, or less for a read that met the end of file.
    pub result: io::Result<usize>,
}

/// Several requests in flight at once, for one thread. Dropping it waits for what is in flight.
///
/// `Send` so that an idle owner (a cursor, a table writer) may move between threads before it makes its queue; once made,
/// a queue is used and dropped by the thread that made it.
pub trait Queue: Debug + Send {
    /// Adds a request; it may start at once or at the next `submit` or `wait`. Above the depth it waits inside.
    fn push(&mut self, request: Request);
    /// Starts everything that was pushed, without waiting.
    fn submit(&mut self);
    /// Waits for one completion, in any order; `None` when nothing is in flight.
    fn wait(&mut self) -> Option<Completion>;
    /// Requests pushed and not yet handed back.
    fn in_flight(&self) -> usize;
    /// Completions that `wait` can hand back at once, as far as is known without asking the system.
    fn ready(&self) -> usize {
        0
    }
}

/// Where a transfer stands after the system moved some bytes.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Carry on from here: bytes done so far.
    More(usize),
    /// No whole unit was moved; the same transfer is to be tried again, but not for ever.
    Stalled,
    /// Finished with so many bytes.
    Done(usize),
}

/// What the transfers of a file must be multiples of.
pub(crate) fn unit(file: &dyn File, operation: Operation) -> usize {
    match operation {
        Operation::Read => file.read_unit(),
        Operation::Write if file.direct() => IO_ALIGN,
        Operation::Write => 1,
    }
}

/// Judges a transfer of `length` bytes of which `done` were done before and the last call moved `count` more.
///
/// A direct file can only go on at a whole unit, so a transfer that stopped inside one is either at the end of the file
/// or repeats that unit.
pub(crate) fn progress(
    file: &dyn File,
    operation: Operation,
    offset: u64,
    length: usize,
    done: usize,
    count: usize,
) -> io::Result<Progress> {
    let total = done + count;
    if total >= length {
        return Ok(Progress::Done(total));
    }
    match operation {
        Operation::Read if count == 0 => return Ok(Progress::Done(total)),
        Operation::Read => {}
        Operation::Write if count == 0 => return Ok(Progress::Stalled),
        Operation::Write => {}
    }
    let unit = unit(file, operation);
    if total.is_multiple_of(unit) {
        return Ok(Progress::More(total));
    }
    if operation == Operation::Read && offset + total as u64 >= file.size()? {
        return Ok(Progress::Done(total));
    }
    let whole = total / unit * unit;
    Ok(if whole > done { Progress::More(whole) } else { Progress::Stalled })
}

fn took_nothing() -> io::Error {
    io::Error::new(io::ErrorKind::WriteZero, "the device moved no whole unit of bytes")
}

/// Makes transfers until `length` bytes are done or the file ends; `transfer` moves some of what is left after so many bytes.
fn transfer_all(
    file: &dyn File,
    operation: Operation,
    offset: u64,
    length: usize,
    mut transfer: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let (mut done, mut stalls) = (0, 0);
    while done < length {
        let count = transfer(done)?;
        let ignored = match operation {
            Operation::Read => Bug::ShortReadIgnored,
            Operation::Write => Bug::ShortWriteIgnored,
        };
        if planted(ignored) {
            return Ok(length);
        }
        match progress(file, operation, offset, length, done, count)? {
            Progress::More(total) => (done, stalls) = (total, 0),
            Progress::Stalled if stalls < STALL_COUNT_MAX => stalls += 1,
            Progress::Stalled => return Err(took_nothing()),
            Progress::Done(total) => return Ok(total),
        }
    }
    Ok(done)
}

/// Reads until `buffer` is full or the file ends; returns the bytes read.
pub fn read_full(file: &dyn File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    transfer_all(file, Operation::Read, offset, buffer.len(), |done| {
        file.read_at(offset + done as u64, &mut buffer[done..])
    })
}

/// Writes all of `bytes`.
pub fn write_full(file: &dyn File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
    transfer_all(file, Operation::Write, offset, bytes.len(), |done| {
        file.write_at(offset + done as u64, &bytes[done..], durable)
    })
    .map(|_all| ())
}

/// Carries out what is left of a request by blocking calls, after `done` bytes of it.
pub(crate) fn carry_out(request: &mut Request, done: usize) -> io::Result<usize> {
    let offset = request.offset + done as u64;
    match request.operation {
        Operation::Read => {
            read_full(&*request.file, offset, &mut request.buffer[done..]).map(|count| done + count)
        }
        Operation::Write => write_full(&*request.file, offset, &request.buffer[done..], false)
            .map(|()| request.buffer.len()),
    }
}

impl Completion {
    /// The end of a request. The file is let go of first, so that whoever gets the completion may be its last holder.
    pub(crate) fn of(request: Request, result: io::Result<usize>) -> Completion {
        let Request { token, file, buffer, .. } = request;
        drop(file);
        Completion { token, buffer, result }
    }
}

/// Reads a whole file, refusing one above `limit` bytes.
pub fn read_whole(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, OpenMode::READ)?;
    let size = file.size()?;
    if size > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{size} bytes, at most {limit} expected"),
        ));
    }
    let mut bytes = vec![0; size as usize];
    let count = read_full(&*file, 0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}

/// The parent directory of `path`, for `sync_directory`.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

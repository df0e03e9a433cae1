//! A real ext4 that can lose its power: a loop device over memory.
//!
//! Nothing of it outlives the process, however that ends. The bytes are an unnamed file in memory, the loop device goes with
//! its last descriptor, and the mounts stand in a mount namespace that only the threads and children of one case see.
//! So there is nothing to sweep up after a kill. It also matters to the tests: were a mount copied into somebody
//! else's namespace, unmounting would not end the file system that was cut, and the next mount would join it.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "mounts are made with real files"
)]

use std::ffi::CString;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const FS_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587D;
/// Tries to get a free loop device, or to unmount while the kernel still cleans up after a dead child.
const TRIES_MAX: usize = 200;

/// A block is a page, as on any disk of today's size; mkfs would choose smaller ones for so small a disk, and a request of several of
/// them could reach over two pages of the memory below.
const BLOCK_BYTES: &str = "4096";

/// How the plug is pulled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plug {
    /// The device takes no more writes, all of a sudden: what it has is what is left. The truest cut.
    DeviceStopped,
    /// `FS_IOC_SHUTDOWN`; the journal in memory still reaches the device. See [`Image::is_damaged`].
    JournalFlushed,
    /// `FS_IOC_SHUTDOWN`; it does not.
    JournalLost,
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    descriptor: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names_and_key: [u8; 64 + 64 + 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 8 + 232 + 64, "the kernel's layout");

/// Runs `body` in a thread with a mount namespace of its own: its mounts are seen by its threads and children only, and end
/// with them. `None` if the system does not allow it.
pub fn in_private_mounts<T: Send>(body: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| unshare().is_ok().then(body));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A directory for what must not be on the file system under test, in memory where there is such a place.
///
/// # Errors
/// The system's.
pub fn outside_directory() -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("treering-hunt-");
    builder.tempdir_in("/dev/shm").or_else(|_no_such_place| builder.tempdir())
}

fn unshare() -> io::Result<()> {
    // SAFETY: a plain system call; this thread alone changes its namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let none = std::ptr::null();
    // SAFETY: NUL-terminated paths, and null where the call wants nothing.
    check(unsafe { libc::mount(none, c"/".as_ptr(), none, flags, none.cast()) })
}

/// The bytes, and where they are mounted.
#[derive(Debug)]
pub struct Image {
    memory: File,
    /// While mounted: keeps the loop device. Every mount gets a new one, for the cache of a device outlives an unmount, and blocks
    /// of the file system that never reached the device could be seen in it after the cut.
    device: Option<(File, PathBuf)>,
    mount_point: PathBuf,
    /// The memory takes no writes any more.
    stopped: bool,
}

impl Image {
    /// Makes an empty ext4 of `bytes` and mounts it at `mount_point`. Call it in [`in_private_mounts`].
    ///
    /// # Errors
    /// The system's: not root, no loop device, no mkfs.ext4.
    pub fn make(bytes: u64, mount_point: &Path) -> io::Result<Image> {
        Image::make_in(memory(bytes)?, mount_point)
    }

    /// The same in a file that is there.
    ///
    /// # Errors
    /// As [`Image::make`].
    pub fn make_in(memory: File, mount_point: &Path) -> io::Result<Image> {
        let (device, path) = loop_over(&memory)?;
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-b", BLOCK_BYTES, "-E", "nodiscard,lazy_itable_init=1", "-m", "0"])
            .arg(&path)
            .stdin(Stdio::null())
            .status()?;
        if !made.success() {
            return Err(io::Error::other(format!("mkfs.ext4 ended with {made}")));
        }
        drop(device);
        let mut image =
            Image { memory, device: None, mount_point: mount_point.to_owned(), stopped: false };
        image.mount()?;
        Ok(image)
    }

    /// The name of its device under `/sys/block`, while it is mounted.
    pub fn device_name(&self) -> Option<&OsStr> {
        self.device.as_ref().and_then(|(_, path)| path.file_name())
    }

    /// Mounts it again; ext4 replays its journal.
    ///
    /// # Errors
    /// The system's.
    pub fn mount(&mut self) -> io::Result<()> {
        if self.stopped {
            self.memory = copy_of(&self.memory)?;
            self.stopped = false;
        }
        let target = c_path(&self.mount_point)?;
        let options = c"noinit_itable".as_ptr();
        let (device, path) = loop_over(&self.memory)?;
        let source = c_path(&path)?;
        // SAFETY: NUL-terminated strings.
        check(unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                c"ext4".as_ptr(),
                libc::MS_NOATIME,
                options.cast(),
            )
        })?;
        self.device = Some((device, path));
        Ok(())
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// The system's, `EBUSY` if somebody keeps a file open.
    pub fn unmount(&mut self) -> io::Result<()> {
        let target = c_path(&self.mount_point)?;
        for _ in 0..TRIES_MAX {
            // SAFETY: a NUL-terminated path.
            match check(unsafe { libc::umount2(target.as_ptr(), 0) }) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(()) => {
                    self.device = None;
                    return Ok(());
                }
                error => return error,
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// Pulls the plug: from now on everything that is not on the device is lost.
    ///
    /// # Errors
    /// The system's; the power is still on then.
    pub fn pull(&mut self, plug: Plug) -> io::Result<()> {
        let flags: u32 = match plug {
            Plug::DeviceStopped => {
                let seal = libc::F_SEAL_FUTURE_WRITE;
                // SAFETY: a plain system call on a descriptor that we own.
                check(unsafe { libc::fcntl(self.memory.as_raw_fd(), libc::F_ADD_SEALS, seal) })?;
                self.stopped = true;
                return Ok(());
            }
            Plug::JournalFlushed => 1,
            Plug::JournalLost => 2,
        };
        let root = File::open(&self.mount_point)?;
        // SAFETY: the call reads one u32.
        check(unsafe { libc::ioctl(root.as_raw_fd(), FS_IOC_SHUTDOWN, &flags) })
    }

    /// True if ext4 itself is damaged. After `FS_IOC_SHUTDOWN` that happens once in some thousand cuts: operations of the file system
    /// that are under way fail half-way, and what they did may still be committed. No power cut does that.
    ///
    /// # Errors
    /// The system's: no e2fsck.
    pub fn is_damaged(&mut self) -> io::Result<bool> {
        if self.device.is_some() {
            self.unmount()?;
        }
        // The journal is replayed by the kernel, as always.
        if self.mount().and_then(|()| self.unmount()).is_err() {
            return Ok(true);
        }
        let (_device, path) = loop_over(&self.memory)?;
        let status = Command::new("e2fsck")
            .arg("-fn")
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        Ok(!status.success())
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.device.is_some()
            && let Ok(target) = c_path(&self.mount_point)
        {
            // SAFETY: a NUL-terminated path. If it fails, the end of the namespace does it.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// A file of `bytes` in memory that has no name.
fn memory(bytes: u64) -> io::Result<File> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: a NUL-terminated name.
    let descriptor = unsafe { libc::memfd_create(c"treering-hunt".as_ptr(), flags) };
    check(descriptor)?;
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    let file = unsafe { File::from_raw_fd(descriptor) };
    file.set_len(bytes)?;
    Ok(file)
}

/// A copy that takes writes, as sparse as the original.
fn copy_of(original: &File) -> io::Result<File> {
    let length = original.metadata()?.len();
    let copy = memory(length)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while let Some(data) = seek(original, offset, libc::SEEK_DATA)? {
        let end = seek(original, data, libc::SEEK_HOLE)?.unwrap_or(length);
        offset = data;
        while offset < end {
            let piece = buffer.len().min((end - offset) as usize);
            original.read_exact_at(&mut buffer[..piece], offset)?;
            copy.write_all_at(&buffer[..piece], offset)?;
            offset += piece as u64;
        }
    }
    Ok(copy)
}

/// The next data or hole at or behind `offset`, if there is any.
fn seek(file: &File, offset: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    // SAFETY: a plain system call on a descriptor that we own.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset as i64, whence) };
    match u64::try_from(found) {
        Ok(found) => Ok(Some(found)),
        Err(_) => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
            error => Err(error),
        },
    }
}

/// A loop device over `file`, which goes when the last descriptor and mount of it do.
fn loop_over(file: &File) -> io::Result<(File, PathBuf)> {
    let open = |path: &str| OpenOptions::new().read(true).write(true).open(path);
    let control = open("/dev/loop-control")?;
    // SAFETY: all zeros is a valid configuration.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.descriptor = file.as_raw_fd() as u32;
    config.flags = LO_FLAGS_AUTOCLEAR;
    for _ in 0..TRIES_MAX {
        // SAFETY: a plain call without memory.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        check(number)?;
        let path = format!("/dev/loop{number}");
        let device = open(&path)?;
        // SAFETY: the structure that the call reads, laid out as the kernel has it.
        match check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) }) {
            Ok(()) => return Ok((device, PathBuf::from(path))),
            // Somebody else took it in between.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EBUSY))
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

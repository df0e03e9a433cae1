//! An ext4 of 64 MiB on a device that takes 12: writes into the page cache succeed, and the sync finds out.
//!
//! The loop device of Linux 6.18 calls a request a success that its file took in part only: the sync says Ok and the end of
//! the request is gone. No database survives such a device, so requests are cut to one page, which is taken or refused; the
//! blocks of the file system are pages too (see `Image`), or a request could still reach over two of them.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "mounts are made with real files"
)]

use crate::world::{Image, Plug};
use std::ffi::{CStr, CString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the file system believes.
const BYTES_SAID: u64 = 64 << 20;
const REALLY: &CStr = c"size=12m";
const GROWN: &CStr = c"size=96m";

/// One page.
const REQUEST_KIB: &str = "4";

/// The file system, the memory below it, and where both are mounted. Made in a private mount namespace.
#[derive(Debug)]
pub(super) struct ThinDisk {
    image: Image,
    memory: PathBuf,
    mount_point: PathBuf,
    /// Where the largest request of the device is said, and what it was: as long as the device is ours.
    request_limit: Option<(PathBuf, String)>,
    _directory: tempfile::TempDir,
}

/// True if such a disk can be made here: root, a loop device and mkfs.ext4.
pub(super) fn is_possible() -> bool {
    // SAFETY: it cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let there = |path: &str| Path::new(path).exists();
    is_root
        && there("/dev/loop-control")
        && (there("/usr/sbin/mkfs.ext4") || there("/sbin/mkfs.ext4"))
}

impl ThinDisk {
    pub(super) fn make() -> io::Result<ThinDisk> {
        let directory = tempfile::Builder::new().prefix("treering-hunt-").tempdir()?;
        let memory = directory.path().join("memory");
        let mount_point = directory.path().join("mount");
        std::fs::create_dir(&memory)?;
        std::fs::create_dir(&mount_point)?;
        mount_memory(&memory, REALLY, 0)?;
        let path = memory.join("image");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(BYTES_SAID)?;
        let image = Image::make_in(file, &mount_point)?;
        let device = image.device_name().expect("an image that was made is mounted");
        let limit = Path::new("/sys/block").join(device).join("queue/max_sectors_kb");
        let before = std::fs::read_to_string(&limit)?;
        std::fs::write(&limit, REQUEST_KIB)?;
        let request_limit = Some((limit, before));
        Ok(ThinDisk { image, memory, mount_point, request_limit, _directory: directory })
    }

    /// Where the database goes.
    pub(super) fn directory(&self) -> PathBuf {
        self.mount_point.join("db")
    }

    /// From now on the device takes everything.
    pub(super) fn grow(&self) -> io::Result<()> {
        mount_memory(&self.memory, GROWN, libc::MS_REMOUNT)
    }

    /// The power goes, `end` closes all files, and it comes back with a device that takes everything: a replay of the journal
    /// that meets a full device is the file system's own misfortune.
    pub(super) fn cut_power(&mut self, end: impl FnOnce()) -> io::Result<()> {
        self.image.pull(Plug::JournalLost)?;
        end();
        self.restore_limit();
        self.image.unmount()?;
        self.grow()?;
        self.image.mount()
    }
}

impl ThinDisk {
    /// While nobody else can have the device: another disk of this kind would lose its own limit, and meet requests that are taken
    /// in part. Whoever has it next only loses speed if this fails.
    fn restore_limit(&mut self) {
        if let Some((path, before)) = self.request_limit.take() {
            let _slower = std::fs::write(path, before);
        }
    }
}

impl Drop for ThinDisk {
    fn drop(&mut self) {
        self.restore_limit();
        let Ok(path) = CString::new(self.memory.as_os_str().as_bytes()) else { return };
        // SAFETY: a NUL-terminated path. If it fails, the end of the namespace does it.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn mount_memory(path: &Path, options: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes())?;
    let kind = c"tmpfs".as_ptr();
    // SAFETY: NUL-terminated strings.
    let result =
        unsafe { libc::mount(kind, target.as_ptr(), kind, flags, options.as_ptr().cast()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

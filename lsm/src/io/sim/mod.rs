//! The `sim` body: a disk in memory with a volatile and a durable half.
//!
//! Every file keeps what a reader sees now, what has certainly reached the device, and the ordered list of changes between
//! the two; every directory keeps the same for names. A power cut is then a choice: which of the pending changes survive,
//! whole or torn. It is meant to be harsher than any real disk that keeps its promises: what an engine survives here it
//! survives there, and each failure replays from its seed.
//!
//! Promises:
//! 1. `sync_data` makes the data and size of that file durable, not its name. `sync_directory` makes names durable, not data.
//!    A `durable` write covers its own bytes, and the size if it extends the file: it is then exactly that size, whatever becomes of
//!    older changes. Direct writes are unsynced like all others.
//! 2. A pending write survives in any subset of its sectors (512 or 4096 bytes); lost ones show what was there before, or
//!    zeros beyond the old size. Size and data survive independently, and the size may stop at a sector inside the write. Where
//!    pending writes overlap, a sector shows any one state of its history, but never bytes that were not written there.
//!    Bytes that a shrink cut off may come back until the shrink is synced, and never after.
//! 3. Pending creates, renames and unlinks survive or vanish each on its own. A rename is atomic: its file has one name. A file that lost
//!    its name keeps its bytes for as long as a power cut may bring the name back.
//! 4. A page of a shared map shows, after a power cut, its current bytes, older ones, or the durable ones. A `sync_data` of the
//!    file covers the map.
//! 5. After a failed `sync_data` the changes of that moment are never durable by a later sync (as Linux drops dirty
//!    pages whose writeback failed); they survive a power cut by luck only.
//! 6. Used by one thread, the same calls and seed give the same results and the same [`SimDisk::trace`].
//!
//! Left out: permissions, links, timing; a failed sync after which the page cache forgets what it could not write (here reads
//! see it until the power goes). Space is accounted by file size, holes included, and free at the last close. Directories are durable once made (as the
//! trait says); there is no way to remove one.

mod file;
mod image;
mod inode;
mod map;
mod names;
mod queue;
mod state;
#[cfg(test)]
mod tests;

pub use super::fault::{Call, Fault, FaultKind, Fired};
pub use image::{LossModel, PendingChange};

use super::fault::Target;
use super::{Disk, File, Lock, OpenMode, Queue, SharedMap};
use crate::base::sync::DeviceMutex;
use file::SimFile;
use map::SimMap;
use names::{NameChange, normal};
use queue::SimQueue;
use state::{Request, State, Verdict, errno};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What `free_bytes` answers while no limit is set.
const FREE_BYTES_UNLIMITED: u64 = 1 << 40;

/// A simulated disk. Clones are handles of the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<DeviceMutex<State>>,
}

impl SimDisk {
    /// An empty disk. `seed` decides the order of queued completions, partial effects of failed calls and snapshots of maps.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk::from_state(State::new(seed))
    }

    fn from_state(state: State) -> SimDisk {
        SimDisk { state: Arc::new(DeviceMutex::new(state)) }
    }

    /// Calls of the disk, its files and queues so far; the first one has index 0. A queued request counts when it is
    /// carried out, once for each transfer.
    pub fn io_count(&self) -> u64 {
        self.state.lock().io_count
    }

    /// Cuts the power at the call with this index: that call fails with EIO after perhaps part of its effect, every later one
    /// fails without any.
    pub fn cut_power_at(&self, index: u64) {
        self.state.lock().cut_at = Some(index);
    }

    /// True once the cut has happened.
    pub fn power_is_cut(&self) -> bool {
        self.state.lock().dead
    }

    /// Injects a fault at the call with this index; with `once` false, also at all later calls.
    /// A fault that cannot apply (a short transfer of something else than a read or write) does nothing and does not count as fired.
    pub fn fail_at(&self, index: u64, fault: impl Into<Fault>, once: bool) {
        self.state.lock().faults.at(index, fault.into(), once);
    }

    /// Injects a fault at the first call (with `once` false: at every call) that `matches` picks by kind and path.
    pub fn fail_matching(
        &self,
        matches: impl Fn(Call, &Path) -> bool + Send + Sync + 'static,
        fault: impl Into<Fault>,
        once: bool,
    ) {
        self.state.lock().faults.matching(Arc::new(matches), fault.into(), once);
    }

    /// Removes all faults that are still armed, and the power cut if it has not happened.
    pub fn clear_faults(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        if !state.dead {
            state.cut_at = None;
        }
    }

    /// Faults that have fired, refusals for lack of space included. A run with 0 here has proved nothing.
    pub fn fired(&self) -> u64 {
        self.state.lock().faults.fired.total()
    }

    /// Faults that have fired, by call and kind.
    pub fn fired_by(&self) -> Fired {
        self.state.lock().faults.fired.clone()
    }

    /// Limits the space left; `None` takes the limit away.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.state.lock().free = free;
    }

    /// Running hash of all calls so far: kind, path, offset, length, and the bytes of writes.
    pub fn trace(&self) -> u64 {
        self.state.lock().trace
    }

    /// Hash of all names and of what a reader of their files sees now. Equal disks have equal fingerprints, whatever made them.
    pub fn fingerprint(&self) -> u64 {
        self.state.lock().fingerprint()
    }

    /// The disk as the next process finds it after this one died: nothing is lost, maps included; what was pending
    /// still is; locks are free. Queued requests that were not carried out never happen. Faults, cut and counters start anew.
    ///
    /// Threads that still store into a map meanwhile have each 8-byte word of it taken before or after their store.
    pub fn after_kill(&self) -> SimDisk {
        SimDisk::from_state(self.state.lock().after_kill())
    }

    /// A disk as it may come back after the power went at this moment. The same seed on the same state gives the same disk.
    pub fn after_power_cut(&self, seed: u64, model: LossModel) -> SimDisk {
        SimDisk::from_state(self.state.lock().after_power_cut(seed, model))
    }

    /// Every change that is not durable yet, in the order of issue: names, writes, sizes, and each mapped file as one change.
    pub fn pending(&self) -> Vec<PendingChange> {
        self.state.lock().pending()
    }

    /// A power cut that keeps exactly the pending changes whose number `keep` accepts, whole, with their sizes.
    /// With [`pending`](SimDisk::pending) this walks every subset of a small world.
    pub fn after_power_cut_keeping(&self, keep: impl Fn(u64) -> bool) -> SimDisk {
        SimDisk::from_state(self.state.lock().after_power_cut_keeping(&keep))
    }

    /// Flips the bit `bit` of a file as it is now, in both halves: damage at rest.
    ///
    /// # Errors
    /// `NotFound` if there is no such file or it is not that long.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let id = state.find(&normal(path))?;
        if state.inode(id).flip_bit(bit) { Ok(()) } else { Err(errno(libc::ENOENT)) }
    }

    /// Carries out a call that is not a transfer. A power cut strikes before or after its effect, by chance; an injected
    /// error before it.
    fn named<T>(
        &self,
        call: Call,
        path: &Path,
        body: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.state.lock();
        match state.begin(&Request::of(Target::named(call, path)))? {
            Verdict::Cut => {
                if state.random.one_in(2) {
                    let _the_cut_wins = body(&mut state);
                }
                Err(errno(libc::EIO))
            }
            Verdict::Fail(code) => Err(errno(code)),
            _ => body(&mut state),
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.state.try_lock() {
            Some(state) => write!(f, "SimDisk({} calls)", state.io_count),
            None => f.write_str("SimDisk(busy)"),
        }
    }
}

impl Disk for SimDisk {
    fn name(&self) -> &'static str {
        "sim"
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.named(Call::CreateDirectory, &path, |state| state.create_directory(&path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let path = normal(path);
        self.named(Call::List, &path, |state| state.names.list(&path))
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let normal_path = normal(path);
        let id = self.named(Call::Open, &normal_path, |state| {
            let id = match state.names.lookup(&normal_path)? {
                Some(_) if mode.create && mode.exclusive => return Err(errno(libc::EEXIST)),
                Some(id) => id,
                None if mode.create => state.create_file(&normal_path),
                None => return Err(errno(libc::ENOENT)),
            };
            state.inode(id).handles += 1;
            Ok(id)
        })?;
        Ok(Arc::new(SimFile::new(self.state.clone(), id, path.to_owned(), normal_path, mode)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.named(Call::Remove, &path, |state| {
            let file = state.find(&path)?;
            state.change_names(NameChange::Unlink { path: path.clone(), file });
            state.let_go(file);
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.named(Call::Rename, &from, |state| {
            let file = state.find(&from)?;
            let replaced = state.names.lookup(&to)?;
            if replaced != Some(file) {
                state.change_names(NameChange::Rename { from: from.clone(), to: to.clone(), file });
                replaced.into_iter().for_each(|file| state.let_go(file));
            }
            Ok(())
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.named(Call::Link, &from, |state| {
            let file = state.find(&from)?;
            if state.names.lookup(&to)?.is_some() {
                return Err(errno(libc::EEXIST));
            }
            state.change_names(NameChange::Create { path: to.clone(), file });
            Ok(())
        })
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut state = self.state.lock();
        match state.begin(&Request::of(Target::named(Call::SyncDirectory, &path)))? {
            Verdict::Cut => Err(errno(libc::EIO)),
            Verdict::Fail(code) => Err(errno(code)),
            Verdict::Ignore => Ok(()),
            _ => state.sync_directory(&path),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let path = normal(path);
        let file = self.named(Call::Lock, &path, |state| {
            let file = match state.names.lookup(&path)? {
                Some(file) => file,
                None => state.create_file(&path),
            };
            if state.locks.contains_key(&file) {
                return Err(errno(libc::EWOULDBLOCK));
            }
            state.locks.insert(file, 0);
            Ok(file)
        })?;
        Ok(Box::new(SimLock { state: self.state.clone(), file }))
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let path = normal(path);
        let file = self.named(Call::Lock, &path, |state| {
            let file = state.find(&path)?;
            let held = state.locks.entry(file).or_insert(1);
            match *held {
                0 => return Err(errno(libc::EWOULDBLOCK)),
                _ => *held += 1,
            }
            Ok(file)
        })?;
        Ok(Box::new(SimLock { state: self.state.clone(), file }))
    }

    fn map_shared(&self, path: &Path, length: usize) -> io::Result<Box<dyn SharedMap>> {
        let path = normal(path);
        let memory = self.named(Call::Map, &path, |state| {
            let id = match state.names.lookup(&path)? {
                Some(id) => id,
                None => state.create_file(&path),
            };
            state.map(id, length)
        })?;
        Ok(Box::new(SimMap::new(memory, length)))
    }

    fn queue(&self, depth: usize) -> Box<dyn Queue> {
        let seed = self.state.lock().random.next_u64();
        Box::new(SimQueue::new(depth, seed))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = normal(path);
        self.named(Call::FreeBytes, &path, |state| Ok(state.free.unwrap_or(FREE_BYTES_UNLIMITED)))
    }
}

/// A held lock; gives it back on drop.
struct SimLock {
    state: Arc<DeviceMutex<State>>,
    file: names::FileId,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        // A shared lock is counted from 2 on: the first one has put 1 there for itself.
        match state.locks.get_mut(&self.file) {
            Some(held) if *held > 2 => *held -= 1,
            _ => {
                state.locks.remove(&self.file);
                state.let_go(self.file);
            }
        }
    }
}

impl fmt::Debug for SimLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLock({})", self.file)
    }
}

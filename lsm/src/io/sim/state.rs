//! Everything that a simulated disk holds, behind one mutex: names, files, locks, faults and the count of calls.

use super::inode::{Inode, Standing};
use super::map::MapMemory;
use super::names::{FileId, NameChange, Names};
use crate::base::random::Random;
use crate::io::fault::{Call, Fault, FaultKind, Faults, Target};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A picture of every map is taken at one call in so many.
const SNAPSHOT_ONE_IN: u64 = 64;

pub(super) fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// A call as it is counted, traced and judged.
pub(super) struct Request<'a> {
    pub(super) target: Target<'a>,
    pub(super) offset: u64,
    /// CRC of the bytes of a write.
    pub(super) checksum: u32,
}

impl<'a> Request<'a> {
    pub(super) fn of(target: Target<'a>) -> Request<'a> {
        Request { target, offset: 0, checksum: 0 }
    }
}

/// How a call goes on.
pub(super) enum Verdict {
    Proceed,
    /// The power goes during this call.
    Cut,
    Fail(i32),
    Short(usize),
    Flip,
    /// Says Ok and makes nothing durable.
    Ignore,
}

pub(super) struct State {
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// Changes of names that are not durable, with their numbers.
    pub(super) name_changes: Vec<(u64, NameChange)>,
    pub(super) inodes: BTreeMap<FileId, Inode>,
    /// Held lock files, with how often: 0 for one that is held exclusively.
    pub(super) locks: BTreeMap<FileId, u64>,
    pub(super) free: Option<u64>,
    pub(super) random: Random,
    pub(super) io_count: u64,
    pub(super) cut_at: Option<u64>,
    pub(super) dead: bool,
    pub(super) faults: Faults,
    /// The call that is being carried out, for the counts.
    call: Call,
    pub(super) trace: u64,
    next_file: FileId,
    next_sequence: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        State {
            names: Names::new(),
            durable_names: Names::new(),
            name_changes: Vec::new(),
            inodes: BTreeMap::new(),
            locks: BTreeMap::new(),
            free: None,
            random: Random::new(seed),
            io_count: 0,
            cut_at: None,
            dead: false,
            faults: Faults::default(),
            call: Call::List,
            trace: 0,
            next_file: 1,
            next_sequence: 1,
        }
    }

    /// A state with these names and files, and all counters anew.
    pub(super) fn successor(&self, seed: u64) -> State {
        State {
            free: self.free,
            next_file: self.next_file,
            next_sequence: self.next_sequence,
            ..State::new(seed)
        }
    }

    /// Counts and traces a call and says how it goes on.
    ///
    /// # Errors
    /// EIO once the power is cut.
    pub(super) fn begin(&mut self, request: &Request<'_>) -> io::Result<Verdict> {
        let index = self.io_count;
        self.io_count += 1;
        self.call = request.target.call;
        self.add_to_trace(request);
        if self.dead {
            return Err(errno(libc::EIO));
        }
        if self.random.one_in(SNAPSHOT_ONE_IN) {
            for inode in self.inodes.values_mut() {
                inode.snapshot_map(&mut self.random);
            }
        }
        if self.cut_at.is_some_and(|cut| index >= cut) {
            self.dead = true;
            return Ok(Verdict::Cut);
        }
        Ok(match self.faults.take(index, &request.target) {
            // The real bodies try again; the second try succeeds. There is no time here to delay.
            None | Some(Fault::Error(libc::EINTR) | Fault::Delay(_)) => Verdict::Proceed,
            Some(Fault::Error(code)) => Verdict::Fail(code),
            Some(Fault::Short) => {
                Verdict::Short(request.target.shortened().unwrap_or(request.target.length))
            }
            Some(Fault::Flip) => Verdict::Flip,
            Some(Fault::SyncIgnored) => Verdict::Ignore,
        })
    }

    fn add_to_trace(&mut self, request: &Request<'_>) {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(request.target.call as u8);
        bytes.extend_from_slice(request.target.path.as_os_str().as_encoded_bytes());
        bytes.extend_from_slice(&request.offset.to_le_bytes());
        bytes.extend_from_slice(&(request.target.length as u64).to_le_bytes());
        bytes.extend_from_slice(&request.checksum.to_le_bytes());
        self.trace = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes, self.trace);
    }

    pub(super) fn sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    /// The file at `path`, or ENOENT.
    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        self.names.lookup(path)?.ok_or_else(|| errno(libc::ENOENT))
    }

    pub(super) fn inode(&mut self, id: FileId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("a name or handle keeps the file")
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        self.names.create_directory(path)?;
        self.durable_names.create_directory(path)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> FileId {
        let file = self.next_file;
        self.next_file += 1;
        self.inodes.insert(file, Inode::new());
        self.change_names(NameChange::Create { path: path.to_owned(), file });
        file
    }

    pub(super) fn change_names(&mut self, change: NameChange) {
        self.names.apply(&change);
        let sequence = self.sequence();
        self.name_changes.push((sequence, change));
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        if !self.names.is_directory(path) {
            return Err(errno(libc::ENOENT));
        }
        let (durable, pending) = std::mem::take(&mut self.name_changes)
            .into_iter()
            .partition::<Vec<_>, _>(|(_, change)| change.touches(path));
        self.name_changes = pending;
        let mut replaced = Vec::new();
        for (_, change) in &durable {
            if let NameChange::Rename { to, .. } = change {
                replaced.extend(self.durable_names.lookup(to).ok().flatten());
            }
            self.durable_names.apply(change);
        }
        let files = durable.iter().map(|(_, change)| change.file()).chain(replaced);
        files.for_each(|file| self.collect(file));
        Ok(())
    }

    /// Forgets a file that no name and no handle can reach any more, in either half.
    pub(super) fn collect(&mut self, file: FileId) {
        let linked = self.names.contains(file);
        let idle = self.inodes.get(&file).is_some_and(|inode| inode.handles == 0);
        if linked || !idle || self.locks.contains_key(&file) {
            return;
        }
        let reachable = self.durable_names.contains(file)
            || self.name_changes.iter().any(|(_, change)| change.file() == file);
        if !reachable {
            self.inodes.remove(&file);
        }
    }

    /// A name or an open file of the file went.
    pub(super) fn let_go(&mut self, file: FileId) {
        self.free_space(file);
        self.collect(file);
    }

    /// Gives back the space of a file that has no name and that nobody has open. Its bytes stay as long as a power cut may
    /// bring a name back.
    pub(super) fn free_space(&mut self, file: FileId) {
        if self.names.contains(file) || self.locks.contains_key(&file) {
            return;
        }
        if let Some(inode) = self.inodes.get_mut(&file).filter(|i| i.handles == 0 && !i.freed) {
            inode.freed = true;
            let bytes = inode.size();
            self.give_back(bytes);
        }
    }

    /// Bytes that are taken.
    pub(super) fn used(&self) -> u64 {
        self.inodes.values().filter(|inode| !inode.freed).map(Inode::size).sum()
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        self.free = self.free.map(|free| free + bytes);
    }

    /// Takes space for growth; false if there is not enough.
    pub(super) fn take_space(&mut self, bytes: u64) -> bool {
        match &mut self.free {
            Some(free) if *free < bytes => {
                self.faults.fired.add(self.call, FaultKind::Full);
                false
            }
            Some(free) => {
                *free -= bytes;
                true
            }
            None => true,
        }
    }

    pub(super) fn map(&mut self, id: FileId, length: usize) -> io::Result<Arc<MapMemory>> {
        if length == 0 {
            return Err(errno(libc::EINVAL));
        }
        let size = self.inode(id).size();
        let missing = (length as u64).saturating_sub(size);
        if !self.take_space(missing) {
            return Err(errno(libc::ENOSPC));
        }
        if missing > 0 {
            let sequence = self.sequence();
            self.inode(id).write(sequence, size, &vec![0; missing as usize], Standing::Pending);
        }
        let sequence = self.sequence();
        self.inode(id).map(sequence, length).ok_or_else(|| errno(libc::EBUSY))
    }
}

//! The write-ahead log: every commit goes here before it is acknowledged.
//!
//! ```text
//! append ──► ring (mapped file, survives kill -9) ──drain, 256 KiB──► segment files (survive power loss once synced)
//!   LSN:  │ segment 4, released │ segment 5 │ segment 6 ··written··│··only in the ring··│
//!                                                 durable ▲  drained ▲          appended ▲
//! ```
//!
//! An append is a copy into the ring: no system call, no heap allocation. Whole 4 KiB blocks leave the ring later, past
//! the page cache, in the background (`drain`), by the appender itself when the ring is full, or by a sync. A write per
//! append would cost ten times as much, and a mapped segment file pays a page fault for each page.
//! The bytes are drawn in [`format::log`](crate::format::log).
//!
//! Promises:
//! 1. After `append` returned, its record survives the death of the process. Without a mapped ring (the file system has no
//!    shared maps) every append writes to its segment before it returns.
//! 2. After `sync(upto)` returned, everything below `upto` survives the loss of power. What survives is always a prefix
//!    of the appends: recovery stops at the first gap.
//! 3. A sync writes into space that was written before where it can (recycled segments, or zeros that `drain` puts ahead
//!    once somebody has asked for a sync): growing a file costs a journal commit.
//! 4. Damage below a promised point is an error, damage above is a torn tail. Promises stand in the log itself (a sync
//!    mark before the next append), in the ring's header, and in the manifest (`promised` of [`recover`]).
//! 5. The position of a segment is fixed when it is opened, and needs no I/O then. Its header block is written with its
//!    first bytes and synced with the first sync, together with the directory if the file is new.
//!
//! When writing fails:
//! - An error of the device (EIO and all but a full disk) poisons the log: this call and all later appends and syncs
//!   return the same error, every member of the sync group included, and nothing is written or synced any more. What
//!   is in the ring can still be recovered by opening the database again.
//! - A failed `sync_data` or `sync_directory` poisons whatever its error is, a full disk too: the kernel may have
//!   dropped the pages, and a second sync would lie.
//! - A full disk met by a write or by making a file poisons nothing: the bytes stay in the ring, so what was acknowledged as
//!   Buffered is as safe as before, and the next drain writes all of them again. Appends go on until the ring is full; then
//!   they return `NoSpace` and leave nothing behind: a record that fits half the ring is refused before its first byte,
//!   and a longer one stays unfinished in the log, which recovery skips. In plain memory the record may already be
//!   partly written: a Cancel behind it takes it back. A sync that meets a full disk returns
//!   `NoSpace`: its records are in the log, not durable, and a later sync may succeed.
//!
//! Locks, in the order in which they are taken: appender, writer, layout. The caller serialises appends anyway (its commit
//! lock decides the order of commits); the appender's lock is there so that a mistake is slow and not undefined.
//!
//! Left out: compression of records, and several logs per database: one log is one order.

mod appender;
#[cfg(test)]
mod crash_tests;
mod group;
#[cfg(all(test, loom))]
mod loom_models;
mod recover;
mod ring;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::histogram::Histogram;
use crate::base::planted::{Bug, planted};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::format::log;
use crate::io::Disk;
use appender::Appender;
use group::SyncGroup;
use log::{FRAME_BYTES, frame_ceil};
use ring::Ring;
use segment::Layout;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use writer::Writer;

pub use log::Lsn;
pub use recover::{Apply, Recovered, recover, walk};

/// Smallest ring: a drain of one piece must leave room to go on.
const RING_BYTES_MIN: u64 = if cfg!(loom) { 32 << 10 } else { 128 << 10 };
/// Largest ring: what a writer at full speed logs while the device stands still for a quarter of a second. Over 15 s of
/// overwriting, the longest put took 159 to 196 ms with 4 MiB and 26 to 88 with 32 MiB (2 cores, a shared device).
const RING_BYTES_MAX: u64 = 32 << 20;
/// Undrained bytes at which a drain is worth a write.
const DRAIN_BYTES: u64 = 2 << 20;

/// Sizes and clock of a log.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Bytes of the resident ring, a multiple of 32 KiB, at least 128 KiB.
    pub ring_bytes: u64,
    /// Log bytes of a segment file, a multiple of 32 KiB.
    pub segment_bytes: u64,
    /// Free segment files that are kept for reuse.
    pub spare_slots: usize,
    /// For the bounded wait of group sync.
    pub clock: Arc<dyn Clock>,
}

impl WalOptions {
    /// Sizes that suit memtables of `bytes`: one segment per memtable, and a ring of half of it up to 32 MiB.
    pub fn for_write_buffer(bytes: u64, clock: Arc<dyn Clock>) -> WalOptions {
        WalOptions {
            ring_bytes: frame_ceil((bytes / 2).clamp(RING_BYTES_MIN, RING_BYTES_MAX)),
            segment_bytes: frame_ceil(bytes.clamp(256 << 10, 1 << 30)),
            spare_slots: 2,
            clock,
        }
    }
}

/// Which part of the stream of log bytes counts: the manifest keeps it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogStart {
    /// Number of the run; raised, durably, before a log is created with it, and never used twice.
    pub epoch: u64,
    /// First byte that counts; rounded up to a multiple of 32 KiB by everybody.
    pub lsn: Lsn,
}

/// Counters of a log since it was created.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WalStats {
    /// Log bytes appended, framing included.
    pub appended_bytes: u64,
    /// Log bytes that are durable.
    pub durable_bytes: u64,
    /// Syncs of the device; one may serve many callers.
    pub syncs: u64,
    /// Segments in use.
    pub segments: u64,
    /// True where the ring is mapped.
    pub shared_ring: bool,
}

/// Keeps counters of different threads on lines of their own.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

/// The open log of a database.
#[derive(Debug)]
pub struct Wal {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: WalOptions,
    start: LogStart,
    ring: Ring,
    layout: Layout,
    appender: Mutex<Appender>,
    writer: Mutex<Writer>,
    group: SyncGroup,
    /// End of what is in the ring.
    appended: Padded<AtomicU64>,
    /// Start of what must stay in the ring: whole blocks below are in segments.
    drained: Padded<AtomicU64>,
    /// Everything below is on stable storage.
    durable: AtomicU64,
    /// The first failure of the device, or `Closed`.
    failure: OnceLock<Error>,
    sync_seen: AtomicBool,
    /// There is space to be written ahead of the syncs.
    chores: AtomicBool,
    syncs: AtomicU64,
    /// How long they take, if somebody wants to know.
    sync_times: OnceLock<Arc<Histogram>>,
}

impl Wal {
    /// Begins an empty log at `start`. `reusable` are the numbers of segment files that nobody needs any more (those that
    /// [`recover`] found); they are reused in place, and so is the ring. So call it only once the manifest says durably that
    /// the log starts here, with this epoch.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::NoSpace`] if a file cannot be opened.
    pub fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        options: WalOptions,
        start: LogStart,
        reusable: &[u64],
    ) -> Result<Wal> {
        let check = |bytes: u64, min: u64, name: &'static str| {
            if bytes < min || !bytes.is_multiple_of(FRAME_BYTES as u64) || bytes > 1 << 31 {
                let detail = format!("{bytes} bytes given; a multiple of {FRAME_BYTES} needed");
                return Err(Error::invalid_option(name, detail));
            }
            Ok(())
        };
        check(options.ring_bytes, RING_BYTES_MIN, "ring_bytes")?;
        check(options.segment_bytes, FRAME_BYTES as u64, "segment_bytes")?;
        let start = LogStart { lsn: frame_ceil(start.lsn), ..start };
        let writer = Writer::open(&**disk, directory, &options, reusable)?;
        let ring = Ring::new(&**disk, directory, start.epoch, options.ring_bytes as usize);
        Ok(Wal {
            disk: disk.clone(),
            directory: directory.to_owned(),
            start,
            ring,
            layout: Layout::new(start.lsn, options.segment_bytes),
            appender: Mutex::new(Appender::new(start.lsn, &options)),
            writer: Mutex::new(writer),
            group: SyncGroup::new(),
            appended: Padded(AtomicU64::new(start.lsn)),
            drained: Padded(AtomicU64::new(start.lsn)),
            durable: AtomicU64::new(start.lsn),
            failure: OnceLock::new(),
            sync_seen: AtomicBool::new(false),
            chores: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            sync_times: OnceLock::new(),
            options,
        })
    }

    /// Makes everything below `upto` (what `append` returned) survive the loss of power. Call it without the commit lock,
    /// from any thread: callers that come together share one write.
    ///
    /// # Errors
    /// The error that poisoned the log, or [`Error::NoSpace`]; see the opening of this file.
    pub fn sync(&self, upto: Lsn) -> Result<()> {
        let upto = upto.min(self.appended_lsn());
        if self.durable_lsn() >= upto {
            return Ok(());
        }
        self.sync_seen.store(true, Ordering::Relaxed);
        let mut outcome = Ok(());
        self.group.run(&*self.options.clock, || outcome = self.make_durable_timed());
        if self.durable_lsn() >= upto {
            return Ok(());
        }
        self.check()?;
        outcome?;
        // A follower of a group whose leader met a full disk.
        Err(Error::NoSpace { path: self.directory.clone() })
    }

    /// Has the time of every sync counted from now on.
    pub fn time_syncs(&self, times: &Arc<Histogram>) {
        self.sync_times.get_or_init(|| Arc::clone(times));
    }

    fn make_durable_timed(&self) -> Result<()> {
        let Some(times) = self.sync_times.get() else { return self.make_durable() };
        let began = self.options.clock.now();
        let result = self.make_durable();
        times.record(self.options.clock.now().saturating_sub(began));
        result
    }

    /// True when [`drain`](Wal::drain) has work that is worth a background thread's while. Costs two loads.
    #[inline]
    pub fn wants_drain(&self) -> bool {
        let undrained = self.appended_lsn().saturating_sub(self.drained.0.load(Ordering::Relaxed));
        undrained >= DRAIN_BYTES.min(self.ring.capacity() / 4)
            || self.chores.load(Ordering::Relaxed)
    }

    /// Everything below is in the log.
    #[inline]
    pub fn appended_lsn(&self) -> Lsn {
        self.appended.0.load(Ordering::Acquire)
    }

    /// Everything below survives the loss of power. Good for the manifest's `promised`.
    #[inline]
    pub fn durable_lsn(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }

    /// Makes everything durable and takes no more. The second call does nothing.
    ///
    /// # Errors
    /// As [`sync`](Wal::sync); the log is closed all the same.
    pub fn close(&self) -> Result<()> {
        if matches!(self.failure.get(), Some(Error::Closed)) {
            return Ok(());
        }
        let result = self.sync(self.appended_lsn());
        if result.is_ok() {
            self.remove_spares();
        }
        self.abandon();
        result
    }

    /// Takes no more, and leaves the device alone: whoever still waits for a sync gets an error. Afterwards nothing of this log
    /// touches a file, so the next opening may have them.
    pub fn abandon(&self) {
        // Under the lock: somebody else's sync may have been the last, and still have its promise to write into the ring.
        let _nobody_writes = self.writer.lock();
        let _an_earlier_failure_stays = self.failure.set(Error::Closed);
    }

    /// Counters.
    pub fn stats(&self) -> WalStats {
        WalStats {
            appended_bytes: self.appended_lsn() - self.start.lsn,
            durable_bytes: self.durable_lsn() - self.start.lsn,
            syncs: self.syncs.load(Ordering::Relaxed),
            segments: self.layout.len() as u64,
            shared_ring: self.ring.is_shared(),
        }
    }

    /// The error of the first failure, if there was one.
    #[inline]
    fn check(&self) -> Result<()> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Poisons the log with `error`, or with the one that came before it.
    fn poison(&self, error: Error) -> Error {
        self.failure.get_or_init(|| error).clone()
    }

    /// What a failed write means: a full disk passes, everything else poisons.
    fn judge(&self, error: Error) -> Error {
        let passes = error.is_retry_safe() || planted(Bug::WalErrorForgotten);
        if passes { error } else { self.poison(error) }
    }
}

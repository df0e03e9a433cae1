//! One io_uring, made with the best flags that the kernel takes, and the idle rings of this thread.

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries of the largest ring; deeper queues wait inside `push`.
pub(super) const ENTRY_COUNT_MAX: usize = 256;
/// Entries of the smallest ring, so that most queues fit the ring that is there.
const ENTRY_COUNT_MIN: usize = 64;
/// Idle rings that a thread keeps.
const IDLE_RINGS_MAX: usize = 3;
/// Tries of an enter that the kernel answers with "busy" or "no memory now" before the ring counts as failed.
const BUSY_TRIES_MAX: usize = 10_000;

/// How a ring is set up, best first.
#[derive(Clone, Copy, Debug)]
enum Flavour {
    /// Completions are worked off when the owner asks: no interrupts of its own work. Linux 6.1.
    DeferTaskrun,
    /// Completions wait for the next system call. Linux 5.19.
    CoopTaskrun,
    Plain,
}

const FLAVOURS: [Flavour; 3] = [Flavour::DeferTaskrun, Flavour::CoopTaskrun, Flavour::Plain];

/// Index of the first flavour that this kernel has not refused.
static FLAVOUR: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IDLE: RefCell<Vec<Ring>> = const { RefCell::new(Vec::new()) };
}

/// A ring of this thread, with nothing in flight while it is idle.
pub(super) struct Ring {
    ring: IoUring,
}

impl Ring {
    /// An idle ring of this thread with room for `depth` requests, or a new one.
    pub(super) fn take(depth: usize) -> io::Result<Ring> {
        let entries = depth.next_power_of_two().clamp(ENTRY_COUNT_MIN, ENTRY_COUNT_MAX);
        let idle = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            let position = idle.iter().position(|ring| ring.entries() >= entries)?;
            Some(idle.swap_remove(position))
        });
        match idle {
            Ok(Some(ring)) => Ok(ring),
            _ => Ring::new(entries as u32),
        }
    }

    /// Keeps the ring for this thread's next queue. Nothing may be in flight or unsubmitted.
    pub(super) fn give_back(self) {
        // While the thread is ending there is no next queue; the ring is closed.
        let _ending = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < IDLE_RINGS_MAX {
                idle.push(self);
            }
        });
    }

    fn new(entries: u32) -> io::Result<Ring> {
        let mut refusal = io::Error::from_raw_os_error(libc::EINVAL);
        let first = FLAVOUR.load(Ordering::Relaxed);
        for (index, flavour) in FLAVOURS.iter().enumerate().skip(first) {
            let mut builder: io_uring::Builder<squeue::Entry, cqueue::Entry> = IoUring::builder();
            builder.dontfork();
            match flavour {
                Flavour::DeferTaskrun => builder.setup_single_issuer().setup_defer_taskrun(),
                Flavour::CoopTaskrun => builder.setup_coop_taskrun(),
                Flavour::Plain => &mut builder,
            };
            match builder.build(entries) {
                Ok(ring) => {
                    FLAVOUR.store(index, Ordering::Relaxed);
                    return Ok(Ring { ring });
                }
                // The kernel does not know the flags.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    /// Requests that may be in flight.
    pub(super) fn entries(&self) -> usize {
        self.ring.params().sq_entries() as usize
    }

    /// Queues an entry for the next [`enter`](Ring::enter).
    ///
    /// # Safety
    /// What the entry points to must live until its completion was seen, or for ever. No more entries are in flight than
    /// [`entries`](Ring::entries).
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller answers for the entry.
        unsafe { self.ring.submission().push(entry) }
            .expect("no more than `entries` are in flight, so one is free");
    }

    /// Submits what was pushed and waits for `wanted` completions.
    ///
    /// # Errors
    /// The ring is unusable, and what becomes of the requests in flight is unknown.
    pub(super) fn enter(&mut self, wanted: usize) -> io::Result<()> {
        for _ in 0..BUSY_TRIES_MAX {
            match self.ring.submit_and_wait(wanted) {
                Ok(_) if self.ring.submission().is_empty() => return Ok(()),
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Completions are waiting to be taken, or memory is short for a moment.
                    Some(libc::EBUSY | libc::EAGAIN) if !self.ring.completion().is_empty() => {
                        return Ok(());
                    }
                    Some(libc::EBUSY | libc::EAGAIN) => std::thread::yield_now(),
                    _ => return Err(error),
                },
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }

    /// The next completion that is there: its `user_data` and result.
    pub(super) fn pop(&mut self) -> Option<(u64, i32)> {
        self.ring.completion().next().map(|entry| (entry.user_data(), entry.result()))
    }

    /// Reads through the ring from a file in memory.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        const WORD: &[u8; 8] = b"treering";
        let file = memory_file(WORD)?;
        // The buffer is leaked if the ring fails under it.
        let mut target = std::mem::ManuallyDrop::new(Box::new([0u8; 8]));
        let descriptor = types::Fd(std::os::fd::AsRawFd::as_raw_fd(&file));
        let entry = opcode::Read::new(descriptor, target.as_mut_ptr(), 8).offset(0).build();
        // SAFETY: the target is leaked unless the completion was seen; the ring is empty.
        unsafe { self.push(&entry) };
        let result = loop {
            self.enter(1)?;
            if let Some((_, result)) = self.pop() {
                break result;
            }
        };
        let target = std::mem::ManuallyDrop::into_inner(target);
        match result {
            8 if *target == *WORD => Ok(()),
            code if code < 0 => Err(io::Error::from_raw_os_error(-code)),
            _ => Err(io::Error::other("the ring read other bytes than were written")),
        }
    }
}

/// A file without a name that holds `bytes`.
fn memory_file(bytes: &[u8]) -> io::Result<std::fs::File> {
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::FileExt;
    // SAFETY: a NUL-terminated name and a flag.
    let descriptor = unsafe { libc::memfd_create(c"treering-probe".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    let file = unsafe { std::fs::File::from_raw_fd(descriptor) };
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

//! One io_uring, made with the best flags that the kernel takes, and the idle rings of this thread.
//!
//! The queue sees it through [`Kernel`], so that `contract` can put a ring in its place that answers as badly as a kernel may.
//! The queue is monomorphised over it; the real one costs no indirection.

use crate::io::Operation;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries of the largest ring; deeper queues wait inside `push`.
pub(super) const ENTRY_COUNT_MAX: usize = 256;
/// Entries of the smallest ring, so that most queues fit the ring that is there.
const ENTRY_COUNT_MIN: usize = 64;
/// Idle rings that a thread keeps.
const IDLE_RINGS_MAX: usize = 3;
/// Tries of an enter that the kernel answers with "busy" or "no memory now" before the ring counts as failed.
pub(super) const BUSY_TRIES_MAX: usize = 10_000;

/// One transfer, as a ring is asked for it.
pub(super) struct Transfer {
    /// Comes back with the completion.
    pub(super) slot: u64,
    pub(super) operation: Operation,
    pub(super) descriptor: RawFd,
    pub(super) offset: u64,
    pub(super) pointer: *mut u8,
    pub(super) length: u32,
}

/// The kernel's side of a queue: a submission queue, a completion queue, and the call that moves them.
pub(super) trait Kernel: Send + Sized {
    /// Longest transfer of one entry, a multiple of `IO_ALIGN`; the rest follows in another.
    const TRANSFER_BYTES_MAX: usize;

    /// Requests that may be in flight.
    fn entries(&self) -> usize;

    /// Queues an entry for the next [`enter`](Kernel::enter).
    ///
    /// # Safety
    /// What the entry points to must live until its completion was seen, or for ever. No more entries are in flight than
    /// [`entries`](Kernel::entries).
    unsafe fn push(&mut self, transfer: &Transfer);

    /// One system call that submits what was pushed and waits for `wanted` completions. It may submit a part only.
    fn enter_once(&mut self, wanted: usize) -> io::Result<()>;

    /// Whether something was pushed and is not submitted.
    fn has_unsubmitted(&mut self) -> bool;

    /// Whether [`pop`](Kernel::pop) has something.
    fn has_completion(&mut self) -> bool;

    /// The next completion that is there: its slot and result.
    fn pop(&mut self) -> Option<(u64, i32)>;

    /// Lets others run before the next try.
    fn pause(&mut self);

    /// Takes the ring back for the next queue. Nothing may be in flight or unsubmitted.
    fn give_back(self);

    /// Submits what was pushed and waits for `wanted` completions. It may leave both to the next call, if completions are there to be taken.
    ///
    /// # Errors
    /// The ring is unusable, and what becomes of the requests in flight is unknown.
    fn enter(&mut self, wanted: usize) -> io::Result<()> {
        for _ in 0..BUSY_TRIES_MAX {
            match self.enter_once(wanted) {
                Ok(()) if !self.has_unsubmitted() => return Ok(()),
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // Completions are waiting to be taken, or memory is short for a moment.
                    Some(libc::EBUSY | libc::EAGAIN) if self.has_completion() => return Ok(()),
                    Some(libc::EBUSY | libc::EAGAIN) => self.pause(),
                    _ => return Err(error),
                },
            }
        }
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

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

    /// Reads through the ring from a file in memory.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        const WORD: &[u8; 8] = b"treering";
        let file = memory_file(WORD)?;
        // The buffer is leaked if the ring fails under it.
        let mut target = std::mem::ManuallyDrop::new(Box::new([0u8; 8]));
        let transfer = Transfer {
            slot: 0,
            operation: Operation::Read,
            descriptor: std::os::fd::AsRawFd::as_raw_fd(&file),
            offset: 0,
            pointer: target.as_mut_ptr(),
            length: 8,
        };
        // SAFETY: the target is leaked unless the completion was seen; the ring is empty.
        unsafe { self.push(&transfer) };
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

impl Kernel for Ring {
    const TRANSFER_BYTES_MAX: usize = 1 << 30;

    fn entries(&self) -> usize {
        self.ring.params().sq_entries() as usize
    }

    unsafe fn push(&mut self, transfer: &Transfer) {
        let Transfer { slot, operation, descriptor, offset, pointer, length } = *transfer;
        let descriptor = types::Fd(descriptor);
        let entry = match operation {
            Operation::Read => {
                opcode::Read::new(descriptor, pointer, length).offset(offset).build()
            }
            Operation::Write => {
                opcode::Write::new(descriptor, pointer, length).offset(offset).build()
            }
        };
        // SAFETY: the caller answers for what the entry points to.
        unsafe { self.ring.submission().push(&entry.user_data(slot)) }
            .expect("no more than `entries` are in flight, so one is free");
    }

    fn enter_once(&mut self, wanted: usize) -> io::Result<()> {
        self.ring.submit_and_wait(wanted).map(|_count| ())
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    fn has_completion(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    fn pop(&mut self) -> Option<(u64, i32)> {
        self.ring.completion().next().map(|entry| (entry.user_data(), entry.result()))
    }

    fn pause(&mut self) {
        std::thread::yield_now();
    }

    /// Keeps the ring for this thread's next queue.
    fn give_back(self) {
        // While the thread is ending there is no next queue; the ring is closed.
        let _ending = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < IDLE_RINGS_MAX {
                idle.push(self);
            }
        });
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

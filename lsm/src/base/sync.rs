//! The seam for synchronisation: every lock, atomic, thread and futex that the engine's correctness rests on comes from here.
//!
//! In a normal build these are plain re-exports of `parking_lot`, `std` and `arc_swap`, and [`Access`] is nothing at all: no cost, no other
//! behaviour. Two other builds put checkers behind the same names:
//!
//! - `--cfg loom`: the models beside the code (`loom_models.rs`) run the real structures in every order that a few threads can
//!   meet, with all that the memory model allows for `Relaxed`, `Acquire` and `Release`. Small structures only: the skiplist, the
//!   publication of commits, the life of a table, group sync, the WAL ring.
//! - `--cfg shuttle`: `tests/shuttle.rs` runs whole databases, background threads included, under random and adversarial
//!   schedules. Sequentially consistent, so it says nothing about orderings; but it meets lock orders, lost wake-ups and
//!   forgotten states that no small model has.
//!
//! Promises: 1. A wait for a time ends after some steps of the others in a model: no model needs real time. 2. No lock of a foreign
//! crate is held across a step at which a model may switch threads.
//!
//! Left out: `Arc` and `OnceLock`, which are trusted, and counters that only the statistics read.

#[cfg(any(loom, shuttle))]
mod model;

#[cfg(any(loom, shuttle))]
pub use model::{ArcSwap, Condvar, Mutex, MutexGuard, RwLock, ViewOf};

#[cfg(not(any(loom, shuttle)))]
pub use arc_swap::ArcSwap;
#[cfg(not(any(loom, shuttle)))]
pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

/// What a load of an [`ArcSwap`] gives: the value, without touching a counter.
#[cfg(not(any(loom, shuttle)))]
pub type ViewOf<T> = arc_swap::Guard<std::sync::Arc<T>>;

#[cfg(shuttle)]
pub use model::Mutex as DeviceMutex;
/// The lock of a simulated device. Loom's models look at the engine, not at the disk under it.
#[cfg(not(shuttle))]
pub use parking_lot::Mutex as DeviceMutex;

/// Atomics.
pub mod atomic {
    #[cfg(loom)]
    pub use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    #[cfg(shuttle)]
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
    #[cfg(not(any(loom, shuttle)))]
    pub use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

/// Atomics inside the memtable, where a whole database has so many that schedules would meet nothing else: loom's models look at
/// them one by one, shuttle's worlds take an insert or a search as one step.
pub mod fine {
    #[cfg(loom)]
    pub use super::atomic::*;
    #[cfg(not(loom))]
    pub use std::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
    };
}

/// Threads.
pub mod thread {
    #[cfg(loom)]
    pub use loom::thread::{Builder, JoinHandle, current, yield_now};
    #[cfg(shuttle)]
    pub use shuttle::thread::{Builder, JoinHandle, current, yield_now};
    #[cfg(not(any(loom, shuttle)))]
    pub use std::thread::{Builder, JoinHandle, current, yield_now};
}

/// Stands beside plain memory that several threads read after one has written it. Loom fails a model in which a read and a
/// write of the same place are not ordered; anywhere else this is nothing.
#[derive(Debug)]
pub struct Access {
    #[cfg(loom)]
    cell: loom::cell::UnsafeCell<()>,
}

impl Access {
    /// For memory that the calling thread has just written.
    #[inline]
    pub fn written() -> Access {
        Access {
            #[cfg(loom)]
            cell: loom::cell::UnsafeCell::new(()),
        }
    }

    /// The calling thread writes the memory.
    #[inline]
    pub fn write(&self) {
        #[cfg(loom)]
        self.cell.with_mut(|_| ());
    }

    /// The calling thread reads the memory.
    #[inline]
    pub fn read(&self) {
        #[cfg(loom)]
        self.cell.with(|_| ());
    }
}

/// As [`Access`], for a region whose pieces are written and read in ranges of any size.
#[derive(Debug, Default)]
pub struct RangeAccess {
    #[cfg(loom)]
    written: std::sync::Mutex<Vec<(std::ops::Range<u64>, Access)>>,
    /// Looked at before every access, for loom tells apart only what has a step in between.
    #[cfg(loom)]
    step: atomic::AtomicU32,
}

impl RangeAccess {
    /// The calling thread writes `length` bytes at `start` of a region of `capacity` bytes.
    #[inline]
    pub fn write(&self, start: u64, length: usize) {
        #[cfg(loom)]
        {
            let range = start..start + length as u64;
            self.step.load(atomic::Ordering::Relaxed);
            let mut written = self.written.lock().unwrap_or_else(|broken| broken.into_inner());
            written
                .iter()
                .filter(|(old, _)| meet(old, &range))
                .for_each(|(_, access)| access.write());
            written.retain(|(old, _)| !(range.start <= old.start && old.end <= range.end));
            written.push((range, Access::written()));
        }
        #[cfg(not(loom))]
        let _ = (start, length);
    }

    /// The calling thread reads `length` bytes at `start`.
    #[inline]
    pub fn read(&self, start: u64, length: usize) {
        #[cfg(loom)]
        {
            let range = start..start + length as u64;
            self.step.load(atomic::Ordering::Relaxed);
            let written = self.written.lock().unwrap_or_else(|broken| broken.into_inner());
            written
                .iter()
                .filter(|(old, _)| meet(old, &range))
                .for_each(|(_, access)| access.read());
        }
        #[cfg(not(loom))]
        let _ = (start, length);
    }
}

#[cfg(loom)]
fn meet(left: &std::ops::Range<u64>, right: &std::ops::Range<u64>) -> bool {
    left.start < right.end && right.start < left.end
}

/// A number on which threads sleep until it changes: a futex word.
#[derive(Debug)]
pub struct Word {
    number: atomic::AtomicU32,
    #[cfg(any(loom, shuttle))]
    sleepers: (Mutex<()>, Condvar),
}

impl Word {
    /// A word that says `number`.
    pub fn new(number: u32) -> Word {
        Word {
            number: atomic::AtomicU32::new(number),
            #[cfg(any(loom, shuttle))]
            sleepers: Default::default(),
        }
    }

    /// What it says.
    #[inline]
    pub fn load(&self, ordering: atomic::Ordering) -> u32 {
        self.number.load(ordering)
    }

    /// Makes it say `number`; [`wake_all`](Word::wake_all) tells the sleepers.
    #[inline]
    pub fn store(&self, number: u32, ordering: atomic::Ordering) {
        self.number.store(number, ordering);
    }

    /// Sleeps if the word still says `seen`. May return for no reason: look again.
    #[cfg(not(any(loom, shuttle)))]
    pub fn sleep_while(&self, seen: u32) {
        // SAFETY: the word outlives the call; the kernel only compares it. Errors (EAGAIN: changed meanwhile, EINTR) are
        // met by looking again.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.number.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                seen,
                std::ptr::null::<libc::timespec>(),
            );
        }
    }

    /// Wakes everybody who sleeps on the word.
    #[cfg(not(any(loom, shuttle)))]
    pub fn wake_all(&self) {
        // SAFETY: the word is alive; waking cannot fail in a way that matters.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.number.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            );
        }
    }

    /// The kernel compares under a lock that a wake takes as well.
    #[cfg(any(loom, shuttle))]
    pub fn sleep_while(&self, seen: u32) {
        let mut gate = self.sleepers.0.lock();
        if self.number.load(atomic::Ordering::Relaxed) == seen {
            self.sleepers.1.wait(&mut gate);
        }
    }

    /// As above.
    #[cfg(any(loom, shuttle))]
    pub fn wake_all(&self) {
        drop(self.sleepers.0.lock());
        self.sleepers.1.notify_all();
    }
}

#[cfg(all(test, loom))]
pub(crate) use model::check;

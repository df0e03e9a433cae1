//! A ring in memory that does what a kernel may do.

use super::file::descriptor_sheet;
use super::world::{Address, Fate, Sheet, World, pattern};
use crate::base::limits::IO_ALIGN;
use crate::io::Operation;
use crate::io::uring::ring::{BUSY_TRIES_MAX, Kernel, Transfer};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// A transfer that the ring has.
pub(super) struct Entry {
    slot: u64,
    pub(super) sheet: usize,
    offset: u64,
    pointer: Address,
    length: usize,
}

impl Entry {
    /// What a read buffer holds while the ring has it.
    fn filling(&self) -> u8 {
        0xa5 ^ self.sheet as u8
    }

    /// Fills the buffer of a read, as the kernel might at any moment.
    fn fill(&self) {
        // SAFETY: the push promised the memory until the completion.
        unsafe { self.pointer.0.write_bytes(self.filling(), self.length) };
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the push promised the memory until the completion, and nobody writes to it meanwhile but this thread.
        unsafe { std::slice::from_raw_parts(self.pointer.0, self.length) }
    }

    /// Whether nobody but the ring has written to the buffer.
    pub(super) fn is_untouched(&self, sheet: &Sheet) -> bool {
        match sheet.operation {
            Operation::Read => {
                let filling = [self.filling(); 64];
                self.bytes().chunks(64).all(|chunk| *chunk == filling[..chunk.len()])
            }
            Operation::Write => self.bytes() == pattern(sheet.shift, self.offset, self.length),
        }
    }
}

pub(super) struct FakeRing {
    world: Arc<Mutex<World>>,
}

impl FakeRing {
    pub(super) fn new(world: Arc<Mutex<World>>) -> FakeRing {
        FakeRing { world }
    }
}

impl Kernel for FakeRing {
    /// Short, so that requests are split.
    const TRANSFER_BYTES_MAX: usize = 2 * IO_ALIGN;

    fn entries(&self) -> usize {
        self.world.lock().entries
    }

    unsafe fn push(&mut self, transfer: &Transfer) {
        let mut world = self.world.lock();
        let Transfer { slot, operation, descriptor, offset, pointer, length } = *transfer;
        let (sheet, length) = (descriptor_sheet(descriptor), length as usize);
        let in_flight = world.submission.len() + world.kernel.len() + world.completion.len();
        let mut taken = world.submission.iter().chain(&world.kernel).map(|entry| entry.slot);
        let mut waiting = world.completion.iter().map(|(slot, _, _)| *slot);
        let what = if world.death.is_some() {
            "a push into a ring that failed"
        } else if in_flight >= world.entries {
            "a push into a full ring"
        } else if taken.any(|taken| taken == slot) || waiting.any(|taken| taken == slot) {
            "a slot that is still in flight"
        } else if length > Self::TRANSFER_BYTES_MAX || length == 0 {
            "a transfer of a forbidden length"
        } else {
            ""
        };
        if !what.is_empty() {
            world.blame(what);
        }
        if !world.check_transfer(sheet, operation, offset, pointer, length) {
            // Never completes, so that the queue that does not know it ends by itself.
            return;
        }
        let entry = Entry { slot, sheet, offset, pointer: Address(pointer), length };
        match operation {
            Operation::Read => entry.fill(),
            Operation::Write if !entry.is_untouched(&world.sheets[sheet]) => {
                world.blame(format!("request {sheet}: other bytes are pushed than were given"));
            }
            Operation::Write => {}
        }
        world.sheets[sheet].in_ring = true;
        world.submission.push(entry);
    }

    fn enter_once(&mut self, wanted: usize) -> io::Result<()> {
        let world = &mut *self.world.lock();
        world.enter_count += 1;
        if world.is_busy_for_ever() {
            if world.completion.is_empty() {
                world.busy_count += 1;
                // Some tries of the enter that gives up may have come before this ring became busy.
                if world.busy_count == BUSY_TRIES_MAX / 2 {
                    world.die(libc::EBUSY);
                }
            }
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        if world.death.is_some() {
            world.blame("an enter of a ring that failed");
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if let Some((code, for_good)) = world.enter_error() {
            if for_good {
                world.die(code);
            }
            return Err(io::Error::from_raw_os_error(code));
        }
        let pushed = world.submission.len();
        let taken = world.taken();
        let submitted = world.submission.drain(..taken);
        world.kernel.extend(submitted);
        if wanted > 0 || !world.holds_back() {
            let mut at = 0;
            while at < world.kernel.len() {
                if world.is_late() {
                    at += 1;
                } else {
                    complete(world, at);
                }
            }
        }
        // An enter that could not submit everything does not wait.
        if wanted > 0 && world.completion.is_empty() && taken == pushed {
            if world.kernel.is_empty() {
                world.blame("waits for ever: the ring has nothing");
                world.die(libc::EIO);
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let at = world.pick(world.kernel.len());
            complete(world, at);
        }
        Ok(())
    }

    fn has_unsubmitted(&mut self) -> bool {
        !self.world.lock().submission.is_empty()
    }

    fn has_completion(&mut self) -> bool {
        !self.world.lock().completion.is_empty()
    }

    fn pop(&mut self) -> Option<(u64, i32)> {
        let world = &mut *self.world.lock();
        if world.completion.is_empty() {
            return None;
        }
        let at = world.pick(world.completion.len());
        let (slot, result, sheet) = world.completion.swap_remove_back(at)?;
        world.sheets[sheet].in_ring = false;
        Some((slot, result))
    }

    fn pause(&mut self) {}

    fn give_back(self) {
        let mut world = self.world.lock();
        if world.submission.len() + world.kernel.len() + world.completion.len() > 0 {
            world.blame("the ring is given back with requests in it");
        }
        if world.death.is_some() {
            world.blame("a ring that failed is given back");
        }
        world.given_back = true;
    }
}

/// Carries out the entry at this place of the kernel, or not, and posts what became of it.
fn complete(world: &mut World, at: usize) {
    let entry = world.kernel.swap_remove(at);
    let (index, slot) = (entry.sheet, entry.slot);
    world.outcome.transfers += 1;
    if world.sheets[index].closed {
        world.blame(format!("request {index}: dropped while the ring has it"));
        world.completion.push_back((slot, -libc::EBADF, index));
        return;
    }
    if !entry.is_untouched(&world.sheets[index]) {
        world.blame(format!("request {index}: its buffer was touched in the ring"));
    }
    let result = match world.fate(index, entry.offset, entry.length, false) {
        Fate::Fails(code) => -code,
        Fate::Moves(count) => {
            let sheet = &world.sheets[index];
            if sheet.operation == Operation::Read {
                let bytes = pattern(sheet.shift, entry.offset, count);
                // SAFETY: the push promised the memory until the completion; `count` is at most its length.
                unsafe { entry.pointer.0.copy_from_nonoverlapping(bytes.as_ptr(), count) };
            }
            count as i32
        }
    };
    world.completion.push_back((slot, result, index));
}

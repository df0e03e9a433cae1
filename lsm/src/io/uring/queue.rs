//! The queue of the `uring` body: requests in a slab, addressed by their slot, until the ring gives them back.
//!
//! ```text
//!   push ──> staged ──> (submit, wait) ──> ring ──> ready ──> wait
//!              └── alone at wait, or a buffered write: plain system call ──┘
//! ```
//!
//! What the ring may say of a transfer, and what becomes of it:
//!
//! | result | meaning | done |
//! | --- | --- | --- |
//! | all bytes | | completes |
//! | some bytes | interrupted, or the end of the file | the rest goes into the ring again |
//! | 0, or less than a unit | the end of the file, or nothing moved | one plain call decides |
//! | EAGAIN, EINTR, ECANCELED | not carried out: it would block, or its worker is going | one plain call decides |
//! | any other error | | completes with it |
//!
//! A plain call is `carry_out`: it is bounded, and reads and writes at offsets may be repeated without harm. A failure of the
//! ring itself ends every request in it with that error.

use super::ring::{ENTRY_COUNT_MAX, Kernel, Transfer};
use crate::base::planted::{Bug, planted};
use crate::io::{AlignedBuffer, Completion, Operation, Progress, Queue, Request};
use crate::io::{carry_out, progress};
use std::collections::VecDeque;
use std::fmt;
use std::io;

/// A request in the ring.
struct InFlight {
    request: Request,
    /// Bytes of it that are done.
    done: usize,
}

pub(super) struct UringQueue<K: Kernel> {
    /// `None` once it has failed; everything is then a plain system call.
    ring: Option<K>,
    depth: usize,
    staged: VecDeque<Request>,
    slots: Vec<Option<InFlight>>,
    free_slots: Vec<usize>,
    /// Requests that the kernel has, or that are in the submission queue.
    in_ring: usize,
    ready: VecDeque<Completion>,
}

impl<K: Kernel> UringQueue<K> {
    pub(super) fn new(ring: K, depth: usize) -> UringQueue<K> {
        let depth = depth.clamp(1, ENTRY_COUNT_MAX).min(ring.entries());
        UringQueue {
            ring: Some(ring),
            depth,
            staged: VecDeque::new(),
            slots: Vec::new(),
            free_slots: Vec::new(),
            in_ring: 0,
            ready: VecDeque::new(),
        }
    }

    /// Carries a request out here and now.
    fn block_on(&mut self, mut request: Request) {
        let result = carry_out(&mut request, 0);
        self.ready.push_back(Completion::of(request, result));
    }

    /// Moves everything staged into the submission queue. `staged` and the ring together never exceed the depth.
    fn move_staged(&mut self) {
        while let Some(request) = self.staged.pop_front() {
            if self.ring.is_none() {
                self.block_on(request);
                continue;
            }
            let slot = self.free_slots.pop().unwrap_or(self.slots.len());
            if slot == self.slots.len() {
                self.slots.push(None);
            }
            self.in_ring += 1;
            self.put(slot, InFlight { request, done: 0 });
        }
    }

    /// Puts a request, or what is left of it, into the submission queue under its slot.
    fn put(&mut self, slot: usize, mut in_flight: InFlight) {
        let Some(ring) = &mut self.ring else { return };
        let transfer = transfer::<K>(slot, &mut in_flight);
        self.slots[slot] = Some(in_flight);
        // SAFETY: the slab owns the buffer and keeps the file open until the completion, or leaks both; one entry is in
        // flight for each occupied slot, of which there are at most `depth`, which is at most the ring's entries.
        unsafe { ring.push(&transfer) };
    }

    /// Enters the kernel; if the ring fails, ends all its requests.
    fn enter(&mut self, wanted: usize) {
        let Some(ring) = &mut self.ring else { return };
        if let Err(error) = ring.enter(wanted) {
            self.abandon(&error);
        }
    }

    /// Takes every completion that is there.
    fn reap(&mut self) {
        while let Some((slot, result)) = self.ring.as_mut().and_then(K::pop) {
            let slot = slot as usize;
            let in_flight = self.slots.get_mut(slot).and_then(Option::take);
            let in_flight = in_flight.expect("the kernel answers each entry once");
            self.advance(slot, in_flight, result);
        }
    }

    /// Ends a request or carries on with it, after one transfer.
    fn advance(&mut self, slot: usize, mut in_flight: InFlight, result: i32) {
        let InFlight { request, done } = &mut in_flight;
        let (length, operation, offset) = (request.buffer.len(), request.operation, request.offset);
        let step = match usize::try_from(result) {
            Ok(0) => Ok(Progress::Stalled),
            Ok(count) => progress(&*request.file, operation, offset, length, *done, count),
            Err(_) if -result == libc::ECANCELED && planted(Bug::CancelledIsDone) => {
                Ok(Progress::Done(length))
            }
            Err(_) if matches!(-result, libc::EAGAIN | libc::EINTR | libc::ECANCELED) => {
                Ok(Progress::Stalled)
            }
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
        };
        let result = match step {
            Ok(Progress::More(total)) => {
                *done = total;
                self.put(slot, in_flight);
                return;
            }
            Ok(Progress::Stalled) => carry_out(request, *done),
            Ok(Progress::Done(total)) => Ok(total),
            Err(error) => Err(error),
        };
        self.free_slots.push(slot);
        self.in_ring -= 1;
        self.ready.push_back(Completion::of(in_flight.request, result));
    }

    /// The ring failed. The kernel may still write into the buffers that it has, so they are leaked, with the ring.
    fn abandon(&mut self, error: &io::Error) {
        std::mem::forget(self.ring.take());
        for slot in &mut self.slots {
            let Some(InFlight { request, .. }) = slot.take() else { continue };
            let Request { token, file, buffer, .. } = request;
            let blank = AlignedBuffer::zeroed(buffer.len());
            std::mem::forget((file, buffer));
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            let result = Err(io::Error::from_raw_os_error(code));
            self.ready.push_back(Completion { token, buffer: blank, result });
        }
        self.in_ring = 0;
        self.slots.clear();
        self.free_slots.clear();
    }

    #[cfg(test)]
    pub(super) fn fail_for_test(&mut self, error: &io::Error) {
        self.abandon(error);
    }

    /// Blocks until something is ready, if anything is in flight.
    fn finish_one(&mut self) {
        if self.in_ring == 0 && self.staged.len() == 1 {
            // Alone, a plain system call is faster.
            if let Some(request) = self.staged.pop_front() {
                self.block_on(request);
            }
            return;
        }
        self.move_staged();
        self.reap();
        while self.ready.is_empty() && self.in_ring > 0 {
            self.enter(1);
            self.reap();
        }
    }
}

/// The transfer of what is left of a request.
fn transfer<K: Kernel>(slot: usize, in_flight: &mut InFlight) -> Transfer {
    let InFlight { request, done } = in_flight;
    let descriptor = request.file.descriptor().expect("push turned other files away");
    let offset = request.offset + *done as u64;
    let rest = &mut request.buffer[*done..];
    let length = rest.len().min(K::TRANSFER_BYTES_MAX) as u32;
    let (operation, pointer) = (request.operation, rest.as_mut_ptr());
    Transfer { slot: slot as u64, operation, descriptor, offset, pointer, length }
}

impl<K: Kernel> Queue for UringQueue<K> {
    fn push(&mut self, request: Request) {
        let buffered_write = request.operation == Operation::Write && !request.file.direct();
        if buffered_write || request.file.descriptor().is_none() || request.buffer.is_empty() {
            return self.block_on(request);
        }
        if self.staged.len() + self.in_ring >= self.depth {
            self.move_staged();
            while self.in_ring >= self.depth {
                self.enter(1);
                self.reap();
            }
        }
        self.staged.push_back(request);
    }

    fn submit(&mut self) {
        self.move_staged();
        if self.in_ring > 0 {
            self.enter(0);
        }
    }

    fn wait(&mut self) -> Option<Completion> {
        if self.ready.is_empty() {
            self.finish_one();
        } else if !self.staged.is_empty() {
            self.submit();
        }
        self.ready.pop_front()
    }

    fn in_flight(&self) -> usize {
        self.staged.len() + self.in_ring + self.ready.len()
    }

    fn ready(&self) -> usize {
        self.ready.len()
    }
}

impl<K: Kernel> Drop for UringQueue<K> {
    fn drop(&mut self) {
        self.move_staged();
        while self.in_ring > 0 {
            self.enter(1);
            self.reap();
        }
        if let Some(ring) = self.ring.take() {
            ring.give_back();
        }
    }
}

impl<K: Kernel> fmt::Debug for UringQueue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (staged, ring, ready) = (self.staged.len(), self.in_ring, self.ready.len());
        write!(f, "UringQueue({staged} staged, {ring} in the ring, {ready} ready)")
    }
}

//! A queue with faults in front of it.
//!
//! ```text
//!   push ── no fault, flip, delay ──> inner queue ──> (flip back, flip, sleep) ──> wait
//!     └── error, short: here and now ──────────────────> ready ──────────────────────┘
//! ```
//! Requests travel through the inner queue under numbers of ours, because tokens need not differ.

use super::Shared;
use super::file::FaultFile;
use super::rule::{Call, Fault, flip};
use crate::io::{Completion, Operation, Progress, Queue, Request, carry_out, progress, unit};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is still to be done to a request when it comes back.
#[derive(Clone, Copy, Debug)]
enum Touch {
    Nothing,
    Sleep(Duration),
    /// Spoil a bit of what was read.
    Flip,
    /// Mend the bit that was spoilt for the write: the buffer is the caller's.
    FlipBack(u64),
}

#[derive(Clone, Copy, Debug)]
struct Held {
    token: u64,
    touch: Touch,
}

pub(super) struct FaultQueue {
    inner: Box<dyn Queue>,
    shared: Arc<Shared>,
    /// Requests in the inner queue, by the number that they have there.
    held: Vec<Held>,
    free: Vec<u64>,
    ready: VecDeque<Completion>,
}

impl FaultQueue {
    pub(super) fn new(inner: Box<dyn Queue>, shared: Arc<Shared>) -> FaultQueue {
        FaultQueue { inner, shared, held: Vec::new(), free: Vec::new(), ready: VecDeque::new() }
    }

    /// The file under the wrapper, and what goes wrong with this request.
    fn judge(&self, request: &mut Request) -> Option<Fault> {
        let wrapper = request.file.clone();
        let any: &dyn Any = &*wrapper;
        let file = any.downcast_ref::<FaultFile>()?;
        if !Arc::ptr_eq(&file.shared, &self.shared) {
            // Another disk's file: its own plain calls are judged by its own rules.
            return None;
        }
        let call = match request.operation {
            Operation::Read => Call::Read,
            Operation::Write => Call::Write,
        };
        let fault = self.shared.judge_only(file.transfer(call, request.buffer.len()));
        if let (Some(Fault::Error(code)), Operation::Write) = (fault, request.operation) {
            file.fail_write(code, request.offset, &request.buffer);
        }
        request.file = file.inner.clone();
        fault
    }

    fn pass_on(&mut self, mut request: Request, touch: Touch) {
        let held = Held { token: request.token, touch };
        let number = self.free.pop().unwrap_or(self.held.len() as u64);
        match self.held.get_mut(number as usize) {
            Some(place) => *place = held,
            None => self.held.push(held),
        }
        request.token = number;
        self.inner.push(request);
    }

    /// Undoes what was done to a request on its way in, and does what is to be done on its way out.
    fn take_back(&mut self, mut completion: Completion) -> Completion {
        let number = completion.token;
        let Held { token, touch } = self.held[number as usize];
        self.free.push(number);
        completion.token = token;
        match (touch, &completion.result) {
            (Touch::Sleep(delay), _) => self.shared.clock.sleep(delay),
            (Touch::FlipBack(bit), _) => flip(&mut completion.buffer, bit),
            (Touch::Flip, Ok(count)) if *count > 0 => {
                flip(&mut completion.buffer, self.shared.below(*count as u64 * 8));
            }
            (Touch::Flip | Touch::Nothing, _) => {}
        }
        completion
    }
}

/// Carries out a request whose first transfer moves half of it.
fn carry_out_shortened(request: &mut Request) -> io::Result<usize> {
    let (operation, offset, length) = (request.operation, request.offset, request.buffer.len());
    let unit = unit(&*request.file, operation);
    let half = length / 2 / unit * unit;
    let count = match operation {
        Operation::Read => request.file.read_at(offset, &mut request.buffer[..half])?,
        Operation::Write => request.file.write_at(offset, &request.buffer[..half], false)?,
    };
    match progress(&*request.file, operation, offset, length, 0, count)? {
        Progress::More(done) => carry_out(request, done),
        Progress::Stalled => carry_out(request, 0),
        Progress::Done(total) => Ok(total),
    }
}

impl Queue for FaultQueue {
    fn push(&mut self, mut request: Request) {
        match self.judge(&mut request) {
            Some(Fault::Error(code)) => {
                let error = io::Error::from_raw_os_error(code);
                self.ready.push_back(Completion::of(request, Err(error)));
            }
            Some(Fault::Short) => {
                let result = carry_out_shortened(&mut request);
                self.ready.push_back(Completion::of(request, result));
            }
            Some(Fault::Flip) if request.operation == Operation::Write => {
                let bit = self.shared.below(request.buffer.len() as u64 * 8);
                flip(&mut request.buffer, bit);
                self.pass_on(request, Touch::FlipBack(bit));
            }
            Some(Fault::Flip) => self.pass_on(request, Touch::Flip),
            Some(Fault::Delay(delay)) => self.pass_on(request, Touch::Sleep(delay)),
            Some(Fault::SyncIgnored) | None => self.pass_on(request, Touch::Nothing),
        }
    }

    fn submit(&mut self) {
        self.inner.submit();
    }

    fn wait(&mut self) -> Option<Completion> {
        if self.inner.in_flight() == 0 {
            return self.ready.pop_front();
        }
        if !self.ready.is_empty() && self.shared.below(2) == 0 {
            self.inner.submit();
            return self.ready.pop_front();
        }
        let completion = self.inner.wait()?;
        Some(self.take_back(completion))
    }

    fn in_flight(&self) -> usize {
        self.inner.in_flight() + self.ready.len()
    }
}

impl fmt::Debug for FaultQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultQueue({:?}, {} ready)", self.inner, self.ready.len())
    }
}

//! The queue of the `posix` body: a mailbox that the owner and the helpers of the pool empty together.
//!
//! ```text
//!   push ──> todo ──> (helpers, and the owner inside wait) ──> done ──> wait
//!     └── a read that the page cache holds: done at once ────────┘
//! ```

use super::file::read_cached;
use super::pool::Pool;
use crate::io::{Completion, Operation, Queue, Request, carry_out};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;

/// Helpers of one queue.
const HELPER_COUNT_MAX: usize = 8;

#[derive(Debug, Default)]
struct Letters {
    todo: VecDeque<Request>,
    running: usize,
    done: VecDeque<Completion>,
    /// Helpers asked for and not finished.
    helpers: usize,
}

/// The requests of one queue.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    letters: Mutex<Letters>,
    finished: Condvar,
}

impl Mailbox {
    /// Carries out requests until there are none.
    pub(super) fn help(&self) {
        while self.carry_out_one() {}
        self.letters.lock().helpers -= 1;
    }

    /// Carries out the oldest request; false if there is none.
    fn carry_out_one(&self) -> bool {
        let mut letters = self.letters.lock();
        let Some(mut request) = letters.todo.pop_front() else { return false };
        letters.running += 1;
        drop(letters);
        let result = carry_out(&mut request, 0);
        let completion = Completion::of(request, result);
        let mut letters = self.letters.lock();
        letters.running -= 1;
        letters.done.push_back(completion);
        drop(letters);
        self.finished.notify_one();
        true
    }
}

#[derive(Debug)]
pub(crate) struct PosixQueue {
    pool: Arc<Pool>,
    mailbox: Arc<Mailbox>,
    depth: usize,
}

impl PosixQueue {
    pub(super) fn new(pool: Arc<Pool>, depth: usize) -> PosixQueue {
        PosixQueue { pool, mailbox: Arc::default(), depth: depth.max(1) }
    }

    /// Asks for help with all requests but `own`.
    fn call_helpers(&self, own: usize) {
        let mut letters = self.mailbox.letters.lock();
        let useful = letters.todo.len().saturating_sub(own);
        let count = useful.min(HELPER_COUNT_MAX.min(self.depth).saturating_sub(letters.helpers));
        letters.helpers += count;
        drop(letters);
        if count > 0 {
            self.pool.help(&self.mailbox, count);
        }
    }

    /// Blocks until one more request is done, carrying out one here if any is waiting.
    fn finish_one(&self) {
        self.call_helpers(1);
        if self.mailbox.carry_out_one() {
            return;
        }
        let mut letters = self.mailbox.letters.lock();
        while letters.done.is_empty() && letters.running > 0 {
            self.mailbox.finished.wait(&mut letters);
        }
    }
}

impl Queue for PosixQueue {
    fn push(&mut self, mut request: Request) {
        if request.operation == Operation::Read && !request.file.direct() {
            let cached = request.file.descriptor().is_some_and(|descriptor| {
                read_cached(descriptor, request.offset, &mut request.buffer)
            });
            if cached {
                let count = request.buffer.len();
                let completion = Completion::of(request, Ok(count));
                return self.mailbox.letters.lock().done.push_back(completion);
            }
        }
        loop {
            let mut letters = self.mailbox.letters.lock();
            if letters.todo.len() + letters.running < self.depth {
                letters.todo.push_back(request);
                return;
            }
            drop(letters);
            self.call_helpers(1);
            if !self.mailbox.carry_out_one() {
                let mut letters = self.mailbox.letters.lock();
                if letters.todo.len() + letters.running >= self.depth {
                    self.mailbox.finished.wait(&mut letters);
                }
            }
        }
    }

    fn submit(&mut self) {
        self.call_helpers(0);
    }

    fn wait(&mut self) -> Option<Completion> {
        if let Some(completion) = self.mailbox.letters.lock().done.pop_front() {
            return Some(completion);
        }
        self.finish_one();
        self.mailbox.letters.lock().done.pop_front()
    }

    fn in_flight(&self) -> usize {
        let letters = self.mailbox.letters.lock();
        letters.todo.len() + letters.running + letters.done.len()
    }
}

impl Drop for PosixQueue {
    fn drop(&mut self) {
        while self.mailbox.carry_out_one() {}
        let mut letters = self.mailbox.letters.lock();
        while letters.running > 0 {
            self.mailbox.finished.wait(&mut letters);
        }
    }
}

//! The threads that help the queues of one disk.
//!
//! They are shared by all queues, because a queue may live for one `multi_get` and starting threads for it would cost more
//! than the reads. A thread that waits for its queue carries out requests itself, so the pool is only ever a help: with no
//! thread at all (the system may refuse to start one) everything still proceeds.

use super::queue::Mailbox;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Threads of one disk.
const THREAD_COUNT_MAX: usize = 16;

#[derive(Debug)]
struct Shared {
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    /// Queues that want help, once for each helper.
    wanted: VecDeque<Arc<Mailbox>>,
    idle: usize,
    threads: Vec<JoinHandle<()>>,
    stop: bool,
}

/// The threads of one disk; joined on drop.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    pub(super) fn new() -> Pool {
        let state = Mutex::new(PoolState::default());
        Pool { shared: Arc::new(Shared { state, work: Condvar::new() }) }
    }

    /// Asks for `count` helpers for a queue.
    pub(super) fn help(&self, mailbox: &Arc<Mailbox>, count: usize) {
        let mut state = self.shared.state.lock();
        for _ in 0..count {
            state.wanted.push_back(mailbox.clone());
        }
        let missing = state.wanted.len().saturating_sub(state.idle);
        for _ in 0..missing.min(THREAD_COUNT_MAX - state.threads.len()) {
            let shared = self.shared.clone();
            let thread = std::thread::Builder::new()
                .name("treering-io".to_owned())
                .spawn(move || shared.run());
            match thread {
                Ok(thread) => state.threads.push(thread),
                Err(_no_help) => break,
            }
        }
        drop(state);
        for _ in 0..count {
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stop {
            match state.wanted.pop_front() {
                Some(mailbox) => {
                    drop(state);
                    mailbox.help();
                    drop(mailbox);
                    state = self.state.lock();
                }
                None => {
                    state.idle += 1;
                    self.work.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let threads = {
            let mut state = self.shared.state.lock();
            state.stop = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.work.notify_all();
        for thread in threads {
            // A thread that panicked has already said so; there is nothing left to save here.
            let _panicked = thread.join();
        }
    }
}

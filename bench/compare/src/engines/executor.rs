//! Runs a fixed number of futures at once on the calling thread.
//!
//! Each future has a slot whose waker marks it ready; a thread that finds nothing ready sleeps until a waker calls.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Slots whose futures may go on.
#[derive(Debug, Default)]
struct Ready {
    slots: Mutex<VecDeque<usize>>,
    some: Condvar,
}

struct SlotWaker {
    slot: usize,
    ready: Arc<Ready>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        let mut slots = self.ready.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.push_back(self.slot);
        if slots.len() == 1 {
            self.ready.some.notify_one();
        }
    }
}

/// Keeps `count` futures of `next` running until it has no more, and gives each result to `done`.
pub(crate) fn run_many<F: Future>(
    count: usize,
    mut next: impl FnMut() -> Option<F>,
    mut done: impl FnMut(F::Output),
) {
    let ready = Arc::new(Ready::default());
    let wakers: Vec<Waker> = (0..count)
        .map(|slot| Waker::from(Arc::new(SlotWaker { slot, ready: Arc::clone(&ready) })))
        .collect();
    let mut futures: Vec<Option<Pin<Box<F>>>> = (0..count).map(|_| None).collect();
    let mut running = 0;
    let mut work: VecDeque<usize> = (0..count).collect();
    loop {
        while let Some(slot) = work.pop_front() {
            // A slot whose future is done at once takes the next one.
            loop {
                if futures[slot].is_none() {
                    let Some(future) = next() else { break };
                    futures[slot] = Some(Box::pin(future));
                    running += 1;
                }
                let Some(future) = &mut futures[slot] else { break };
                match future.as_mut().poll(&mut Context::from_waker(&wakers[slot])) {
                    Poll::Ready(output) => {
                        futures[slot] = None;
                        running -= 1;
                        done(output);
                    }
                    Poll::Pending => break,
                }
            }
        }
        if running == 0 {
            return;
        }
        let mut slots = ready.slots.lock().unwrap_or_else(PoisonError::into_inner);
        while slots.is_empty() {
            slots = ready.some.wait(slots).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut *slots, &mut work);
    }
}

//! Loads that are running: a missing block is loaded by one thread, and the others who want it wait.

use crate::base::sync::{Condvar, Mutex};

/// Loads are spread over this many locks.
const STRIPES: usize = 16;

#[derive(Default)]
struct Stripe {
    running: Mutex<Vec<u64>>,
    ended: Condvar,
}

/// See the head of the file.
#[derive(Default)]
pub(super) struct Loads {
    stripes: [Stripe; STRIPES],
}

/// A load that this thread is to carry out; its end is told when this is dropped.
pub(super) struct Load<'a> {
    stripe: &'a Stripe,
    key: u64,
}

impl Loads {
    /// The load of `key`; `None` after waiting for the end of the one that was running.
    pub(super) fn begin(&self, key: u64) -> Option<Load<'_>> {
        let stripe = &self.stripes[(key ^ key >> 12) as usize % STRIPES];
        let mut running = stripe.running.lock();
        if !running.contains(&key) {
            running.push(key);
            return Some(Load { stripe, key });
        }
        while running.contains(&key) {
            stripe.ended.wait(&mut running);
        }
        None
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.stripe.running.lock().retain(|&key| key != self.key);
        self.stripe.ended.notify_all();
    }
}

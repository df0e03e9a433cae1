//! Group sync: many callers, one write to the device at a time.
//!
//! ```text
//! callers ─► open group ─(closed by its leader)─► one write + sync ─► everybody woken at once
//!                ▲                                      │
//!                └── callers that come meanwhile ◄──────┘ the first of them, the heir, leads next
//! ```
//!
//! The heir is woken before the members of the finished group, so that the device is idle as short as possible. But it
//! must not start alone while the members that are just waking are about to come back: if the last group had more than
//! one member it first waits, yielding, until its group is as large as the last one, [`REGROUP_WAIT`] at most. Without
//! this wait groups halve, and two syncs in flight at once make them smaller still: both were measured slower.
//!
//! Promises: 1. A call returns after the end of a `write` that began after the call. 2. At most one `write` runs at a
//! time. 3. A lone caller neither waits nor makes a system call of its own.

use crate::base::clock::Clock;
use crate::base::sync::atomic::{AtomicU32, Ordering};
use crate::base::sync::{Mutex, Word, thread};
use std::time::Duration;

/// Longest wait of a leader for its group to fill.
const REGROUP_WAIT: Duration = Duration::from_micros(30);

#[derive(Debug)]
struct Queue {
    /// Id of the group that callers join now.
    open: u32,
    /// Members of the open group.
    members: u32,
    /// A leader is at work, or its heir is woken.
    led: bool,
    /// Members of the last group.
    last: u32,
}

#[derive(Debug)]
pub(super) struct SyncGroup {
    queue: Mutex<Queue>,
    /// Copy of `queue.members` for the regroup wait.
    members: AtomicU32,
    /// Futex words by parity of the id: the last finished group of that parity. At most two groups are alive (one
    /// written, one open), so a wake reaches one group only.
    finished: [Word; 2],
    /// Futex word: the group whose heir may lead.
    turn: Word,
}

enum Role {
    Leader,
    Heir,
    Follower,
}

impl SyncGroup {
    pub(super) fn new() -> SyncGroup {
        SyncGroup {
            queue: Mutex::new(Queue { open: 2, members: 0, led: false, last: 0 }),
            members: AtomicU32::new(0),
            finished: [Word::new(0), Word::new(1)],
            turn: Word::new(0),
        }
    }

    /// Returns after a whole `write`, by this thread or another, that began after this call. The caller looks up how it
    /// ended.
    pub(super) fn run(&self, clock: &dyn Clock, write: impl FnOnce()) {
        let (group, role) = self.join();
        match role {
            Role::Follower => {
                let word = &self.finished[(group & 1) as usize];
                wait_until(word, |seen| seen.wrapping_sub(group) as i32 >= 0);
            }
            Role::Heir => {
                wait_until(&self.turn, |seen| seen == group);
                self.lead(group, clock, write);
            }
            Role::Leader => self.lead(group, clock, write),
        }
    }

    fn join(&self) -> (u32, Role) {
        let mut queue = self.queue.lock();
        queue.members += 1;
        self.members.store(queue.members, Ordering::Relaxed);
        let role = match (queue.led, queue.members) {
            (false, _) => Role::Leader,
            (true, 1) => Role::Heir,
            (true, _) => Role::Follower,
        };
        queue.led = true;
        (queue.open, role)
    }

    fn lead(&self, group: u32, clock: &dyn Clock, write: impl FnOnce()) {
        let last = self.queue.lock().last;
        if last > 1 {
            let deadline = clock.now() + REGROUP_WAIT;
            while self.members.load(Ordering::Relaxed) < last && clock.now() < deadline {
                thread::yield_now();
            }
        }
        let size = {
            let mut queue = self.queue.lock();
            queue.open = group.wrapping_add(1);
            self.members.store(0, Ordering::Relaxed);
            std::mem::take(&mut queue.members)
        };
        write();
        let has_heir = {
            let mut queue = self.queue.lock();
            queue.last = size;
            queue.led = queue.members > 0;
            queue.led
        };
        if has_heir {
            self.turn.store(group.wrapping_add(1), Ordering::Release);
            self.turn.wake_all();
        }
        self.finished[(group & 1) as usize].store(group, Ordering::Release);
        if size > 1 {
            self.finished[(group & 1) as usize].wake_all();
        }
    }
}

fn wait_until(word: &Word, good: impl Fn(u32) -> bool) {
    loop {
        let seen = word.load(Ordering::Acquire);
        if good(seen) {
            return;
        }
        word.sleep_while(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use std::sync::atomic::{AtomicBool, AtomicU64};

    #[test]
    fn nobody_returns_before_a_write_that_began_after_the_call() {
        const THREADS: u64 = 12;
        const ROUNDS: u64 = 500;
        let (group, clock) = (SyncGroup::new(), SystemClock::new());
        let (appended, durable) = (AtomicU64::new(0), AtomicU64::new(0));
        let (busy, writes) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let mine = appended.fetch_add(1, Ordering::SeqCst) + 1;
                        group.run(&clock, || {
                            assert!(!busy.swap(true, Ordering::SeqCst), "two writes at once");
                            let target = appended.load(Ordering::SeqCst);
                            std::thread::yield_now();
                            durable.store(target, Ordering::SeqCst);
                            writes.fetch_add(1, Ordering::SeqCst);
                            busy.store(false, Ordering::SeqCst);
                        });
                        assert!(durable.load(Ordering::SeqCst) >= mine);
                    }
                });
            }
        });
        let writes = writes.load(Ordering::SeqCst);
        assert!(writes < THREADS * ROUNDS, "{writes} writes: nothing was grouped");
    }
}

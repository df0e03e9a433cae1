//! The queue of the simulated disk: carries requests out, and hands completions back, in an order drawn from its seed.
//!
//! A request has its effect when it is carried out, at `submit`, at `wait`, in `push` above the depth, or on drop. What was
//! only pushed when the process dies has never happened.

use crate::base::random::Random;
use crate::io::{Completion, Queue, Request, carry_out};

#[derive(Debug)]
pub(super) struct SimQueue {
    depth: usize,
    random: Random,
    waiting: Vec<Request>,
    done: Vec<Completion>,
}

impl SimQueue {
    pub(super) fn new(depth: usize, seed: u64) -> SimQueue {
        let random = Random::new(seed);
        SimQueue { depth: depth.max(1), random, waiting: Vec::new(), done: Vec::new() }
    }

    /// Carries out one of the waiting requests, any one.
    fn carry_out_one(&mut self) {
        let index = self.random.below(self.waiting.len() as u64) as usize;
        let mut request = self.waiting.swap_remove(index);
        let result = carry_out(&mut request, 0);
        self.done.push(Completion::of(request, result));
    }
}

impl Queue for SimQueue {
    fn push(&mut self, request: Request) {
        if self.waiting.len() >= self.depth {
            self.carry_out_one();
        }
        self.waiting.push(request);
    }

    fn submit(&mut self) {
        for _ in 0..self.waiting.len() {
            if self.random.one_in(2) {
                self.carry_out_one();
            }
        }
    }

    fn wait(&mut self) -> Option<Completion> {
        if !self.waiting.is_empty() && (self.done.is_empty() || self.random.one_in(2)) {
            self.carry_out_one();
        }
        if self.done.is_empty() {
            return None;
        }
        let index = self.random.below(self.done.len() as u64) as usize;
        Some(self.done.swap_remove(index))
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.done.len()
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        while !self.waiting.is_empty() {
            self.carry_out_one();
        }
    }
}

//! The block reads of one multi_get: each block once, all in one queue, for every search that waits for it.

use crate::file::table_reader::{BlockHandle, TableReader};
use crate::io::{Completion, Disk, Queue};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Reads in flight.
const DEPTH: usize = 64;
/// Reads that the device is told of at a time: it begins with the first while the others are still prepared. 8 at a
/// time give 1.06 times what 20 give, where 42 of 64 keys are read.
const START_COUNT: usize = 8;

/// See the head of the file. A search is known by its number.
#[derive(Debug)]
pub(super) struct BlockReads {
    queue: Box<dyn Queue>,
    /// Pushed since the device was last told to begin.
    pushed: usize,
    /// Token of the read of a block that is under way.
    token_of: HashMap<(*const TableReader, BlockHandle), usize>,
    /// For each token, who waits for it; empty once it was answered.
    waiters: Vec<Vec<usize>>,
}

/// What came of a read, and who waited for it: at least one search.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) completion: Completion,
    pub(super) waiters: Vec<usize>,
}

impl BlockReads {
    /// Nothing is under way; `searches` of them at most will ask.
    pub(super) fn new(disk: &dyn Disk, searches: usize) -> BlockReads {
        BlockReads {
            queue: disk.queue(DEPTH.min(searches)),
            pushed: 0,
            token_of: HashMap::with_capacity(searches),
            waiters: Vec::with_capacity(searches),
        }
    }

    /// Asks for a block in the name of a search, which then waits for it.
    pub(super) fn want(&mut self, reader: &Arc<TableReader>, handle: BlockHandle, search: usize) {
        match self.token_of.entry((Arc::as_ptr(reader), handle)) {
            Entry::Occupied(token) => self.waiters[*token.get()].push(search),
            Entry::Vacant(place) => {
                let token = *place.insert(self.waiters.len());
                self.waiters.push(vec![search]);
                self.queue.push(reader.request(handle, token as u64));
                self.pushed += 1;
                if self.pushed == START_COUNT {
                    self.queue.submit();
                    self.pushed = 0;
                }
            }
        }
    }

    /// Waits for a block; `None` when nothing is under way.
    pub(super) fn wait(&mut self) -> Option<Answer> {
        let completion = self.queue.wait()?;
        let waiters = std::mem::take(&mut self.waiters[completion.token as usize]);
        Some(Answer { completion, waiters })
    }

    /// A block that is there without waiting.
    pub(super) fn take_ready(&mut self) -> Option<Answer> {
        if self.queue.ready() > 0 { self.wait() } else { None }
    }

    /// The block was read: whoever wants it from now on asks anew.
    pub(super) fn done(&mut self, reader: &Arc<TableReader>, handle: BlockHandle) {
        self.token_of.remove(&(Arc::as_ptr(reader), handle));
    }
}

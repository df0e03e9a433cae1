//! What a caller does with a database, written down beforehand: the same every time, whatever goes wrong meanwhile.

use super::account::{MARKS, mark};
use super::change::Change;
use super::history::Commit;
use super::sizes::NAMES;
use crate::drive::Chance;
use std::sync::Arc;
use treering_lsm::Durability;

/// Keyspaces by number.
pub const KEYSPACES: [&str; 6] = [NAMES[0], NAMES[1], "third", "fourth", "fifth", "sixth"];

/// One call, or a few that belong together.
#[derive(Clone, Debug)]
pub enum Step {
    /// A batch; `number` is that of its mark.
    Write {
        /// Number of its mark.
        number: usize,
        /// Its operations.
        commit: Arc<Commit>,
        /// What its Ok means.
        durability: Durability,
    },
    /// `Db::flush`.
    Flush,
    /// `Db::compact`.
    Compact,
    /// So many units of background work.
    Background(u32),
    /// All background work that is due.
    Settle,
    /// Point reads.
    Get(Vec<(u8, Vec<u8>)>),
    /// Point reads of one keyspace, together.
    MultiGet(u8, Vec<Vec<u8>>),
    /// All entries of a range.
    Scan {
        /// The keyspace.
        keyspace: u8,
        /// First key.
        lower: Option<Vec<u8>>,
        /// The key after the last.
        upper: Option<Vec<u8>>,
        /// From the end.
        reverse: bool,
    },
    /// Seeks to keys, and a few moves both ways from there.
    Seek(u8, Vec<Vec<u8>>),
    /// Takes a snapshot and keeps it.
    Hold,
    /// Scans at every snapshot that is held.
    ScanHeld,
    /// Lets go of the oldest snapshot.
    Release,
    /// Makes the keyspace of this number.
    CreateKeyspace(u8),
    /// `Db::verify`.
    Verify,
    /// Closes the database and opens it again.
    Reopen,
    /// Closes it for good.
    Close,
}

/// One operation in so many is a range delete.
const RANGE_ONE_IN: u64 = 16;

/// Writes scripts.
#[derive(Debug)]
pub struct Scribe {
    /// Decides what is written.
    pub chance: Chance,
    /// Keyspaces that commits go to.
    pub keyspaces: u8,
    /// Different keys.
    pub key_count: u64,
    /// Bytes that are put in front of every key.
    pub key_prefix: Vec<u8>,
    number: usize,
    steps: Vec<Step>,
}

impl Scribe {
    /// An empty script.
    pub fn new(chance: Chance) -> Scribe {
        Scribe::after(chance, 0)
    }

    /// An empty script whose marks are numbered from `number` on.
    pub fn after(chance: Chance, number: usize) -> Scribe {
        let (keyspaces, key_count) = (2, 200);
        Scribe { chance, keyspaces, key_count, key_prefix: vec![], number, steps: vec![] }
    }

    /// The number of the next mark.
    pub fn next_number(&self) -> usize {
        self.number
    }

    /// The steps so far; what follows begins another script with higher numbers.
    pub fn take(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Adds a step.
    pub fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// A drawn key.
    pub fn key(&mut self) -> Vec<u8> {
        let number = self.chance.below(self.key_count);
        named(&self.key_prefix, number)
    }

    fn keys(&mut self, count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.key()).collect()
    }

    /// A commit of so many operations, one in `deletes` a delete, with values below `value_bytes`.
    pub fn write(&mut self, durability: Durability, count: u64, deletes: u64, value_bytes: u64) {
        let number = self.number;
        self.number += 1;
        let mut commit: Commit =
            (0..count).map(|_| self.change(number, deletes, value_bytes)).collect();
        commit.push(Change::put(0, mark(number), number.to_string()));
        self.add(Step::Write { number, commit: Arc::new(commit), durability });
    }

    fn change(&mut self, number: usize, deletes: u64, value_bytes: u64) -> Change {
        let keyspace = self.chance.below(u64::from(self.keyspaces)) as u8;
        if self.chance.one_in(RANGE_ONE_IN) {
            // The marks of all commits stand behind the keys of the default keyspace.
            let last = if keyspace == 0 { MARKS } else { &[] };
            let (prefix, count) = (&self.key_prefix, self.key_count);
            let name = |number| named(prefix, number);
            return Change::draw_range(&mut self.chance, keyspace, count, name, last);
        }
        let key = self.key();
        let length = self.chance.below(value_bytes);
        if self.chance.one_in(deletes) {
            return Change::delete(keyspace, key);
        }
        let mut value = format!("{number}:").into_bytes();
        value.resize(value.len() + length as usize, b'x');
        Change::put(keyspace, key, value)
    }

    /// A usual commit: a few small operations, one in `sync` durable.
    pub fn write_some(&mut self, sync: u64) {
        let durability =
            if self.chance.one_in(sync) { Durability::Sync } else { Durability::Buffered };
        let count = 1 + self.chance.below(4);
        self.write(durability, count, 5, 200);
    }

    /// Point reads.
    pub fn get(&mut self, count: u64) {
        let keyspaces = u64::from(self.keyspaces);
        let keys = (0..count).map(|_| (self.chance.below(keyspaces) as u8, self.key())).collect();
        self.add(Step::Get(keys));
    }

    /// Point reads together.
    pub fn multi_get(&mut self, count: u64) {
        let keyspace = self.chance.below(u64::from(self.keyspaces)) as u8;
        let keys = self.keys(count);
        self.add(Step::MultiGet(keyspace, keys));
    }

    /// A scan of everything or of a part.
    pub fn scan(&mut self, whole: bool) {
        let keyspace = self.chance.below(u64::from(self.keyspaces)) as u8;
        let mut bounds = self.keys(2);
        bounds.sort();
        let upper = bounds.pop().filter(|_| !whole);
        let lower = bounds.pop().filter(|_| !whole);
        let reverse = self.chance.one_in(2);
        self.add(Step::Scan { keyspace, lower, upper, reverse });
    }

    /// Seeks.
    pub fn seek(&mut self, count: u64) {
        let keyspace = self.chance.below(u64::from(self.keyspaces)) as u8;
        let keys = self.keys(count);
        self.add(Step::Seek(keyspace, keys));
    }
}

fn named(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, format!("key{number:03}").as_bytes()].concat()
}

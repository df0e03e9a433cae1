//! What a database that may be killed at any moment has to hold: one number for each key, outside the database.
//!
//! ```text
//! slot    │ pending version │ committed version │   equal where nothing is under way
//! version 0: never written; odd: put; even: deleted. Value and length follow from keyspace, key and version.
//! ```
//! Keys belong to threads, and a thread has one operation under way: the keys whose two versions differ. Before it is issued
//! they are marked, and its phase says how far it came:
//!
//! | phase | marked keys hold |
//! | --- | --- |
//! | `IDLE` | the committed version: the operation was not issued |
//! | `ISSUED` | all the committed or all the pending one |
//! | `ACKNOWLEDGED` | the pending one |

use super::sizes::NAMES;
use super::words::Words;
use crate::drive::Failure;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use treering_lsm::{Db, Keyspace, ReadOptions};

/// The operation, if one is marked, was not issued.
const IDLE: u64 = 0;
/// It was issued.
const ISSUED: u64 = 1;
/// It was acknowledged.
const ACKNOWLEDGED: u64 = 2;

/// Words before the phases: the first says what the child is at, the others are the row's.
const HEAD_WORDS: usize = 8;

/// How many threads and keys, and how large values are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Plan {
    /// Threads that write.
    pub threads: usize,
    /// Keys of one thread in each keyspace.
    pub keys: usize,
    /// Most values are shorter than twice this; one in 64 is sixteen times as long.
    pub value_bytes: u64,
}

impl Plan {
    fn slot(&self, place: Place) -> usize {
        let block = place.thread * NAMES.len() + place.keyspace;
        HEAD_WORDS + self.threads + block * self.keys + place.key
    }

    /// The bytes of a key.
    pub fn key(place: Place) -> Vec<u8> {
        format!("thread{}/key{:06}", place.thread, place.key).into_bytes()
    }

    /// The value of a version; `None` where it is deleted or was never written.
    pub fn value(&self, place: Place, version: u32) -> Option<Vec<u8>> {
        if version.is_multiple_of(2) {
            return None;
        }
        let mut value = format!("{place:?} {version} ").into_bytes();
        let mix = (self.slot(place) as u64 + 1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(u64::from(version))
            .wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let long = if mix >> 58 == 0 { 16 } else { 1 };
        let length = (mix >> 16) % (2 * self.value_bytes) * long;
        let mut word = mix;
        for _ in 0..length / 8 {
            value.extend_from_slice(&word.to_le_bytes());
            // Half of it repeats, so that compression has something to do.
            word = if word & 2 == 0 { word.wrapping_mul(mix | 1) } else { word ^ 2 };
        }
        Some(value)
    }
}

/// A key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Its thread.
    pub thread: usize,
    /// Number of its keyspace.
    pub keyspace: usize,
    /// Its number within both.
    pub key: usize,
}

/// The two versions of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    /// What was acknowledged last.
    pub committed: u32,
    /// What is under way; else the same.
    pub pending: u32,
}

/// The numbers, shared by whoever writes and whoever checks.
#[derive(Debug)]
pub struct Ledger {
    words: Words,
    plan: Plan,
}

impl Ledger {
    /// Opens the ledger, or makes one for an empty database.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, plan: Plan) -> io::Result<Ledger> {
        let slots = plan.threads * NAMES.len() * plan.keys;
        let words = Words::open(path, HEAD_WORDS + plan.threads + slots)?;
        Ok(Ledger { words, plan })
    }

    /// Its sizes.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What the child is at.
    pub fn state(&self) -> &AtomicU64 {
        &self.words[0]
    }

    fn phase(&self, thread: usize) -> &AtomicU64 {
        &self.words[HEAD_WORDS + thread]
    }

    /// What is known about a key.
    pub fn expected(&self, place: Place) -> Expected {
        let slot = self.words[self.plan.slot(place)].load(Ordering::Acquire);
        Expected { committed: slot as u32, pending: (slot >> 32) as u32 }
    }

    fn store(&self, place: Place, expected: Expected) {
        let slot = u64::from(expected.committed) | u64::from(expected.pending) << 32;
        self.words[self.plan.slot(place)].store(slot, Ordering::Release);
    }

    /// Marks the keys of an operation of `thread`, with their new versions, before it is issued.
    pub fn issue(&self, thread: usize, operation: &[(Place, u32)]) {
        for (place, version) in operation {
            let committed = self.expected(*place).committed;
            self.store(*place, Expected { committed, pending: *version });
        }
        self.phase(thread).store(ISSUED, Ordering::Release);
    }

    /// The operation was acknowledged.
    pub fn acknowledge(&self, thread: usize, operation: &[(Place, u32)]) {
        self.phase(thread).store(ACKNOWLEDGED, Ordering::Release);
        for (place, version) in operation {
            self.store(*place, Expected { committed: *version, pending: *version });
        }
        self.phase(thread).store(IDLE, Ordering::Release);
    }

    /// Compares the whole database with the ledger while nobody writes, then takes for certain what was found. May itself be
    /// killed at any moment and done again. Returns the keys that were there.
    ///
    /// # Errors
    /// What is lost, torn or invented, or an error of the engine.
    pub fn verify(&self, db: &Db) -> Result<u64, Failure> {
        let mut there = 0;
        let mut outcomes = vec![Outcome::Unknown; self.plan.threads];
        for (number, name) in NAMES.iter().enumerate() {
            let keyspace = db.keyspace(name).map_err(|error| error.to_string())?;
            there += self.verify_keyspace(&keyspace, number, &mut outcomes)?;
        }
        self.settle(&outcomes);
        Ok(there)
    }

    fn verify_keyspace(
        &self,
        keyspace: &Keyspace,
        number: usize,
        outcomes: &mut [Outcome],
    ) -> Result<u64, Failure> {
        let error = |error: treering_lsm::Error| format!("scan of {}: {error}", NAMES[number]);
        let mut range = keyspace.range(.., &ReadOptions::default()).map_err(error)?;
        let mut entry = range.next().transpose().map_err(error)?;
        let mut there = 0;
        for (thread, whole) in outcomes.iter_mut().enumerate() {
            for key in 0..self.plan.keys {
                let place = Place { thread, keyspace: number, key };
                let bytes = Plan::key(place);
                let mut found = None;
                if let Some((_, value)) = entry.take_if(|(key, _)| *key == bytes) {
                    there += 1;
                    found = Some(value);
                    entry = range.next().transpose().map_err(error)?;
                }
                let outcome = self.judge(place, found.as_deref())?;
                *whole = whole.and(outcome).ok_or_else(|| {
                    format!("the operation of thread {thread} is there in part, see {place:?}")
                })?;
            }
        }
        match entry {
            None => Ok(there),
            Some((key, _)) => {
                Err(format!("{}: invented or misplaced key {}", NAMES[number], key.escape_ascii()))
            }
        }
    }

    /// What a key shows about the operation under way, or that it is wrong.
    fn judge(&self, place: Place, found: Option<&[u8]>) -> Result<Outcome, Failure> {
        let Expected { committed, pending } = self.expected(place);
        let is = |version| self.plan.value(place, version).as_deref() == found;
        if committed == pending {
            return match is(committed) {
                true => Ok(Outcome::Unknown),
                false => Err(self.mismatch(place, found)),
            };
        }
        let (old, new) = match self.phase(place.thread).load(Ordering::Acquire) {
            IDLE => (is(committed), false),
            ACKNOWLEDGED => (false, is(pending)),
            _ => (is(committed), is(pending)),
        };
        match (old, new) {
            (true, true) => Ok(Outcome::Unknown),
            (true, false) => Ok(Outcome::Missing),
            (false, true) => Ok(Outcome::There),
            (false, false) => Err(self.mismatch(place, found)),
        }
    }

    /// What is wrong with a key.
    pub(super) fn mismatch(&self, place: Place, found: Option<&[u8]>) -> Failure {
        let shown = found.map_or("nothing".to_owned(), |value| {
            format!(
                "{} bytes, {:?}",
                value.len(),
                value[..value.len().min(60)].escape_ascii().to_string()
            )
        });
        format!(
            "{} {place:?}: found {shown}; {:?} in phase {}",
            NAMES[place.keyspace],
            self.expected(place),
            self.phase(place.thread).load(Ordering::Acquire)
        )
    }

    /// Checks one read of a key of the calling thread, which may have an operation that failed and will be tried again.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, place: Place, found: Option<&[u8]>) -> Result<(), Failure> {
        self.judge(place, found).map(|_| ())
    }

    fn settle(&self, outcomes: &[Outcome]) {
        for (thread, outcome) in outcomes.iter().enumerate() {
            // Where nothing tells, both versions are the same to a reader.
            let there = match self.phase(thread).load(Ordering::Acquire) {
                IDLE => false,
                ACKNOWLEDGED => true,
                _ => *outcome == Outcome::There,
            };
            for keyspace in 0..NAMES.len() {
                for key in 0..self.plan.keys {
                    let place = Place { thread, keyspace, key };
                    let Expected { committed, pending } = self.expected(place);
                    if committed != pending {
                        let version = if there { pending } else { committed };
                        self.store(place, Expected { committed: version, pending: version });
                    }
                }
            }
            self.phase(thread).store(IDLE, Ordering::Release);
        }
    }
}

/// What became of an operation under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Unknown,
    There,
    Missing,
}

impl Outcome {
    /// Both of two keys of one operation; `None` if they disagree.
    fn and(self, other: Outcome) -> Option<Outcome> {
        match (self, other) {
            (Outcome::Unknown, outcome) | (outcome, Outcome::Unknown) => Some(outcome),
            (one, two) => (one == two).then_some(one),
        }
    }
}

//! What several writers of one database were promised, and whether it was kept.
//!
//! Each writer has keys of its own (a prefix), numbers its commits and follows its own seed, so that its commits can be made
//! again outside. Shared numbers say how many of them it tried, how many were acknowledged, and how many are promised.
//!
//! - A Sync commit that is acknowledged promises itself and, because the log is one order, every commit of every writer
//!   that was acknowledged before it began.
//! - Every commit carries how many commits of each writer were acknowledged before it began. If it survived, so did they:
//!   what survives is a prefix of one order of all commits.

use crate::drive::{Chance, Failure, Tally};
use crate::world::{Change, Commit, History, Map, What, make_commit};
use std::sync::atomic::{AtomicU64, Ordering};
use treering_lsm::Durability;

/// Numbers of one writer.
const WORDS: usize = 8;
const TRIED: usize = 0;
const ACKNOWLEDGED: usize = 1;
const PROMISED: usize = 2;

/// The key under which a commit says what it had seen, after the writer's prefix.
const SEEN: &[u8] = b"~seen";

/// Prefix of a writer's keys.
fn prefix(writer: usize) -> u8 {
    b'a' + writer as u8
}

/// The commits of a writer in one life: what it writes follows from the seed, and so does how.
pub(super) struct Script {
    chance: Chance,
    number: usize,
}

impl Script {
    pub(super) fn new(seed: u64, life: u64, writer: usize, number: usize) -> Script {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(life * 16 + writer as u64);
        Script { chance: Chance::new(seed), number }
    }

    /// The next commit, without its writer's prefix.
    pub(super) fn next_commit(&mut self) -> (Commit, Durability) {
        let commit = make_commit(&mut self.chance, self.number);
        self.number += 1;
        let sync = self.chance.one_in(5);
        (commit, if sync { Durability::Sync } else { Durability::Buffered })
    }
}

/// What a writer in the child says while it works.
pub(super) struct Pen<'a> {
    words: &'a [AtomicU64],
    writers: usize,
    writer: usize,
    seen: Vec<u64>,
}

impl Pen<'_> {
    pub(super) fn new(words: &[AtomicU64], writers: usize, writer: usize) -> Pen<'_> {
        Pen { words, writers, writer, seen: Vec::new() }
    }

    fn word(&self, writer: usize, index: usize) -> &AtomicU64 {
        &self.words[writer * WORDS + index]
    }

    /// Commits tried before this life.
    pub(super) fn first(&self) -> usize {
        self.word(self.writer, TRIED).load(Ordering::Acquire) as usize
    }

    /// The commit is about to be written; adds the writer's prefix and what it has seen.
    pub(super) fn try_commit(&mut self, commit: Commit) -> Commit {
        let number = self.word(self.writer, TRIED).fetch_add(1, Ordering::AcqRel);
        self.seen = (0..self.writers)
            .map(|writer| self.word(writer, ACKNOWLEDGED).load(Ordering::Acquire))
            .collect();
        let mut text = number.to_string();
        self.seen.iter().for_each(|count| text.push_str(&format!(" {count}")));
        let mark = Change::put(0, SEEN, text);
        commit.into_iter().chain([mark]).map(|change| prefixed(change, self.writer)).collect()
    }

    /// The commit was acknowledged.
    pub(super) fn acknowledged(&self, durability: Durability) {
        let count = self.word(self.writer, TRIED).load(Ordering::Acquire);
        if durability == Durability::Sync {
            self.word(self.writer, PROMISED).fetch_max(count, Ordering::AcqRel);
            for (writer, seen) in self.seen.iter().enumerate() {
                self.word(writer, PROMISED).fetch_max(*seen, Ordering::AcqRel);
            }
        }
        self.word(self.writer, ACKNOWLEDGED).store(count, Ordering::Release);
    }
}

/// The same for the keys of a writer; what has no end ends where the next writer's begin.
fn prefixed(mut change: Change, writer: usize) -> Change {
    change.key.insert(0, prefix(writer));
    if let What::DeleteTo(end) = &mut change.what {
        let first = if end.is_empty() { prefix(writer + 1) } else { prefix(writer) };
        end.insert(0, first);
    }
    change
}

/// Shared numbers of so many writers.
pub(super) fn words_of(writers: usize) -> usize {
    writers * WORDS
}

/// All writers, as the parent knows them.
pub(super) struct Writers {
    histories: Vec<History>,
    /// Commits of each before this life.
    begun: Vec<usize>,
}

impl Writers {
    pub(super) fn new(count: usize) -> Writers {
        Writers { histories: vec![History::default(); count], begun: vec![0; count] }
    }

    pub(super) fn count(&self) -> usize {
        self.histories.len()
    }

    /// A life begins.
    pub(super) fn begin(&mut self, words: &[AtomicU64]) {
        self.begun = self.histories.iter().map(|history| history.commits.len()).collect();
        for (history, words) in self.histories.iter().zip(words.chunks(WORDS)) {
            let count = history.commits.len() as u64;
            for word in [TRIED, ACKNOWLEDGED, PROMISED] {
                words[word].store(count, Ordering::Release);
            }
        }
    }

    /// A life has ended: makes its commits again, and takes down what was promised.
    pub(super) fn end(&mut self, seed: u64, life: u64, words: &[AtomicU64]) -> Result<(), Failure> {
        for (writer, history) in self.histories.iter_mut().enumerate() {
            let word =
                |index: usize| words[writer * WORDS + index].load(Ordering::Acquire) as usize;
            let mut script = Script::new(seed, life, writer, history.commits.len());
            while history.commits.len() < word(TRIED) {
                history.commits.push(script.next_commit().0);
            }
            history.acknowledged = word(ACKNOWLEDGED);
            history.synced = word(PROMISED);
            if history.synced > history.commits.len() {
                return Err(format!("writer {writer} was promised more than it tried"));
            }
        }
        Ok(())
    }

    /// Checks what was found after a recovery, which makes all of it promised.
    pub(super) fn check(&mut self, found: &Map, tally: &mut Tally) -> Result<(), Failure> {
        let mut parts = vec![Map::new(); self.count()];
        for ((keyspace, key), value) in found {
            let writer = key[0].wrapping_sub(b'a') as usize;
            let part = parts.get_mut(writer).ok_or_else(|| format!("invented key {key:?}"))?;
            part.insert((*keyspace, key[1..].to_vec()), value.clone());
        }
        let marks: Vec<_> = parts.iter_mut().map(|part| part.remove(&(0, SEEN.to_vec()))).collect();
        let mut survived = Vec::new();
        for (writer, part) in parts.iter().enumerate() {
            let history = &mut self.histories[writer];
            let count = history
                .check_prefix(part, history.synced)
                .map_err(|failure| format!("writer {writer} of {}: {failure}", parts.len()))?;
            survived.push(count as u64);
        }
        for (writer, mark) in marks.into_iter().enumerate() {
            self.check_seen(writer, &survived, mark)?;
        }
        for (writer, history) in self.histories.iter_mut().enumerate() {
            let count = survived[writer] as usize;
            tally.note("commits_kept", (count - self.begun[writer]) as u64);
            // Without any of these the device is kinder than the promise, and the row proves less.
            tally.note("buffered_lost", history.acknowledged.saturating_sub(count) as u64);
            history.settle(count);
        }
        Ok(())
    }

    /// The last commit of `writer` that survived had seen these commits of others.
    fn check_seen(
        &self,
        writer: usize,
        survived: &[u64],
        mark: Option<Vec<u8>>,
    ) -> Result<(), Failure> {
        let Some(mark) = mark else {
            return match survived[writer] {
                0 => Ok(()),
                count => {
                    Err(format!("writer {writer}: {count} commits survived without their mark"))
                }
            };
        };
        let text = String::from_utf8_lossy(&mark);
        let numbers: Vec<u64> = text.split(' ').filter_map(|word| word.parse().ok()).collect();
        if numbers.len() != 1 + survived.len() || numbers[0] + 1 != survived[writer] {
            return Err(format!("writer {writer}: {survived:?} survived, its mark says {text:?}"));
        }
        let later = (0..survived.len()).find(|other| survived[*other] < numbers[1 + other]);
        match later {
            None => Ok(()),
            Some(other) => Err(format!(
                "commit {} of writer {writer} survived, commits of writer {other} that were acknowledged before it did not: {survived:?}, seen {text:?}",
                numbers[0]
            )),
        }
    }
}

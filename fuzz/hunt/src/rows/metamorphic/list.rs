//! A list of operations that means the same under every setting: explicit keys, values, bounds and moves.
//!
//! The list is cut into chapters. Between two of them nobody holds a snapshot: there a setting may end the process.

use crate::drive::Chance;
use crate::world::{Change, Keys, What};
use std::fmt;
use std::ops::Bound;

/// Snapshots that may be held at once.
const SLOTS: u64 = 3;
/// Keyspaces at most.
const KEYSPACES_MAX: usize = 4;

/// What a read looks at: a keyspace, now or at the snapshot of a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) at: usize,
    pub(super) slot: Option<u64>,
}

/// One move of a cursor.
#[derive(Clone, Debug)]
pub(super) enum Move {
    First,
    Last,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Next,
    Prev,
}

/// One operation.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write(Change),
    Batch(Vec<Change>),
    Get(Look, Vec<u8>),
    MultiGet(Look, Vec<Vec<u8>>),
    /// A range; each true takes an entry from the front, each false one from the back.
    Range(Look, (Bound<Vec<u8>>, Bound<Vec<u8>>), Vec<bool>),
    Prefix(Look, Vec<u8>),
    Walk(Look, (Option<Vec<u8>>, Option<Vec<u8>>), Vec<Move>),
    /// Everything, forward and backward.
    Whole(Look),
    Snapshot(u64),
    Release(u64),
    CreateKeyspace,
    /// The end of a chapter.
    Rest,
}

/// An operation and its place in the list as it was made: what a setting does besides depends on it, not on what is left of the list.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) id: u64,
    pub(super) operation: Operation,
}

/// Makes a list.
pub(super) fn make_list(chance: &mut Chance) -> Vec<Step> {
    let length = *chance.pick(&[300, 1_000, 3_000]);
    let count = *chance.pick(&[20, 200, 1_000, 3_000]);
    let bytes = *chance.pick(&[30, 200]);
    let chapter = *chance.pick(&[50, 200, 1_000]);
    let mut maker = Maker { chance, keys: Keys::new(count, bytes), keyspaces: 1, chapter };
    let mut operations: Vec<Operation> = (0..length).map(|_| maker.operation()).collect();
    operations.push(Operation::Rest);
    let all = (0..maker.keyspaces).map(|at| Operation::Whole(Look { at, slot: None }));
    operations.extend(all);
    let steps = operations.into_iter().enumerate();
    steps.map(|(id, operation)| Step { id: id as u64, operation }).collect()
}

struct Maker<'a> {
    chance: &'a mut Chance,
    keys: Keys,
    keyspaces: usize,
    /// Operations of a chapter, about.
    chapter: u64,
}

impl Maker<'_> {
    fn operation(&mut self) -> Operation {
        if self.chance.one_in(self.chapter) {
            return Operation::Rest;
        }
        if self.chance.one_in(200) {
            return Operation::Whole(self.look());
        }
        if self.chance.one_in(400) && self.keyspaces < KEYSPACES_MAX {
            self.keyspaces += 1;
            return Operation::CreateKeyspace;
        }
        match self.chance.below(100) {
            0..=39 => Operation::Write(self.write()),
            40..=47 => {
                let count = self.chance.below(10);
                Operation::Batch((0..count).map(|_| self.write()).collect())
            }
            48..=67 => Operation::Get(self.look(), self.key()),
            68..=73 => {
                let count = self.chance.below(20);
                Operation::MultiGet(self.look(), (0..count).map(|_| self.key()).collect())
            }
            74..=79 => {
                let (low, high) = self.two_keys();
                let ends = (0..self.chance.below(50)).map(|_| self.chance.one_in(2)).collect();
                Operation::Range(self.look(), (self.bound(low), self.bound(high)), ends)
            }
            80..=82 => {
                let mut prefix = Vec::new();
                self.keys.prefix(self.chance, &mut prefix);
                Operation::Prefix(self.look(), prefix)
            }
            83..=90 => {
                let (low, high) = self.two_keys();
                let low = self.chance.one_in(3).then_some(low);
                let high = self.chance.one_in(3).then_some(high);
                let count = self.chance.below(24);
                let moves = (0..count).map(|_| self.a_move()).collect();
                Operation::Walk(self.look(), (low, high), moves)
            }
            91 | 92 => Operation::Snapshot(self.chance.below(SLOTS)),
            93 => Operation::Release(self.chance.below(SLOTS)),
            _ => Operation::Get(self.look(), self.key()),
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let mut key = Vec::new();
        self.keys.draw(self.chance, &mut key);
        key
    }

    fn two_keys(&mut self) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (self.key(), self.key());
        if a < b { (a, b) } else { (b, a) }
    }

    /// A write; one of many is refused, for its key is empty.
    fn write(&mut self) -> Change {
        let keyspace = self.keyspace() as u8;
        if self.chance.one_in(30) {
            let (start, end) = self.keys.range(self.chance);
            return Change::delete_range(keyspace, start, end);
        }
        let key = if self.chance.one_in(500) { Vec::new() } else { self.key() };
        match self.chance.one_in(5) {
            true => Change::delete(keyspace, key),
            false => Change::put(keyspace, key, self.keys.value(self.chance)),
        }
    }

    fn keyspace(&mut self) -> usize {
        self.chance.below(self.keyspaces as u64) as usize
    }

    fn look(&mut self) -> Look {
        let slot = self.chance.one_in(3).then(|| self.chance.below(SLOTS));
        Look { at: self.keyspace(), slot }
    }

    fn bound(&mut self, key: Vec<u8>) -> Bound<Vec<u8>> {
        match self.chance.below(3) {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    fn a_move(&mut self) -> Move {
        match self.chance.below(16) {
            0 => Move::First,
            1 => Move::Last,
            2 | 3 => Move::Seek(self.key()),
            4 | 5 => Move::SeekForPrev(self.key()),
            6..=10 => Move::Next,
            _ => Move::Prev,
        }
    }
}

impl fmt::Display for Operation {
    /// For a person: keys in words, values by their length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &[u8]| key[..key.len().min(60)].escape_ascii().to_string();
        let write = |Change { keyspace, key: name, what }: &Change| match what {
            What::Put(value) => format!("put {keyspace}:{} ({} bytes)", key(name), value.len()),
            What::Delete => format!("delete {keyspace}:{}", key(name)),
            What::DeleteTo(end) => format!("delete {keyspace}:{} to {}", key(name), key(end)),
        };
        let look = |look: &Look| match look.slot {
            Some(slot) => format!("{} at snapshot {slot}", look.at),
            None => look.at.to_string(),
        };
        let bound = |bound: &Bound<Vec<u8>>| match bound {
            Bound::Included(name) => format!("[{}]", key(name)),
            Bound::Excluded(name) => format!("({})", key(name)),
            Bound::Unbounded => "..".to_owned(),
        };
        match self {
            Operation::Write(one) => f.write_str(&write(one)),
            Operation::Batch(writes) => {
                write!(f, "batch {:?}", writes.iter().map(write).collect::<Vec<_>>())
            }
            Operation::Get(of, name) => write!(f, "get {}:{}", look(of), key(name)),
            Operation::MultiGet(of, names) => {
                let names: Vec<_> = names.iter().map(|name| key(name)).collect();
                write!(f, "multi_get {}:{names:?}", look(of))
            }
            Operation::Range(of, (low, high), ends) => {
                write!(f, "range {} {} {} {ends:?}", look(of), bound(low), bound(high))
            }
            Operation::Prefix(of, prefix) => write!(f, "prefix {}:{}", look(of), key(prefix)),
            Operation::Walk(of, (low, high), moves) => {
                let bounds = [low, high].map(|bound| bound.as_deref().map(key));
                write!(f, "cursor {} {bounds:?} {moves:?}", look(of))
            }
            Operation::Whole(of) => write!(f, "whole {}", look(of)),
            Operation::Snapshot(slot) => write!(f, "snapshot {slot}"),
            Operation::Release(slot) => write!(f, "release {slot}"),
            Operation::CreateKeyspace => f.write_str("create a keyspace"),
            Operation::Rest => f.write_str("rest"),
        }
    }
}

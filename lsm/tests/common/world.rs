//! Commits that tell which prefix of them a recovered database is.
//!
//! Every commit writes its own number under one key in both keyspaces beside its random operations.

use super::Chance;
use std::collections::BTreeMap;
use treering_lsm::{Db, Durability, ReadOptions, WriteBatch, WriteOptions};

pub type Map = BTreeMap<(u8, Vec<u8>), Vec<u8>>;
/// The operations of one commit: keyspace, key, value or delete.
pub type Commit = Vec<(u8, Vec<u8>, Option<Vec<u8>>)>;

pub const COUNTER: &[u8] = b"~commit";
/// What was tried and what was promised.
#[derive(Default)]
pub struct History {
    pub commits: Vec<Commit>,
    /// Commits 0..synced survive a power cut, 0..acknowledged a kill.
    pub synced: usize,
    pub acknowledged: usize,
}

impl History {
    pub fn state_after(&self, count: usize) -> Map {
        let mut map = Map::new();
        for (keyspace, key, value) in self.commits[..count].iter().flatten() {
            match value {
                Some(value) => map.insert((*keyspace, key.clone()), value.clone()),
                None => map.remove(&(*keyspace, key.clone())),
            };
        }
        map
    }
}

pub fn make_commit(chance: &mut Chance, number: usize) -> Commit {
    let mut commit = Commit::new();
    for _ in 0..1 + chance.below(4) {
        let key = format!("key{:03}", chance.below(300)).into_bytes();
        let length = if chance.one_in(100) { chance.below(60_000) } else { chance.below(200) };
        let value = (!chance.one_in(5)).then(|| {
            format!("{number}:")
                .into_bytes()
                .into_iter()
                .chain(std::iter::repeat_n(b'x', length as usize))
                .collect()
        });
        commit.push((chance.below(2) as u8, key, value));
    }
    for keyspace in 0..2 {
        commit.push((keyspace, COUNTER.to_vec(), Some(number.to_string().into_bytes())));
    }
    commit
}

/// Writes until the power goes or `count` commits are done.
pub fn work(
    db: &Db,
    chance: &mut Chance,
    history: &mut History,
    count: usize,
) -> Result<(), treering_lsm::Error> {
    let keyspaces = [db.default_keyspace().clone(), db.keyspace("other")?];
    for _ in 0..count {
        match chance.below(40) {
            0 => db.flush()?,
            1 => db.compact()?,
            2..=8 => {
                db.step()?;
            }
            _ => {
                let commit = make_commit(chance, history.commits.len());
                let mut batch = WriteBatch::new();
                for (keyspace, key, value) in &commit {
                    let keyspace = &keyspaces[usize::from(*keyspace)];
                    match value {
                        Some(value) => batch.put(keyspace, key, value)?,
                        None => batch.delete(keyspace, key)?,
                    }
                }
                history.commits.push(commit);
                let sync = chance.one_in(5);
                let durability = Some(if sync { Durability::Sync } else { Durability::Buffered });
                db.write(&batch, &WriteOptions { durability })?;
                history.acknowledged = history.commits.len();
                if sync {
                    history.synced = history.acknowledged;
                }
            }
        }
    }
    Ok(())
}

pub fn contents(db: &Db) -> Map {
    let mut map = Map::new();
    for (number, name) in ["default", "other"].iter().enumerate() {
        let Ok(keyspace) = db.keyspace(name) else { continue };
        for entry in keyspace.range(.., &ReadOptions::default()).unwrap() {
            let (key, value) = entry.unwrap();
            map.insert((number as u8, key), value.to_vec());
        }
    }
    map
}

/// How many commits a state holds.
pub fn commits_in(state: &Map) -> usize {
    let counter =
        state.get(&(0, COUNTER.to_vec())).map(|value| String::from_utf8(value.clone()).unwrap());
    counter.map_or(0, |text| text.parse::<usize>().unwrap() + 1)
}

/// Panics unless `found` is the state after some number of commits between `promised` and all; returns that number.
pub fn check_prefix(place: &str, found: &Map, history: &History, promised: usize) -> usize {
    let survived = commits_in(found);
    assert!(survived >= promised, "{place}: {survived} commits survived, {promised} were promised");
    assert!(survived <= history.commits.len(), "{place}: a commit was invented");
    let expected = history.state_after(survived);
    if *found != expected {
        let wrong = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
        let extra = found.iter().find(|(key, _)| !expected.contains_key(*key));
        panic!(
            "{place}: not the state after {survived} commits; first missing {:?}, extra {:?}",
            wrong.map(|(key, _)| (key.0, key.1.escape_ascii().to_string())),
            extra.map(|(key, _)| (key.0, key.1.escape_ascii().to_string()))
        );
    }
    survived
}

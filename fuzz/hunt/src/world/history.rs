//! Commits that tell which prefix of them a recovered database is.
//!
//! Every commit writes its own number under one key in both keyspaces beside its random operations. So a state names the
//! number of commits that it claims to hold, and is right only if it equals the state after exactly so many of them.

use super::change::{Change, Shown};
use super::sizes::NAMES;
use crate::drive::{Chance, Failure};
use std::collections::BTreeMap;
use treering_lsm::{Db, Durability, Error, ReadOptions, WriteBatch, WriteOptions};

/// Contents of all keyspaces: number of the keyspace and key, value.
pub type Map = BTreeMap<(u8, Vec<u8>), Vec<u8>>;
/// The operations of one commit.
pub type Commit = Vec<Change>;

/// The key under which a commit writes its number.
pub const COUNTER: &[u8] = b"~commit";

/// Different keys of each keyspace.
const KEYS: u64 = 300;
/// One operation in so many is a range delete.
const RANGE_ONE_IN: u64 = 12;

/// What was tried and what was promised.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every commit that was tried, in order.
    pub commits: Vec<Commit>,
    /// Commits 0..synced survive a power cut.
    pub synced: usize,
    /// Commits 0..acknowledged survive a kill.
    pub acknowledged: usize,
}

impl History {
    /// What the database holds after the first `count` commits.
    pub fn state_after(&self, count: usize) -> Map {
        let mut map = Shown::new();
        self.commits[..count].iter().flatten().for_each(|change| change.apply(&mut map));
        map.into_iter().map(|((at, key), value)| ((at, key.to_vec()), value.to_vec())).collect()
    }

    /// Checks that `found` is the state after some number of commits between `promised` and all; returns that number.
    ///
    /// # Errors
    /// What is wrong: a promised commit lost, a commit torn, something invented.
    pub fn check_prefix(&self, found: &Map, promised: usize) -> Result<usize, Failure> {
        let survived = commits_in(found)?;
        if survived < promised {
            return Err(format!("{survived} commits survived, {promised} were promised"));
        }
        if survived > self.commits.len() {
            return Err(format!("commit {survived} was invented"));
        }
        let expected = self.state_after(survived);
        if *found != expected {
            let show = |key: &(u8, Vec<u8>)| format!("{}:{}", key.0, key.1.escape_ascii());
            let wrong = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
            let extra = found.iter().find(|(key, _)| !expected.contains_key(*key));
            return Err(format!(
                "not the state after {survived} commits; first wrong or missing {:?}, first extra {:?}",
                wrong.map(|(key, _)| show(key)),
                extra.map(|(key, _)| show(key)),
            ));
        }
        Ok(survived)
    }

    /// After a recovery that left `survived` commits: recovery wrote them to tables, so all are promised now.
    pub fn settle(&mut self, survived: usize) {
        // What is no longer in doubt is kept as one commit, so that a long history stays quick to replay.
        let state = self.state_after(survived);
        self.commits.truncate(survived);
        self.commits.iter_mut().for_each(|commit| *commit = Commit::new());
        if let Some(last) = self.commits.last_mut() {
            last.extend(
                state.into_iter().map(|((keyspace, key), value)| Change::put(keyspace, key, value)),
            );
        }
        self.synced = survived;
        self.acknowledged = survived;
    }
}

/// How many commits a state claims to hold.
fn commits_in(state: &Map) -> Result<usize, Failure> {
    let Some(value) = state.get(&(0, COUNTER.to_vec())) else { return Ok(0) };
    let text = String::from_utf8_lossy(value);
    let number: usize = text.parse().map_err(|_| format!("the counter says {text:?}"))?;
    Ok(number + 1)
}

/// Draws a commit. The counter comes last: a range without end may hold it.
pub fn make_commit(chance: &mut Chance, number: usize) -> Commit {
    let mut commit = Commit::new();
    for _ in 0..1 + chance.below(4) {
        commit.push(make_change(chance, number));
    }
    for keyspace in 0..2 {
        commit.push(Change::put(keyspace, COUNTER, number.to_string()));
    }
    commit
}

fn make_change(chance: &mut Chance, number: usize) -> Change {
    let name = |number: u64| format!("key{number:03}").into_bytes();
    let keyspace = chance.below(2) as u8;
    if chance.one_in(RANGE_ONE_IN) {
        return Change::draw_range(chance, keyspace, KEYS, name, &[]);
    }
    let key = name(chance.below(KEYS));
    let length = if chance.one_in(100) { chance.below(60_000) } else { chance.below(200) };
    if chance.one_in(5) {
        return Change::delete(keyspace, key);
    }
    let mut value = format!("{number}:").into_bytes();
    value.resize(value.len() + length as usize, b'x');
    Change::put(keyspace, key, value)
}

/// A commit as a batch.
///
/// # Errors
/// The engine's.
pub fn batch(db: &Db, commit: &Commit) -> Result<WriteBatch, Error> {
    let keyspaces = [db.default_keyspace().clone(), db.keyspace(NAMES[1])?];
    let mut batch = WriteBatch::new();
    for change in commit {
        change.add_to(&mut batch, &keyspaces[usize::from(change.keyspace)])?;
    }
    Ok(batch)
}

/// Writes a commit and notes what was promised for it.
///
/// # Errors
/// The engine's.
pub fn write(
    db: &Db,
    history: &mut History,
    commit: Commit,
    durability: Durability,
) -> Result<(), Error> {
    let batch = batch(db, &commit)?;
    history.commits.push(commit);
    db.write(&batch, &WriteOptions { durability: Some(durability) })?;
    history.acknowledged = history.commits.len();
    if durability == Durability::Sync {
        history.synced = history.acknowledged;
    }
    Ok(())
}

/// Writes, flushes, compacts and steps until something fails or `count` operations are done.
///
/// # Errors
/// The engine's first.
pub fn work(
    db: &Db,
    chance: &mut Chance,
    history: &mut History,
    count: usize,
) -> Result<(), Error> {
    for _ in 0..count {
        match chance.below(40) {
            0 => db.flush()?,
            1 => db.compact()?,
            2..=8 => {
                db.step()?;
            }
            _ => {
                let commit = make_commit(chance, history.commits.len());
                let sync = chance.one_in(5);
                let durability = if sync { Durability::Sync } else { Durability::Buffered };
                write(db, history, commit, durability)?;
            }
        }
    }
    Ok(())
}

/// Everything that a scan of all keyspaces finds.
///
/// # Errors
/// The engine's.
pub fn contents(db: &Db) -> Result<Map, Error> {
    scan(db, &ReadOptions::default())
}

/// Everything that a scan of all keyspaces with these options finds.
///
/// # Errors
/// The engine's.
pub fn scan(db: &Db, options: &ReadOptions) -> Result<Map, Error> {
    scan_named(db, &NAMES, options)
}

/// As [`scan`], of these keyspaces, as far as they are there.
///
/// # Errors
/// The engine's.
pub fn scan_named(db: &Db, names: &[&str], options: &ReadOptions) -> Result<Map, Error> {
    let mut map = Map::new();
    for (number, name) in names.iter().enumerate() {
        let keyspace = match db.keyspace(name) {
            Err(Error::KeyspaceNotFound { .. }) => continue,
            other => other?,
        };
        for entry in keyspace.range(.., options)? {
            let (key, value) = entry?;
            map.insert((number as u8, key), value.to_vec());
        }
    }
    Ok(map)
}

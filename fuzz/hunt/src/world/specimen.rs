//! Databases at rest: small, made from a recipe, and known in all that may come out of them.

use super::change::Change;
use super::files::{Files, files_of};
use super::history::{COUNTER, Commit, History, Map, write};
use super::sizes::{NAMES, open};
use crate::drive::{Chance, Failure};
use std::collections::BTreeSet;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Db, Durability, KeyspaceOptions, Options};

/// One operation in so many is a range delete.
const RANGE_ONE_IN: u64 = 16;

/// How a database came to rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rest {
    /// Everything went to tables, then it was closed: the log is empty.
    Flushed,
    /// Closed: everything that was written is promised.
    Closed,
    /// Its process was killed: what was not synced is promised only as long as nothing is damaged.
    Killed,
}

/// What a specimen is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Decides everything random.
    pub seed: u64,
    /// Options, those of the default keyspace included.
    pub options: Options,
    /// Options of the other keyspace.
    pub other: KeyspaceOptions,
    /// Commits.
    pub commits: usize,
    /// Different keys of each keyspace.
    pub keys: u64,
    /// Values are shorter.
    pub value_bytes_end: u64,
    /// After so many commits comes a flush, and every third time a compaction; 0: never.
    pub flush_every: usize,
    /// One commit in so many is synced; 0: none.
    pub sync_one_in: u64,
    /// Each of so many earlier openings writes its share and is closed, so that the log's files have other epochs in them.
    pub earlier_runs: usize,
    /// The end.
    pub rest: Rest,
}

/// A database at rest.
#[derive(Clone, Debug)]
pub struct Specimen {
    /// The files of its directory.
    pub files: Files,
    /// Options to open it with.
    pub options: Options,
    /// Commits that no damage to the log may take away in silence.
    pub synced: usize,
    /// Contents after `synced` commits, after one more, and so on, up to all.
    states: Vec<Map>,
    /// Every key that was ever written, and for each one that never was.
    pub keys: [Vec<Vec<u8>>; NAMES.len()],
    /// Files as they were at earlier moments, oldest first.
    pub older: Vec<Files>,
}

impl Specimen {
    /// Makes one. The same recipe gives the same bytes.
    ///
    /// # Errors
    /// What the engine said on the way: nothing is damaged yet.
    pub fn make(recipe: &Recipe) -> Result<Specimen, Failure> {
        let mut chance = Chance::new(recipe.seed);
        let mut history = History::default();
        let mut disk = SimDisk::new(recipe.seed);
        let text = |error: treering_lsm::Error| format!("making a specimen: {error}");
        let runs = recipe.earlier_runs + 1;
        let mut older = Vec::new();
        let mut remember = |disk: &SimDisk| {
            files_of(disk).map(|files| older.push(files)).map_err(|error| error.to_string())
        };
        for run in 0..runs {
            let db = open(&disk, &recipe.options).map_err(text)?;
            if run == 0 {
                db.create_keyspace(NAMES[1], recipe.other.clone()).map_err(text)?;
            }
            remember(&disk)?;
            for half in [1, 2] {
                let upto = recipe.commits * (2 * run + half) / (2 * runs);
                fill(&db, recipe, &mut chance, &mut history, upto).map_err(text)?;
                remember(&disk)?;
            }
            if run + 1 < runs || recipe.rest != Rest::Killed {
                if recipe.rest == Rest::Flushed {
                    db.flush().map_err(text)?;
                }
                db.close().map_err(text)?;
                history.synced = history.acknowledged;
            } else {
                let next = disk.after_kill();
                drop(db);
                disk = next;
            }
        }
        let files = files_of(&disk).map_err(|error| error.to_string())?;
        let specimen = Specimen::of(files, recipe.options.clone(), &history);
        Ok(Specimen { older, ..specimen })
    }

    /// A specimen with these files, which hold what `history` says.
    fn of(files: Files, options: Options, history: &History) -> Specimen {
        let mut keys = [BTreeSet::new(), BTreeSet::new()];
        for Change { keyspace, key, .. } in history.commits.iter().flatten() {
            let keys = &mut keys[usize::from(*keyspace)];
            keys.insert(key.clone());
            keys.insert([key, &b"-"[..]].concat());
        }
        let all = history.synced..=history.commits.len();
        Specimen {
            files,
            options,
            synced: history.synced,
            states: all.map(|count| history.state_after(count)).collect(),
            keys: keys.map(|keys| keys.into_iter().collect()),
            older: Vec::new(),
        }
    }

    /// All commits.
    pub fn commits(&self) -> usize {
        self.synced + self.states.len() - 1
    }

    /// The contents after `count` commits, if that many are possible at all.
    pub fn state(&self, count: usize) -> Option<&Map> {
        self.states.get(count.checked_sub(self.synced)?)
    }
}

/// Writes until the history has `upto` commits.
fn fill(
    db: &Db,
    recipe: &Recipe,
    chance: &mut Chance,
    history: &mut History,
    upto: usize,
) -> treering_lsm::Result<()> {
    while history.commits.len() < upto {
        let number = history.commits.len();
        let commit = small_commit(recipe, chance, number);
        let sync = recipe.sync_one_in > 0 && chance.one_in(recipe.sync_one_in);
        let durability = if sync { Durability::Sync } else { Durability::Buffered };
        write(db, history, commit, durability)?;
        if recipe.flush_every > 0 && (number + 1).is_multiple_of(recipe.flush_every) {
            db.flush()?;
            // What is in tables survives everything that what is synced does.
            history.synced = history.acknowledged;
            if (number + 1).is_multiple_of(3 * recipe.flush_every) {
                db.compact()?;
            }
        }
    }
    Ok(())
}

/// One operation and the counter in each keyspace.
fn small_commit(recipe: &Recipe, chance: &mut Chance, number: usize) -> Commit {
    let mut commit = Commit::new();
    for keyspace in 0..NAMES.len() as u8 {
        commit.push(Change::put(keyspace, COUNTER, number.to_string()));
        let name = |number: u64| format!("key{number:03}").into_bytes();
        if chance.one_in(RANGE_ONE_IN) {
            commit.push(Change::draw_range(chance, keyspace, recipe.keys, name, COUNTER));
            continue;
        }
        let key = name(chance.below(recipe.keys));
        let letter = b'a' + (number % 26) as u8;
        let value = vec![letter; chance.below(recipe.value_bytes_end) as usize];
        commit.push(match chance.one_in(4) {
            true => Change::delete(keyspace, key),
            false => Change::put(keyspace, key, value),
        });
    }
    commit
}

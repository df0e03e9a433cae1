//! What was tried and promised where a commit may fail and the work goes on.
//!
//! A [`History`](super::History) ends with its first error. Here errors stand in the middle, and a commit that was refused may be
//! there or not. So every commit also writes a mark of its own, which nothing removes: the marks of a state say which commits it
//! holds, and it is right only if it equals what exactly these make of the state before.

use super::change::{What, shown};
use super::history::{Commit, Map};
use crate::drive::Failure;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a commit was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It survives a power cut.
    Durable,
    /// It survives a kill.
    Acknowledged,
    /// Acknowledged, but the power went since: it may be there, in its place in the order.
    Unsure,
    /// An error: nothing was promised, but it may be there.
    Refused,
}

/// What a state must still hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    /// The process died: everything acknowledged.
    Kill,
    /// The power went: everything durable.
    Cut,
}

#[derive(Clone, Debug)]
struct Entry {
    commit: Arc<Commit>,
    mark: Vec<u8>,
    outcome: Outcome,
    /// Whether the database showed it while it was open, once somebody has looked.
    shown: Option<bool>,
}

impl Entry {
    /// It stands in the order that readers saw.
    fn in_order(&self) -> bool {
        self.outcome != Outcome::Refused || self.shown == Some(true)
    }
}

/// What each key may show now; a key that is not here shows nothing.
pub type Possible = BTreeMap<(u8, Vec<u8>), Vec<Option<Vec<u8>>>>;

/// See the head of the file.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Durable since the last settling, whatever happens.
    base: Arc<Map>,
    entries: Vec<Entry>,
    possible: Possible,
    /// Keyspaces that are there for certain, and those whose making failed.
    keyspaces: Vec<String>,
    keyspaces_tried: Vec<String>,
}

/// All marks stand behind this key; everything else stands before it.
pub const MARKS: &[u8] = b"~";

/// The key under which a commit writes its mark, in the default keyspace.
pub fn mark(number: usize) -> Vec<u8> {
    format!("~mark{number:06}").into_bytes()
}

impl Account {
    /// Notes a commit; `number` is that of its mark.
    pub fn note(&mut self, number: usize, commit: &Arc<Commit>, outcome: Outcome) {
        let note = |choices: &mut Vec<Option<Vec<u8>>>, value: Option<&Vec<u8>>| {
            if outcome != Outcome::Refused {
                choices.clear();
            }
            choices.push(value.cloned());
        };
        for change in commit.iter() {
            let place = (change.keyspace, change.key.clone());
            let value = match &change.what {
                What::Put(value) => Some(value),
                What::Delete => None,
                What::DeleteTo(_) => {
                    let behind = self.possible.range_mut(place..);
                    behind
                        .take_while(|((at, key), _)| change.holds(*at, key))
                        .for_each(|(_, choices)| note(choices, None));
                    continue;
                }
            };
            note(self.possible.entry(place).or_insert(vec![None]), value);
        }
        let commit = Arc::clone(commit);
        self.entries.push(Entry { commit, mark: mark(number), outcome, shown: None });
        if outcome == Outcome::Durable {
            self.note_durable();
        }
    }

    /// Everything acknowledged so far has become durable.
    pub fn note_durable(&mut self) {
        for entry in self.entries.iter_mut().rev() {
            match entry.outcome {
                Outcome::Acknowledged => entry.outcome = Outcome::Durable,
                Outcome::Durable | Outcome::Unsure | Outcome::Refused => {}
            }
        }
    }

    /// Notes that a keyspace was made, or that making it failed.
    pub fn note_keyspace(&mut self, name: &str, made: bool) {
        let list = if made { &mut self.keyspaces } else { &mut self.keyspaces_tried };
        list.push(name.to_owned());
    }

    /// What reads may show.
    pub fn possible(&self) -> &Possible {
        &self.possible
    }

    /// Checks the names of the keyspaces of a database that was just opened.
    ///
    /// # Errors
    /// One that is missing or was invented.
    pub fn check_keyspaces(&self, names: &[String]) -> Result<(), Failure> {
        if let Some(lost) = self.keyspaces.iter().find(|name| !names.contains(name)) {
            return Err(format!("the keyspace {lost:?} is lost"));
        }
        let known = |name: &String| {
            name == "default"
                || self.keyspaces.contains(name)
                || self.keyspaces_tried.contains(name)
        };
        match names.iter().find(|name| !known(name)) {
            Some(invented) => Err(format!("the keyspace {invented:?} was invented")),
            None => Ok(()),
        }
    }

    /// Checks what a scan found, and returns the number of commits in it.
    ///
    /// # Errors
    /// A promised commit lost, one torn, one out of order, or something invented.
    pub fn check(&self, found: &Map, promise: Promise) -> Result<usize, Failure> {
        let included: Vec<bool> =
            self.entries.iter().map(|entry| found.contains_key(&(0, entry.mark.clone()))).collect();
        let name = |index: usize| self.entries[index].mark.escape_ascii().to_string();
        let all = || self.entries.iter().zip(&included).enumerate();
        let promised = |entry: &Entry| match promise {
            Promise::Kill => {
                matches!(entry.outcome, Outcome::Durable | Outcome::Acknowledged)
            }
            Promise::Cut => entry.outcome == Outcome::Durable,
        };
        if let Some((lost, _)) = all().find(|(_, (entry, there))| promised(entry) && !**there) {
            return Err(format!("commit {} was promised and is lost", name(lost)));
        }
        let gap = all().find(|(_, (entry, there))| entry.in_order() && !**there);
        let last = all().rfind(|(_, (entry, there))| entry.in_order() && **there);
        if let (Some((gap, _)), Some((last, _))) = (gap, last)
            && gap < last
        {
            return Err(format!("commit {} is there, {} before it is not", name(last), name(gap)));
        }
        // Readers have seen later ones without it.
        let overtaken = |index: usize| {
            self.entries[index + 1..].iter().any(|entry| entry.outcome != Outcome::Refused)
        };
        let risen = all().find(|(index, (entry, there))| {
            **there && entry.shown == Some(false) && overtaken(*index)
        });
        if let Some((risen, _)) = risen {
            return Err(format!("commit {} was refused and not shown, and came back", name(risen)));
        }
        self.compare(found, &included)?;
        Ok(included.iter().filter(|there| **there).count())
    }

    /// Compares with what the included commits make of the base.
    fn compare(&self, found: &Map, included: &[bool]) -> Result<(), Failure> {
        let mut expected = shown(&self.base);
        let there = self.entries.iter().zip(included).filter(|(_, there)| **there);
        let changes = there.flat_map(|(entry, _)| entry.commit.iter());
        changes.for_each(|change| change.apply(&mut expected));
        let found = shown(found);
        if found == expected {
            return Ok(());
        }
        let show = |key: &(u8, &[u8])| format!("{}:{}", key.0, key.1.escape_ascii());
        let wrong = expected.iter().find(|(key, value)| found.get(*key) != Some(*value));
        let extra = found.iter().find(|(key, _)| !expected.contains_key(*key));
        Err(format!(
            "not what its commits make; first wrong or missing {:?}, first extra {:?}",
            wrong.map(|(key, _)| show(key)),
            extra.map(|(key, _)| show(key)),
        ))
    }

    /// Notes which commits an open database shows.
    pub fn note_shown(&mut self, found: &Map) {
        for entry in &mut self.entries {
            entry.shown = Some(found.contains_key(&(0, entry.mark.clone())));
        }
    }

    /// The same after a power cut: what was not durable is no longer promised.
    pub fn after_cut(&self) -> Account {
        let mut account = self.clone();
        for entry in &mut account.entries {
            if entry.outcome == Outcome::Acknowledged {
                entry.outcome = Outcome::Unsure;
            }
        }
        account
    }

    /// The same after an opening that read a wrong bit wherever it looked: what the log holds of its last sync, and all that says how
    /// far it reached, may be gone (DURABILITY.md, "What this does not cover"). What is there is still a prefix.
    pub fn after_unreadable_log(&self) -> Account {
        let mut account = self.after_cut();
        for entry in &mut account.entries {
            if entry.outcome == Outcome::Durable {
                entry.outcome = Outcome::Unsure;
            }
        }
        account
    }

    /// The same where nobody could look what is there before more was written behind it.
    pub fn unseen(&self) -> Account {
        let mut account = self.clone();
        for entry in &mut account.entries {
            if entry.outcome == Outcome::Unsure {
                entry.outcome = Outcome::Refused;
            }
        }
        account
    }

    /// Takes over what another copy of this account knows to have been shown.
    pub fn adopt_shown(&mut self, other: &Account) {
        for (entry, other) in self.entries.iter_mut().zip(&other.entries) {
            entry.shown = other.shown;
        }
    }

    /// After a recovery that found this: it wrote it to tables, so it is durable, and nothing else is there.
    pub fn settle(&mut self, found: Map, keyspaces: Vec<String>) {
        let one = |value: &Vec<u8>| vec![Some(value.clone())];
        self.possible = found.iter().map(|(key, value)| (key.clone(), one(value))).collect();
        self.entries.clear();
        self.base = Arc::new(found);
        self.keyspaces = keyspaces;
        self.keyspaces_tried.clear();
    }
}

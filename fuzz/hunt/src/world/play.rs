//! Plays a script on a simulated disk whose calls fail, and holds every answer against what was promised.
//!
//! Checked at every call: an injected error is answered by an error of the call in which it happened, unless the engine
//! may live with it ([`lives_with`]); an error comes only after a fault, and says what happened; what is read is what was written;
//! after a failed write or sync of log or manifest nothing is acknowledged, and that file is let alone.

use super::account::{Account, Outcome, Possible, Promise, mark};
use super::change::Change;
use super::consequence::{Consequence, Touched, lives_with};
use super::files::{Files, files_of};
use super::history::{Commit, Map, scan_named};
use super::probe::{Probe, struck};
use super::range::check_range;
use super::script::{KEYSPACES, Step};
use super::sizes::{open, other_options};
use super::strike::{Kind, Strike};
use crate::drive::Failure;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::ops::Bound;
use std::sync::Arc;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::io::sim::{Call, SimDisk};
use treering_lsm::{
    Cursor, Db, Durability, Error, Keyspace, Options, PinnedSlice, Range, ReadOptions, Snapshot,
    WriteBatch, WriteOptions,
};

/// Opens of the database that are tried in a row.
const OPEN_TRIES: usize = 2;
/// Units of background work after which writing must go on once the disk is well again.
const RESUME_TRIES: usize = 20;
/// Moves of a cursor from where it was sought to.
const MOVES: usize = 3;

/// A script being played.
#[derive(Debug)]
pub struct Player<'a> {
    /// Where.
    pub disk: &'a SimDisk,
    /// The open database.
    pub db: Option<Db>,
    /// What was promised.
    pub account: Account,
    /// Calls that returned an error.
    pub reported: u64,
    /// Injected errors that the engine lived with, by reason.
    pub tolerated: BTreeMap<&'static str, u64>,
    probe: &'a Probe,
    kind: Option<Kind>,
    flips_for_ever: bool,
    options: &'a Options,
    held: Vec<(Snapshot, Possible)>,
}

impl<'a> Player<'a> {
    /// Nothing is open yet. `strike` is what the probe injects.
    pub fn new(
        disk: &'a SimDisk,
        probe: &'a Probe,
        strike: Option<Strike>,
        options: &'a Options,
        account: Account,
    ) -> Player<'a> {
        Player {
            disk,
            db: None,
            account,
            reported: 0,
            tolerated: BTreeMap::new(),
            probe,
            kind: strike.map(|strike| strike.kind),
            flips_for_ever: strike
                .is_some_and(|strike| strike.kind == Kind::FlipRead && !strike.once),
            options,
            held: Vec::new(),
        }
    }

    /// Opens the database and plays the steps, whatever fails; stops when the power goes.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.play_beyond(steps, usize::MAX)
    }

    /// The same, but no more than `count` steps once a fault has fired.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn play_beyond(&mut self, steps: &[Step], count: usize) -> Result<(), Failure> {
        self.open()?;
        let mut left = count;
        for (number, step) in steps.iter().enumerate() {
            if struck(self.disk) > 0 {
                match left.checked_sub(1) {
                    Some(less) => left = less,
                    None => break,
                }
            }
            if self.disk.power_is_cut() {
                break;
            }
            self.play_step(step)
                .and_then(|()| self.probe.check())
                .map_err(|failure| format!("step {number} {}: {failure}", word(step)))?;
        }
        Ok(())
    }

    /// Judges the end of one call of the engine. `None` if it failed, as it may.
    fn judge<T>(
        &mut self,
        hits_before: usize,
        result: Result<T, Error>,
    ) -> Result<Option<T>, Failure> {
        let hits = self.probe.hits(hits_before);
        match result {
            Ok(value) => {
                for hit in hits {
                    let kind = self.kind.expect("something was injected");
                    // While nothing is open, the call was an opening, or a close, which gives up no reserve.
                    let trace = if self.db.is_none() { self.probe.trace() } else { Vec::new() };
                    let opening = trace.get(hit.index..).unwrap_or_default();
                    let reason = lives_with(hit, kind, opening)
                        .ok_or_else(|| format!("{hit:?} was swallowed"))?;
                    *self.tolerated.entry(reason).or_default() += 1;
                }
                Ok(Some(value))
            }
            Err(_) if self.disk.power_is_cut() => Ok(None),
            Err(error) => {
                self.check_error(&error)?;
                self.reported += 1;
                Ok(None)
            }
        }
    }

    /// An error has a cause, and tells it.
    fn check_error(&self, error: &Error) -> Result<(), Failure> {
        let root = match error {
            Error::Poisoned { cause } => cause,
            error => error,
        };
        let fitting = match (self.kind, root) {
            (None, _) => false,
            // The door carries on a short transfer and an interrupted call.
            (Some(Kind::ShortRead | Kind::ShortWrite | Kind::Eintr), _) => false,
            (Some(Kind::FlipRead), root) => matches!(root, Error::Corruption { .. }),
            (Some(Kind::Enospc), Error::NoSpace { .. }) => true,
            (Some(_), Error::Io { .. }) => true,
            // Another holder of the lock looks like this.
            (Some(Kind::Eagain), Error::Locked { .. }) => true,
            _ => false,
        };
        if fitting && struck(self.disk) > 0 {
            return Ok(());
        }
        Err(format!(
            "{:?} injected {} times, and the answer is {error:?}",
            self.kind,
            struck(self.disk)
        ))
    }

    fn call<T>(
        &mut self,
        body: impl FnOnce(&Db) -> Result<T, Error>,
    ) -> Result<Option<T>, Failure> {
        let Some(db) = &self.db else { return Ok(None) };
        let before = self.probe.hit_count();
        let result = body(db);
        self.judge(before, result)
    }

    /// Plays one step.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn play_step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Reopen => {
                self.close()?;
                return self.open();
            }
            Step::Close => return self.close(),
            _ if self.db.is_none() => return Ok(()),
            _ => {}
        }
        match step {
            Step::Write { number, commit, durability } => self.write(*number, commit, *durability),
            Step::Flush => self.durably(Db::flush),
            Step::Compact => self.durably(Db::compact),
            Step::Background(count) => {
                (0..*count).try_for_each(|_| self.call(Db::step).map(|_| ()))
            }
            Step::Settle => self.call(Db::wait_for_compactions).map(|_| ()),
            Step::Get(keys) => keys.iter().try_for_each(|(keyspace, key)| self.get(*keyspace, key)),
            Step::MultiGet(keyspace, keys) => self.multi_get(*keyspace, keys),
            Step::Scan { keyspace, lower, upper, reverse } => {
                let (lower_bound, upper_bound) = (lower.clone(), upper.clone());
                let options = ReadOptions { lower_bound, upper_bound, ..ReadOptions::default() };
                self.scan(*keyspace, options, *reverse)
            }
            Step::Seek(keyspace, keys) => keys.iter().try_for_each(|key| self.seek(*keyspace, key)),
            Step::Hold => {
                let possible = self.account.possible().clone();
                self.held.extend(self.db.as_ref().map(|db| (db.snapshot(), possible)));
                Ok(())
            }
            Step::ScanHeld => self.scan_held(),
            Step::Release => {
                if !self.held.is_empty() {
                    self.held.remove(0);
                }
                Ok(())
            }
            Step::CreateKeyspace(number) => {
                let name = KEYSPACES[usize::from(*number)];
                let made = self.call(|db| db.create_keyspace(name, other_options()))?;
                if made.is_some() {
                    self.check_acknowledged()?;
                }
                self.account.note_keyspace(name, made.is_some());
                Ok(())
            }
            Step::Verify => self.call(Db::verify).map(|_| ()),
            Step::Reopen | Step::Close => Ok(()),
        }
    }

    fn write(
        &mut self,
        number: usize,
        commit: &Arc<Commit>,
        durability: Durability,
    ) -> Result<(), Failure> {
        let Some(db) = &self.db else { return Ok(()) };
        let mut batch = WriteBatch::new();
        for change in commit.iter() {
            // A keyspace whose making failed takes no writes.
            let Some(keyspace) = keyspace_of(db, change.keyspace) else { return Ok(()) };
            let added = change.add_to(&mut batch, &keyspace);
            added.map_err(|error| format!("a batch takes it: {error}"))?;
        }
        let options = WriteOptions { durability: Some(durability) };
        let written = self.call(|db| db.write(&batch, &options))?;
        let outcome = match (written, durability) {
            (None, _) => Outcome::Refused,
            (Some(()), Durability::Sync) => Outcome::Durable,
            (Some(()), _) => Outcome::Acknowledged,
        };
        self.account.note(number, commit, outcome);
        match written {
            Some(()) => self.check_acknowledged(),
            None => Ok(()),
        }
    }

    /// Something was acknowledged just now: may it be?
    fn check_acknowledged(&self) -> Result<(), Failure> {
        match self.probe.consequence() {
            Consequence::MustPoison => {
                Err("acknowledged after a write or sync of log or manifest failed".to_owned())
            }
            Consequence::None | Consequence::MayPoison => Ok(()),
        }
    }

    /// A call after whose Ok everything is durable.
    fn durably(&mut self, body: impl FnOnce(&Db) -> Result<(), Error>) -> Result<(), Failure> {
        if self.call(body)?.is_some() {
            self.account.note_durable();
        }
        Ok(())
    }

    fn get(&mut self, keyspace: u8, key: &[u8]) -> Result<(), Failure> {
        let found = self.call(|db| match keyspace_of(db, keyspace) {
            Some(keyspace) => keyspace.get(key),
            None => Ok(None),
        })?;
        match found {
            Some(found) => self.check_value(keyspace, key, found),
            None => Ok(()),
        }
    }

    fn check_value(
        &self,
        keyspace: u8,
        key: &[u8],
        found: Option<PinnedSlice>,
    ) -> Result<(), Failure> {
        let choices = self.account.possible().get(&(keyspace, key.to_vec()));
        let fits = match choices {
            Some(choices) => choices.iter().any(|choice| choice.as_deref() == found.as_deref()),
            None => found.is_none(),
        };
        if fits { Ok(()) } else { Err(format!("a wrong value of {}", key.escape_ascii())) }
    }

    fn multi_get(&mut self, keyspace: u8, keys: &[Vec<u8>]) -> Result<(), Failure> {
        let Some(keyspace_handle) = self.db.as_ref().and_then(|db| keyspace_of(db, keyspace))
        else {
            return Ok(());
        };
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let before = self.probe.hit_count();
        let results = keyspace_handle.multi_get(&keys, &ReadOptions::default());
        let first_error = results.iter().find_map(|result| result.as_ref().err().cloned());
        self.judge(before, first_error.map_or(Ok(()), Err))?;
        for (key, result) in keys.iter().zip(results) {
            match result {
                Ok(found) => self.check_value(keyspace, key, found)?,
                Err(_) if self.disk.power_is_cut() => {}
                Err(error) => self.check_error(&error)?,
            }
        }
        Ok(())
    }

    /// Scans; what it yields before an error is right as well.
    fn scan(&mut self, keyspace: u8, options: ReadOptions, reverse: bool) -> Result<(), Failure> {
        let mut found = Vec::new();
        let whole = self.call(|db| {
            let Some(handle) = keyspace_of(db, keyspace) else { return Ok(()) };
            let mut range = bounded(&handle, &options)?;
            loop {
                let next = if reverse { range.next_back() } else { range.next() };
                let Some(entry) = next else { return Ok(()) };
                found.push(entry?);
            }
        })?;
        let possible = self.account.possible();
        check_range(possible, keyspace, &options, reverse, &found, whole.is_some())
    }

    fn scan_held(&mut self) -> Result<(), Failure> {
        for index in 0..self.held.len() {
            for keyspace in 0..2 {
                let (snapshot, possible) = &self.held[index];
                let (snapshot, possible) = (snapshot.clone(), possible.clone());
                let options = ReadOptions { snapshot: Some(snapshot), ..ReadOptions::default() };
                let mut found = Vec::new();
                let whole = self.call(|db| {
                    let Some(handle) = keyspace_of(db, keyspace) else { return Ok(()) };
                    for entry in bounded(&handle, &options)? {
                        found.push(entry?);
                    }
                    Ok(())
                })?;
                check_range(&possible, keyspace, &options, false, &found, whole.is_some())
                    .map_err(|failure| format!("snapshot {index}: {failure}"))?;
            }
        }
        Ok(())
    }

    /// Seeks a key and moves a little; every entry on the way is right, and so is their order.
    fn seek(&mut self, keyspace: u8, key: &[u8]) -> Result<(), Failure> {
        let mut forward = Vec::new();
        let lower = ReadOptions { lower_bound: Some(key.to_vec()), ..ReadOptions::default() };
        let whole = self.call(|db| {
            let Some(handle) = keyspace_of(db, keyspace) else { return Ok(()) };
            let mut cursor = handle.cursor(&ReadOptions::default())?;
            let mut valid = cursor.seek(key)?;
            while valid && forward.len() < MOVES {
                forward.push(entry(&cursor));
                valid = cursor.next()?;
            }
            Ok(())
        })?;
        let ended = whole.is_some() && forward.len() < MOVES;
        check_range(self.account.possible(), keyspace, &lower, false, &forward, ended)?;
        let mut backward = Vec::new();
        let upper = [key, &[0]].concat();
        let upper = ReadOptions { upper_bound: Some(upper), ..ReadOptions::default() };
        let whole = self.call(|db| {
            let Some(handle) = keyspace_of(db, keyspace) else { return Ok(()) };
            let mut cursor = handle.cursor(&ReadOptions::default())?;
            let mut valid = cursor.seek_for_prev(key)?;
            while valid && backward.len() < MOVES {
                backward.push(entry(&cursor));
                valid = cursor.prev()?;
            }
            Ok(())
        })?;
        let ended = whole.is_some() && backward.len() < MOVES;
        check_range(self.account.possible(), keyspace, &upper, true, &backward, ended)
    }

    /// Opens the database; a second time if that fails. What it then shows is what was promised.
    fn open(&mut self) -> Result<(), Failure> {
        for _ in 0..OPEN_TRIES {
            if self.disk.power_is_cut() {
                return Ok(());
            }
            let before = self.disk.after_kill();
            let (calls, hits) = (self.probe.calls(), self.probe.hit_count());
            let opened = open(self.disk, self.options);
            let opened = self.judge(hits, opened).map_err(|failure| format!("open: {failure}"))?;
            match opened {
                Some(db) => {
                    self.db = Some(db);
                    return self.check_opened(calls);
                }
                None if self.disk.power_is_cut() => {}
                None => check_unchanged(&before, &self.disk.after_kill())?,
            }
        }
        Ok(())
    }

    fn check_opened(&mut self, calls_before: usize) -> Result<(), Failure> {
        let read_log = |(call, place): &(Call, Touched)| {
            *call == Call::Read && matches!(place, Some(FileKind::Wal(_) | FileKind::Ring))
        };
        // The log is read twice before its end is believed. Where every read is wrong, that does not help.
        if self.flips_for_ever && self.probe.trace()[calls_before..].iter().any(read_log) {
            self.account = self.account.after_unreadable_log();
        }
        let Some(found) = self.contents()? else {
            if self.flips_for_ever {
                self.account = self.account.unseen();
            }
            return Ok(());
        };
        self.account
            .check(&found, Promise::Kill)
            .map_err(|failure| format!("opened: {failure}"))?;
        let names = self.db.as_ref().map(Db::keyspace_names).unwrap_or_default();
        self.account.check_keyspaces(&names)?;
        self.account.settle(found, names);
        Ok(())
    }

    /// Everything in the database; it looks again where a fault was in the way.
    ///
    /// # Errors
    /// What should not have been answered.
    pub fn contents(&mut self) -> Result<Option<Map>, Failure> {
        // The cache stays cold for what the script reads.
        self.call(|db| {
            scan_named(db, &KEYSPACES, &ReadOptions { fill_cache: false, ..ReadOptions::default() })
        })
    }

    fn close(&mut self) -> Result<(), Failure> {
        self.held.clear();
        let Some(db) = self.db.take() else { return Ok(()) };
        let hits = self.probe.hit_count();
        let closed = db.close();
        if self.judge(hits, closed)?.is_some() {
            self.account.note_durable();
        }
        Ok(())
    }

    /// The disk is well again: the open database shows all that it acknowledged, and takes writes unless it must not.
    ///
    /// # Errors
    /// A promise that was broken.
    pub fn check_aftermath(&mut self, next_number: usize) -> Result<(), Failure> {
        let Some(db) = &self.db else { return Ok(()) };
        let found = scan_named(db, &KEYSPACES, &ReadOptions::default())
            .map_err(|error| format!("a scan: {error}"))?;
        self.account.note_shown(&found);
        self.account
            .check(&found, Promise::Kill)
            .map_err(|failure| format!("still open: {failure}"))?;
        let consequence = self.probe.consequence();
        let mut last = None;
        for _ in 0..RESUME_TRIES {
            let commit = Arc::new(vec![Change::put(0, mark(next_number), next_number.to_string())]);
            let mut batch = WriteBatch::new();
            for change in commit.iter() {
                let added = change.add_to(&mut batch, db.default_keyspace());
                added.map_err(|error| error.to_string())?;
            }
            match db.write(&batch, &WriteOptions::sync()) {
                Ok(()) if consequence == Consequence::MustPoison => {
                    return Err("it takes writes after log or manifest failed".to_owned());
                }
                Ok(()) => {
                    self.account.note(next_number, &commit, Outcome::Durable);
                    return Ok(());
                }
                Err(error) => last = Some(error),
            }
            // What fails here fails at the next write as well.
            let _ = db.step();
        }
        match (consequence, last) {
            (Consequence::None, Some(error)) => Err(format!("writing does not resume: {error}")),
            _ => Ok(()),
        }
    }
}

fn word(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

fn keyspace_of(db: &Db, number: u8) -> Option<Keyspace> {
    match number {
        0 => Some(db.default_keyspace().clone()),
        number => db.keyspace(KEYSPACES[usize::from(number)]).ok(),
    }
}

fn entry(cursor: &Cursor) -> (Vec<u8>, PinnedSlice) {
    (cursor.key().to_vec(), cursor.pin_value())
}

fn bounded(keyspace: &Keyspace, options: &ReadOptions) -> Result<Range, Error> {
    let lower = options.lower_bound.as_deref().map_or(Bound::Unbounded, Bound::Included);
    let upper = options.upper_bound.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    keyspace.range((lower, upper), options)
}

/// An open that failed: unless a new manifest is in force, everything that was there is there, bit for bit.
fn check_unchanged(before: &SimDisk, after: &SimDisk) -> Result<(), Failure> {
    let files = |disk| match files_of(disk) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Files::new()),
        other => other.map_err(|error| format!("the disk is well: {error}")),
    };
    let (before, after) = (files(before)?, files(after)?);
    if before.get(name::CURRENT) != after.get(name::CURRENT) {
        return Ok(());
    }
    let counts =
        |file: &str| !matches!(file, name::LOCK | name::BALLAST) && !file.ends_with(".tmp");
    match before.iter().find(|(file, bytes)| counts(file) && after.get(*file) != Some(*bytes)) {
        Some((file, _)) => Err(format!("an open that failed changed {file}")),
        None => Ok(()),
    }
}

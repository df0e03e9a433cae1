//! Optimistic transactions of the model row: what they read while others write, and whether their commits are refused when they
//! must be, and only then.
//!
//! A session is a transaction beside what it should know: the moment of its snapshot, its own writes in their order, and the spans of
//! keys that it relies on. Its commit is a conflict exactly if a later commit changed a key of these.

use super::oracle::{Entries, Time, show};
use super::span::Span;
use super::world::{World, failed};
use crate::drive::Failure;
use crate::world::{Change, What, bounds};
use treering_lsm::{Error, Isolation, Transaction, WriteOptions};

/// Transactions held at most.
const SESSIONS_MAX: usize = 3;
/// Operations of a session at once, at most.
const OPERATIONS_MAX: u64 = 6;
/// Entries that are compared of a range, at most.
const RANGE_MAX: usize = 40;
/// Operands that a session adds to a value make it at most so long.
const MERGED_BYTES_MAX: usize = 2000;

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Session {
    transaction: Transaction,
    isolation: Isolation,
    since: Time,
    /// Merges stand here as puts of what they make.
    own: Vec<Change>,
    /// Of what was merged, for what a death may still take from below it.
    merged: Vec<(usize, Vec<u8>)>,
    /// Spans whose change is a conflict even if nothing is written, and those of which it is one otherwise.
    guarded: Vec<Span>,
    read: Vec<Span>,
}

impl Session {
    /// The last own write that says what becomes of a key.
    fn own(&self, at: usize, key: &[u8]) -> Option<&Change> {
        self.own.iter().rev().find(|change| change.holds(at as u8, key))
    }

    /// True if what is stored does not matter for the key.
    fn decides(&self, at: usize, key: &[u8]) -> bool {
        let is_merged = self.merged.iter().any(|(of, merged)| *of == at && merged == key);
        self.own(at, key).is_some() && !is_merged
    }

    /// What a commit relies on.
    fn relied(&self) -> Vec<Span> {
        let mut spans = self.guarded.clone();
        if !self.own.is_empty() {
            spans.extend(self.own.iter().map(Span::of));
            spans.extend(self.read.iter().cloned());
        }
        spans
    }
}

impl World {
    /// Begins a transaction, goes on with one, or ends one.
    pub(super) fn transaction(&mut self) -> Result<(), Failure> {
        if self.sessions.is_empty() || (self.sessions.len() < SESSIONS_MAX && self.chance.one_in(2))
        {
            self.begin();
        }
        let index = self.chance.below(self.sessions.len() as u64) as usize;
        let mut session = self.sessions.swap_remove(index);
        for _ in 0..self.chance.below(OPERATIONS_MAX + 1) {
            self.operations += 1;
            self.go_on(&mut session)?;
        }
        match self.chance.below(24) {
            0..10 => self.commit(session)?,
            10 => session.transaction.rollback(),
            _ => self.sessions.push(session),
        }
        self.watch_sessions();
        Ok(())
    }

    fn begin(&mut self) {
        let isolation = *self.chance.pick(&[Isolation::Snapshot, Isolation::Serializable]);
        let since = self.oracle.now();
        self.oracle.pin(since);
        self.sessions.push(Session {
            transaction: self.db().transaction(isolation),
            isolation,
            since,
            own: Vec::new(),
            merged: Vec::new(),
            guarded: Vec::new(),
            read: Vec::new(),
        });
        self.watch_sessions();
    }

    fn go_on(&mut self, session: &mut Session) -> Result<(), Failure> {
        let at = self.which();
        let keyspace = self.keyspaces[at].clone();
        self.keys.draw(&mut self.chance, &mut self.key);
        let transaction = &mut session.transaction;
        match self.chance.below(16) {
            0..5 => return self.read_in(session, at),
            5 => return self.range_in(session, at),
            6..10 => {
                let value = self.keys.value(&mut self.chance);
                transaction.put(&keyspace, &self.key, &value).map_err(failed)?;
                session.merged.retain(|(of, key)| *of != at || *key != self.key);
                session.own.push(Change::put(at as u8, &self.key[..], value));
            }
            10..13 => {
                transaction.delete(&keyspace, &self.key).map_err(failed)?;
                session.merged.retain(|(of, key)| *of != at || *key != self.key);
                session.own.push(Change::delete(at as u8, &self.key[..]));
            }
            13 => {
                let (start, end) = self.keys.range(&mut self.chance);
                let change = Change::delete_range(at as u8, start, end);
                if !Span::of(&change).meets(&Span::range(at, b"", b"")) {
                    return Ok(());
                }
                let What::DeleteTo(end) = &change.what else { return Ok(()) };
                transaction.delete_range(&keyspace, bounds(&change.key, end)).map_err(failed)?;
                session.merged.retain(|(of, key)| !change.holds(*of as u8, key));
                session.own.push(change);
            }
            _ => {
                let operand = format!("~{}", self.chance.below(1000)).into_bytes();
                let before = self.value_in(session, at).unwrap_or_default();
                if before.len() + operand.len() > MERGED_BYTES_MAX {
                    return Ok(());
                }
                let is_decided = session.decides(at, &self.key);
                session.transaction.merge(&keyspace, &self.key, &operand).map_err(failed)?;
                if !is_decided {
                    session.merged.push((at, self.key.clone()));
                }
                let value = [before, operand].concat();
                session.own.push(Change::put(at as u8, &self.key[..], value));
            }
        }
        Ok(())
    }

    /// What the session should see of the key that was drawn.
    fn value_in(&self, session: &Session, at: usize) -> Option<Vec<u8>> {
        match session.own(at, &self.key).map(|change| &change.what) {
            Some(What::Put(value)) => Some(value.clone()),
            Some(What::Delete | What::DeleteTo(_)) => None,
            None => self.oracle.value_at(at, &self.key, session.since).map(<[u8]>::to_vec),
        }
    }

    fn read_in(&mut self, session: &mut Session, at: usize) -> Result<(), Failure> {
        let (keyspace, key) = (&self.keyspaces[at], &self.key);
        let expected = self.value_in(session, at);
        let is_guarded = self.chance.one_in(3);
        let found = match is_guarded {
            true => session.transaction.get_for_update(keyspace, key),
            false => session.transaction.get(keyspace, key),
        };
        let found = found.map_err(failed)?;
        if found.as_deref() != expected.as_deref() {
            let (found, expected) = (found.as_deref().map(show), expected.as_deref().map(show));
            let key = show(key);
            return Err(format!("{key} in a transaction: {found:?}, expected {expected:?}"));
        }
        if !session.decides(at, key) {
            match (is_guarded, session.isolation) {
                (true, _) => session.guarded.push(Span::key(at, key)),
                (false, Isolation::Serializable) => session.read.push(Span::key(at, key)),
                (false, Isolation::Snapshot) => {}
            }
        }
        Ok(())
    }

    fn range_in(&mut self, session: &mut Session, at: usize) -> Result<(), Failure> {
        let (start, end) = self.keys.range(&mut self.chance);
        let range = bounds(&start, &end);
        let mut expected: Entries = self.oracle.all_in(at, session.since, range);
        for change in session.own.iter().filter(|change| usize::from(change.keyspace) == at) {
            expected.retain(|key, _| !change.holds(at as u8, key));
            let is_inside = Change::delete_range(at as u8, &start[..], &end[..]);
            if let (What::Put(value), true) = (&change.what, is_inside.holds(at as u8, &change.key))
            {
                expected.insert(change.key.clone(), value.clone());
            }
        }
        let found = session.transaction.range(&self.keyspaces[at], range).map_err(failed)?;
        let backward = self.chance.one_in(2);
        let (found, expected): (Vec<_>, Vec<_>) = match backward {
            true => (found.rev().take(RANGE_MAX).collect(), expected.iter().rev().collect()),
            false => (found.take(RANGE_MAX).collect(), expected.iter().collect()),
        };
        if found.len() != expected.len().min(RANGE_MAX) {
            let counts = (found.len(), expected.len());
            return Err(format!("entries of a range in a transaction, and expected: {counts:?}"));
        }
        for (found, expected) in found.into_iter().zip(expected) {
            let (key, value) = found.map_err(failed)?;
            if (&key, &value[..]) != (expected.0, &expected.1[..]) {
                let (key, expected) = (show(&key), show(expected.0));
                return Err(format!("a range in a transaction has {key}, expected {expected}"));
            }
        }
        if session.isolation == Isolation::Serializable {
            session.read.push(Span::range(at, &start, &end));
        }
        Ok(())
    }

    fn commit(&mut self, session: Session) -> Result<(), Failure> {
        self.oracle.unpin(session.since);
        // What a merge makes must not depend on what a death may take.
        if session.merged.iter().any(|(at, key)| self.oracle.is_unsure(*at, key)) {
            self.flush()?;
        }
        let relied = session.relied();
        let met = |span: &&Span| relied.iter().any(|relied| relied.meets(span));
        let changed = self.oracle.changed_after(session.since).find(met).cloned();
        let (options, logged) = self.durability();
        match (session.transaction.commit(&options), changed) {
            (Ok(()), None) => {
                if !session.own.is_empty() {
                    self.oracle.write(session.own, logged);
                }
                self.coverage.note("transactions", 1);
                Ok(())
            }
            (Err(Error::Conflict { keyspace, key }), Some(_)) => {
                let at = self.keyspaces.iter().position(|known| known.name() == keyspace);
                let told = Span::key(at.unwrap_or(usize::MAX), &key);
                let mut changed = self.oracle.changed_after(session.since);
                if !met(&&told) || !changed.any(|span| span.meets(&told)) {
                    return Err(format!("a conflict over {}, which is none", show(&key)));
                }
                self.coverage.note("conflicts", 1);
                Ok(())
            }
            (Ok(()), Some(span)) => {
                Err(format!("a transaction ({:?}) passed over {span:?}", session.isolation))
            }
            (Err(error), _) => Err(format!("the commit of a transaction: {error}")),
        }
    }

    /// Ends the sessions that have to do with a keyspace which was dropped: those that rely on it must not commit.
    pub(super) fn refuse_sessions_with(&mut self, at: usize) -> Result<(), Failure> {
        let is_with = |span: &Span| span.keyspace == at;
        let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sessions)
            .into_iter()
            .partition(|session| session.read.iter().chain(&session.relied()).any(is_with));
        self.sessions = left;
        for session in ended {
            self.oracle.unpin(session.since);
            if !session.relied().iter().any(is_with) {
                continue;
            }
            match session.transaction.commit(&WriteOptions::default()) {
                Err(Error::Conflict { .. } | Error::KeyspaceDropped { .. }) => {}
                other => return Err(format!("over a dropped keyspace a commit says {other:?}")),
            }
        }
        self.watch_sessions();
        Ok(())
    }

    /// Ends all sessions after the database was closed.
    pub(super) fn refuse_sessions_closed(&mut self) -> Result<(), Failure> {
        for session in std::mem::take(&mut self.sessions) {
            match session.transaction.commit(&WriteOptions::default()) {
                Err(Error::Closed) => {}
                other => return Err(format!("after a close a commit says {other:?}")),
            }
        }
        self.watch_sessions();
        Ok(())
    }

    /// Lets all sessions go.
    pub(super) fn forget_sessions(&mut self) {
        self.sessions.clear();
        self.watch_sessions();
    }

    fn watch_sessions(&mut self) {
        self.oracle.watch(self.sessions.iter().map(|session| session.since));
    }
}

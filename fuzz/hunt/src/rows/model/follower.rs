//! A follower of the database: a copy that is kept by the change feed alone.
//!
//! It begins with the empty database, applies what the feed tells, and is compared whenever the feed has no more. Where the feed says
//! that something is missing it begins again, with what a scan finds. What a death may take back it must not have seen: then it begins
//! again as well.

use super::oracle::{Entries, Time};
use super::world::{World, failed};
use crate::drive::Failure;
use std::collections::BTreeMap;
use std::ops::Bound;
use treering_lsm::{Change, ChangeFeed, ChangeSet, Db, Error, ReadOptions};

/// Commits taken at once where not all are.
const COMMITS_MAX: u64 = 200;
/// A log that loses nothing.
const ALL: u64 = 1 << 30;
/// What a database may keep of its changes.
pub(super) const CHANGE_LOGS: [u64; 4] = [0, 64 << 10, ALL, ALL];

/// See the head of the file.
#[derive(Debug, Default)]
pub(super) struct Follower {
    /// By the id of the keyspace.
    copy: BTreeMap<u32, Entries>,
    /// The last sequence number that is in the copy.
    last: u64,
    /// What that is to the oracle, at least: the commits up to here are in the copy.
    time: Time,
    feed: Option<ChangeFeed>,
    /// False if it must begin again.
    is_good: bool,
}

impl Follower {
    /// One of a database that is new.
    pub(super) fn new() -> Follower {
        Follower { is_good: true, ..Follower::default() }
    }

    fn apply(&mut self, set: &ChangeSet, db: &Db) -> Result<(), Failure> {
        if set.first() <= self.last {
            let (first, last) = (set.first(), set.last());
            return Err(format!("the feed tells {first} to {last} after {}", self.last));
        }
        self.last = set.last();
        for change in set.changes() {
            match change.map_err(failed)? {
                Change::Put { keyspace, key, value } => {
                    let copy = self.copy.entry(keyspace.0).or_default();
                    copy.insert(key.to_vec(), value.to_vec());
                }
                Change::Delete { keyspace, key } => {
                    self.copy.entry(keyspace.0).or_default().remove(key);
                }
                Change::Merge { keyspace, key, operand } => {
                    let copy = self.copy.entry(keyspace.0).or_default();
                    copy.entry(key.to_vec()).or_default().extend_from_slice(operand);
                }
                Change::DeleteRange { keyspace, start, end } => {
                    let is_inside = |key: &[u8]| start <= key && end.is_none_or(|end| key < end);
                    self.copy.entry(keyspace.0).or_default().retain(|key, _| !is_inside(key));
                }
                Change::Ingest { keyspace, smallest, largest } => {
                    let of = db.keyspace_names().into_iter().map(|name| db.keyspace(&name));
                    let of = of.filter_map(Result::ok).find(|of| of.id() == keyspace);
                    let Some(of) = of else { continue };
                    let bounds = (Bound::Included(smallest), Bound::Included(largest));
                    let copy = self.copy.entry(keyspace.0).or_default();
                    copy.retain(|key, _| &key[..] < smallest || &key[..] > largest);
                    for entry in of.range(bounds, &ReadOptions::default()).map_err(failed)? {
                        let (key, value) = entry.map_err(failed)?;
                        copy.insert(key, value.to_vec());
                    }
                }
                other => return Err(format!("the feed tells {other:?}")),
            }
        }
        Ok(())
    }
}

impl World {
    /// Goes on with the follower; mostly up to where the feed has no more.
    pub(super) fn follow(&mut self) -> Result<(), Failure> {
        let commits = match self.chance.one_in(3) {
            true => self.chance.below(COMMITS_MAX),
            false => u64::MAX,
        };
        self.follow_for(commits)
    }

    /// For those who need that it has seen everything; nothing where there is no follower.
    pub(super) fn follow_to_the_end(&mut self) -> Result<(), Failure> {
        self.follow_for(u64::MAX)
    }

    fn follow_for(&mut self, commits: u64) -> Result<(), Failure> {
        let Some(mut follower) = self.follower.take() else { return Ok(()) };
        let result = self.follow_with(&mut follower, commits);
        self.follower = Some(follower);
        result
    }

    fn follow_with(&mut self, follower: &mut Follower, commits: u64) -> Result<(), Failure> {
        if !follower.is_good {
            return self.begin_again(follower);
        }
        if follower.feed.is_none() {
            follower.feed = match self.db().changes(follower.last) {
                Err(Error::ChangesGone { .. }) => return self.gone(follower),
                other => Some(other.map_err(failed)?),
            };
        }
        for _ in 0..commits {
            let Some(feed) = &mut follower.feed else { return Ok(()) };
            let set = match feed.next() {
                Err(Error::ChangesGone { .. }) => return self.gone(follower),
                other => other.map_err(failed)?,
            };
            let Some(set) = set else {
                follower.time = self.oracle.now();
                self.coverage.note("followed_to_the_end", 1);
                return self.compare(follower);
            };
            // Until the feed has no more, anything up to now may be in the copy.
            follower.time = self.oracle.now();
            follower.apply(&set, self.db())?;
            self.operations += 1;
        }
        Ok(())
    }

    fn compare(&self, follower: &Follower) -> Result<(), Failure> {
        let nothing = Entries::new();
        for (at, keyspace) in self.keyspaces.iter().enumerate() {
            let copy = follower.copy.get(&keyspace.id().0).unwrap_or(&nothing);
            let checked = self.oracle.check(at, copy);
            checked.map_err(|failure| format!("the follower at {}: {failure}", follower.last))?;
        }
        Ok(())
    }

    /// The feed has lost something: it may, where its log is small.
    fn gone(&mut self, follower: &mut Follower) -> Result<(), Failure> {
        if self.change_log_bytes() >= ALL {
            return Err(format!("changes after {} are gone", follower.last));
        }
        self.coverage.note("changes_gone", 1);
        self.begin_again(follower)
    }

    fn begin_again(&mut self, follower: &mut Follower) -> Result<(), Failure> {
        *follower = Follower::new();
        follower.last = self.db().snapshot().sequence();
        follower.time = self.oracle.now();
        let ids = self.keyspaces.iter().map(|keyspace| keyspace.id().0);
        follower.copy = ids.zip(self.contents()?).collect();
        self.compare(follower)
    }

    /// The database is no more: what the follower has seen of class None may be gone, and its numbers be given out again.
    pub(super) fn follower_after_end(&mut self) {
        let first = self.oracle.first_unlogged();
        if let Some(follower) = &mut self.follower {
            follower.feed = None;
            follower.is_good &= first.is_none_or(|first| follower.time < first);
        }
    }
}

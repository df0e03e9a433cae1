//! The change feed: every commit from a sequence number on, in order, each once.
//!
//! Promises:
//! 1. What it yields are whole commits in their order, without a gap: where the next one is not to be had, it says so
//!    ([`Error::ChangesGone`]) and never goes on behind it.
//! 2. It yields a commit only when readers see it.
//! 3. It holds nothing back: neither files nor memory wait for a feed that is slow.

use crate::base::error::{Error, Result};
use crate::base::key::{KeyspaceId, Kind, SequenceNumber};
use crate::db::change_log::{ChangeLog, Found};
use crate::db::database::Handle;
use crate::file::change_file::ChangeReader;
use crate::format::batch::BatchReader;
use crate::format::change::{FrameHead, FrameKind, take_ingested};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One change to one keyspace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Change<'a> {
    /// The key has this value now.
    Put {
        /// Whose key.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The key is gone.
    Delete {
        /// Whose key.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
    },
    /// An operand was added to the key's value.
    Merge {
        /// Whose key.
        keyspace: KeyspaceId,
        /// The key.
        key: &'a [u8],
        /// The operand.
        operand: &'a [u8],
    },
    /// All keys from `start` to before `end` are gone.
    DeleteRange {
        /// Whose keys.
        keyspace: KeyspaceId,
        /// The first.
        start: &'a [u8],
        /// The first that stays; `None`: there is none.
        end: Option<&'a [u8]>,
    },
    /// A file was ingested. What it holds is not told: read the keys from `smallest` to `largest`, at a snapshot of this commit or later.
    Ingest {
        /// Whose keys.
        keyspace: KeyspaceId,
        /// The first key of the file.
        smallest: &'a [u8],
        /// The last.
        largest: &'a [u8],
    },
}

/// A commit: all of its changes happened together.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    head: FrameHead,
    payload: Vec<u8>,
}

impl ChangeSet {
    /// The sequence number of its first change.
    pub fn first(&self) -> u64 {
        self.head.sequence
    }

    /// The sequence number of its last change: to go on from here later, ask for the changes after it.
    pub fn last(&self) -> u64 {
        self.head.last()
    }

    /// Its changes, in their order.
    ///
    /// # Errors
    /// Each may be [`Error::Corruption`]: bytes under a right checksum that this release cannot read.
    pub fn changes(&self) -> impl Iterator<Item = Result<Change<'_>>> {
        let is_batch = self.head.kind == FrameKind::Batch;
        let mut batch = is_batch.then(|| BatchReader::new(&self.payload, self.head.count));
        let mut rest: &[u8] = if is_batch { &[] } else { &self.payload };
        let mut done = false;
        let wrong = |detail: String| Error::corruption("the change log".as_ref(), 0, detail);
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let next = match &mut batch {
                Some(batch) => batch.next().map(|item| match item {
                    Ok(operation) => {
                        let (keyspace, key, value) =
                            (operation.keyspace, operation.key, operation.value);
                        Ok(match operation.kind {
                            Kind::Put => Change::Put { keyspace, key, value },
                            Kind::Delete => Change::Delete { keyspace, key },
                            Kind::Merge => Change::Merge { keyspace, key, operand: value },
                            Kind::DeleteRange => {
                                let end = (!value.is_empty()).then_some(value);
                                Change::DeleteRange { keyspace, start: key, end }
                            }
                        })
                    }
                    Err(damage) => Err(wrong(damage.detail.to_string())),
                }),
                None if rest.is_empty() => None,
                None => Some(match take_ingested(&mut rest) {
                    Some((keyspace, smallest, largest)) => {
                        Ok(Change::Ingest { keyspace, smallest, largest })
                    }
                    None => Err(wrong("an ingest that says nothing".to_owned())),
                }),
            };
            done = !matches!(next, Some(Ok(_)));
            next
        })
    }
}

/// Follows a database. Made by [`Db::changes`](crate::Db::changes); keeps the database open.
pub struct ChangeFeed {
    handle: Arc<Handle>,
    log: Arc<ChangeLog>,
    /// What is yielded next holds this number.
    next: SequenceNumber,
    reader: Option<ChangeReader>,
}

impl ChangeFeed {
    pub(crate) fn new(handle: Arc<Handle>, log: Arc<ChangeLog>, after: u64) -> Result<ChangeFeed> {
        let mut feed = ChangeFeed { handle, log, next: after.saturating_add(1), reader: None };
        let visible = feed.handle.engine.current.visible();
        if after > visible {
            return Err(Error::ChangesGone {
                wanted: after.saturating_add(1),
                oldest: visible + 1,
            });
        }
        if let (None, Some(head), _) = feed.look(after)?
            && head.kind == FrameKind::Lost
        {
            // The commit that was seen last is no more.
            let wanted = after.saturating_add(1);
            return Err(Error::ChangesGone { wanted, oldest: head.last() + 1 });
        }
        feed.reader = None;
        // Whether it is to be had is said now, not at the first commit. What was read to know it is read again.
        feed.find()?;
        feed.reader = None;
        Ok(feed)
    }

    /// The next commit; `None` if readers see none yet.
    ///
    /// # Errors
    /// [`Error::ChangesGone`]: the next commit is not to be had, and no later call will have it; begin a new feed, from a copy of the data.
    /// [`Error::Corruption`], [`Error::Io`] of a change file; [`Error::Closed`].
    #[allow(clippy::should_implement_trait, reason = "its end is not final")]
    pub fn next(&mut self) -> Result<Option<ChangeSet>> {
        let engine = &self.handle.engine;
        engine.health.check_open()?;
        let found = self.find()?;
        if let Some(set) = &found {
            self.next = set.last() + 1;
        }
        Ok(found)
    }

    /// As [`next`](Self::next), but waits up to `timeout` for a commit.
    ///
    /// # Errors
    /// As `next`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<ChangeSet>> {
        if let Some(set) = self.next()? {
            return Ok(Some(set));
        }
        let (engine, next) = (&self.handle.engine, self.next);
        let is_idle = || next > engine.current.visible() && engine.health.check_open().is_ok();
        self.log.wait(timeout, is_idle);
        self.next()
    }

    /// The sequence number that the next commit will hold.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The commit that holds `self.next`, which goes over numbers that belong to none; `None` if there is none yet.
    fn find(&mut self) -> Result<Option<ChangeSet>> {
        while self.next <= self.handle.engine.current.visible() {
            let wanted = self.next;
            let (found, mut lost, mut oldest) = self.look(wanted)?;
            if found.is_some() {
                return Ok(found);
            }
            if let Some(head) = lost.take() {
                if head.sequence == wanted {
                    self.next = head.last() + 1;
                    continue;
                }
                // Whoever comes from inside has seen a commit that is no more.
                oldest = Some(head.last() + 1);
            }
            let visible = self.handle.engine.current.visible();
            let oldest = oldest.into_iter().chain(self.log.first_after(wanted)).min();
            return Err(Error::ChangesGone { wanted, oldest: oldest.unwrap_or(visible + 1) });
        }
        Ok(None)
    }

    /// The commit that holds a number; or what says that it was lost, and the next number that was met.
    fn look(&mut self, wanted: SequenceNumber) -> Result<Looked> {
        let (mut lost, mut oldest) = (None, None);
        let mut judge = |reader: &mut ChangeReader| -> Result<Option<ChangeSet>> {
            match scan(reader, wanted)? {
                Scanned::Commit(set) => return Ok(Some(set)),
                Scanned::Lost(head) => lost = Some(head),
                Scanned::Beyond(first) => {
                    oldest = Some(oldest.map_or(first, |o: u64| o.min(first)))
                }
                Scanned::Nothing => {}
            }
            Ok(None)
        };
        if let Some(mut reader) = self.reader.take()
            && let Some(set) = judge(&mut reader)?
        {
            self.reader = Some(reader);
            return Ok((Some(set), None, None));
        }
        let engine = &self.handle.engine;
        let mut tried: Vec<SequenceNumber> = Vec::new();
        loop {
            let firsts = match self.log.find(wanted) {
                Found::Change(head, _)
                    if matches!(head.kind, FrameKind::Lost | FrameKind::Void) =>
                {
                    return Ok((None, Some(head), None));
                }
                Found::Change(head, payload) => {
                    return Ok((Some(ChangeSet { head, payload }), None, None));
                }
                Found::Files(firsts) => firsts,
            };
            // A file may take the place of a buffer, and an old one may go, between two looks.
            let Some(first) = firsts.into_iter().find(|first| !tried.contains(first)) else {
                break;
            };
            tried.push(first);
            let (disk, directory) = (&engine.environment.disk, &engine.directory);
            let mut reader = match ChangeReader::open(disk, directory, first) {
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                other => other?,
            };
            if let Some(set) = judge(&mut reader)? {
                self.reader = Some(reader);
                return Ok((Some(set), None, None));
            }
        }
        Ok((None, lost, oldest))
    }
}

/// A commit, or what says that it was lost, and the next number that was met.
type Looked = (Option<ChangeSet>, Option<FrameHead>, Option<SequenceNumber>);

/// What a file has of a number.
enum Scanned {
    Commit(ChangeSet),
    /// That there is no such commit.
    Lost(FrameHead),
    /// Nothing, but something of this one.
    Beyond(SequenceNumber),
    Nothing,
}

/// Goes on to the frame that holds a number.
fn scan(reader: &mut ChangeReader, wanted: SequenceNumber) -> Result<Scanned> {
    if reader.last() < wanted {
        return Ok(Scanned::Nothing);
    }
    while let Some((head, payload)) = reader.next_frame()? {
        if head.last() >= wanted {
            return Ok(match head.kind {
                _ if head.sequence > wanted => Scanned::Beyond(head.sequence),
                FrameKind::Lost | FrameKind::Void => Scanned::Lost(head),
                _ => Scanned::Commit(ChangeSet { head, payload: payload.to_vec() }),
            });
        }
    }
    Ok(Scanned::Nothing)
}

impl fmt::Debug for ChangeFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChangeFeed(at {})", self.next)
    }
}

//! One sorted source of a merge: a memtable, a table or a sorted level. An enum, so that a step is a jump and not a
//! virtual call.

use crate::base::cursor::{EntryCursor, Target};
use crate::base::error::Result;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::slice::PinnedSlice;
use crate::file::table_cursor::TableCursor;
use crate::mem::memtable_cursor::MemtableCursor;
use crate::version::level_cursor::LevelCursor;
use crate::version::seek;

/// A source of entries.
#[derive(Debug)]
pub enum Source {
    /// A memtable.
    Memtable(MemtableCursor),
    /// One table.
    Table(Box<TableCursor>),
    /// A sorted level.
    Level(Box<LevelCursor>),
}

macro_rules! each {
    ($self:expr, $cursor:ident => $call:expr) => {
        match $self {
            Source::Memtable($cursor) => $call,
            Source::Table($cursor) => $call,
            Source::Level($cursor) => $call,
        }
    };
}

impl EntryCursor for Source {
    #[inline]
    fn valid(&self) -> bool {
        each!(self, cursor => cursor.valid())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        each!(self, cursor => cursor.key())
    }

    #[inline]
    fn tag(&self) -> Tag {
        each!(self, cursor => cursor.tag())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        each!(self, cursor => cursor.value())
    }

    fn pin_value(&self) -> PinnedSlice {
        each!(self, cursor => cursor.pin_value())
    }

    fn seek_to_first(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        each!(self, cursor => cursor.seek_to_last())
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        each!(self, cursor => cursor.seek(key, tag))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        each!(self, cursor => cursor.seek_before(key))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        each!(self, cursor => cursor.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        each!(self, cursor => cursor.prev())
    }

    fn next_past(&mut self, key: Option<&[u8]>, below: SequenceNumber) -> Result<()> {
        match self {
            Source::Memtable(cursor) if cursor.newest() < below => cursor.leave_for(key),
            Source::Memtable(cursor) => cursor.next(),
            Source::Table(cursor) if cursor.newest() < below => cursor.leave_for(key),
            Source::Table(cursor) => cursor.next(),
            Source::Level(cursor) => cursor.next_past(key, below),
        }
    }

    fn prev_past(&mut self, key: &[u8], below: SequenceNumber) -> Result<()> {
        match self {
            Source::Memtable(cursor) if cursor.newest() < below => cursor.seek_before(key),
            Source::Memtable(cursor) => cursor.prev(),
            Source::Table(cursor) if cursor.newest() < below => cursor.seek_before(key),
            Source::Table(cursor) => cursor.prev(),
            Source::Level(cursor) => cursor.prev_past(key, below),
        }
    }

    #[inline]
    fn go_all(sources: &mut [Source], target: Target<'_>) -> Result<()> {
        seek::seek_all(sources, target)
    }
}

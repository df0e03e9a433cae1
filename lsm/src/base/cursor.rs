//! What every sorted source of entries can do: memtables, tables, levels and their merge.

use crate::base::error::Result;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::slice::PinnedSlice;

/// Where a cursor is to go.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// To the first entry.
    First,
    /// To the last entry.
    Last,
    /// To the first entry at or after a key and a tag.
    At(&'a [u8], Tag),
    /// To the last entry whose user key is below a key.
    Before(&'a [u8]),
}

/// A position in a sorted run of entries (user key ascending, tag descending).
///
/// `key`, `tag`, `value` and `pin_value` may be called only while `valid`; the slices live until the next move. After an
/// `Err` the cursor is not valid.
pub trait EntryCursor {
    /// True while the cursor stands on an entry.
    fn valid(&self) -> bool;
    /// The user key.
    fn key(&self) -> &[u8];
    /// Sequence number and kind.
    fn tag(&self) -> Tag;
    /// The value; empty for a tombstone.
    fn value(&self) -> &[u8];
    /// The value, kept alive by itself, without a copy where the source allows.
    fn pin_value(&self) -> PinnedSlice;
    /// Moves to the first entry.
    fn seek_to_first(&mut self) -> Result<()>;
    /// Moves to the last entry.
    fn seek_to_last(&mut self) -> Result<()>;
    /// Moves to the first entry at or after (`key`, `tag`): same key with a tag not above `tag`, or a larger key.
    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()>;
    /// Moves to the last entry whose user key is below `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;
    /// Moves on by one entry. Only while valid.
    fn next(&mut self) -> Result<()>;
    /// Moves back by one entry. Only while valid.
    fn prev(&mut self) -> Result<()>;
    /// Moves on over what a range delete hides: by at least one entry, and on to the first key not below `key` (`None`: to the end) where all
    /// that is passed is older than `below`. Only while valid, on a key below `key`.
    fn next_past(&mut self, key: Option<&[u8]>, below: SequenceNumber) -> Result<()> {
        let _one_step = (key, below);
        self.next()
    }
    /// As `next_past`, backward: on to the last key below `key`. Only on a key not below `key`.
    fn prev_past(&mut self, key: &[u8], below: SequenceNumber) -> Result<()> {
        let _one_step = (key, below);
        self.prev()
    }
    /// Moves to where `target` says.
    fn go(&mut self, target: Target<'_>) -> Result<()> {
        match target {
            Target::First => self.seek_to_first(),
            Target::Last => self.seek_to_last(),
            Target::At(key, tag) => self.seek(key, tag),
            Target::Before(key) => self.seek_before(key),
        }
    }
    /// Moves to the first key not below `key`; to the end without one.
    fn leave_for(&mut self, key: Option<&[u8]>) -> Result<()> {
        match key {
            Some(key) => self.seek(key, Tag::MAX),
            None => {
                self.seek_to_last()?;
                if self.valid() { self.next() } else { Ok(()) }
            }
        }
    }
    /// Moves all of `cursors` to the same place. They may share their waiting: for the device, for memory.
    fn go_all(cursors: &mut [Self], target: Target<'_>) -> Result<()>
    where
        Self: Sized,
    {
        cursors.iter_mut().try_for_each(|cursor| cursor.go(target))
    }
}

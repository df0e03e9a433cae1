//! What every sorted source of entries can do: memtables, tables, levels and their merge.

use crate::base::error::Result;
use crate::base::key::Tag;
use crate::base::slice::PinnedSlice;

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
}

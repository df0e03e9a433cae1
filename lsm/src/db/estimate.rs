//! How much a key range holds, without reading it: from the ranges and counts in the manifest, and the indexes of the tables at its ends.

use crate::base::error::Result;
use crate::base::key::KeyspaceId;
use crate::db::engine::Engine;
use crate::version::table::Table;

/// What tables hold of a key range, about. Made by [`Keyspace::estimate`](crate::Keyspace::estimate).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Estimate {
    /// Bytes on disk, compressed.
    pub file_bytes: u64,
    /// Versions of keys, tombstones included.
    pub entries: u64,
}

impl Engine {
    /// See [`Keyspace::estimate`](crate::Keyspace::estimate).
    pub(crate) fn estimate(
        &self,
        keyspace: KeyspaceId,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
    ) -> Result<Estimate> {
        self.health.check_open()?;
        let view = self.current.view_full();
        let mut sum = Estimate::default();
        let Some(shape) = view.shape(keyspace) else { return Err(self.dropped(keyspace)) };
        for table in shape.levels().iter().flat_map(|level| level.tables()) {
            let from = lower.map_or(Ok(0), |key| bytes_below(table, key))?;
            let whole = table.info().tail_offset;
            let to = upper.map_or(Ok(whole), |key| bytes_below(table, key))?;
            let share = to.saturating_sub(from) as f64 / whole.max(1) as f64;
            sum.file_bytes += (table.info().file_bytes as f64 * share) as u64;
            sum.entries += (table.info().entry_count as f64 * share) as u64;
        }
        Ok(sum)
    }
}

/// Bytes of the blocks of a table before the one that may hold `key`.
fn bytes_below(table: &Table, key: &[u8]) -> Result<u64> {
    let info = table.info();
    if key <= &info.smallest[..] {
        return Ok(0);
    }
    if key > &info.largest[..] {
        return Ok(info.tail_offset);
    }
    let handle = table.reader()?.locate(key)?;
    Ok(handle.map_or(info.tail_offset, |handle| u64::from(handle.offset)))
}

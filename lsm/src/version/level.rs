//! One level: its tables in order, and the fences by which a key finds its table.
//!
//! L0 holds the newest table first and its tables may overlap. Every other level is sorted by key and its tables are
//! disjoint, so one binary search over *fences* (the heads of the largest keys, after their common prefix) finds the
//! only table that can hold a key.

use crate::base::key::{common_prefix, head};
use crate::version::table::Table;
use std::sync::Arc;

/// The tables of one level.
#[derive(Clone, Debug, Default)]
pub struct Level {
    tables: Vec<Arc<Table>>,
    bytes: u64,
    prefix: Vec<u8>,
    fences: Vec<u64>,
}

impl Level {
    /// L0: newest first.
    pub fn overlapping(mut tables: Vec<Arc<Table>>) -> Level {
        tables.sort_by_key(|table| std::cmp::Reverse((table.info().sequence_max, table.number())));
        let bytes = tables.iter().map(|table| table.info().file_bytes).sum();
        Level { tables, bytes, ..Level::default() }
    }

    /// Any other level: sorted, disjoint.
    pub fn disjoint(mut tables: Vec<Arc<Table>>) -> Level {
        tables.sort_by(|a, b| a.info().smallest.cmp(&b.info().smallest));
        let bytes = tables.iter().map(|table| table.info().file_bytes).sum();
        let prefix = match (tables.first(), tables.last()) {
            (Some(first), Some(last)) => {
                let (first, last) = (&first.info().largest, &last.info().largest);
                first[..common_prefix(first, last)].to_vec()
            }
            _ => Vec::new(),
        };
        let fences = tables.iter().map(|table| head(&table.info().largest, prefix.len())).collect();
        Level { tables, bytes, prefix, fences }
    }

    /// The tables in the level's order.
    #[inline]
    pub fn tables(&self) -> &[Arc<Table>] {
        &self.tables
    }

    /// File bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// True without tables.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Index of the first table whose largest key is not below `key` (disjoint levels).
    #[inline]
    pub fn lower_bound(&self, key: &[u8]) -> usize {
        if !key.starts_with(&self.prefix) {
            // All largest keys share the prefix, so the whole level is above or below the key.
            return if key < &self.prefix[..] { 0 } else { self.tables.len() };
        }
        let target = head(key, self.prefix.len());
        let mut index = self.fences.partition_point(|&fence| fence < target);
        while index < self.fences.len()
            && self.fences[index] == target
            && &self.tables[index].info().largest[..] < key
        {
            index += 1;
        }
        index
    }

    /// The only table that can hold `key` (disjoint levels).
    #[inline]
    pub fn find(&self, key: &[u8]) -> Option<&Arc<Table>> {
        let table = self.tables.get(self.lower_bound(key))?;
        (&table.info().smallest[..] <= key).then_some(table)
    }

    /// Tables whose key range meets `smallest..=largest`, in order.
    pub fn overlapping_tables(
        &self,
        smallest: &[u8],
        largest: &[u8],
    ) -> impl Iterator<Item = &Arc<Table>> {
        let start = if self.fences.is_empty() { 0 } else { self.lower_bound(smallest) };
        let sorted = !self.fences.is_empty();
        self.tables[start..]
            .iter()
            .take_while(move |table| !sorted || &table.info().smallest[..] <= largest)
            .filter(move |table| table.overlaps(smallest, largest))
    }
}

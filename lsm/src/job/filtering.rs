//! What a compaction asks the filter of its keyspace, and what came of it.

use crate::base::compaction_filter::{CompactionFilter, FilterEntry, FilterVerdict, filtered};
use crate::base::key::{SequenceNumber, Tag};
use std::sync::Arc;

/// A filter at work in one compaction, or none.
#[derive(Debug, Default)]
pub struct Filtering {
    filter: Option<Arc<dyn CompactionFilter>>,
    level: usize,
    /// The smallest sequence number of what was removed or changed.
    pub touched: Option<SequenceNumber>,
    /// Entries removed.
    pub removed: u64,
    /// Entries changed.
    pub replaced: u64,
    /// Entries kept because the filter failed.
    pub failed: u64,
}

impl Filtering {
    /// For output to `level`.
    pub fn new(filter: Option<Arc<dyn CompactionFilter>>, level: usize) -> Filtering {
        Filtering { filter, level, ..Filtering::default() }
    }

    /// True if there is one to ask.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.filter.is_some()
    }

    /// Asks about a value that no snapshot sees.
    pub fn ask(&mut self, key: &[u8], tag: Tag, value: &[u8]) -> FilterVerdict {
        let Some(filter) = &self.filter else { return FilterVerdict::Keep };
        let sequence = tag.sequence();
        let entry = FilterEntry { key, value, sequence, level: self.level };
        let Some(verdict) = filtered(&**filter, &entry) else {
            self.failed += 1;
            return FilterVerdict::Keep;
        };
        match &verdict {
            FilterVerdict::Keep => return verdict,
            FilterVerdict::Remove => self.removed += 1,
            FilterVerdict::Replace(_) => self.replaced += 1,
        }
        self.touched = Some(self.touched.map_or(sequence, |touched| touched.min(sequence)));
        verdict
    }
}

//! Compaction filters: code of the user that compactions ask whether an entry is still wanted.
//!
//! A filter is a matter of the running program, not of the data: nothing on disk names it, and a database opens without it. What it removes or
//! changes counts as written in the moment in which the compaction takes effect.

use crate::base::error::{Error, Result};
use crate::base::key::SequenceNumber;
use crate::base::limits::VALUE_BYTES_MAX;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What a filter is asked about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FilterEntry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Position of the write in the order of all commits; 0 for one that is so old that nobody can ask any more.
    pub sequence: SequenceNumber,
    /// Level that the compaction writes to, 1 to 6.
    pub level: usize,
}

/// What is to become of an entry.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum FilterVerdict {
    /// It stays.
    #[default]
    Keep,
    /// It goes, as if it had been deleted: older versions of its key do not come back.
    Remove,
    /// It gets this value.
    Replace(Vec<u8>),
}

/// Decides about entries while they are compacted. Given in
/// [`Options::compaction_filters`](crate::Options::compaction_filters), for a keyspace by its name.
///
/// It is asked about values that no live snapshot sees, and that nothing newer in the same compaction hides; not about deletes, nor about operands that are
/// yet to be merged. One entry may be asked about many times, or never: compactions do not come at fixed times, and flushes do not ask. While a keyspace has a
/// filter its tables are not moved down unread.
///
/// Snapshots stay repeatable: a compaction in which the filter removed or changed something is done again without it if somebody has meanwhile taken a
/// snapshot that is still held. Cursors keep what they saw. Transactions see what was removed as a change, as they do deletes.
///
/// A filter that panics, or makes a value that is too long, keeps the entry; [`Stats::filter_failures`](crate::Stats::filter_failures) counts it.
///
/// ```
/// use std::sync::Arc;
/// use treering_lsm::{CompactionFilter, Db, FilterEntry, FilterVerdict, Options};
///
/// /// Sessions end by themselves once their counter is used up.
/// #[derive(Debug)]
/// struct Sessions;
///
/// impl CompactionFilter for Sessions {
///     fn filter(&self, entry: &FilterEntry<'_>) -> FilterVerdict {
///         if entry.value == b"0" { FilterVerdict::Remove } else { FilterVerdict::Keep }
///     }
/// }
///
/// # let directory = tempfile::tempdir()?;
/// let mut options = Options::default();
/// options.compaction_filters.push(("default".into(), Arc::new(Sessions)));
/// let db = Db::open(directory.path(), options)?;
/// db.put(b"ann", b"0")?;
/// db.put(b"bob", b"7")?;
/// db.compact()?;
/// assert!(db.get(b"ann")?.is_none() && db.get(b"bob")?.is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CompactionFilter: Send + Sync + Debug {
    /// Decides about one entry. Called from background threads, several at once; it must not use the database.
    fn filter(&self, entry: &FilterEntry<'_>) -> FilterVerdict;
}

/// The filters of a database, by the names of their keyspaces.
#[derive(Clone, Debug, Default)]
pub struct CompactionFilters {
    list: Vec<(String, Arc<dyn CompactionFilter>)>,
}

impl CompactionFilters {
    /// Those that were given.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for two of one keyspace.
    pub fn with(given: &[(String, Arc<dyn CompactionFilter>)]) -> Result<CompactionFilters> {
        for (index, (name, _)) in given.iter().enumerate() {
            if given[..index].iter().any(|(other, _)| other == name) {
                let detail = format!("two for keyspace {name:?}; give one that does what both do");
                return Err(Error::invalid_option("compaction_filters", detail));
            }
        }
        Ok(CompactionFilters { list: given.to_vec() })
    }

    /// That of a keyspace.
    pub fn of(&self, keyspace: &str) -> Option<Arc<dyn CompactionFilter>> {
        let found = self.list.iter().find(|(name, _)| name == keyspace);
        found.map(|(_, filter)| Arc::clone(filter))
    }
}

/// What the filter says; `None` if it failed.
pub fn filtered(filter: &dyn CompactionFilter, entry: &FilterEntry<'_>) -> Option<FilterVerdict> {
    match catch_unwind(AssertUnwindSafe(|| filter.filter(entry))).ok()? {
        FilterVerdict::Replace(value) if value.len() > VALUE_BYTES_MAX => None,
        verdict => Some(verdict),
    }
}

//! Flush: the frozen memtables of one generation become one L0 table per keyspace; their range deletes go to the manifest.

use crate::base::error::Result;
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::merge::MergeOperator;
use crate::base::options::KeyspaceOptions;
use crate::base::range_deletes::RangeDelete;
use crate::format::table_info::TableInfo;
use crate::job::counters::LevelWork;
use crate::job::output::{JobContext, Output};
use crate::job::retain::Retain;
use crate::job::rewrite::{Questions, rewrite};
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// What a flush has made.
#[derive(Debug)]
pub struct Flushed {
    /// L0 tables: one, unless all versions were dropped.
    pub tables: Vec<TableInfo>,
    /// The range deletes of the memtable, for the manifest.
    pub range_deletes: Vec<RangeDelete>,
    /// What was done.
    pub work: LevelWork,
}

/// Writes one memtable as L0 tables.
///
/// # Errors
/// As the writes behind it; no file is left then. [`Error::Closed`](crate::Error::Closed) if the database is closing.
pub fn flush(
    context: &JobContext,
    keyspace: KeyspaceId,
    options: &KeyspaceOptions,
    operator: Option<Arc<dyn MergeOperator>>,
    memtable: &Arc<Memtable>,
    snapshots: Vec<SequenceNumber>,
) -> Result<Flushed> {
    let mut work = LevelWork { jobs: 1, ..LevelWork::default() };
    let mut ranges = memtable.ranges();
    let mut retain = Retain::new(snapshots.clone(), false).without(ranges.clone());
    let output = Output::new(context, keyspace, 0, options).warm(context.readers_about());
    let mut output = output.applied(retain.applied(memtable.newest()));
    let mut cursor = memtable.cursor();
    let questions = Questions { cut_before: |_: &[u8], _| false, covers_below: |_: &[u8]| true };
    rewrite(context, &mut cursor, &mut retain, operator, &mut output, &mut work, questions)?;
    let tables = output.finish()?;
    work.wrote(&tables);
    ranges.tidy(&snapshots, |_, _| true);
    Ok(Flushed { tables, range_deletes: ranges.ranges().collect(), work })
}

//! Flush: the frozen memtables of one generation become one L0 table per keyspace (more where guard keys cut it); their range deletes go to the manifest.

use crate::base::error::Result;
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::options::KeyspaceOptions;
use crate::base::range_deletes::{RangeDelete, RangeDeletes};
use crate::format::table_info::TableInfo;
use crate::job::counters::LevelWork;
use crate::job::filtering::Filtering;
use crate::job::output::{JobContext, Output};
use crate::job::retain::Retain;
use crate::job::rewrite::{Meaning, Questions, rewrite};
use crate::mem::memtable::Memtable;
use crate::version::shape::Shape;
use std::sync::Arc;

/// What a flush has made.
#[derive(Debug)]
pub struct Flushed {
    /// L0 tables: one, unless all versions were dropped, or guard keys cut it.
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
    shape: &Shape,
    memtable: &Arc<Memtable>,
    snapshots: Vec<SequenceNumber>,
) -> Result<Flushed> {
    let mut work = LevelWork { jobs: 1, ..LevelWork::default() };
    let mut ranges = memtable.ranges();
    let mut all = RangeDeletes::clone(shape.ranges());
    ranges.ranges().for_each(|range| all.add(&range.start, &range.end, range.sequence));
    let mut retain = Retain::new(snapshots.clone(), false).without(all);
    let known = if options.ttl.is_some() { 0 } else { memtable.newest() };
    let output = Output::new(context, keyspace, 0, options).warm(context.readers_about());
    let mut output = output.applied(retain.applied(known));
    let mut cursor = memtable.cursor();
    let mut guards = shape.guards().walk();
    let cut_before = |key: &[u8], _| guards.passes(key);
    let questions = Questions { cut_before, covers_below: |_: &[u8]| true };
    let operator = shape.operator().cloned();
    let meaning = Meaning { operator, filtering: &mut Filtering::default() };
    rewrite(context, &mut cursor, &mut retain, meaning, &mut output, &mut work, questions)?;
    let tables = output.finish()?;
    work.wrote(&tables);
    ranges.tidy(&snapshots, |_, _| true);
    Ok(Flushed { tables, range_deletes: ranges.ranges().collect(), work })
}

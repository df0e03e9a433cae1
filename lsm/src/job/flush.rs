//! Flush: the frozen memtables of one generation become one L0 table per keyspace.

use crate::base::error::Result;
use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::options::KeyspaceOptions;
use crate::format::table_info::TableInfo;
use crate::job::counters::LevelWork;
use crate::job::output::{JobContext, Output};
use crate::job::retain::Retain;
use crate::job::rewrite::rewrite;
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// Writes one memtable as L0 tables (one, unless all versions were dropped: none).
///
/// # Errors
/// As the writes behind it; no file is left then. [`Error::Closed`](crate::Error::Closed) if the database is closing.
pub fn flush(
    context: &JobContext,
    keyspace: KeyspaceId,
    options: &KeyspaceOptions,
    memtable: &Arc<Memtable>,
    snapshots: Vec<SequenceNumber>,
) -> Result<(Vec<TableInfo>, LevelWork)> {
    let mut work = LevelWork { jobs: 1, ..LevelWork::default() };
    let mut output = Output::new(context, keyspace, 0, options).warm(context.readers_about());
    let mut retain = Retain::new(snapshots, false);
    let mut cursor = memtable.cursor();
    rewrite(context, &mut cursor, &mut retain, &mut output, &mut work, |_, _| false, |_| true)?;
    let tables = output.finish()?;
    work.wrote(&tables);
    Ok((tables, work))
}

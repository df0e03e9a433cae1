//! Flush: the frozen memtables of one generation become one L0 table per keyspace.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::{KeyspaceId, SequenceNumber, Tag};
use crate::base::options::KeyspaceOptions;
use crate::format::table_info::TableInfo;
use crate::job::counters::LevelWork;
use crate::job::output::{JobContext, Output};
use crate::job::retain::{Retain, Verdict};
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// Entries between two looks at whether the database is closing.
const CHECK_EVERY: u64 = 4096;

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
    let mut last_key: Vec<u8> = Vec::new();
    let mut cursor = memtable.cursor();
    cursor.seek_to_first()?;
    while cursor.valid() {
        let (key, tag) = (cursor.key(), cursor.tag());
        let same_key = work.keys_in > 0 && key == &last_key[..];
        if !same_key {
            last_key.clear();
            last_key.extend_from_slice(key);
        }
        match retain.decide(same_key, tag, || true) {
            Verdict::Keep => output.add(key, tag, cursor.value())?,
            Verdict::KeepOld => output.add(key, Tag(u64::from(tag.kind_byte())), cursor.value())?,
            Verdict::Drop => work.keys_dropped += 1,
        }
        work.keys_in += 1;
        if work.keys_in.is_multiple_of(CHECK_EVERY) {
            context.check_open()?;
        }
        cursor.next()?;
    }
    let tables = output.finish()?;
    work.write_bytes = tables.iter().map(|info| info.file_bytes).sum();
    Ok((tables, work))
}

//! Batches that are larger than a memtable: written to tables at once, past log and memtable.
//!
//! Nobody stands between two operations of a batch. So of all that it does to a key the last operation is enough, all of its entries can have one
//! sequence number, and its range deletes the one before: it comes in as an ingest does (`db/ingest.rs`), of tables that are made here.
//!
//! Promises:
//! 1. A batch written so is atomic, ordered and visible like any other, and durable whatever its class when it returns.
//! 2. Its memory beside the batch itself is 48 bytes for each operation, and the buffers of one table.
//!
//! Left out: batches with merges, whose operands each need a number of their own. They take a memtable of their size.

use crate::base::error::{Error, Result};
use crate::base::key::{FileNumber, KeyspaceId, Kind, SequenceNumber, Tag};
use crate::base::planted::{Bug, planted};
use crate::base::range_deletes::{RangeDelete, RangeDeletes};
use crate::db::engine::Engine;
use crate::db::ingest::FromOutside;
use crate::db::spans::span;
use crate::file::name;
use crate::format::batch::{BatchBuilder, BatchReader, Operation};
use crate::format::table_info::TableInfo;
use crate::job::output::{Output, remove_all};
use crate::version::set::KeyspaceState;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Range deletes of a batch, by keyspace; the number of each is that of its operation in the batch, from 1 on.
type Ranges = BTreeMap<KeyspaceId, RangeDeletes>;

/// An operation of a batch, with its number in it.
struct Numbered<'b> {
    keyspace: KeyspaceId,
    key: &'b [u8],
    number: SequenceNumber,
    kind: Kind,
    value: &'b [u8],
}

/// True for a batch that goes past the memtable: one of this cost.
pub(crate) fn is_large(operations: &BatchBuilder, cost: usize, write_buffer_bytes: u64) -> bool {
    cost as u64 > write_buffer_bytes
        && !read(operations).any(|operation| operation.kind == Kind::Merge)
}

fn read(operations: &BatchBuilder) -> impl Iterator<Item = Operation<'_>> {
    let items = BatchReader::new(operations.bytes(), operations.len());
    items.map(|item| item.expect("a batch is well-formed by construction"))
}

impl Engine {
    /// Writes a batch to tables and shows them, unless `check` has an error.
    #[cold]
    pub(crate) fn write_large<E: From<Error>>(
        &self,
        operations: &BatchBuilder,
        check: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let _span = span!("large batch", bytes = operations.bytes().len());
        self.check_writable()?;
        let _caller = self.begin_call()?;
        self.pace(operations.bytes().len());
        let (last, ranges) = last_operations(operations);
        let written = self.write_last(&last).inspect_err(|error| self.note_job_error(error))?;
        drop(last);
        let made = self.paths(&written);
        let tables = written.into_iter().map(|(id, info)| (id, own(info))).collect();
        let ranges =
            ranges.iter().flat_map(|(id, ranges)| ranges.ranges().map(|range| (*id, range)));
        let ranges: Vec<(KeyspaceId, RangeDelete)> = ranges.collect();
        let edit = self.install_from_outside(FromOutside { tables, ranges, made }, check)?;
        self.writes.add(u64::from(operations.len()), operations.bytes().len() as u64);
        self.tell_written(&edit);
        self.events.tell();
        Ok(())
    }

    /// Tables of all entries. After an error there are none.
    fn write_last(&self, last: &[Numbered<'_>]) -> Result<Vec<(KeyspaceId, TableInfo)>> {
        let keyspaces = self.versions.lock().keyspaces().to_vec();
        let mut tables: Vec<(KeyspaceId, TableInfo)> = Vec::new();
        for entries in last.chunk_by(|a, b| a.keyspace == b.keyspace) {
            let id = entries[0].keyspace;
            match self.write_keyspace(&keyspaces[id.0 as usize], entries) {
                Ok(infos) => tables.extend(infos.into_iter().map(|info| (id, info))),
                Err(error) => {
                    remove_all(&*self.environment.disk, &self.paths(&tables));
                    return Err(error);
                }
            }
        }
        Ok(tables)
    }

    fn write_keyspace(
        &self,
        keyspace: &KeyspaceState,
        entries: &[Numbered<'_>],
    ) -> Result<Vec<TableInfo>> {
        let options = &keyspace.record.options;
        let mut output = Output::new(&self.jobs, keyspace.record.id, 0, options);
        let mut guards = keyspace.shape.guards().walk();
        for entry in entries {
            if guards.passes(entry.key) || output.table_bytes() >= options.table_bytes {
                output.cut()?;
                self.jobs.check_open()?;
            }
            output.add(entry.key, Tag::new(0, entry.kind), entry.value)?;
        }
        output.finish()
    }

    fn paths(&self, tables: &[(KeyspaceId, TableInfo)]) -> Vec<PathBuf> {
        let path = |info: &TableInfo| name::table(&self.directory, FileNumber(info.table_id));
        tables.iter().map(|(_, info)| path(info)).collect()
    }
}

/// A table of our own whose entries are to get their number when it comes in.
fn own(info: TableInfo) -> TableInfo {
    let number = info.table_id;
    info.ingested_as(number, 0)
}

/// The last operation of each key, in order, without those that a later range delete of the batch covers; and the range deletes.
fn last_operations(operations: &BatchBuilder) -> (Vec<Numbered<'_>>, Ranges) {
    let mut ranges = Ranges::new();
    let mut last: Vec<Numbered<'_>> = Vec::with_capacity(operations.len() as usize);
    for (index, Operation { kind, keyspace, key, value }) in read(operations).enumerate() {
        let number = index as SequenceNumber + 1;
        match kind {
            // Nobody reads between two of them: the newest over each key is enough.
            Kind::DeleteRange => {
                ranges.entry(keyspace).or_default().add_superseding(key, value, number, 0);
            }
            _ => last.push(Numbered { keyspace, key, number, kind, value }),
        }
    }
    last.sort_unstable_by(|a, b| {
        let (older, newer) = match planted(Bug::LostUnderLargeBatch) {
            false => (a.number, b.number),
            true => (b.number, a.number),
        };
        (a.keyspace, a.key, newer).cmp(&(b.keyspace, b.key, older))
    });
    last.dedup_by(|later, first| (later.keyspace, later.key) == (first.keyspace, first.key));
    last.retain(|entry| {
        let over = ranges.get(&entry.keyspace).map(|ranges| ranges.at(entry.key));
        over.is_none_or(|step| step.newest(SequenceNumber::MAX) < entry.number)
    });
    (last, ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_range_deletes_are_kept_once_for_each_key() {
        // Guards: a batch of many range deletes inside one another takes memory for each of them, not for each pair.
        let mut batch = BatchBuilder::new();
        for i in 0..2000u32 {
            let end = format!("b{i:08}");
            batch.push_delete_range(KeyspaceId(0), b"a", end.as_bytes()).expect("a good range");
        }
        let (_, ranges) = last_operations(&batch);
        assert!(ranges[&KeyspaceId(0)].ranges().count() <= 2000);
    }
}

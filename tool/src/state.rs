//! What the edits of a manifest add up to: keyspaces, levels, tables, and where the log begins.
//!
//! The engine has the same sum in `version::set`, over open tables. This one is for looking: it opens nothing, remembers what was
//! removed, and stops at an edit that contradicts the ones before.

use std::collections::BTreeSet;
use treering_lsm::KeyspaceOptions;
use treering_lsm::base::guard_keys::GuardKeys;
use treering_lsm::base::key::FileNumber;
use treering_lsm::base::range_deletes::{RangeDelete, RangeDeletes};
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, TimeMark, VersionEdit};
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::limits::LEVEL_COUNT;

/// A keyspace with its tables.
#[derive(Clone, Debug)]
pub(crate) struct KeyspaceState {
    pub(crate) record: KeyspaceRecord,
    /// By level; L0 newest first, the others sorted by key.
    pub(crate) levels: [Vec<TableInfo>; LEVEL_COUNT],
    /// Range deletes that tables need.
    pub(crate) ranges: RangeDeletes,
    /// It is no more; nothing is in it.
    pub(crate) is_dropped: bool,
    /// Where its tables are cut.
    pub(crate) guards: GuardKeys,
}

/// The sum of some edits.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) keyspaces: Vec<KeyspaceState>,
    pub(crate) next_file: u64,
    pub(crate) last_sequence: u64,
    pub(crate) log: LogMark,
    pub(crate) promised: u64,
    /// Change files that begin up to here count.
    pub(crate) changes: u64,
    pub(crate) time_marks: Vec<TimeMark>,
    /// Tables that an edit removed for good.
    pub(crate) removed: BTreeSet<u64>,
    /// Every table that an edit named.
    pub(crate) named: BTreeSet<u64>,
}

impl State {
    /// Takes one edit in.
    ///
    /// # Errors
    /// How it contradicts the edits before; it is then not taken in.
    pub(crate) fn apply(&mut self, edit: &VersionEdit) -> Result<(), String> {
        let mut next = self.clone();
        for record in &edit.keyspaces {
            if record.id.0 as usize != next.keyspaces.len() {
                return Err(format!("keyspace {} is made out of order", record.id.0));
            }
            let levels = std::array::from_fn(|_| Vec::new());
            next.keyspaces.push(KeyspaceState {
                record: record.clone(),
                levels,
                ranges: RangeDeletes::default(),
                guards: GuardKeys::default(),
                is_dropped: false,
            });
        }
        for id in &edit.dropped {
            let state = next.keyspaces.get_mut(id.0 as usize).filter(|state| !state.is_dropped);
            let state =
                state.ok_or_else(|| format!("it drops keyspace {}, which is not there", id.0))?;
            let tables = state.levels.iter_mut().flat_map(std::mem::take);
            next.removed.extend(tables.map(|table| table.table_id));
            state.ranges = RangeDeletes::default();
            state.guards = GuardKeys::default();
            state.record.options = KeyspaceOptions::default();
            state.is_dropped = true;
        }
        for (keyspace, level, number) in &edit.removed {
            let tables = next.level(keyspace.0, *level)?;
            let before = tables.len();
            tables.retain(|table| table.table_id != number.0);
            if tables.len() == before {
                return Err(format!("table {} is removed from L{level}, which has none", number.0));
            }
            next.removed.insert(number.0);
        }
        for (keyspace, level, info) in &edit.added {
            let tables = next.level(keyspace.0, *level)?;
            if tables.iter().any(|table| table.table_id == info.table_id) {
                return Err(format!("table {} is added twice to L{level}", info.table_id));
            }
            tables.push(info.clone());
            if *level == 0 {
                tables.sort_by_key(|table| std::cmp::Reverse((table.sequence_max, table.table_id)));
            } else {
                tables.sort_by(|a, b| a.smallest.cmp(&b.smallest));
            }
            next.removed.remove(&info.table_id);
            next.named.insert(info.table_id);
        }
        for (keyspace, RangeDelete { start, end, sequence }) in &edit.range_forgets {
            next.ranges(keyspace.0)?.forget(start, end, *sequence);
        }
        for (keyspace, RangeDelete { start, end, sequence }) in &edit.range_deletes {
            next.ranges(keyspace.0)?.add_superseding(start, end, *sequence, 0);
        }
        for (keyspace, guards) in &edit.guards {
            let state = next.keyspaces.get_mut(keyspace.0 as usize);
            let unknown = || format!("it guards keyspace {}, which is not made", keyspace.0);
            state.ok_or_else(unknown)?.guards = guards.clone();
        }
        next.time_marks.extend(&edit.time_marks);
        next.next_file = next.next_file.max(edit.next_file.unwrap_or(0));
        next.last_sequence = next.last_sequence.max(edit.last_sequence.unwrap_or(0));
        next.log = edit.log.unwrap_or(next.log);
        next.promised = next.promised.max(edit.promised.unwrap_or(0));
        next.changes = next.changes.max(edit.changes.unwrap_or(0));
        *self = next;
        Ok(())
    }

    fn ranges(&mut self, keyspace: u32) -> Result<&mut RangeDeletes, String> {
        let state = self.keyspaces.get_mut(keyspace as usize);
        state
            .map(|state| &mut state.ranges)
            .ok_or_else(|| format!("it deletes a range of keyspace {keyspace}, which is not made"))
    }

    fn level(&mut self, keyspace: u32, level: u8) -> Result<&mut Vec<TableInfo>, String> {
        let count = self.keyspaces.len();
        let state = self.keyspaces.get_mut(keyspace as usize);
        let levels = state.map(|state| &mut state.levels);
        levels
            .and_then(|levels| levels.get_mut(usize::from(level)))
            .ok_or_else(|| format!("it names L{level} of keyspace {keyspace}, there are {count}"))
    }

    /// All tables, with keyspace and level.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&KeyspaceState, usize, &TableInfo)> {
        self.keyspaces.iter().flat_map(|keyspace| {
            let levels = keyspace.levels.iter().enumerate();
            levels.flat_map(move |(level, tables)| {
                tables.iter().map(move |table| (keyspace, level, table))
            })
        })
    }

    /// A table that was ingested: its keyspace, and what is known of it.
    pub(crate) fn ingested(&self, number: FileNumber) -> Option<(u32, &TableInfo)> {
        let mut tables = self.tables().map(|(keyspace, _, info)| (keyspace.record.id.0, info));
        tables.find(|(_, info)| info.table_id == number.0 && info.ingested.is_some())
    }

    /// Neighbours in a sorted level that overlap: keyspace, level, both numbers.
    pub(crate) fn overlaps(&self) -> Vec<(String, usize, u64, u64)> {
        let mut found = Vec::new();
        for keyspace in &self.keyspaces {
            for (level, tables) in keyspace.levels.iter().enumerate().skip(1) {
                for pair in tables.windows(2).filter(|pair| pair[0].largest >= pair[1].smallest) {
                    let name = keyspace.record.name.clone();
                    found.push((name, level, pair[0].table_id, pair[1].table_id));
                }
            }
        }
        found
    }
}

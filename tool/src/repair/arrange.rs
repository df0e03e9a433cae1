//! In which level each table stands, so that every read finds the newest version of its key first.
//!
//! A read asks L0 from the largest sequence number down, then one level after the other, and believes the first table that has the
//! key. So it is not enough to put all tables into L0 by their sequence numbers: one that a compaction wrote may hold a newer
//! entry of one key than a table above it, and an older one of another. And an entry that reached the bottom has lost its number: 0
//! is older than everything. What counts is entries: of two tables with a key in common, the one with the newer version of it
//! must be met first. All tables of a keyspace are read together, key by key, which gives those pairs; then the tables are laid
//! one upon the other, oldest first, each as deep as its key range falls:
//!
//! ```text
//! L4              ┌───────┐          met before everything below it
//! L5      ┌───────┴───┐   │          ranges of a level are disjoint
//! L6  ┌───┴──┐  ┌─────┴───┴──┐
//! ```
//!
//! This is what the lost manifest said, or something as good: the depth of the pile is the number of levels that were in use. What
//! does not fit below L0 goes there, if it is a flushed table, for those are whole ranges of the order of commits. Tables that no
//! arrangement serves (old inputs beside outputs may contradict each other) are merged into new tables of the last level, entry by
//! entry, the newest version of each key.

use super::evidence::{Evidence, SoundTable};
use crate::database::Database;
use crate::progress::Progress;
use crate::table::SCAN;
use std::collections::{BTreeMap, BTreeSet};
use treering_lsm::Result;
use treering_lsm::base::cursor::EntryCursor;
use treering_lsm::base::key::{KeyspaceId, Kind, Tag};
use treering_lsm::file::table_cursor::TableCursor;
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::limits::LEVEL_COUNT;

/// Tables to be merged into new ones of the last level.
#[derive(Clone, Debug)]
pub(super) struct Merge {
    pub(super) keyspace: KeyspaceId,
    pub(super) inputs: Vec<TableInfo>,
}

/// Where everything goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrangement {
    pub(super) placed: Vec<(KeyspaceId, u8, TableInfo)>,
    pub(super) merges: Vec<Merge>,
}

/// Finds a place for every table that counts.
pub(super) fn arrange(
    database: &Database,
    evidence: &Evidence,
    notes: &mut Vec<String>,
) -> Result<Arrangement> {
    let mut arrangement = Arrangement::default();
    if let Some(base) = evidence.base.as_ref().filter(|_| evidence.base_is_whole) {
        for (keyspace, level, info) in base.state.tables() {
            if evidence.tables.iter().any(|table| table.info == *info) {
                arrangement.placed.push((keyspace.record.id, level as u8, info.clone()));
            }
        }
        return Ok(arrangement);
    }
    let mut keyspaces: BTreeMap<u32, Vec<&SoundTable>> = BTreeMap::new();
    for table in evidence.tables.iter().filter(|table| !evidence.is_removed(&table.info)) {
        keyspaces.entry(table.keyspace).or_default().push(table);
    }
    for (id, mut tables) in keyspaces {
        tables.sort_by(|a, b| a.info.smallest.cmp(&b.info.smallest));
        for pile in piles(&tables) {
            let (above, doubles) = compare(database, &pile)?;
            for (left, right) in doubles {
                let (left, right) = (pile[left].info.table_id, pile[right].info.table_id);
                notes.push(format!(
                    "tables {left} and {right} hold the same entries: one is the output of a compaction that read the other, or was not finished; \
                     both are kept, so an entry that was deleted or overwritten may come back"
                ));
            }
            let keyspace = KeyspaceId(id);
            match levels(&pile, &above) {
                Some(levels) => {
                    let placed = pile.iter().zip(levels);
                    let placed = placed.map(|(table, level)| (keyspace, level, table.info.clone()));
                    arrangement.placed.extend(placed);
                }
                None => {
                    // Rather space and time than a read that is wrong.
                    let inputs = pile.iter().map(|table| table.info.clone()).collect();
                    arrangement.merges.push(Merge { keyspace, inputs });
                }
            }
        }
    }
    let newest = |info: &TableInfo| std::cmp::Reverse((info.sequence_max, info.table_id));
    arrangement.placed.sort_by_key(|(id, level, info)| (*id, *level, newest(info)));
    Ok(arrangement)
}

/// Tables (sorted by their smallest keys) in groups whose key ranges do not meet.
fn piles<'a>(tables: &[&'a SoundTable]) -> Vec<Vec<&'a SoundTable>> {
    let mut piles: Vec<Vec<&SoundTable>> = Vec::new();
    let mut largest: &[u8] = &[];
    for table in tables {
        match piles.last_mut() {
            Some(pile) if table.info.smallest[..] <= *largest => pile.push(table),
            _ => piles.push(vec![table]),
        }
        largest = largest.max(&table.info.largest);
    }
    piles
}

/// Pairs of indexes: the first must be met before the second.
type Pairs = BTreeSet<(usize, usize)>;

/// Reads all tables of a pile together: which must stand above which, and which share entries.
fn compare(database: &Database, pile: &[&SoundTable]) -> Result<(Pairs, Pairs)> {
    let (mut above, mut doubles) = (Pairs::new(), Pairs::new());
    if pile.len() < 2 {
        return Ok((above, doubles));
    }
    let total = pile.iter().map(|table| table.info.file_bytes).sum();
    let progress = Progress::new("comparing", total);
    let mut merge = TableMerge::open(database, pile.iter().map(|table| &table.info))?;
    let mut versions: Vec<(Tag, usize)> = Vec::new();
    let mut entries = 0u64;
    while let Some(key) = merge.next_key(&mut versions)? {
        debug_assert!(!key.is_empty());
        let Some(&(newest, _)) = versions.first() else { continue };
        let holders = versions.iter().filter(|(tag, _)| *tag == newest).map(|(_, table)| *table);
        let holders: BTreeSet<usize> = holders.collect();
        for &(_, below) in versions.iter().filter(|(_, table)| !holders.contains(table)) {
            above.extend(holders.iter().map(|&holder| (holder, below)));
        }
        // An operand is nothing without what lies below it, so there the order of all of them counts.
        if newest.kind() == Kind::Merge {
            let pairs = versions.windows(2).filter(|pair| pair[0].0 != pair[1].0);
            above.extend(pairs.map(|pair| (pair[0].1, pair[1].1)).filter(|(a, b)| a != b));
        }
        if newest.sequence() > 0 && holders.len() > 1 {
            let list: Vec<usize> = holders.into_iter().collect();
            doubles.insert((list[0], list[1]));
        }
        entries += versions.len() as u64;
        if entries >= 4096 {
            let all: u64 = pile.iter().map(|table| table.info.entry_count).sum();
            progress.add((total as f64 * entries as f64 / all.max(1) as f64) as u64);
            entries = 0;
        }
    }
    Ok((above, doubles))
}

/// A level for each table of the pile; `None` if no arrangement keeps all pairs.
fn levels(pile: &[&SoundTable], above: &Pairs) -> Option<Vec<u8>> {
    let mut levels: Vec<Option<usize>> = vec![None; pile.len()];
    // How many tables that must lie below one are not laid yet.
    let mut waiting = vec![0usize; pile.len()];
    above.iter().for_each(|(upper, _)| waiting[*upper] += 1);
    for _ in 0..pile.len() {
        // Of those that nothing holds back, the one that was written for the deepest level, with the oldest entries.
        let order = |&index: &usize| {
            let SoundTable { info, properties, .. } = pile[index];
            (std::cmp::Reverse(properties.level), info.sequence_max, info.table_id)
        };
        let free = (0..pile.len()).filter(|&i| levels[i].is_none() && waiting[i] == 0);
        let next = free.min_by_key(order)?;
        let info = &pile[next].info;
        let meets =
            |other: &TableInfo| other.smallest <= info.largest && info.smallest <= other.largest;
        let laid = levels.iter().enumerate().filter(|(i, _)| meets(&pile[*i].info));
        let lowest = laid.filter_map(|(_, level)| *level).min().unwrap_or(LEVEL_COUNT);
        levels[next] = Some(lowest.saturating_sub(1));
        above.iter().filter(|(_, lower)| *lower == next).for_each(|(i, _)| waiting[*i] -= 1);
    }
    let levels: Vec<usize> = levels.into_iter().collect::<Option<_>>()?;
    let in_l0 = |index: usize| levels[index] == 0;
    // Only flushed tables are whole ranges of the order of commits, so that those of the next replay fit among them.
    let flushed = |index: usize| pile[index].properties.level == 0;
    let age = |index: usize| (pile[index].info.sequence_max, pile[index].info.table_id);
    let kept = |&(upper, lower): &(usize, usize)| {
        !in_l0(upper) || !in_l0(lower) || age(upper) > age(lower)
    };
    let right = (0..pile.len()).all(|i| !in_l0(i) || flushed(i)) && above.iter().all(kept);
    right.then(|| levels.into_iter().map(|level| level as u8).collect())
}

/// The entries of several tables, key by key.
#[derive(Debug)]
pub(super) struct TableMerge {
    cursors: Vec<TableCursor>,
    /// Tables by their current keys.
    heads: BTreeSet<(Vec<u8>, usize)>,
    /// The versions of the key that was given last, newest first, each once.
    pub(super) values: Vec<(Tag, Vec<u8>)>,
}

impl TableMerge {
    /// Opens the tables and stands before the first key.
    pub(super) fn open<'a>(
        database: &Database,
        tables: impl Iterator<Item = &'a TableInfo>,
    ) -> Result<TableMerge> {
        let (mut cursors, mut heads) = (Vec::new(), BTreeSet::new());
        for (index, info) in tables.enumerate() {
            let mut cursor = database.open_table_as(info)?.cursor(SCAN);
            cursor.seek_to_first()?;
            if cursor.valid() {
                heads.insert((cursor.key().to_vec(), index));
            }
            cursors.push(cursor);
        }
        Ok(TableMerge { cursors, heads, values: Vec::new() })
    }

    /// The next key, and all its versions with the tables that hold them, newest first.
    pub(super) fn next_key(&mut self, versions: &mut Vec<(Tag, usize)>) -> Result<Option<Vec<u8>>> {
        versions.clear();
        let Some((key, _)) = self.heads.first().cloned() else { return Ok(None) };
        self.values.clear();
        while let Some((_, index)) = self.heads.first().filter(|(head, _)| *head == key).cloned() {
            self.heads.pop_first();
            let cursor = &mut self.cursors[index];
            while cursor.valid() && cursor.key() == &key[..] {
                let tag = cursor.tag();
                self.values.push((tag, cursor.value().to_vec()));
                versions.push((tag, index));
                cursor.next()?;
            }
            if cursor.valid() {
                self.heads.insert((cursor.key().to_vec(), index));
            }
        }
        versions.sort_by_key(|(tag, index)| (std::cmp::Reverse(*tag), *index));
        self.values.sort_by_key(|(tag, _)| std::cmp::Reverse(*tag));
        self.values.dedup_by_key(|(tag, _)| *tag);
        Ok(Some(key))
    }
}

//! The version set: keyspaces, their shapes, and the manifest that makes every change of them durable.
//!
//! Promises:
//! 1. A change is first checked, then made durable, then visible to the caller. A change that fails its check changes nothing.
//! 2. Tables that an edit removes are marked obsolete only after the edit is durable.
//! 3. When a manifest write fails the set refuses all further changes (the writer keeps the error).

use crate::base::compaction_filter::CompactionFilters;
use crate::base::error::{Error, Result};
use crate::base::guard_keys::GuardKeys;
use crate::base::key::{FileNumber, KeyspaceId, SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::{NUMBER_MAX, NUMBER_SHARE_MAX};
use crate::base::merge::MergeOperators;
use crate::base::options::KeyspaceOptions;
use crate::base::planted::{Bug, planted};
use crate::base::range_deletes::{RangeDelete, RangeDeletes};
use crate::file::manifest::{self, ManifestWriter};
use crate::file::name;
use crate::format::edit::{KeyspaceRecord, LogMark, TimeMark, VersionEdit};
use crate::format::log::LSN_MAX;
use crate::format::table_info::TableInfo;
use crate::mem::budget::{Charge, Use};
use crate::version::shape::{Rules, Shape};
use crate::version::table::{Table, TableContext};
use crate::version::view::Shapes;
use std::path::PathBuf;
use std::sync::Arc;

/// So many steps of range deletes are gone through at every change; a multiple of them at every so manyth.
const TIDY_AT_ONCE: usize = 4096;

/// A manifest is written anew when it is this large and several times the size of a snapshot.
const MANIFEST_BYTES_SOFT: u64 = 1 << 20;

/// One keyspace.
#[derive(Clone, Debug)]
pub struct KeyspaceState {
    /// Number, name, options.
    pub record: KeyspaceRecord,
    /// Its tables.
    pub shape: Arc<Shape>,
    /// Scans have met many deleted entries in a row here, since the database was opened.
    pub is_scanned: bool,
    /// It is no more: only its number and its name are kept, for the numbers of the others and for errors.
    pub is_dropped: bool,
    /// Changes since its range deletes were last gone through.
    changes_untidied: usize,
}

impl KeyspaceState {
    fn new(record: KeyspaceRecord) -> KeyspaceState {
        // The first tidying, which is that of opening, is never put off: see `tidy_ranges`.
        KeyspaceState {
            record,
            shape: Arc::default(),
            is_scanned: false,
            is_dropped: false,
            changes_untidied: usize::MAX / 2,
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct VersionSet {
    context: Arc<TableContext>,
    operators: MergeOperators,
    filters: CompactionFilters,
    keyspaces: Vec<KeyspaceState>,
    next_file: u64,
    last_sequence: SequenceNumber,
    log: LogMark,
    promised: u64,
    changes: SequenceNumber,
    /// Oldest first.
    time_marks: Vec<TimeMark>,
    /// What was forgotten since the last edit, for the next.
    range_forgets: Vec<(KeyspaceId, RangeDelete)>,
    /// Number of the generation that began with the last tables from outside.
    outside: u64,
    /// Memory of all range deletes.
    range_charge: Charge,
    is_recovering: bool,
    writer: Option<ManifestWriter>,
    snapshot_bytes: u64,
    manifest_path: PathBuf,
}

impl VersionSet {
    /// A set for a new database, with one keyspace.
    pub fn new(context: Arc<TableContext>, default: KeyspaceRecord) -> VersionSet {
        let path = context.directory.join(name::CURRENT);
        let keyspaces = vec![KeyspaceState::new(default)];
        VersionSet { keyspaces, ..VersionSet::empty(context, path) }
    }

    /// A set without keyspaces; errors about its edits name `manifest_path`.
    fn empty(context: Arc<TableContext>, manifest_path: PathBuf) -> VersionSet {
        let range_charge = context.budget.charge(Use::TableMetadata, 0);
        VersionSet {
            context,
            operators: MergeOperators::default(),
            filters: CompactionFilters::default(),
            keyspaces: Vec::new(),
            next_file: 1,
            last_sequence: 0,
            log: LogMark::default(),
            promised: 0,
            changes: 0,
            time_marks: Vec::new(),
            range_forgets: Vec::new(),
            outside: 0,
            range_charge,
            is_recovering: false,
            writer: None,
            snapshot_bytes: 0,
            manifest_path,
        }
    }

    /// Reads the set of a database; `None` if there is no CURRENT. It takes changes after [`VersionSet::rewrite`].
    ///
    /// # Errors
    /// [`Error::Corruption`] for a damaged manifest or one whose edits contradict each other; I/O errors.
    pub fn recover(context: Arc<TableContext>) -> Result<Option<VersionSet>> {
        let Some(contents) = manifest::read(&context.disk, &context.directory)? else {
            return Ok(None);
        };
        let manifest_path = name::manifest(&context.directory, contents.number);
        let mut set = VersionSet::empty(context, manifest_path);
        set.is_recovering = true;
        for edit in &contents.edits {
            let shapes = set.check(edit)?;
            set.adopt(edit, shapes);
        }
        if set.keyspaces.is_empty() {
            return Err(Error::corruption(&set.manifest_path, 0, "no default keyspace"));
        }
        set.next_file = set.next_file.max(contents.number.0 + 1);
        set.is_recovering = false;
        set.check_numbers()?;
        Ok(Some(set))
    }

    /// The next run counts on from these numbers, and has to write what the one after it takes.
    fn check_numbers(&self) -> Result<()> {
        for (what, number, max) in [
            ("file number", self.next_file, NUMBER_MAX),
            ("sequence number", self.last_sequence, SEQUENCE_MAX),
            ("log epoch", self.log.epoch, NUMBER_MAX),
            ("log start", self.log.lsn, LSN_MAX),
            ("log promise", self.promised, LSN_MAX),
        ] {
            if number > max / NUMBER_SHARE_MAX {
                let detail = format!("{what} {number}, which no database reaches");
                return Err(Error::corruption(&self.manifest_path, 0, detail));
            }
        }
        // Expiry deletes under the number after the last one that it knows to be too old.
        let deleted_max = self.last_sequence + 1;
        for keyspace in &self.keyspaces {
            let tables = keyspace.shape.levels().iter().flat_map(|level| level.tables());
            let applied = tables.map(|table| table.info().applied).max().unwrap_or(0);
            if keyspace.shape.ranges().newest(SEQUENCE_MAX).max(applied) > deleted_max {
                let detail = "a range was deleted after the last write that there is".to_owned();
                return Err(Error::corruption(&self.manifest_path, 0, detail));
            }
        }
        Ok(())
    }

    /// Gives every keyspace its merge operator and its compaction filter, those to come as well.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] if an operator is not among them.
    pub fn supply(&mut self, operators: MergeOperators, filters: CompactionFilters) -> Result<()> {
        for keyspace in &mut self.keyspaces {
            let KeyspaceRecord { name, options, .. } = &keyspace.record;
            let operator = operators.find(options.merge_operator.as_deref())?;
            let (filter, guards) = (filters.of(name), keyspace.shape.guards().clone());
            let rules = Rules { operator, filter, guards };
            keyspace.shape = Arc::new(keyspace.shape.with_rules(Arc::new(rules)));
        }
        (self.operators, self.filters) = (operators, filters);
        Ok(())
    }

    /// Tables came in from outside, and this generation began with them: they are younger than all before it.
    pub fn note_outside(&mut self, generation: u64) {
        self.outside = generation;
    }

    /// The generation that began with the last tables from outside; 0 if there were none.
    pub fn outside(&self) -> u64 {
        self.outside
    }

    /// The largest sequence number that was written at `millis` (since 1970) or before; 0 if that is not known.
    pub fn written_by(&self, millis: u64) -> SequenceNumber {
        let at = self.time_marks.partition_point(|mark| mark.millis <= millis);
        at.checked_sub(1).map_or(0, |at| self.time_marks[at].sequence)
    }

    /// The last time mark.
    pub fn last_time_mark(&self) -> Option<TimeMark> {
        self.time_marks.last().copied()
    }

    /// Forgets the time marks that say less about `millis` than the one after them.
    pub fn forget_time_marks_before(&mut self, millis: u64) {
        let at = self.time_marks.partition_point(|mark| mark.millis <= millis);
        self.time_marks.drain(..at.saturating_sub(1));
    }

    /// Notes that deleted entries stand in the way of scans; true if that is news.
    pub fn note_scanned(&mut self, keyspace: KeyspaceId) -> bool {
        let state = self.keyspaces.get_mut(keyspace.0 as usize);
        state.is_some_and(|state| !std::mem::replace(&mut state.is_scanned, true))
    }

    /// The operators that keyspaces may name.
    pub fn operators(&self) -> &MergeOperators {
        &self.operators
    }

    /// All keyspaces, by number; those that were dropped, too.
    pub fn keyspaces(&self) -> &[KeyspaceState] {
        &self.keyspaces
    }

    /// A keyspace that was not dropped.
    pub fn live(&self, id: KeyspaceId) -> Option<&KeyspaceState> {
        self.keyspaces.get(id.0 as usize).filter(|keyspace| !keyspace.is_dropped)
    }

    /// What is left of an edit when nothing is said of keyspaces that were dropped, and the tables that would have come into these.
    pub fn without_dropped(&self, edit: &VersionEdit) -> Option<(VersionEdit, Vec<FileNumber>)> {
        let is_dropped =
            |id: &KeyspaceId| self.live(*id).is_none() && (id.0 as usize) < self.keyspaces.len();
        let is_named = edit.added.iter().any(|(id, ..)| is_dropped(id))
            || edit.removed.iter().any(|(id, ..)| is_dropped(id))
            || edit.range_deletes.iter().any(|(id, _)| is_dropped(id))
            || edit.guards.iter().any(|(id, _)| is_dropped(id));
        if !is_named {
            return None;
        }
        let mut left = edit.clone();
        left.added.retain(|(id, ..)| !is_dropped(id));
        left.removed.retain(|(id, ..)| !is_dropped(id));
        left.range_deletes.retain(|(id, _)| !is_dropped(id));
        left.guards.retain(|(id, _)| !is_dropped(id));
        // A table that is moved was there before, and its keyspace has let go of it already.
        let is_new =
            |info: &TableInfo| !edit.removed.iter().any(|(_, _, number)| number.0 == info.table_id);
        let lost = edit.added.iter().filter(|(id, _, info)| is_dropped(id) && is_new(info));
        let lost = lost.map(|(_, _, info)| FileNumber(info.table_id)).collect();
        Some((left, lost))
    }

    /// A keyspace by name.
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceState> {
        self.keyspaces.iter().find(|keyspace| !keyspace.is_dropped && keyspace.record.name == name)
    }

    /// Shapes by keyspace number, for a view.
    pub fn shapes(&self) -> Shapes {
        let shape =
            |keyspace: &KeyspaceState| (!keyspace.is_dropped).then(|| Arc::clone(&keyspace.shape));
        self.keyspaces.iter().map(shape).collect()
    }

    /// The next file number that the manifest knows to be free.
    pub fn next_file(&self) -> u64 {
        self.next_file
    }

    /// Largest sequence number in tables.
    pub fn last_sequence(&self) -> SequenceNumber {
        self.last_sequence
    }

    /// Where the log begins that is not in tables.
    pub fn log(&self) -> LogMark {
        self.log
    }

    /// Change files that begin up to here count.
    pub fn changes(&self) -> SequenceNumber {
        self.changes
    }

    /// The log was durable up to here when the last edit was written.
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Number of the manifest being written.
    pub fn manifest_number(&self) -> Option<FileNumber> {
        self.writer.as_ref().map(ManifestWriter::number)
    }

    /// True when the manifest has grown enough to be written anew.
    pub fn wants_rewrite(&self) -> bool {
        let bytes = self.writer.as_ref().map_or(0, ManifestWriter::bytes);
        bytes > MANIFEST_BYTES_SOFT && bytes > self.snapshot_bytes * 4
    }

    /// Starts manifest `number` with a snapshot of the set after `edit`, and puts it in force. Makes `edit` durable as well.
    ///
    /// # Errors
    /// As [`ManifestWriter::create`]; the set is unchanged then, and takes no further change unless it was for want of space.
    pub fn rewrite(&mut self, number: FileNumber, edit: &VersionEdit) -> Result<()> {
        let shapes = self.check(edit)?;
        let mut next = VersionSet {
            context: Arc::clone(&self.context),
            operators: self.operators.clone(),
            filters: self.filters.clone(),
            keyspaces: self.keyspaces.clone(),
            next_file: self.next_file,
            last_sequence: self.last_sequence,
            log: self.log,
            promised: self.promised,
            changes: self.changes,
            time_marks: self.time_marks.clone(),
            // The snapshot of the set is without what was forgotten.
            range_forgets: Vec::new(),
            outside: self.outside,
            range_charge: self.context.budget.charge(Use::TableMetadata, self.range_charge.bytes()),
            is_recovering: false,
            writer: None,
            snapshot_bytes: 0,
            manifest_path: name::manifest(&self.context.directory, number),
        };
        let gone = next.adopt(edit, shapes);
        next.next_file = next.next_file.max(number.0 + 1);
        let snapshot = next.snapshot();
        let (disk, directory) = (&self.context.disk, &self.context.directory);
        let created = ManifestWriter::create(disk, directory, number, &snapshot);
        if let (Err(error), Some(old)) = (&created, &mut self.writer)
            && !matches!(error, Error::NoSpace { .. })
        {
            // CURRENT may name the new manifest already: what the old one were told now could be forgotten by the next open.
            old.refuse(error);
        }
        let writer = created?;
        next.snapshot_bytes = writer.bytes();
        next.writer = Some(writer);
        *self = next;
        gone.iter().for_each(|table| table.mark_obsolete());
        Ok(())
    }

    /// Makes `edit` durable and adopts it.
    ///
    /// # Errors
    /// As [`ManifestWriter::append`]; the set is unchanged then.
    pub fn apply(&mut self, edit: &VersionEdit) -> Result<()> {
        let shapes = self.check(edit)?;
        let writer = self.writer.as_mut().ok_or(Error::Closed)?;
        if self.range_forgets.is_empty() {
            writer.append(edit)?;
        } else {
            let forgets = self.range_forgets.iter().filter(|(id, _)| !edit.dropped.contains(id));
            let range_forgets = forgets.cloned().collect();
            writer.append(&VersionEdit { range_forgets, ..edit.clone() })?;
            self.range_forgets.clear();
        }
        if edit.log.is_some() || !edit.keyspaces.is_empty() || !edit.dropped.is_empty() {
            // Before anybody throws away the log that this edit makes superfluous.
            writer.vouch(&self.context.disk, &self.context.directory)?;
        }
        let gone = self.adopt(edit, shapes);
        gone.iter().for_each(|table| table.mark_obsolete());
        Ok(())
    }

    /// Forgets the range deletes that nothing needs any more: neither one of the snapshots, which ascend, nor what is in tables. Not at
    /// every change where there are very many.
    ///
    /// The next edit says what was forgotten. It must, and none later: a compaction that begins now takes their numbers from entries that a
    /// forgotten one would then hide, and its own edit is the first that can tell of these.
    pub fn tidy_ranges(&mut self, snapshots: &[SequenceNumber]) {
        let oldest = snapshots.first().copied().unwrap_or(SEQUENCE_MAX);
        for keyspace in &mut self.keyspaces {
            let count = keyspace.shape.ranges().len();
            keyspace.changes_untidied += 1;
            if count == 0 || count / TIDY_AT_ONCE > keyspace.changes_untidied {
                continue;
            }
            keyspace.changes_untidied = 0;
            let (shape, id) = (&keyspace.shape, keyspace.record.id);
            let mut ranges = RangeDeletes::clone(shape.ranges());
            let mut forgotten: Vec<(KeyspaceId, RangeDelete)> = Vec::new();
            ranges.tidy(snapshots, |step, sequence| {
                // What is newer than a snapshot is kept for the transaction that may hold it.
                let early = planted(Bug::RangeForgottenEarly);
                let is_needed = sequence > oldest || shape.needs(step, sequence) && !early;
                let start = step.from.unwrap_or_default();
                // The newest of a step comes first, and older ones go with it.
                if !is_needed && forgotten.last().is_none_or(|(_, last)| last.start != start) {
                    let end = step.to.unwrap_or_default().to_vec();
                    forgotten.push((id, RangeDelete { start: start.to_vec(), end, sequence }));
                }
                is_needed
            });
            self.range_forgets.append(&mut forgotten);
            if ranges != **shape.ranges() {
                keyspace.shape = Arc::new(shape.with_ranges(ranges));
            }
        }
        let bytes =
            self.keyspaces.iter().map(|keyspace| keyspace.shape.ranges().bytes()).sum::<usize>();
        self.range_charge.set(bytes as u64);
    }

    /// Says in CURRENT how far the manifest goes, so that one that ends before is known to be damaged. For a clean close.
    ///
    /// # Errors
    /// As [`ManifestWriter::put_in_force`]; nothing is lost by it.
    pub fn close(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.put_in_force(&self.context.disk, &self.context.directory)
    }

    /// Takes no more changes.
    pub fn abandon(&mut self) {
        self.writer = None;
    }

    /// The shapes after `edit`, by keyspace number, or why it cannot be.
    fn check(&self, edit: &VersionEdit) -> Result<Vec<(usize, Arc<Shape>)>> {
        let wrong = |detail: String| Error::corruption(&self.manifest_path, 0, detail);
        let count = self.keyspaces.len() + edit.keyspaces.len();
        for (index, record) in edit.keyspaces.iter().enumerate() {
            if record.id.0 as usize != self.keyspaces.len() + index {
                return Err(wrong(format!("keyspace {} is out of order", record.id.0)));
            }
        }
        let touched = edit
            .added
            .iter()
            .map(|(id, _, _)| *id)
            .chain(edit.removed.iter().map(|(id, _, _)| *id))
            .chain(edit.range_forgets.iter().map(|(id, _)| *id))
            .chain(edit.range_deletes.iter().map(|(id, _)| *id))
            .chain(edit.guards.iter().map(|(id, _)| *id));
        let mut touched: Vec<KeyspaceId> = touched.collect();
        touched.sort_unstable();
        touched.dedup();
        let mut shapes = Vec::new();
        let not_to_be = |id: KeyspaceId| {
            let why = if (id.0 as usize) < count { "it was dropped" } else { "there is none" };
            wrong(format!("an edit names keyspace {}, but {why}", id.0))
        };
        for &id in &edit.dropped {
            let is_new = edit.keyspaces.iter().any(|record| record.id == id);
            if id.0 == 0 || self.live(id).is_none() && !is_new {
                return Err(not_to_be(id));
            }
        }
        for id in touched {
            let index = id.0 as usize;
            let is_dropped = self.keyspaces.get(index).is_some_and(|keyspace| keyspace.is_dropped);
            if index >= count || is_dropped || edit.dropped.contains(&id) {
                return Err(not_to_be(id));
            }
            let old = self
                .keyspaces
                .get(index)
                .map(|keyspace| Arc::clone(&keyspace.shape))
                .unwrap_or_default();
            let removed: Vec<_> = edit.removed.iter().filter(|(of, _, _)| *of == id).collect();
            let removed: Vec<_> =
                removed.iter().map(|(_, level, number)| (usize::from(*level), *number)).collect();
            let added = edit.added.iter().filter(|(of, _, _)| *of == id);
            let added: Vec<_> = added
                .map(|(_, level, info)| {
                    // A moved table keeps its reader and its cached blocks.
                    let number = FileNumber(info.table_id);
                    let moved = removed.iter().find(|(_, gone)| *gone == number);
                    let moved = moved.and_then(|(from, _)| {
                        old.level(*from).tables().iter().find(|table| table.number() == number)
                    });
                    let fresh = || Arc::new(Table::new(info.clone(), Arc::clone(&self.context)));
                    (usize::from(*level), moved.map_or_else(fresh, Arc::clone))
                })
                .collect();
            let mut shape = old.apply(&removed, &added, &self.manifest_path)?;
            let mut forgotten = edit.range_forgets.iter().filter(|(of, _)| *of == id).peekable();
            let mut deleted = edit.range_deletes.iter().filter(|(of, _)| *of == id).peekable();
            if forgotten.peek().is_some() || deleted.peek().is_some() {
                let mut ranges = RangeDeletes::clone(shape.ranges());
                for (_, RangeDelete { start, end, sequence }) in forgotten {
                    ranges.forget(start, end, *sequence);
                }
                // Nobody reads while a manifest is read: the newest is enough.
                let superseding = if self.is_recovering { 0 } else { SEQUENCE_MAX };
                for (_, RangeDelete { start, end, sequence }) in deleted {
                    ranges.add_superseding(start, end, *sequence, superseding);
                }
                shape = shape.with_ranges(ranges);
            }
            shapes.push((index, Arc::new(shape)));
        }
        Ok(shapes)
    }

    /// Takes a checked edit in; returns the tables that no level holds any more.
    fn adopt(&mut self, edit: &VersionEdit, shapes: Vec<(usize, Arc<Shape>)>) -> Vec<Arc<Table>> {
        for record in &edit.keyspaces {
            let mut state = KeyspaceState::new(record.clone());
            // Until `supply` an operator that is not supplied is not known; who makes a keyspace has asked before.
            let operator = self.operators.find(record.options.merge_operator.as_deref());
            let (operator, filter) = (operator.unwrap_or_default(), self.filters.of(&record.name));
            let rules = Rules { operator, filter, guards: GuardKeys::default() };
            state.shape = Arc::new(state.shape.with_rules(Arc::new(rules)));
            self.keyspaces.push(state);
        }
        let mut gone = Vec::new();
        for id in &edit.dropped {
            let state = &mut self.keyspaces[id.0 as usize];
            let tables = state.shape.levels().iter().flat_map(|level| level.tables());
            gone.extend(tables.map(Arc::clone));
            let record =
                KeyspaceRecord { options: KeyspaceOptions::default(), ..state.record.clone() };
            *state = KeyspaceState { is_dropped: true, ..KeyspaceState::new(record) };
        }
        for (keyspace, level, number) in &edit.removed {
            let moved = edit.added.iter().any(|(_, _, info)| info.table_id == number.0);
            let level = self.keyspaces[keyspace.0 as usize].shape.level(usize::from(*level));
            let table = level.tables().iter().find(|table| table.number() == *number);
            gone.extend(table.filter(|_| !moved).map(Arc::clone));
        }
        for (index, shape) in shapes {
            let rules = Arc::clone(self.keyspaces[index].shape.rules());
            let state = &mut self.keyspaces[index];
            // A keyspace that the same edit makes was checked without any.
            let is_known = Arc::ptr_eq(&rules, shape.rules());
            state.shape = if is_known { shape } else { Arc::new(shape.with_rules(rules)) };
        }
        for (id, guards) in &edit.guards {
            let state = &mut self.keyspaces[id.0 as usize];
            let rules = Rules { guards: guards.clone(), ..Rules::clone(state.shape.rules()) };
            state.shape = Arc::new(state.shape.with_rules(Arc::new(rules)));
        }
        let highest = edit.added.iter().map(|(_, _, info)| info.table_id + 1).max().unwrap_or(0);
        self.next_file = self.next_file.max(edit.next_file.unwrap_or(0)).max(highest);
        // Also that of an expiry which came after the last commit: a number that a range has is taken.
        let ranged = edit.range_deletes.iter().map(|(_, range)| range.sequence).max();
        let last = edit.last_sequence.max(ranged).unwrap_or(0);
        self.last_sequence = self.last_sequence.max(last);
        self.log = edit.log.unwrap_or(self.log);
        self.promised = self.promised.max(edit.promised.unwrap_or(0));
        self.changes = self.changes.max(edit.changes.unwrap_or(0));
        for &mark in &edit.time_marks {
            // In order, also where the clock was set back.
            if self.time_marks.last().is_none_or(|last| last.millis < mark.millis) {
                self.time_marks.push(mark);
            }
        }
        gone
    }

    /// The tables of the set as the first edit of a database that has no log: all that it holds is in them.
    pub fn checkpoint(&self) -> VersionEdit {
        VersionEdit { promised: None, changes: None, ..self.snapshot() }
    }

    /// The whole set as one edit.
    fn snapshot(&self) -> VersionEdit {
        let mut edit = VersionEdit {
            next_file: Some(self.next_file),
            last_sequence: Some(self.last_sequence),
            log: Some(self.log),
            promised: Some(self.promised),
            changes: Some(self.changes).filter(|&changes| changes > 0),
            time_marks: self.time_marks.clone(),
            ..VersionEdit::default()
        };
        for keyspace in &self.keyspaces {
            edit.keyspaces.push(keyspace.record.clone());
            if keyspace.is_dropped {
                edit.dropped.push(keyspace.record.id);
            }
            if !keyspace.shape.guards().keys().is_empty() {
                edit.guards.push((keyspace.record.id, keyspace.shape.guards().clone()));
            }
            let ranges = keyspace.shape.ranges().ranges();
            edit.range_deletes.extend(ranges.map(|range| (keyspace.record.id, range)));
            for (level, tables) in keyspace.shape.levels().iter().enumerate() {
                let added = tables
                    .tables()
                    .iter()
                    .map(|t| (keyspace.record.id, level as u8, t.info().clone()));
                edit.added.extend(added);
            }
        }
        edit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sync::Mutex;
    use crate::io::Disk;
    use crate::io::sim::{Call, LossModel, SimDisk};
    use crate::mem::budget::MemoryBudget;
    use crate::mem::cache::BlockCache;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn context(disk: &SimDisk) -> Arc<TableContext> {
        let budget = MemoryBudget::new(4 << 20);
        Arc::new(TableContext {
            disk: Arc::new(disk.clone()),
            directory: PathBuf::from("/db"),
            direct: false,
            cache: BlockCache::new(Arc::clone(&budget)),
            budget,
            graveyard: Mutex::default(),
        })
    }

    fn keyspace(id: u32, name: &str) -> KeyspaceRecord {
        let (id, name) = (KeyspaceId(id), name.to_owned());
        KeyspaceRecord { id, name, options: KeyspaceOptions::default() }
    }

    fn with_keyspace(id: u32, name: &str) -> VersionEdit {
        VersionEdit { keyspaces: vec![keyspace(id, name)], ..VersionEdit::default() }
    }

    #[test]
    fn a_manifest_whose_successor_may_be_in_force_takes_no_more() {
        // Guards: an edit that is acknowledged stands in the manifest that the next open reads.
        let disk = SimDisk::new(1);
        disk.create_directory(Path::new("/db")).unwrap();
        let mut set = VersionSet::new(context(&disk), keyspace(0, "default"));
        set.rewrite(FileNumber(1), &VersionEdit::default()).unwrap();
        let renamed = AtomicBool::new(false);
        let after_the_rename = move |call: Call, _: &Path| {
            let seen = renamed.fetch_or(call == Call::Rename, Ordering::Relaxed);
            seen && call == Call::SyncDirectory
        };
        disk.fail_matching(after_the_rename, libc::EIO, true);
        assert!(set.rewrite(FileNumber(2), &VersionEdit::default()).is_err());
        assert_eq!(disk.fired(), 1);
        assert!(set.apply(&with_keyspace(1, "late")).is_err());
        for image in [disk.after_kill(), disk.after_power_cut(1, LossModel::DropAll)] {
            let set = VersionSet::recover(context(&image)).unwrap().unwrap();
            assert!(set.keyspace("late").is_none());
        }
    }

    #[test]
    fn a_rewrite_that_meets_a_full_disk_leaves_the_old_manifest_at_work() {
        let disk = SimDisk::new(1);
        disk.create_directory(Path::new("/db")).unwrap();
        let mut set = VersionSet::new(context(&disk), keyspace(0, "default"));
        set.rewrite(FileNumber(1), &VersionEdit::default()).unwrap();
        disk.fail_matching(|call, _| call == Call::Write, libc::ENOSPC, true);
        let refused = set.rewrite(FileNumber(2), &VersionEdit::default());
        assert!(matches!(refused, Err(Error::NoSpace { .. })));
        set.apply(&with_keyspace(1, "kept")).unwrap();
        let image = disk.after_power_cut(1, LossModel::DropAll);
        let set = VersionSet::recover(context(&image)).unwrap().unwrap();
        assert!(set.keyspace("kept").is_some());
    }
}

//! Replay: what the log holds, on its way into memtables, full ones into tables, and the commits of them into change files.
//!
//! Nothing that was there is changed: the tables and files made are strays until the manifest that names them is in force (`db/open.rs`).

use crate::base::error::{Error, Result};
use crate::base::key::{SEQUENCE_MAX, SequenceNumber};
use crate::base::limits::NUMBER_SHARE_MAX;
use crate::base::planted::{Bug, planted};
use crate::db::change_log::{Buffer, kept_files};
use crate::db::commit::{apply_batch, batch_cost};
use crate::db::strays::change_files;
use crate::format::batch::BatchReader;
use crate::format::change::FrameKind;
use crate::format::edit::VersionEdit;
use crate::io::Disk;
use crate::job::flush::{Flushed, flush};
use crate::job::output::JobContext;
use crate::mem::arena::ArenaPool;
use crate::mem::generation::Generation;
use crate::mem::memtable::Memtable;
use crate::version::set::{KeyspaceState, VersionSet};
use std::path::Path;
use std::sync::Arc;

/// Sequence numbers that an opening with a change log leaves out. More than memtables hold commits, which are what a crash can take back; and few enough
/// for a hundred million openings.
pub(super) const SEQUENCE_JUMP: u64 = 1 << 28;

/// Takes records of the WAL into memtables, and full ones into tables.
pub(super) struct Replay<'a> {
    jobs: &'a JobContext,
    arenas: &'a Arc<ArenaPool>,
    memtable_bytes: usize,
    keyspaces: Vec<KeyspaceState>,
    generation: Option<Generation>,
    /// Full generations are kept, up to so many bytes, instead of being written to tables.
    pub(super) kept_bytes_max: Option<u64>,
    kept: Vec<Arc<Generation>>,
    /// The commits of the generation, where they are kept.
    pub(super) changes: Option<Buffer>,
    /// The last number that the change log knows of, if it knows all before.
    pub(super) followed: Option<SequenceNumber>,
    /// By how much the sequence numbers jump after the last one.
    pub(super) jump: u64,
    edit: VersionEdit,
    pub(super) last_sequence: SequenceNumber,
    pub(super) records: u64,
}

impl<'a> Replay<'a> {
    pub(super) fn new(
        jobs: &'a JobContext,
        arenas: &'a Arc<ArenaPool>,
        memtable_bytes: usize,
        versions: &VersionSet,
    ) -> Replay<'a> {
        let keyspaces = versions.keyspaces().to_vec();
        let edit = VersionEdit::default();
        Replay {
            jobs,
            arenas,
            memtable_bytes,
            keyspaces,
            generation: None,
            kept_bytes_max: None,
            kept: Vec::new(),
            changes: None,
            followed: None,
            jump: 0,
            edit,
            last_sequence: 0,
            records: 0,
        }
    }

    pub(super) fn apply(
        &mut self,
        sequence: SequenceNumber,
        count: u32,
        batch: &[u8],
    ) -> Result<()> {
        self.check(sequence, count, batch)?;
        let count = if planted(Bug::BatchCutInReplay) && count > 1 { count - 1 } else { count };
        let cost = batch_cost(batch, count);
        if self.generation.as_ref().is_some_and(|generation| !generation.has_room(cost)) {
            self.flush()?;
        }
        let generation = match &self.generation {
            Some(generation) => generation,
            None => {
                let arena =
                    self.arenas.take(self.memtable_bytes.max(cost + Memtable::cost(0, 0)))?;
                let prefixes = vec![Vec::new(); self.keyspaces.len()];
                let number = self.kept.len() as u64 + 1;
                self.generation.insert(Generation::new(number, arena, &prefixes))
            }
        };
        // Nobody reads yet, so ranges inside one another need not be told apart.
        apply_batch(generation, batch, count, sequence, 0)?;
        self.follow(sequence);
        let last = sequence + u64::from(count) - 1;
        if let Some(changes) = &mut self.changes {
            changes.push(FrameKind::Batch, sequence, count, &[batch]);
            // Where it does not know what was before, a hole is not known to be of a crash.
            self.followed = self.followed.map(|followed| followed.max(last));
        }
        self.last_sequence = self.last_sequence.max(sequence + u64::from(count) - 1);
        self.records += 1;
        Ok(())
    }

    /// A right checksum says that a record is what was written, not that this release can read it, nor that the manifest is as new.
    fn check(&self, sequence: SequenceNumber, count: u32, batch: &[u8]) -> Result<()> {
        let wrong = |detail: String| {
            let detail = format!("log record with sequence number {sequence}: {detail}");
            Error::corruption(&self.jobs.directory, 0, detail)
        };
        let sequence_max = SEQUENCE_MAX / NUMBER_SHARE_MAX;
        if count == 0 || sequence == 0 || sequence - 1 > sequence_max - u64::from(count) {
            return Err(wrong(format!("it cannot have {count} operations")));
        }
        for item in BatchReader::new(batch, count) {
            let operation = item.map_err(|damage| {
                wrong(format!("byte {} of its batch: {}", damage.offset, damage.detail))
            })?;
            let keyspace = operation.keyspace.0;
            if keyspace as usize >= self.keyspaces.len() {
                return Err(wrong(format!("the manifest has no keyspace {keyspace}")));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let generation = self.generation.take();
        self.write_changes()?;
        let Some(generation) = generation else { return Ok(()) };
        if let Some(bytes_max) = self.kept_bytes_max {
            self.kept.push(Arc::new(generation));
            let bytes: u64 = self.kept.iter().map(|kept| kept.used() as u64).sum();
            if bytes > bytes_max {
                let detail = format!(
                    "{bytes_max} bytes do not hold what is in the log and not in tables; give more, or open the database once for writing"
                );
                return Err(Error::invalid_option("memory_limit", detail));
            }
            return Ok(());
        }
        for (id, memtable) in generation.memtables().filter(|(_, memtable)| !memtable.is_empty()) {
            let keyspace = &self.keyspaces[id.0 as usize];
            if keyspace.is_dropped {
                continue;
            }
            let (options, shape) = (&keyspace.record.options, &keyspace.shape);
            let Flushed { tables, range_deletes, .. } =
                flush(self.jobs, id, options, shape, memtable, Vec::new())?;
            self.edit.range_deletes.extend(range_deletes.into_iter().map(|range| (id, range)));
            self.edit.added.extend(tables.into_iter().map(|info| (id, 0, info)));
        }
        Ok(())
    }

    /// Notes that numbers before `next` belong to no commit, if that is so.
    fn follow(&mut self, next: SequenceNumber) {
        if let (Some(changes), Some(followed)) = (&mut self.changes, self.followed)
            && next > followed + 1
        {
            changes.push_lost(followed + 1, next - 1);
            self.followed = Some(next - 1);
        }
    }

    /// As by a flush: durable before the manifest lets the log go.
    fn write_changes(&mut self) -> Result<()> {
        if let Some(changes) = self.changes.as_mut().filter(|changes| !changes.is_empty()) {
            let changes = std::mem::take(changes);
            changes.write(&self.jobs.disk, &self.jobs.directory)?;
            self.edit.changes = self.edit.changes.max(changes.last());
        }
        Ok(())
    }

    /// The generations that were kept, newest first.
    pub(super) fn kept(mut self) -> Result<Vec<Arc<Generation>>> {
        self.flush()?;
        self.kept.reverse();
        Ok(self.kept)
    }

    /// Writes the rest out; the edit names all tables made. Tables of a replay that fails are strays.
    pub(super) fn finish(mut self, last_sequence: SequenceNumber) -> Result<VersionEdit> {
        let mut last = self.last_sequence.max(last_sequence);
        if self.jump > 0 {
            // Numbers that may have been told to a follower and then taken back are not given out again; nobody knows how many there were.
            last += self.jump;
            self.follow(last);
            if let Some(changes) = self.changes.as_mut().filter(|_| self.followed.is_some()) {
                changes.push_void(last);
            }
        }
        self.flush()?;
        self.edit.last_sequence = Some(last);
        Ok(std::mem::take(&mut self.edit))
    }
}

/// The last number that the change log knows of, if it has followed the database until now.
pub(super) fn followed(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    versions: &VersionSet,
    is_new: bool,
) -> Result<Option<SequenceNumber>> {
    // Before anything was in tables the log holds all there is.
    if is_new || (versions.changes() == 0 && versions.last_sequence() == 0) {
        return Ok(Some(0));
    }
    let counted = versions.changes();
    let files = kept_files(disk, directory, &change_files(disk, directory)?, counted)?;
    Ok(files.values().any(|kept| kept.last == counted).then_some(counted))
}

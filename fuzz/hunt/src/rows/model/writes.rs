//! The writes of the model row.

use super::world::{World, failed};
use crate::drive::Failure;
use crate::world::{Change, What, bounds, draw_keyspace_options};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use treering_lsm::io::Disk;
use treering_lsm::limits::KEY_BYTES_MAX;
use treering_lsm::{Durability, Error, IngestOptions, SortedFileWriter, WriteOptions};

/// Operations of a batch at most.
const BATCH_MAX: u64 = 12;
/// Operations of an ingest at most.
const INGESTED_MAX: u64 = 60;
/// A value that merges have made so long is deleted.
const MERGED_BYTES_MAX: usize = 2000;

impl World {
    /// Options of a write, and whether it goes to the log.
    pub(super) fn durability(&mut self) -> (WriteOptions, bool) {
        let durability = match self.chance.below(24) {
            0 => Some(Durability::Sync),
            1 => Some(Durability::Buffered),
            2 => Some(Durability::None),
            _ => None,
        };
        (WriteOptions { durability }, durability != Some(Durability::None))
    }

    pub(super) fn put(&mut self) -> Result<(), Failure> {
        let (at, (options, logged)) = (self.which(), self.durability());
        self.keys.draw(&mut self.chance, &mut self.key);
        let value = self.keys.value(&mut self.chance);
        self.keyspaces[at].put_with(&self.key, &value, &options).map_err(failed)?;
        self.oracle.write([Change::put(at as u8, &self.key[..], value)], logged);
        Ok(())
    }

    pub(super) fn delete(&mut self) -> Result<(), Failure> {
        let (at, (options, logged)) = (self.which(), self.durability());
        self.keys.draw(&mut self.chance, &mut self.key);
        self.keyspaces[at].delete_with(&self.key, &options).map_err(failed)?;
        self.oracle.write([Change::delete(at as u8, &self.key[..])], logged);
        Ok(())
    }

    pub(super) fn delete_range(&mut self) -> Result<(), Failure> {
        let (at, (options, logged)) = (self.which(), self.durability());
        let (start, end) = self.keys.range(&mut self.chance);
        self.keyspaces[at].delete_range_with(bounds(&start, &end), &options).map_err(failed)?;
        self.oracle.write([Change::delete_range(at as u8, start, end)], logged);
        self.coverage.note("ranges_deleted", 1);
        Ok(())
    }

    /// Appends to a value. What the value will be must not depend on what a death may take.
    pub(super) fn merge(&mut self) -> Result<(), Failure> {
        let at = self.which();
        self.keys.draw(&mut self.chance, &mut self.key);
        if self.oracle.is_unsure(at, &self.key) {
            self.flush()?;
        }
        let operand = format!("+{}", self.chance.below(1000)).into_bytes();
        let before = self.oracle.value_at(at, &self.key, self.oracle.now()).unwrap_or_default();
        let value = [before, &operand[..]].concat();
        if value.len() > MERGED_BYTES_MAX {
            return self.delete();
        }
        self.keyspaces[at].merge(&self.key, &operand).map_err(failed)?;
        self.oracle.write([Change::put(at as u8, &self.key[..], value)], true);
        self.coverage.note("operands", 1);
        Ok(())
    }

    /// Takes files in: a commit of sorted puts and deletes of one keyspace.
    pub(super) fn ingest(&mut self) -> Result<(), Failure> {
        let at = self.which();
        let mut changes: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for _ in 0..1 + self.chance.below(INGESTED_MAX) {
            let change = self.change(at as u8, None);
            if !matches!(change.what, What::DeleteTo(_)) {
                changes.insert(change.key.clone(), change);
            }
        }
        let changes: Vec<Change> = changes.into_values().collect();
        let pieces = 1 + self.chance.below(3) as usize;
        let mut paths = Vec::new();
        for piece in changes.chunks(changes.len().div_ceil(pieces).max(1)) {
            paths.push(self.sorted_file(piece).map_err(failed)?);
        }
        // What an ingest brought is read when it is told: nothing may have come between.
        self.follow_to_the_end()?;
        let mut options = IngestOptions::default();
        (options.verify, options.copy) = (self.chance.one_in(2), self.chance.one_in(3));
        self.keyspaces[at].ingest(&paths, &options).map_err(failed)?;
        paths.iter().try_for_each(|path| self.disk.remove(path)).map_err(|e| e.to_string())?;
        if !changes.is_empty() {
            self.oracle.write(changes, true);
            self.coverage.note("ingests", 1);
            self.follow_to_the_end()?;
        }
        Ok(())
    }

    /// A file with these changes.
    fn sorted_file(&mut self, changes: &[Change]) -> Result<PathBuf, Error> {
        self.files_made += 1;
        let path = PathBuf::from(format!("/files/{}", self.files_made));
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let parent = path.parent().expect("it has one");
        disk.create_directory(parent).map_err(|error| Error::io("create", parent, error))?;
        let options = draw_keyspace_options(&mut self.chance);
        let mut writer = SortedFileWriter::create_on(&disk, &path, &options)?;
        for change in changes {
            match &change.what {
                What::Put(value) => writer.put(&change.key, value)?,
                _ => writer.delete(&change.key)?,
            }
        }
        writer.finish().map(|file| file.path)
    }

    /// A batch that no memtable holds; it is durable whatever its class.
    pub(super) fn large_batch(&mut self) -> Result<(), Failure> {
        self.batch.clear();
        let options = self.durability().0;
        let enough = 2 * self.write_buffer_bytes() as usize;
        let mut changes: Vec<Change> = Vec::new();
        while self.batch.bytes() < enough {
            let at = self.which();
            let change = self.change(at as u8, changes.last());
            change.add_to(&mut self.batch, &self.keyspaces[at]).map_err(failed)?;
            changes.push(change);
        }
        self.db().write(&self.batch, &options).map_err(failed)?;
        self.oracle.write(changes, true);
        self.coverage.note("large_batches", 1);
        Ok(())
    }

    pub(super) fn batch(&mut self) -> Result<(), Failure> {
        self.batch.clear();
        let (options, logged) = self.durability();
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..self.chance.below(BATCH_MAX + 1) {
            let at = self.which();
            let change = self.change(at as u8, changes.last());
            change.add_to(&mut self.batch, &self.keyspaces[at]).map_err(failed)?;
            changes.push(change);
        }
        self.db().write(&self.batch, &options).map_err(failed)?;
        self.oracle.write(changes, logged);
        Ok(())
    }

    /// One change of a batch, after the one before it.
    fn change(&mut self, keyspace: u8, before: Option<&Change>) -> Change {
        if self.chance.one_in(40) {
            let (start, end) = self.keys.range(&mut self.chance);
            return Change::delete_range(keyspace, start, end);
        }
        match before {
            // The same key again.
            Some(before) if !before.key.is_empty() && self.chance.one_in(8) => {
                self.key.clone_from(&before.key);
            }
            _ => self.keys.draw(&mut self.chance, &mut self.key),
        }
        match self.chance.one_in(3) {
            true => Change::delete(keyspace, &self.key[..]),
            false => Change::put(keyspace, &self.key[..], self.keys.value(&mut self.chance)),
        }
    }

    /// Writes that must be refused and change nothing.
    pub(super) fn refused(&mut self) -> Result<(), Failure> {
        let at = self.which();
        let keyspace = &self.keyspaces[at];
        let key = if self.chance.one_in(2) { vec![b'm'; KEY_BYTES_MAX + 1] } else { Vec::new() };
        let result = match self.chance.below(3) {
            0 => keyspace.put(&key, b"value"),
            1 => keyspace.delete(&key),
            _ => {
                self.batch.clear();
                self.batch.put(keyspace, &key, b"value")
            }
        };
        match result {
            Err(Error::KeyTooLarge { length, .. }) if length == key.len() => Ok(()),
            other => Err(format!("a key of {} bytes: {other:?}", key.len())),
        }
    }
}

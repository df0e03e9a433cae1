//! The writes of the model row.

use super::world::{World, failed};
use crate::drive::Failure;
use crate::world::{Change, bounds};
use treering_lsm::limits::KEY_BYTES_MAX;
use treering_lsm::{Durability, Error, WriteOptions};

/// Operations of a batch at most.
const BATCH_MAX: u64 = 12;

impl World {
    /// Options of a write, and whether it goes to the log.
    fn durability(&mut self) -> (WriteOptions, bool) {
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

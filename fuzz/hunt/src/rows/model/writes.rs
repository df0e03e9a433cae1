//! The writes of the model row.

use super::oracle::Write;
use super::world::{World, failed};
use crate::drive::Failure;
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
        self.oracle.write([(at, self.key.clone(), Some(value))], logged);
        Ok(())
    }

    pub(super) fn delete(&mut self) -> Result<(), Failure> {
        let (at, (options, logged)) = (self.which(), self.durability());
        self.keys.draw(&mut self.chance, &mut self.key);
        self.keyspaces[at].delete_with(&self.key, &options).map_err(failed)?;
        self.oracle.write([(at, self.key.clone(), None)], logged);
        Ok(())
    }

    pub(super) fn batch(&mut self) -> Result<(), Failure> {
        self.batch.clear();
        let (options, logged) = self.durability();
        let mut writes: Vec<Write> = Vec::new();
        for _ in 0..self.chance.below(BATCH_MAX + 1) {
            let at = self.which();
            match writes.last() {
                // The same key again.
                Some((_, key, _)) if self.chance.one_in(8) => self.key.clone_from(key),
                _ => self.keys.draw(&mut self.chance, &mut self.key),
            }
            if self.chance.one_in(3) {
                self.batch.delete(&self.keyspaces[at], &self.key).map_err(failed)?;
                writes.push((at, self.key.clone(), None));
            } else {
                let value = self.keys.value(&mut self.chance);
                self.batch.put(&self.keyspaces[at], &self.key, &value).map_err(failed)?;
                writes.push((at, self.key.clone(), Some(value)));
            }
        }
        self.db().write(&self.batch, &options).map_err(failed)?;
        self.oracle.write(writes, logged);
        Ok(())
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

//! One thread of mixed load over its own keys of a [`Ledger`]: puts, overwrites, deletes of keys and ranges, batches over both
//! keyspaces, and reads that are compared at once.

use super::ledger::{Ledger, Place, Plan};
use super::sizes::NAMES;
use crate::drive::{Chance, Failure};
use treering_lsm::{Db, Durability, Error, Keyspace, ReadOptions, WriteBatch, WriteOptions};

/// Operations of one batch.
const BATCH_MAX: u64 = 12;
/// Keys of one range delete, at most.
const RANGE_KEYS_MAX: u64 = 40;
/// Keys of one checked scan.
const SCAN_KEYS: usize = 50;
/// A write in so many is Sync.
const SYNC_ONE_IN: u64 = 20;

/// Why a step did not succeed.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The write was refused. The next step tries the same operation again.
    Refused(Error),
    /// Something is wrong.
    Found(Failure),
}

impl Trouble {
    fn reading(error: Error) -> Trouble {
        Trouble::Found(format!("a read failed: {error}"))
    }
}

/// An operation that was drawn.
#[derive(Clone, Debug)]
struct Operation {
    /// Keys with their new versions, each once.
    parts: Vec<(Place, u32)>,
    /// They follow each other in one keyspace, and one range delete takes them all.
    is_range: bool,
    durability: Durability,
}

/// The thread's side of the load.
pub struct Load<'a> {
    ledger: &'a Ledger,
    keyspaces: Vec<Keyspace>,
    db: &'a Db,
    thread: usize,
    chance: Chance,
    refused: Option<Operation>,
}

impl<'a> Load<'a> {
    /// The load of `thread`, on a database that has both keyspaces.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(
        db: &'a Db,
        ledger: &'a Ledger,
        thread: usize,
        chance: Chance,
    ) -> Result<Load<'a>, Error> {
        let keyspaces = NAMES.iter().map(|name| db.keyspace(name)).collect::<Result<_, _>>()?;
        Ok(Load { ledger, keyspaces, db, thread, chance, refused: None })
    }

    /// True if an operation was refused and waits to be tried again.
    pub fn was_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Writes every key once, in order.
    ///
    /// # Errors
    /// As [`Load::step`].
    pub fn fill(&mut self) -> Result<(), Trouble> {
        for key in 0..self.ledger.plan().keys {
            let places =
                (0..NAMES.len()).map(|keyspace| Place { thread: self.thread, keyspace, key });
            let parts = places.map(|place| (place, self.put_version(place))).collect();
            self.write(Operation { parts, is_range: false, durability: Durability::Buffered })?;
        }
        Ok(())
    }

    /// One operation, or the one that was refused once more.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn step(&mut self) -> Result<(), Trouble> {
        if let Some(operation) = self.refused.take() {
            return self.write(operation);
        }
        match self.chance.below(40) {
            0..=23 => {
                let operation = self.draw(1);
                self.write(operation)
            }
            24 => {
                let operation = self.draw_range();
                self.write(operation)
            }
            25..=31 => {
                let count = 2 + self.chance.below(BATCH_MAX - 1);
                let operation = self.draw(count);
                self.write(operation)
            }
            _ => self.read(),
        }
    }

    /// One checked read.
    ///
    /// # Errors
    /// [`Trouble::Found`].
    pub fn read(&mut self) -> Result<(), Trouble> {
        match self.chance.below(8) {
            0 => self.scan(),
            1 => self.snapshot(),
            _ => self.get(),
        }
    }

    fn draw(&mut self, count: u64) -> Operation {
        let mut parts: Vec<(Place, u32)> = Vec::new();
        for _ in 0..count {
            let place = self.place();
            if parts.iter().any(|(taken, _)| *taken == place) {
                continue;
            }
            let put = self.put_version(place);
            let version = if self.chance.one_in(5) { put + 1 } else { put };
            parts.push((place, version));
        }
        Operation { parts, is_range: false, durability: self.durability() }
    }

    fn draw_range(&mut self) -> Operation {
        let first = self.place();
        let end = first.key + 1 + self.chance.below(RANGE_KEYS_MAX) as usize;
        let places =
            (first.key..end.min(self.ledger.plan().keys)).map(|key| Place { key, ..first });
        let parts = places.map(|place| (place, self.put_version(place) + 1)).collect();
        Operation { parts, is_range: true, durability: self.durability() }
    }

    fn durability(&mut self) -> Durability {
        if self.chance.one_in(SYNC_ONE_IN) { Durability::Sync } else { Durability::Buffered }
    }

    fn place(&mut self) -> Place {
        let keyspace = self.chance.below(NAMES.len() as u64) as usize;
        let key = self.chance.below(self.ledger.plan().keys as u64) as usize;
        Place { thread: self.thread, keyspace, key }
    }

    /// The next version of a key that is a put; the one after it is a delete.
    fn put_version(&self, place: Place) -> u32 {
        (self.ledger.expected(place).committed + 1) | 1
    }

    fn write(&mut self, operation: Operation) -> Result<(), Trouble> {
        self.ledger.issue(self.thread, &operation.parts);
        match self.issue(&operation) {
            Ok(()) => {
                self.ledger.acknowledge(self.thread, &operation.parts);
                Ok(())
            }
            Err(error) => {
                self.refused = Some(operation);
                Err(Trouble::Refused(error))
            }
        }
    }

    fn issue(&self, operation: &Operation) -> Result<(), Error> {
        let options = WriteOptions { durability: Some(operation.durability) };
        let plan = self.ledger.plan();
        if let (true, [(first, _), .., (last, _)]) = (operation.is_range, &operation.parts[..]) {
            let (start, end) = (Plan::key(*first), Plan::key(*last));
            return self.keyspaces[first.keyspace]
                .delete_range_with(&start[..]..=&end[..], &options);
        }
        if let [(place, version)] = operation.parts[..] {
            let keyspace = &self.keyspaces[place.keyspace];
            return match plan.value(place, version) {
                Some(value) => keyspace.put_with(&Plan::key(place), &value, &options),
                None => keyspace.delete_with(&Plan::key(place), &options),
            };
        }
        let mut batch = WriteBatch::new();
        for (place, version) in &operation.parts {
            let keyspace = &self.keyspaces[place.keyspace];
            match plan.value(*place, *version) {
                Some(value) => batch.put(keyspace, &Plan::key(*place), &value)?,
                None => batch.delete(keyspace, &Plan::key(*place))?,
            }
        }
        self.db.write(&batch, &options)
    }

    fn get(&mut self) -> Result<(), Trouble> {
        let place = self.place();
        let found = self.keyspaces[place.keyspace].get(&Plan::key(place));
        let found = found.map_err(Trouble::reading)?;
        self.ledger.check(place, found.as_deref()).map_err(Trouble::Found)
    }

    /// Some keys in order, forwards or backwards.
    fn scan(&mut self) -> Result<(), Trouble> {
        let first = self.place();
        let end = (first.key + SCAN_KEYS).min(self.ledger.plan().keys);
        let [lower, upper] = [first.key, end].map(|key| Plan::key(Place { key, ..first }));
        let range =
            self.keyspaces[first.keyspace].range(&lower[..]..&upper[..], &ReadOptions::default());
        let range = range.map_err(Trouble::reading)?;
        let backwards = self.chance.one_in(2);
        let entries: Result<Vec<_>, Error> =
            if backwards { range.rev().collect() } else { range.collect() };
        let mut entries = entries.map_err(Trouble::reading)?;
        if backwards {
            entries.reverse();
        }
        let mut entries = entries.into_iter().peekable();
        for key in first.key..end {
            let place = Place { key, ..first };
            let bytes = Plan::key(place);
            let found = entries.next_if(|(key, _)| *key == bytes);
            let found = found.as_ref().map(|(_, value)| &value[..]);
            self.ledger
                .check(place, found)
                .map_err(|failure| Trouble::Found(format!("scan: {failure}")))?;
        }
        match entries.next() {
            None => Ok(()),
            Some((key, _)) => {
                Err(Trouble::Found(format!("scan: invented key {}", key.escape_ascii())))
            }
        }
    }

    /// A snapshot shows a key as it was, after the key was written again.
    fn snapshot(&mut self) -> Result<(), Trouble> {
        let place = self.place();
        if self.was_refused() {
            return self.get();
        }
        let options = ReadOptions { snapshot: Some(self.db.snapshot()), ..ReadOptions::default() };
        let before = self.ledger.expected(place).committed;
        let parts = vec![(place, self.put_version(place))];
        self.write(Operation { parts, is_range: false, durability: Durability::Buffered })?;
        let found = self.keyspaces[place.keyspace].get_with(&Plan::key(place), &options);
        let found = found.map_err(Trouble::reading)?;
        match self.ledger.plan().value(place, before).as_deref() == found.as_deref() {
            true => Ok(()),
            false => Err(Trouble::Found(format!(
                "snapshot: {}",
                self.ledger.mismatch(place, found.as_deref())
            ))),
        }
    }
}

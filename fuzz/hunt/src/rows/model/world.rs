//! The database of a case and what is known about it; its lives, and the work behind the scenes.

use super::coverage::Coverage;
use super::follower::{CHANGE_LOGS, Follower};
use super::oracle::{Entries, Oracle, Time};
use super::transactions::Session;
use super::walk::Walk;
use crate::drive::{Chance, Failure, Tally};
use crate::world::{DIRECTORY, Keys, draw_keyspace_options, files_of, open};
use std::path::PathBuf;
use std::sync::Arc;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Db, Environment, Error, Keyspace, KeyspaceOptions, Options, PinnedSlice, ReadOptions, Snapshot,
    WriteBatch,
};

/// Keyspaces at most.
const KEYSPACES_MAX: usize = 5;
/// Snapshots held at most.
const SNAPSHOTS_MAX: usize = 4;
/// Cursors held at most.
pub(super) const WALKS_MAX: usize = 3;
/// Values held at most.
const PINS_MAX: usize = 8;

/// A value that must not change while it is held, and a copy of it.
pub(super) type Pin = (PinnedSlice, Vec<u8>);

/// See the head of the file.
#[derive(Debug)]
pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) keys: Keys,
    pub(super) oracle: Oracle,
    pub(super) coverage: Coverage,
    pub(super) operations: u64,
    pub(super) keyspaces: Vec<Keyspace>,
    pub(super) snapshots: Vec<(Snapshot, Time)>,
    pub(super) walks: Vec<Walk>,
    pub(super) sessions: Vec<Session>,
    /// There is one if the database keeps its changes.
    pub(super) follower: Option<Follower>,
    pub(super) batch: WriteBatch,
    /// Scratch for the key of an operation.
    pub(super) key: Vec<u8>,
    pins: Vec<Pin>,
    pub(super) disk: SimDisk,
    /// Files that were made to be ingested, and copies.
    pub(super) files_made: u64,
    db: Option<Db>,
    options: Options,
    /// Work behind the scenes comes once in so many tries.
    idle: u64,
}

pub(super) fn failed(error: Error) -> Failure {
    format!("an error: {error}")
}

impl World {
    /// A new database.
    pub(super) fn new(mut chance: Chance) -> Result<World, Failure> {
        let mut options = Options::default();
        options.default_keyspace = appending(&mut chance);
        options.change_log_bytes = *chance.pick(&CHANGE_LOGS);
        let mut world = World {
            keys: Keys::new(
                *chance.pick(&[600, 3_000, 8_000, 16_000]),
                *chance.pick(&[30, 80, 200]),
            ),
            idle: *chance.pick(&[1, 1, 4, 20]),
            disk: SimDisk::new(chance.draw()),
            chance,
            oracle: Oracle::default(),
            coverage: Coverage::default(),
            operations: 0,
            keyspaces: Vec::new(),
            snapshots: Vec::new(),
            walks: Vec::new(),
            sessions: Vec::new(),
            follower: (options.change_log_bytes > 0).then(Follower::new),
            batch: WriteBatch::new(),
            key: Vec::new(),
            pins: Vec::new(),
            files_made: 0,
            db: None,
            options,
        };
        world.open()?;
        world.oracle.add_keyspace();
        Ok(world)
    }

    pub(super) fn db(&self) -> &Db {
        self.db.as_ref().expect("the database is open between operations")
    }

    /// Opens the database with what an opening may change drawn anew.
    fn open(&mut self) -> Result<(), Failure> {
        let chance = &mut self.chance;
        self.options.write_buffer_bytes = Some(*chance.pick(&[16 << 10, 32 << 10, 128 << 10]));
        self.options.memory_limit = *chance.pick(&[4 << 20, 5 << 20, 16 << 20]);
        self.options.direct_io = chance.one_in(4);
        let db = open(&self.disk, &self.options).map_err(failed)?;
        self.keyspaces.clear();
        for name in db.keyspace_names() {
            self.keyspaces.push(db.keyspace(&name).map_err(failed)?);
        }
        self.db = Some(db);
        Ok(())
    }

    pub(super) fn create_keyspace(&mut self) -> Result<(), Failure> {
        let options = appending(&mut self.chance);
        if self.keyspaces.len() >= KEYSPACES_MAX {
            return match self.db().create_keyspace(&self.keyspaces[1].name(), options) {
                Err(Error::KeyspaceExists { .. }) => Ok(()),
                other => Err(format!("a keyspace was made twice: {other:?}")),
            };
        }
        let name = format!("keyspace {}", self.keyspaces.len());
        let keyspace = self.db().create_keyspace(&name, options).map_err(failed)?;
        self.keyspaces.push(keyspace);
        self.oracle.add_keyspace();
        self.coverage.note("keyspaces_made", 1);
        Ok(())
    }

    /// Drops the last keyspace, unless it is the default one; the next one that is made has its name.
    pub(super) fn drop_keyspace(&mut self) -> Result<(), Failure> {
        if self.keyspaces.len() == 1 {
            return match self.db().drop_keyspace("default") {
                Err(Error::InvalidOption { .. }) => Ok(()),
                other => Err(format!("the default keyspace was dropped: {other:?}")),
            };
        }
        let gone = self.keyspaces.pop().expect("there are two");
        let left = self.keyspaces.len();
        self.db().drop_keyspace(&gone.name()).map_err(failed)?;
        self.refuse_sessions_with(left)?;
        for walk in self.walks.extract_if(.., |walk| walk.keyspace() == left) {
            self.oracle.unpin(walk.time());
        }
        self.oracle.drop_keyspace();
        match (gone.get(b"key"), gone.put(b"key", b"value")) {
            (Err(Error::KeyspaceDropped { .. }), Err(Error::KeyspaceDropped { .. })) => {}
            other => return Err(format!("a dropped keyspace answers {other:?}")),
        }
        self.coverage.note("keyspaces_dropped", 1);
        Ok(())
    }

    /// Says anew where tables are cut.
    pub(super) fn guard_keys(&mut self) -> Result<(), Failure> {
        let at = self.which();
        let mut guards = Vec::new();
        for _ in 0..self.chance.below(8) {
            self.keys.draw(&mut self.chance, &mut self.key);
            guards.push(self.key.clone());
        }
        self.keyspaces[at].set_guard_keys(&guards).map_err(failed)?;
        guards.sort_unstable();
        guards.dedup();
        match self.keyspaces[at].guard_keys() == guards {
            true => Ok(()),
            false => Err("the guard keys are not those that were set".to_owned()),
        }
    }

    /// Makes a checkpoint, reads all of it without changing it, and removes it.
    pub(super) fn checkpoint(&mut self) -> Result<(), Failure> {
        self.files_made += 1;
        let path = PathBuf::from(format!("/copy-{}", self.files_made));
        self.db().checkpoint(&path).map_err(failed)?;
        self.oracle.flush();
        let environment = Environment::manual(Arc::new(self.disk.clone()));
        let copy =
            Db::open_read_only_in(environment, &path, self.options.clone()).map_err(failed)?;
        let keyspaces = copy.keyspace_names().into_iter().map(|name| copy.keyspace(&name));
        let keyspaces: Vec<Keyspace> = keyspaces.collect::<Result<_, _>>().map_err(failed)?;
        for (at, found) in contents(&keyspaces)?.iter().enumerate() {
            self.oracle.check(at, found).map_err(|failure| format!("the copy: {failure}"))?;
        }
        drop((keyspaces, copy));
        let names = self.disk.list(&path).map_err(|error| error.to_string())?;
        for name in names {
            self.disk.remove(&path.join(name)).map_err(|error| error.to_string())?;
        }
        self.coverage.note("checkpoints", 1);
        Ok(())
    }

    /// Bytes of a memtable.
    pub(super) fn write_buffer_bytes(&self) -> u64 {
        self.options.write_buffer_bytes()
    }

    /// Bytes that are kept of the changes.
    pub(super) fn change_log_bytes(&self) -> u64 {
        self.options.change_log_bytes
    }

    /// A keyspace: mostly the first, which is the deepest.
    pub(super) fn which(&mut self) -> usize {
        match self.chance.one_in(4) {
            true => self.chance.below(self.keyspaces.len() as u64) as usize,
            false => 0,
        }
    }

    pub(super) fn step(&mut self) -> Result<(), Failure> {
        if self.chance.one_in(self.idle) {
            self.db().step().map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn settle(&mut self) -> Result<(), Failure> {
        self.db().wait_for_compactions().map_err(failed)
    }

    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        self.db().flush().map_err(failed)?;
        self.oracle.flush();
        Ok(())
    }

    pub(super) fn compact(&mut self) -> Result<(), Failure> {
        self.db().compact().map_err(failed)?;
        self.oracle.flush();
        Ok(())
    }

    pub(super) fn compact_range(&mut self) -> Result<(), Failure> {
        let at = self.which();
        let mut other = Vec::new();
        self.keys.draw(&mut self.chance, &mut self.key);
        self.keys.draw(&mut self.chance, &mut other);
        let (low, high) = (self.key.clone().min(other.clone()), self.key.clone().max(other));
        self.keyspaces[at].compact_range(Some((&low, &high))).map_err(failed)?;
        self.oracle.flush();
        Ok(())
    }

    /// Takes a snapshot, or lets one go.
    pub(super) fn snapshot(&mut self) -> Result<(), Failure> {
        if self.snapshots.len() < SNAPSHOTS_MAX {
            let now = self.oracle.now();
            self.oracle.pin(now);
            self.snapshots.push((self.db().snapshot(), now));
        } else {
            let index = self.chance.below(SNAPSHOTS_MAX as u64) as usize;
            let (_, time) = self.snapshots.swap_remove(index);
            self.oracle.unpin(time);
        }
        Ok(())
    }

    /// Holds a value, and looks whether an older one has changed.
    pub(super) fn pin(&mut self) -> Result<(), Failure> {
        let at = self.which();
        self.keys.draw(&mut self.chance, &mut self.key);
        if let Some(value) = self.keyspaces[at].get(&self.key).map_err(failed)? {
            let copy = value.to_vec();
            self.pins.push((value, copy));
        }
        if self.pins.len() > PINS_MAX {
            let index = self.chance.below(PINS_MAX as u64) as usize;
            self.unpin(index)?;
        }
        Ok(())
    }

    fn unpin(&mut self, index: usize) -> Result<(), Failure> {
        let (pinned, copy) = self.pins.swap_remove(index);
        if pinned != copy {
            return Err("a pinned value has changed".to_owned());
        }
        self.coverage.note("values_held", 1);
        Ok(())
    }

    /// Ends the process, by its will or not, and begins another.
    pub(super) fn reopen(&mut self) -> Result<(), Failure> {
        if self.chance.one_in(4) && open(&self.disk, &self.options).is_ok() {
            return Err("a database was opened twice".to_owned());
        }
        self.coverage.add(&self.db().stats());
        if self.chance.one_in(2) {
            self.close()?;
            self.coverage.fired("close");
        } else {
            self.disk = self.disk.after_kill();
            self.snapshots.clear();
            self.walks.clear();
            self.forget_sessions();
            self.follower_after_end();
            self.keyspaces.clear();
            self.db = None;
            self.coverage.fired("kill");
        }
        self.batch.clear();
        let shown = self.chance.one_in(2).then(|| self.read_only()).transpose()?;
        self.open()?;
        let found = self.contents()?;
        if shown.is_some_and(|shown| shown != found) {
            return Err("opened for writing it shows something else than read-only".to_owned());
        }
        self.oracle.settle(&found)?;
        self.coverage.note("recoveries", 1);
        Ok(())
    }

    /// Everything that the database shows to somebody who may not change it, and does not.
    fn read_only(&mut self) -> Result<Vec<Entries>, Failure> {
        let files = files_of(&self.disk).map_err(|error| error.to_string())?;
        let open = || {
            let environment = Environment::manual(Arc::new(self.disk.clone()));
            Db::open_read_only_in(environment, DIRECTORY, self.options.clone()).map_err(failed)
        };
        let (db, another) = (open()?, open()?);
        let names = db.keyspace_names().into_iter();
        let keyspaces: Result<Vec<_>, _> = names.map(|name| db.keyspace(&name)).collect();
        let found = contents(&keyspaces.map_err(failed)?)?;
        match (
            db.put(b"key", b"value"),
            db.flush(),
            db.create_keyspace("new", appending(&mut self.chance)),
        ) {
            (Err(Error::ReadOnly), Err(Error::ReadOnly), Err(Error::ReadOnly)) => {}
            other => return Err(format!("read-only it takes writes: {other:?}")),
        }
        if another.get(&self.key).map_err(failed)?.as_deref()
            != found[0].get(&self.key).map(Vec::as_slice)
        {
            return Err("two read-only openings show different things".to_owned());
        }
        db.close().map_err(failed)?;
        drop(another);
        if files_of(&self.disk).map_err(|error| error.to_string())? != files {
            return Err("opening read-only changed a file".to_owned());
        }
        self.coverage.note("read_only", 1);
        Ok(found)
    }

    /// Closes the database. Who holds a handle is told so; who holds a cursor reads on.
    fn close(&mut self) -> Result<(), Failure> {
        let db = self.db.take().expect("the database is open between operations");
        db.close().map_err(failed)?;
        match self.keyspaces[0].get(b"key") {
            Err(Error::Closed) => {}
            other => return Err(format!("a closed database answers {other:?}")),
        }
        self.refuse_sessions_closed()?;
        self.follower_after_end();
        self.snapshots.clear();
        self.keyspaces.clear();
        for mut walk in std::mem::take(&mut self.walks) {
            walk.wander(8, &mut self.chance, &self.keys, &self.oracle)?;
            self.coverage.note("cursors_after_close", 1);
        }
        Ok(())
    }

    /// Everything that scans find, by keyspace.
    pub(super) fn contents(&self) -> Result<Vec<Entries>, Failure> {
        contents(&self.keyspaces)
    }

    /// Compares everything once more.
    pub(super) fn finish(&mut self, tally: &mut Tally) -> Result<(), Failure> {
        for (at, found) in self.contents()?.iter().enumerate() {
            self.oracle.check(at, found).map_err(|failure| format!("at the end: {failure}"))?;
        }
        self.follow_to_the_end().map_err(|failure| format!("at the end: {failure}"))?;
        self.db().verify().map_err(failed)?;
        self.coverage.add(&self.db().stats());
        while !self.pins.is_empty() {
            self.unpin(0)?;
        }
        self.coverage.finish(tally);
        Ok(())
    }
}

/// Everything that scans of keyspaces find.
fn contents(keyspaces: &[Keyspace]) -> Result<Vec<Entries>, Failure> {
    let scan = |keyspace: &Keyspace| {
        let range = keyspace.range(.., &ReadOptions::default()).map_err(failed)?;
        range.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).map_err(failed)).collect()
    };
    keyspaces.iter().map(scan).collect()
}

/// Options of a keyspace whose values can be appended to.
fn appending(chance: &mut Chance) -> KeyspaceOptions {
    let mut options = draw_keyspace_options(chance);
    options.merge_operator = Some("append".to_owned());
    options
}

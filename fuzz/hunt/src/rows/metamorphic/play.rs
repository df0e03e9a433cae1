//! Plays a list under a setting and writes down what every operation answered.

use super::list::{Look, Move, Operation, Step};
use super::setting::{Body, End, Setting};
use crate::drive::{Chance, Failure, panic_count};
use crate::world::{Change, What, bounds};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use tempfile::TempDir;
use treering_lsm::base::clock::SystemClock;
use treering_lsm::base::hash::key_hash;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Background, Db, Environment, Error, Keyspace, PinnedSlice, ReadOptions, Snapshot, WriteBatch,
    WriteOptions,
};

/// Entries of a prefix that are read.
const PREFIX_MAX: usize = 50;

/// What is special about a play.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    /// Keep the answer of the operation with this place in the list as text.
    pub(super) line: Option<usize>,
    /// Cut the power in this life, at this I/O of its disk.
    pub(super) cut: Option<(usize, u64)>,
}

/// What came of a play.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Hashes of the answers.
    pub(super) lines: Vec<u64>,
    /// The answer that was watched.
    pub(super) watched: Option<String>,
    /// What happened behind the scenes: flushes, merges and moves by level, ends of the process.
    pub(super) behaviour: Vec<u64>,
    /// Trace and count of I/Os of each life, on a simulated disk.
    pub(super) traces: Vec<(u64, u64)>,
    /// The disk when the power was cut.
    pub(super) dead: Option<SimDisk>,
}

/// Where the files are.
enum Ground {
    Sim(SimDisk),
    Files(TempDir),
}

struct Player<'a> {
    setting: &'a Setting,
    watch: Watch,
    ground: Ground,
    db: Option<Db>,
    keyspaces: Vec<Keyspace>,
    snapshots: BTreeMap<u64, Snapshot>,
    /// The answer of the operation at hand.
    answer: Vec<u8>,
    outcome: Outcome,
}

/// Plays a list.
///
/// # Errors
/// An error of the engine that no operation of the list asks for; damage that `verify` finds.
pub(super) fn play(list: &[Step], setting: &Setting, watch: Watch) -> Result<Outcome, Failure> {
    let panics = panic_count();
    let mut player = Player::new(setting, watch)?;
    let result = player.all(list);
    if let Ground::Sim(disk) = &player.ground {
        player.outcome.traces.push((disk.trace(), disk.io_count()));
        if disk.power_is_cut() {
            player.outcome.dead = Some(disk.clone());
            return Ok(player.outcome);
        }
    }
    if !setting.is_deterministic() && panic_count() > panics {
        return Err("a background thread panicked".to_owned());
    }
    let at = player.outcome.lines.len();
    result.map_err(|error| format!("line {at}: {error}"))?;
    Ok(player.outcome)
}

impl<'a> Player<'a> {
    fn new(setting: &'a Setting, watch: Watch) -> Result<Player<'a>, Failure> {
        let ground = match setting.body {
            Body::Sim | Body::SimThreads => Ground::Sim(SimDisk::new(setting.seed)),
            Body::Files(_) => {
                let directory = tempfile::tempdir();
                Ground::Files(directory.map_err(|error| format!("temporary directory: {error}"))?)
            }
        };
        let outcome = Outcome {
            lines: Vec::new(),
            watched: None,
            behaviour: Vec::new(),
            traces: Vec::new(),
            dead: None,
        };
        Ok(Player {
            setting,
            watch,
            ground,
            db: None,
            keyspaces: Vec::new(),
            snapshots: BTreeMap::new(),
            answer: Vec::new(),
            outcome,
        })
    }

    fn db(&self) -> &Db {
        self.db.as_ref().expect("the database is open between operations")
    }

    fn open(&mut self) -> Result<(), Error> {
        let options = self.setting.options.clone();
        let db = match (&self.ground, self.setting.body) {
            (Ground::Files(directory), Body::Files(choice)) => {
                Db::open_in(Environment::system(choice)?, directory.path().join("db"), options)?
            }
            (Ground::Sim(disk), body) => {
                let life = self.outcome.traces.len();
                if let Some((_, index)) = self.watch.cut.filter(|(at, _)| *at == life) {
                    disk.cut_power_at(index);
                }
                let mut environment = Environment::manual(Arc::new(disk.clone()));
                if body == Body::SimThreads {
                    environment.clock = Arc::new(SystemClock::new());
                    environment.background = Background::Threads;
                }
                Db::open_in(environment, "/db", options)?
            }
            (Ground::Files(_), _) => unreachable!("files are made for settings with files"),
        };
        self.keyspaces.clear();
        for name in db.keyspace_names() {
            self.keyspaces.push(db.keyspace(&name)?);
        }
        self.db = Some(db);
        Ok(())
    }

    fn all(&mut self, list: &[Step]) -> Result<(), Error> {
        self.open()?;
        for (index, step) in list.iter().enumerate() {
            self.interfere(step.id)?;
            self.answer.clear();
            self.operate(&step.operation, step.id)?;
            self.outcome.lines.push(key_hash(&self.answer));
            if self.watch.line == Some(index) {
                self.outcome.watched = Some(self.answer.escape_ascii().to_string());
            }
        }
        self.snapshots.clear();
        self.db().verify()?;
        self.look_back();
        self.keyspaces.clear();
        self.db.take().expect("the database is open between operations").close()
    }

    /// What is done before the operation `id` is the same whatever else is in the list.
    fn chance(&self, id: u64) -> Chance {
        Chance::new(self.setting.seed.wrapping_mul(1_000_003) ^ id)
    }

    /// Does what the setting does beside the list.
    fn interfere(&mut self, id: u64) -> Result<(), Error> {
        let (setting, mut chance) = (self.setting, self.chance(id));
        let mut due = |one_in: u64| one_in > 0 && chance.one_in(one_in);
        let (step, flush) = (due(setting.step_one_in), due(setting.flush_one_in));
        let (compact, range) = (due(setting.compact_one_in), due(setting.compact_range_one_in));
        if step && setting.is_deterministic() {
            for _ in 0..setting.steps {
                self.db().step()?;
            }
        }
        if flush {
            self.db().flush()?;
        }
        if compact {
            self.db().compact()?;
        }
        if range {
            let (a, b) = ([chance.below(256) as u8], [chance.below(256) as u8]);
            let at = chance.below(self.keyspaces.len() as u64) as usize;
            self.keyspaces[at].compact_range(Some((&a.min(b), &a.max(b))))?;
        }
        Ok(())
    }

    fn operate(&mut self, operation: &Operation, id: u64) -> Result<(), Error> {
        match operation {
            Operation::Write(Change { keyspace, key, what }) => {
                let keyspace = self.keyspace(usize::from(*keyspace));
                let written = match what {
                    What::Put(value) => keyspace.put(key, value),
                    What::Delete => keyspace.delete(key),
                    What::DeleteTo(end) => keyspace.delete_range(bounds(key, end)),
                };
                self.refusal(written)
            }
            Operation::Batch(writes) => self.batch(writes),
            Operation::Get(look, key) => {
                let found = self.keyspace(look.at).get_with(key, &self.options(*look, id))?;
                self.note_value(found.as_ref());
                Ok(())
            }
            Operation::MultiGet(look, keys) => {
                let slices: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                let found = self.keyspace(look.at).multi_get(&slices, &self.options(*look, id));
                found.into_iter().try_for_each(|found| {
                    self.note_value(found?.as_ref());
                    Ok(())
                })
            }
            Operation::Range(look, (low, high), ends) => {
                let bounds = (as_slice(low), as_slice(high));
                let mut range = self.keyspace(look.at).range(bounds, &self.options(*look, id))?;
                for front in ends {
                    let entry = if *front { range.next() } else { range.next_back() };
                    self.note_entry(entry.transpose()?);
                }
                Ok(())
            }
            Operation::Prefix(look, prefix) => {
                let range = self.keyspace(look.at).prefix(prefix, &self.options(*look, id))?;
                range.take(PREFIX_MAX).try_for_each(|entry| {
                    self.note_entry(Some(entry?));
                    Ok(())
                })
            }
            Operation::Walk(look, bounds, moves) => self.walk(*look, bounds, moves, id),
            Operation::Whole(look) => {
                let options = self.options(*look, id);
                for entry in self.keyspace(look.at).range(.., &options)? {
                    self.note_entry(Some(entry?));
                }
                for entry in self.keyspace(look.at).range(.., &options)?.rev() {
                    self.note_entry(Some(entry?));
                }
                Ok(())
            }
            Operation::Snapshot(slot) => {
                let snapshot = self.db().snapshot();
                self.snapshots.insert(*slot, snapshot);
                Ok(())
            }
            Operation::Release(slot) => {
                self.snapshots.remove(slot);
                Ok(())
            }
            Operation::CreateKeyspace => {
                let name = format!("keyspace {}", self.keyspaces.len());
                let made = self.db().create_keyspace(&name, self.setting.others.clone())?;
                self.keyspaces.push(made);
                Ok(())
            }
            Operation::Rest => self.rest(id),
        }
    }

    /// A list that was reduced may have lost the making of a keyspace.
    fn keyspace(&self, at: usize) -> &Keyspace {
        &self.keyspaces[at % self.keyspaces.len()]
    }

    fn options(&self, look: Look, id: u64) -> ReadOptions {
        let mut chance = self.chance(!id);
        let mut due = |one_in: u64| one_in > 0 && chance.one_in(one_in);
        ReadOptions {
            fill_cache: !due(self.setting.no_fill_one_in),
            read_ahead: !due(self.setting.no_ahead_one_in),
            snapshot: look.slot.and_then(|slot| self.snapshots.get(&slot)).cloned(),
            ..ReadOptions::default()
        }
    }

    /// A key that is too short is refused, under every setting and with the same words.
    fn refusal(&mut self, written: Result<(), Error>) -> Result<(), Error> {
        match written {
            Err(error @ Error::KeyTooLarge { .. }) => {
                self.answer.extend_from_slice(error.to_string().as_bytes());
                Ok(())
            }
            other => other,
        }
    }

    fn batch(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut batch = WriteBatch::new();
        for change in changes {
            let keyspace = self.keyspace(usize::from(change.keyspace));
            let added = change.add_to(&mut batch, keyspace);
            self.refusal(added)?;
        }
        self.db().write(&batch, &WriteOptions::default())
    }

    fn walk(
        &mut self,
        look: Look,
        bounds: &(Option<Vec<u8>>, Option<Vec<u8>>),
        moves: &[Move],
        id: u64,
    ) -> Result<(), Error> {
        let mut options = self.options(look, id);
        (options.lower_bound, options.upper_bound) = bounds.clone();
        let mut cursor = self.keyspace(look.at).cursor(&options)?;
        for step in moves {
            let moved = match step {
                Move::First => cursor.seek_to_first(),
                Move::Last => cursor.seek_to_last(),
                Move::Seek(key) => cursor.seek(key),
                Move::SeekForPrev(key) => cursor.seek_for_prev(key),
                Move::Next => cursor.next(),
                Move::Prev => cursor.prev(),
            };
            let entry = moved?.then(|| (cursor.key().to_vec(), cursor.pin_value()));
            self.note_entry(entry);
        }
        Ok(())
    }

    /// The end of a chapter: perhaps the process ends.
    fn rest(&mut self, id: u64) -> Result<(), Error> {
        self.snapshots.clear();
        let (ends, mut chance) = (&self.setting.ends, self.chance(id ^ 1 << 40));
        if ends.is_empty() || !chance.one_in(self.setting.end_one_in) {
            return Ok(());
        }
        let end = *chance.pick(ends);
        self.look_back();
        self.outcome.behaviour.push(1 + end as u64);
        self.keyspaces.clear();
        let db = self.db.take().expect("the database is open between operations");
        let next = match (&self.ground, end) {
            (Ground::Files(_), _) => {
                db.close()?;
                None
            }
            (Ground::Sim(disk), End::Kill) => {
                let next = disk.after_kill();
                self.outcome.traces.push((disk.trace(), disk.io_count()));
                Some(next)
            }
            (Ground::Sim(disk), End::Close) => {
                db.close()?;
                self.outcome.traces.push((disk.trace(), disk.io_count()));
                Some(disk.after_kill())
            }
        };
        if let Some(disk) = next {
            self.ground = Ground::Sim(disk);
        }
        self.open()
    }

    /// Notes what happened behind the scenes of the life that ends.
    fn look_back(&mut self) {
        for keyspace in self.db().stats().keyspaces {
            for level in keyspace.levels {
                self.outcome.behaviour.extend([level.compactions, level.moves, level.files]);
            }
        }
    }

    fn note_value(&mut self, value: Option<&PinnedSlice>) {
        match value {
            Some(value) => {
                self.answer.push(b'=');
                self.answer.extend_from_slice(value);
            }
            None => self.answer.push(b'-'),
        }
        self.answer.push(b'\n');
    }

    fn note_entry(&mut self, entry: Option<(Vec<u8>, PinnedSlice)>) {
        if let Some((key, _)) = &entry {
            self.answer.extend_from_slice(key);
        }
        self.note_value(entry.map(|(_, value)| value).as_ref());
    }
}

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    match bound {
        Bound::Included(key) => Bound::Included(key),
        Bound::Excluded(key) => Bound::Excluded(key),
        Bound::Unbounded => Bound::Unbounded,
    }
}

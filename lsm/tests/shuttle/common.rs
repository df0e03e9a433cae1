//! What the worlds share: a clock without time, tiny options, and writers whose promises can be checked.

use shuttle::thread::JoinHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use treering_lsm::base::clock::Clock;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Background, Compression, Db, Durability, Environment, Keyspace, KeyspaceOptions, Options,
    Result, WriteOptions,
};

/// Time that passes when it is looked at; a sleep lets the others go on.
#[derive(Debug, Default)]
struct StepClock {
    nanos: AtomicU64,
}

impl Clock for StepClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.fetch_add(10_000, Ordering::Relaxed))
    }

    fn sleep(&self, duration: Duration) {
        self.nanos.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
        shuttle::thread::yield_now();
    }
}

pub fn keyspace_options() -> KeyspaceOptions {
    let mut keyspace = KeyspaceOptions::default();
    keyspace.block_bytes = 1 << 10;
    keyspace.table_bytes = 16 << 10;
    keyspace.level_base_bytes = 16 << 10;
    keyspace.level_fanout = 2;
    keyspace.level0_tables = 2;
    keyspace.compression = [Compression::None; 7];
    keyspace
}

pub fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.write_buffer_bytes = Some(16 << 10);
    options.background_jobs = Some(2);
    options.default_keyspace = keyspace_options();
    options
}

fn environment(disk: &SimDisk, background: Background) -> Environment {
    let mut environment = Environment::manual(Arc::new(disk.clone()));
    environment.clock = Arc::new(StepClock::default());
    environment.background = background;
    environment
}

/// A database with its threads.
pub fn open(disk: &SimDisk) -> Db {
    Db::open_in(environment(disk, Background::Threads), "/db", options()).unwrap()
}

/// A database that nobody works on but the caller: for a look at what is there.
pub fn open_quietly(disk: &SimDisk) -> Db {
    Db::open_in(environment(disk, Background::Manual), "/db", options()).unwrap()
}

pub fn spawn(body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    shuttle::thread::spawn(body)
}

pub fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

pub fn with(durability: Durability) -> WriteOptions {
    WriteOptions { durability: Some(durability) }
}

/// A value that says its round and takes `length` bytes.
pub fn value(round: u64, length: usize) -> Vec<u8> {
    let mut bytes = round.to_be_bytes().to_vec();
    bytes.resize(length.max(8), b'x');
    bytes
}

/// The round that a key is at; 0 if it is not there.
pub fn round(keyspace: &Keyspace, key: &[u8]) -> Result<u64> {
    Ok(keyspace.get(key)?.map_or(0, |value| round_of(&value)))
}

pub fn round_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

/// What the one writer of a key has tried and what was acknowledged.
#[derive(Clone, Default)]
pub struct Ledger {
    rounds: Arc<(AtomicU64, AtomicU64)>,
}

impl Ledger {
    pub fn acknowledged(&self) -> u64 {
        self.rounds.1.load(Ordering::Relaxed)
    }

    /// Notes a write of `round` with its result.
    pub fn write(&self, round: u64, write: impl FnOnce() -> Result<()>) -> Result<()> {
        self.rounds.0.store(round, Ordering::Relaxed);
        write()?;
        self.rounds.1.store(round, Ordering::Relaxed);
        Ok(())
    }

    /// Panics unless `found` is between what was acknowledged when the look began and what was tried.
    pub fn check(&self, acknowledged: u64, found: u64) {
        let tried = self.rounds.0.load(Ordering::Relaxed);
        assert!(found >= acknowledged, "round {found} is there, {acknowledged} was acknowledged");
        assert!(found <= tried, "round {found} is there, {tried} was the last one tried");
    }
}

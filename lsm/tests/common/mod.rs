//! What the tests on the simulated disk share.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses its own part"
)]

pub mod world;

use std::sync::Arc;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Compression, Db, Environment, FilterPolicy, KeyspaceOptions, Options};

/// SplitMix64: the same seed gives the same test.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Limits so small that a few thousand writes fill four levels and more.
pub fn tiny_options() -> Options {
    let mut keyspace = KeyspaceOptions::default();
    keyspace.block_bytes = 1 << 10;
    keyspace.table_bytes = 16 << 10;
    keyspace.level_base_bytes = 16 << 10;
    keyspace.level_fanout = 2;
    keyspace.level0_tables = 2;
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.write_buffer_bytes = Some(16 << 10);
    options.default_keyspace = keyspace;
    options
}

/// Options of a second keyspace, different in all that may differ.
pub fn other_options() -> KeyspaceOptions {
    let mut keyspace = tiny_options().default_keyspace;
    keyspace.compression = [Compression::Zstd; 7];
    keyspace.filter = FilterPolicy::Standard { bits: 10 };
    keyspace.block_bytes = 4 << 10;
    keyspace
}

pub fn open(disk: &SimDisk, options: &Options) -> treering_lsm::Result<Db> {
    let disk: Arc<SimDisk> = Arc::new(disk.clone());
    Db::open_in(Environment::manual(disk), "/db", options.clone())
}

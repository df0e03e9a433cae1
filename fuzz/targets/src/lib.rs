//! The fuzz targets: for each kind of bytes that the engine reads, a function that takes any bytes and panics where a promise is
//! broken.
//!
//! Three programs run them: `fuzz/fuzz_targets` (libFuzzer, coverage-guided), `tests/corpus.rs` (replays the kept corpus and
//! a fixed number of mutations on stable), and whoever takes [`TARGETS`] and [`mutate`] for a longer hunt.
//!
//! What every target promises:
//! 1. Damaged bytes are a typed error or an answer, never a panic, an overflow or a hang.
//! 2. Memory follows the length of the input and the bounds that the formats name.
//! 3. What is accepted means something: encoded again and decoded again it is the same, and every way to read it (forward,
//!    backward, by key) shows the same.
//!
//! Checksums would keep a fuzzer out of everything behind them, so the first byte of an input may say that they are
//! [repaired](mod@repair) before the engine sees the bytes.
//!
//! Not here: the network of a cluster, real files, threads.

mod archive;
mod batch;
mod block;
mod changes;
mod compression;
mod database;
mod edit;
mod filter;
mod footer;
mod fragment;
mod header;
mod index;
mod input;
mod manifest;
mod mutation;
mod operations;
mod properties;
pub mod repair;
mod samples;
mod table;
mod wal;

pub use mutation::mutate;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the binary, and of its directory under `fuzz/corpus`.
    pub name: &'static str,
    /// What holds for every input, in one sentence.
    pub promise: &'static str,
    /// Judges one input; panics where the promise is broken.
    pub run: fn(&[u8]),
    /// Inputs made by the engine itself, so that a corpus begins with what is accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, from the smallest structure to the whole database.
pub const TARGETS: &[Target] = &[
    block::TARGET,
    filter::TARGET,
    index::TARGET,
    footer::TARGET,
    compression::TARGET,
    properties::TARGET,
    fragment::TARGET,
    header::TARGET,
    batch::TARGET,
    edit::TARGET,
    table::TARGET,
    wal::TARGET,
    manifest::TARGET,
    changes::TARGET,
    database::TARGET,
    operations::TARGET,
];

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

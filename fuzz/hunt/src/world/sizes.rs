//! Options so small that a few thousand writes fill four levels, and databases on the simulated disk.

use crate::drive::Chance;
use std::sync::Arc;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{Compression, Db, Environment, FilterPolicy, KeyspaceOptions, Options};

/// The two keyspaces of a world.
pub const NAMES: [&str; 2] = ["default", "other"];

/// Where the database stands on a simulated disk.
pub const DIRECTORY: &str = "/db";

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

/// Options of the second keyspace, different in all that may differ.
pub fn other_options() -> KeyspaceOptions {
    let mut keyspace = tiny_options().default_keyspace;
    keyspace.compression = [Compression::Zstd; 7];
    keyspace.filter = FilterPolicy::Standard { bits: 10 };
    keyspace.block_bytes = 4 << 10;
    keyspace
}

/// Draws options of a keyspace; the limits are so small that levels fill fast.
pub fn draw_keyspace_options(chance: &mut Chance) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::default();
    options.block_bytes = *chance.pick(&[1 << 10, 1 << 10, 4 << 10]);
    options.table_bytes = *chance.pick(&[16 << 10, 16 << 10, 64 << 10]);
    options.level_base_bytes = 16 << 10;
    options.level_fanout = *chance.pick(&[2, 2, 4]);
    options.level0_tables = *chance.pick(&[1, 2, 4]);
    let [none, lz4, zstd] = [Compression::None, Compression::Lz4, Compression::Zstd];
    options.compression = *chance.pick(&[
        [none; 7],
        [none, lz4, lz4, lz4, lz4, lz4, lz4],
        [none, none, none, lz4, lz4, zstd, zstd],
    ]);
    options.filter = *chance.pick(&[
        FilterPolicy::None,
        FilterPolicy::Blocked { bits: 10 },
        FilterPolicy::Blocked { bits: 3 },
        FilterPolicy::Standard { bits: 8 },
    ]);
    if options.filter != FilterPolicy::None {
        options.prefix_bytes = *chance.pick(&[None, Some(1), Some(3), Some(4)]);
    }
    options
}

/// Opens the database `/db` of a simulated disk, with manual time and manual background work.
///
/// # Errors
/// Those of [`Db::open_in`].
pub fn open(disk: &SimDisk, options: &Options) -> treering_lsm::Result<Db> {
    let disk: Arc<SimDisk> = Arc::new(disk.clone());
    Db::open_in(Environment::manual(disk), DIRECTORY, options.clone())
}

//! Every limit of the engine, as a number. Documentation and checks take them from here.

/// Longest key in bytes (64 KiB).
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// Longest value in bytes (64 MiB).
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Largest encoded batch in bytes (1 GiB).
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Longest keyspace name in bytes.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 255;

/// Most keyspaces that are ever made in one database; dropped ones count.
pub const KEYSPACE_COUNT_MAX: usize = 1 << 16;

/// Number of levels of a keyspace, L0 included.
pub const LEVEL_COUNT: usize = 7;

/// Newest format version that this release reads and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Largest file number, log epoch and count of things in one file. No database gets this far; larger ones are damage.
pub const NUMBER_MAX: u64 = (1 << 56) - 1;

/// Numbers that only grow (file numbers, epochs, sequence numbers, LSNs) are damage above this share of their limit when a database is
/// opened. A lifetime of writes does not get there, and from there the database might run into the limit while it is open.
pub const NUMBER_SHARE_MAX: u64 = 2;

/// Alignment of direct I/O in bytes: offsets, lengths and addresses.
pub const IO_ALIGN: usize = 4096;

const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 < BATCH_BYTES_MAX);
const _: () = assert!(BATCH_BYTES_MAX < u32::MAX as usize / 2);

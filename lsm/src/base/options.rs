//! What a caller may choose. Few fields: what memory, cores and the device say is derived.

use crate::base::compaction_filter::CompactionFilter;
use crate::base::error::{Error, Result};
use crate::base::limits::LEVEL_COUNT;
use crate::base::merge::MergeOperator;
use std::sync::Arc;
use std::time::Duration;

/// What `Ok` means for a write. See DURABILITY.md.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// `Ok` means that the write survives the loss of power.
    Sync,
    /// `Ok` means that the write survives the death of the process (kill -9). After power loss the state is some prefix
    /// of the commit order that contains every `Sync` write.
    #[default]
    Buffered,
    /// No WAL: the write is lost with the process unless a flush came in between.
    None,
}

/// Which body of the I/O door is used for real files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else `posix`. The environment variable `TREERING_IO=posix|uring` overrides.
    #[default]
    Auto,
    /// io_uring or an error.
    Uring,
    /// Plain system calls and threads.
    Posix,
}

/// How a data block is compressed. The discriminants are on disk.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Compression {
    /// Stored as it is.
    None = 0,
    /// LZ4 block format: fast both ways.
    Lz4 = 1,
    /// Zstandard, level 3 unless said otherwise: about half of LZ4's size at a third of its speed.
    Zstd = 2,
}

/// Which filter a table carries for point reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FilterPolicy {
    /// No filter: every candidate table costs a block search.
    None,
    /// All probes of a key in one 64-byte line. The faster one; `bits` per key, 10 gives about 1 % false positives.
    Blocked {
        /// Bits per key, 1 to 40.
        bits: u8,
    },
    /// The classic Bloom filter of the `bloomfilter` crate; slightly fewer false positives, several times slower.
    Standard {
        /// Bits per key, 1 to 40.
        bits: u8,
    },
}

/// Choices for a whole database. `Options::default()` is meant to be right for most.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Bytes that memtables, block cache, filters, indexes and compaction buffers may hold together.
    /// Default 512 MiB, minimum 4 MiB. More gives a larger block cache.
    pub memory_limit: u64,
    /// Bytes of one memtable. `None` derives a twelfth of `memory_limit`, between 256 KiB and 64 MiB. Up to three are
    /// held at once, so three of them must fit `memory_limit`. Larger ones mean fewer, larger flushes.
    pub write_buffer_bytes: Option<u64>,
    /// Durability of writes that do not name one. Default [`Durability::Buffered`].
    pub durability: Durability,
    /// Make the database if the directory holds none. Default true.
    pub create_if_missing: bool,
    /// Fail if a database is there already. Default false.
    pub error_if_exists: bool,
    /// Background flush and compaction threads. `None` derives the number of cores, between 2 and 16.
    pub background_jobs: Option<usize>,
    /// Body of the I/O door for real files. Default [`IoChoice::Auto`].
    pub io: IoChoice,
    /// Read and write tables with O_DIRECT, past the page cache. Default false. With it, `memory_limit` bounds all the memory that the
    /// database uses, the kernel's included, and compaction pushes nobody's pages out; without it the page cache is a second cache.
    pub direct_io: bool,
    /// Merge operators beside those that are supplied ([`Counter`](crate::Counter), [`Append`](crate::Append),
    /// [`SetUnion`](crate::SetUnion)). Every one that a keyspace of the database names must be here.
    pub merge_operators: Vec<Arc<dyn MergeOperator>>,
    /// Filters that compactions ask, each with the name of its keyspace, which need not be there yet. Default none. See
    /// [`CompactionFilter`].
    pub compaction_filters: Vec<(String, Arc<dyn CompactionFilter>)>,
    /// Keep commits for [`Db::changes`](crate::Db::changes): so many bytes of them in files, beside those of the memtables. Default 0: none, and no feed. One opening
    /// without them ends what was kept: whoever followed must begin anew.
    /// With it each commit is copied once more in memory (memtables count twice against `memory_limit`), and each flush writes a second file.
    pub change_log_bytes: u64,
    /// Keep histograms of how long operations take, for [`Db::histograms`](crate::Db::histograms). Default false: then they cost nothing. On,
    /// each get, write and seek pays for two looks at the clock, and they take about 600 KiB beside `memory_limit`.
    pub histograms: bool,
    /// Options of the default keyspace, used when the database is made.
    pub default_keyspace: KeyspaceOptions,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            memory_limit: 512 << 20,
            write_buffer_bytes: None,
            durability: Durability::Buffered,
            create_if_missing: true,
            error_if_exists: false,
            background_jobs: None,
            io: IoChoice::Auto,
            direct_io: false,
            merge_operators: Vec::new(),
            compaction_filters: Vec::new(),
            change_log_bytes: 0,
            histograms: false,
            default_keyspace: KeyspaceOptions::default(),
        }
    }
}

/// Shortest time that entries may be kept.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// Longest time that entries may be kept, unless for ever.
pub const TTL_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// Longest prefix of keys that filters hold, in bytes.
pub const PREFIX_BYTES_MAX: u16 = 256;
/// Longest name of a merge operator in bytes.
pub const OPERATOR_NAME_BYTES_MAX: usize = 256;
/// Smallest memtable in bytes.
pub const WRITE_BUFFER_BYTES_MIN: u64 = 16 << 10;
/// Largest memtable in bytes.
pub const WRITE_BUFFER_BYTES_MAX: u64 = 1 << 30;
/// Memtables that may exist at once: one taking writes, the others being flushed.
pub const MEMTABLE_COUNT_MAX: u64 = 3;
/// Smallest memory limit in bytes.
pub const MEMORY_LIMIT_MIN: u64 = 4 << 20;

impl Options {
    /// Bytes of one memtable, given or derived.
    pub fn write_buffer_bytes(&self) -> u64 {
        self.write_buffer_bytes.unwrap_or((self.memory_limit / 12).clamp(256 << 10, 64 << 20))
    }

    /// Bytes of all memtables that may exist at once.
    pub fn memtable_bytes_max(&self) -> u64 {
        let copies = if self.change_log_bytes > 0 { 2 } else { 1 };
        self.write_buffer_bytes() * MEMTABLE_COUNT_MAX * copies
    }

    /// Bytes set aside for `jobs` flushes and compactions at once: hashes of the keys of a table, write buffers, and read
    /// buffers of a dozen inputs each; never more than a quarter of the limit.
    pub fn job_bytes_max(&self, jobs: usize) -> u64 {
        let hashes = self.default_keyspace.table_bytes / 8;
        let buffers = (self.default_keyspace.table_bytes / 4).min(12 << 20);
        ((hashes + buffers) * jobs as u64).min(self.memory_limit / 4)
    }

    /// Checks ranges and relations between fields.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the field and what is possible.
    pub fn validate(&self) -> Result<()> {
        if self.memory_limit < MEMORY_LIMIT_MIN {
            let detail =
                format!("{} bytes given, at least {MEMORY_LIMIT_MIN} needed", self.memory_limit);
            return Err(Error::invalid_option("memory_limit", detail));
        }
        let buffer = self.write_buffer_bytes();
        if !(WRITE_BUFFER_BYTES_MIN..=WRITE_BUFFER_BYTES_MAX).contains(&buffer) {
            let detail = format!(
                "{buffer} bytes given, {WRITE_BUFFER_BYTES_MIN} to {WRITE_BUFFER_BYTES_MAX} possible"
            );
            return Err(Error::invalid_option("write_buffer_bytes", detail));
        }
        if self.memtable_bytes_max() > self.memory_limit {
            let detail = format!(
                "{MEMTABLE_COUNT_MAX} memtables of {buffer} bytes{} do not fit memory_limit {}; lower write_buffer_bytes or raise memory_limit",
                if self.change_log_bytes > 0 {
                    ", each with its commits once more for the change log,"
                } else {
                    ""
                },
                self.memory_limit
            );
            return Err(Error::invalid_option("write_buffer_bytes", detail));
        }
        if self.background_jobs.is_some_and(|jobs| !(1..=64).contains(&jobs)) {
            return Err(Error::invalid_option("background_jobs", "1 to 64 possible"));
        }
        self.default_keyspace.validate()
    }
}

/// Choices for one keyspace, kept in the manifest.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    /// Uncompressed bytes of a data block, about. Default 4 KiB, 1 KiB to 1 MiB. Larger ones compress and scan better and
    /// cost more per point read.
    pub block_bytes: u32,
    /// Compression by level. Default none for L0, LZ4 for the middle, LZ4 for the last level too.
    pub compression: [Compression; LEVEL_COUNT],
    /// Filter of new tables. Default blocked, 10 bits per key.
    pub filter: FilterPolicy,
    /// Bytes at which a table is cut. Default 64 MiB, 16 KiB to 1 GiB.
    pub table_bytes: u64,
    /// Bytes of the first level below L0 when it is the last; each further level is `level_fanout` times larger.
    /// Default 256 MiB.
    pub level_base_bytes: u64,
    /// Size ratio of neighbouring levels. Default 10, 2 to 100.
    pub level_fanout: u32,
    /// L0 tables that start a compaction. Default 4, 1 to 64.
    pub level0_tables: u32,
    /// Name of the operator that [`Keyspace::merge`](crate::Keyspace::merge) uses. Default none: merges are refused.
    pub merge_operator: Option<String>,
    /// How long an entry is kept after it was written: at least so long, and then gone within an eighth of it (or three seconds) while
    /// the database is open. Default: for ever; 1 s to 100 years, in whole milliseconds.
    ///
    /// Expired entries are gone for snapshots, too, unless the snapshot is older than this time. Their space comes back as after a range delete: tables that hold nothing else are
    /// dropped whole. Operands that a flush or compaction has folded expire with the newest of them. What was written in the last 32nd of
    /// this time before a crash counts as written when the database is opened again. Time is the machine's wall clock; one that jumps ahead makes entries expire earlier by that much.
    pub ttl: Option<Duration>,
    /// Put the first bytes of keys, so many of them, into the filters of new tables. Default none; 1 to 256.
    ///
    /// A scan whose bounds let through only keys that begin with the same so many bytes (as [`Keyspace::prefix`](crate::Keyspace::prefix) with at least as many)
    /// then passes over tables that hold none of them, without reading a block. Costs the filter one entry more for each such prefix of a table: worth it where
    /// many keys share one and scans often find nothing. Needs a filter.
    pub prefix_bytes: Option<u16>,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        let mut compression = [Compression::Lz4; LEVEL_COUNT];
        compression[0] = Compression::None;
        KeyspaceOptions {
            block_bytes: 4 << 10,
            compression,
            filter: FilterPolicy::Blocked { bits: 10 },
            table_bytes: 64 << 20,
            level_base_bytes: 256 << 20,
            level_fanout: 10,
            level0_tables: 4,
            merge_operator: None,
            ttl: None,
            prefix_bytes: None,
        }
    }
}

impl KeyspaceOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] names the field and what is possible.
    pub fn validate(&self) -> Result<()> {
        let check = |good: bool, option: &'static str, detail: &str| {
            if good { Ok(()) } else { Err(Error::invalid_option(option, detail)) }
        };
        check(
            (1 << 10..=1 << 20).contains(&self.block_bytes),
            "block_bytes",
            "1 KiB to 1 MiB possible",
        )?;
        check(
            (16 << 10..=1 << 30).contains(&self.table_bytes),
            "table_bytes",
            "16 KiB to 1 GiB possible",
        )?;
        check(self.level_base_bytes >= 16 << 10, "level_base_bytes", "at least 16 KiB needed")?;
        check((2..=100).contains(&self.level_fanout), "level_fanout", "2 to 100 possible")?;
        check((1..=64).contains(&self.level0_tables), "level0_tables", "1 to 64 possible")?;
        let name_bytes = self.merge_operator.as_ref().map_or(1, String::len);
        check(
            (1..=OPERATOR_NAME_BYTES_MAX).contains(&name_bytes),
            "merge_operator",
            "a name of 1 to 256 bytes possible",
        )?;
        check(
            self.ttl.is_none_or(|ttl| (TTL_MIN..=TTL_MAX).contains(&ttl)),
            "ttl",
            "1 second to 100 years possible",
        )?;
        let prefix_is_good = |bytes: u16| {
            (1..=PREFIX_BYTES_MAX).contains(&bytes) && self.filter != FilterPolicy::None
        };
        check(
            self.prefix_bytes.is_none_or(prefix_is_good),
            "prefix_bytes",
            "1 to 256 possible, and only with a filter",
        )?;
        match self.filter {
            FilterPolicy::None => Ok(()),
            FilterPolicy::Blocked { bits } | FilterPolicy::Standard { bits } => {
                check((1..=40).contains(&bits), "filter", "1 to 40 bits per key possible")
            }
        }
    }
}

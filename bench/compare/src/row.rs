//! The rows of the table: what is run, on which data, and by how much Treering is meant to lead.

use serde::{Deserialize, Serialize};

/// How the engines are set up, and how large the data is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Setting {
    /// LZ4, Bloom filters of 10 bits, 1 GiB of cache.
    Tuned,
    /// The same with values of 400 bytes, 64 MiB of cache and direct reads: most reads go to the device.
    Cold,
    /// db_bench without flags for cache and filters: 32 MiB of cache, no filters.
    Defaults,
}

impl Setting {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Setting::Tuned => "tuned",
            Setting::Cold => "cold",
            Setting::Defaults => "defaults",
        }
    }

    pub(crate) fn value_bytes(self) -> usize {
        if self == Setting::Cold { 400 } else { 100 }
    }

    pub(crate) fn cache_bytes(self) -> u64 {
        match self {
            Setting::Tuned => 1 << 30,
            Setting::Cold => 64 << 20,
            Setting::Defaults => 32 << 20,
        }
    }

    /// Bits per key of the filters, if there are any.
    pub(crate) fn filter_bits(self) -> Option<u8> {
        (self != Setting::Defaults).then_some(10)
    }

    pub(crate) fn direct(self) -> bool {
        self == Setting::Cold
    }
}

/// How the keys before the first that is left were deleted.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Deleted {
    /// Not at all.
    No,
    /// By one range delete.
    ByRange,
    /// One by one.
    Singly,
    /// One by one, and all compactions that are due have been done.
    SinglyAndSettled,
}

/// What a child does and times.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Work {
    /// Fills the data of the reading rows; nothing is timed.
    Load,
    /// A new database, keys drawn at random, or in order.
    Fill {
        in_order: bool,
    },
    /// Keys drawn at random over a database that has them.
    Overwrite,
    /// The same for a long time, each put timed, with amplification and memory.
    OverwriteLong,
    /// Keys drawn at random over a database that has them, so many a second whether or not the last one has come to its end.
    OverwriteSteady {
        per_sec: u64,
    },
    /// Each put on the device before the next.
    OverwriteSync,
    ReadRandom,
    ReadMissing,
    MultiRead {
        keys: usize,
    },
    /// Gets of one thread, so many in flight.
    ReadAsync {
        in_flight: usize,
    },
    /// A new cursor, a seek, and so many nexts.
    Seek {
        nexts: usize,
    },
    Scan {
        backwards: bool,
    },
    /// A new cursor and a seek to the first key, after the first half of the keys was deleted.
    SeekFirst {
        deleted: Deleted,
    },
    /// One reader is timed, another thread overwrites without limit.
    ReadWhileWriting,
    /// The machine itself: random 4 KiB reads past the page cache.
    DeviceRead {
        depth: usize,
    },
    /// The machine itself: 4 KiB writes, each on the device before the next.
    DeviceSync,
}

impl Work {
    /// Whether the row needs data that `Load` has made.
    pub(crate) fn needs_data(self) -> bool {
        !matches!(
            self,
            Work::Load
                | Work::Fill { .. }
                | Work::OverwriteLong
                | Work::OverwriteSync
                | Work::SeekFirst { .. }
                | Work::DeviceRead { .. }
                | Work::DeviceSync
        )
    }

    /// Whether it changes that data: then it works on a set of its own.
    pub(crate) fn changes_data(self) -> bool {
        matches!(self, Work::Overwrite | Work::OverwriteSteady { .. } | Work::ReadWhileWriting)
    }
}

/// What a row is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// Throughput, as a multiple of RocksDB's.
    Ratio(f64),
    /// Throughput, as a share of another row's: what the device gives.
    ShareOf(&'static str, f64),
    /// Latency p99.9 and maximum a third of RocksDB's; amplification and memory no higher.
    Tail,
    /// A reference.
    None,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) setting: Setting,
    pub(crate) work: Work,
    pub(crate) threads: usize,
    pub(crate) target: Target,
}

impl Row {
    /// True for the lines that measure the machine.
    pub(crate) fn is_device(&self) -> bool {
        matches!(self.work, Work::DeviceRead { .. } | Work::DeviceSync)
    }

    /// Whether throughput is what the row measures: in one with a given load only latency is.
    pub(crate) fn measures_throughput(&self) -> bool {
        !matches!(self.work, Work::OverwriteSteady { .. })
    }

    /// Whether an engine can run it.
    pub(crate) fn can_run(&self, engine: &str) -> bool {
        match engine {
            "device" => self.is_device(),
            _ if self.is_device() => false,
            "treering" => true,
            _ if matches!(self.work, Work::ReadAsync { .. }) => false,
            // It has no range deletes.
            "fjall" if self.work == (Work::SeekFirst { deleted: Deleted::ByRange }) => false,
            // fjall reads through the page cache only.
            "fjall" => self.setting != Setting::Cold,
            _ => true,
        }
    }
}

const fn row(
    name: &'static str,
    setting: Setting,
    work: Work,
    threads: usize,
    target: Target,
) -> Row {
    Row { name, setting, work, threads, target }
}

/// All rows, in the order in which they run.
pub(crate) fn all() -> Vec<Row> {
    use Setting::{Cold, Defaults, Tuned};
    use Target::{None, Ratio, ShareOf, Tail};
    use Work::*;
    // At most five times what it costs without deletions.
    let after = ShareOf("seekfirst", 0.2);
    vec![
        row("device_sync", Cold, DeviceSync, 1, None),
        row("device_qd1", Cold, DeviceRead { depth: 1 }, 1, None),
        row("device_qd32", Cold, DeviceRead { depth: 32 }, 1, None),
        row("device_qd64", Cold, DeviceRead { depth: 64 }, 1, None),
        row("fillrandom", Tuned, Fill { in_order: false }, 1, Ratio(2.5)),
        row("fillrandom_2_threads", Tuned, Fill { in_order: false }, 2, Ratio(2.0)),
        row("fillseq", Tuned, Fill { in_order: true }, 1, Ratio(2.5)),
        row("overwrite", Tuned, Overwrite, 1, Ratio(2.5)),
        row("readrandom", Tuned, ReadRandom, 1, Ratio(1.7)),
        row("readmissing", Tuned, ReadMissing, 1, Ratio(1.3)),
        row("multireadrandom_32", Tuned, MultiRead { keys: 32 }, 1, Ratio(1.7)),
        row("seekrandom_10", Tuned, Seek { nexts: 10 }, 1, Ratio(1.7)),
        row("readseq", Tuned, Scan { backwards: false }, 1, Ratio(1.5)),
        row("readreverse", Tuned, Scan { backwards: true }, 1, Ratio(1.5)),
        row("seekfirst", Tuned, SeekFirst { deleted: Deleted::No }, 1, Ratio(1.0)),
        row("seekfirst_range_deleted", Tuned, SeekFirst { deleted: Deleted::ByRange }, 1, after),
        row("seekfirst_deleted", Tuned, SeekFirst { deleted: Deleted::Singly }, 1, after),
        row("seekfirst_settled", Tuned, SeekFirst { deleted: Deleted::SinglyAndSettled }, 1, after),
        row("overwrite_100k_per_s", Tuned, OverwriteSteady { per_sec: 100_000 }, 1, None),
        row("readwhilewriting", Tuned, ReadWhileWriting, 1, Ratio(1.7)),
        row("overwrite_sync", Tuned, OverwriteSync, 1, Ratio(1.4)),
        row("overwrite_sync_32_threads", Tuned, OverwriteSync, 32, Ratio(2.0)),
        row("cold_readrandom", Cold, ReadRandom, 1, Ratio(1.1)),
        row("cold_multireadrandom_64", Cold, MultiRead { keys: 64 }, 1, Ratio(4.0)),
        row(
            "cold_get_async_64",
            Cold,
            ReadAsync { in_flight: 64 },
            1,
            ShareOf("device_qd64", 0.75),
        ),
        row("cold_seekrandom_100", Cold, Seek { nexts: 100 }, 1, Ratio(1.5)),
        row("default_fillseq", Defaults, Fill { in_order: true }, 1, Ratio(1.0)),
        row("default_fillrandom", Defaults, Fill { in_order: false }, 1, Ratio(1.0)),
        row("default_overwrite", Defaults, Overwrite, 1, Ratio(1.0)),
        row("default_readrandom", Defaults, ReadRandom, 1, Ratio(1.0)),
        row("default_readmissing", Defaults, ReadMissing, 1, Ratio(1.0)),
        row("default_multireadrandom_32", Defaults, MultiRead { keys: 32 }, 1, Ratio(1.0)),
        row("default_seekrandom_10", Defaults, Seek { nexts: 10 }, 1, Ratio(1.0)),
        row("default_readseq", Defaults, Scan { backwards: false }, 1, Ratio(1.0)),
        row("default_readreverse", Defaults, Scan { backwards: true }, 1, Ratio(1.0)),
        row("default_readwhilewriting", Defaults, ReadWhileWriting, 1, Ratio(1.0)),
        row("overwrite_long", Tuned, OverwriteLong, 1, Tail),
    ]
}

/// The rows that a list of names asks for: `=NAME` is that row, anything else every row whose name holds it.
///
/// # Errors
/// A name that fits no row.
pub(crate) fn choose(names: &[String]) -> Result<Vec<Row>, String> {
    let fits = |row: &Row, name: &String| match name.strip_prefix('=') {
        Some(exact) => row.name == exact,
        None => row.name.contains(name.as_str()),
    };
    let rows = all();
    for name in names {
        if !rows.iter().any(|row| fits(row, name)) {
            let known: Vec<&str> = rows.iter().map(|row| row.name).collect();
            return Err(format!(
                "--rows: no row is named {name:?}; there are {}",
                known.join(", ")
            ));
        }
    }
    Ok(rows
        .into_iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| fits(row, name)))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_part_or_whole_of_their_names() {
        let names = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|name| (*name).to_owned()).collect();
            choose(&list).map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["=fillseq"]).unwrap(), ["fillseq"]);
        assert_eq!(names(&["fillseq"]).unwrap(), ["fillseq", "default_fillseq"]);
        assert_eq!(names(&[]).unwrap().len(), all().len());
        assert!(names(&["fillsec"]).unwrap_err().contains("fillsec"));
    }
}

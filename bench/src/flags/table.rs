//! The flags that do something, with RocksDB's names, defaults and meaning.
//!
//! One table makes the struct, the defaults, the parser's types and the text of `--help`, so that they cannot differ.

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Integer,
    Float,
    Text,
}

/// A type that a flag can have.
pub(super) trait FlagValue: Sized {
    const KIND: Kind;
    fn parse(text: &str) -> Result<Self, &'static str>;
    fn show(&self) -> String;
}

impl FlagValue for bool {
    const KIND: Kind = Kind::Bool;
    fn parse(text: &str) -> Result<bool, &'static str> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" | "y" | "yes" => Ok(true),
            "0" | "f" | "false" | "n" | "no" => Ok(false),
            _ => Err("not a truth value; use true or false"),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for f64 {
    const KIND: Kind = Kind::Float;
    fn parse(text: &str) -> Result<f64, &'static str> {
        text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or("not a number")
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl FlagValue for String {
    const KIND: Kind = Kind::Text;
    fn parse(text: &str) -> Result<String, &'static str> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

/// An integer in decimal or with `0x` in hexadecimal, as gflags reads them.
fn parse_integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hexadecimal) => i128::from_str_radix(hexadecimal, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(sign * number)
}

macro_rules! integer_flags {
    ($($type:ty, $range:literal;)*) => {$(
        impl FlagValue for $type {
            const KIND: Kind = Kind::Integer;
            fn parse(text: &str) -> Result<$type, &'static str> {
                let number = parse_integer(text).ok_or("not an integer")?;
                <$type>::try_from(number).map_err(|_| $range)
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

integer_flags! {
    i32, "not in the range of 32-bit integers";
    i64, "not in the range of 64-bit integers";
    u64, "not in the range of unsigned 64-bit integers";
}

/// What `--help` and the parser know of a flag.
pub(crate) struct Flag {
    pub(crate) group: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

macro_rules! flags {
    ($($group:literal { $($name:ident: $type:ty = $default:expr, $help:literal;)* })*) => {
        /// The value of every flag that does something.
        #[derive(Clone, Debug)]
        pub(crate) struct Flags {
            $($(#[doc = $help] pub(crate) $name: $type,)*)*
        }

        impl Default for Flags {
            fn default() -> Flags {
                Flags { $($($name: $default.into(),)*)* }
            }
        }

        /// All flags that do something, in the order of `--help`.
        pub(crate) const TABLE: &[Flag] = &[$($(Flag {
            group: $group,
            name: stringify!($name),
            kind: <$type as FlagValue>::KIND,
            help: $help,
        },)*)*];

        impl Flags {
            /// Sets a flag from its text; `None` if there is none of this name.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), &'static str>> {
                Some(match name {
                    $($(stringify!($name) => {
                        <$type as FlagValue>::parse(text).map(|value| self.$name = value)
                    })*)*
                    _ => return None,
                })
            }

            /// The value of a flag as text.
            pub(crate) fn text(&self, name: &str) -> Option<String> {
                Some(match name {
                    $($(stringify!($name) => self.$name.show(),)*)*
                    _ => return None,
                })
            }
        }
    };
}

/// The benchmarks of a run without flags: every kind of load once, a check of all data at the end.
pub(crate) const DEFAULT_BENCHMARKS: &str = "fillseq,fillrandom,overwrite,readrandom,readmissing,multireadrandom,\
seekrandom,readseq,readreverse,readrandomwriterandom,compact,stats,verify";

flags! {
    "What to run" {
        benchmarks: String = DEFAULT_BENCHMARKS, "Benchmarks to run, in this order, separated by commas; name[X5] repeats, name[W2] warms up, name[X5-W2] does both";
        num: i64 = 1_000_000, "Keys of the database; also the operations of each thread where --reads, --writes or --deletes do not say otherwise";
        reads: i64 = -1, "Read operations of each thread; negative means --num";
        writes: i64 = -1, "Write operations of each thread; negative means --num";
        deletes: i64 = -1, "Delete operations of each thread; negative means --num";
        threads: i32 = 1, "Threads that run a benchmark at once";
        duration: i32 = 0, "Seconds that benchmarks in random order run; 0 means that the number of operations decides";
        ops_between_duration_checks: i32 = 1000, "Operations between two looks at the clock for --duration";
        batch_size: i64 = 1, "Keys of a write batch or of a multireadrandom request";
        seed: i64 = 0, "Seed of the keys; 0 takes it from the clock";
        finish_after_writes: bool = false, "Let the background writer finish its --writes after the readers are done";
    }
    "Keys and values" {
        key_size: i32 = 16, "Bytes of a key";
        prefix_size: i32 = 0, "Bytes of a key's prefix; used with --keys_per_prefix";
        keys_per_prefix: i64 = 0, "Keys that share a prefix; 0 means keys without a prefix";
        value_size: i32 = 100, "Bytes of a value";
        value_size_distribution_type: String = "fixed", "Lengths of values: fixed, uniform or normal";
        value_size_min: i32 = 100, "Shortest value of the uniform and normal lengths";
        value_size_max: i32 = 102_400, "Longest value of the uniform and normal lengths";
        compression_ratio: f64 = 0.5, "Part of its size to which a value can be compressed";
    }
    "Reading and seeking" {
        read_random_exp_range: f64 = 0.0, "Skew of the keys of readrandom and multireadrandom; 0 is even";
        multiread_stride: i64 = 0, "Distance of the keys of one request; 0 draws each";
        readwritepercent: i32 = 90, "Reads of a hundred operations of readrandomwriterandom";
        seek_nexts: i32 = 0, "Steps after each seek";
        reverse_iterator: bool = false, "Step backwards after a seek";
        max_scan_distance: i64 = 0, "Bound of an iterator in keys from the seek; 0 means no bound";
        seek_missing_prefix: bool = false, "Seek to keys of prefixes that do not exist; needs --prefix_size above 8";
        benchmark_write_rate_limit: u64 = 0u64, "Bytes per second that all writers together write; 0 means no limit";
        benchmark_read_rate_limit: u64 = 0u64, "Operations per second that all readers together read; 0 means no limit";
    }
    "Mixgraph" {
        mix_get_ratio: f64 = 1.0, "Share of gets";
        mix_put_ratio: f64 = 0.0, "Share of puts";
        mix_seek_ratio: f64 = 0.0, "Share of seeks with a scan";
        mix_max_scan_len: i64 = 10_000, "Bound of a scan's length";
        mix_max_value_size: i64 = 1024, "Longest value";
        keyrange_num: i64 = 1, "Number of key ranges";
        keyrange_dist_a: f64 = 0.0, "Hotness of key ranges: a of a*exp(b*x) + c*exp(d*x)";
        keyrange_dist_b: f64 = 0.0, "Hotness of key ranges: b";
        keyrange_dist_c: f64 = 0.0, "Hotness of key ranges: c";
        keyrange_dist_d: f64 = 0.0, "Hotness of key ranges: d";
        key_dist_a: f64 = 0.0, "Hotness of keys in a range: a of a*x^b";
        key_dist_b: f64 = 0.0, "Hotness of keys in a range: b";
        value_theta: f64 = 0.0, "Value sizes: theta of the generalised Pareto distribution";
        value_k: f64 = 0.2615, "Value sizes: k";
        value_sigma: f64 = 25.45, "Value sizes: sigma";
        iter_theta: f64 = 0.0, "Scan lengths: theta of the generalised Pareto distribution";
        iter_k: f64 = 2.517, "Scan lengths: k";
        iter_sigma: f64 = 14.236, "Scan lengths: sigma";
        sine_mix_rate: bool = false, "Let the rate of operations follow a*sin(b*x + c) + d over the seconds x";
        sine_mix_rate_interval_milliseconds: u64 = 10_000u64, "Interval in which that rate is set anew";
        sine_mix_rate_noise: f64 = 0.0, "Noise of that rate, 0 to 1";
        sine_a: f64 = 1.0, "See --sine_mix_rate";
        sine_b: f64 = 1.0, "See --sine_mix_rate";
        sine_c: f64 = 0.0, "See --sine_mix_rate";
        sine_d: f64 = 1.0, "See --sine_mix_rate";
    }
    "Database" {
        db: String = "", "Directory of the database; empty means one under the system's temporary directory";
        use_existing_db: bool = false, "Use the database that is there; the fill benchmarks are then skipped";
        readonly: bool = false, "Use the database that is there and refuse benchmarks that write";
        sync: bool = false, "Make every write survive the loss of power before it returns";
        disable_wal: bool = false, "Write no log: writes are lost with the process unless flushed";
        memory_limit: u64 = 0u64, "Bytes of memtables, cache, filters, indexes and jobs together; 0 adds up --cache_size, --write_buffer_size times max(3, --max_write_buffer_number) and 64 MiB";
        cache_size: i64 = 8 << 20, "Bytes of the cache of uncompressed blocks";
        write_buffer_size: i64 = 64 << 20, "Bytes of a memtable";
        max_write_buffer_number: i32 = 2, "Memtables in memory; above 3 it only raises the derived --memory_limit";
        max_background_jobs: i32 = 2, "Background flushes and compactions at once";
        block_size: i32 = 4096, "Uncompressed bytes of a data block; also the input of crc32c, compress and uncompress";
        bloom_bits: i32 = -1, "Filter bits per key; 0 means no filter, negative the engine's default of 10";
        filter_policy: String = "blocked", "Kind of filter: blocked (one cache line per key) or standard";
        compression_type: String = "lz4", "Compression of blocks: none, lz4 or zstd";
        min_level_to_compress: i32 = -1, "First level that is compressed; negative compresses all";
        target_file_size_base: i64 = 64 << 20, "Bytes of a table";
        max_bytes_for_level_base: u64 = 256u64 << 20, "Bytes of the smallest level below level 0";
        max_bytes_for_level_multiplier: f64 = 10.0, "Ratio of the sizes of neighbouring levels";
        level0_file_num_compaction_trigger: i32 = 4, "Tables of level 0 that start a compaction";
        use_direct_reads: bool = false, "Read and write tables past the page cache";
        use_direct_io_for_flush_and_compaction: bool = false, "The same as --use_direct_reads";
        io: String = "auto", "Input and output through: auto, uring or posix";
    }
    "Reports" {
        histogram: bool = false, "Print a histogram of the latencies";
        json: String = "", "Write all results to this file as one JSON document";
        statistics: bool = false, "Print the engine's counters at the end";
        stats_interval: i64 = 0, "Print a line every so many operations of a thread; 0 prints progress on a terminal only";
        stats_interval_seconds: i64 = 0, "Print a line every so many seconds; overrides --stats_interval";
        stats_per_interval: i32 = 0, "Print the engine's statistics with the lines of thread 0";
        report_interval_seconds: i64 = 0, "Write operations per second to --report_file every so many seconds";
        report_file: String = "report.csv", "File of --report_interval_seconds";
        report_open_timing: bool = false, "Print how long opening the database took";
        progress_reports: bool = true, "Show progress on a terminal";
        slow_usecs: u64 = 1_000_000u64, "Report an operation that takes at least so many microseconds (with --histogram)";
        confidence_interval_only: bool = false, "Print only the 95 % confidence interval of repeated runs";
        verify_benchmarks: String = "", "What the data was made by, for verify in a later process: the earlier --benchmarks list, from its start; readwhilewriting[N123] gives the keys that it wrote, fillseq[N?] was cut off by the end of the process, a semicolon begins the list of a further process";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_gflags_reads_them_and_no_others() {
        assert_eq!(<i64 as FlagValue>::parse("0x10"), Ok(16));
        assert_eq!(<i64 as FlagValue>::parse("-5"), Ok(-5));
        assert!(<u64 as FlagValue>::parse("-5").is_err());
        assert!(<i32 as FlagValue>::parse("2147483648").is_err());
        for wrong in ["", "-", "1k", "1e6", " 1", "--1", "0x", "1.5"] {
            assert!(<i64 as FlagValue>::parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(<f64 as FlagValue>::parse("inf").is_err());
    }

    #[test]
    fn every_default_passes_its_own_parser() {
        let defaults = Flags::default();
        let mut flags = Flags::default();
        for flag in TABLE {
            let text = defaults.text(flag.name).unwrap();
            assert_eq!(flags.set(flag.name, &text), Some(Ok(())), "{}", flag.name);
        }
    }
}

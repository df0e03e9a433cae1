//! Flags made into what a run needs, with every value checked before any file is touched.

use super::{CommandLine, Flags};
use crate::generate::key::KeyFormat;
use crate::generate::mixgraph::MixOptions;
use crate::generate::shuffle::SHUFFLE_COUNT_MAX;
use crate::generate::value::ValueSize;
use crate::list::{self, Effect, Item};
use std::path::PathBuf;

/// Bytes of the derived memory limit for jobs, filters and indexes.
const METADATA_AND_JOBS_BYTES: u64 = 64 << 20;
const THREADS_MAX: i32 = 1024;
const KEY_BYTES_MAX: i32 = 64 << 10;
const VALUE_BYTES_MAX: i32 = 64 << 20;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Codec {
    None,
    Lz4,
    Zstd,
}

impl Codec {
    /// The name in RocksDB's header.
    pub(crate) fn header_name(self) -> &'static str {
        match self {
            Codec::None => "NoCompression",
            Codec::Lz4 => "LZ4",
            Codec::Zstd => "ZSTD",
        }
    }
}

/// Which filter tables carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Filter {
    None,
    Blocked(u8),
    Standard(u8),
}

/// Which way input and output go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Io {
    Auto,
    Uring,
    Posix,
}

/// What the engine is opened with; `engine` makes its options from it.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) memory_limit: u64,
    pub(crate) write_buffer_bytes: u64,
    pub(crate) jobs: usize,
    pub(crate) io: Io,
    pub(crate) direct_io: bool,
    pub(crate) block_bytes: u32,
    pub(crate) codec: Codec,
    pub(crate) first_compressed_level: usize,
    pub(crate) filter: Filter,
    pub(crate) table_bytes: u64,
    pub(crate) level_base_bytes: u64,
    pub(crate) level_fanout: u32,
    pub(crate) level0_tables: u32,
}

/// A rate that swings like a sine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SineRate {
    pub(crate) curve: [f64; 4],
    pub(crate) noise: f64,
    pub(crate) interval_ms: u64,
}

/// A checked run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) flags: Flags,
    pub(crate) items: Vec<Item>,
    /// The lists of the earlier processes that made the data.
    pub(crate) earlier: Option<Vec<Vec<Item>>>,
    pub(crate) directory: PathBuf,
    pub(crate) seed: u64,
    /// The database that is there is used; otherwise it is destroyed.
    pub(crate) keep_database: bool,
    /// A database that is there may be destroyed: a fill was asked for, or --use_existing_db=0.
    pub(crate) may_destroy: bool,
    pub(crate) create_if_missing: bool,
    pub(crate) value_size: ValueSize,
    pub(crate) tuning: Tuning,
    pub(crate) sine: Option<SineRate>,
    /// Lines for stderr: what was accepted without effect or otherwise than said.
    pub(crate) notes: Vec<String>,
}

impl Settings {
    /// Checks everything. `clock_seed` is used when --seed is 0.
    ///
    /// # Errors
    /// One line that names the flag and what is possible.
    pub(crate) fn new(line: CommandLine, clock_seed: u64) -> Result<Settings, String> {
        let flags = line.flags;
        let mut notes = Vec::new();
        if !line.without_effect.is_empty() {
            let names: Vec<String> =
                line.without_effect.iter().map(|name| format!("--{name}")).collect();
            notes.push(format!("accepted without effect: {}", names.join(" ")));
        }
        let items = list::parse(&flags.benchmarks)?;
        let earlier = match flags.verify_benchmarks.as_str() {
            "" => None,
            lists => Some(list::parse_earlier(lists)?),
        };
        check_ranges(&flags)?;
        check_list(&flags, &items, earlier.as_deref().unwrap_or_default(), &line.given)?;
        let tuning = tuning(&flags, &mut notes)?;
        let keep = flags.use_existing_db || flags.readonly;
        let is_compute = items.iter().all(|item| item.name.is_compute());
        let fills = items.iter().any(|item| item.name.effect == Effect::Fills);
        Ok(Settings {
            keep_database: keep || is_compute,
            may_destroy: !keep && (fills || line.given.contains("use_existing_db")),
            create_if_missing: !keep,
            items,
            earlier,
            directory: directory(&flags),
            seed: if flags.seed == 0 { clock_seed } else { flags.seed as u64 },
            value_size: value_size(&flags)?,
            tuning,
            sine: sine(&flags)?,
            notes,
            flags,
        })
    }

    /// Keys as the fills write them.
    pub(crate) fn key_format(&self, key_size: usize) -> KeyFormat {
        KeyFormat {
            key_size,
            prefix_size: self.flags.prefix_size as usize,
            keys_per_prefix: self.flags.keys_per_prefix as u64,
            num: self.flags.num as u64,
        }
    }

    /// The mix of the benchmark mixgraph.
    pub(crate) fn mix(&self) -> MixOptions {
        let flags = &self.flags;
        MixOptions {
            num: flags.num as u64,
            get_ratio: flags.mix_get_ratio,
            put_ratio: flags.mix_put_ratio,
            seek_ratio: flags.mix_seek_ratio,
            keyrange_dist: [
                flags.keyrange_dist_a,
                flags.keyrange_dist_b,
                flags.keyrange_dist_c,
                flags.keyrange_dist_d,
            ],
            keyrange_num: flags.keyrange_num.max(1) as u64,
            key_dist: [flags.key_dist_a, flags.key_dist_b],
            value: [flags.value_theta, flags.value_k, flags.value_sigma],
            scan: [flags.iter_theta, flags.iter_k, flags.iter_sigma],
            value_bytes_max: flags.mix_max_value_size,
            scan_length_max: flags.mix_max_scan_len,
        }
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> Result<T, String> {
    if value >= min && value <= max {
        Ok(value)
    } else {
        Err(format!("--{name}={value}: {min} to {max} possible"))
    }
}

fn check_ranges(flags: &Flags) -> Result<(), String> {
    within("num", flags.num, 1, i64::MAX / 4096)?;
    within("threads", flags.threads, 1, THREADS_MAX)?;
    within("duration", flags.duration, 0, i32::MAX)?;
    within("ops_between_duration_checks", flags.ops_between_duration_checks, 1, i32::MAX)?;
    within("batch_size", flags.batch_size, 1, 10_000_000)?;
    within("key_size", flags.key_size, 1, KEY_BYTES_MAX - 1)?;
    within("prefix_size", flags.prefix_size, 0, flags.key_size - 1)?;
    within("keys_per_prefix", flags.keys_per_prefix, 0, flags.num)?;
    within("value_size", flags.value_size, 0, VALUE_BYTES_MAX)?;
    within("value_size_max", flags.value_size_max, 0, VALUE_BYTES_MAX)?;
    within("value_size_min", flags.value_size_min, 0, VALUE_BYTES_MAX)?;
    within("compression_ratio", flags.compression_ratio, 0.0, 1.0)?;
    within("read_random_exp_range", flags.read_random_exp_range, 0.0, 1e6)?;
    within("multiread_stride", flags.multiread_stride, 0, flags.num)?;
    within("readwritepercent", flags.readwritepercent, 0, 100)?;
    within("seek_nexts", flags.seek_nexts, 0, i32::MAX)?;
    within("max_scan_distance", flags.max_scan_distance, 0, i64::MAX)?;
    within("stats_interval", flags.stats_interval, 0, i64::MAX)?;
    within("stats_interval_seconds", flags.stats_interval_seconds, 0, 1 << 32)?;
    within("report_interval_seconds", flags.report_interval_seconds, 0, 1 << 32)?;
    if flags.multiread_stride > 0
        && flags.multiread_stride.saturating_mul(flags.batch_size) > flags.num
    {
        let stride = flags.multiread_stride;
        return Err(format!("--multiread_stride={stride}: times --batch_size is more than --num"));
    }
    if flags.keys_per_prefix > 0 && flags.prefix_size == 0 {
        return Err("--prefix_size=0: --keys_per_prefix needs a prefix".to_owned());
    }
    if flags.seek_missing_prefix && (flags.prefix_size <= 8 || flags.keys_per_prefix == 0) {
        let size = flags.prefix_size;
        return Err(format!(
            "--prefix_size={size}: --seek_missing_prefix needs more than 8, and --keys_per_prefix"
        ));
    }
    for (name, ratio) in [
        ("mix_get_ratio", flags.mix_get_ratio),
        ("mix_put_ratio", flags.mix_put_ratio),
        ("mix_seek_ratio", flags.mix_seek_ratio),
    ] {
        within(name, ratio, 0.0, 1e9)?;
    }
    if flags.mix_get_ratio + flags.mix_put_ratio + flags.mix_seek_ratio <= 0.0 {
        return Err("--mix_get_ratio=0: the three ratios of mixgraph are all 0".to_owned());
    }
    within("mix_max_value_size", flags.mix_max_value_size, 11, i64::from(VALUE_BYTES_MAX))?;
    within("mix_max_scan_len", flags.mix_max_scan_len, 1, i64::MAX)?;
    within("keyrange_num", flags.keyrange_num, 0, flags.num.min(1 << 24))?;
    Ok(())
}

fn check_list(
    flags: &Flags,
    items: &[Item],
    earlier: &[Vec<Item>],
    given: &std::collections::BTreeSet<String>,
) -> Result<(), String> {
    let has = |effect| items.iter().find(|item| item.name.effect == effect);
    let earlier = earlier.iter().flatten();
    let has_name =
        |name: &str| items.iter().chain(earlier.clone()).any(|item| item.name.name == name);
    if flags.readonly
        && let Some(item) = has(Effect::Writes).or(has(Effect::Fills))
    {
        let name = item.name.name;
        return Err(format!("--readonly: benchmark {name} writes; leave one of both out"));
    }
    if has_name("filluniquerandom") && flags.num as u64 > SHUFFLE_COUNT_MAX {
        return Err(format!(
            "--num={}: filluniquerandom takes up to {SHUFFLE_COUNT_MAX}",
            flags.num
        ));
    }
    if has_name("filluniquerandom") && flags.writes > flags.num {
        return Err(format!(
            "--writes={}: filluniquerandom writes --num keys at most",
            flags.writes
        ));
    }
    if !flags.verify_benchmarks.is_empty() && !given.contains("seed") {
        return Err("--verify_benchmarks: needs the --seed that the data was made with".to_owned());
    }
    Ok(())
}

fn directory(flags: &Flags) -> PathBuf {
    if flags.db.is_empty() {
        // SAFETY: getuid cannot fail and touches no memory.
        let user = unsafe { libc::getuid() };
        std::env::temp_dir().join(format!("treering-bench-{user}")).join("dbbench")
    } else {
        PathBuf::from(&flags.db)
    }
}

fn value_size(flags: &Flags) -> Result<ValueSize, String> {
    let (min, max) = (flags.value_size_min as usize, flags.value_size_max as usize);
    let kind = flags.value_size_distribution_type.to_ascii_lowercase();
    if kind != "fixed" && min > max {
        return Err(format!("--value_size_min={min}: more than --value_size_max={max}"));
    }
    match kind.as_str() {
        "fixed" => Ok(ValueSize::Fixed(flags.value_size as usize)),
        "uniform" => Ok(ValueSize::Uniform(min, max)),
        "normal" => Ok(ValueSize::Normal(min, max)),
        _ => Err(format!(
            "--value_size_distribution_type={}: unknown; use fixed, uniform or normal",
            flags.value_size_distribution_type
        )),
    }
}

fn sine(flags: &Flags) -> Result<Option<SineRate>, String> {
    within("sine_mix_rate_noise", flags.sine_mix_rate_noise, 0.0, 1.0)?;
    Ok(flags.sine_mix_rate.then_some(SineRate {
        curve: [flags.sine_a, flags.sine_b, flags.sine_c, flags.sine_d],
        noise: flags.sine_mix_rate_noise,
        interval_ms: flags.sine_mix_rate_interval_milliseconds,
    }))
}

fn tuning(flags: &Flags, notes: &mut Vec<String>) -> Result<Tuning, String> {
    let cache_bytes = within("cache_size", flags.cache_size, 0, 1 << 50)? as u64;
    let write_buffer_bytes =
        within("write_buffer_size", flags.write_buffer_size, 16 << 10, 1 << 30)? as u64;
    let buffers = within("max_write_buffer_number", flags.max_write_buffer_number, 1, 1 << 20)?;
    let derived = cache_bytes
        + write_buffer_bytes * u64::from(buffers.max(3) as u32)
        + METADATA_AND_JOBS_BYTES;
    let trigger = within(
        "level0_file_num_compaction_trigger",
        flags.level0_file_num_compaction_trigger,
        1,
        i32::MAX,
    )? as u32;
    let mut limited = |name: &str, value: u64, max: u64| {
        if value > max {
            notes.push(format!("--{name}={value}: {max} is used, the most that Treering takes"));
        }
        value.min(max)
    };
    let level0_tables = limited("level0_file_num_compaction_trigger", trigger.into(), 64) as u32;
    let jobs = within("max_background_jobs", flags.max_background_jobs, 1, i32::MAX)?;
    let jobs = limited("max_background_jobs", jobs as u64, 64) as usize;
    let codec = codec(&flags.compression_type, notes)?;
    Ok(Tuning {
        memory_limit: if flags.memory_limit == 0 { derived } else { flags.memory_limit },
        write_buffer_bytes,
        jobs,
        io: match flags.io.as_str() {
            "auto" => Io::Auto,
            "uring" => Io::Uring,
            "posix" => Io::Posix,
            other => return Err(format!("--io={other}: unknown; use auto, uring or posix")),
        },
        direct_io: flags.use_direct_reads || flags.use_direct_io_for_flush_and_compaction,
        block_bytes: within("block_size", flags.block_size, 1 << 10, 1 << 20)? as u32,
        codec,
        first_compressed_level: flags.min_level_to_compress.max(0) as usize,
        filter: filter(flags)?,
        table_bytes: within(
            "target_file_size_base",
            flags.target_file_size_base,
            16 << 10,
            1 << 30,
        )? as u64,
        level_base_bytes: within(
            "max_bytes_for_level_base",
            flags.max_bytes_for_level_base,
            16 << 10,
            1 << 50,
        )?,
        level_fanout: within(
            "max_bytes_for_level_multiplier",
            flags.max_bytes_for_level_multiplier,
            2.0,
            100.0,
        )?
        .round() as u32,
        level0_tables,
    })
}

fn codec(name: &str, notes: &mut Vec<String>) -> Result<Codec, String> {
    match name.to_ascii_lowercase().as_str() {
        "none" => Ok(Codec::None),
        "lz4" => Ok(Codec::Lz4),
        "zstd" => Ok(Codec::Zstd),
        "snappy" => {
            notes.push("--compression_type=snappy: stored as lz4, which Treering has".to_owned());
            Ok(Codec::Lz4)
        }
        _ => Err(format!(
            "--compression_type={name}: unknown; use none, lz4 or zstd (snappy is stored as lz4)"
        )),
    }
}

fn filter(flags: &Flags) -> Result<Filter, String> {
    let bits = match flags.bloom_bits {
        ..0 => 10,
        bits => within("bloom_bits", bits, 0, 40)? as u8,
    };
    match (flags.filter_policy.as_str(), bits) {
        ("blocked" | "standard", 0) => Ok(Filter::None),
        ("blocked", bits) => Ok(Filter::Blocked(bits)),
        ("standard", bits) => Ok(Filter::Standard(bits)),
        (other, _) => Err(format!("--filter_policy={other}: unknown; use blocked or standard")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(line: &str) -> Result<Settings, String> {
        let line = crate::flags::parse(line.split_whitespace().map(str::to_owned))?;
        Settings::new(line, 77)
    }

    #[test]
    fn the_defaults_are_a_valid_run() {
        let settings = settings("").unwrap();
        assert_eq!(settings.seed, 77);
        assert_eq!(settings.tuning.memory_limit, (8 + 3 * 64 + 64) << 20);
        assert_eq!(settings.value_size, ValueSize::Fixed(100));
        assert!(settings.notes.is_empty());
    }

    #[test]
    fn every_wrong_value_is_one_line_that_names_the_flag() {
        for (line, start) in [
            ("--num=0", "--num=0: 1 to "),
            ("--threads=0", "--threads=0: 1 to 1024 possible"),
            (
                "--compression_type=foo",
                "--compression_type=foo: unknown; use none, lz4 or zstd (snappy",
            ),
            ("--filter_policy=ribbon", "--filter_policy=ribbon: unknown; use blocked or standard"),
            ("--io=mmap", "--io=mmap: unknown; use auto, uring or posix"),
            ("--value_size_distribution_type=zipf", "--value_size_distribution_type=zipf: unknown"),
            (
                "--value_size_distribution_type=normal --value_size_min=9 --value_size_max=8",
                "--value_size_min=9",
            ),
            ("--block_size=100", "--block_size=100: 1024 to 1048576 possible"),
            ("--write_buffer_size=1", "--write_buffer_size=1: "),
            ("--bloom_bits=99", "--bloom_bits=99: 0 to 40 possible"),
            ("--benchmarks=fillseekseq", "benchmark \"fillseekseq\": not offered"),
            ("--readonly", "--readonly: benchmark overwrite writes"),
            ("--keys_per_prefix=5", "--prefix_size=0: "),
            ("--seek_missing_prefix", "--prefix_size=0: "),
            ("--prefix_size=16", "--prefix_size=16: 0 to 15 possible"),
            ("--verify_benchmarks=fillseq", "--verify_benchmarks: needs the --seed"),
            ("--multiread_stride=10 --num=50 --batch_size=10", "--multiread_stride=10: "),
            ("--value_size=-1", "--value_size=-1: 0 to "),
        ] {
            let error = settings(line).map(|_| ()).unwrap_err();
            assert!(error.starts_with(start) && !error.contains('\n'), "{line}: {error}");
        }
    }

    #[test]
    fn the_flags_of_benchmark_sh_are_understood() {
        let settings = settings(
            "--benchmarks=fillseq,stats --use_existing_db=0 --sync=0 --level0_file_num_compaction_trigger=10485760 \
             --level0_slowdown_writes_trigger=20 --level0_stop_writes_trigger=30 --max_background_jobs=16 \
             --max_write_buffer_number=8 --undefok=use_blob_cache,blob_cache_size --db=/tmp/x --wal_dir=/tmp/x \
             --num=100 --key_size=20 --value_size=400 --block_size=8192 --cache_size=17179869184 \
             --cache_numshardbits=6 --compression_max_dict_bytes=0 --compression_ratio=0.5 --compression_type=zstd \
             --bytes_per_sync=1048576 --benchmark_write_rate_limit=0 --write_buffer_size=134217728 \
             --target_file_size_base=134217728 --max_bytes_for_level_base=1073741824 --verify_checksum=1 \
             --delete_obsolete_files_period_micros=62914560 --max_bytes_for_level_multiplier=8 --statistics=0 \
             --stats_per_interval=1 --stats_interval_seconds=60 --report_interval_seconds=1 --histogram=1 \
             --memtablerep=vector --bloom_bits=10 --open_files=-1 --subcompactions=1 --compaction_style=0 \
             --num_levels=8 --min_level_to_compress=-1 --level_compaction_dynamic_level_bytes=true \
             --pin_l0_filter_and_index_blocks_in_cache=1 --allow_concurrent_memtable_write=false --disable_wal=1 \
             --seed=1 --report_file=/tmp/x.csv --merge_operator=\"put\"",
        )
        .unwrap();
        assert_eq!(settings.tuning.level0_tables, 64);
        assert_eq!(settings.notes.len(), 2);
        assert_eq!(settings.tuning.filter, Filter::Blocked(10));
        assert_eq!(settings.tuning.level_fanout, 8);
        assert_eq!(settings.tuning.codec, Codec::Zstd);
    }
}

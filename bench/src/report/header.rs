//! The lines before the first benchmark, in RocksDB's words.

use crate::flags::Settings;
use crate::generate::value::ValueSize;
use crate::report::local_time;
use std::fmt::Write;

/// The processors of this machine.
pub(crate) struct Cpu {
    pub(crate) count: usize,
    pub(crate) model: String,
    pub(crate) cache: String,
}

impl Cpu {
    /// Reads /proc/cpuinfo; empty words where it says nothing.
    pub(crate) fn read() -> Cpu {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let values = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim()).collect()
        };
        let (models, caches): (Vec<&str>, Vec<&str>) = (values("model name"), values("cache size"));
        let last = |values: &[&str]| values.last().copied().unwrap_or_default().to_owned();
        Cpu { count: models.len(), model: last(&models), cache: last(&caches) }
    }
}

/// The lines for stderr: what runs where.
pub(crate) fn environment() -> String {
    let cpu = Cpu::read();
    format!(
        "Treering:   version {}\nDate:       {}\nCPU:        {} * {}\nCPUCache:   {}",
        env!("CARGO_PKG_VERSION"),
        local_time::date(),
        cpu.count,
        cpu.model,
        cpu.cache
    )
}

/// The lines for stdout: what is run.
pub(crate) fn text(settings: &Settings, io_backend: &str) -> String {
    let flags = &settings.flags;
    let ratio = flags.compression_ratio;
    let after = |size: i32| (f64::from(size) * ratio + 0.5) as i32;
    let mut text =
        format!("Keys:       {} bytes each (+ 0 bytes user-defined timestamp)\n", flags.key_size);
    // Writing to a string cannot fail.
    let size = match settings.value_size {
        ValueSize::Fixed(_) => {
            let size = flags.value_size;
            let small = after(size);
            let _ =
                writeln!(text, "Values:     {size} bytes each ({small} bytes after compression)");
            size
        }
        ValueSize::Uniform(..) | ValueSize::Normal(..) => {
            let (min, max) = (flags.value_size_min, flags.value_size_max);
            let size = min + (max - min) / 2;
            let _ = write!(
                text,
                "Values:     {size} avg bytes each ({} bytes after compression)\n\
                 Values Distribution: {} (min: {min}, max: {max})\n",
                after(size),
                flags.value_size_distribution_type
            );
            size
        }
    };
    let mb = |bytes_each: f64| bytes_each * flags.num as f64 / 1048576.0;
    let _ = write!(
        text,
        "Entries:    {}\n\
         Prefix:    {} bytes\n\
         Keys per prefix:    {}\n\
         RawSize:    {:.1} MB (estimated)\n\
         FileSize:   {:.1} MB (estimated)\n\
         Write rate: {} bytes/second\n\
         Read rate: {} ops/second\n\
         Compression: {}\n\
         Compression sampling rate: 0\n\
         Memtablerep: UnrolledSkipList\n\
         Perf Level: 1\n\
         I/O: {io_backend}\n\
         Memory limit: {:.1} MB\n",
        flags.num,
        flags.prefix_size,
        flags.keys_per_prefix,
        mb(f64::from(flags.key_size + size)),
        mb(f64::from(flags.key_size) + f64::from(size) * ratio),
        flags.benchmark_write_rate_limit,
        flags.benchmark_read_rate_limit,
        settings.tuning.codec.header_name(),
        settings.tuning.memory_limit as f64 / 1048576.0,
    );
    if cfg!(debug_assertions) {
        text.push_str("WARNING: Assertions are enabled; benchmarks unnecessarily slow\n");
    }
    text.push_str("------------------------------------------------");
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_is_that_of_rocksdb() {
        let line = crate::flags::parse(["--num=20000".to_owned()]).unwrap();
        let settings = super::Settings::new(line, 1).unwrap();
        let text = super::text(&settings, "posix");
        assert!(text.starts_with(
            "Keys:       16 bytes each (+ 0 bytes user-defined timestamp)\n\
             Values:     100 bytes each (50 bytes after compression)\n\
             Entries:    20000\n\
             Prefix:    0 bytes\n\
             Keys per prefix:    0\n\
             RawSize:    2.2 MB (estimated)\n\
             FileSize:   1.3 MB (estimated)\n\
             Write rate: 0 bytes/second\n\
             Read rate: 0 ops/second\n\
             Compression: LZ4\n"
        ));
    }
}

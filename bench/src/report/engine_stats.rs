//! The engine's statistics as text: RocksDB's tables and lines, in the column layout that its scripts read.
//!
//! tools/benchmark.sh greps for `^Uptime(secs)`, `^Cumulative writes`, `^Cumulative stall`, `^Stalls(count)`,
//! `^Cumulative compaction`, `^Flush(GB)`, `^ Sum` and `^Blob file count` and counts columns, so the columns are those
//! of RocksDB up to 11.4. Where Treering has nothing to say (blobs, ingested files) the
//! column says 0; commit groups are not counted and left out.

use crate::engine::Stats;
use std::fmt::Write;
use std::time::Duration;

const MB: f64 = 1048576.0;
const GB: f64 = MB * 1024.0;

/// Sums over levels.
#[derive(Clone, Copy, Default)]
struct Work {
    read_upper: u64,
    read_lower: u64,
    write: u64,
    moved: u64,
    time: Duration,
    cpu: Duration,
    compactions: u64,
    keys_in: u64,
    keys_dropped: u64,
}

/// Remembers what was printed last, for the `interval` figures.
#[derive(Default)]
pub(crate) struct StatsText {
    before: Stats,
    writes_before: u64,
    work_before: Work,
}

impl StatsText {
    /// Forgets the last print, as after a reset of the counters.
    pub(crate) fn reset(&mut self) {
        *self = StatsText::default();
    }

    /// The whole text of `stats`; `writes` are the write calls of this program, which the engine does not count.
    pub(crate) fn text(&mut self, stats: &Stats, writes: u64) -> String {
        let mut text = String::new();
        let total = self.levels(&mut text, stats);
        self.summary(&mut text, stats, total);
        self.database(&mut text, stats, writes);
        self.before = stats.clone();
        self.writes_before = writes;
        self.work_before = total;
        text
    }

    fn levels(&self, text: &mut String, stats: &Stats) -> Work {
        let mut total = Work::default();
        let (mut files, mut bytes) = (0, 0);
        for keyspace in &stats.keyspaces {
            level_header(text, &keyspace.name, "Level");
            for level in &keyspace.levels {
                let work = Work {
                    read_upper: level.read_bytes_upper,
                    read_lower: level.read_bytes_lower,
                    write: level.write_bytes,
                    moved: level.moved_bytes,
                    time: level.time,
                    cpu: level.cpu,
                    compactions: level.compactions,
                    keys_in: level.keys_in,
                    keys_dropped: level.keys_dropped,
                };
                let input = if level.level == 0 { stats.flush_bytes } else { work.read_upper };
                total = total.plus(work);
                files += level.files;
                bytes += level.bytes;
                if level.files > 0 || !work.time.is_zero() {
                    let name = format!("L{}", level.level);
                    let amplification = ratio(work.write, input);
                    level_line(
                        text,
                        &name,
                        level.files,
                        level.bytes,
                        level.score,
                        amplification,
                        work,
                    );
                }
            }
        }
        level_line(text, "Sum", files, bytes, 0.0, ratio(total.write, stats.flush_bytes), total);
        let flushed = stats.flush_bytes.saturating_sub(self.before.flush_bytes);
        let interval = total.minus(self.work_before);
        level_line(text, "Int", 0, 0, 0.0, ratio(interval.write, flushed), interval);
        total
    }

    fn summary(&self, text: &mut String, stats: &Stats, total: Work) {
        let before = &self.before;
        let seconds = stats.uptime.as_secs_f64();
        let interval_seconds = seconds - before.uptime.as_secs_f64();
        let gb = |bytes: u64| bytes as f64 / GB;
        let rate = |bytes: u64, seconds: f64| bytes as f64 / MB / seconds.max(0.001);
        let interval = total.minus(self.work_before);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\nBlob file count: 0, total size: 0.0 GB, garbage size: 0.0 GB, space amp: 0.0\n\n\
             Uptime(secs): {seconds:.1} total, {interval_seconds:.1} interval\n\
             Flush(GB): cumulative {:.3}, interval {:.3}\n\
             AddFile(GB): cumulative 0.000, interval 0.000\n\
             AddFile(Total Files): cumulative 0, interval 0\n\
             AddFile(L0 Files): cumulative 0, interval 0\n\
             AddFile(Keys): cumulative 0, interval 0\n",
            gb(stats.flush_bytes),
            gb(stats.flush_bytes.saturating_sub(before.flush_bytes)),
        );
        for (word, work, seconds) in
            [("Cumulative", total, seconds), ("Interval", interval, interval_seconds)]
        {
            let read = work.read_upper + work.read_lower;
            let _ = writeln!(
                text,
                "{word} compaction: {:.2} GB write, {:.2} MB/s write, {:.2} GB read, {:.2} MB/s read, {:.1} seconds",
                gb(work.write),
                rate(work.write, seconds),
                gb(read),
                rate(read, seconds),
                work.time.as_secs_f64(),
            );
        }
        // Back-pressure here is one smooth delay; RocksDB's nearest name is the slowdown for compaction debt.
        let _ = write!(
            text,
            "Stalls(count): 0 level0_slowdown, 0 level0_slowdown_with_compaction, 0 level0_numfiles, \
             0 level0_numfiles_with_compaction, 0 stop for pending_compaction_bytes, \
             {} slowdown for pending_compaction_bytes, 0 memtable_compaction, 0 memtable_slowdown, \
             interval {} total count\n\
             Block cache: usage: {} hits: {} misses: {}\n\
             Compaction debt: {}\n",
            stats.stall_count,
            stats.stall_count.saturating_sub(before.stall_count),
            human_bytes(stats.block_cache_bytes),
            stats.block_cache_hits,
            stats.block_cache_misses,
            human_bytes(stats.debt_bytes),
        );
    }

    fn database(&self, text: &mut String, stats: &Stats, writes: u64) {
        let before = &self.before;
        let seconds = stats.uptime.as_secs_f64();
        let interval_seconds = seconds - before.uptime.as_secs_f64();
        let _ = write!(
            text,
            "\n** DB Stats **\nUptime(secs): {seconds:.1} total, {interval_seconds:.1} interval\n"
        );
        let whole = Span {
            word: "Cumulative",
            seconds,
            writes,
            keys: stats.keys_written,
            user: stats.user_bytes_written,
            wal: stats.wal_bytes,
            syncs: stats.wal_syncs,
            stall: stats.stall,
        };
        let interval = Span {
            word: "Interval",
            seconds: interval_seconds,
            writes: writes.saturating_sub(self.writes_before),
            keys: stats.keys_written.saturating_sub(before.keys_written),
            user: stats.user_bytes_written.saturating_sub(before.user_bytes_written),
            wal: stats.wal_bytes.saturating_sub(before.wal_bytes),
            syncs: stats.wal_syncs.saturating_sub(before.wal_syncs),
            stall: stats.stall.saturating_sub(before.stall),
        };
        whole.write(text);
        interval.write(text);
    }
}

/// The figures of the lines on writes, over all time or since the last print.
struct Span {
    word: &'static str,
    seconds: f64,
    writes: u64,
    keys: u64,
    user: u64,
    wal: u64,
    syncs: u64,
    stall: Duration,
}

impl Span {
    fn write(&self, text: &mut String) {
        let word = self.word;
        let seconds = self.seconds.max(0.001);
        // RocksDB gives the interval's ingest in MB.
        let ingest = match word {
            "Interval" => format!("{:.2} MB", self.user as f64 / MB),
            _ => format!("{:.2} GB", self.user as f64 / GB),
        };
        let _ = write!(
            text,
            "{word} writes: {} writes, {} keys, ingest: {ingest}, {:.2} MB/s\n\
             {word} WAL: {} writes, {} syncs, {:.2} writes per sync, written: {:.2} GB, {:.2} MB/s\n\
             {word} stall: {}, {:.1} percent\n",
            human_number(self.writes),
            human_number(self.keys),
            self.user as f64 / MB / seconds,
            human_number(self.writes),
            human_number(self.syncs),
            self.writes as f64 / (self.syncs.max(1)) as f64,
            self.wal as f64 / GB,
            self.wal as f64 / MB / seconds,
            hours_minutes_seconds(self.stall),
            100.0 * self.stall.as_secs_f64() / seconds,
        );
    }
}

impl Work {
    fn combine(
        self,
        other: Work,
        bytes: fn(u64, u64) -> u64,
        time: fn(Duration, Duration) -> Duration,
    ) -> Work {
        Work {
            read_upper: bytes(self.read_upper, other.read_upper),
            read_lower: bytes(self.read_lower, other.read_lower),
            write: bytes(self.write, other.write),
            moved: bytes(self.moved, other.moved),
            time: time(self.time, other.time),
            cpu: time(self.cpu, other.cpu),
            compactions: bytes(self.compactions, other.compactions),
            keys_in: bytes(self.keys_in, other.keys_in),
            keys_dropped: bytes(self.keys_dropped, other.keys_dropped),
        }
    }

    fn plus(self, other: Work) -> Work {
        self.combine(other, u64::saturating_add, Duration::saturating_add)
    }

    fn minus(self, other: Work) -> Work {
        self.combine(other, u64::saturating_sub, Duration::saturating_sub)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn level_header(text: &mut String, keyspace: &str, group: &str) {
    let columns = format!(
        "{group}    Files   Size     Score Read(GB)  Rn(GB) Rnp1(GB) Write(GB) Wnew(GB) Moved(GB) W-Amp Rd(MB/s) \
         Wr(MB/s) Comp(sec) CompMergeCPU(sec) Comp(cnt) Avg(sec) KeyIn KeyDrop Rblob(GB) Wblob(GB)"
    );
    let dashes = "-".repeat(columns.len() + 1);
    let _ = write!(text, "\n** Compaction Stats [{keyspace}] **\n{columns}\n{dashes}\n");
}

fn level_line(
    text: &mut String,
    name: &str,
    files: u64,
    bytes: u64,
    score: f64,
    amplification: f64,
    work: Work,
) {
    let gb = |bytes: u64| bytes as f64 / GB;
    let read = work.read_upper + work.read_lower;
    let seconds = work.time.as_secs_f64();
    let rate = |bytes: u64| bytes as f64 / MB / (seconds + 1e-6);
    let new = gb(work.write) - gb(work.read_lower);
    let each = if work.compactions == 0 { 0.0 } else { seconds / work.compactions as f64 };
    let _ = writeln!(
        text,
        "{name:>4} {files:6}/{:<3} {:>8} {score:5.1} {:8.1} {:7.1} {:8.1} {:9.1} {new:8.1} {:9.1} {amplification:5.1} \
         {:8.1} {:8.1} {seconds:9.2} {:17.2} {:9} {each:8.3} {:>7} {:>6} {:9.1} {:9.1}",
        0,
        human_bytes(bytes),
        gb(read),
        gb(work.read_upper),
        gb(work.read_lower),
        gb(work.write),
        gb(work.moved),
        rate(read),
        rate(work.write),
        work.cpu.as_secs_f64(),
        work.compactions,
        human_number(work.keys_in),
        human_number(work.keys_dropped),
        0.0,
        0.0,
    );
}

/// The text of `levelstats`.
pub(crate) fn level_text(stats: &Stats) -> String {
    let mut text = String::from("Level Files Size(MB)\n--------------------\n");
    for level in stats.keyspaces.first().map_or(&[][..], |keyspace| &keyspace.levels) {
        let mb = level.bytes as f64 / MB;
        let _ = writeln!(text, "{:3} {:8} {mb:8.0}", level.level, level.files);
    }
    text
}

/// The text of `memstats`: RocksDB's property where there is one, the memory knob and what fills it.
pub(crate) fn memory_text(stats: &Stats) -> String {
    format!(
        "rocksdb.cur-size-all-mem-tables: {0}\n\
         rocksdb.size-all-mem-tables: {0}\n\
         rocksdb.block-cache-usage: {1}\n\
         rocksdb.estimate-table-readers-mem: {2}\n\
         rocksdb.num-snapshots: {3}\n\
         treering.memory-used: {4}\n\
         treering.memory-limit: {5}",
        stats.memtable_bytes,
        stats.block_cache_bytes,
        stats.table_metadata_bytes,
        stats.snapshot_count,
        stats.memory_used,
        stats.memory_limit,
    )
}

/// The text of `--statistics`.
pub(crate) fn counters_text(stats: &Stats) -> String {
    let counters = [
        ("rocksdb.block.cache.hit", stats.block_cache_hits),
        ("rocksdb.block.cache.miss", stats.block_cache_misses),
        ("rocksdb.bytes.written", stats.user_bytes_written),
        ("rocksdb.wal.bytes", stats.wal_bytes),
        ("rocksdb.wal.synced", stats.wal_syncs),
        ("rocksdb.flush.write.bytes", stats.flush_bytes),
        ("rocksdb.compact.read.bytes", stats.compaction_read_bytes),
        ("rocksdb.compact.write.bytes", stats.compaction_write_bytes),
        ("rocksdb.stall.micros", stats.stall.as_micros() as u64),
        ("treering.flushes", stats.flush_count),
        ("treering.compactions", stats.compaction_count),
    ];
    let mut text = String::from("STATISTICS:\n");
    for (name, count) in counters {
        let _ = writeln!(text, "{name} COUNT : {count}");
    }
    text
}

fn human_number(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}K", number / 1000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

fn human_bytes(bytes: u64) -> String {
    let mut size = bytes as f64 / 1024.0;
    let mut unit = "KB";
    for larger in ["MB", "GB", "TB"] {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    format!("{size:.2} {unit}")
}

fn hours_minutes_seconds(time: Duration) -> String {
    let seconds = time.as_secs();
    let rest = (seconds % 60) as f64 + f64::from(time.subsec_micros()) / 1e6;
    format!("{:02}:{:02}:{rest:05.3} H:M:S", seconds / 3600, seconds / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_columns_of_rocksdb() {
        let mut text = String::new();
        level_line(&mut text, "Sum", 0, 0, 0.0, 0.0, Work::default());
        assert_eq!(
            text,
            " Sum      0/0    0.00 KB   0.0      0.0     0.0      0.0       0.0      0.0       0.0   0.0      0.0      0.0      0.00              0.00         0    0.000       0      0       0.0       0.0\n"
        );
        let mut text = String::new();
        level_header(&mut text, "default", "Level");
        let dashes = text.lines().last().map(str::len);
        assert_eq!(dashes, Some(192));
    }

    #[test]
    fn benchmark_sh_finds_every_line_it_looks_for() {
        let stats = Stats {
            uptime: Duration::from_millis(2500),
            stall: Duration::from_millis(500),
            stall_count: 7,
            flush_bytes: 1 << 30,
            keys_written: 84_000,
            ..Stats::default()
        };
        let mut texts = StatsText::default();
        let text = texts.text(&stats, 42_000);
        let line = |start: &str| text.lines().rfind(|line| line.starts_with(start)).unwrap();
        let field = |start: &str, i: usize| line(start).split_whitespace().nth(i - 1).unwrap();
        assert_eq!(field("Uptime(secs", 2), "2.5");
        assert_eq!(field("Cumulative stall", 5), "20.0");
        let stalls: u32 = [2, 6, 10, 14, 18, 20]
            .iter()
            .map(|i| field("Stalls(count):", *i).parse::<u32>().unwrap())
            .sum();
        assert_eq!(stalls, 7);
        assert_eq!(
            line("Cumulative writes"),
            "Cumulative writes: 42K writes, 84K keys, ingest: 0.00 GB, 0.00 MB/s"
        );
        assert_eq!(field("Cumulative compaction", 3), "0.00");
        assert_eq!(field("Flush(GB):", 3), "1.000,");
        assert_eq!(field(" Sum", 15), "0.00");
        assert!(line("Blob file count:").starts_with("Blob file count: 0"));
        assert_eq!(hours_minutes_seconds(Duration::from_millis(3_723_045)), "01:02:3.045 H:M:S");
        let again = texts.text(&stats, 42_000);
        assert!(again.contains("Interval writes: 0 writes, 0 keys, ingest: 0.00 MB, 0.00 MB/s"));
    }

    #[test]
    fn numbers_and_bytes_are_shortened_as_rocksdb_shortens_them() {
        assert_eq!([human_number(9999), human_number(10_000)], ["9999", "10K"]);
        assert_eq!(human_number(12_345_678), "12M");
        assert_eq!([human_bytes(0), human_bytes(3 << 20)], ["0.00 KB", "3.00 MB"]);
    }
}

//! The document of `--json`: everything that a machine may want to know of a run.

use crate::engine::Stats;
use crate::flags::{Settings, TABLE};
use crate::report::header::Cpu;
use crate::report::memory;
use crate::report::result::Outcome;
use serde_json::{Map, Value, json};

/// Collects the document while a run goes on.
pub(crate) struct Document {
    benchmarks: Vec<Value>,
}

impl Document {
    /// An empty one.
    pub(crate) fn new() -> Document {
        Document { benchmarks: Vec::new() }
    }

    /// Adds the result of one run of a benchmark.
    pub(crate) fn add(
        &mut self,
        name: &str,
        run: u32,
        warmup: bool,
        threads: usize,
        outcome: &Outcome,
    ) {
        let mut latencies = Map::new();
        for (kind, recorded) in &outcome.latencies {
            if let Some(all) = &recorded.percentiles {
                let at = |percent| all.value_at_percentile(percent);
                latencies.insert(
                    kind.word().to_owned(),
                    json!({
                        "count": all.len(), "min": all.min(), "mean": all.mean(), "stddev": all.stdev(),
                        "p50": at(50.0), "p75": at(75.0), "p90": at(90.0), "p95": at(95.0), "p99": at(99.0),
                        "p99.9": at(99.9), "p99.99": at(99.99), "max": all.max(),
                    }),
                );
            }
        }
        self.benchmarks.push(json!({
            "name": name,
            "run": run,
            "warmup": warmup,
            "threads": threads,
            "operations": outcome.operations,
            "bytes": outcome.bytes,
            "elapsed_seconds": outcome.elapsed_seconds,
            "thread_seconds": outcome.thread_seconds,
            "ops_per_second": outcome.operations_per_second(),
            "mb_per_second": outcome.megabytes_per_second(),
            "micros_per_op": outcome.micros_per_operation(),
            "message": outcome.message.trim(),
            "latency_nanos": latencies,
        }));
    }

    /// Adds the result of a check.
    pub(crate) fn add_check(&mut self, name: &str, seconds: f64, figures: Value) {
        self.benchmarks
            .push(json!({ "name": name, "elapsed_seconds": seconds, "figures": figures }));
    }

    /// The whole document.
    pub(crate) fn finish(self, settings: &Settings, date: &str, stats: &Stats) -> Value {
        let flags: Map<String, Value> = TABLE
            .iter()
            .map(|flag| {
                let text = settings.flags.text(flag.name).unwrap_or_default();
                (flag.name.to_owned(), Value::String(text))
            })
            .collect();
        let cpu = Cpu::read();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        json!({
            "program": "db_bench",
            "engine": "treering",
            "version": env!("CARGO_PKG_VERSION"),
            "date": date,
            "seed": settings.seed,
            "directory": settings.directory.to_string_lossy(),
            "flags": flags,
            "notes": settings.notes,
            "machine": {
                "cpus": cpu.count, "cpu_model": cpu.model, "cpu_cache": cpu.cache, "kernel": kernel.trim(),
                "optimized": !cfg!(debug_assertions),
            },
            "benchmarks": self.benchmarks,
            "memory": {
                "peak_resident_bytes": memory::peak_resident_bytes(),
                "limit_bytes": settings.tuning.memory_limit,
            },
            "stats": stats_value(stats),
        })
    }
}

fn stats_value(stats: &Stats) -> Value {
    let keyspaces: Vec<Value> = stats
        .keyspaces
        .iter()
        .map(|keyspace| {
            let levels: Vec<Value> = keyspace
                .levels
                .iter()
                .map(|level| {
                    json!({
                        "level": level.level, "files": level.files, "bytes": level.bytes, "score": level.score,
                        "compactions": level.compactions, "read_bytes_upper": level.read_bytes_upper,
                        "read_bytes_lower": level.read_bytes_lower, "write_bytes": level.write_bytes,
                        "moved_bytes": level.moved_bytes, "seconds": level.time.as_secs_f64(),
                        "keys_in": level.keys_in,
                        "keys_dropped": level.keys_dropped,
                    })
                })
                .collect();
            json!({ "name": keyspace.name, "levels": levels })
        })
        .collect();
    json!({
        "io_backend": stats.io_backend,
        "uptime_seconds": stats.uptime.as_secs_f64(),
        "keys_written": stats.keys_written,
        "debt_bytes": stats.debt_bytes,
        "user_bytes_written": stats.user_bytes_written,
        "wal_bytes": stats.wal_bytes,
        "wal_syncs": stats.wal_syncs,
        "flush_bytes": stats.flush_bytes,
        "flush_count": stats.flush_count,
        "compaction_read_bytes": stats.compaction_read_bytes,
        "compaction_write_bytes": stats.compaction_write_bytes,
        "compaction_count": stats.compaction_count,
        "stall_seconds": stats.stall.as_secs_f64(),
        "stall_count": stats.stall_count,
        "block_cache_hits": stats.block_cache_hits,
        "block_cache_misses": stats.block_cache_misses,
        "block_cache_bytes": stats.block_cache_bytes,
        "memtable_bytes": stats.memtable_bytes,
        "table_metadata_bytes": stats.table_metadata_bytes,
        "memory_limit": stats.memory_limit,
        "memory_used": stats.memory_used,
        "snapshot_count": stats.snapshot_count,
        "keyspaces": keyspaces,
    })
}

//! What the threads of a benchmark do.
//!
//! A workload takes its operations from a stream of `generate`, makes them against the engine and counts them; nothing
//! else happens between two operations.

mod compute;
mod mixed;
mod read;
mod seek;
mod write;

pub(crate) use write::order;

use crate::engine::{Engine, Failure, Writes};
use crate::flags::Settings;
use crate::generate::mersenne::Mersenne64;
use crate::generate::stream::ReadDraws;
use crate::generate::value::{ValueBuffer, ValueSize, ValueStream};
use crate::list::Sizes;
use crate::rate::{Limit, RateLimit};
use crate::report::thread_stats::ThreadStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What the threads of one run share. Read-mostly: no operation writes to it.
pub(crate) struct Shared {
    /// Threads of the foreground that still run.
    pub(crate) foreground: AtomicUsize,
    /// A thread failed; the others stop.
    pub(crate) stop: AtomicBool,
    pub(crate) read_rate: Option<RateLimit>,
    pub(crate) write_rate: Option<RateLimit>,
}

/// Everything that a workload needs beside its thread's own state.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) engine: &'a Engine,
    pub(crate) sizes: Sizes,
    pub(crate) writes: Writes,
    pub(crate) buffer: Arc<ValueBuffer>,
    pub(crate) shared: &'a Shared,
}

impl Context<'_> {
    /// The lengths of values of this benchmark.
    pub(crate) fn value_size(&self) -> ValueSize {
        value_size(self.settings, &self.sizes)
    }

    fn limit(&self, operations: u64) -> Limit<'_> {
        self.limit_for(self.settings.flags.duration as u64, operations)
    }

    fn limit_for(&self, seconds: u64, operations: u64) -> Limit<'_> {
        let every = self.settings.flags.ops_between_duration_checks as u64;
        Limit::new(seconds, operations, every, &self.shared.stop)
    }
}

/// The lengths of values of a benchmark.
pub(crate) fn value_size(settings: &Settings, sizes: &Sizes) -> ValueSize {
    match (settings.value_size, sizes.value_size) {
        (ValueSize::Fixed(_), Some(size)) => ValueSize::Fixed(size),
        (size, _) => size,
    }
}

/// A thread of a run.
pub(crate) struct Worker<'a> {
    /// 0 is the background thread where there is one.
    pub(crate) id: usize,
    /// Seed of this thread: the seed of the run plus the number of the thread, counted over all benchmarks.
    pub(crate) seed: u64,
    pub(crate) stats: ThreadStats<'a>,
}

impl Worker<'_> {
    fn random(&self) -> Mersenne64 {
        Mersenne64::new(self.seed)
    }

    fn values(&self, context: &Context<'_>) -> ValueStream {
        ValueStream::new(Arc::clone(&context.buffer), context.value_size(), self.seed)
    }

    fn draws(&self, context: &Context<'_>) -> ReadDraws {
        let flags = &context.settings.flags;
        ReadDraws::new(self.random(), flags.num as u64, flags.read_random_exp_range)
    }
}

/// Runs the part of one thread in benchmark `name`.
///
/// # Errors
/// The engine's error, as one line.
pub(crate) fn run(
    name: &str,
    context: &Context<'_>,
    worker: &mut Worker<'_>,
) -> Result<(), Failure> {
    let in_background = worker.id == 0;
    match name {
        "fillseq" | "fillbatch" | "fillrandom" | "fillsync" | "fill100K" | "overwrite"
        | "filluniquerandom" => write::fill(name, context, worker),
        "deleteseq" => write::delete(context, worker, None),
        "deleterandom" => write::delete(context, worker, Some(context.settings.flags.num as u64)),
        "readseq" | "readtocache" => read::scan(context, worker, true),
        "readreverse" => read::scan(context, worker, false),
        "readrandom" | "readmissing" => read::random(context, worker),
        "multireadrandom" => read::multi(context, worker),
        "readwhilewriting" | "seekrandomwhilewriting" if in_background => {
            write::background(context, worker)
        }
        "readwhilescanning" if in_background => read::background_scan(context, worker),
        "readwhilewriting" | "readwhilescanning" => read::random(context, worker),
        "seekrandom" | "seekrandomwhilewriting" => seek::random(context, worker),
        "newiterator" => seek::create(context, worker),
        "readrandomwriterandom" => mixed::read_write(context, worker),
        "updaterandom" => mixed::update(context, worker),
        "mixgraph" => mixed::graph(context, worker),
        "compact" => context.engine.compact(),
        "crc32c" => compute::checksum(context, worker),
        "compress" => compute::compress(context, worker),
        "uncompress" => compute::uncompress(context, worker),
        _ => Err(format!("benchmark {name} has no workload")),
    }
}

impl Shared {
    fn has_foreground(&self) -> bool {
        self.foreground.load(Ordering::Relaxed) > 0
    }
}

//! Reads and writes in one thread.

use crate::engine::{Failure, ReadOptions, say};
use crate::generate::mersenne::Mersenne64;
use crate::generate::mixgraph::{MixOperation, MixStream};
use crate::generate::stream::{KeyOrder, ReadWriteStream, WriteStream};
use crate::report::thread_stats::Operation;
use crate::workload::{Context, Worker};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Operations of mixgraph that are asked of a rate limit at once.
const RATE_CHUNK: u64 = 100;

/// Gets and puts of random keys in rounds of one hundred.
pub(super) fn read_write(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let percent = flags.readwritepercent as u64;
    let values = worker.values(context);
    let mut stream = ReadWriteStream::new(worker.random(), flags.num as u64, values, percent);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let (mut reads, mut writes, mut found) = (0u64, 0u64, 0u64);
    let mut limit = context.limit(sizes.read_writes);
    while !limit.is_over(1) {
        let (number, place) = stream.next();
        format.write(number, &mut key);
        match place {
            None => {
                found += u64::from(context.engine.get(&key)?.is_some());
                reads += 1;
                worker.stats.finished(1, Operation::Read);
            }
            Some(place) => {
                context.engine.put(&key, stream.values.at(place), &context.writes)?;
                writes += 1;
                worker.stats.wrote(1);
                worker.stats.finished(1, Operation::Write);
            }
        }
    }
    let total = sizes.read_writes;
    worker
        .stats
        .add_message(&format!("( reads:{reads} writes:{writes} total:{total} found:{found})"));
    Ok(())
}

/// Gets a random key, then puts it.
pub(super) fn update(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let order = KeyOrder::Random(flags.num as u64);
    let values = worker.values(context);
    let mut stream = WriteStream::new(worker.random(), order, values, 1);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let mut found = 0u64;
    let mut limit = context.limit(sizes.read_writes);
    while !limit.is_over(1) {
        let (number, place) = stream.next();
        format.write(number, &mut key);
        let mut read_bytes = 0;
        if let Some(value) = context.engine.get(&key)? {
            found += 1;
            read_bytes = (key.len() + value.len()) as u64;
        }
        if let Some(rate) = &context.shared.write_rate {
            rate.take((key.len() + place.length) as u64);
        }
        context.engine.put(&key, stream.values.at(place), &context.writes)?;
        worker.stats.bytes += read_bytes + (key.len() + place.length) as u64;
        worker.stats.wrote(1);
        worker.stats.finished(1, Operation::Update);
    }
    let total = sizes.read_writes;
    worker.stats.add_message(&format!("( updates:{total} found:{found})"));
    Ok(())
}

/// Gets, puts and scans of the social graph.
pub(super) fn graph(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let values = worker.values(context);
    let mut stream = MixStream::new(worker.draws(context), values, context.settings.mix());
    let format = context.settings.key_format(context.sizes.key_size);
    let mut key = format.buffer();
    let mut counts = GraphCounts::default();
    let mut pace = Pace::new(context, worker);
    let mut limit = context.limit(context.sizes.reads);
    while !limit.is_over(1) {
        let operation = stream.next();
        pace.adjust(context, worker);
        match operation {
            MixOperation::Get { number } => {
                format.write(number, &mut key);
                counts.gets += 1;
                if let Some(value) = context.engine.get(&key)? {
                    counts.found += 1;
                    worker.stats.bytes += (key.len() + value.len()) as u64;
                }
                if let Some(rate) = &context.shared.read_rate
                    && (counts.gets + counts.seeks).is_multiple_of(RATE_CHUNK)
                {
                    rate.take(RATE_CHUNK);
                }
                worker.stats.finished(1, Operation::Read);
            }
            MixOperation::Put { number, value } => {
                format.write(number, &mut key);
                counts.puts += 1;
                counts.value_bytes += value.length as u64;
                context.engine.put(&key, stream.values.at(value), &context.writes)?;
                if let Some(rate) = &context.shared.write_rate
                    && counts.puts.is_multiple_of(RATE_CHUNK)
                {
                    rate.take(RATE_CHUNK);
                }
                worker.stats.wrote(1);
                worker.stats.finished(1, Operation::Write);
            }
            MixOperation::Seek { number, scan_length } => {
                format.write(number, &mut key);
                counts.seeks += 1;
                worker.stats.bytes += scan(context, &key, scan_length, &mut counts)?;
                worker.stats.finished(1, Operation::Seek);
            }
        }
    }
    worker.stats.add_message(&counts.message());
    Ok(())
}

#[derive(Default)]
struct GraphCounts {
    gets: u64,
    puts: u64,
    seeks: u64,
    found: u64,
    value_bytes: u64,
    scanned: u64,
}

impl GraphCounts {
    fn message(&self) -> String {
        let mean = |sum: u64, count: u64| if count == 0 { 0.0 } else { sum as f64 / count as f64 };
        format!(
            "( Gets:{} Puts:{} Seek:{}, reads {} in {} found, avg size: {:.1} value, {:.1} scan)\n",
            self.gets,
            self.puts,
            self.seeks,
            self.found,
            self.gets + self.seeks,
            mean(self.value_bytes, self.puts),
            mean(self.scanned, self.seeks),
        )
    }
}

fn scan(
    context: &Context<'_>,
    key: &[u8],
    length: u64,
    counts: &mut GraphCounts,
) -> Result<u64, Failure> {
    let mut cursor = context.engine.cursor(&ReadOptions::default())?;
    let mut is_valid = cursor.seek(key).map_err(say)?;
    if is_valid && cursor.key() == key {
        counts.found += 1;
    }
    let (mut bytes, mut steps) = (0, 0);
    while is_valid && steps < length {
        bytes += (cursor.key().len() + black_box(cursor.value()).len()) as u64;
        is_valid = cursor.next().map_err(say)?;
        steps += 1;
    }
    counts.scanned += steps;
    Ok(bytes)
}

/// Sets the rates of mixgraph along a sine.
struct Pace {
    last: Instant,
    random: Mersenne64,
}

impl Pace {
    fn new(context: &Context<'_>, worker: &Worker<'_>) -> Pace {
        let _ = context;
        Pace { last: Instant::now(), random: Mersenne64::new(!worker.seed) }
    }

    fn adjust(&mut self, context: &Context<'_>, worker: &Worker<'_>) {
        let Some(sine) = &context.settings.sine else { return };
        if self.last.elapsed() <= Duration::from_millis(sine.interval_ms) {
            return;
        }
        self.last = Instant::now();
        let [a, b, c, d] = sine.curve;
        let rate = a * (b * worker.stats.elapsed_seconds() + c).sin() + d;
        let unit = (self.random.next() >> 11) as f64 / (1u64 << 53) as f64;
        let rate = rate * (1.0 + sine.noise * (2.0 * unit - 1.0));
        let mix = context.settings.mix();
        let total = mix.get_ratio + mix.put_ratio + mix.seek_ratio;
        let shared = context.shared;
        if let Some(limit) = &shared.read_rate {
            limit.set(rate * (mix.get_ratio + mix.seek_ratio) / total);
        }
        if let Some(limit) = &shared.write_rate {
            limit.set(rate * mix.put_ratio / total);
        }
    }
}

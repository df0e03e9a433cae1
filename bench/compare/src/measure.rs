//! The child's part: runs one row on one engine in a process of its own, and says what came of it.

use crate::data::{KEY_BYTES, Random, Sink, Values, key_of, missing_key_of};
use crate::device;
use crate::engines::{self, Engine, Outcome};
use crate::machine;
use crate::row::{Deleted, Setting, Work};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// In rows of fast operations, one of so many is timed: reading the clock twice costs 50 ns.
const STRIDE: u64 = 16;
/// Longest time of a row that counts operations.
const COUNTED_MAX: Duration = Duration::from_secs(60);
/// Keys of the rows that seek to the first one.
const SEEK_FIRST_KEYS: u64 = 2_000_000;
/// Latencies above this are recorded as this.
const LATENCY_MAX_NANOS: u64 = 60_000_000_000;

/// What a child is told.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Order {
    pub(crate) engine: String,
    pub(crate) setting: Setting,
    pub(crate) work: Work,
    pub(crate) threads: usize,
    pub(crate) directory: PathBuf,
    pub(crate) keys: u64,
    pub(crate) secs: f64,
    pub(crate) seed: u64,
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
    pub(crate) p9999: u64,
    pub(crate) max: u64,
    /// One of so many operations was timed.
    pub(crate) stride: u64,
}

/// What one run of a row gave.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Measurement {
    pub(crate) ops: u64,
    pub(crate) secs: f64,
    pub(crate) found: u64,
    /// Writes of the thread beside the readers.
    pub(crate) writes_beside: u64,
    pub(crate) latency: Latency,
    pub(crate) cpu_secs: f64,
    /// Bytes that the process had the system write during the row, and bytes of keys and values that it was given.
    pub(crate) written_bytes: u64,
    pub(crate) user_bytes: u64,
    /// Bytes of the files after closing, and of the keys and values in them; only where both are measured.
    pub(crate) disk_bytes: u64,
    pub(crate) live_bytes: u64,
    pub(crate) rss_bytes: u64,
}

impl Measurement {
    pub(crate) fn ops_per_sec(&self) -> f64 {
        self.ops as f64 / self.secs.max(1e-9)
    }
}

/// What one thread has done.
struct Part {
    ops: u64,
    found: u64,
    latency: Histogram<u64>,
    stride: u64,
    sink: Sink,
}

impl Part {
    fn new(stride: u64) -> Part {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NANOS, 3);
        Part {
            ops: 0,
            found: 0,
            latency: latency.expect("the bounds and digits are legal"),
            stride,
            sink: Sink::default(),
        }
    }

    /// Runs an operation that counts as `count`, and times it if it is its turn.
    #[inline]
    fn run<T>(&mut self, count: u64, operation: impl FnOnce(&mut Sink) -> T) -> T {
        let turn = (self.ops / count.max(1)).is_multiple_of(self.stride);
        self.ops += count;
        if !turn {
            return operation(&mut self.sink);
        }
        let started = Instant::now();
        let result = operation(&mut self.sink);
        self.latency.saturating_record(started.elapsed().as_nanos() as u64);
        result
    }
}

/// Carries an order out.
///
/// # Errors
/// The first error of the engine, or of the system.
pub(crate) fn carry_out(order: &Order) -> Outcome<Measurement> {
    match order.work {
        Work::DeviceRead { depth } => return device::reads(&order.directory, depth, order.secs),
        Work::DeviceSync => return device::syncs(&order.directory, order.secs),
        _ => {}
    }
    let engine = engines::open(&order.engine, &order.directory, order.setting)?;
    prepare(&*engine, order)?;
    let written_before = machine::written_bytes();
    let cpu_before = machine::cpu_secs();
    let started = Instant::now();
    let stop = AtomicBool::new(false);
    let beside = AtomicU64::new(0);
    let (parts, secs) = std::thread::scope(|scope| {
        let writer = (order.work == Work::ReadWhileWriting)
            .then(|| scope.spawn(|| write_beside(&*engine, order, &stop, &beside)));
        let engine = &*engine;
        let threads: Vec<_> = (0..order.threads)
            .map(|thread| scope.spawn(move || run(engine, order, thread)))
            .collect();
        let parts: Vec<Outcome<Part>> = threads.into_iter().map(join).collect();
        let secs = started.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let wrote = writer.map_or(Ok(()), join);
        let parts: Outcome<Vec<Part>> = parts.into_iter().collect();
        wrote.and(parts).map(|parts| (parts, secs))
    })?;
    let mut result = gather(parts, secs);
    result.cpu_secs = machine::cpu_secs() - cpu_before;
    result.writes_beside = beside.load(Ordering::Relaxed);
    let entry_bytes = (KEY_BYTES + order.setting.value_bytes()) as u64;
    if matches!(
        order.work,
        Work::Fill { .. }
            | Work::Overwrite
            | Work::OverwriteLong
            | Work::OverwriteSteady { .. }
            | Work::OverwriteSync
    ) {
        result.user_bytes = result.ops * entry_bytes;
    }
    result.rss_bytes = machine::peak_rss_bytes();
    let is_long = order.work == Work::OverwriteLong;
    if is_long {
        engine.settle()?;
    }
    result.written_bytes = machine::written_bytes() - written_before;
    if is_long {
        result.rss_bytes = machine::peak_rss_bytes();
        let mut sink = Sink::default();
        result.live_bytes = engine.scan(false, &mut sink, &mut || true)? * entry_bytes;
        sink.close();
    }
    if order.work == Work::Load {
        engine.settle()?;
    }
    engine.close()?;
    if is_long {
        result.disk_bytes = machine::allocated_bytes(&order.directory);
    }
    Ok(result)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
}

fn gather(parts: Vec<Part>, secs: f64) -> Measurement {
    let mut result = Measurement { secs, ..Measurement::default() };
    let mut all = Part::new(1).latency;
    for part in parts {
        result.ops += part.ops;
        result.found += part.found;
        result.latency.stride = part.stride;
        // Same bounds, so nothing is refused.
        let _ = all.add(&part.latency);
        part.sink.close();
    }
    let at = |quantile: f64| all.value_at_quantile(quantile);
    result.latency = Latency {
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: all.max(),
        stride: result.latency.stride,
    };
    result
}

/// What comes before the clock starts.
fn prepare(engine: &dyn Engine, order: &Order) -> Outcome<()> {
    let mut sink = Sink::default();
    match order.work {
        Work::OverwriteLong => {
            let load = Order { work: Work::Load, ..order.clone() };
            run(engine, &load, 0)?;
        }
        Work::Overwrite | Work::OverwriteSteady { .. } => {}
        Work::SeekFirst { deleted } => delete_half(engine, order, deleted)?,
        _ if !order.work.needs_data() => {}
        _ if order.setting == Setting::Cold => {
            // Opens the tables.
            let mut random = Random::new(order.seed ^ 0xc01d);
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                engine.get(&key_of(random.below(order.keys)), &mut sink)?;
            }
        }
        _ => {
            // Everything into the cache, as far as it goes.
            engine.scan(false, &mut sink, &mut || true)?;
            let mut random = Random::new(order.seed ^ 0xaa);
            for _ in 0..order.keys / 5 {
                engine.get(&key_of(random.below(order.keys)), &mut sink)?;
            }
        }
    }
    sink.close();
    Ok(())
}

/// Fills the keys in order and deletes the first half of them.
fn delete_half(engine: &dyn Engine, order: &Order, deleted: Deleted) -> Outcome<()> {
    let mut values = Values::new(order.setting.value_bytes());
    for number in 0..SEEK_FIRST_KEYS {
        engine.put(&key_of(number), values.next(), false)?;
    }
    engine.settle()?;
    let half = SEEK_FIRST_KEYS / 2;
    match deleted {
        Deleted::No => {}
        Deleted::ByRange => engine.delete_range(&key_of(0), &key_of(half))?,
        Deleted::Singly | Deleted::SinglyAndSettled => {
            (0..half).try_for_each(|number| engine.delete(&key_of(number)))?;
        }
    }
    if deleted == Deleted::SinglyAndSettled {
        engine.settle()?;
    }
    Ok(())
}

fn write_beside(
    engine: &dyn Engine,
    order: &Order,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> Outcome<()> {
    let mut random = Random::new(order.seed ^ 0x77);
    let mut values = Values::new(order.setting.value_bytes());
    while !stop.load(Ordering::Relaxed) {
        engine.put(&key_of(random.below(order.keys)), values.next(), false)?;
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// What one thread does while the clock runs.
fn run(engine: &dyn Engine, order: &Order, thread: usize) -> Outcome<Part> {
    let each = order.setting == Setting::Cold
        || matches!(
            order.work,
            Work::OverwriteLong
                | Work::OverwriteSteady { .. }
                | Work::OverwriteSync
                | Work::MultiRead { .. }
        );
    let mut part = Part::new(if each { 1 } else { STRIDE });
    let mut random = Random::new(order.seed + 1 + thread as u64);
    let mut values = Values::new(order.setting.value_bytes());
    let started = Instant::now();
    let time = Duration::from_secs_f64(order.secs);
    let keys = order.keys;
    match order.work {
        Work::Load | Work::Fill { .. } | Work::Overwrite => {
            let share = keys / order.threads as u64;
            let in_order = order.work == Work::Fill { in_order: true };
            let time_max = if order.work == Work::Load { Duration::MAX } else { COUNTED_MAX };
            for number in 0..share {
                let number = if in_order { number } else { random.below(keys) };
                let value = values.next();
                part.run(1, |_| engine.put(&key_of(number), value, false))?;
                if part.ops.is_multiple_of(4096) && started.elapsed() > time_max {
                    break;
                }
            }
        }
        Work::OverwriteLong | Work::OverwriteSync => {
            let sync = order.work == Work::OverwriteSync;
            while sync || !part.ops.is_multiple_of(32) || started.elapsed() < time {
                let number = random.below(keys);
                let value = values.next();
                part.run(1, |_| engine.put(&key_of(number), value, sync))?;
                if sync && started.elapsed() >= time {
                    break;
                }
            }
        }
        Work::OverwriteSteady { per_sec } => {
            let gap = Duration::from_nanos(1_000_000_000 / per_sec);
            let mut due = started;
            while due < started + time {
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                engine.put(&key_of(random.below(keys)), values.next(), false)?;
                // From when it was due: whoever makes the next one late pays for that too.
                part.latency.saturating_record(due.elapsed().as_nanos() as u64);
                part.ops += 1;
                due += gap;
            }
        }
        Work::ReadRandom | Work::ReadMissing | Work::ReadWhileWriting => {
            let missing = order.work == Work::ReadMissing;
            while !part.ops.is_multiple_of(32) || started.elapsed() < time {
                let number = random.below(keys);
                let key = if missing { missing_key_of(number) } else { key_of(number) };
                let found = part.run(1, |sink| engine.get(&key, sink))?;
                part.found += u64::from(found);
            }
        }
        Work::MultiRead { keys: count } => {
            while started.elapsed() < time {
                let list: Vec<_> = (0..count).map(|_| key_of(random.below(keys))).collect();
                let list: Vec<&[u8]> = list.iter().map(|key| &key[..]).collect();
                part.found += part.run(count as u64, |sink| engine.multi_get(&list, sink))?;
            }
        }
        Work::ReadAsync { in_flight } => {
            let mut next = || (started.elapsed() < time).then(|| key_of(random.below(keys)));
            (part.ops, part.found) = engine.read_async(in_flight, &mut next, &mut part.sink)?;
        }
        Work::Seek { nexts } => {
            while started.elapsed() < time {
                let key = key_of(random.below(keys));
                part.found += part.run(1, |sink| engine.seek(&key, nexts, sink))?;
            }
        }
        Work::SeekFirst { .. } => {
            while started.elapsed() < time {
                part.found += part.run(1, |sink| engine.seek(&[0], 0, sink))?;
            }
        }
        Work::Scan { backwards } => {
            while started.elapsed() < time {
                let mut go_on = || started.elapsed() < time;
                part.ops += engine.scan(backwards, &mut part.sink, &mut go_on)?;
            }
        }
        Work::DeviceRead { .. } | Work::DeviceSync => {}
    }
    Ok(part)
}

/// Runs an order in a child process.
///
/// # Errors
/// What the child said on its way out.
pub(crate) fn in_child(order: &Order) -> Outcome<Measurement> {
    let say = |error: std::io::Error| format!("the child process: {error}");
    let program = std::env::current_exe().map_err(say)?;
    let text = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let output =
        std::process::Command::new(program).args(["--child", &text]).output().map_err(say)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, told.trim()));
    }
    serde_json::from_str(printed.trim()).map_err(|error| format!("the child said: {error}"))
}

/// A directory for a measurement that nobody else needs.
pub(crate) fn remove(directory: &Path) {
    // What is left behind is found by whoever looks at the directory that they named.
    let _ = std::fs::remove_dir_all(directory);
}

//! What the device gives without any engine: the lines to hold the others against.

use crate::data::Random;
use crate::engines::Outcome;
use crate::measure::{Latency, Measurement};
use hdrhistogram::Histogram;
use io_uring::{IoUring, opcode, types};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of the file that is read.
const FILE_BYTES: u64 = 4 << 30;
const BLOCK_BYTES: usize = 4096;
/// Bytes of the file that is written with syncs.
const SYNC_FILE_BYTES: u64 = 64 << 20;

#[repr(align(4096))]
#[derive(Clone)]
struct Block([u8; BLOCK_BYTES]);

fn say(error: std::io::Error) -> String {
    format!("the device: {error}")
}

/// A file of random bytes, written once.
fn data_file(directory: &Path, name: &str, bytes: u64) -> Outcome<std::path::PathBuf> {
    std::fs::create_dir_all(directory).map_err(say)?;
    let path = directory.join(name);
    if std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
        return Ok(path);
    }
    let mut file = File::create(&path).map_err(say)?;
    let mut random = Random::new(7);
    let mut piece = vec![0; 1 << 20];
    for _ in 0..bytes >> 20 {
        piece.chunks_exact_mut(8).for_each(|word| {
            word.copy_from_slice(&random.next().to_le_bytes());
        });
        file.write_all(&piece).map_err(say)?;
    }
    file.sync_all().map_err(say)?;
    Ok(path)
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds and digits are legal")
}

fn measured(ops: u64, started: Instant, latency: &Histogram<u64>) -> Measurement {
    let at = |quantile: f64| latency.value_at_quantile(quantile);
    Measurement {
        ops,
        secs: started.elapsed().as_secs_f64(),
        latency: Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: latency.max(),
            stride: 1,
        },
        ..Measurement::default()
    }
}

/// Random reads of 4 KiB past the page cache, `depth` of them in flight, from one thread.
pub(crate) fn reads(directory: &Path, depth: usize, secs: f64) -> Outcome<Measurement> {
    let path = data_file(directory, "read.bin", FILE_BYTES)?;
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).map_err(say)?;
    let mut ring: IoUring =
        IoUring::builder().build((depth as u32).next_power_of_two()).map_err(say)?;
    let mut blocks = vec![Block([0; BLOCK_BYTES]); depth];
    let mut begun = vec![Instant::now(); depth];
    let mut random = Random::new(11);
    let mut latency = histogram();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(secs);
    let (mut ops, mut in_flight) = (0, 0);
    let mut free: Vec<usize> = (0..depth).collect();
    loop {
        let go_on = Instant::now() < until;
        while go_on && let Some(slot) = free.pop() {
            let offset = random.below(FILE_BYTES / BLOCK_BYTES as u64) * BLOCK_BYTES as u64;
            let target = blocks[slot].0.as_mut_ptr();
            let read = opcode::Read::new(types::Fd(file.as_raw_fd()), target, BLOCK_BYTES as u32)
                .offset(offset)
                .build()
                .user_data(slot as u64);
            begun[slot] = Instant::now();
            // SAFETY: the block lives until the ring is empty, and the slot is not reused before its completion.
            unsafe { ring.submission().push(&read) }.map_err(|error| error.to_string())?;
            in_flight += 1;
        }
        if in_flight == 0 {
            return Ok(measured(ops, started, &latency));
        }
        ring.submit_and_wait(1).map_err(say)?;
        for done in ring.completion() {
            if done.result() != BLOCK_BYTES as i32 {
                return Err(format!("the device: a read gave {}", done.result()));
            }
            let slot = done.user_data() as usize;
            latency.saturating_record(begun[slot].elapsed().as_nanos() as u64);
            free.push(slot);
            ops += 1;
            in_flight -= 1;
        }
    }
}

/// Writes of 4 KiB, each on the device before the next, into a file that has its blocks.
pub(crate) fn syncs(directory: &Path, secs: f64) -> Outcome<Measurement> {
    let path = data_file(directory, "sync.bin", SYNC_FILE_BYTES)?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
        .open(path)
        .map_err(say)?;
    let block = Block([7; BLOCK_BYTES]);
    let mut latency = histogram();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(secs);
    let mut ops = 0;
    while Instant::now() < until {
        let begun = Instant::now();
        let offset = ops * BLOCK_BYTES as u64 % SYNC_FILE_BYTES;
        file.write_all_at(&block.0, offset).map_err(say)?;
        latency.saturating_record(begun.elapsed().as_nanos() as u64);
        ops += 1;
    }
    Ok(measured(ops, started, &latency))
}

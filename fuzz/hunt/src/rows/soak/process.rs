//! What this process holds: resident memory and descriptors.
//!
//! Memory is sampled at the same point of every cycle, under load and with a full block cache. The first tenth of the samples
//! is warming up. Of the rest, the median of the first third is compared with that of the last: an allocator's
//! odd page moves neither, a leak moves the last one.

#![allow(clippy::disallowed_methods, reason = "asks the kernel")]

use crate::drive::{Failure, Tally};
use std::fs;

/// How much the memory may grow.
const GROWTH_PERCENT_MAX: u64 = 5;
/// Samples without which growth is not judged.
const SAMPLES_MIN: usize = 20;

/// Open descriptors.
pub(super) fn descriptors() -> Result<u64, Failure> {
    let entries = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    // The listing itself has one open.
    Ok(entries.count() as u64 - 1)
}

/// Resident memory over time.
#[derive(Debug, Default)]
pub(super) struct Memory {
    samples: Vec<u64>,
}

impl Memory {
    /// Takes a sample.
    pub(super) fn sample(&mut self) -> Result<(), Failure> {
        let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes = kilobytes.and_then(|text| text.parse().ok());
        self.samples.push(kilobytes.ok_or("no VmRSS in /proc/self/status")?);
        Ok(())
    }

    /// Notes where it stood first and last; with `judge`, it must not have grown.
    pub(super) fn end(&self, judge: bool, tally: &mut Tally) -> Result<(), Failure> {
        let warm = &self.samples[self.samples.len() / 10..];
        let third = warm.len().div_ceil(3);
        let first = median(&warm[..third]);
        let last = median(&warm[warm.len() - third..]);
        tally.note("rss_first_mb", first >> 10);
        tally.note("rss_last_mb", last >> 10);
        tally.note("rss_samples", self.samples.len() as u64);
        if judge && warm.len() >= SAMPLES_MIN && last * 100 > first * (100 + GROWTH_PERCENT_MAX) {
            return Err(format!("memory grew from {first} to {last} kB"));
        }
        Ok(())
    }
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

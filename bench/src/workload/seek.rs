//! Seeks with a new iterator each, and the making of iterators alone.

use crate::engine::{Failure, ReadOptions, say};
use crate::report::thread_stats::Operation;
use crate::workload::read::RATE_CHUNK;
use crate::workload::{Context, Worker};
use std::hint::black_box;

/// Bytes of a value that are copied out at each step, so that it is really read.
const COPIED_BYTES: usize = 256;

/// Seeks to random keys and steps on from there.
pub(super) fn random(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let mut draws = worker.draws(context);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let mut options = ReadOptions::default();
    let mut copy = [0; COPIED_BYTES];
    let (mut read, mut found) = (0, 0u64);
    let mut limit = context.limit(sizes.reads);
    while !limit.is_over(1) {
        let number = draws.even();
        format.write(number, &mut key);
        if flags.seek_missing_prefix {
            format.spoil_prefix(&mut key);
        }
        if flags.max_scan_distance > 0 {
            let distance = flags.max_scan_distance as u64;
            let mut bound = format.buffer();
            if flags.reverse_iterator {
                format.write(number.saturating_sub(distance), &mut bound);
                options.lower_bound = Some(bound);
            } else {
                format.write(number.saturating_add(distance).min(flags.num as u64), &mut bound);
                options.upper_bound = Some(bound);
            }
        }
        let mut cursor = context.engine.cursor(&options)?;
        let mut is_valid = cursor.seek(&key).map_err(say)?;
        read += 1;
        if is_valid && cursor.key() == key {
            found += 1;
        }
        for _ in 0..flags.seek_nexts {
            if !is_valid {
                break;
            }
            let value = cursor.value();
            let length = value.len().min(COPIED_BYTES);
            copy[..length].copy_from_slice(&value[..length]);
            black_box(&copy);
            worker.stats.bytes += (cursor.key().len() + value.len()) as u64;
            is_valid =
                if flags.reverse_iterator { cursor.prev() } else { cursor.next() }.map_err(say)?;
        }
        if let Some(rate) = &context.shared.read_rate
            && read % RATE_CHUNK == RATE_CHUNK - 1
        {
            rate.take(RATE_CHUNK);
        }
        worker.stats.finished(1, Operation::Seek);
    }
    worker.stats.add_message(&format!("({found} of {read} found)\n"));
    Ok(())
}

/// Makes iterators and drops them.
pub(super) fn create(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let options = ReadOptions::default();
    let mut limit = context.limit(context.sizes.reads);
    while !limit.is_over(1) {
        black_box(context.engine.cursor(&options)?);
        worker.stats.finished(1, Operation::Other);
    }
    Ok(())
}

//! Gets, requests of many keys, and scans.

use crate::engine::{Failure, ReadOptions, say};
use crate::report::thread_stats::Operation;
use crate::workload::{Context, Worker};

/// Operations that are asked of the rate limit at once.
pub(super) const RATE_CHUNK: u64 = 256;

/// Gets random keys.
pub(super) fn random(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let (num, stride) = (flags.num as u64, flags.multiread_stride as u64);
    let mut draws = worker.draws(context);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let (mut read, mut found) = (0, 0u64);
    let (mut number, mut in_stride) = (0, 0);
    let mut limit = context.limit(sizes.reads);
    while !limit.is_over(1) {
        draws.choose_database();
        if sizes.entries_per_batch > 1 && stride > 0 {
            in_stride += 1;
            if in_stride == sizes.entries_per_batch {
                in_stride = 0;
                number = stride_start(draws.number(), sizes.entries_per_batch, stride, num);
            } else {
                number += stride;
            }
        } else {
            number = draws.number();
        }
        format.write(number, &mut key);
        read += 1;
        if let Some(value) = context.engine.get(&key)? {
            found += 1;
            worker.stats.bytes += (key.len() + value.len()) as u64;
        }
        if let Some(rate) = &context.shared.read_rate
            && read % RATE_CHUNK == RATE_CHUNK - 1
        {
            rate.take(RATE_CHUNK);
        }
        worker.stats.finished(1, Operation::Read);
    }
    worker.stats.add_message(&format!("({found} of {read} found)\n"));
    Ok(())
}

fn stride_start(drawn: u64, entries: u64, stride: u64, num: u64) -> u64 {
    if drawn + (entries - 1) * stride >= num { num - entries * stride } else { drawn }
}

/// Gets random keys, a batch at once.
pub(super) fn multi(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let (num, stride) = (flags.num as u64, flags.multiread_stride as u64);
    let entries = sizes.entries_per_batch;
    let mut draws = worker.draws(context);
    let format = context.settings.key_format(sizes.key_size);
    let options = ReadOptions::default();
    let mut bytes_of_keys = vec![0; format.key_size * entries as usize];
    let (mut requests, mut found, mut bytes) = (0u64, 0u64, 0u64);
    let mut limit = context.limit(sizes.reads);
    while !limit.is_over(entries) {
        draws.choose_database();
        let keys = bytes_of_keys.chunks_exact_mut(format.key_size);
        if stride > 0 {
            let mut number = stride_start(draws.number(), entries, stride, num);
            for key in keys {
                format.write(number, key);
                number += stride;
            }
        } else {
            for key in keys {
                format.write(draws.number(), key);
            }
        }
        // One small allocation per request, as a caller of the engine would make it.
        let keys: Vec<&[u8]> = bytes_of_keys.chunks_exact(format.key_size).collect();
        context.engine.multi_get(&keys, &options, |key, value| {
            found += 1;
            bytes += (key.len() + value.len()) as u64;
        })?;
        requests += 1;
        if let Some(rate) = &context.shared.read_rate
            && requests % RATE_CHUNK == RATE_CHUNK - 1
        {
            rate.take(RATE_CHUNK * entries);
        }
        worker.stats.finished(entries, Operation::Read);
    }
    worker.stats.bytes += bytes;
    worker.stats.add_message(&format!("({found} of {} found)", requests * entries));
    Ok(())
}

/// Reads keys in order, from either end.
pub(super) fn scan(
    context: &Context<'_>,
    worker: &mut Worker<'_>,
    forward: bool,
) -> Result<(), Failure> {
    let mut cursor = context.engine.cursor(&ReadOptions::default())?;
    let first = if forward { cursor.seek_to_first() } else { cursor.seek_to_last() };
    let mut is_valid = first.map_err(say)?;
    let mut read = 0;
    while is_valid && read < context.sizes.reads {
        worker.stats.bytes += (cursor.key().len() + cursor.value().len()) as u64;
        is_valid = if forward { cursor.next() } else { cursor.prev() }.map_err(say)?;
        worker.stats.finished(1, Operation::Read);
        read += 1;
        if let Some(rate) = &context.shared.read_rate
            && read % 1024 == 1023
        {
            rate.take(1024);
        }
    }
    Ok(())
}

/// Scans the database over and over, as many steps as there are reads.
pub(super) fn background_scan(
    context: &Context<'_>,
    worker: &mut Worker<'_>,
) -> Result<(), Failure> {
    let mut cursor = context.engine.cursor(&ReadOptions::default())?;
    let mut is_valid = false;
    let mut limit = context.limit(context.sizes.reads);
    while !limit.is_over(1) {
        is_valid = if is_valid { cursor.next() } else { cursor.seek_to_first() }.map_err(say)?;
        worker.stats.finished(1, Operation::Seek);
    }
    Ok(())
}

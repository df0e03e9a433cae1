//! Fills, overwrites, deletes, and the writer in the background.

use crate::engine::{Failure, WriteBatch};
use crate::generate::shuffle::shuffled;
use crate::generate::stream::{DeleteStream, KeyOrder, WriteStream};
use crate::report::thread_stats::Operation;
use crate::workload::{Context, Worker};
use std::sync::Arc;

/// The order of keys of a fill or overwrite.
pub(crate) fn order(name: &str, num: u64, seed: u64) -> KeyOrder {
    match name {
        "fillseq" | "fillbatch" => KeyOrder::Sequential,
        // The flags were checked: there are no more keys than the shuffle takes.
        "filluniquerandom" => KeyOrder::Unique(Arc::new(shuffled(num as u32, seed))),
        _ => KeyOrder::Random(num),
    }
}

/// Writes in the order of the benchmark.
pub(super) fn fill(
    name: &str,
    context: &Context<'_>,
    worker: &mut Worker<'_>,
) -> Result<(), Failure> {
    let (sizes, flags) = (&context.sizes, &context.settings.flags);
    let order = order(name, sizes.num, context.settings.seed);
    let seconds = match order {
        KeyOrder::Random(_) => flags.duration as u64,
        KeyOrder::Sequential | KeyOrder::Unique(_) => 0,
    };
    if sizes.num != flags.num as u64 {
        worker.stats.add_message(&format!("({} ops)", sizes.num));
    }
    if sizes.num == 0 {
        return Ok(());
    }
    let entries = sizes.entries_per_batch;
    let values = worker.values(context);
    let mut stream = WriteStream::new(worker.random(), order, values, entries);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let mut batch = WriteBatch::new();
    let mut limit = context.limit_for(seconds, sizes.writes);
    while !limit.is_over(entries) {
        let mut bytes = 0;
        if entries == 1 {
            let (number, place) = stream.next();
            format.write(number, &mut key);
            bytes += (key.len() + place.length) as u64;
            pause(context, worker, bytes);
            context.engine.put(&key, stream.values.at(place), &context.writes)?;
        } else {
            batch.clear();
            for _ in 0..entries {
                let (number, place) = stream.next();
                format.write(number, &mut key);
                bytes += (key.len() + place.length) as u64;
                context.engine.batch_put(&mut batch, &key, stream.values.at(place))?;
            }
            pause(context, worker, bytes);
            context.engine.write(&batch, &context.writes)?;
        }
        worker.stats.bytes += bytes;
        worker.stats.wrote(entries);
        worker.stats.finished(entries, Operation::Write);
    }
    Ok(())
}

#[inline]
fn pause(context: &Context<'_>, worker: &mut Worker<'_>, bytes: u64) {
    if let Some(rate) = &context.shared.write_rate {
        rate.take(bytes);
        worker.stats.skip_pause();
    }
}

/// Deletes keys in order or drawn below `bound`.
pub(super) fn delete(
    context: &Context<'_>,
    worker: &mut Worker<'_>,
    bound: Option<u64>,
) -> Result<(), Failure> {
    let sizes = &context.sizes;
    let entries = sizes.entries_per_batch;
    let mut stream = DeleteStream::new(worker.random(), bound, entries);
    let format = context.settings.key_format(sizes.key_size);
    let mut key = format.buffer();
    let mut batch = WriteBatch::new();
    let seconds = if bound.is_some() { context.settings.flags.duration as u64 } else { 0 };
    let mut limit = context.limit_for(seconds, sizes.deletes);
    while !limit.is_over(entries) {
        if entries == 1 {
            format.write(stream.next(), &mut key);
            context.engine.delete(&key, &context.writes)?;
        } else {
            batch.clear();
            for _ in 0..entries {
                format.write(stream.next(), &mut key);
                context.engine.batch_delete(&mut batch, &key)?;
            }
            context.engine.write(&batch, &context.writes)?;
        }
        worker.stats.wrote(entries);
        worker.stats.finished(entries, Operation::Delete);
    }
    Ok(())
}

/// Writes random keys until the threads of the foreground are done; not part of the result.
pub(super) fn background(context: &Context<'_>, worker: &mut Worker<'_>) -> Result<(), Failure> {
    let flags = &context.settings.flags;
    worker.stats.excluded = true;
    let order = KeyOrder::Random(flags.num as u64);
    let values = worker.values(context);
    let mut stream = WriteStream::new(worker.random(), order, values, 1);
    let format = context.settings.key_format(context.sizes.key_size);
    let mut key = format.buffer();
    let mut written = 0;
    loop {
        let is_over = if flags.finish_after_writes {
            written == context.sizes.writes
        } else {
            !context.shared.has_foreground()
        };
        if is_over || context.shared.stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let (number, place) = stream.next();
        format.write(number, &mut key);
        context.engine.put(&key, stream.values.at(place), &context.writes)?;
        written += 1;
        let bytes = (key.len() + place.length) as u64;
        worker.stats.bytes += bytes;
        worker.stats.wrote(1);
        worker.stats.finished(1, Operation::Write);
        if let Some(rate) = &context.shared.write_rate {
            rate.take(bytes);
        }
    }
    Ok(())
}

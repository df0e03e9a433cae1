//! Moving data, measured: a checkpoint under full write load, the export of a range, and its ingest elsewhere, beside what the device writes.
//!
//! ```text
//! cargo run --release -p treering-bench --example moving -- [DIRECTORY] [MEBIBYTES] [VALUE_BYTES] [ROUNDS]
//! ```
//! Needs four times the space. Checks what it measures: the checkpoint must be a prefix of what was written, the target must hold what was exported.
#![allow(clippy::disallowed_methods, reason = "it measures real time on real files")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use treering_lsm::io::{AlignedBuffer, OpenMode, Operation, Request, choose};
use treering_lsm::{Db, IngestOptions, IoChoice, Options, ReadOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

const KEY_BYTES: usize = 16;
const MIB: f64 = (1 << 20) as f64;

fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Bytes that no codec makes smaller.
fn value(number: u64, out: &mut [u8]) {
    let mut state = number.wrapping_add(1);
    for chunk in out.chunks_mut(8) {
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (state >> 29);
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Seconds to write `bytes` zeros as the engine writes tables: past the page cache, 512 KiB requests, four in flight, one sync.
fn device(directory: &Path, bytes: u64) -> Outcome<f64> {
    const REQUEST_BYTES: usize = 512 << 10;
    let (disk, _) = choose(IoChoice::Auto)?;
    let path = directory.join("device.bin");
    let file = disk.open(&path, OpenMode::CREATE_DIRECT)?;
    let mut queue = disk.queue(4);
    let mut spare: Vec<_> = (0..4).map(|_| AlignedBuffer::zeroed(REQUEST_BYTES)).collect();
    let started = Instant::now();
    for request in 0..bytes.div_ceil(REQUEST_BYTES as u64) {
        let buffer = match spare.pop() {
            Some(buffer) => buffer,
            None => {
                let done = queue.wait().ok_or("a request is lost")?;
                done.result?;
                done.buffer
            }
        };
        let (file, offset) = (std::sync::Arc::clone(&file), request * REQUEST_BYTES as u64);
        queue.push(Request { token: offset, file, operation: Operation::Write, offset, buffer });
        queue.submit();
    }
    while let Some(done) = queue.wait() {
        done.result?;
    }
    file.sync_data()?;
    let seconds = started.elapsed().as_secs_f64();
    drop(queue);
    disk.remove(&path)?;
    Ok(seconds)
}

/// A checkpoint while one thread writes as fast as it can; how long it took, and how many tables it linked.
fn checkpoint(db: &Db, copy: &Path, entries: u64, value_bytes: usize) -> Outcome<(Duration, u64)> {
    let (written, done) = (AtomicU64::new(entries), AtomicBool::new(false));
    let (took, sequence) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| -> treering_lsm::Result<()> {
            let mut bytes = vec![0; value_bytes];
            while !done.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                value(number, &mut bytes);
                db.put(&key(number), &bytes)?;
                written.store(number + 1, Ordering::SeqCst);
            }
            Ok(())
        });
        // Once it is in its stride.
        std::thread::sleep(Duration::from_millis(500));
        let before = written.load(Ordering::SeqCst);
        let started = Instant::now();
        let sequence = db.checkpoint(copy);
        let took = started.elapsed();
        done.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| "the writer panicked")??;
        Ok::<_, Box<dyn Error>>((took, (before, sequence?)))
    })?;
    let (before, _sequence) = sequence;
    let copy_db = Db::open(copy, options())?;
    copy_db.verify()?;
    let mut count = 0u64;
    let scan = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    let mut cursor = copy_db.default_keyspace().cursor(&scan)?;
    let mut is_entry = cursor.seek_to_first()?;
    while is_entry {
        if cursor.key() != key(count) {
            return Err(format!("the checkpoint has a hole before entry {count}").into());
        }
        count += 1;
        is_entry = cursor.next()?;
    }
    if count < before {
        return Err(
            format!("the checkpoint holds {count} entries, {before} were acknowledged").into()
        );
    }
    let files = copy_db.stats().keyspaces.iter().flat_map(|k| &k.levels).map(|l| l.files).sum();
    copy_db.close()?;
    Ok((took, files))
}

fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 512 << 20;
    options.write_buffer_bytes = Some(64 << 20);
    options
}

/// Seconds of an ingest into a new database, which is checked and removed.
fn ingest(
    directory: &Path,
    files: &[PathBuf],
    entries: u64,
    choice: IngestOptions,
) -> Outcome<f64> {
    let path = directory.join("target");
    let target = Db::open(&path, options())?;
    let started = Instant::now();
    target.default_keyspace().ingest(files, &choice)?;
    let seconds = started.elapsed().as_secs_f64();
    let found = target.default_keyspace().estimate(..)?;
    if found.entries != entries {
        return Err(format!("the target holds {} entries of {entries}", found.entries).into());
    }
    target.close()?;
    Db::destroy(&path)?;
    std::fs::remove_dir(&path)?;
    Ok(seconds)
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let home = arguments
        .next()
        .map_or_else(|| std::env::temp_dir().join("treering-moving"), PathBuf::from);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (mebibytes, value_bytes, rounds) = (number(1024)?, number(100)? as usize, number(3)?);
    std::fs::create_dir_all(&home)?;
    let directory = tempfile::tempdir_in(&home)?;
    let directory = directory.path();
    let mut entries = (mebibytes << 20) / (KEY_BYTES + value_bytes) as u64;

    eprintln!(
        "filling {entries} entries of {KEY_BYTES} + {value_bytes} bytes, which no codec makes smaller"
    );
    let db = Db::open(directory.join("source"), options())?;
    let mut bytes = vec![0; value_bytes];
    for number in 0..entries {
        value(number, &mut bytes);
        db.put(&key(number), &bytes)?;
    }
    let (took, tables) = checkpoint(&db, &directory.join("copy"), entries, value_bytes)?;
    println!(
        "checkpoint under full write load: {:.3} s, {tables} tables linked, none copied",
        took.as_secs_f64()
    );
    Db::destroy(directory.join("copy"))?;
    db.default_keyspace().delete_range(&key(entries)[..]..)?;
    db.wait_for_compactions()?;

    println!(
        "{:>5} {:>9} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "round", "MiB", "device", "export", "link", "link, blind", "copy"
    );
    for round in 1..=rounds {
        let write_seconds = device(directory, mebibytes << 20)?;
        let started = Instant::now();
        let files =
            db.default_keyspace().export(.., directory.join("files"), &ReadOptions::default())?;
        let export_seconds = started.elapsed().as_secs_f64();
        let paths: Vec<PathBuf> = files.iter().map(|file| file.path.clone()).collect();
        let size = files.iter().map(|file| file.bytes).sum::<u64>() as f64 / MIB;
        entries = files.iter().map(|file| file.entries).sum();
        let mut seconds = Vec::new();
        for (verify, copy) in [(true, false), (false, false), (true, true)] {
            let mut choice = IngestOptions::default();
            (choice.verify, choice.copy) = (verify, copy);
            seconds.push(ingest(directory, &paths, entries, choice)?);
        }
        let rate = |seconds: f64, mib: f64| format!("{:.0} MiB/s", mib / seconds);
        println!(
            "{round:>5} {size:>9.0} {:>12} {:>12} {:>12} {:>12} {:>12}",
            rate(write_seconds, mebibytes as f64),
            rate(export_seconds, size),
            rate(seconds[0], size),
            rate(seconds[1], size),
            rate(seconds[2], size)
        );
        paths.iter().try_for_each(std::fs::remove_file)?;
    }
    Ok(())
}

//! A queue of jobs that several workers share: each job is done once, whatever happens to a worker or to the machine.
//!
//! ```text
//! jobs/     number, big-endian  →  job        waiting, oldest first
//! done/     number, big-endian  →  result     what came of it
//! ```
//!
//! Taking a job and storing its result is one optimistic transaction: two workers that take the same job conflict, the second one
//! looks again. After a crash a job is waiting or done, never lost and never both.
//!
//! Run with `cargo run --release -p treering-lsm --example queue [DIRECTORY]`.

use std::sync::atomic::{AtomicU64, Ordering};
use treering_lsm::{Db, Error, Isolation, Keyspace, Options, Result, WriteOptions};

const JOBS: u64 = 2000;
const WORKERS: u64 = 4;

/// Puts a job at the end of the queue and returns its number.
fn push(db: &Db, jobs: &Keyspace, job: &[u8]) -> Result<u64> {
    loop {
        let mut transaction = db.transaction(Isolation::Snapshot);
        let last = transaction.get_for_update(db.default_keyspace(), b"last job")?;
        let last = last.and_then(|value| value[..].try_into().ok()).map_or(0, u64::from_be_bytes);
        let number = last + 1;
        transaction.put(db.default_keyspace(), b"last job", &number.to_be_bytes())?;
        transaction.put(jobs, &number.to_be_bytes(), job)?;
        match transaction.commit(&WriteOptions::default()) {
            Err(Error::Conflict { .. }) => continue,
            other => return other.map(|()| number),
        }
    }
}

/// Does one job, if there is one: `Some(true)`, or `Some(false)` if another worker was faster.
fn work_once(db: &Db, jobs: &Keyspace, done: &Keyspace, offset: u64) -> Result<Option<bool>> {
    // Each worker looks at another place first, so that they seldom want the same job.
    let from = offset.to_be_bytes();
    let ahead = jobs.range(&from[..].., &Default::default())?.next();
    let first = match ahead {
        Some(entry) => Some(entry),
        None => jobs.range(.., &Default::default())?.next(),
    };
    let Some(entry) = first else { return Ok(None) };
    let (number, _) = entry?;
    let mut transaction = db.transaction(Isolation::Snapshot);
    let Some(job) = transaction.get_for_update(jobs, &number)? else { return Ok(Some(false)) };
    let result = format!("{} bytes, {}", job.len(), String::from_utf8_lossy(&job).to_uppercase());
    transaction.delete(jobs, &number)?;
    transaction.put(done, &number, result.as_bytes())?;
    match transaction.commit(&WriteOptions::default()) {
        Ok(()) => Ok(Some(true)),
        Err(Error::Conflict { .. }) => Ok(Some(false)),
        Err(error) => Err(error),
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| temporary.path().into());
    let db = Db::open(directory, Options::default())?;
    let keyspace = |name| db.open_or_create_keyspace(name, Default::default());
    let (jobs, done) = (keyspace("jobs")?, keyspace("done")?);
    let mut last = 0;
    for number in 0..JOBS {
        last = push(&db, &jobs, format!("saw log {number}").as_bytes())?;
    }
    let (finished, collisions) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (db, jobs, done) = (&db, &jobs, &done);
                let (finished, collisions) = (&finished, &collisions);
                let offset = last.saturating_sub(JOBS) + 1 + worker * JOBS / WORKERS;
                scope.spawn(move || -> Result<()> {
                    while let Some(mine) = work_once(db, jobs, done, offset)? {
                        let count = if mine { finished } else { collisions };
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    println!(
        "{} jobs done by {WORKERS} workers, {} times another was faster; {} results in all",
        finished.into_inner(),
        collisions.into_inner(),
        done.range(.., &Default::default())?.count(),
    );
    db.close()?;
    Ok(())
}

//! A counter service: page views by page and day, counted by many threads at once without a read or a lock.
//!
//! `cargo run --release -p treering-lsm --example counter`

use std::error::Error;
use std::thread;
use treering_lsm::{Counter, Db, KeyspaceOptions, Options, ReadOptions, WriteBatch, WriteOptions};

const THREADS: u64 = 4;
const VIEWS: u64 = 50_000;
const PAGES: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("treering-counter-{}", std::process::id()));
    let db = Db::open(&directory, Options::default())?;
    let mut options = KeyspaceOptions::default();
    options.merge_operator = Some(Counter::NAME.to_owned());
    let views = db.create_keyspace("views", options)?;

    thread::scope(|scope| {
        let counting: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (db, views) = (&db, &views);
                scope.spawn(move || -> treering_lsm::Result<()> {
                    for view in 0..VIEWS {
                        // Some pages are seen more often than others.
                        let page = (view * 7 + thread) % PAGES * (view % 3) / 2;
                        // Both counts or none, also when the power goes in between.
                        let mut batch = WriteBatch::new();
                        batch.merge(
                            views,
                            format!("page/{page:03}").as_bytes(),
                            &Counter::add(1),
                        )?;
                        batch.merge(views, b"total", &Counter::add(1))?;
                        db.write(&batch, &WriteOptions::default())?;
                    }
                    Ok(())
                })
            })
            .collect();
        counting.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    println!("{} views counted by {THREADS} threads", THREADS * VIEWS);

    let total = views.get(b"total")?.and_then(|value| Counter::value(&value));
    assert_eq!(total, Some((THREADS * VIEWS) as i64));
    let mut pages = Vec::new();
    for entry in views.prefix(b"page/", &ReadOptions::default())? {
        let (page, value) = entry?;
        pages.push((Counter::value(&value).unwrap_or(0), page));
    }
    pages.sort_by(|a, b| b.cmp(a));
    println!("the most seen of {} pages:", pages.len());
    for (count, page) in pages.iter().take(5) {
        println!("  {:10} {}", count, page.escape_ascii());
    }

    // A flush folds what was counted: one entry is left for each page.
    db.compact()?;
    println!("{} entries in tables", views.estimate(..)?.entries);
    drop(views);
    db.close()?;
    Db::destroy(&directory)?;
    Ok(())
}

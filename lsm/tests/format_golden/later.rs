//! The golden database `v1-later`: what version 1 has beside what the first one, `v1`, holds. It is made here, and was once.
//!
//! To make one anew, for a new format version and under a new name, never over one that exists:
//!
//! ```text
//! TREERING_GOLDEN=lsm/tests/golden/v1-later cargo test -p treering-lsm --test format_golden later
//! ```
//!
//! Everything happens on the simulated disk with a fixed seed; the process "dies" at the end. Inside are: time marks and a keyspace
//! with a time to live, merge operands in tables and in the log, range deletes that the manifest names and one that it has
//! forgotten, guard keys, a dropped keyspace (the log names it still), an ingested table, and change files with each kind of frame but the one for
//! what a crash took. The clock stands in the year 2100, and what is written then is kept for a hundred years: before that nothing that the
//! database holds expires, whenever a test opens it.

use crate::common::{other_options, tiny_options};
use crate::{Contents, Files, assert_described, engine_contents, files_of, golden_files, walk};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, ManualClock};
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::{
    Compression, Db, Environment, IngestOptions, KeyspaceOptions, Options, SortedFileWriter,
};

/// From 1970 to 2100.
const UNTIL_2100: Duration = Duration::from_secs(130 * 365 * 24 * 3600);
/// How long the expiring keyspace keeps its entries.
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
/// Longer than between two time marks.
const MARKED: Duration = Duration::from_secs(2 * 3600);

fn options() -> Options {
    let mut options = tiny_options();
    options.change_log_bytes = 1 << 20;
    options.default_keyspace.compression = [Compression::None; 7];
    options
}

fn keyspaces() -> [(&'static str, KeyspaceOptions); 3] {
    let mut joined = other_options();
    joined.merge_operator = Some("append".to_owned());
    let mut expiring = tiny_options().default_keyspace;
    expiring.ttl = Some(CENTURY);
    [("joined", joined), ("expiring", expiring), ("gone", other_options())]
}

fn key(number: usize) -> Vec<u8> {
    format!("ring/{number:03}").into_bytes()
}

/// The database as a death of the process leaves it, and what it holds.
fn make() -> treering_lsm::Result<(Files, Contents)> {
    let disk = SimDisk::new(2);
    let clock = Arc::new(ManualClock::default());
    clock.sleep(UNTIL_2100);
    let environment = || {
        let environment = Environment::manual(Arc::new(disk.clone()));
        Environment { clock: Arc::clone(&clock) as Arc<dyn Clock>, ..environment }
    };
    let db = Db::open_in(environment(), "/db", options())?;
    for (name, options) in keyspaces() {
        db.create_keyspace(name, options)?;
    }
    let (plain, joined) = (db.default_keyspace().clone(), db.keyspace("joined")?);
    let (expiring, gone) = (db.keyspace("expiring")?, db.keyspace("gone")?);
    for round in 0..2 {
        for number in 0..40 {
            let key = key(number);
            plain.put(&key, format!("round {round} of {number}").as_bytes())?;
            joined.merge(&key, format!("({round})").as_bytes())?;
            expiring.put(&key, &[b'x'; 5])?;
            gone.put(&key, b"not for long")?;
        }
        db.flush()?;
        clock.sleep(MARKED);
        db.step()?;
    }
    // Applied to all that there is, and so forgotten.
    plain.delete_range(&key(0)[..]..&key(5)[..])?;
    db.compact()?;
    while db.step()? {}
    drop((plain, joined, expiring, gone));
    db.close()?;

    let db = Db::open_in(environment(), "/db", options())?;
    let (plain, joined) = (db.default_keyspace().clone(), db.keyspace("joined")?);
    let expiring = db.keyspace("expiring")?;
    plain.set_guard_keys([key(10), key(20)])?;
    for number in (0..40).step_by(3) {
        joined.merge(&key(number), b"later")?;
        plain.put(&key(number), b"later")?;
    }
    plain.delete_range(&key(30)[..]..&key(33)[..])?;
    db.flush()?;
    plain.delete_range(&key(33)[..]..&key(36)[..])?;
    db.compact()?;
    while db.step()? {}
    let path = Path::new("/file");
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut writer = SortedFileWriter::create_on(&handle, path, &other_options())?;
    for number in 50..60 {
        writer.put(&key(number), b"from outside")?;
    }
    writer.finish()?;
    plain.ingest(&[path], &IngestOptions::default())?;
    plain.delete_range(&key(15)[..]..&key(17)[..])?;
    expiring.delete(&key(7))?;
    db.flush()?;
    clock.sleep(MARKED);
    db.step()?;
    // The log goes on to name the keyspace that is dropped behind it.
    db.keyspace("gone")?.put(b"last", b"words")?;
    db.drop_keyspace("gone")?;
    joined.merge(&key(1), b"in the log")?;
    plain.delete_range(&key(38)[..]..&key(39)[..])?;
    Ok((files_of(&disk.after_kill()), engine_contents(&db)))
}

/// The text that stands beside it.
fn describe(contents: &Contents) -> String {
    let mut text =
        "# keyspace TAB key TAB value; made by lsm/tests/format_golden/later.rs\n".to_owned();
    for ((keyspace, key), value) in contents {
        let line = format!("{keyspace}\t{}\t{}\n", key.escape_ascii(), value.escape_ascii());
        text.push_str(&line);
    }
    text
}

/// All that must be in it.
fn assert_later(files: &Files, is_exact: impl Fn(&Contents)) {
    // Tables of the dropped keyspace may be there still.
    let found = walk(files, true);
    is_exact(&found.contents);
    let missing: Vec<u64> = (1..=13).filter(|tag| !found.manifest.items.contains(tag)).collect();
    assert!(missing.is_empty(), "items {missing:?} are not in it");
    assert!(found.manifest.has_ttl && found.manifest.dropped.len() == 1);
    let tables = &found.manifest.tables;
    assert!(tables.values().any(|(_, _, info)| info.ingested.is_some()), "no ingested table");
    assert!(found.merged > 0 && found.ranges.in_log > 0 && found.ranges.hidden > 0);
    assert!(found.log.entries.iter().any(|entry| entry.kind == 3), "no operand in the log");
    let of_dropped = |keyspace| found.manifest.dropped.contains(keyspace);
    assert!(found.log.entries.iter().any(|entry| of_dropped(&entry.keyspace)));
    let [_, batches, ingests, ends, ..] = found.changes.frames;
    assert!(batches > 100 && ingests > 0 && ends == found.changes.files && ends > 1);
}

/// Promise: what a release wrote, every later one reads.
#[test]
fn a_reader_made_from_the_document_reads_the_later_golden_database() {
    assert_later(&golden_files("v1-later"), |found| assert_described("v1-later", found));
}

/// What makes the golden database makes one of the same kind with every release.
#[test]
fn the_later_golden_database_can_be_made_again() {
    let (files, contents) = make().unwrap();
    assert_later(&files, |found| assert_eq!(*found, contents));
    let Some(target) = std::env::var_os("TREERING_GOLDEN") else { return };
    let target = Path::new(&target);
    std::fs::create_dir(target).expect("golden files are never rewritten");
    for (name, bytes) in files {
        std::fs::write(target.join(name), bytes).unwrap();
    }
    std::fs::write(target.with_extension("txt"), describe(&contents)).unwrap();
}

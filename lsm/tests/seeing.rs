//! Seeing inside: what a database says of itself, and that saying it changes nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, other_options, tiny_options};
use treering_lsm::io::sim::{Call, SimDisk};
use treering_lsm::{Db, Degradation, Error, HealthState, WriteOptions};

/// Some writes that make tables on several levels.
fn fill(db: &Db, seed: u64, count: usize) {
    let mut chance = Chance(seed);
    for number in 0..count {
        let key = format!("key{:04}", chance.below(3000));
        match chance.below(8) {
            0 => db.delete(key.as_bytes()).unwrap(),
            _ => db.put(key.as_bytes(), &[number as u8; 100]).unwrap(),
        }
        if chance.one_in(10) {
            db.step().unwrap();
        }
    }
}

#[test]
fn a_shape_says_what_the_statistics_say_and_more() {
    let db = open(&SimDisk::new(1), &tiny_options()).unwrap();
    let other = db.create_keyspace("other", other_options()).unwrap();
    fill(&db, 1, 3000);
    db.flush().unwrap();
    let (shape, stats) = (db.default_keyspace().shape(), db.stats());
    for (level, counted) in shape.levels.iter().zip(&stats.keyspaces[0].levels) {
        assert_eq!((level.tables, level.bytes), (counted.files, counted.bytes));
        assert_eq!(level.score, counted.score);
        assert!(level.tombstones <= level.entries && level.busy_tables == 0);
    }
    assert!(shape.levels[0].target_bytes.is_none() && shape.levels[6].target_bytes.is_some());
    assert!(shape.levels.iter().any(|level| level.tombstones > 0));
    let filled = shape.levels.iter().filter(|level| level.tables > 0).count();
    assert!(filled > 1 && shape.to_string().matches("\nL").count() == filled, "{shape}");
    assert_eq!((other.shape().keyspace.as_str(), other.shape().tables()), ("other", 0));
}

#[test]
fn health_names_what_is_wrong_until_it_is_over() {
    // Guards: an operator who polls sees each state that a writer may meet.
    let disk = SimDisk::new(2);
    let db = open(&disk, &tiny_options()).unwrap();
    assert!(matches!(db.health().state, HealthState::Healthy));

    let reasons = |db: &Db| match db.health().state {
        HealthState::Degraded { reasons } => reasons,
        state => panic!("{state:?}"),
    };
    db.put(b"oak", b"1").unwrap();
    disk.fail_matching(|call, path| call == Call::Open && is_table(path), libc::EIO, true);
    assert!(db.flush().is_err());
    assert!(matches!(reasons(&db)[..], [Degradation::FlushFailing { error: Error::Io { .. } }]));
    assert!(db.health().takes_writes() && db.health().memtables_free == 1);
    db.flush().unwrap();
    assert!(matches!(db.health().state, HealthState::Healthy));

    db.put(b"oak", b"2").unwrap();
    disk.fail_matching(|call, path| call == Call::Open && is_table(path), libc::ENOSPC, true);
    assert!(db.flush().is_err());
    assert!(matches!(reasons(&db)[..], [Degradation::DiskFull { .. }]));
    assert!(!db.health().takes_writes());
    db.step().unwrap();
    assert!(matches!(db.health().state, HealthState::Healthy));

    disk.fail_matching(|call, _| call == Call::Sync, libc::EIO, true);
    db.put(b"oak", b"3").unwrap();
    let poisoned = (0..50).any(|_| {
        let options = WriteOptions::sync();
        db.default_keyspace().put_with(b"oak", b"4", &options).is_err() || db.flush().is_err()
    });
    assert!(poisoned, "the fault was met");
    let health = db.health();
    assert!(matches!(&health.state, HealthState::Poisoned { error: Error::Poisoned { .. } }));
    assert!(!health.takes_writes());
    let again = db.clone();
    assert!(db.close().is_err());
    assert!(matches!(again.health().state, HealthState::Closed));
}

#[test]
fn histograms_count_each_operation_once_and_only_if_asked() {
    let db = open(&SimDisk::new(3), &tiny_options()).unwrap();
    assert!(db.histograms().is_none());
    let mut options = tiny_options();
    options.histograms = true;
    let db = open(&SimDisk::new(3), &options).unwrap();
    let keyspace = db.default_keyspace();
    for number in 0..100u8 {
        keyspace.put_with(&[number], &[1; 300], &WriteOptions::sync()).unwrap();
    }
    db.delete(b"oak").unwrap();
    db.compact().unwrap();
    for number in 0..50u8 {
        assert!(db.get(&[number]).unwrap().is_some());
    }
    keyspace.multi_get(&[b"oak", b"yew"], &Default::default());
    let mut cursor = keyspace.cursor(&Default::default()).unwrap();
    assert!(cursor.seek_to_first().unwrap() && cursor.seek(&[7]).unwrap());
    let times = db.histograms().unwrap();
    let counts = [&times.write, &times.sync_wait, &times.get, &times.multi_get, &times.seek];
    assert_eq!(counts.map(|latency| latency.count), [101, 100, 50, 1, 2], "{times}");
    assert!(times.flush.count > 0 && times.compaction.count > 0 && times.wal_sync.count > 0);
    for (name, row) in times.rows() {
        let rising = [row.min, row.p50, row.p90, row.p99, row.p99_9, row.p99_99, row.max];
        assert!(rising.is_sorted() && row.min <= row.mean && row.mean <= row.max, "{name} {row:?}");
    }
    assert_eq!(times.to_string().lines().count(), 9, "{times}");
    db.reset_stats();
    assert_eq!(db.histograms().unwrap().get.count, 0);
}

#[test]
fn a_measured_get_says_where_it_looked_and_an_unmeasured_one_nothing() {
    let mut options = tiny_options();
    options.default_keyspace.level0_tables = 64;
    let db = open(&SimDisk::new(4), &options).unwrap();
    for _ in 0..3 {
        db.put(b"a", &[1; 100]).unwrap();
        db.put(b"z", &[1; 100]).unwrap();
        db.flush().unwrap();
    }
    db.put(b"m", b"1").unwrap();
    let (found, cost) = db.measure(|| db.get(b"m"));
    assert!(found.unwrap().is_some());
    assert_eq!((cost.memtables_searched, cost.tables_considered), (1, 0));
    let (_, cost) = db.measure(|| db.get(b"n").unwrap());
    assert_eq!(cost.tables_considered, 3);
    assert_eq!(cost.filter_negatives + cost.filter_false_positives, 3);
    let (_, cold) = db.measure(|| db.get(b"a").unwrap());
    let (_, warm) = db.measure(|| db.get(b"a").unwrap());
    assert!(cold.blocks_read == 1 && cold.bytes_read > 100 && !cold.read_time.is_zero());
    assert_eq!((warm.blocks_read, warm.tables_considered), (0, 1));
    // One inside another has its counts for itself, and a panic ends the measurement.
    let ((_, inner), outer) = db.measure(|| db.measure(|| db.get(b"a").unwrap()));
    assert_eq!((inner.tables_considered, outer.tables_considered), (1, 0));
    let panics = std::panic::AssertUnwindSafe(|| db.measure(|| panic!("on purpose")));
    assert!(std::panic::catch_unwind(panics).is_err());
    db.get(b"a").unwrap();
    assert_eq!(db.measure(|| ()).1, Default::default());
    let sync = || db.default_keyspace().put_with(b"a", b"2", &WriteOptions::sync()).unwrap();
    assert!(!db.measure(sync).1.sync_time.is_zero());
}

fn is_table(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sst")
}

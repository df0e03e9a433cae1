//! Compaction filters: beside a model, with snapshots, transactions and failures. Guard keys: where tables end.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, tiny_options};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use treering_lsm::file::table_reader::TableReader;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{
    CompactionFilter, Db, Error, FilterEntry, FilterVerdict, Isolation, KeyspaceOptions, Options,
    ReadOptions, WriteOptions,
};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Values that begin with "x" go, those that begin with "c" are changed, at "p" it panics.
#[derive(Debug, Default)]
struct Rules {
    asked: AtomicU64,
    is_off: AtomicBool,
}

impl CompactionFilter for Rules {
    fn filter(&self, entry: &FilterEntry<'_>) -> FilterVerdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert!((1..7).contains(&entry.level));
        match entry.value.first() {
            _ if self.is_off.load(Ordering::Relaxed) => FilterVerdict::Keep,
            Some(b'x') => FilterVerdict::Remove,
            Some(b'c') => FilterVerdict::Replace([b"d", &entry.value[1..]].concat()),
            Some(b'p') => panic!("on purpose"),
            _ => FilterVerdict::Keep,
        }
    }
}

fn filtered_options(filter: &Arc<Rules>) -> Options {
    let mut options = tiny_options();
    let filter: Arc<dyn CompactionFilter> = Arc::<Rules>::clone(filter);
    options.compaction_filters.push(("default".to_owned(), filter));
    options
}

fn contents(db: &Db, options: &ReadOptions) -> Map {
    let entries = db.default_keyspace().range(.., options).unwrap();
    entries.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect()
}

/// The value is one that was written for its key last, perhaps filtered; and a key may be missing only if its last value may go.
fn check(db: &Db, model: &Map, seed: u64) {
    let found = contents(db, &ReadOptions::default());
    for (key, value) in &found {
        let written =
            model.get(key).unwrap_or_else(|| panic!("seed {seed}: a deleted key is back"));
        let changed = value[0] == b'd' && written[0] == b'c' && value[1..] == written[1..];
        assert!(changed || value == written, "seed {seed}: an older version is back");
    }
    for (key, value) in model {
        assert!(found.contains_key(key) || value[0] == b'x', "seed {seed}: a key is lost");
    }
}

#[test]
fn a_filter_removes_and_changes_and_never_brings_anything_back() {
    for seed in 0..16 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let filter = Arc::new(Rules::default());
        let mut db = open(&disk, &filtered_options(&filter)).unwrap();
        let mut model = BTreeMap::new();
        let mut held: Vec<(ReadOptions, Map)> = Vec::new();
        for step in 0..3000u64 {
            let key = format!("key{:03}", chance.below(200)).into_bytes();
            match chance.below(200) {
                0..4 => db.flush().unwrap(),
                4..24 => drop(db.step().unwrap()),
                24 => db.compact().unwrap(),
                25 => {
                    let at = db.snapshot();
                    let options = ReadOptions { snapshot: Some(at), ..ReadOptions::default() };
                    let then = contents(&db, &options);
                    held.push((options, then));
                    if held.len() > 3 {
                        held.swap_remove(chance.below(3) as usize);
                    }
                }
                26..50 => {
                    db.delete(&key).unwrap();
                    model.remove(&key);
                }
                50 => {
                    db.delete_range(&b"key050"[..]..b"key060").unwrap();
                    model.retain(|key: &Vec<u8>, _| &key[..] < b"key050" || &key[..] >= b"key060");
                }
                _ => {
                    let first = [b'k', b'x', b'c', b'k'][chance.below(4) as usize];
                    let value = [&[first][..], step.to_string().as_bytes(), &[b'-'; 60]].concat();
                    db.put(&key, &value).unwrap();
                    model.insert(key, value);
                }
            }
            if step % 300 == 299 {
                check(&db, &model, seed);
                for (options, then) in &held {
                    assert_eq!(
                        &contents(&db, options),
                        then,
                        "seed {seed}: a snapshot has changed"
                    );
                }
            }
            if step % 1000 == 999 {
                held.clear();
                drop(db);
                let image = disk.after_power_cut(seed, LossModel::KeepPrefix);
                check(&open(&image, &filtered_options(&filter)).unwrap(), &model, seed);
                db = open(&disk, &filtered_options(&filter)).unwrap();
            }
        }
        held.clear();
        db.compact().unwrap();
        db.verify().unwrap();
        let found = contents(&db, &ReadOptions::default());
        assert!(found.values().all(|value| !matches!(value[0], b'x' | b'c')), "seed {seed}");
        let expected = model.iter().filter(|(_, value)| value[0] != b'x').map(|(key, _)| key);
        assert!(found.keys().eq(expected), "seed {seed}");
        assert!(filter.asked.load(Ordering::Relaxed) > 0);
        let last = db.stats().keyspaces[0].levels.iter().map(|l| l.filter_removed).sum::<u64>();
        assert!(last > 0, "seed {seed}");
    }
}

#[test]
fn what_a_snapshot_sees_is_not_asked_about() {
    let (disk, filter) = (SimDisk::new(1), Arc::new(Rules::default()));
    let db = open(&disk, &filtered_options(&filter)).unwrap();
    db.put(b"a", b"x old").unwrap();
    let snapshot = db.snapshot();
    db.put(b"b", b"x new").unwrap();
    db.compact().unwrap();
    assert_eq!(filter.asked.load(Ordering::Relaxed), 1);
    assert!(db.get(b"a").unwrap().is_some() && db.get(b"b").unwrap().is_none());
    // A transaction that began before sees what was removed as a change.
    let mut transaction = db.transaction(Isolation::Snapshot);
    transaction.put(db.default_keyspace(), b"b", b"mine").unwrap();
    transaction.commit(&WriteOptions::default()).unwrap();
    drop(snapshot);
    db.compact().unwrap();
    assert!(db.get(b"a").unwrap().is_none());
    assert_eq!(db.get(b"b").unwrap().as_deref(), Some(&b"mine"[..]));
}

#[test]
fn a_snapshot_taken_while_the_filter_runs_keeps_what_it_saw() {
    // Guards: the compaction is done again without the filter.
    #[derive(Debug, Default)]
    struct TakesSnapshots {
        taken: std::sync::Mutex<Option<(Db, Option<treering_lsm::Snapshot>)>>,
    }
    impl CompactionFilter for TakesSnapshots {
        fn filter(&self, _: &FilterEntry<'_>) -> FilterVerdict {
            // Against its rules, but it stands for another thread.
            if let Some((db, snapshot)) = &mut *self.taken.lock().unwrap() {
                snapshot.get_or_insert_with(|| db.snapshot());
            }
            FilterVerdict::Remove
        }
    }
    let (disk, filter) = (SimDisk::new(1), Arc::new(TakesSnapshots::default()));
    let mut options = tiny_options();
    let given: Arc<dyn CompactionFilter> = Arc::<TakesSnapshots>::clone(&filter);
    options.compaction_filters.push(("default".to_owned(), given));
    let db = open(&disk, &options).unwrap();
    db.put(b"a", b"1").unwrap();
    *filter.taken.lock().unwrap() = Some((db.clone(), None));
    db.compact().unwrap();
    assert_eq!(db.stats().filter_redone, 1);
    let (_, snapshot) = filter.taken.lock().unwrap().take().unwrap();
    let at = ReadOptions { snapshot, ..ReadOptions::default() };
    let value = db.default_keyspace().get_with(b"a", &at).unwrap();
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
    drop(at);
    db.put(b"b", b"1").unwrap();
    db.compact().unwrap();
    assert!(db.get(b"a").unwrap().is_none() && db.get(b"b").unwrap().is_none());
    let files = disk_tables(&disk);
    let known: u64 = db.stats().keyspaces[0].levels.iter().map(|level| level.files).sum();
    while db.step().unwrap() {}
    assert!(files as u64 >= known && disk_tables(&disk) as u64 == known, "a file was left");
}

fn disk_tables(disk: &SimDisk) -> usize {
    let names = disk.list(Path::new("/db")).unwrap();
    names.iter().filter(|name| name.ends_with(".sst")).count()
}

#[test]
fn a_filter_that_fails_keeps_the_entry_and_stops_nothing() {
    let (disk, filter) = (SimDisk::new(1), Arc::new(Rules::default()));
    let db = open(&disk, &filtered_options(&filter)).unwrap();
    db.put(b"a", b"panics").unwrap();
    db.put(b"b", b"x").unwrap();
    std::panic::set_hook(Box::new(|_| {}));
    db.compact().unwrap();
    let _usual = std::panic::take_hook();
    assert_eq!(db.get(b"a").unwrap().as_deref(), Some(&b"panics"[..]));
    assert!(db.get(b"b").unwrap().is_none());
    assert_eq!(db.stats().filter_failures, 1);
}

#[test]
fn two_filters_of_one_keyspace_are_refused_and_other_keyspaces_are_not_asked() {
    let (disk, filter) = (SimDisk::new(1), Arc::new(Rules::default()));
    let mut options = filtered_options(&filter);
    let db = open(&disk, &options).unwrap();
    let other = db.create_keyspace("other", tiny_options().default_keyspace).unwrap();
    other.put(b"a", b"x").unwrap();
    db.compact().unwrap();
    assert!(other.get(b"a").unwrap().is_some());
    drop((db, other));
    options.compaction_filters.push(options.compaction_filters[0].clone());
    let refused = open(&disk, &options).unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "compaction_filters", .. }));
    // One for a keyspace that comes later, and none for the one that had one.
    let given: Arc<dyn CompactionFilter> = Arc::<Rules>::clone(&filter);
    options.compaction_filters = vec![("late".to_owned(), given)];
    let db = open(&disk, &options).unwrap();
    let late = db.create_keyspace("late", KeyspaceOptions::default()).unwrap();
    late.put(b"a", b"x").unwrap();
    db.put(b"a", b"x").unwrap();
    db.compact().unwrap();
    assert!(late.get(b"a").unwrap().is_none() && db.get(b"a").unwrap().is_some());
}

/// No table of the database goes over a guard key.
fn is_cut(db: &Db, disk: &SimDisk, guards: &[Vec<u8>]) -> bool {
    while db.step().unwrap() {}
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let names = disk.list(Path::new("/db")).unwrap();
    let tables: Vec<_> = names.iter().filter(|name| name.ends_with(".sst")).collect();
    assert!(tables.len() > 3);
    tables.iter().all(|name| {
        let info = TableReader::info_from_file(&disk, &Path::new("/db").join(name)).unwrap();
        !guards.iter().any(|guard| info.smallest < *guard && *guard <= info.largest)
    })
}

#[test]
fn no_table_goes_over_a_guard_key() {
    for seed in 0..6 {
        let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
        let db = open(&disk, &tiny_options()).unwrap();
        let keyspace = db.default_keyspace();
        let guards: Vec<Vec<u8>> = (1..9).map(|n| format!("key{n}").into_bytes()).collect();
        keyspace.set_guard_keys(&guards).unwrap();
        for number in 0..4000u64 {
            let key = format!("key{:04}", chance.below(10_000));
            keyspace.put(key.as_bytes(), &number.to_le_bytes().repeat(12)).unwrap();
        }
        db.wait_for_compactions().unwrap();
        assert!(is_cut(&db, &disk, &guards));
        // Each tenth is made of whole tables: deleting one leaves nothing to rewrite, and takes no byte to do.
        let before = db.stats();
        keyspace.delete_range(&b"key3"[..]..b"key4").unwrap();
        db.flush().unwrap();
        db.wait_for_compactions().unwrap();
        let after = db.stats();
        let levels = |stats: &treering_lsm::Stats| stats.keyspaces[0].levels[6].files;
        assert!(levels(&after) < levels(&before), "{before}{after}");
        assert_eq!(after.keyspaces[0].range_deletes, 0, "seed {seed}: a table was cut into");
        drop(db);
        let db = open(&disk, &tiny_options()).unwrap();
        assert_eq!(db.default_keyspace().guard_keys(), guards, "they outlive a reopening");
        db.default_keyspace().set_guard_keys([b"key55"]).unwrap();
        db.compact().unwrap();
        assert!(is_cut(&db, &disk, &[b"key55".to_vec()]));
        db.default_keyspace().set_guard_keys(&guards[..0]).unwrap();
        assert!(db.default_keyspace().guard_keys().is_empty());
        db.verify().unwrap();
    }
}

#[test]
fn guard_keys_that_cannot_be_kept_are_refused() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    let keyspace = db.default_keyspace();
    keyspace.set_guard_keys(["m"]).unwrap();
    assert!(matches!(keyspace.set_guard_keys([""]), Err(Error::KeyTooLarge { .. })));
    let many = (0..70_000u32).map(u32::to_be_bytes);
    let refused = keyspace.set_guard_keys(many).unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "guard_keys", .. }));
    assert_eq!(keyspace.guard_keys(), [b"m"]);
}

//! Opening read-only: it shows what a usual opening shows, and changes no byte.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, also on real files")]

mod common;

use common::world::{History, contents, work};
use common::{Chance, open, other_options, tiny_options};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
use treering_lsm::io::{Disk, OpenMode, read_full};
use treering_lsm::{
    Db, Environment, Error, HealthState, IngestOptions, Isolation, KeyspaceOptions, Options,
    ReadOptions, Result, WriteBatch, WriteOptions,
};

fn open_read_only(disk: &SimDisk, path: &str) -> Result<Db> {
    Db::open_read_only_in(Environment::manual(Arc::new(disk.clone())), path, tiny_options())
}

/// Names and bytes of all files.
fn bytes_of(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new("/db");
    let read = |name: String| {
        let file = disk.open(&directory.join(&name), OpenMode::READ).unwrap();
        let mut bytes = vec![0; file.size().unwrap() as usize];
        read_full(&*file, 0, &mut bytes).unwrap();
        (name, bytes)
    };
    disk.list(directory).unwrap().into_iter().map(read).collect()
}

fn filled(seed: u64) -> (SimDisk, Db, History) {
    let (disk, mut chance) = (SimDisk::new(seed), Chance(seed));
    let db = open(&disk, &tiny_options()).unwrap();
    db.create_keyspace("other", other_options()).unwrap();
    let mut history = History::default();
    work(&db, &mut chance, &mut history, 200).unwrap();
    db.delete_range(&b"key100"[..]..b"key120").unwrap();
    (disk, db, history)
}

#[test]
fn a_reader_sees_what_the_next_opening_would_see_and_leaves_no_trace() {
    // Guards: promise 3 of db/open.rs, after clean closes, kills and power cuts.
    for seed in 0..16 {
        let (disk, db, _) = filled(seed);
        let killed = disk.after_kill();
        let cut = disk.after_power_cut(seed, LossModel::Random);
        db.close().unwrap();
        for image in [disk, killed, cut] {
            let (before, calls) = (bytes_of(&image), image.io_count());
            image.fail_matching(|call, _| writes(call), libc::EROFS, false);
            let reader = open_read_only(&image, "/db").unwrap();
            let second = open_read_only(&image, "/db").unwrap();
            let seen = contents(&reader);
            assert_eq!(contents(&second), seen);
            reader.verify().unwrap();
            let mut cursor = reader.default_keyspace().cursor(&ReadOptions::default()).unwrap();
            let mut entries = 0;
            let mut is_entry = cursor.seek_to_last().unwrap();
            while is_entry {
                let found = reader.get(cursor.key()).unwrap();
                assert_eq!(found.as_deref(), Some(cursor.value()));
                (entries, is_entry) = (entries + 1, cursor.prev().unwrap());
            }
            assert_eq!(entries, seen.keys().filter(|(of, _)| *of == 0).count());
            while reader.step().unwrap() {}
            reader.close().unwrap();
            drop(second);
            assert!(image.io_count() > calls && image.fired() == 0, "seed {seed}: it wrote");
            image.clear_faults();
            assert!(bytes_of(&image) == before, "seed {seed}: a byte was changed");
            let db = open(&image, &tiny_options()).unwrap();
            assert_eq!(contents(&db), seen, "seed {seed}");
        }
    }
}

fn writes(call: Call) -> bool {
    use Call::{CreateDirectory, Link, Map, Remove, Rename, SetSize, Sync, SyncDirectory, Write};
    matches!(
        call,
        CreateDirectory | Link | Map | Remove | Rename | SetSize | Sync | SyncDirectory | Write
    )
}

#[test]
fn everything_that_writes_is_refused_and_changes_nothing() {
    let (disk, db, history) = filled(1);
    db.close().unwrap();
    let db = open_read_only(&disk, "/db").unwrap();
    let refused =
        |answer: Result<()>| assert!(matches!(answer, Err(Error::ReadOnly)), "{answer:?}");
    let (keyspace, options) = (db.default_keyspace(), WriteOptions::default());
    refused(db.put(b"a", b"1"));
    refused(db.delete(b"a"));
    refused(db.delete_range(..));
    refused(db.flush());
    refused(db.compact());
    db.wait_for_compactions().unwrap();
    refused(keyspace.set_guard_keys(["a"]));
    refused(db.create_keyspace("new", KeyspaceOptions::default()).map(drop));
    refused(db.drop_keyspace("other"));
    refused(db.checkpoint("/copy").map(drop));
    refused(keyspace.ingest(&["/none"], &IngestOptions::default()).map(drop));
    let mut batch = WriteBatch::new();
    batch.put(keyspace, b"a", &[0; 60_000]).unwrap();
    refused(db.write(&batch, &options));
    batch.put(keyspace, b"b", &[0; 60_000]).unwrap();
    refused(db.write(&batch, &options));
    let mut transaction = db.transaction(Isolation::Serializable);
    transaction.put(keyspace, b"a", b"1").unwrap();
    refused(transaction.commit(&options));
    let health = db.health();
    assert!(matches!(health.state, HealthState::ReadOnly) && !health.takes_writes());
    assert!(health.to_string().starts_with("read-only"));
    // Reading goes on, and files may be written elsewhere.
    let files = keyspace.export(.., "/files", &ReadOptions::default()).unwrap();
    assert!(files[0].entries > 0);
    db.delete_range(..).unwrap_err();
    let seen = contents(&db);
    let handle = db.clone();
    db.close().unwrap();
    assert!(matches!(handle.get(b"a"), Err(Error::Closed)));
    drop(handle);
    let db = open(&disk, &tiny_options()).unwrap();
    assert_eq!(contents(&db), seen);
    assert!(history.acknowledged > 0);
}

#[test]
fn readers_and_a_writer_keep_each_other_out() {
    let (disk, db, _) = filled(1);
    assert!(matches!(open_read_only(&disk, "/db"), Err(Error::Locked { .. })));
    drop(db);
    let readers = [open_read_only(&disk, "/db").unwrap(), open_read_only(&disk, "/db").unwrap()];
    assert!(matches!(open(&disk, &tiny_options()), Err(Error::Locked { .. })));
    let [first, second] = readers;
    drop(first);
    assert!(matches!(open(&disk, &tiny_options()), Err(Error::Locked { .. })));
    drop(second);
    open(&disk, &tiny_options()).unwrap();

    // The same on real files.
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("db");
    let writer = Db::open(&path, tiny_options()).unwrap();
    writer.put(b"a", b"1").unwrap();
    assert!(matches!(Db::open_read_only(&path, tiny_options()), Err(Error::Locked { .. })));
    writer.close().unwrap();
    let reader = Db::open_read_only(&path, tiny_options()).unwrap();
    let other = Db::open_read_only(&path, tiny_options()).unwrap();
    assert!(matches!(Db::open(&path, tiny_options()), Err(Error::Locked { .. })));
    assert!(matches!(Db::destroy(&path), Err(Error::Locked { .. })));
    assert_eq!(other.get(b"a").unwrap(), reader.get(b"a").unwrap());
    drop((reader, other));
    Db::open(&path, tiny_options()).unwrap();
}

#[test]
fn a_checkpoint_that_was_never_opened_gets_no_file_by_being_read() {
    let (disk, db, history) = filled(2);
    db.checkpoint("/copy").unwrap();
    let names = disk.list(Path::new("/copy")).unwrap();
    let copy = open_read_only(&disk, "/copy").unwrap();
    assert_eq!(contents(&copy), contents(&db));
    assert!(history.acknowledged > 0);
    drop(copy);
    assert_eq!(disk.list(Path::new("/copy")).unwrap(), names);
}

#[test]
fn what_cannot_be_read_is_told() {
    let disk = SimDisk::new(1);
    assert!(matches!(open_read_only(&disk, "/db"), Err(Error::NotADatabase { .. })));
    assert!(disk.list(Path::new("/db")).is_err(), "a directory was made");
    let (disk, db, _) = filled(1);
    db.close().unwrap();
    let manifest = disk.list(Path::new("/db")).unwrap();
    let manifest = manifest.iter().find(|name| name.starts_with("MANIFEST")).unwrap();
    disk.flip_bit(&Path::new("/db").join(manifest), 8 * 100).unwrap();
    assert!(matches!(open_read_only(&disk, "/db"), Err(Error::Corruption { .. })));
    assert!(matches!(open(&disk, &tiny_options()), Err(Error::Corruption { .. })));
}

#[test]
fn a_log_that_memory_does_not_hold_is_refused_with_what_to_do() {
    let disk = SimDisk::new(1);
    let mut large = Options::default();
    large.memory_limit = 64 << 20;
    large.write_buffer_bytes = Some(12 << 20);
    let db = open(&disk, &large).unwrap();
    for number in 0..10_000u32 {
        db.put(&number.to_be_bytes(), &[7; 1000]).unwrap();
    }
    drop(db);
    let refused = open_read_only(&disk, "/db").unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "memory_limit", .. }), "{refused}");
    let environment = Environment::manual(Arc::new(disk.clone()));
    let db = Db::open_read_only_in(environment, "/db", large).unwrap();
    assert_eq!(db.default_keyspace().range(.., &ReadOptions::default()).unwrap().count(), 10_000);
}

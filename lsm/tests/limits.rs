//! Keys and values at their limits, and one byte beyond.

#![allow(clippy::unwrap_used, reason = "a test")]

use treering_lsm::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use treering_lsm::{Db, Durability, Error, Options, ReadOptions, WriteBatch, WriteOptions};

fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 64 << 20;
    options.write_buffer_bytes = Some(1 << 20);
    options
}

fn large(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8 ^ seed).collect()
}

/// The largest key and value work in every class, alone and in a batch, from memory, from the log and from a table.
#[test]
fn the_largest_key_and_value_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path(), options()).unwrap();
    let (key, value) = (large(KEY_BYTES_MAX, 1), large(VALUE_BYTES_MAX, 2));
    db.put(b"before", b"1").unwrap();
    db.default_keyspace().put_with(&key, &value, &WriteOptions::sync()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(db.default_keyspace(), b"second", &value).unwrap();
    batch.put(db.default_keyspace(), &key[1..], b"short").unwrap();
    db.write(&batch, &WriteOptions { durability: Some(Durability::Buffered) }).unwrap();
    db.put(b"after", b"2").unwrap();
    let check = |db: &Db| {
        assert!(db.get(&key).unwrap().unwrap() == value);
        assert!(db.get(b"second").unwrap().unwrap() == value);
        assert_eq!(db.get(&key[1..]).unwrap().unwrap(), b"short");
        let count = db.default_keyspace().range(.., &ReadOptions::default()).unwrap().count();
        assert_eq!(count, 5);
    };
    check(&db);
    db.close().unwrap();
    let db = Db::open(directory.path(), options()).unwrap();
    check(&db);
    db.compact().unwrap();
    check(&db);
    db.verify().unwrap();
}

#[test]
fn one_byte_more_is_a_typed_error_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path(), options()).unwrap();
    let key = vec![b'k'; KEY_BYTES_MAX + 1];
    let value = vec![b'v'; VALUE_BYTES_MAX + 1];
    assert!(matches!(db.put(&key, b""), Err(Error::KeyTooLarge { .. })));
    assert!(matches!(db.put(b"", b""), Err(Error::KeyTooLarge { length: 0, .. })));
    assert!(matches!(db.delete(&key), Err(Error::KeyTooLarge { .. })));
    assert!(matches!(db.put(b"k", &value), Err(Error::ValueTooLarge { .. })));
    let mut batch = WriteBatch::new();
    assert!(matches!(
        batch.put(db.default_keyspace(), b"k", &value),
        Err(Error::ValueTooLarge { .. })
    ));
    assert!(batch.is_empty());
    assert_eq!(db.default_keyspace().range(.., &ReadOptions::default()).unwrap().count(), 0);
    assert!(db.get(&key).unwrap().is_none());
}

#[test]
fn wrong_options_name_the_option() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("db");
    let refused = |change: fn(&mut Options), name: &str| {
        let mut options = Options::default();
        change(&mut options);
        match Db::open(&path, options) {
            Err(Error::InvalidOption { option, .. }) => assert_eq!(option, name),
            other => panic!("{name}: {other:?}"),
        }
        assert!(!path.exists());
    };
    refused(|options| options.memory_limit = 1000, "memory_limit");
    refused(|options| options.write_buffer_bytes = Some(1), "write_buffer_bytes");
    refused(|options| options.write_buffer_bytes = Some(400 << 20), "write_buffer_bytes");
    refused(|options| options.background_jobs = Some(0), "background_jobs");
    refused(|options| options.default_keyspace.block_bytes = 7, "block_bytes");
    refused(|options| options.default_keyspace.level_fanout = 1, "level_fanout");
}

/// Sequence numbers and keyspace numbers mean something in their own database only.
#[test]
fn a_snapshot_or_batch_of_another_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let one = Db::open(directory.path().join("one"), options()).unwrap();
    let two = Db::open(directory.path().join("two"), options()).unwrap();
    one.put(b"k", b"v").unwrap();
    let wrong = ReadOptions { snapshot: Some(one.snapshot()), ..ReadOptions::default() };
    let keyspace = two.default_keyspace();
    assert!(matches!(keyspace.get_with(b"k", &wrong), Err(Error::InvalidOption { .. })));
    assert!(matches!(keyspace.cursor(&wrong), Err(Error::InvalidOption { .. })));
    assert!(keyspace.multi_get(&[b"k"], &wrong).iter().all(Result::is_err));
    let mut batch = WriteBatch::new();
    batch.put(one.default_keyspace(), b"k", b"w").unwrap();
    assert!(matches!(
        two.write(&batch, &WriteOptions::default()),
        Err(Error::InvalidOption { .. })
    ));
    assert!(batch.put(keyspace, b"k", b"w").is_err());
    assert!(two.get(b"k").unwrap().is_none());
}

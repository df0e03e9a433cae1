//! The version edit, a record of the manifest.
//!
//! Promise: any bytes are refused in words or become an edit that is the same encoded again. Memory: the edit.

use crate::Target;
use treering_lsm::base::key::{FileNumber, KeyspaceId};
use treering_lsm::base::options::KeyspaceOptions;
use treering_lsm::format::edit::{KeyspaceRecord, LogMark, VersionEdit};
use treering_lsm::format::table_info::TableInfo;

pub(crate) const TARGET: Target = Target {
    name: "edit",
    promise: "any bytes are refused or become an edit that is the same encoded again",
    run,
    seeds,
};

fn run(data: &[u8]) {
    match VersionEdit::decode(data) {
        Ok(edit) => {
            let mut bytes = Vec::new();
            edit.encode(&mut bytes);
            assert_eq!(VersionEdit::decode(&bytes), Ok(edit));
        }
        Err(detail) => assert!(!detail.is_empty()),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let info = TableInfo {
        table_id: 9,
        file_bytes: 4096,
        tail_offset: 2048,
        smallest: b"a".to_vec(),
        largest: b"z".to_vec(),
        entry_count: 3,
        tombstone_count: 1,
        sequence_min: 5,
        sequence_max: 300,
        raw_key_bytes: 30,
        raw_value_bytes: 3000,
        applied: 250,
        ingested: None,
    };
    let numbers = VersionEdit {
        next_file: Some(300),
        last_sequence: Some(1 << 40),
        log: Some(LogMark { epoch: 4, lsn: 1 << 20 }),
        promised: Some(1 << 21),
        ..VersionEdit::default()
    };
    let keyspace = KeyspaceRecord {
        id: KeyspaceId(1),
        name: "other".into(),
        options: KeyspaceOptions::default(),
    };
    let made = VersionEdit { keyspaces: vec![keyspace], ..numbers.clone() };
    let moved = VersionEdit {
        added: vec![
            (KeyspaceId(0), 2, info.clone()),
            (KeyspaceId(1), 0, info.ingested_as(11, 301)),
        ],
        removed: vec![(KeyspaceId(0), 1, FileNumber(9))],
        ..VersionEdit::default()
    };
    let encode = |edit: VersionEdit| {
        let mut bytes = Vec::new();
        edit.encode(&mut bytes);
        bytes
    };
    [VersionEdit::default(), numbers, made, moved].map(encode).into_iter().collect()
}

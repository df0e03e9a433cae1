//! The properties of a table, and the table info that manifest and properties share.
//!
//! Promise: any bytes are refused or become values that are in range and, encoded again, the same. Memory: the two keys.

use crate::Target;
use treering_lsm::format::properties::Properties;
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::{Compression, FilterPolicy};

pub(crate) const TARGET: Target = Target {
    name: "properties",
    promise: "any bytes are refused or become properties that are in range and the same encoded again",
    run,
    seeds,
};

fn run(data: &[u8]) {
    if let Some(info) = TableInfo::decode(&mut &data[..]) {
        check(&info);
        let mut bytes = Vec::new();
        info.encode(&mut bytes);
        assert_eq!(TableInfo::decode(&mut &bytes[..]), Some(info));
    }
    match Properties::decode(data) {
        Ok(mut properties) => {
            check(&properties.info);
            // The size of the file is not stored; the tail's offset stands in for it.
            properties.info.file_bytes = properties.info.tail_offset;
            assert_eq!(Properties::decode(&properties.encode()), Ok(properties));
        }
        Err(detail) => assert!(!detail.is_empty()),
    }
}

fn check(info: &TableInfo) {
    assert!(info.smallest <= info.largest && info.tail_offset <= info.file_bytes);
    assert!(info.tombstone_count <= info.entry_count && info.sequence_min <= info.sequence_max);
}

fn seeds() -> Vec<Vec<u8>> {
    let info = TableInfo {
        table_id: 4,
        file_bytes: 777,
        tail_offset: 777,
        smallest: b"a".to_vec(),
        largest: b"bcd".to_vec(),
        entry_count: 300,
        tombstone_count: 2,
        sequence_min: 5,
        sequence_max: 1 << 40,
        raw_key_bytes: 1000,
        raw_value_bytes: 10_000,
        applied: 1 << 30,
        ingested: None,
    };
    let mut bytes = Vec::new();
    info.encode(&mut bytes);
    let mut seeds = vec![bytes];
    for (compression, filter) in [
        (Compression::None, FilterPolicy::None),
        (Compression::Lz4, FilterPolicy::Blocked { bits: 10 }),
        (Compression::Zstd, FilterPolicy::Standard { bits: 40 }),
    ] {
        let properties = Properties {
            info: info.clone(),
            creation_version: 1,
            compression,
            filter,
            block_bytes: 4096,
            keyspace: 3,
            level: 6,
            largest_block: 5000,
            block_count: 9,
            key_count: 200,
            index_bytes: 100,
            filter_bytes: 64,
            data_bytes: 40_000,
            prefix_bytes: None,
        };
        seeds.push(properties.encode());
    }
    seeds
}

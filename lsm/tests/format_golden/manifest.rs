//! FORMAT.md, "CURRENT" and "MANIFEST".

use crate::Entry;
use crate::bytes::{Walk, crc};
use std::collections::{BTreeMap, BTreeSet};

/// "Table info": what manifest and properties say of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TableInfo {
    pub table_id: u64,
    pub file_bytes: u64,
    pub tail_offset: u64,
    pub entry_count: u64,
    pub tombstone_count: u64,
    pub sequence_min: u64,
    pub sequence_max: u64,
    pub raw_key_bytes: u64,
    pub raw_value_bytes: u64,
    pub smallest: Vec<u8>,
    pub largest: Vec<u8>,
    pub applied: u64,
    /// Made as, sequence.
    pub ingested: Option<(u64, u64)>,
}

pub fn table_info(walk: &mut Walk<'_>) -> TableInfo {
    let mut body = Walk::new("table info", walk.prefixed());
    let mut number = || body.varint();
    let [table_id, file_bytes, tail_offset] = [number(), number(), number()];
    let [entry_count, tombstone_count, sequence_min] = [number(), number(), number()];
    let [sequence_max, raw_key_bytes, raw_value_bytes] = [number(), number(), number()];
    let smallest = body.prefixed().to_vec();
    let largest = body.prefixed().to_vec();
    // Tables of the first release end here.
    let applied = if body.at == body.bytes.len() { 0 } else { body.varint() };
    let is_ingested = body.at < body.bytes.len();
    let ingested = is_ingested.then(|| (body.varint(), body.varint()));
    body.end();
    TableInfo {
        table_id,
        file_bytes,
        tail_offset,
        entry_count,
        tombstone_count,
        sequence_min,
        sequence_max,
        raw_key_bytes,
        raw_value_bytes,
        smallest,
        largest,
        applied,
        ingested,
    }
}

#[derive(Debug)]
pub struct KeyspaceInfo {
    pub name: String,
    pub block_bytes: u64,
    pub compression: Vec<u8>,
    pub filter: [u8; 2],
    /// Empty for none.
    pub operator: String,
}

/// What all edits together say.
#[derive(Debug, Default)]
pub struct Manifest {
    pub keyspaces: BTreeMap<u64, KeyspaceInfo>,
    /// By table number: keyspace, level, description.
    pub tables: BTreeMap<u64, (u64, u8, TableInfo)>,
    pub next_file: u64,
    pub last_sequence: u64,
    pub log_epoch: u64,
    pub log_start: u64,
    pub promised: u64,
    pub dropped: BTreeSet<u64>,
    pub guards: BTreeMap<u64, Vec<Vec<u8>>>,
    pub ranges: Vec<Entry>,
    /// What is forgotten of the ranges before: how many these are, keys, and up to which number.
    pub forgotten: Vec<(usize, Entry)>,
    /// Time marks: milliseconds, sequence number.
    pub marks: Vec<(u64, u64)>,
    /// Change files that begin up to this number count.
    pub changes_kept: u64,
    /// Which items were met, and whether a time to live was.
    pub items: BTreeSet<u64>,
    pub has_ttl: bool,
}

/// The number of the manifest in force.
pub fn current(bytes: &[u8]) -> u64 {
    let text = std::str::from_utf8(bytes).unwrap();
    let (said, rest) = text.rsplit_once(' ').unwrap();
    let crc = u32::from_str_radix(rest.strip_prefix("crc32c=").unwrap().trim_end(), 16).unwrap();
    assert_eq!(crc, crc32c::crc32c(said.as_bytes()));
    assert_eq!(rest.len(), "crc32c=xxxxxxxx\n".len());
    let (name, durable) = said.split_once(" durable=").unwrap();
    durable.parse::<u64>().unwrap();
    name.strip_prefix("MANIFEST-").unwrap().parse().unwrap()
}

pub fn manifest(number: u64, bytes: &[u8]) -> Manifest {
    let mut walk = Walk::new("MANIFEST", bytes);
    assert_eq!(walk.take(8), b"TreeMANI");
    assert_eq!(walk.u32(), 1);
    walk.zeros(4);
    assert_eq!(walk.u64(), number);
    let covered = &bytes[..walk.at];
    assert_eq!(walk.u32(), crc(number, 0, &[covered]));
    walk.zeros(4);
    let mut manifest = Manifest::default();
    let mut durable = 0;
    let mut edits = 0;
    while walk.at < bytes.len() {
        let offset = walk.at;
        let sum = walk.u32();
        let length = walk.u32() as usize;
        let kind = walk.u8();
        let says = walk.u64();
        assert!(says >= durable && says <= offset as u64, "durable only rises, up to here");
        durable = says;
        let payload = walk.take(length);
        assert_eq!(sum, crc(number, offset as u64, &[&bytes[offset + 4..walk.at]]));
        match kind {
            1 => edit(payload, &mut manifest),
            2 => assert!(length == 0 && says == offset as u64, "a mark says: all before me"),
            other => panic!("record type {other}"),
        }
        edits += usize::from(kind == 1);
    }
    walk.end();
    assert!(edits > 0);
    manifest
}

fn edit(payload: &[u8], manifest: &mut Manifest) {
    let mut walk = Walk::new("edit", payload);
    while walk.at < payload.len() {
        let tag = walk.varint();
        let mut item = Walk::new(format!("item {tag}"), walk.prefixed());
        manifest.items.insert(tag);
        match tag {
            1 => manifest.next_file = item.varint(),
            2 => manifest.last_sequence = item.varint(),
            3 => (manifest.log_epoch, manifest.log_start) = (item.varint(), item.varint()),
            4 => {
                let id = item.varint();
                assert_eq!(id, manifest.keyspaces.len() as u64);
                let name = String::from_utf8(item.prefixed().to_vec()).unwrap();
                let block_bytes = item.varint();
                let compression = item.take(7).to_vec();
                let filter = [item.u8(), item.u8()];
                assert!((16 << 10..=1 << 30).contains(&item.varint()), "table bytes");
                assert!(item.varint() >= 16 << 10, "level base bytes");
                assert!((2..=100).contains(&item.varint()), "level fanout");
                assert!((1..=64).contains(&item.varint()), "level-0 tables");
                let mut operator = String::new();
                if item.at < item.bytes.len() {
                    operator = String::from_utf8(item.prefixed().to_vec()).unwrap();
                    assert!(operator.len() <= 256, "merge operator");
                }
                if item.at < item.bytes.len() {
                    assert!(item.varint() >= 1000, "time to live");
                    manifest.has_ttl = true;
                }
                let keyspace = KeyspaceInfo { name, block_bytes, compression, filter, operator };
                manifest.keyspaces.insert(id, keyspace);
            }
            5 => {
                let (keyspace, level) = (item.varint(), item.u8());
                let info = table_info(&mut item);
                assert!(level < 7);
                manifest.tables.insert(info.table_id, (keyspace, level, info));
            }
            6 => {
                let (keyspace, level, number) = (item.varint(), item.u8(), item.varint());
                // An edit that moves a table adds it first and removes it from its old level after.
                match manifest.tables.get(&number) {
                    Some((of, at, _)) if (*of, *at) == (keyspace, level) => {
                        manifest.tables.remove(&number);
                    }
                    found => assert!(found.is_some(), "table {number} is removed, never added"),
                }
            }
            7 => manifest.promised = item.varint(),
            8 | 10 => {
                let (keyspace, sequence) = (item.varint(), item.varint());
                let [key, value] = [(); 2].map(|()| item.prefixed().to_vec());
                assert!(value.is_empty() || key < value, "a range ends behind its start");
                let range = Entry { keyspace, key, sequence, kind: 2, value };
                match tag {
                    8 => manifest.ranges.push(range),
                    _ => manifest.forgotten.push((manifest.ranges.len(), range)),
                }
            }
            13 => manifest.changes_kept = item.varint(),
            12 => {
                let id = item.varint();
                let is_known = manifest.keyspaces.contains_key(&id);
                assert!(id > 0 && is_known && manifest.dropped.insert(id), "dropped once");
                manifest.tables.retain(|_, (of, ..)| *of != id);
                manifest.ranges.retain(|range| range.keyspace != id);
            }
            11 => {
                let keyspace = item.varint();
                let mut keys: Vec<Vec<u8>> = Vec::new();
                while item.at < item.bytes.len() {
                    keys.push(item.prefixed().to_vec());
                }
                assert!(keys.iter().all(|key| !key.is_empty()));
                assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "guard keys ascend");
                manifest.guards.insert(keyspace, keys);
            }
            9 => manifest.marks.push((item.varint(), item.varint())),
            other => panic!("item tag {other}"),
        }
        item.end();
    }
    walk.end();
}

//! FORMAT.md, "Tables": frame, data block, filter, index, properties, footer.

use crate::Entry;
use crate::bytes::{Walk, common, crc, head};
use crate::filter::check_filter;
use crate::manifest::{TableInfo, table_info};
use std::collections::BTreeMap;

/// What was met while walking tables.
#[derive(Debug, Default)]
pub struct Met {
    pub blocks_by_compression: [usize; 3],
    pub filters: [usize; 3],
    pub partitions: usize,
    pub versions: usize,
    pub tombstones: usize,
    pub sequence_zero: usize,
}

struct Footer {
    partitioned: bool,
    filter: (usize, usize),
    index: (usize, usize),
    properties: (usize, usize),
    data_end: usize,
    tail: usize,
}

fn footer(id: u64, bytes: &[u8]) -> Footer {
    let offset = bytes.len() - 64;
    let mut walk = Walk::new("footer", &bytes[offset..]);
    assert_eq!(walk.take(8), b"TRTABLE\n");
    assert_eq!(walk.u32(), 1);
    let levels = walk.u32();
    assert!(levels == 1 || levels == 2);
    assert_eq!(walk.u64(), id);
    let mut part = || (walk.u32() as usize, walk.u32() as usize);
    let (filter, index, properties) = (part(), part(), part());
    let (data_end, tail) = (walk.u32() as usize, walk.u32() as usize);
    walk.zeros(4);
    assert_eq!(walk.u32(), crc(id, offset as u64, &[&bytes[offset..offset + 60]]));
    walk.end();
    Footer { partitioned: levels == 2, filter, index, properties, data_end, tail }
}

/// "Frame": the payload, uncompressed, and how it was stored.
fn frame(id: u64, offset: usize, stored: &[u8]) -> (u8, Vec<u8>) {
    let (covered, sum) = stored.split_at(stored.len() - 4);
    assert_eq!(u32::from_le_bytes(sum.try_into().unwrap()), crc(id, offset as u64, &[covered]));
    let (payload, kind) = covered.split_at(covered.len() - 4);
    assert_eq!(kind[1..], [0; 3]);
    if kind[0] == 0 {
        return (0, payload.to_vec());
    }
    let length = u32::from_le_bytes(payload[..4].try_into().unwrap()) as usize;
    let packed = &payload[4..];
    let raw = match kind[0] {
        1 => lz4::block::decompress(packed, Some(length as i32)).unwrap(),
        2 => zstd::bulk::decompress(packed, length).unwrap(),
        other => panic!("compression {other}"),
    };
    assert_eq!(raw.len(), length);
    assert!(payload.len() <= length - length / 8, "kept only where it saves an eighth");
    (kind[0], raw)
}

pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// "Data block". Returns key, tag as (sequence, kind), value.
fn data_block(bytes: &[u8]) -> Vec<(Vec<u8>, u64, u8, Vec<u8>)> {
    let mut walk = Walk::new("block footer", &bytes[bytes.len() - 32..]);
    let tag_min = walk.u64();
    let [entries_bytes, count, prefix] = [walk.u32(), walk.u32(), walk.u32()].map(|n| n as usize);
    let [offset_width, tag_width, shift] = [walk.u8(), walk.u8(), walk.u8()].map(usize::from);
    walk.zeros(1);
    walk.zeros(8);
    walk.end();
    assert_eq!(offset_width, if entries_bytes <= 1 << 16 { 2 } else { 4 });

    let mut walk = Walk::new("block", bytes);
    let mut entries = Vec::new();
    let (mut offsets, mut restart) = (Vec::new(), Vec::new());
    let mut restarts = Vec::new();
    while walk.at < entries_bytes {
        offsets.push(walk.at as u64);
        let [shared, suffix, value] = [walk.varint(), walk.varint(), walk.varint()];
        let mut key = restart[..shared as usize].to_vec();
        key.extend_from_slice(walk.take(suffix as usize));
        let value = walk.take(value as usize).to_vec();
        if entries.len() % (1 << shift) == 0 {
            assert_eq!(shared, 0);
            restart = key.clone();
            restarts.push(key.clone());
        }
        assert_eq!(
            shared as usize,
            if restart == key && shared == 0 { 0 } else { common(&restart, &key) }
        );
        entries.push((key, 0, 0, value));
    }
    assert_eq!((walk.at, entries.len()), (entries_bytes, count));
    offsets.iter().for_each(|offset| assert_eq!(walk.uint(offset_width), *offset));
    let mut tags = Vec::new();
    for entry in &mut entries {
        let tag = tag_min + walk.uint(tag_width);
        (entry.1, entry.2) = (tag >> 3, (tag & 7) as u8);
        tags.push(tag);
    }
    assert_eq!(tags.iter().min(), Some(&tag_min));
    let spread = tags.iter().max().unwrap() - tag_min;
    assert_eq!(tag_width, (64 - spread.leading_zeros() as usize).div_ceil(8));
    assert_eq!(prefix, common(&entries[0].0, &entries[count - 1].0));
    restarts.iter().for_each(|key| assert_eq!(walk.u64(), head(key, prefix)));
    entries.iter().for_each(|entry| assert_eq!(walk.u8(), (hash(&entry.0) >> 32) as u8));
    assert_eq!(walk.at + 32, bytes.len());
    entries
}

/// "Index": separator, offset and end of each block.
fn index(bytes: &[u8]) -> Vec<(Vec<u8>, usize, usize)> {
    let mut walk = Walk::new("index footer", &bytes[bytes.len() - 8..]);
    let (count, prefix_length) = (walk.u32() as usize, walk.u32() as usize);
    let mut walk = Walk::new("index", bytes);
    let heads: Vec<u64> = (0..count).map(|_| walk.u64()).collect();
    let keys: Vec<usize> = (0..=count).map(|_| walk.u32() as usize).collect();
    let offsets: Vec<usize> = (0..=count).map(|_| walk.u32() as usize).collect();
    let separators = walk.take(keys[count]);
    let prefix = walk.take(prefix_length);
    walk.take(8);
    walk.end();
    let entry = |i: usize| {
        let rest = &separators[keys[i]..keys[i + 1]];
        assert_eq!(heads[i], head(rest, 0));
        ([prefix, rest].concat(), offsets[i], offsets[i + 1])
    };
    assert_eq!(keys[0], 0);
    (0..count).map(entry).collect()
}

pub struct Properties {
    info: TableInfo,
    numbers: BTreeMap<u64, u64>,
}

fn properties(bytes: &[u8]) -> Properties {
    let mut walk = Walk::new("properties", bytes);
    let (mut info, mut numbers) = (None, BTreeMap::new());
    while walk.at < bytes.len() {
        let tag = walk.varint();
        let mut value = Walk::new(format!("property {tag}"), walk.prefixed());
        match tag {
            1 => info = Some(table_info(&mut value)),
            2..=13 => drop(numbers.insert(tag, value.varint())),
            other => panic!("property {other}"),
        }
        value.end();
    }
    walk.end();
    assert!((2..=13).all(|tag| numbers.contains_key(&tag)));
    Properties { info: info.unwrap(), numbers }
}

/// Walks a whole table and compares it with what the manifest says of it.
pub fn table(keyspace: u64, expected: &TableInfo, bytes: &[u8], met: &mut Met) -> Vec<Entry> {
    // What the checksums of the file were made with, and what is added to the sequence numbers in it.
    let (id, raised) = expected.ingested.unwrap_or((expected.table_id, 0));
    let footer = footer(id, bytes);
    let part = |(offset, length): (usize, usize)| {
        let (kind, payload) = frame(id, offset, &bytes[offset..offset + length]);
        assert_eq!(kind, 0, "the tail is never compressed");
        payload
    };

    // The parts, front to back: data, partitions, zeros, filter, index, properties, footer.
    let mut at = footer.data_end;
    let mut blocks = Vec::new();
    let top = index(&part(footer.index));
    if footer.partitioned {
        for (separator, offset, end) in &top {
            assert_eq!(*offset, at);
            let (kind, payload) = frame(id, at, &bytes[at..*end]);
            assert_eq!(kind, 0);
            blocks.extend(index(&payload));
            assert_eq!(blocks.last().map(|(last, ..)| last), Some(separator));
            met.partitions += 1;
            at = *end;
        }
    } else {
        blocks = top;
    }
    let index_bytes = at - footer.data_end + footer.index.1;
    assert_eq!(footer.tail, at.next_multiple_of(64));
    assert!(bytes[at..footer.tail].iter().all(|&byte| byte == 0));
    assert_eq!(footer.filter.0, footer.tail);
    assert_eq!(footer.index.0, footer.tail + footer.filter.1);
    assert_eq!(footer.properties.0, footer.index.0 + footer.index.1);
    assert_eq!(footer.properties.0 + footer.properties.1 + 64, bytes.len());

    let mut entries = Vec::new();
    let (mut largest, mut raw, mut end_before) = (0, 0, 0);
    let mut last: Option<(Vec<u8>, u64)> = None;
    for (number, (separator, offset, end)) in blocks.iter().enumerate() {
        assert_eq!(*offset, end_before, "blocks follow one another");
        end_before = *end;
        let (kind, block) = frame(id, *offset, &bytes[*offset..*end]);
        met.blocks_by_compression[usize::from(kind)] += 1;
        largest = largest.max(block.len());
        raw += block.len();
        let rows = data_block(&block);
        assert!(number == 0 || blocks[number - 1].0 < rows[0].0, "separator below the next block");
        assert!(*separator >= rows[rows.len() - 1].0, "separator not below its block");
        for (key, sequence, kind, value) in rows {
            assert!(raised == 0 || sequence == 0, "an ingested entry with a number of its own");
            let sequence = sequence + raised;
            if let Some((before, newer)) = &last {
                assert!(*before < key || *before == key && *newer > sequence, "order of entries");
                met.versions += usize::from(*before == key);
            }
            met.tombstones += usize::from(kind == 0);
            met.sequence_zero += usize::from(sequence == 0);
            last = Some((key.clone(), sequence));
            entries.push(Entry { keyspace, key, sequence, kind, value });
        }
    }
    assert_eq!(end_before, footer.data_end);

    let mut keys: Vec<&[u8]> = entries.iter().map(|entry| &entry.key[..]).collect();
    keys.dedup();
    let properties = properties(&part(footer.properties));
    let filter = properties.numbers[&4];
    if footer.filter.1 > 0 {
        check_filter(&part(footer.filter), filter, &keys, met);
    } else {
        assert_eq!(filter, 0);
        met.filters[0] += 1;
    }

    // What the table and the manifest say of it is true.
    let count = |predicate: fn(&Entry) -> bool| entries.iter().filter(|e| predicate(e)).count();
    let found = TableInfo {
        table_id: expected.table_id,
        file_bytes: bytes.len() as u64,
        tail_offset: footer.tail as u64,
        entry_count: entries.len() as u64,
        tombstone_count: count(|entry| entry.kind == 0) as u64,
        sequence_min: entries.iter().map(|entry| entry.sequence).min().unwrap(),
        sequence_max: entries.iter().map(|entry| entry.sequence).max().unwrap(),
        raw_key_bytes: entries.iter().map(|entry| entry.key.len() as u64).sum(),
        raw_value_bytes: entries.iter().map(|entry| entry.value.len() as u64).sum(),
        smallest: keys[0].to_vec(),
        largest: keys[keys.len() - 1].to_vec(),
        // Nothing in the entries tells.
        applied: expected.applied,
        ingested: expected.ingested,
    };
    assert_eq!(found, *expected);
    let mut told = TableInfo { file_bytes: found.tail_offset, ..found };
    if told.ingested.take().is_some() {
        // The file knows nothing of that.
        told = TableInfo { table_id: id, sequence_min: 0, sequence_max: 0, ..told };
        told.applied = properties.info.applied;
    }
    assert_eq!(told, properties.info);
    let number = |tag: u64| properties.numbers[&tag] as usize;
    assert_eq!(number(2), 1);
    assert!(expected.ingested.is_some() || number(6) == keyspace as usize);
    assert!(number(3) <= 2 && number(7) < 7);
    assert_eq!((number(8), number(9), number(10)), (largest, blocks.len(), keys.len()));
    assert_eq!((number(11), number(12), number(13)), (index_bytes, footer.filter.1, raw));
    entries
}

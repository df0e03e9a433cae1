//! The data block: parse, search, walk both ways.
//!
//! Promise: any bytes are refused in words or become a block whose every entry is reached forward, backward and by number, and
//! shows the same each time. Where the entries are in order, the block that the builder makes of them answers as a
//! sorted list does. Memory: the block itself, and one key.

use crate::input::Input;
use crate::{Target, samples};
use treering_lsm::base::hash::key_hash;
use treering_lsm::base::key::{SEQUENCE_MAX, Tag};
use treering_lsm::format::block::{Block, BlockBuilder, BlockCursor};

pub(crate) const TARGET: Target = Target {
    name: "block",
    promise: "any bytes are refused or become a block that shows the same forward, backward and by search",
    run,
    seeds,
};

/// Entries copied out for the comparison with a sorted list; keys of a hostile block may share 64 KiB each.
const BYTES_MAX: usize = 1 << 20;

type Entry = (Vec<u8>, Tag, Vec<u8>);

fn run(data: &[u8]) {
    let length = data.len();
    let block = match Block::parse(data.to_vec()) {
        Ok(block) => block,
        Err(detail) => return assert!(!detail.is_empty()),
    };
    assert!(block.count() > 0 && block.count() <= length);
    assert_eq!(block.byte_length(), length);
    let Some(entries) = walk(&block) else { return };
    for (index, (key, tag, value)) in entries.iter().enumerate().take(64) {
        let cursor = BlockCursor::new(&block, index as u32);
        assert_eq!(cursor.entry(), (&key[..], *tag, &value[..]));
        // The fingerprints and the order may be lies; then these only have to come back.
        block.find(key, key_hash(key), SEQUENCE_MAX);
        block.lower_bound(key);
        block.lower_bound_version(key, *tag);
    }
    let ordered = entries
        .windows(2)
        .all(|pair| pair[0].0 < pair[1].0 || pair[0].0 == pair[1].0 && pair[0].1 > pair[1].1);
    if ordered {
        let bytes = build(&entries);
        let block = Block::parse(bytes).expect("what a builder makes is a block");
        check_sorted(&block, &entries);
    }
}

/// All entries, the same forward and backward; `None` where they are too many bytes to copy.
fn walk(block: &Block) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut bytes = 0;
    let mut cursor = BlockCursor::new(block, 0);
    loop {
        assert_eq!(cursor.index() as usize, entries.len());
        let (key, tag, value) = cursor.entry();
        bytes += key.len() + value.len() + 16;
        if bytes > BYTES_MAX {
            return None;
        }
        entries.push((key.to_vec(), tag, value.to_vec()));
        if !cursor.step_on() {
            break;
        }
    }
    assert_eq!(entries.len(), block.count());
    for (key, tag, value) in entries.iter().rev().skip(1) {
        assert!(cursor.step_back());
        assert_eq!(cursor.entry(), (&key[..], *tag, &value[..]));
    }
    assert!(!cursor.step_back());
    Some(entries)
}

fn build(entries: &[Entry]) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    for (key, tag, value) in entries {
        builder.add(key, key_hash(key), *tag, value);
    }
    let keys = entries.first().zip(entries.last());
    let (first, last) = keys.expect("a block has an entry");
    builder.finish(&first.0, &last.0).to_vec()
}

/// Every search answers as a linear one over `entries` does.
fn check_sorted(block: &Block, entries: &[Entry]) {
    assert_eq!(walk(block).as_deref(), Some(entries));
    for (key, tag, value) in entries.iter().take(256) {
        let found = block.find(key, key_hash(key), tag.sequence());
        let newest = entries.iter().find(|e| e.0 == *key && e.1.sequence() <= tag.sequence());
        let wanted = newest.map(|e| (e.1, &e.2[..]));
        assert_eq!(found, wanted, "value {}", value.escape_ascii());
        let below = |probe: &[u8]| entries.iter().filter(|e| &e.0[..] < probe).count();
        let longer = [&key[..], &[0]].concat();
        for probe in [&key[..], &longer, &key[..key.len() / 2]] {
            assert_eq!(block.lower_bound(probe) as usize, below(probe));
        }
        let before = entries.iter().filter(|e| e.0 < *key || e.0 == *key && e.1 > *tag).count();
        assert_eq!(block.lower_bound_version(key, *tag) as usize, before);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<_> =
        [1, 3, 20, 60].map(|count| build(&samples::entries(count))).into_iter().collect();
    // Wide offsets, long keys, a tag of every width.
    let long = |i: u8| (vec![b'k'; 200 + usize::from(i)], Tag(u64::from(i) << 40), vec![i; 9000]);
    seeds.push(build(&(1..9).map(long).collect::<Vec<_>>()));
    let versions = (0..40u64).rev().map(|i| (b"key".to_vec(), Tag(i << 8 | 1), Vec::new()));
    seeds.push(build(&versions.collect::<Vec<_>>()));
    let mut input = Input::new(b"a short input");
    seeds.push(input.take(9).to_vec());
    seeds
}

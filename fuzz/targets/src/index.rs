//! The index, flat and partitioned.
//!
//! ```text
//! input:  mode u8 │ even: end of the blocks u32 │ the bytes of an index
//!                 │ odd:  bytes of a flat index at most u16 │ entry ...     entry: length u8 │ separator │ block bytes u8
//! ```
//!
//! Promise: any bytes are refused in words or become an index whose blocks lie where they may and whose search answers for every
//! key; where the separators are in order, as a sorted list does. Memory: the index and its common prefix.

use crate::input::Input;
use crate::{Target, samples};
use std::sync::Arc;
use treering_lsm::format::index::{BuiltIndex, Index, IndexBuilder};
use treering_lsm::io::AlignedBuffer;

pub(crate) const TARGET: Target = Target {
    name: "index",
    promise: "any bytes are refused or become an index that answers every search inside its bounds",
    run,
    seeds,
};

/// Separators copied out for the comparison; all share the prefix of a hostile index.
const BYTES_MAX: usize = 1 << 20;

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.u8().is_multiple_of(2) {
        let end = u64::from(input.u32());
        if let Ok(index) = parse(input.rest(), end) {
            check(&index, end);
        }
        return;
    }
    let flat_bytes_max = usize::from(input.u16());
    let mut entries = Vec::new();
    while !input.is_empty() {
        let length = usize::from(input.u8());
        entries.push((input.take(length).to_vec(), 1 + u32::from(input.u8())));
    }
    entries.sort();
    entries.dedup_by(|a, b| a.0 == b.0);
    if !entries.is_empty() {
        check_built(&entries, flat_bytes_max);
    }
}

fn parse(bytes: &[u8], end: u64) -> Result<Index, String> {
    Index::parse(Arc::new(AlignedBuffer::copy_of(bytes)), 0..bytes.len(), 0..end)
}

/// Handles are contiguous and inside, and searches are right. Returns the separators, if they are not too many bytes.
fn check(index: &Index, end: u64) -> Option<Vec<Vec<u8>>> {
    let count = index.count();
    assert!(count > 0 && index.blocks_end() <= end);
    for i in 1..count {
        assert_eq!(index.handle(i - 1).end(), u64::from(index.handle(i).offset));
    }
    assert_eq!(index.handle(count - 1).end(), index.blocks_end());
    let mut bytes = 0;
    let mut separators = Vec::new();
    for i in 0..count {
        separators.push(index.separator_key(i));
        bytes += separators[i].len() + 32;
        if bytes > BYTES_MAX {
            return None;
        }
    }
    let sorted = separators.is_sorted();
    let step = count.div_ceil(200);
    for key in separators.iter().step_by(step) {
        let longer = [&key[..], &[0]].concat();
        let mut below = key.clone();
        if let Some(last) = below.last_mut() {
            *last = last.wrapping_sub(1);
        }
        for probe in [&key[..], &longer, &below, &key[..key.len() / 2], &[], &[0xff; 9]] {
            let found = index.search(probe);
            assert!(found.is_none_or(|found| found < count));
            if sorted {
                let wanted = separators.partition_point(|separator| &separator[..] < probe);
                assert_eq!(found, (wanted < count).then_some(wanted), "{}", probe.escape_ascii());
            }
        }
    }
    Some(separators)
}

/// What is built is parsed, and shows what went in.
fn check_built(entries: &[(Vec<u8>, u32)], flat_bytes_max: usize) {
    let mut builder = IndexBuilder::new();
    let mut offset = 0;
    for (separator, bytes) in entries {
        builder.add(separator, offset);
        offset += bytes;
    }
    let wanted: Vec<&[u8]> = entries.iter().map(|(separator, _)| &separator[..]).collect();
    let mut found = Vec::new();
    match builder.finish(offset, flat_bytes_max) {
        BuiltIndex::Flat(bytes) => found.extend(check_encoded(&bytes, offset)),
        BuiltIndex::Partitioned(partitions) => {
            for (separator, bytes) in partitions {
                found.extend(check_encoded(&bytes, offset));
                assert_eq!(found.last(), Some(&separator));
            }
        }
    }
    assert!(found.iter().map(Vec::as_slice).eq(wanted));
}

fn check_encoded(bytes: &[u8], end: u32) -> Vec<Vec<u8>> {
    let index = parse(bytes, end.into()).expect("what was built is an index");
    check(&index, end.into()).expect("an input is shorter than the bound")
}

fn encoded(keys: &[Vec<u8>], flat_bytes_max: usize) -> Vec<Vec<u8>> {
    let mut builder = IndexBuilder::new();
    for (i, key) in keys.iter().enumerate() {
        builder.add(key, i as u32 * 100);
    }
    match builder.finish(keys.len() as u32 * 100, flat_bytes_max) {
        BuiltIndex::Flat(bytes) => vec![bytes],
        BuiltIndex::Partitioned(partitions) => partitions.into_iter().map(|(_, b)| b).collect(),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let numbers: Vec<Vec<u8>> = (0..80u64).map(|i| (i * 1000).to_be_bytes().to_vec()).collect();
    for keys in [samples::keys(1), samples::keys(6), samples::keys(40), numbers] {
        for bytes in encoded(&keys, usize::MAX).into_iter().chain(encoded(&keys, 300)).take(3) {
            seeds.push([&[0][..], &100_000u32.to_le_bytes(), &bytes].concat());
        }
        let list = keys.iter().flat_map(|key| [&[key.len() as u8], &key[..], &[9]].concat());
        seeds.push([1, 200, 0].into_iter().chain(list).collect());
    }
    seeds
}

use super::*;
use crate::base::random::Random;

fn parse(bytes: &[u8], blocks_end: u64) -> Result<Index, String> {
    Index::parse(Arc::new(AlignedBuffer::copy_of(bytes)), 0..bytes.len(), 0..blocks_end)
}

fn flat(separators: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = IndexBuilder::new();
    for (i, separator) in separators.iter().enumerate() {
        builder.add(separator, i as u32 * 100);
    }
    match builder.finish(separators.len() as u32 * 100, usize::MAX) {
        BuiltIndex::Flat(bytes) => bytes,
        BuiltIndex::Partitioned(_) => panic!("flat was asked for"),
    }
}

fn random_separators(random: &mut Random) -> Vec<Vec<u8>> {
    let count = 1 + random.below(600);
    let prefix = vec![b'x'; random.below(10) as usize];
    let shape = random.below(3);
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|i| {
            let mut key = prefix.clone();
            match shape {
                0 => key.extend_from_slice(&random.next_u64().to_be_bytes()),
                1 => key.extend_from_slice(format!("{:020}", i * 1000).as_bytes()),
                _ => {
                    key.extend((0..random.below(14)).map(|_| b"\0a\xff"[random.below(3) as usize]))
                }
            }
            key
        })
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

#[test]
fn a_search_agrees_with_a_plain_list() {
    let mut with_line = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let keys = random_separators(&mut random);
        let index = parse(&flat(&keys), keys.len() as u64 * 100).expect("a built index parses");
        with_line += usize::from(index.line.is_some());
        for _ in 0..300 {
            let mut key = keys[random.below(keys.len() as u64) as usize].clone();
            match random.below(5) {
                0 => key.push(0),
                1 => drop(key.pop()),
                2 => key = random.next_u64().to_be_bytes().to_vec(),
                3 => {
                    if let Some(last) = key.last_mut() {
                        *last = last.wrapping_add(random.next_u64() as u8);
                    }
                }
                _ => {}
            }
            let expected = keys.iter().position(|separator| *separator >= key);
            assert_eq!(index.search(&key), expected, "seed {seed} key {key:?}");
        }
    }
    assert!(with_line > 50, "the line was used {with_line} times");
}

#[test]
fn a_separator_parts_two_neighbours_and_is_never_longer() {
    let mut random = Random::new(3);
    let mut out = Vec::new();
    for _ in 0..20_000 {
        let mut key = || -> Vec<u8> {
            (0..1 + random.below(5)).map(|_| b"\0\x01a\xfe\xff"[random.below(5) as usize]).collect()
        };
        let (mut last, mut next) = (key(), key());
        if last == next {
            continue;
        }
        if last > next {
            std::mem::swap(&mut last, &mut next);
        }
        separator(&last, &next, &mut out);
        assert!(last <= out && out < next, "{last:?} {out:?} {next:?}");
        assert!(out.len() <= last.len().max(next.len()));
    }
}

#[test]
fn a_wrong_index_is_refused_or_searched_in_bounds() {
    let mut refused = 0;
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let keys = random_separators(&mut random);
        let good = flat(&keys);
        for _ in 0..100 {
            let mut bytes = good.clone();
            let at = if random.one_in(2) {
                bytes.len() - 1 - random.below(8) as usize
            } else {
                random.below(bytes.len() as u64) as usize
            };
            bytes[at] ^= 1 << random.below(8);
            if random.one_in(4) {
                bytes.truncate(random.below(bytes.len() as u64) as usize);
            }
            match parse(&bytes, keys.len() as u64 * 100) {
                Err(_) => refused += 1,
                Ok(index) => {
                    for key in &keys {
                        if let Some(i) = index.search(key) {
                            assert!(index.handle(i).end() <= keys.len() as u64 * 100);
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 1000, "only {refused} damaged indexes were refused");
}

#[test]
fn partitions_cover_all_blocks_without_a_gap() {
    let keys: Vec<Vec<u8>> = (0..1000u32).map(|i| format!("{i:08}").into_bytes()).collect();
    let mut builder = IndexBuilder::new();
    for (i, key) in keys.iter().enumerate() {
        builder.add(key, i as u32 * 10);
    }
    let BuiltIndex::Partitioned(partitions) = builder.finish(10_000, 500) else {
        panic!("partitions were asked for");
    };
    assert!(partitions.len() > 10);
    let mut next = 0;
    for (last, bytes) in &partitions {
        let index = parse(bytes, 10_000).expect("parses");
        for i in 0..index.count() {
            assert_eq!(index.separator_key(i), keys[next]);
            assert_eq!(index.handle(i), BlockHandle { offset: next as u32 * 10, bytes: 10 });
            next += 1;
        }
        assert_eq!(*last, keys[next - 1]);
    }
    assert_eq!(next, keys.len());
}

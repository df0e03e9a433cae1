use super::*;
use crate::base::hash::key_hash;
use crate::base::key::Kind;
use crate::base::random::Random;

type Entries = Vec<(Vec<u8>, Tag, Vec<u8>)>;

fn build(entries: &Entries) -> Vec<u8> {
    let mut builder = BlockBuilder::new();
    for (key, tag, value) in entries {
        assert!(builder.fits(key.len(), value.len()));
        builder.add(key, key_hash(key), *tag, value);
    }
    builder.finish(&entries[0].0, &entries[entries.len() - 1].0).to_vec()
}

/// Sorted entries with keys of a few shapes and up to `versions` versions each.
fn random_entries(random: &mut Random, count: usize, versions: u64) -> Entries {
    let prefix: Vec<u8> = (0..random.below(12)).map(|_| b'p').collect();
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|_| {
            let mut key = prefix.clone();
            let longest = if random.one_in(20) { 300 } else { 18 };
            let length = 1 + random.below(longest);
            key.extend((0..length).map(|_| b"\0ab\xff"[random.below(4) as usize]));
            key
        })
        .collect();
    keys.sort();
    keys.dedup();
    let wide = random.one_in(2);
    let mut entries = Entries::new();
    for key in keys {
        let mut sequence = if wide { random.below(SEQUENCE_MAX - 100) + 100 } else { 50 };
        for _ in 0..1 + random.below(versions) {
            let kind = if random.one_in(4) { Kind::Delete } else { Kind::Put };
            let longest = if random.one_in(30) { 5000 } else { 40 };
            let length = match kind {
                Kind::Delete => 0,
                _ => random.below(longest),
            };
            let value = (0..length).map(|_| random.next_u64() as u8).collect();
            entries.push((key.clone(), Tag::new(sequence, kind), value));
            sequence -= 1 + random.below(10);
        }
    }
    entries
}

fn model_find<'a>(entries: &'a Entries, key: &[u8], sequence: u64) -> Option<(Tag, &'a [u8])> {
    let visible =
        |entry: &&(Vec<u8>, Tag, Vec<u8>)| entry.0 == key && entry.1.sequence() <= sequence;
    entries.iter().find(visible).map(|(_, tag, value)| (*tag, &value[..]))
}

#[test]
fn every_read_of_a_block_agrees_with_a_plain_list() {
    // Promise: find, seek and both directions answer as a sorted list does.
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let count = [1, 2, 15, 16, 17, 40, 700][random.below(7) as usize];
        let entries = random_entries(&mut random, count, 4);
        let block = Block::parse(build(&entries)).expect("a built block parses");
        assert_eq!(block.count(), entries.len(), "seed {seed}");

        let mut walk = Walk::default();
        walk.set(&block, 0);
        for (index, (key, tag, value)) in entries.iter().enumerate() {
            assert_eq!(walk.index() as usize, index);
            assert_eq!((walk.key(&block), walk.tag()), (&key[..], *tag), "seed {seed}");
            assert_eq!(walk.value(&block), &value[..]);
            assert_eq!(walk.next(&block), index + 1 < entries.len());
        }
        for (index, (key, tag, value)) in entries.iter().enumerate().rev() {
            assert_eq!((walk.key(&block), walk.tag()), (&key[..], *tag), "seed {seed}");
            assert_eq!(walk.value(&block), &value[..]);
            assert_eq!(walk.prev(&block), index > 0);
        }

        for _ in 0..200 {
            let mut key = entries[random.below(entries.len() as u64) as usize].0.clone();
            match random.below(5) {
                0 => key.push(0),
                1 => drop(key.pop()),
                2 => {
                    let at = random.below(key.len() as u64) as usize;
                    key[at] = key[at].wrapping_add(1);
                }
                _ => {}
            }
            let sequence = match random.below(3) {
                0 => SEQUENCE_MAX,
                1 => random.below(60),
                _ => entries[random.below(entries.len() as u64) as usize].1.sequence(),
            };
            let found = block.find(&key, key_hash(&key), sequence);
            assert_eq!(found, model_find(&entries, &key, sequence), "seed {seed}");
            let bound = entries.iter().position(|entry| entry.0 >= key).unwrap_or(entries.len());
            assert_eq!(block.lower_bound(&key) as usize, bound, "seed {seed}");
            let tag = Tag::seek(sequence);
            let after =
                |entry: &(Vec<u8>, Tag, Vec<u8>)| entry.0 > key || entry.0 == key && entry.1 <= tag;
            let bound = entries.iter().position(after).unwrap_or(entries.len());
            assert_eq!(block.lower_bound_version(&key, tag) as usize, bound, "seed {seed}");
        }
    }
}

#[test]
fn a_wrong_block_under_a_right_checksum_is_refused_or_read_in_bounds() {
    // Promise 2. Debug builds assert every raw read to lie in bounds.
    let mut refused = 0;
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let count = 1 + random.below(60) as usize;
        let entries = random_entries(&mut random, count, 3);
        let good = build(&entries);
        for round in 0..400 {
            let mut bytes = good.clone();
            for _ in 0..1 + random.below(3) {
                // Mostly in the footer and the columns, which hold the lengths.
                let span = if round % 2 == 0 { bytes.len().min(64) } else { bytes.len() };
                let at = bytes.len() - 1 - random.below(span as u64) as usize;
                bytes[at] = random.next_u64() as u8;
            }
            if random.one_in(8) {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
            }
            let Ok(block) = Block::parse(bytes) else {
                refused += 1;
                continue;
            };
            let mut walk = Walk::default();
            walk.set(&block, 0);
            while walk.next(&block) {
                std::hint::black_box((walk.key(&block).len(), walk.value(&block).len()));
            }
            while walk.prev(&block) {
                std::hint::black_box((walk.key(&block).len(), walk.value(&block).len()));
            }
            for (key, tag, _) in &entries {
                std::hint::black_box(block.find(key, key_hash(key), tag.sequence()));
                std::hint::black_box(block.lower_bound_version(key, *tag));
            }
        }
    }
    assert!(refused > 1000, "only {refused} damaged blocks were refused");
}

#[test]
fn a_truncated_block_is_refused_at_every_length() {
    let entries = random_entries(&mut Random::new(5), 30, 2);
    let good = build(&entries);
    for cut in 0..good.len() {
        assert!(Block::parse(good[..cut].to_vec()).is_err(), "cut at {cut}");
    }
}

#[test]
fn long_keys_and_huge_values_keep_their_bytes() {
    let key = |byte: u8| {
        let mut key = vec![b'k'; KEY_BYTES_MAX];
        key[KEY_BYTES_MAX - 1] = byte;
        key
    };
    let mut entries = Entries::new();
    for byte in 0..20 {
        entries.push((key(byte), Tag::new(7, Kind::Put), vec![byte; 100_000]));
    }
    entries.push((vec![b'l'], Tag::new(9, Kind::Put), vec![1; 5 << 20]));
    let block = Block::parse(build(&entries)).expect("parses");
    for (key, tag, value) in &entries {
        assert_eq!(block.find(key, key_hash(key), 9), Some((*tag, &value[..])));
    }
    let mut walk = Walk::default();
    walk.set(&block, 20);
    for (key, _, value) in entries.iter().rev() {
        assert_eq!((walk.key(&block), walk.value(&block)), (&key[..], &value[..]));
        walk.prev(&block);
    }
}

#[test]
fn equal_tags_cost_no_bytes() {
    let entries: Entries =
        (0..32u8).map(|i| (vec![i], Tag::new(0, Kind::Put), Vec::new())).collect();
    let bytes = build(&entries);
    // Per entry: 3 header, 1 suffix, 2 offset, 1 fingerprint; two heads; footer.
    assert_eq!(bytes.len(), 32 * 7 + 2 * 8 + FOOTER_BYTES);
}

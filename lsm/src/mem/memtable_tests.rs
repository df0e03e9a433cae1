//! Tests of the memtable and its cursor against a model.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::cursor::EntryCursor;
use crate::base::key::{Kind, SEQUENCE_MAX, Tag};
use crate::base::random::Random;
use crate::mem::arena::ArenaPool;
use crate::mem::memtable::Memtable;

/// Entries in order: key ascending, tag descending.
type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<Tag>), Vec<u8>>;

fn model_key(key: &[u8], tag: Tag) -> (Vec<u8>, std::cmp::Reverse<Tag>) {
    (key.to_vec(), std::cmp::Reverse(tag))
}

fn size(full: u64) -> u64 {
    if cfg!(miri) { full / 100 + 300 } else { full }
}

/// An arena full of the bytes of an earlier life.
fn stale_pool(bytes: usize) -> Arc<ArenaPool> {
    let pool = ArenaPool::new(bytes, 1);
    let arena = pool.take(0).unwrap();
    let place = arena.applier().allocate(bytes, 8).unwrap();
    // SAFETY: all of it was just allocated.
    unsafe { place.write_bytes(0xa5, bytes) };
    drop(arena);
    pool
}

/// Everything a memtable can be asked, compared with the model.
fn check(memtable: &Arc<Memtable>, model: &Model, random: &mut Random, keys: &[Vec<u8>]) {
    assert_eq!(memtable.len(), model.len() as u64);
    let mut cursor = memtable.cursor();
    cursor.seek_to_first().unwrap();
    for ((key, tag), value) in model {
        assert!(cursor.valid());
        assert_eq!((cursor.key(), cursor.tag(), cursor.value()), (&key[..], tag.0, &value[..]));
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    cursor.seek_to_last().unwrap();
    for ((key, tag), value) in model.iter().rev() {
        assert!(cursor.valid());
        assert_eq!((cursor.key(), cursor.tag(), cursor.value()), (&key[..], tag.0, &value[..]));
        cursor.prev().unwrap();
    }
    assert!(!cursor.valid());
    let sequence_max = model.keys().map(|key| key.1.0.sequence()).max().unwrap_or(1);
    for _ in 0..200 {
        let mut key = keys[random.below(keys.len() as u64) as usize].clone();
        match random.below(4) {
            0 => key.push(random.next_u64() as u8),
            1 => drop(key.pop()),
            _ => {}
        }
        let sequence = random.below(sequence_max + 2);
        let tag = Tag::seek(sequence);
        let first = model.range(model_key(&key, tag)..).next();
        let expected = first
            .filter(|((other, _), _)| *other == key)
            .map(|((_, tag), value)| (tag.0, &value[..]));
        assert_eq!(memtable.get(&key, sequence), expected, "{key:?} {sequence}");
        cursor.seek(&key, tag).unwrap();
        let at = |cursor: &dyn EntryCursor| {
            cursor.valid().then(|| model_key(cursor.key(), cursor.tag()))
        };
        assert_eq!(at(&cursor), first.map(|(key, _)| key.clone()));
        // A few steps in random directions.
        for _ in 0..random.below(4) {
            let Some(here) = at(&cursor) else { break };
            let next = if random.one_in(2) {
                cursor.next().unwrap();
                model.range((Bound::Excluded(here), Bound::Unbounded)).next()
            } else {
                cursor.prev().unwrap();
                model.range(..here).next_back()
            };
            assert_eq!(at(&cursor), next.map(|(key, _)| key.clone()));
        }
        cursor.seek_before(&key).unwrap();
        let before = model.range(..model_key(&key, Tag::MAX)).next_back();
        assert_eq!(at(&cursor), before.map(|(key, _)| key.clone()));
    }
}

/// Inserts `count` versions of keys from `next_key`, in order of sequence or shuffled, and checks now and then.
fn run(seed: u64, count: u64, hint: &[u8], next_key: &mut dyn FnMut(&mut Random) -> Vec<u8>) {
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let shuffled = random.one_in(4);
    let memtable = Arc::new(Memtable::new(stale_pool(32 << 20).take(0).unwrap(), hint));
    let (mut model, mut keys) = (Model::new(), Vec::new());
    assert_eq!(memtable.get(b"", SEQUENCE_MAX), None);
    for step in 0..count {
        let key = next_key(&mut random);
        let sequence = if shuffled { step ^ 0x2a5 } else { step };
        let kind = if random.one_in(5) { Kind::Delete } else { Kind::Put };
        let value = vec![step as u8; if kind == Kind::Put { random.below(20) as usize } else { 0 }];
        let tag = Tag::new(sequence, kind);
        assert!(memtable.insert(&key, tag, &value));
        model.insert(model_key(&key, tag), value);
        keys.push(key);
        if step.is_power_of_two() && step < 256 || step == count / 2 {
            check(&memtable, &model, &mut random, &keys);
        }
    }
    check(&memtable, &model, &mut random, &keys);
    let deletes = model.keys().filter(|key| key.1.0.kind() == Kind::Delete).count();
    assert_eq!(memtable.tombstones(), deletes as u64);
    let bytes: usize = model.iter().map(|(key, value)| key.0.len() + value.len()).sum();
    assert_eq!(memtable.data_bytes(), bytes as u64);
}

#[test]
fn random_keys_of_every_shape_stand_as_in_the_model() {
    for seed in 0..8 {
        run(seed, size(6000), b"", &mut |random| random.below(1 << 40).to_string().into_bytes());
        // Short keys over a small alphabet: prefixes of each other, the empty key, many versions.
        run(seed, size(4000), b"", &mut |random| {
            (0..random.below(6)).map(|_| [0, b'a', b'b', 0xff][random.below(4) as usize]).collect()
        });
        // Identical heads: what differs stands deeper than a head reaches.
        run(seed, size(4000), b"", &mut |random| {
            let (tenant, user) = (random.below(20), random.below(1000));
            format!("tenant-{tenant:06}/account-of-user-{user:06}").into_bytes()
        });
    }
}

#[test]
fn a_wrong_prefix_is_only_slow() {
    // The guess is wrong below, above, for some and for all keys, and some keys are shorter than it.
    for seed in 0..4 {
        for hint in [&b"m"[..], b"mmmmmmmmmmmmmmmmmmmm", b"\xff\xff", b"\0"] {
            run(seed, size(3000), hint, &mut |random| {
                let start = [&b""[..], b"a", b"m", b"mm", b"mmmmmmmmmmmmmmmmmmmmm", b"z\xff"]
                    [random.below(6) as usize];
                [start, random.below(500).to_string().as_bytes()].concat()
            });
        }
        // The keys leave a prefix that was learned from the first leaf, first slowly and then for good.
        let mut step = 0;
        run(seed, size(8000), b"", &mut |random| {
            step += 1;
            let family = if step < 200 || random.below(6000) > step { "user" } else { "item" };
            format!("{family}{:09}", random.below(1_000_000_000)).into_bytes()
        });
    }
}

#[test]
fn ascending_and_descending_loads_stand_as_in_the_model() {
    for width in [1, 4, 20] {
        let mut step = 0u32;
        run(1, size(20_000), b"", &mut |_| {
            step += 1;
            format!("{:0width$}", step * 7).into_bytes()
        });
        let mut step = 1 << 30;
        run(2, size(20_000), b"", &mut |_| {
            step -= 3;
            format!("{step:0width$}").into_bytes()
        });
        // Several ascending streams between each other, with strays into full leaves.
        let mut step = 0u32;
        run(3, size(20_000), b"", &mut |random| {
            step += 1;
            let at = if random.one_in(10) { random.below(u64::from(step)) as u32 } else { step };
            format!("stream-{}/{at:0width$}", step % 5).into_bytes()
        });
    }
}

#[test]
fn ascending_load_fills_its_leaves() {
    let pool = ArenaPool::new(8 << 20, 0);
    let arena = pool.take(0).unwrap();
    let memtable = Memtable::new(Arc::clone(&arena), b"");
    for n in 0..20_000u64 {
        assert!(memtable.insert(format!("{n:016}").as_bytes(), Tag::new(n, Kind::Put), &[7; 100]));
    }
    // Entry 136, slot 12.5, and 26 for the split that a stray may cause.
    assert!(arena.used() / 20_000 < 180, "{} bytes an entry", arena.used() / 20_000);
}

#[test]
fn long_keys_and_values_stand_as_in_the_model() {
    let value = vec![3; 1 << 20];
    let memtable =
        Arc::new(Memtable::new(ArenaPool::new(64 << 20, 0).take(0).unwrap(), b"kkkkkkkkk"));
    let mut model = Model::new();
    for n in 0..size(300) {
        let mut key = vec![b'k'; crate::base::limits::KEY_BYTES_MAX - (n % 2) as usize];
        let end = key.len() - 4;
        key[end..].copy_from_slice(&((n / 3) as u32).to_be_bytes());
        let value = if n % 100 == 7 { &value[..] } else { b"short" };
        assert!(memtable.insert(&key, Tag::new(n, Kind::Put), value));
        model.insert(model_key(&key, Tag::new(n, Kind::Put)), value.to_vec());
    }
    let keys: Vec<_> = model.keys().map(|key| key.0.clone()).collect();
    check(&memtable, &model, &mut Random::new(9), &keys);
}

#[test]
fn a_hot_key_with_leaves_full_of_its_versions_stays_correct() {
    for neighbours in [0, 1, 50] {
        let mut step = 0;
        run(4, size(20_000), b"", &mut |_| {
            step += 1;
            match step {
                n if n <= neighbours => format!("hot{n}").into_bytes(),
                n if n <= 2 * neighbours => format!("hop{n}").into_bytes(),
                _ => b"hot".to_vec(),
            }
        });
    }
}

#[test]
fn a_hot_key_costs_no_more_work_per_version_as_it_grows() {
    // Work is counted in arena bytes: a split per 64 versions and no more.
    let pool = ArenaPool::new(64 << 20, 0);
    let arena = pool.take(0).unwrap();
    let memtable = Memtable::new(Arc::clone(&arena), b"");
    let count = size(300_000);
    for n in 0..count {
        assert!(memtable.insert(b"counter", Tag::new(n, Kind::Put), b"12345678"));
    }
    assert!(arena.used() < count as usize * Memtable::cost(7, 8) + 4096);
    assert_eq!(
        memtable.get(b"counter", SEQUENCE_MAX),
        Some((Tag::new(count - 1, Kind::Put), &b"12345678"[..]))
    );
    assert_eq!(memtable.get(b"counter", 17).unwrap().0.sequence(), 17);
}

#[test]
fn a_full_arena_answers_false_and_changes_nothing() {
    for bytes in [4096, 64 << 10, 1 << 20] {
        let arena = stale_pool(bytes).take(0).unwrap();
        let tables: Vec<_> =
            (0..3).map(|_| Arc::new(Memtable::new(Arc::clone(&arena), b""))).collect();
        let (mut models, mut keys) = (vec![Model::new(); 3], vec![b"x".to_vec()]);
        let mut random = Random::new(bytes as u64);
        let (mut step, mut refused) = (0, 0);
        while refused < 50 {
            step += 1;
            let key = random.below(1 << 30).to_string().into_bytes();
            let value = vec![1; random.below(200) as usize];
            let (index, tag) = (random.below(3) as usize, Tag::new(step, Kind::Put));
            let fits = arena.used() + Memtable::cost(key.len(), value.len()) <= arena.capacity();
            let before = (arena.used(), tables[index].len(), tables[index].data_bytes());
            // Promise 2: it fits exactly if its cost fits.
            assert_eq!(tables[index].insert(&key, tag, &value), fits);
            if fits {
                models[index].insert(model_key(&key, tag), value);
                keys.push(key);
            } else {
                refused += 1;
                let after = (arena.used(), tables[index].len(), tables[index].data_bytes());
                assert_eq!(before, after);
            }
        }
        for (table, model) in tables.iter().zip(&models) {
            check(table, model, &mut random, &keys);
        }
    }
}

#[test]
fn a_batch_whose_costs_fit_never_meets_a_full_arena() {
    // Promise 2, against a load that makes every leaf split: ascending, then strays into the full leaves, to the last byte.
    for seed in 0..6 {
        let mut random = Random::new(seed);
        let pool = ArenaPool::new(600_000, 0);
        let arena = pool.take(0).unwrap();
        let memtable = Memtable::new(Arc::clone(&arena), b"");
        let room = arena.capacity() / Memtable::cost(12, 4);
        let ascending = room as u64 * (seed + 1) / 8;
        for step in 0..room as u64 {
            let stray = step >= ascending;
            let at = if stray { random.below(ascending.max(1)) } else { step };
            let key = format!("{at:08}{:04}", if stray { step } else { 0 });
            assert!(memtable.insert(key.as_bytes(), Tag::new(step, Kind::Put), b"1234"));
        }
    }
}

#[test]
fn the_prefix_learned_is_the_next_hint() {
    let pool = ArenaPool::new(8 << 20, 1);
    let memtable = Memtable::new(pool.take(0).unwrap(), b"");
    assert_eq!(memtable.common_prefix(), b"");
    let mut random = Random::new(1);
    let mut key = || format!("user{:012}", random.below(1_000_000_000_000)).into_bytes();
    for n in 0..1000 {
        assert!(memtable.insert(&key(), Tag::new(n, Kind::Put), b""));
    }
    assert_eq!(memtable.common_prefix(), b"user");
    // A hint that serves is kept; one that does not is replaced.
    for hint in [&b"user"[..], b"other", b"user0000000"] {
        let memtable = Memtable::new(pool.take(0).unwrap(), hint);
        assert_eq!(memtable.common_prefix(), hint);
        for n in 0..1000 {
            assert!(memtable.insert(&key(), Tag::new(n, Kind::Put), b""));
        }
        assert_eq!(memtable.common_prefix(), b"user");
    }
}

#[test]
fn a_pinned_value_outlives_the_memtable_and_its_generation() {
    let pool = ArenaPool::new(1 << 16, 1);
    let memtable = Arc::new(Memtable::new(pool.take(0).unwrap(), b""));
    assert!(memtable.insert(b"k", Tag::new(1, Kind::Put), b"value"));
    let mut cursor = memtable.cursor();
    cursor.seek_to_first().unwrap();
    let pinned = cursor.pin_value();
    drop((cursor, memtable));
    let other = Memtable::new(pool.take(0).unwrap(), b"");
    assert!(other.insert(b"k", Tag::new(2, Kind::Put), b"other"));
    assert_eq!(pinned, b"value");
}

/// One writer, readers that know from a counter what is published.
fn readers_beside_a_writer(next_key: &(dyn Fn(u64) -> Vec<u8> + Sync)) {
    // Miri is slow, and needs only a few splits to see an access without an order.
    let (count, gets) = if cfg!(miri) { (220, 3) } else { (30_000, 50) };
    let memtable = Arc::new(Memtable::new(stale_pool(count as usize * 500).take(0).unwrap(), b""));
    let published = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (memtable, published) = (&memtable, &published);
            scope.spawn(move || {
                let mut random = Random::new(reader);
                loop {
                    let known = published.load(Ordering::Acquire);
                    for _ in 0..if known == 0 { 0 } else { gets } {
                        let n = random.below(known);
                        let key = next_key(n);
                        let (tag, value) = memtable.get(&key, n).unwrap();
                        assert_eq!((tag.sequence(), value), (n, &n.to_le_bytes()[..]));
                        // The newest version is at least as new, and is what it says.
                        let (tag, value) = memtable.get(&key, SEQUENCE_MAX).unwrap();
                        assert!(tag.sequence() >= n);
                        assert_eq!(value, tag.sequence().to_le_bytes());
                    }
                    let mut cursor = memtable.cursor();
                    let mut met = 0;
                    let mut last: Option<(Vec<u8>, std::cmp::Reverse<Tag>)> = None;
                    let forward = random.one_in(2);
                    if forward {
                        cursor.seek_to_first().unwrap();
                    } else {
                        cursor.seek_to_last().unwrap();
                    }
                    while cursor.valid() {
                        let here = model_key(cursor.key(), cursor.tag());
                        assert_eq!(cursor.value(), cursor.tag().sequence().to_le_bytes());
                        if let Some(last) = last {
                            assert!(if forward { last < here } else { last > here });
                        }
                        met += u64::from(cursor.tag().sequence() < known);
                        last = Some(here);
                        if forward {
                            cursor.next().unwrap();
                        } else {
                            cursor.prev().unwrap();
                        }
                    }
                    assert_eq!(met, known);
                    if known == count {
                        break;
                    }
                }
            });
        }
        for n in 0..count {
            assert!(memtable.insert(&next_key(n), Tag::new(n, Kind::Put), &n.to_le_bytes()));
            published.store(n + 1, Ordering::Release);
        }
    });
}

#[test]
fn readers_find_everything_that_they_know_is_published() {
    let scatter = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    readers_beside_a_writer(&|n| scatter(n).to_be_bytes().to_vec());
    readers_beside_a_writer(&|n| format!("{n:020}").into_bytes());
    // Few keys with many versions, and keys that leave the first prefix, so that the index is rebuilt under the readers.
    readers_beside_a_writer(&|n| format!("a-prefix-shared-by-all/{}", n % 50).into_bytes());
    readers_beside_a_writer(&|n| {
        format!("{}{}", ["user", "unit", "item"][(n / 1000).min(2) as usize], scatter(n))
            .into_bytes()
    });
}

use super::*;
use crate::base::key::SEQUENCE_MAX;
use crate::base::options::{Compression, FilterPolicy};
use crate::base::random::Random;
use crate::file::table_reader::tests::{Fixture, Model, random_model, spec};
use std::cmp::Reverse;

type Entry = (Vec<u8>, Tag, Vec<u8>);

fn entries(model: &Model) -> Vec<Entry> {
    model.iter().map(|((key, tag), value)| (key.clone(), tag.0, value.clone())).collect()
}

fn here(cursor: &TableCursor) -> Option<Entry> {
    cursor.valid().then(|| {
        let value = cursor.value().to_vec();
        assert_eq!(cursor.pin_value(), value);
        (cursor.key().to_vec(), cursor.tag(), value)
    })
}

fn fixtures() -> Vec<(Model, Fixture, bool)> {
    let mut all = Vec::new();
    for seed in 0..6u64 {
        let model = random_model(&mut Random::new(seed), 1500);
        let compression =
            [Compression::None, Compression::Lz4, Compression::Zstd][seed as usize % 3];
        let flat_index_max = if seed % 2 == 0 { usize::MAX } else { 400 };
        let fixture = Fixture::new(&model, spec(compression, FilterPolicy::None), flat_index_max);
        all.push((model, fixture, seed % 4 < 2));
    }
    all
}

const READ_AHEADS: [ReadAhead; 4] = [
    ReadAhead::Auto,
    ReadAhead::Full { chunk_bytes: 256 << 10 },
    // Shorter than some blocks.
    ReadAhead::Full { chunk_bytes: 4 << 10 },
    ReadAhead::Off,
];

#[test]
fn reverse_is_forward_reversed() {
    for (model, fixture, direct) in fixtures() {
        let expected = entries(&model);
        let table = fixture.open(direct).expect("opens");
        for read_ahead in READ_AHEADS {
            for fill_cache in [false, true] {
                let mut cursor = table.cursor(TableCursorOptions { fill_cache, read_ahead });
                let mut forward = Vec::new();
                cursor.seek_to_first().expect("intact");
                while let Some(entry) = here(&cursor) {
                    forward.push(entry);
                    cursor.next().expect("intact");
                }
                assert!(forward == expected, "{read_ahead:?}");
                let mut backward = Vec::new();
                cursor.seek_to_last().expect("intact");
                while let Some(entry) = here(&cursor) {
                    backward.push(entry);
                    cursor.prev().expect("intact");
                }
                backward.reverse();
                assert!(backward == expected, "{read_ahead:?}");
            }
        }
    }
}

#[test]
fn seeks_agree_with_a_map() {
    for (seed, (model, fixture, direct)) in fixtures().into_iter().enumerate() {
        let expected = entries(&model);
        let table = fixture.open(direct).expect("opens");
        let mut random = Random::new(seed as u64);
        for read_ahead in READ_AHEADS {
            let mut cursor = table.cursor(TableCursorOptions { fill_cache: true, read_ahead });
            for _ in 0..1500 {
                let mut key = expected[random.below(expected.len() as u64) as usize].0.clone();
                match random.below(6) {
                    0 => key.push(b'c'),
                    1 => drop(key.pop()),
                    2 => key.truncate(random.below(7) as usize),
                    3 => key = vec![b"\0uv\xff"[random.below(4) as usize]; 3],
                    _ => {}
                }
                let tag = match random.below(3) {
                    0 => Tag::MAX,
                    1 => Tag::seek(SEQUENCE_MAX),
                    _ => Tag::seek(random.below(1 << 20)),
                };
                let mut at = if random.one_in(2) {
                    cursor.seek(&key, tag).expect("intact");
                    expected
                        .iter()
                        .position(|entry| (&entry.0, Reverse(entry.1)) >= (&key, Reverse(tag)))
                } else {
                    cursor.seek_before(&key).expect("intact");
                    expected.iter().rposition(|entry| entry.0 < key)
                };
                // Then some steps in both directions.
                for _ in 0..random.below(30) {
                    assert_eq!(here(&cursor).as_ref(), at.map(|at| &expected[at]), "seed {seed}");
                    let Some(now) = at else { break };
                    if random.below(3) > 0 {
                        cursor.next().expect("intact");
                        at = (now + 1 < expected.len()).then_some(now + 1);
                    } else {
                        cursor.prev().expect("intact");
                        at = now.checked_sub(1);
                    }
                }
                assert_eq!(here(&cursor).as_ref(), at.map(|at| &expected[at]), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_pinned_value_outlives_cursor_and_table() {
    let model = random_model(&mut Random::new(1), 500);
    let fixture = Fixture::new(&model, spec(Compression::Lz4, FilterPolicy::None), usize::MAX);
    let table = fixture.open(false).expect("opens");
    for read_ahead in READ_AHEADS {
        let mut cursor = table.cursor(TableCursorOptions { fill_cache: false, read_ahead });
        let mut pins = Vec::new();
        cursor.seek_to_first().expect("intact");
        while cursor.valid() {
            pins.push(cursor.pin_value());
            cursor.next().expect("intact");
        }
        drop(cursor);
        for (pin, value) in pins.iter().zip(model.values()) {
            assert_eq!(pin, value);
        }
    }
}

#[test]
fn a_cursor_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<TableCursor>();
    is_send::<crate::file::table_writer::TableWriter>();
}

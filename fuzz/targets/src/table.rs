//! A whole table file.
//!
//! ```text
//! input:  mode u8 │ mode bit 2 set: size u32 │ tail offset u32, as the manifest says │ the bytes of the file
//!         odd modes repair all checksums, bit 1 reads past the page cache
//! ```
//!
//! Promise: opening, scanning, searching and verifying any file ends with an answer or a damage that names the file. A table that
//! passes `verify` shows the same forward, backward, with every way of reading ahead, and by key. Memory: the file, the block cache, and
//! the largest block.

use crate::input::Input;
use crate::{Target, repair, samples};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::cursor::EntryCursor;
use treering_lsm::base::hash::key_hash;
use treering_lsm::base::key::{SEQUENCE_MAX, Tag};
use treering_lsm::file::table_cursor::{ReadAhead, TableCursorOptions};
use treering_lsm::file::table_reader::TableReader;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, OpenMode, write_full};
use treering_lsm::mem::budget::MemoryBudget;
use treering_lsm::mem::cache::BlockCache;
use treering_lsm::{Compression, Error, FilterPolicy, Result};

pub(crate) const TARGET: Target = Target {
    name: "table",
    promise: "any file is opened, scanned, searched and verified with an answer or a damage that names it",
    run,
    seeds,
};

const PATH: &str = "/000009.sst";
/// Steps of one scan, and bytes of keys and values copied out: compressed blocks may hold far more than the input.
const STEPS_MAX: usize = 2000;
const BYTES_MAX: usize = 1 << 20;
const MEMORY_LIMIT: u64 = 4 << 20;

type Entry = (Vec<u8>, Tag, Vec<u8>);

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let claim = (mode & 4 != 0).then(|| (input.u32(), input.u32()));
    let mut bytes = input.rest().to_vec();
    if !mode.is_multiple_of(2) {
        repair::table(&mut bytes);
    }
    if let Err(error) = read(&bytes, mode & 2 != 0, claim) {
        assert_is_damage(&error);
    }
}

fn assert_is_damage(error: &Error) {
    match error {
        Error::Corruption { path, detail, .. } => {
            assert!(path == Path::new(PATH) && !detail.is_empty());
        }
        Error::NewerFormat { path, found, supported } => {
            assert!(path == Path::new(PATH) && found > supported);
        }
        other => panic!("not an error for damage: {other}"),
    }
}

fn read(bytes: &[u8], direct: bool, claim: Option<(u32, u32)>) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    let path = Path::new(PATH);
    let file = disk.open(path, OpenMode::CREATE).expect("a new disk takes everything");
    write_full(&*file, 0, bytes, false).expect("a new disk takes everything");

    let mut info = TableReader::info_from_file(&disk, path)?;
    if let Some((size, tail_offset)) = claim {
        (info.file_bytes, info.tail_offset) = (size.into(), tail_offset.into());
    }
    let budget = MemoryBudget::new(MEMORY_LIMIT);
    let cache = BlockCache::new(Arc::clone(&budget));
    let table = TableReader::open(&disk, path, &info, direct, cache, &budget)?;
    let verified = table.verify();
    if let Err(error) = &verified {
        assert_is_damage(error);
    }

    let mut forward: Option<Vec<Entry>> = None;
    for read_ahead in [ReadAhead::Off, ReadAhead::Auto, ReadAhead::Full { chunk_bytes: 32 << 10 }] {
        let options = TableCursorOptions { fill_cache: read_ahead != ReadAhead::Off, read_ahead };
        let mut seen = [scan(&table, options, false), scan(&table, options, true)];
        for scanned in &seen {
            if let Err(error) = scanned {
                assert!(verified.is_err(), "a verified table cannot be read: {error}");
                assert_is_damage(error);
            }
        }
        if verified.is_err() {
            continue;
        }
        if let [Ok(Some(forth)), Ok(Some(back))] = &mut seen {
            back.reverse();
            assert_eq!(forth, back);
            assert!(forward.get_or_insert_with(|| forth.clone()) == forth);
        }
    }
    if let (Some(entries), Ok(check)) = (&forward, &verified) {
        assert_eq!(entries.len() as u64, check.entries);
        search(&table, entries)?;
    }
    probe(&table);
    Ok(())
}

/// All entries from one end to the other, or `None` where they are too many to copy.
fn scan(
    table: &Arc<TableReader>,
    options: TableCursorOptions,
    backward: bool,
) -> Result<Option<Vec<Entry>>> {
    let mut cursor = table.cursor(options);
    let mut entries = Vec::new();
    let mut bytes = 0;
    if backward {
        cursor.seek_to_last()?
    } else {
        cursor.seek_to_first()?
    };
    while cursor.valid() {
        bytes += cursor.key().len() + cursor.value().len();
        if entries.len() == STEPS_MAX || bytes > BYTES_MAX {
            return Ok(None);
        }
        entries.push((cursor.key().to_vec(), cursor.tag(), cursor.value().to_vec()));
        if backward {
            cursor.prev()?
        } else {
            cursor.next()?
        };
    }
    Ok(Some(entries))
}

/// Every entry of a verified table is found by key, and seeks land where they should.
fn search(table: &Arc<TableReader>, entries: &[Entry]) -> Result<()> {
    let mut cursor = table.cursor(TableCursorOptions::default());
    for (number, (key, tag, value)) in entries.iter().enumerate().step_by(entries.len() / 64 + 1) {
        let hash = key_hash(key);
        assert!(table.may_contain(hash));
        let found = table.get(key, hash, tag.sequence(), true)?;
        let found = found.as_ref().map(|(tag, value)| (*tag, &value[..]));
        assert_eq!(found, Some((*tag, &value[..])));
        cursor.seek(key, *tag)?;
        assert!(cursor.valid() && cursor.key() == key && cursor.tag() == *tag);
        let first = entries.partition_point(|entry| entry.0 < *key);
        cursor.seek_before(key)?;
        assert_eq!(cursor.valid(), first > 0);
        if first > 0 {
            assert!(cursor.key() == entries[first - 1].0 && number >= first);
        }
    }
    Ok(())
}

/// Searches that need not be right in a damaged table, but come back.
fn probe(table: &Arc<TableReader>) {
    let mut cursor = table.cursor(TableCursorOptions::default());
    for key in [&b"a"[..], b"user", b"user00010", b"zz", &[0], &[0xff; 40]] {
        table.prefetch_filter(key_hash(key));
        let moves = [
            table.get(key, key_hash(key), SEQUENCE_MAX, true).map(drop),
            cursor.seek(key, Tag::MAX),
            if cursor.valid() { cursor.prev() } else { Ok(()) },
            if cursor.valid() { cursor.next() } else { Ok(()) },
            cursor.seek_before(key),
            if cursor.valid() { cursor.next() } else { Ok(()) },
        ];
        moves.iter().filter_map(|moved| moved.as_ref().err()).for_each(assert_is_damage);
    }
    let share = table.cached_share();
    assert!((0.0..=1.0).contains(&share));
    table.forget_blocks();
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (count, compression, filter) in [
        (1, Compression::None, FilterPolicy::None),
        (40, Compression::None, FilterPolicy::Blocked { bits: 10 }),
        (40, Compression::Lz4, FilterPolicy::Standard { bits: 10 }),
        (80, Compression::Zstd, FilterPolicy::Blocked { bits: 4 }),
    ] {
        let table = samples::table(9, count, compression, filter);
        for mode in [0, 1, 3] {
            seeds.push([&[mode], &table[..]].concat());
        }
        let claim = [(table.len() as u32).to_le_bytes(), [0; 4]].concat();
        seeds.push([&[4], &claim[..], &table].concat());
    }
    seeds
}

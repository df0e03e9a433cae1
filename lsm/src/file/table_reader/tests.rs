use super::*;
use crate::base::cursor::EntryCursor;
use crate::base::hash::key_hash;
use crate::base::key::{KeyspaceId, Kind, SEQUENCE_MAX};
use crate::base::options::FilterPolicy;
use crate::base::random::Random;
use crate::file::table_cursor::ReadAhead;
use crate::file::table_writer::{TableSpec, TableWriter};
use crate::io::sim::{Call, LossModel, SimDisk};
use crate::io::write_full;
use std::collections::BTreeMap;

/// Entries in table order: `Reverse` puts the newest version first.
pub(crate) type Model = BTreeMap<(Vec<u8>, std::cmp::Reverse<Tag>), Vec<u8>>;

pub(crate) struct Fixture {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) info: TableInfo,
    pub(crate) budget: Arc<MemoryBudget>,
    pub(crate) cache: Arc<BlockCache>,
}

pub(crate) fn path() -> &'static Path {
    Path::new("db/000007.sst")
}

pub(crate) fn spec(compression: Compression, filter: FilterPolicy) -> TableSpec {
    TableSpec {
        direct: true,
        table_id: 7,
        block_bytes: 1024,
        compression,
        filter,
        prefix_bytes: None,
        keyspace: KeyspaceId(0),
        level: 1,
        applied: 0,
    }
}

impl Fixture {
    pub(crate) fn new(model: &Model, spec: TableSpec, flat_index_max: usize) -> Fixture {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        disk.create_directory(Path::new("db")).expect("fresh disk");
        let mut writer = TableWriter::create(&disk, path(), spec).expect("created");
        writer.set_flat_index_max(flat_index_max);
        for ((key, tag), value) in model {
            writer.add(key, tag.0, value).expect("added");
        }
        let info = writer.finish().expect("finished");
        Fixture::over(disk, info)
    }

    fn over(disk: Arc<dyn Disk>, info: TableInfo) -> Fixture {
        let budget = MemoryBudget::new(8 << 20);
        let cache = BlockCache::new(Arc::clone(&budget));
        Fixture { disk, info, budget, cache }
    }

    pub(crate) fn open(&self, direct: bool) -> Result<Arc<TableReader>> {
        let cache = Arc::clone(&self.cache);
        TableReader::open(&self.disk, path(), &self.info, direct, cache, &self.budget)
    }

    /// The same table with other bytes.
    fn with_bytes(&self, bytes: &[u8]) -> Fixture {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        disk.create_directory(Path::new("db")).expect("fresh disk");
        let file = disk.open(path(), OpenMode::CREATE).expect("created");
        write_full(&*file, 0, bytes, false).expect("written");
        Fixture::over(disk, self.info.clone())
    }

    fn bytes(&self) -> Vec<u8> {
        crate::io::read_whole(&*self.disk, path(), u64::MAX).expect("readable")
    }
}

pub(crate) fn random_model(random: &mut Random, keys: usize) -> Model {
    let mut model = Model::new();
    for _ in 0..keys {
        let mut key = b"user/".to_vec();
        key.extend((0..1 + random.below(12)).map(|_| b'a' + random.below(5) as u8));
        for _ in 0..1 + random.below(3) {
            let sequence = 1 + random.below(1 << 20);
            let kind = if random.one_in(5) { Kind::Delete } else { Kind::Put };
            let mut value = Vec::new();
            if kind == Kind::Put {
                let length = random.below(120) as usize;
                value.resize(length, random.next_u64() as u8);
                value.extend_from_slice(&random.next_u64().to_le_bytes());
            }
            let tag = Tag::new(sequence, kind);
            let other_kind = Tag(tag.0 ^ 1);
            if !model.contains_key(&(key.clone(), std::cmp::Reverse(other_kind))) {
                model.insert((key.clone(), std::cmp::Reverse(tag)), value);
            }
        }
    }
    model
}

fn model_get(model: &Model, key: &[u8], sequence: u64) -> Option<(Tag, Vec<u8>)> {
    let from = (key.to_vec(), std::cmp::Reverse(Tag::seek(sequence)));
    let ((found, tag), value) = model.range(from..).next()?;
    (found == key).then(|| (tag.0, value.clone()))
}

const ALL: [(Compression, FilterPolicy); 4] = [
    (Compression::None, FilterPolicy::None),
    (Compression::None, FilterPolicy::Blocked { bits: 10 }),
    (Compression::Lz4, FilterPolicy::Blocked { bits: 10 }),
    (Compression::Zstd, FilterPolicy::Standard { bits: 10 }),
];

#[test]
fn every_point_read_agrees_with_a_map() {
    for (seed, (compression, filter)) in ALL.into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let model = random_model(&mut random, 3000);
        for flat_index_max in [usize::MAX, 300] {
            let fixture = Fixture::new(&model, spec(compression, filter), flat_index_max);
            let table = fixture.open(seed % 2 == 0).expect("opens");
            assert_eq!(table.partitioned(), flat_index_max == 300);
            assert_eq!(
                TableReader::info_from_file(&fixture.disk, path()).ok().as_ref(),
                Some(&fixture.info)
            );
            assert_eq!(table.properties().info, fixture.info);
            assert_eq!(fixture.info.entry_count, model.len() as u64);
            let check = table.verify().expect("intact");
            assert_eq!(check.entries, model.len() as u64);
            let mut found = 0;
            for _ in 0..5000 {
                let mut key = b"user/".to_vec();
                key.extend((0..1 + random.below(5)).map(|_| b'a' + random.below(5) as u8));
                if random.one_in(20) {
                    key.truncate(random.below(7) as usize);
                }
                let sequence = if random.one_in(2) { SEQUENCE_MAX } else { random.below(1 << 20) };
                let hash = key_hash(&key);
                let expected = model_get(&model, &key, sequence);
                let answer = table.get(&key, hash, sequence, random.one_in(2)).expect("intact");
                assert_eq!(answer.map(|(tag, value)| (tag, value.to_vec())), expected);
                if expected.is_some() {
                    assert!(table.may_contain(hash));
                    found += 1;
                }

                // The same in two phases, as multi_get does it.
                let answer = table.locate(&key).expect("intact").and_then(|handle| {
                    let block = table.cached(handle).unwrap_or_else(|| {
                        let mut queue = fixture.disk.queue(1);
                        queue.push(table.request(handle, 3));
                        let completion = queue.wait().expect("one in flight");
                        table.admit(handle, completion, random.one_in(2)).expect("intact")
                    });
                    TableReader::find(&block, &key, hash, sequence).expect("intact")
                });
                assert_eq!(answer.map(|(tag, value)| (tag, value.to_vec())), expected);
            }
            assert!(found > 200, "only {found} keys were found");
            assert!(fixture.cache.hits() > 0 && fixture.cache.misses() > 0);
            drop(table);
            assert_eq!(fixture.budget.used(Use::TableMetadata), 0);
        }
    }
}

/// Reads everything in every way; an error is fine, a wrong answer is not.
fn read_all(fixture: &Fixture, model: &Model, sample: usize) -> Result<()> {
    let table = fixture.open(false)?;
    let mut wrong = Ok(());
    for ((key, _), _) in model.iter().step_by(sample) {
        let hash = key_hash(key);
        match table.get(key, hash, SEQUENCE_MAX, true) {
            Ok(answer) => {
                let answer = answer.map(|(tag, value)| (tag, value.to_vec()));
                assert_eq!(answer, model_get(model, key, SEQUENCE_MAX));
                assert!(table.may_contain(hash));
            }
            Err(error) => wrong = Err(error),
        }
    }
    let options = TableCursorOptions { fill_cache: false, read_ahead: ReadAhead::Off };
    let mut cursor = table.cursor(options);
    let mut expected = model.iter();
    cursor.seek_to_first()?;
    while cursor.valid() {
        let ((key, tag), value) = expected.next().expect("no entry is invented");
        assert_eq!((cursor.key(), cursor.tag(), cursor.value()), (&key[..], tag.0, &value[..]));
        cursor.next()?;
    }
    assert!(expected.next().is_none(), "entries were lost without an error");
    table.verify()?;
    wrong
}

#[test]
fn every_flipped_bit_is_an_error_or_changes_nothing() {
    let mut detected = 0;
    for (seed, (compression, filter)) in ALL.into_iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let model = random_model(&mut random, 30);
        let flat_index_max = if seed % 2 == 0 { usize::MAX } else { 100 };
        let fixture = Fixture::new(&model, spec(compression, filter), flat_index_max);
        let good = fixture.bytes();
        assert!(read_all(&fixture, &model, 1).is_ok());
        let mut harmless = 0;
        for byte in 0..good.len() {
            let mut bytes = good.clone();
            bytes[byte] ^= 1 << random.below(8);
            match read_all(&fixture.with_bytes(&bytes), &model, 7) {
                Err(Error::Corruption { path: file, offset, .. }) => {
                    assert_eq!(file, path());
                    assert!(offset <= good.len() as u64);
                    detected += 1;
                }
                Err(error) => panic!("byte {byte}: {error}"),
                // Only the zeros before the tail are covered by nothing.
                Ok(()) => harmless += 1,
            }
        }
        assert!(harmless < 64, "{harmless} flips went unseen");
    }
    assert!(detected > 5000, "only {detected} flips were detected");
}

#[test]
fn a_table_cut_at_any_byte_is_refused() {
    let model = random_model(&mut Random::new(9), 20);
    let blocked = FilterPolicy::Blocked { bits: 10 };
    let fixture = Fixture::new(&model, spec(Compression::Lz4, blocked), usize::MAX);
    let good = fixture.bytes();
    for cut in 0..good.len() {
        let short = fixture.with_bytes(&good[..cut]);
        assert!(matches!(short.open(false), Err(Error::Corruption { .. })), "cut at {cut}");
        assert!(TableReader::info_from_file(&short.disk, path()).is_err());
        // Also where the manifest agrees with the short file.
        let mut agreed = fixture.with_bytes(&good[..cut]);
        agreed.info.file_bytes = cut as u64;
        agreed.info.tail_offset = agreed.info.tail_offset.min(cut as u64);
        assert!(agreed.open(true).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_block_in_another_place_or_file_is_refused() {
    // Promise: an intact block of the same table at another offset, or of another table at the same one, does not pass.
    let model: Model = (0..64u32)
        .map(|i| {
            let key = format!("key{i:05}").into_bytes();
            ((key, std::cmp::Reverse(Tag::new(5, Kind::Put))), vec![i as u8; 200])
        })
        .collect();
    let spec = spec(Compression::None, FilterPolicy::None);
    let fixture = Fixture::new(&model, spec.clone(), usize::MAX);
    let table = fixture.open(false).expect("opens");
    let (first, second) = (table.top().handle(0), table.top().handle(1));
    assert_eq!(first.bytes, second.bytes);
    let mut bytes = fixture.bytes();
    let (left, right) = bytes.split_at_mut(second.offset as usize);
    left[..first.bytes as usize].swap_with_slice(&mut right[..first.bytes as usize]);
    let swapped = fixture.with_bytes(&bytes);
    let table = swapped.open(false).expect("the tail is intact");
    let error = table.get(b"key00000", key_hash(b"key00000"), 9, true);
    assert!(matches!(error, Err(Error::Corruption { offset: 0, .. })));
    assert_eq!(swapped.cache.used_bytes(), 0, "a damaged block was cached");

    let other = Fixture::new(&model, TableSpec { table_id: 8, ..spec }, usize::MAX);
    let mut swapped = fixture.with_bytes(&other.bytes());
    swapped.info = fixture.info.clone();
    assert!(matches!(swapped.open(false), Err(Error::Corruption { .. })));
}

#[test]
fn versions_of_one_key_are_never_split_and_huge_entries_come_back() {
    let mut model = Model::new();
    let mut put = |key: &[u8], sequence: u64, value: Vec<u8>| {
        model.insert((key.to_vec(), std::cmp::Reverse(Tag::new(sequence, Kind::Put))), value);
    };
    for sequence in 0..3000 {
        put(b"hot", sequence, vec![sequence as u8; 20]);
    }
    put(&[b'k'; crate::base::limits::KEY_BYTES_MAX], 5, b"long key".to_vec());
    put(b"large", 6, (0..5_000_000u32).map(|i| (i / 3) as u8).collect());
    put(b"small", 7, b"v".to_vec());
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let blocked = FilterPolicy::Blocked { bits: 10 };
        let fixture = Fixture::new(&model, spec(compression, blocked), usize::MAX);
        for direct in [false, true] {
            let table = fixture.open(direct).expect("opens");
            table.verify().expect("intact, and no key in two blocks");
            for ((key, tag), value) in &model {
                let answer = table.get(key, key_hash(key), tag.0.sequence(), true);
                let (found, pinned) = answer.expect("intact").expect("is there");
                assert_eq!((found, &pinned[..]), (tag.0, &value[..]));
            }
            for read_ahead in [ReadAhead::Full { chunk_bytes: 256 << 10 }, ReadAhead::Auto] {
                let options = TableCursorOptions { fill_cache: true, read_ahead };
                let mut cursor = table.cursor(options);
                cursor.seek_to_first().expect("intact");
                for ((key, tag), value) in &model {
                    assert_eq!((cursor.key(), cursor.tag()), (&key[..], tag.0));
                    assert!(cursor.value() == &value[..]);
                    cursor.next().expect("intact");
                }
                assert!(!cursor.valid());
            }
        }
    }
}

#[test]
fn an_empty_table_is_refused_and_a_failed_write_is_an_error() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
    disk.create_directory(Path::new("db")).expect("fresh disk");
    let spec = spec(Compression::Lz4, FilterPolicy::None);
    let writer = TableWriter::create(&disk, path(), spec.clone()).expect("created");
    assert!(matches!(writer.finish(), Err(Error::InvalidOption { .. })));

    let sim = SimDisk::new(2);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    disk.create_directory(Path::new("db")).expect("fresh disk");
    let mut writer = TableWriter::create(&disk, path(), spec).expect("created");
    sim.fail_matching(|call, _| call == Call::Write, libc::EIO, false);
    let mut result = Ok(());
    for i in 0..40_000u64 {
        let value = i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes().repeat(10);
        result = writer.add(&i.to_be_bytes(), Tag::new(1, Kind::Put), &value);
        if result.is_err() {
            break;
        }
    }
    let result = result.and_then(|()| writer.finish().map(drop));
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    assert!(sim.fired() > 0);
}

#[test]
fn a_finished_table_survives_the_loss_of_power() {
    let model = random_model(&mut Random::new(11), 2000);
    let sim = SimDisk::new(3);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    disk.create_directory(Path::new("db")).expect("fresh disk");
    disk.sync_directory(Path::new(".")).expect("synced");
    let spec = spec(Compression::Lz4, FilterPolicy::Blocked { bits: 10 });
    let mut writer = TableWriter::create(&disk, path(), spec).expect("created");
    for ((key, tag), value) in &model {
        writer.add(key, tag.0, value).expect("added");
    }
    let info = writer.finish().expect("finished");
    disk.sync_directory(Path::new("db")).expect("synced");
    for (seed, loss) in
        [LossModel::DropAll, LossModel::Tear512, LossModel::NamesOnly].into_iter().enumerate()
    {
        let after = sim.after_power_cut(seed as u64, loss);
        let fixture = Fixture::over(Arc::new(after), info.clone());
        read_all(&fixture, &model, 50).expect("all of it is durable");
    }
}

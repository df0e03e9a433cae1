//! The log against power cuts, kills, damage and failing calls, on the simulated disk. Everything is seeded; a failure
//! prints what to replay.

use super::log::LOG_HEADER_BYTES;
use super::*;
use crate::base::clock::ManualClock;
use crate::base::random::Random;
use crate::file::name;
use crate::io::sim::{Call, Fault, LossModel, SimDisk};

const RING_BYTES: u64 = 128 << 10;
const SEGMENT_BYTES: u64 = 160 << 10;

/// What a correct log must know: the oracle beside the log.
#[derive(Clone, Debug)]
struct World {
    start: LogStart,
    /// Sequence number of the first record at or after `start`.
    first: u64,
    /// Records that `append` acknowledged: below.
    appended: u64,
    /// Records that were begun: below.
    attempted: u64,
    /// Records that `sync` acknowledged: below.
    synced: u64,
    slots: Vec<u64>,
    /// Sequence numbers whose append was refused; the next record has the same number.
    refused: u64,
}

impl World {
    fn new() -> World {
        let start = LogStart { epoch: 1, lsn: 0 };
        World { start, first: 1, appended: 1, attempted: 1, synced: 1, slots: vec![], refused: 0 }
    }
}

fn directory() -> &'static Path {
    Path::new("db")
}

fn options() -> WalOptions {
    WalOptions {
        ring_bytes: RING_BYTES,
        segment_bytes: SEGMENT_BYTES,
        spare_slots: 1,
        clock: Arc::new(ManualClock::default()),
    }
}

fn new_disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    disk.create_directory(directory()).unwrap();
    disk
}

fn door(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// The batch of a record: its length is random, its bytes follow from sequence number and length.
fn content(sequence: u64, length: usize) -> Vec<u8> {
    let mut word = Random::new(sequence ^ (length as u64) << 32).next_u64();
    let mut bytes = vec![0; length];
    for chunk in bytes.chunks_mut(8) {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(sequence | 1);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    bytes
}

fn length(random: &mut Random) -> usize {
    match random.below(40) {
        0 => (130 + random.below(300)) as usize * 1000,
        1..6 => (20 + random.below(50)) as usize * 1000,
        6..12 => (1 + random.below(12)) as usize * 1000,
        12 => 0,
        _ => random.below(300) as usize,
    }
}

/// Up to `steps` random calls; ends at the first error that is not a full disk.
fn run(disk: &SimDisk, world: &mut World, random: &mut Random, steps: u32) -> Result<()> {
    let mut rotated = (world.start.lsn, world.first);
    let wal = Wal::create(&door(disk), directory(), options(), world.start, &world.slots)?;
    let mut end = world.start.lsn;
    let pass = |result: Result<()>| match result {
        Err(error) if !error.is_retry_safe() => Err(error),
        _ => Ok(()),
    };
    for _ in 0..steps {
        match random.below(100) {
            0..70 => {
                let sequence = world.appended;
                let bytes = content(sequence, length(random));
                let middle = random.below(bytes.len() as u64 + 1) as usize;
                world.attempted = sequence + 1;
                let parts = [&bytes[..middle], &bytes[middle..]];
                match wal.append(sequence, bytes.len() as u32, &parts) {
                    Ok(lsn) => {
                        assert!(lsn > end);
                        (end, world.appended) = (lsn, sequence + 1);
                    }
                    Err(error) if error.is_retry_safe() => world.refused += 1,
                    Err(error) => return Err(error),
                }
            }
            70..80 => {
                let result = wal.sync(end);
                if result.is_ok() {
                    world.synced = world.appended;
                }
                pass(result)?;
            }
            80..92 => pass(wal.drain())?,
            92..96 => match wal.rotate() {
                Ok(lsn) => rotated = (lsn, world.appended),
                Err(error) => pass(Err(error))?,
            },
            _ => {
                // The manifest says durably that everything before is in tables.
                (world.start.lsn, world.first) = rotated;
                world.synced = world.synced.max(rotated.1);
                wal.release(rotated.0);
            }
        }
    }
    Ok(())
}

/// Recovers and compares with the oracle: the records are a run from `first` on, with the right bytes, up to at least
/// `least`.
fn check(disk: &SimDisk, world: &World, least: u64) -> Result<(u64, Recovered)> {
    let mut next = world.first;
    let found =
        recover(&door(disk), directory(), world.start, 0, &mut |sequence, count, batch| {
            assert_eq!(sequence, next, "a record is missing or twice");
            assert_eq!(count as usize, batch.len());
            assert!(batch == content(sequence, batch.len()), "bytes of record {sequence}");
            next += 1;
            Ok(())
        })?;
    assert!(next >= least, "records {next}.. of {least} promised are lost: {world:?}");
    assert!(next <= world.attempted.max(world.first), "record {next} was never written");
    assert!(found.end_lsn <= found.max_lsn);
    Ok((next, found))
}

/// The world after a recovery: what was found is in tables, the log begins anew.
fn reborn(world: &World, next: u64, found: &Recovered) -> World {
    World {
        start: LogStart { epoch: world.start.epoch + 1, lsn: found.max_lsn },
        first: next,
        appended: next,
        attempted: next,
        synced: next,
        slots: found.slots.clone(),
        refused: 0,
    }
}

#[test]
fn random_worlds_survive_power_cuts_and_kills() {
    // Guards: Ok of a sync survives power loss, Ok of an append survives kill -9, and what is left is a prefix.
    let (mut images, mut lost, mut torn, mut cuts) = (0, 0, 0, 0);
    for seed in 0..140 {
        let mut random = Random::new(seed);
        let mut disk = new_disk(seed);
        let mut world = World::new();
        for generation in 0..3 {
            if random.one_in(4) {
                // No shared maps here: plain memory, written through.
                disk.fail_matching(|call, _| call == Call::Map, libc::EOPNOTSUPP, false);
            }
            let power = random.one_in(2);
            if power {
                disk.cut_power_at(disk.io_count() + random.below(60));
            }
            let steps = 20 + random.below(60) as u32;
            let result = run(&disk, &mut world, &mut random, steps);
            // A cut at a call whose outcome does not matter (an unlink) may be the last call of all.
            assert!(result.is_ok() || disk.power_is_cut(), "seed {seed}: {result:?}");
            cuts += u32::from(disk.power_is_cut());
            let mut survivor = None;
            for model in LossModel::ALL {
                for _ in 0..2 {
                    let image = disk.after_power_cut(random.next_u64(), model);
                    let checked = check(&image, &world, world.synced.max(world.first));
                    let (next, found) = checked.unwrap_or_else(|error| {
                        panic!("seed {seed} generation {generation} {model:?}: {error}")
                    });
                    let again = check(&image, &world, next).unwrap();
                    assert_eq!(again, (next, found.clone()), "recovering changed something");
                    images += 1;
                    lost += u32::from(next < world.appended);
                    torn += u32::from(found.torn_tail);
                    if survivor.is_none() || random.one_in(4) {
                        survivor = Some((image, next, found));
                    }
                }
            }
            if !power {
                let image = disk.after_kill();
                let (next, found) = check(&image, &world, world.appended).unwrap();
                images += 1;
                if random.one_in(2) {
                    survivor = Some((image, next, found));
                }
            }
            let (image, next, found) = survivor.unwrap();
            world = reborn(&world, next, &found);
            disk = image;
        }
    }
    println!("{images} images, {lost} lost a tail, {torn} torn, {cuts} cuts");
    assert!(images > 5000 && lost > 500 && torn > 100 && cuts > 50, "too little happened");
}

#[test]
fn a_full_disk_loses_nothing_and_passes() {
    // Guards: NoSpace never poisons, never loses an acknowledged record, and leaves nothing of a refused one.
    let (mut refused, mut fired) = (0, 0);
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let disk = new_disk(seed);
        let mut world = World::new();
        if random.one_in(3) {
            disk.fail_matching(|call, _| call == Call::Map, libc::EOPNOTSUPP, false);
        }
        disk.set_free_bytes(Some(RING_BYTES + random.below(900_000)));
        let wal_run = run(&disk, &mut world, &mut random, 120);
        wal_run.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        refused += world.refused;
        fired += disk.fired();
        check(&disk.after_kill(), &world, world.appended).unwrap();
        for model in LossModel::ALL {
            let image = disk.after_power_cut(random.next_u64(), model);
            check(&image, &world, world.synced).unwrap();
        }
    }
    assert!(refused > 100 && fired > 100, "{refused} refused, {fired} fired");
}

#[test]
fn writing_resumes_when_space_returns() {
    let disk = new_disk(3);
    let mut world = World::new();
    let wal = Wal::create(&door(&disk), directory(), options(), world.start, &[]).unwrap();
    disk.set_free_bytes(Some(10_000));
    let put = |world: &mut World, length| {
        let bytes = content(world.appended, length);
        world.attempted = world.appended + 1;
        let end = wal.append(world.appended, bytes.len() as u32, &[&bytes])?;
        world.appended += 1;
        Ok::<Lsn, Error>(end)
    };
    while put(&mut world, 5000).is_ok() {}
    assert!(world.appended > 20, "the ring holds what the disk does not");
    assert!(matches!(put(&mut world, 300_000), Err(Error::NoSpace { .. })));
    assert!(matches!(wal.sync(wal.appended_lsn()), Err(Error::NoSpace { .. })));
    assert!(matches!(wal.drain(), Err(Error::NoSpace { .. })));
    disk.set_free_bytes(None);
    let end = put(&mut world, 300_000).unwrap();
    wal.sync(end).unwrap();
    let image = disk.after_power_cut(1, LossModel::DropAll);
    check(&image, &world, world.appended).unwrap();
}

#[test]
fn every_failing_call_is_reported_and_nothing_acknowledged_is_lost() {
    // Guards: the first failure poisons, no second sync of that file, and Ok keeps its meaning.
    let faults = [
        Fault::Error(libc::EIO),
        Fault::Error(libc::ENOSPC),
        Fault::Error(libc::EINTR),
        Fault::Short,
    ];
    let (mut runs, mut fired, mut reported) = (0, 0, 0);
    for seed in 0..3 {
        let calls = {
            let disk = new_disk(seed);
            run(&disk, &mut World::new(), &mut Random::new(seed), 100).unwrap();
            disk.io_count()
        };
        for index in (1..calls).step_by(4) {
            for (fault, once) in faults.iter().flat_map(|&fault| [(fault, true), (fault, false)]) {
                let disk = new_disk(seed);
                disk.fail_at(index, fault, once);
                let mut world = World::new();
                let result = run(&disk, &mut world, &mut Random::new(seed), 100);
                runs += 1;
                fired += u32::from(disk.fired() > 0);
                reported += u32::from(result.is_err());
                check(&disk.after_kill(), &world, world.appended)
                    .unwrap_or_else(|error| panic!("seed {seed} call {index} {fault:?}: {error}"));
                for model in [LossModel::DropAll, LossModel::Random] {
                    let image = disk.after_power_cut(index, model);
                    check(&image, &world, world.synced).unwrap_or_else(|error| {
                        panic!("seed {seed} call {index} {fault:?} {model:?}: {error}")
                    });
                }
            }
        }
    }
    println!("{runs} runs, {fired} fired, {reported} reported");
    assert!(runs > 400 && fired > runs * 9 / 10 && reported > runs / 8);
}

#[test]
fn a_poisoned_log_repeats_its_error_and_never_syncs_again() {
    let disk = new_disk(9);
    let start = LogStart { epoch: 1, lsn: 0 };
    let wal = Wal::create(&door(&disk), directory(), options(), start, &[]).unwrap();
    // ENOSPC of a sync is no full disk that passes: the kernel may have dropped the pages.
    disk.fail_matching(|call, _| call == Call::Sync, libc::ENOSPC, true);
    let end = wal.append(1, 1, &[b"x"]).unwrap();
    let first = wal.sync(end).unwrap_err();
    assert!(!first.is_retry_safe());
    let calls = disk.io_count();
    let later = [
        wal.sync(end).unwrap_err(),
        wal.append(2, 1, &[b"y"]).unwrap_err(),
        wal.rotate().unwrap_err(),
        wal.drain().unwrap_err(),
        wal.close().unwrap_err(),
    ];
    for error in later {
        assert_eq!(error.to_string(), first.to_string());
    }
    assert_eq!(disk.io_count(), calls, "nothing is written after a failure");
    assert_eq!(disk.fired(), 1);
}

/// A disk with records of about 3 KB, all synced up to `synced`, more of them only drained, and no ring.
fn at_rest(seed: u64) -> (SimDisk, World, Lsn, Lsn) {
    let disk = new_disk(seed);
    let mut world = World::new();
    let wal = Wal::create(&door(&disk), directory(), options(), world.start, &[]).unwrap();
    let put = |world: &mut World| {
        let bytes = content(world.appended, 2000 + world.appended as usize % 2000);
        world.appended += 1;
        world.attempted = world.appended;
        wal.append(world.appended - 1, bytes.len() as u32, &[&bytes]).unwrap()
    };
    for _ in 0..100 {
        let end = put(&mut world);
        if world.appended.is_multiple_of(7) {
            wal.sync(end).unwrap();
        }
    }
    let durable = put(&mut world);
    wal.sync(durable).unwrap();
    world.synced = world.appended;
    for _ in 0..8 {
        put(&mut world);
    }
    wal.drain().unwrap();
    let end = wal.appended_lsn();
    drop(wal);
    disk.remove(&directory().join(name::RING)).unwrap();
    (disk.after_kill(), world, durable, end)
}

/// File and offset of an LSN, where every segment is full.
fn at(lsn: Lsn) -> (PathBuf, u64) {
    let slot = 1 + lsn / SEGMENT_BYTES;
    (name::wal(directory(), slot), LOG_HEADER_BYTES as u64 + lsn % SEGMENT_BYTES)
}

#[test]
fn damage_before_the_promised_point_is_an_error_and_after_it_a_tail() {
    let (disk, world, durable, end) = at_rest(11);
    let mut random = Random::new(12);
    let (mut errors, mut tails, mut padding) = (0, 0, 0);
    for round in 0..1500 {
        let image = disk.after_kill();
        let lsn = if round % 3 == 0 {
            durable + random.below(end / 4096 * 4096 - durable)
        } else {
            random.below(durable)
        };
        let (path, offset) = at(lsn);
        image.flip_bit(&path, offset * 8 + random.below(8)).unwrap();
        match check(&image, &world, world.synced) {
            Ok(_) if lsn >= durable => tails += 1,
            // The zeros at the end of a frame.
            Ok((next, _)) => {
                assert!(next >= world.appended - 2, "damage at {lsn} was taken for a tail");
                padding += 1;
            }
            Err(Error::Corruption { path: named, offset: place, .. }) => {
                assert!(lsn < durable, "a torn tail at {lsn} of {durable} was taken for damage");
                assert_eq!(named, path);
                assert!(place <= offset && offset - place < 8192, "{place} names {offset}");
                errors += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{errors} errors, {tails} tails, {padding} in padding");
    assert!(errors > 900 && tails > 300 && padding < 10);
}

#[test]
fn a_lost_header_or_segment_below_a_promise_is_an_error() {
    let (disk, world, durable, _) = at_rest(21);
    for slot in 1..=1 + durable / SEGMENT_BYTES {
        let path = name::wal(directory(), slot);
        for bit in (0..72 * 8).step_by(5) {
            let image = disk.after_kill();
            image.flip_bit(&path, bit).unwrap();
            let found =
                recover(&door(&image), directory(), world.start, durable, &mut |_, _, _| Ok(()));
            assert!(
                matches!(found, Err(Error::Corruption { .. } | Error::NewerFormat { .. })),
                "slot {slot} bit {bit}: {found:?}"
            );
        }
        let image = disk.after_kill();
        image.remove(&path).unwrap();
        let found =
            recover(&door(&image), directory(), world.start, durable, &mut |_, _, _| Ok(()));
        assert!(matches!(found, Err(Error::Corruption { .. })), "slot {slot}: {found:?}");
    }
}

#[test]
fn the_ring_repairs_a_segment_and_the_segment_a_ring() {
    let disk = new_disk(31);
    let mut world = World::new();
    let wal = Wal::create(&door(&disk), directory(), options(), world.start, &[]).unwrap();
    for sequence in 1..=40 {
        let bytes = content(sequence, 2000);
        wal.append(sequence, 2000, &[&bytes]).unwrap();
    }
    (world.appended, world.attempted) = (41, 41);
    wal.sync(wal.appended_lsn()).unwrap();
    let end = wal.appended_lsn();
    let mut random = Random::new(32);
    for _ in 0..200 {
        let image = disk.after_kill();
        let lsn = random.below(end);
        let (path, offset) = at(lsn);
        image.flip_bit(&path, offset * 8).unwrap();
        check(&image, &world, 41).unwrap();
        let image = disk.after_kill();
        let ring = directory().join(name::RING);
        image.flip_bit(&ring, (LOG_HEADER_BYTES as u64 + lsn) * 8).unwrap();
        check(&image, &world, 41).unwrap();
    }
}

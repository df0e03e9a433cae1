//! Each promise of the simulated disk, and that it is as harsh as it says: a disk that loses nothing proves nothing.

use super::*;
use crate::io::{AlignedBuffer, Operation, Request as QueueRequest, read_whole, write_full};
use std::collections::BTreeSet;

const SEEDS: u64 = 300;

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let mode = OpenMode { write: true, create: true, ..OpenMode::READ };
    let file = disk.open(Path::new(path), mode).unwrap();
    write_full(&*file, 0, bytes, false).unwrap();
    file
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    read_whole(disk, Path::new(path), 1 << 30).ok()
}

fn images(disk: &SimDisk) -> impl Iterator<Item = (LossModel, SimDisk)> + '_ {
    let seeds = LossModel::ALL.into_iter().flat_map(|model| (0..SEEDS).map(move |s| (model, s)));
    seeds.map(|(model, seed)| (model, disk.after_power_cut(seed, model)))
}

fn durable_file(disk: &SimDisk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = write(disk, path, bytes);
    file.sync_data().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    file
}

/// What `LossModel`s showed something else than the newest state.
fn distinct(disk: &SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    images(disk).map(|(_, image)| read(&image, path)).collect()
}

#[test]
fn synced_data_under_a_synced_name_survives_every_cut() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"synced");
    write_full(&*file, 6, b" pending", false).unwrap();
    for (model, image) in images(&disk) {
        let bytes = read(&image, "/f").unwrap();
        assert!(bytes.starts_with(b"synced"), "{model:?} lost synced bytes: {bytes:?}");
    }
}

#[test]
fn an_unsynced_name_can_be_lost_and_kept_whatever_happens_to_the_data() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"data").sync_data().unwrap();
    let seen = distinct(&disk, "/f");
    assert_eq!(seen, BTreeSet::from([None, Some(b"data".to_vec())]));
}

#[test]
fn a_synced_name_without_synced_data_can_be_empty_zeros_or_whole() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"data");
    disk.sync_directory(Path::new("/")).unwrap();
    let seen = distinct(&disk, "/f");
    let wanted = [b"".to_vec(), vec![0; 4], b"data".to_vec()].map(Some);
    assert_eq!(seen, BTreeSet::from(wanted));
}

#[test]
fn renames_and_unlinks_are_kept_or_lost_each_on_its_own() {
    let disk = SimDisk::new(1);
    durable_file(&disk, "/old", b"old");
    durable_file(&disk, "/tmp", b"new");
    durable_file(&disk, "/x", b"x");
    disk.rename(Path::new("/tmp"), Path::new("/old")).unwrap();
    disk.remove(Path::new("/x")).unwrap();
    let mut seen = BTreeSet::new();
    for (_, image) in images(&disk) {
        let (old, tmp) = (read(&image, "/old").unwrap(), read(&image, "/tmp"));
        match &old[..] {
            b"old" => assert_eq!(tmp.unwrap(), b"new"),
            b"new" => assert!(tmp.is_none(), "a rename is atomic"),
            other => panic!("{other:?}"),
        }
        seen.insert((old, read(&image, "/x").is_some()));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(distinct(&disk, "/old"), BTreeSet::from([Some(b"new".to_vec())]));
    assert_eq!(distinct(&disk, "/x"), BTreeSet::from([None]));
}

#[test]
fn a_durable_write_covers_its_own_bytes_and_no_others() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", &[b'a'; 8]);
    write_full(&*file, 0, b"bb", false).unwrap();
    write_full(&*file, 4, b"cc", true).unwrap();
    write_full(&*file, 10, b"dd", true).unwrap();
    let seen = distinct(&disk, "/f");
    let wanted = [b"aaaaccaa\0\0dd".to_vec(), b"bbaaccaa\0\0dd".to_vec()].map(Some);
    assert_eq!(seen, BTreeSet::from(wanted));
}

#[test]
fn a_durable_write_is_not_undone_by_an_older_pending_one() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"aaaa");
    write_full(&*file, 0, b"bbbb", false).unwrap();
    file.set_size(0).unwrap();
    write_full(&*file, 0, b"cc", true).unwrap();
    for (model, image) in images(&disk) {
        let bytes = read(&image, "/f").unwrap();
        assert_eq!(bytes, b"cc", "{model:?}: the size is durable too");
    }
}

#[test]
fn writes_tear_at_sectors_and_show_old_bytes_or_zeros() {
    for (model, sector) in [(LossModel::Tear512, 512), (LossModel::Tear4096, 4096)] {
        let disk = SimDisk::new(1);
        let file = durable_file(&disk, "/f", &[1; 8192]);
        write_full(&*file, 0, &[2; 16384], false).unwrap();
        let (mut torn, mut holes, mut halves, mut partial) = (0, 0, 0, 0);
        for seed in 0..SEEDS {
            let bytes = read(&disk.after_power_cut(seed, model), "/f").unwrap();
            assert!(bytes.len() >= 8192 && bytes.len() <= 16384);
            assert_eq!(bytes.len() % sector, 0, "the size stops at a sector");
            partial += u32::from(![8192, 16384].contains(&bytes.len()));
            let sectors: Vec<u8> = bytes
                .chunks(sector)
                .map(|sector| {
                    assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
                    sector[0]
                })
                .collect();
            let inner = &sectors[..8192 / sector];
            assert!(inner.iter().all(|byte| *byte == 1 || *byte == 2));
            halves += u32::from(sectors.chunks(2).any(|pair| pair[0] != pair[pair.len() - 1]));
            torn += u32::from(inner.contains(&1) && inner.contains(&2));
            holes += u32::from(sectors[8192 / sector..].contains(&0));
        }
        assert!(torn > 20 && holes > 20, "{model:?}: torn {torn} holes {holes}");
        assert!(partial > 20, "{model:?}: the size comes whole or not at all");
        assert!(halves > 20, "{model:?}: neighbouring sectors live and die together");
    }
}

#[test]
fn later_writes_can_survive_without_earlier_ones_except_in_a_prefix() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", &[0; 2]);
    write_full(&*file, 0, b"1", false).unwrap();
    write_full(&*file, 1, b"2", false).unwrap();
    let seen = |model| -> BTreeSet<Vec<u8>> {
        (0..SEEDS).map(|s| read(&disk.after_power_cut(s, model), "/f").unwrap()).collect()
    };
    assert_eq!(seen(LossModel::AnySubset).len(), 4);
    assert_eq!(
        seen(LossModel::KeepPrefix),
        BTreeSet::from([b"\0\0".to_vec(), b"1\0".to_vec(), b"12".to_vec()])
    );
    assert_eq!(seen(LossModel::DropAll), BTreeSet::from([b"\0\0".to_vec()]));
}

#[test]
fn the_death_of_the_process_loses_nothing_and_a_power_cut_after_it_still_can() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"data");
    let map = disk.map_shared(Path::new("/m"), 4096).unwrap();
    let lock = disk.lock(Path::new("/LOCK")).unwrap();
    // SAFETY: inside the map.
    unsafe { *map.pointer().add(7) = 7 };
    let next = disk.after_kill();
    // SAFETY: inside the map. The dead process's map is not the next one's.
    unsafe { *map.pointer().add(7) = 9 };
    assert_eq!(read(&next, "/f").unwrap(), b"data");
    assert_eq!(read(&next, "/m").unwrap()[7], 7);
    assert!(disk.lock(Path::new("/LOCK")).is_err());
    drop(next.lock(Path::new("/LOCK")).unwrap());
    drop(lock);
    assert!(distinct(&next, "/f").contains(&None));
}

#[test]
fn a_map_page_shows_new_old_or_durable_bytes_after_a_cut() {
    let disk = SimDisk::new(1);
    let path = Path::new("/m");
    let map = disk.map_shared(path, 8192).unwrap();
    let file = disk.open(path, OpenMode { write: true, ..OpenMode::READ }).unwrap();
    let store = |byte: u8| {
        for page in [0, 4096] {
            // SAFETY: inside the map; nobody else has it.
            unsafe { *map.pointer().add(page) = byte };
        }
    };
    store(1);
    file.sync_data().unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    store(2);
    for _ in 0..2000 {
        file.size().unwrap();
    }
    store(3);
    assert_eq!(read(&disk, "/m").unwrap()[4096], 3, "a read sees the stores");
    let mut seen = BTreeSet::new();
    for (_, image) in images(&disk) {
        let bytes = read(&image, "/m").unwrap();
        seen.insert((bytes[0], bytes[4096]));
    }
    let all: BTreeSet<(u8, u8)> = (1..=3).flat_map(|a| (1..=3).map(move |b| (a, b))).collect();
    assert_eq!(seen, all);
    file.sync_data().unwrap();
    assert!(images(&disk).all(|(_, image)| read(&image, "/m").unwrap()[0] == 3));
    write_full(&*file, 0, &[4], true).unwrap();
    // SAFETY: inside the map.
    assert_eq!(unsafe { *map.pointer() }, 4, "the map sees a write");
    assert!(images(&disk).all(|(_, image)| read(&image, "/m").unwrap()[0] == 4));
}

#[test]
fn the_cut_index_stops_the_world_there() {
    let run = |cut: u64| {
        let disk = SimDisk::new(5);
        disk.cut_power_at(cut);
        let result = (|| -> io::Result<()> {
            let file = disk.open(Path::new("/f"), OpenMode::CREATE)?;
            file.write_at(0, b"one", false)?;
            file.sync_data()?;
            disk.sync_directory(Path::new("/"))?;
            file.write_at(0, b"two", false)?;
            file.sync_data()
        })();
        (disk, result)
    };
    for cut in 0..6 {
        let (disk, result) = run(cut);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(disk.power_is_cut());
        assert_eq!(disk.io_count(), cut + 1);
        assert!(disk.list(Path::new("/")).is_err(), "nothing works after the cut");
        let seen = distinct(&disk, "/f");
        let is = |bytes: &[u8]| seen.contains(&Some(bytes.to_vec()));
        match cut {
            0..=3 => assert!(!is(b"two") && seen.contains(&None)),
            4..=5 => assert!(is(b"one") && !seen.contains(&None)),
            _ => unreachable!(),
        }
    }
    assert!(run(6).1.is_ok());
}

#[test]
fn nothing_has_any_effect_after_the_cut() {
    let disk = SimDisk::new(5);
    let file = durable_file(&disk, "/f", &[1; 4096]);
    disk.cut_power_at(disk.io_count());
    file.sync_data().unwrap_err();
    for round in 0..50 {
        file.write_at(0, &[2; 4096], round % 2 == 0).unwrap_err();
        file.set_size(0).unwrap_err();
        disk.open(&Path::new("/").join(round.to_string()), OpenMode::CREATE).unwrap_err();
        disk.remove(Path::new("/f")).unwrap_err();
    }
    let after = disk.after_kill();
    assert_eq!(after.list(Path::new("/")).unwrap(), ["f"]);
    assert_eq!(read(&after, "/f").unwrap(), [1; 4096]);
}

#[test]
fn syncing_one_directory_does_not_cover_another() {
    let disk = SimDisk::new(1);
    disk.create_directory(Path::new("/a")).unwrap();
    disk.create_directory(Path::new("/b")).unwrap();
    write(&disk, "/a/f", b"a").sync_data().unwrap();
    write(&disk, "/b/f", b"b").sync_data().unwrap();
    disk.sync_directory(Path::new("/a")).unwrap();
    assert_eq!(distinct(&disk, "/a/f"), BTreeSet::from([Some(b"a".to_vec())]));
    assert!(distinct(&disk, "/b/f").contains(&None));
    assert!(images(&disk).all(|(_, image)| image.list(Path::new("/b")).is_ok()));
}

#[test]
fn a_failed_sync_is_not_healed_by_the_next_one() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"old");
    write_full(&*file, 0, b"new", false).unwrap();
    disk.fail_matching(|call, _| call == Call::Sync, libc::EIO, true);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(disk.fired(), 1);
    assert!(distinct(&disk, "/f").contains(&Some(b"old".to_vec())));
    write_full(&*file, 0, b"NEW", false).unwrap();
    file.sync_data().unwrap();
    assert_eq!(distinct(&disk, "/f"), BTreeSet::from([Some(b"NEW".to_vec())]));
}

#[test]
fn a_durable_write_shows_its_bytes_though_the_older_size_is_lost() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"");
    file.set_size(100).unwrap();
    write_full(&*file, 10, b"here", true).unwrap();
    let mut whole = vec![0; 100];
    whole[10..14].copy_from_slice(b"here");
    let seen = distinct(&disk, "/f");
    assert_eq!(seen, BTreeSet::from([Some(whole[..14].to_vec()), Some(whole)]));
}

#[test]
fn a_lost_rename_leaves_both_files_as_they_were_though_nobody_has_them_open() {
    let disk = SimDisk::new(1);
    let old = durable_file(&disk, "/to", b"old");
    write_full(&*old, 0, b"OLD", false).unwrap();
    old.sync_data().unwrap();
    drop(old);
    drop(durable_file(&disk, "/from", b"new"));
    disk.rename(Path::new("/from"), Path::new("/to")).unwrap();
    let image = disk.after_power_cut(1, LossModel::DropAll);
    assert_eq!(read(&image, "/to").unwrap(), b"OLD");
    assert_eq!(read(&image, "/from").unwrap(), b"new");
}

#[test]
fn two_renames_to_one_name_leave_one_of_three_files_there() {
    let disk = SimDisk::new(1);
    for (path, bytes) in [("/a", b"a"), ("/b", b"b"), ("/x", b"x")] {
        durable_file(&disk, path, bytes);
    }
    disk.rename(Path::new("/a"), Path::new("/x")).unwrap();
    disk.rename(Path::new("/b"), Path::new("/x")).unwrap();
    let seen: BTreeSet<_> = images(&disk)
        .map(|(_, image)| {
            let names = image.list(Path::new("/")).unwrap().join("");
            (names, read(&image, "/x").unwrap()[0])
        })
        .collect();
    let wanted = [("abx", b'x'), ("bx", b'a'), ("ax", b'b'), ("x", b'b')];
    assert_eq!(seen, wanted.map(|(names, byte)| (names.to_owned(), byte)).into());
}

#[test]
fn a_file_that_was_renamed_twice_has_one_name_after_any_cut() {
    let disk = SimDisk::new(1);
    durable_file(&disk, "/a", b"1");
    disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    disk.rename(Path::new("/b"), Path::new("/c")).unwrap();
    let seen: BTreeSet<_> =
        images(&disk).map(|(_, image)| image.list(Path::new("/")).unwrap()).collect();
    let wanted = ["a", "b", "c"].map(|name| vec![name.to_owned()]);
    assert_eq!(seen, wanted.into(), "a rename is atomic");
}

#[test]
fn an_unlink_takes_only_the_file_that_it_was_meant_for() {
    let disk = SimDisk::new(1);
    durable_file(&disk, "/f", b"1");
    disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
    write(&disk, "/f", b"2").sync_data().unwrap();
    disk.remove(Path::new("/f")).unwrap();
    write(&disk, "/f", b"3").sync_data().unwrap();
    let seen: BTreeSet<_> =
        images(&disk).map(|(_, image)| (read(&image, "/f"), read(&image, "/g"))).collect();
    let file = |byte: &[u8]| Some(byte.to_vec());
    let wanted = [
        (file(b"1"), None),
        // The rename is lost, a create is not: the new file takes the name.
        (file(b"2"), None),
        (file(b"3"), None),
        (None, file(b"1")),
        (file(b"2"), file(b"1")),
        (file(b"3"), file(b"1")),
        // As above, and the unlink is kept.
        (None, None),
    ];
    assert_eq!(seen, wanted.into());
}

#[test]
fn a_sync_covers_the_data_of_a_file_whose_rename_is_lost() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/a", b"old");
    disk.rename(Path::new("/a"), Path::new("/b")).unwrap();
    write_full(&*file, 0, b"new", false).unwrap();
    file.sync_data().unwrap();
    let seen: BTreeSet<_> =
        images(&disk).map(|(_, image)| (read(&image, "/a"), read(&image, "/b"))).collect();
    let new = || Some(b"new".to_vec());
    assert_eq!(seen, BTreeSet::from([(new(), None), (None, new())]));
}

#[test]
fn bytes_that_were_cut_off_come_back_before_the_shrink_is_synced_and_never_after() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"abcd");
    file.set_size(2).unwrap();
    file.set_size(4).unwrap();
    assert_eq!(read(&disk, "/f").unwrap(), b"ab\0\0");
    let seen = distinct(&disk, "/f");
    assert_eq!(seen, [&b"abcd"[..], b"ab", b"ab\0\0"].map(|b| Some(b.to_vec())).into());
    let file = durable_file(&disk, "/g", b"abcd");
    file.set_size(2).unwrap();
    file.sync_data().unwrap();
    file.set_size(4).unwrap();
    write_full(&*file, 3, b"!", false).unwrap();
    let seen = distinct(&disk, "/g");
    assert_eq!(seen, [&b"ab"[..], b"ab\0\0", b"ab\0!"].map(|b| Some(b.to_vec())).into());
}

#[test]
fn an_open_file_without_a_name_keeps_its_bytes_and_its_space() {
    let disk = SimDisk::new(1);
    let file = durable_file(&disk, "/f", b"old!");
    disk.set_free_bytes(Some(10));
    disk.remove(Path::new("/f")).unwrap();
    write_full(&*file, 0, b"newest", false).unwrap();
    file.sync_data().unwrap();
    let free = |disk: &SimDisk| disk.free_bytes(Path::new("/")).unwrap();
    assert_eq!(free(&disk), 8, "its space is taken while it is open");
    assert_eq!(free(&disk.after_kill()), 14);
    for (model, image) in images(&disk) {
        match read(&image, "/f") {
            Some(bytes) => assert_eq!((bytes, free(&image)), (b"newest".to_vec(), 8), "{model:?}"),
            None => assert_eq!(free(&image), 14),
        }
    }
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(distinct(&disk, "/f"), BTreeSet::from([None]));
    let mut buffer = [0; 6];
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 6);
    assert_eq!(&buffer, b"newest");
    drop(file);
    assert_eq!(free(&disk), 14);
    assert_eq!(disk.state.lock().inodes.len(), 0);
}

#[test]
fn a_direct_write_is_not_durable_by_itself() {
    let disk = SimDisk::new(1);
    durable_file(&disk, "/f", &[1; 4096]);
    let mode = OpenMode { write: true, ..OpenMode::READ_DIRECT };
    let file = disk.open(Path::new("/f"), mode).unwrap();
    write_full(&*file, 0, &AlignedBuffer::copy_of(&[2; 4096]), false).unwrap();
    let seen = distinct(&disk, "/f");
    assert!(seen.contains(&Some(vec![1; 4096])) && seen.contains(&Some(vec![2; 4096])));
    assert!(seen.len() > 2, "and it tears");
    file.sync_data().unwrap();
    assert_eq!(distinct(&disk, "/f"), BTreeSet::from([Some(vec![2; 4096])]));
}

#[test]
fn the_write_that_the_cut_strikes_tears_anywhere() {
    let mut seen = BTreeSet::new();
    for seed in 0..4 * SEEDS {
        let disk = SimDisk::new(seed);
        let file = durable_file(&disk, "/f", &[1; 1536]);
        disk.cut_power_at(disk.io_count());
        file.write_at(0, &[2; 1536], seed % 2 == 0).unwrap_err();
        let bytes = read(&disk.after_power_cut(seed, LossModel::Tear512), "/f").unwrap();
        seen.insert([bytes[0], bytes[512], bytes[1024]]);
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn a_device_that_lies_about_a_sync_loses_what_it_promised() {
    for call in [Call::Sync, Call::WriteDurable, Call::SyncDirectory] {
        let disk = SimDisk::new(1);
        disk.fail_matching(move |of, _| of == call, Fault::SyncIgnored, false);
        let file = durable_file(&disk, "/f", b"data");
        write_full(&*file, 4, b"!", true).unwrap();
        let whole = Some(b"data!".to_vec());
        assert!(images(&disk).any(|(_, image)| read(&image, "/f") != whole), "{call:?}");
        let fired = disk.fired_by();
        assert!(fired.of_kind(FaultKind::SyncIgnored) > 0 && fired.of_call(call) == fired.total());
    }
}

#[test]
fn faults_fire_where_they_are_armed_and_are_counted() {
    let disk = SimDisk::new(1);
    let file = write(&disk, "/dir.log", &[7; 100]);
    let mut buffer = [0; 100];
    disk.fail_at(disk.io_count() + 1, Fault::Short, true);
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 100);
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 50);
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 100);
    disk.fail_at(disk.io_count(), libc::EINTR, true);
    assert_eq!(file.read_at(0, &mut buffer).unwrap(), 100, "EINTR never leaves the floor");
    disk.fail_at(disk.io_count(), Fault::Flip, true);
    file.read_at(0, &mut buffer).unwrap();
    assert_eq!(buffer.iter().map(|byte| (byte ^ 7).count_ones()).sum::<u32>(), 1);
    disk.fail_matching(|call, path| call == Call::Write && path.ends_with("other"), 5, false);
    assert_eq!(file.write_at(0, &[1; 10], false).unwrap(), 10);
    assert_eq!(disk.fired(), 3);
    disk.fail_at(disk.io_count(), libc::ENOSPC, false);
    for _ in 0..3 {
        let error = file.write_at(0, &[1; 10], false).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    }
    assert_eq!(disk.fired(), 6);
    let by: Vec<_> = disk.fired_by().iter().collect();
    let wanted = [
        (Call::Read, FaultKind::Error(libc::EINTR), 1),
        (Call::Read, FaultKind::Short, 1),
        (Call::Read, FaultKind::Flip, 1),
        (Call::Write, FaultKind::Error(libc::ENOSPC), 3),
    ];
    assert_eq!(by, wanted);
    disk.clear_faults();
    // There is no time here.
    disk.fail_at(0, Fault::Delay(std::time::Duration::from_secs(1)), false);
    file.size().unwrap();
    assert_eq!(disk.fired(), 6);
    assert_eq!(file.write_at(0, &[1; 10], false).unwrap(), 10);
    assert!(disk.flip_bit(Path::new("/dir.log"), 0).is_ok());
    assert!(disk.flip_bit(Path::new("/dir.log"), 800).is_err());
}

#[test]
fn a_full_disk_takes_what_fits_then_refuses_until_space_returns() {
    let disk = SimDisk::new(1);
    let file = write(&disk, "/f", b"");
    write(&disk, "/ballast", &[0; 64]);
    disk.set_free_bytes(Some(10));
    assert_eq!(file.write_at(0, &[1; 16], false).unwrap(), 10);
    assert_eq!(file.write_at(10, &[1; 6], false).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(file.write_at(0, &[2; 10], false).unwrap(), 10, "overwriting needs no space");
    disk.remove(Path::new("/ballast")).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/")).unwrap(), 64);
    assert_eq!(file.write_at(10, &[1; 6], false).unwrap(), 6);
    assert_eq!(disk.fired_by().of_kind(FaultKind::Full), disk.fired());
    assert!(disk.fired() > 0);
}

#[test]
fn every_subset_of_a_small_world_can_be_made() {
    let disk = SimDisk::new(1);
    let file = write(&disk, "/f", b"1");
    write_full(&*file, 1, b"2", false).unwrap();
    disk.rename(Path::new("/f"), Path::new("/g")).unwrap();
    let pending = disk.pending();
    assert_eq!(pending.len(), 4, "{pending:?}");
    let mut seen = BTreeSet::new();
    for subset in 0..1u32 << pending.len() {
        let kept: BTreeSet<u64> = (0..pending.len())
            .filter(|index| subset >> index & 1 == 1)
            .map(|index| pending[index].sequence)
            .collect();
        let image = disk.after_power_cut_keeping(|sequence| kept.contains(&sequence));
        assert!(image.pending().is_empty());
        seen.insert((read(&image, "/f"), read(&image, "/g")));
    }
    let contents = [&b""[..], b"1", b"\x002", b"12"].map(|bytes| Some(bytes.to_vec()));
    let mut wanted: BTreeSet<_> = BTreeSet::from([(None, None)]);
    wanted.extend(contents.iter().map(|bytes| (bytes.clone(), None)));
    wanted.extend(contents.iter().map(|bytes| (None, bytes.clone())));
    assert_eq!(seen, wanted);
}

#[test]
fn equal_runs_give_equal_traces_and_images_and_unequal_ones_do_not() {
    let run = |seed: u64, byte: u8| {
        let disk = SimDisk::new(seed);
        let file = write(&disk, "/f", &[byte; 100_000]);
        let mut queue = disk.queue(8);
        let mut order = Vec::new();
        for token in 0..20 {
            let buffer = AlignedBuffer::copy_of(&[token as u8; 4096]);
            let operation = Operation::Write;
            let offset = token * 3000;
            queue.push(QueueRequest { token, file: file.clone(), operation, offset, buffer });
        }
        queue.submit();
        while let Some(completion) = queue.wait() {
            order.push(completion.token);
        }
        let image = disk.after_power_cut(9, LossModel::Random);
        (disk.trace(), order, read(&image, "/f"))
    };
    assert_eq!(run(3, 1), run(3, 1));
    assert_ne!(run(3, 1).0, run(3, 2).0, "the trace sees the bytes");
    assert_ne!(run(3, 1).1, run(4, 1).1, "the seed decides the order");
    assert_ne!(run(3, 1).1, (0..20).collect::<Vec<_>>(), "completions come out of order");
}

#[test]
fn files_that_nobody_can_reach_are_forgotten() {
    let disk = SimDisk::new(1);
    for round in 0..10 {
        let file = write(&disk, "/tmp", &[round; 1000]);
        drop(file);
        disk.rename(Path::new("/tmp"), Path::new("/f")).unwrap();
        disk.sync_directory(Path::new("/")).unwrap();
    }
    assert_eq!(disk.state.lock().inodes.len(), 1);
    disk.remove(Path::new("/f")).unwrap();
    assert_eq!(disk.state.lock().inodes.len(), 1, "the durable name may come back");
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(disk.state.lock().inodes.len(), 0);
}

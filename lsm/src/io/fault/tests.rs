//! The wrapper does what its rules say, on a disk that can be looked into; that it conforms on every body is in
//! `tests/io_conformance.rs`.

use super::*;
use crate::base::clock::ManualClock;
use crate::base::limits::IO_ALIGN;
use crate::io::sim::{LossModel, SimDisk};
use crate::io::{AlignedBuffer, Completion, Operation, Request, read_whole, write_full};
use std::time::Duration;

const MODES: [OpenMode; 2] = [OpenMode::CREATE, OpenMode::CREATE_DIRECT];

fn world() -> (SimDisk, FaultDisk) {
    let sim = SimDisk::new(1);
    (sim.clone(), FaultDisk::new(Arc::new(sim), 2))
}

fn path() -> &'static Path {
    Path::new("/f")
}

fn request(file: &Arc<dyn File>, operation: Operation, unit: u64, bytes: &[u8]) -> Request {
    let (file, buffer) = (file.clone(), AlignedBuffer::copy_of(bytes));
    Request { token: 7, file, operation, offset: unit * IO_ALIGN as u64, buffer }
}

fn drain(queue: &mut dyn Queue) -> Vec<Completion> {
    queue.submit();
    std::iter::from_fn(|| queue.wait()).collect()
}

#[test]
fn an_injected_error_is_told_once_or_from_then_on_and_nothing_else_happens() {
    let (sim, disk) = world();
    let file = disk.open(path(), OpenMode::CREATE).unwrap();
    for code in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ECANCELED] {
        disk.fail_at(disk.io_count(), code, true);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(code));
        file.sync_data().unwrap();
        disk.fail_matching(|call, path| call == Call::Size && path == self::path(), code, false);
        (0..3).for_each(|_| assert_eq!(file.size().unwrap_err().raw_os_error(), Some(code)));
        assert_eq!(disk.fired_by().of_kind(FaultKind::Error(code)), 4);
        disk.clear_faults();
        file.size().unwrap();
    }
    assert_eq!((disk.fired(), sim.fired()), (16, 0));
    assert_eq!(disk.fired_by().of_call(Call::Size), 12);
    assert_eq!(disk.syncs_after_failure(), 7, "every sync but the first follows a failed one");
}

#[test]
fn every_call_of_the_disk_can_fail() {
    let (_, disk) = world();
    disk.open(path(), OpenMode::CREATE).unwrap();
    let calls: [(Call, &dyn Fn() -> io::Result<()>); 9] = [
        (Call::CreateDirectory, &|| disk.create_directory(Path::new("/d"))),
        (Call::List, &|| disk.list(Path::new("/")).map(drop)),
        (Call::Open, &|| disk.open(path(), OpenMode::READ).map(drop)),
        (Call::Rename, &|| disk.rename(path(), Path::new("/g"))),
        (Call::Remove, &|| disk.remove(Path::new("/g"))),
        (Call::SyncDirectory, &|| disk.sync_directory(Path::new("/"))),
        (Call::Lock, &|| disk.lock(Path::new("/LOCK")).map(drop)),
        (Call::Map, &|| disk.map_shared(Path::new("/m"), 4096).map(drop)),
        (Call::FreeBytes, &|| disk.free_bytes(Path::new("/")).map(drop)),
    ];
    for (call, run) in calls {
        disk.fail_matching(move |of, _| of == call, libc::EIO, true);
        assert_eq!(run().unwrap_err().raw_os_error(), Some(libc::EIO), "{call:?}");
        assert_eq!(disk.fired_by().of_call(call), 1);
        run().unwrap_or_else(|error| panic!("{call:?} had an effect: {error}"));
    }
}

#[test]
fn an_interruption_never_leaves_the_floor() {
    let (_, disk) = world();
    let file = disk.open(path(), OpenMode::CREATE).unwrap();
    disk.fail_matching(|_, _| true, libc::EINTR, false);
    write_full(&*file, 0, &[1; IO_ALIGN], true).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read_whole(&disk, path(), 1 << 20).unwrap(), [1; IO_ALIGN]);
    let mut queue = disk.queue(4);
    queue.push(request(&file, Operation::Read, 0, &[0; IO_ALIGN]));
    assert_eq!(drain(&mut *queue)[0].result.as_ref().unwrap(), &IO_ALIGN);
    assert_eq!(disk.fired(), disk.io_count() - 1);
    assert_eq!(disk.fired_by().of_kind(FaultKind::Error(libc::EINTR)), disk.fired());
    assert_eq!(disk.syncs_after_failure(), 0);
}

#[test]
fn a_short_transfer_is_short_by_a_plain_call_and_whole_through_a_queue() {
    for mode in MODES {
        let (_, disk) = world();
        let file = disk.open(path(), mode).unwrap();
        let bytes = AlignedBuffer::copy_of(&[3; 3 * IO_ALIGN]);
        disk.fail_matching(|_, _| true, Fault::Short, false);
        let count = file.write_at(0, &bytes, false).unwrap();
        assert_eq!(count, if mode.direct { IO_ALIGN } else { 3 * IO_ALIGN / 2 });
        let mut queue = disk.queue(4);
        queue.push(request(&file, Operation::Write, 0, &bytes));
        assert_eq!(drain(&mut *queue)[0].result.as_ref().unwrap(), &(3 * IO_ALIGN));
        queue.push(request(&file, Operation::Read, 1, &[0; 3 * IO_ALIGN]));
        let read = drain(&mut *queue).remove(0);
        assert_eq!(read.result.unwrap(), 2 * IO_ALIGN, "short at the end of the file");
        assert_eq!(read.buffer[..2 * IO_ALIGN], [3; 2 * IO_ALIGN]);
        assert_eq!(disk.fired_by().of_kind(FaultKind::Short), 3);
        assert_eq!(Arc::strong_count(&file), 1);
    }
}

#[test]
fn one_bit_flips_on_the_way_and_the_buffer_of_the_caller_stays_as_it_was() {
    let wrong_bits = |bytes: &[u8]| bytes.iter().map(|byte| (byte ^ 5).count_ones()).sum::<u32>();
    for mode in MODES {
        let (sim, disk) = world();
        let file = disk.open(path(), mode).unwrap();
        let good = AlignedBuffer::copy_of(&[5; IO_ALIGN]);
        disk.fail_matching(|call, _| call == Call::Write, Fault::Flip, false);
        assert_eq!(file.write_at(0, &good, false).unwrap(), IO_ALIGN);
        let mut queue = disk.queue(4);
        queue.push(request(&file, Operation::Write, 1, &good));
        assert_eq!(wrong_bits(&drain(&mut *queue)[0].buffer), 0);
        let written = read_whole(&sim, path(), 1 << 20).unwrap();
        assert_eq!(wrong_bits(&written[..IO_ALIGN]), 1);
        assert_eq!(wrong_bits(&written[IO_ALIGN..]), 1);
        disk.clear_faults();
        write_full(&*file, 0, &good, false).unwrap();
        disk.fail_matching(|call, _| call == Call::Read, Fault::Flip, false);
        let mut buffer = AlignedBuffer::zeroed(IO_ALIGN);
        file.read_at(0, &mut buffer).unwrap();
        assert_eq!(wrong_bits(&buffer), 1);
        queue.push(request(&file, Operation::Read, 0, &buffer));
        assert_eq!(wrong_bits(&drain(&mut *queue)[0].buffer), 1);
        queue.push(request(&file, Operation::Read, 9, &buffer));
        assert_eq!(drain(&mut *queue)[0].result.as_ref().unwrap(), &0);
        assert_eq!(disk.fired_by().of_kind(FaultKind::Flip), 5);
    }
}

#[test]
fn queued_errors_belong_to_their_request_and_the_others_go_through() {
    let (sim, disk) = world();
    let file = disk.open(path(), OpenMode::CREATE_DIRECT).unwrap();
    let mut queue = disk.queue(4);
    let first = disk.io_count();
    disk.fail_at(first + 3, libc::EAGAIN, true);
    disk.fail_at(first + 5, libc::ECANCELED, true);
    // All have the same token: only the buffers tell them apart.
    for number in 0..8u8 {
        let bytes = [number; IO_ALIGN];
        queue.push(request(&file, Operation::Write, u64::from(number), &bytes));
    }
    assert_eq!(queue.in_flight(), 8);
    let mut errors = Vec::new();
    for completion in drain(&mut *queue) {
        assert_eq!((completion.token, completion.buffer.len()), (7, IO_ALIGN));
        match completion.result {
            Ok(count) => assert_eq!(count, IO_ALIGN),
            Err(error) => errors.push((completion.buffer[0], error.raw_os_error())),
        }
    }
    errors.sort_unstable();
    assert_eq!(errors, [(3, Some(libc::EAGAIN)), (5, Some(libc::ECANCELED))]);
    let written = read_whole(&sim, path(), 1 << 20).unwrap();
    let pages: Vec<u8> = written.chunks(IO_ALIGN).map(|page| page[0]).collect();
    assert_eq!(pages, [0, 1, 2, 0, 4, 0, 6, 7]);
    assert_eq!(Arc::strong_count(&file), 1);
}

#[test]
fn a_write_that_fails_may_have_written_a_part_in_front() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let sim = SimDisk::new(seed);
        let disk = FaultDisk::new(Arc::new(sim.clone()), seed);
        let file = disk.open(path(), OpenMode::CREATE).unwrap();
        disk.fail_matching(|call, _| call == Call::Write, libc::EIO, false);
        file.write_at(0, &[1; 1200], false).unwrap_err();
        lengths.insert(read_whole(&sim, path(), 1 << 20).unwrap().len());
    }
    assert_eq!(lengths, [0, 512, 1024].into());
}

#[test]
fn delays_pass_on_the_clock_that_was_given() {
    let clock = Arc::new(ManualClock::default());
    let disk = FaultDisk::with_clock(Arc::new(SimDisk::new(1)), 1, clock.clone());
    let file = disk.open(path(), OpenMode::CREATE).unwrap();
    disk.fail_matching(|_, _| true, Fault::Delay(Duration::from_secs(60)), false);
    file.size().unwrap();
    assert!(clock.now() >= Duration::from_secs(60));
    let mut queue = disk.queue(2);
    queue.push(request(&file, Operation::Write, 0, &[1; IO_ALIGN]));
    assert_eq!(drain(&mut *queue).len(), 1);
    assert!(clock.now() >= Duration::from_secs(120));
    assert_eq!(disk.fired_by().of_kind(FaultKind::Delay), 2);
}

#[test]
fn a_sync_that_lies_can_be_told_from_one_that_failed() {
    let (sim, disk) = world();
    let file = disk.open(path(), OpenMode::CREATE).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    let survives = || read_whole(&sim.after_power_cut(1, LossModel::DropAll), path(), 99).unwrap();
    disk.fail_matching(|_, _| true, Fault::SyncIgnored, false);
    write_full(&*file, 0, b"one", true).unwrap();
    file.sync_data().unwrap();
    assert_eq!((survives(), disk.fired()), (vec![], 2));
    assert_eq!(disk.syncs_after_failure(), 0, "nobody was told");
    disk.clear_faults();
    disk.fail_at(disk.io_count(), libc::EIO, true);
    file.sync_data().unwrap_err();
    assert!(survives().is_empty());
    file.sync_data().unwrap();
    assert_eq!(disk.syncs_after_failure(), 1);
}

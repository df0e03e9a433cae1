//! Every body of the I/O door keeps the same promises: the same checks run on `sim`, `posix` and `uring`, and on `fault` around each
//! of them with nothing armed.
//!
//! Where the machine refuses io_uring its checks say so on stderr and pass; that the fall-back then works is itself a test here, in a
//! child process under a seccomp filter.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use treering_lsm::base::limits::IO_ALIGN;
use treering_lsm::base::options::IoChoice;
use treering_lsm::io::fault::{Call, Fault, FaultDisk, FaultKind};
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::uring::UringDisk;
use treering_lsm::io::{
    AlignedBuffer, Disk, File, OpenMode, Operation, Queue, Request, choose, parent, read_full,
    read_whole, write_full,
};

const UPDATE: OpenMode = OpenMode { write: true, create: true, exclusive: false, direct: false };

/// Runs `check` on each body, in an empty directory.
fn on_every_real_body(check: impl Fn(Arc<dyn Disk>, &Path)) {
    let sim = SimDisk::new(7);
    sim.create_directory(Path::new("/work")).unwrap();
    check(Arc::new(sim), Path::new("/work"));
    check(Arc::new(PosixDisk::new()), tempfile::tempdir().unwrap().path());
    match UringDisk::probe() {
        Ok(disk) => check(Arc::new(disk), tempfile::tempdir().unwrap().path()),
        Err(error) => eprintln!("not run on uring: {error}"),
    }
}

/// Runs `check` on each body, bare and with a wrapper for faults around it, in an empty directory.
fn on_every_body(check: impl Fn(&dyn Disk, &Path)) {
    on_every_real_body(|disk, directory| check(&*disk, directory));
    on_every_real_body(|disk, directory| {
        let disk = FaultDisk::new(disk, 3);
        check(&disk, directory);
        assert!(disk.io_count() > 0);
        assert_eq!(disk.fired(), 0, "nothing was armed");
    });
}

fn request(file: &Arc<dyn File>, token: u64, operation: Operation, bytes: &[u8]) -> Request {
    let offset = token * IO_ALIGN as u64;
    let buffer = AlignedBuffer::copy_of(bytes);
    Request { token, file: file.clone(), operation, offset, buffer }
}

#[test]
fn reads_see_writes_and_stop_at_the_end_of_the_file() {
    on_every_body(|disk, directory| {
        let path = directory.join("f");
        let file = disk.open(&path, OpenMode::CREATE).unwrap();
        assert_eq!(file.path(), path);
        write_full(&*file, 0, b"hello", false).unwrap();
        write_full(&*file, 10, b"world", true).unwrap();
        assert_eq!(file.size().unwrap(), 15);
        let mut buffer = [9; 20];
        assert_eq!(read_full(&*file, 0, &mut buffer).unwrap(), 15, "{}", disk.name());
        assert_eq!(&buffer[..15], b"hello\0\0\0\0\0world");
        assert_eq!(buffer[15..], [9; 5], "bytes beyond the end are left alone");
        assert_eq!(file.read_at(15, &mut buffer).unwrap(), 0);
        assert_eq!(file.read_at(1 << 40, &mut buffer).unwrap(), 0);
        assert_eq!(read_whole(disk, &path, 15).unwrap().len(), 15);
        assert_eq!(read_whole(disk, &path, 14).unwrap_err().kind(), ErrorKind::InvalidData);
        file.sync_data().unwrap();
        disk.sync_directory(&parent(&path)).unwrap();
    });
}

#[test]
fn sizes_cut_and_extend_with_zeros() {
    on_every_body(|disk, directory| {
        let path = directory.join("f");
        let file = disk.open(&path, OpenMode::CREATE).unwrap();
        write_full(&*file, 0, &[7; 100], false).unwrap();
        file.set_size(50).unwrap();
        assert_eq!(file.size().unwrap(), 50);
        file.set_size(200).unwrap();
        let bytes = read_whole(disk, &path, 200).unwrap();
        assert_eq!(bytes[..50], [7; 50]);
        assert_eq!(bytes[50..], [0; 150], "{}: cut bytes come back", disk.name());
    });
}

#[test]
fn opening_obeys_its_mode() {
    on_every_body(|disk, directory| {
        let path = directory.join("f");
        assert_eq!(disk.open(&path, OpenMode::READ).unwrap_err().kind(), ErrorKind::NotFound);
        let file = disk.open(&path, OpenMode::CREATE).unwrap();
        write_full(&*file, 0, b"x", false).unwrap();
        let again = disk.open(&path, OpenMode::CREATE).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert_eq!(disk.open(&path, UPDATE).unwrap().size().unwrap(), 1, "nothing is truncated");
        let reader = disk.open(&path, OpenMode::READ).unwrap();
        assert_eq!(reader.write_at(0, b"y", false).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let lost = disk.open(&directory.join("no/f"), UPDATE).unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn names_follow_creates_renames_and_unlinks() {
    on_every_body(|disk, directory| {
        disk.create_directory(&directory.join("a/b/c")).unwrap();
        disk.create_directory(&directory.join("a/b/c")).unwrap();
        let below = directory.join("a/b");
        for name in ["2", "1", "3"] {
            let file = disk.open(&below.join(name), OpenMode::CREATE).unwrap();
            write_full(&*file, 0, name.as_bytes(), false).unwrap();
        }
        assert_eq!(disk.list(&below).unwrap(), ["1", "2", "3", "c"]);
        let replaced = disk.open(&below.join("1"), OpenMode::READ).unwrap();
        disk.rename(&below.join("2"), &below.join("1")).unwrap();
        disk.remove(&below.join("3")).unwrap();
        assert_eq!(disk.list(&below).unwrap(), ["1", "c"]);
        assert_eq!(read_whole(disk, &below.join("1"), 9).unwrap(), b"2");
        let mut old = [0];
        assert_eq!(replaced.read_at(0, &mut old).unwrap(), 1, "an open file outlives its name");
        assert_eq!(&old, b"1");
        let missing = below.join("3");
        assert_eq!(disk.remove(&missing).unwrap_err().kind(), ErrorKind::NotFound);
        let nothing = disk.rename(&missing, &below.join("4")).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::NotFound);
        assert_eq!(disk.list(&below.join("d")).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(disk.create_directory(&below.join("1")).is_err(), "a file is in the way");
        assert!(disk.create_directory(&below.join("1/x")).is_err(), "a file is in the way");
        disk.sync_directory(&below).unwrap();
        assert!(disk.sync_directory(&below.join("d")).is_err());
        assert!(disk.free_bytes(directory).unwrap() > 0);
    });
}

#[test]
fn a_lock_is_refused_while_held_and_free_after() {
    on_every_body(|disk, directory| {
        let path = directory.join("LOCK");
        let held = disk.lock(&path).unwrap();
        assert_eq!(disk.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(held);
        drop(disk.lock(&path).unwrap());
    });
}

#[test]
fn a_lock_is_free_at_once_even_while_a_child_is_being_started() {
    on_every_body(|disk, directory| {
        let path = directory.join("LOCK");
        std::thread::scope(|scope| {
            // The standard library may fork: until its exec the child shares every open file.
            let children = scope.spawn(|| {
                for _ in 0..20 {
                    assert!(std::process::Command::new("true").status().unwrap().success());
                }
            });
            while !children.is_finished() {
                drop(disk.lock(&path).unwrap());
            }
        });
    });
}

#[test]
fn direct_files_take_whole_units_and_read_the_odd_tail() {
    on_every_body(|disk, directory| {
        let path = directory.join("f");
        let file = disk.open(&path, OpenMode::CREATE_DIRECT).unwrap();
        if !file.direct() {
            return eprintln!("{}: no direct I/O on this file system", disk.name());
        }
        write_full(&*file, 0, &AlignedBuffer::copy_of(&[5; 3 * IO_ALIGN]), false).unwrap();
        write_full(&*file, 0, &AlignedBuffer::copy_of(&[6; IO_ALIGN]), true).unwrap();
        assert_eq!(file.write_at(1, &[0; 100], false).unwrap_err().raw_os_error(), Some(22));
        file.set_size(2 * IO_ALIGN as u64 + 10).unwrap();
        let reader = disk.open(&path, OpenMode::READ_DIRECT).unwrap();
        assert!(reader.direct());
        let unit = reader.read_unit();
        assert!(unit.is_power_of_two() && unit <= IO_ALIGN, "{}: {unit}", disk.name());
        let mut one = AlignedBuffer::zeroed(unit);
        assert_eq!(reader.read_at(unit as u64, &mut one).unwrap(), unit);
        let mut buffer = AlignedBuffer::zeroed(4 * IO_ALIGN);
        let count = read_full(&*reader, 0, &mut buffer).unwrap();
        assert_eq!(count, 2 * IO_ALIGN + 10, "{}", disk.name());
        assert_eq!((buffer[0], buffer[IO_ALIGN], buffer[count - 1]), (6, 5, 5));
    });
}

#[test]
fn a_shared_map_and_its_file_are_the_same_bytes() {
    on_every_body(|disk, directory| {
        let path = directory.join("map");
        let file = disk.open(&path, OpenMode::CREATE).unwrap();
        write_full(&*file, 0, b"old", false).unwrap();
        let map = disk.map_shared(&path, 10_000).unwrap();
        assert_eq!(map.length(), 10_000);
        assert_eq!(map.pointer() as usize % IO_ALIGN, 0);
        assert_eq!(file.size().unwrap(), 10_000);
        // SAFETY: inside the map, which nobody else has.
        unsafe { map.pointer().add(9_999).write(3) };
        write_full(&*file, 5, b"!", false).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { map.pointer().add(5).read() }, b'!', "{}", disk.name());
        let bytes = read_whole(disk, &path, 10_000).unwrap();
        assert_eq!(&bytes[..7], b"old\0\0!\0");
        assert_eq!(bytes[9_999], 3);
        drop(map);
        let again = disk.map_shared(&path, 10_000).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { again.pointer().add(9_999).read() }, 3);
    });
}

#[test]
fn a_queue_hands_back_every_request_once_with_its_own_buffer() {
    on_every_body(|disk, directory| {
        for mode in [OpenMode::CREATE, OpenMode::CREATE_DIRECT] {
            let path = directory.join(if mode.direct { "direct" } else { "buffered" });
            let file = disk.open(&path, mode).unwrap();
            // Depths below, at and above the number of requests; the ring has 256 entries at most.
            for depth in [1, 7, 300, 1000] {
                let mut queue = disk.queue(depth);
                assert!(queue.wait().is_none());
                check_round_trip(disk, &file, &mut *queue);
                check_round_trip(disk, &file, &mut *queue);
            }
        }
    });
}

fn check_round_trip(disk: &dyn Disk, file: &Arc<dyn File>, queue: &mut dyn Queue) {
    const COUNT: u64 = 300;
    for operation in [Operation::Write, Operation::Read] {
        let mut addresses = vec![0; COUNT as usize];
        for token in 0..COUNT {
            let fill = if operation == Operation::Write { token as u8 } else { 0xee };
            let request = request(file, token, operation, &[fill; IO_ALIGN]);
            addresses[token as usize] = request.buffer.as_ptr() as usize;
            queue.push(request);
            if token == COUNT / 2 {
                queue.submit();
            }
        }
        assert_eq!(queue.in_flight(), COUNT as usize);
        let mut seen = BTreeSet::new();
        while let Some(completion) = queue.wait() {
            let token = completion.token;
            assert_eq!(completion.result.unwrap(), IO_ALIGN, "{}", disk.name());
            assert_eq!(completion.buffer.as_ptr() as usize, addresses[token as usize]);
            assert!(completion.buffer.iter().all(|byte| *byte == token as u8));
            assert!(seen.insert(token), "{token} came twice");
        }
        assert_eq!(seen.len(), COUNT as usize);
        assert_eq!(queue.in_flight(), 0);
    }
}

#[test]
fn queued_reads_fall_short_only_at_the_end_and_errors_belong_to_their_request() {
    on_every_body(|disk, directory| {
        let file = disk.open(&directory.join("f"), OpenMode::CREATE).unwrap();
        write_full(&*file, 0, &[1; 3 * IO_ALIGN + 77], false).unwrap();
        let reader = disk.open(&directory.join("f"), OpenMode::READ).unwrap();
        let mut queue = disk.queue(16);
        (0..6).for_each(|token| {
            queue.push(request(&file, token, Operation::Read, &[9; IO_ALIGN]));
        });
        queue.push(request(&reader, 6, Operation::Write, &[2; IO_ALIGN]));
        queue.push(request(&file, 7, Operation::Read, &[]));
        let mut counts = [usize::MAX; 8];
        while let Some(completion) = queue.wait() {
            match completion.result {
                Ok(count) => counts[completion.token as usize] = count,
                Err(error) => {
                    assert_eq!(completion.token, 6, "{}: {error}", disk.name());
                    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
                }
            }
        }
        assert_eq!(counts, [IO_ALIGN, IO_ALIGN, IO_ALIGN, 77, 0, 0, usize::MAX, 0]);
    });
}

#[test]
fn large_requests_are_carried_out_whole() {
    on_every_body(|disk, directory| {
        let file = disk.open(&directory.join("f"), OpenMode::CREATE_DIRECT).unwrap();
        let bytes: Vec<u8> = (0..4 << 20).map(|index: u32| (index / 777) as u8).collect();
        let mut queue = disk.queue(4);
        for part in 0..4usize {
            let (start, end) = (part << 20, (part + 1) << 20);
            let buffer = AlignedBuffer::copy_of(&bytes[start..end]);
            let (operation, offset) = (Operation::Write, start as u64);
            queue.push(Request { token: 0, file: file.clone(), operation, offset, buffer });
        }
        while let Some(completion) = queue.wait() {
            assert_eq!(completion.result.unwrap(), 1 << 20);
        }
        queue.push(request(&file, 0, Operation::Read, &bytes[..1]));
        let mut whole = request(&file, 0, Operation::Read, &[]);
        whole.buffer = AlignedBuffer::zeroed(4 << 20);
        queue.push(whole);
        let mut longest = Vec::new();
        while let Some(completion) = queue.wait() {
            if completion.buffer.len() > 1 {
                longest = completion.buffer.to_vec();
            }
        }
        assert!(longest == bytes, "{}", disk.name());
    });
}

#[test]
fn dropping_a_queue_waits_for_what_it_was_given() {
    on_every_body(|disk, directory| {
        let path = directory.join("f");
        let file = disk.open(&path, OpenMode::CREATE_DIRECT).unwrap();
        for submit in [true, false] {
            let mut queue = disk.queue(64);
            for token in 0..40 {
                let bytes = [u8::from(submit) + 1; IO_ALIGN];
                queue.push(request(&file, token, Operation::Write, &bytes));
            }
            if submit {
                queue.submit();
            }
            drop(queue);
            let bytes = read_whole(disk, &path, 1 << 20).unwrap();
            assert!(bytes == vec![u8::from(submit) + 1; 40 * IO_ALIGN], "{}", disk.name());
        }
    });
}

#[test]
fn the_queue_lets_go_of_a_file_before_its_completion() {
    on_every_body(|disk, directory| {
        let file = disk.open(&directory.join("f"), OpenMode::CREATE_DIRECT).unwrap();
        let mut queue = disk.queue(8);
        (0..20).for_each(|token| {
            queue.push(request(&file, token, Operation::Write, &[1; IO_ALIGN]));
        });
        while queue.wait().is_some() {}
        assert_eq!(Arc::strong_count(&file), 1, "{}", disk.name());
    });
}

#[test]
fn many_threads_share_a_file() {
    on_every_body(|disk, directory| {
        let file = disk.open(&directory.join("f"), OpenMode::CREATE).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let file = file.clone();
                scope.spawn(move || {
                    let mut queue = disk.queue(8);
                    for round in 0..16 {
                        let token = round * 4 + thread;
                        let bytes = [token as u8; IO_ALIGN];
                        queue.push(request(&file, token, Operation::Write, &bytes));
                    }
                    while let Some(completion) = queue.wait() {
                        assert_eq!(completion.result.unwrap(), IO_ALIGN);
                    }
                });
            }
        });
        let bytes = read_whole(disk, &directory.join("f"), 1 << 20).unwrap();
        for (token, page) in bytes.chunks(IO_ALIGN).enumerate() {
            assert!(page.iter().all(|byte| *byte == token as u8), "{}", disk.name());
        }
    });
}

/// What was written, read back through the inner disk, whatever is armed on the outer one.
fn pages(disk: &FaultDisk, path: &Path) -> Vec<u8> {
    let bytes = read_whole(&**disk.inner(), path, 1 << 20).unwrap();
    bytes.chunks(IO_ALIGN).map(|page| page[0]).collect()
}

#[test]
fn queued_faults_strike_one_request_each_on_every_body() {
    const COUNT: u64 = 64;
    on_every_real_body(|inner, directory| {
        for mode in [OpenMode::CREATE, OpenMode::CREATE_DIRECT] {
            let path = directory.join(format!("{}", mode.direct));
            let disk = FaultDisk::new(inner.clone(), 5);
            let file = disk.open(&path, mode).unwrap();
            assert!(file.descriptor().is_none(), "no ring gets past the faults");
            let mut queue = disk.queue(16);
            let arm = |first: u64| {
                disk.fail_at(first + 10, libc::ENOSPC, true);
                disk.fail_at(first + 20, Fault::Short, true);
                disk.fail_at(first + 30, Fault::Flip, true);
                disk.fail_at(first + 40, libc::ECANCELED, true);
                disk.fail_at(first + 50, libc::EINTR, true);
            };
            for operation in [Operation::Write, Operation::Read] {
                arm(disk.io_count());
                for token in 0..COUNT {
                    queue.push(request(
                        &file,
                        token,
                        operation,
                        &[token as u8; 2 * IO_ALIGN][..IO_ALIGN],
                    ));
                }
                let mut seen = BTreeSet::new();
                while let Some(completion) = queue.wait() {
                    let token = completion.token;
                    assert!(seen.insert(token), "{token} came twice");
                    let code = completion.result.as_ref().err().and_then(|e| e.raw_os_error());
                    let wanted = match token {
                        10 => Some(libc::ENOSPC),
                        40 => Some(libc::ECANCELED),
                        _ => None,
                    };
                    assert_eq!(code, wanted, "{} {operation:?} {token}", inner.name());
                    let wrong = completion.buffer.iter().map(|b| (b ^ token as u8).count_ones());
                    // What was written with a wrong bit is read back with that bit wrong, and another.
                    let flips = u32::from(token == 30 && operation == Operation::Read) * 2;
                    let wrong = wrong.sum::<u32>();
                    assert!(wrong == flips || (wrong == 0 && flips == 2), "{token}: {wrong} bits");
                }
                assert_eq!(seen.len() as u64, COUNT);
            }
            let written = pages(&disk, &path);
            for (page, byte) in written.iter().enumerate().filter(|(page, _)| page % 10 != 0) {
                assert_eq!(*byte, page as u8);
            }
            assert_eq!((written[10], written[20], written[40]), (0, 20, 0));
            let fired = disk.fired_by();
            // A direct transfer of one unit cannot be shortened.
            let reads = 5 - u64::from(file.read_unit() == IO_ALIGN);
            let writes = 5 - u64::from(file.direct());
            let counts = (fired.of_call(Call::Read), fired.of_call(Call::Write));
            assert_eq!((counts, fired.total()), ((reads, writes), reads + writes), "{fired}");
            assert_eq!(fired.of_kind(FaultKind::Flip), 2);
        }
    });
}

#[test]
fn plain_faults_strike_where_they_are_armed_on_every_body() {
    on_every_real_body(|inner, directory| {
        let path = directory.join("f");
        let disk = FaultDisk::new(inner.clone(), 5);
        let file = disk.open(&path, OpenMode::CREATE_DIRECT).unwrap();
        let bytes = AlignedBuffer::copy_of(&[1; 4 * IO_ALIGN]);
        disk.fail_matching(|call, _| call == Call::WriteDurable, Fault::Short, true);
        assert_eq!(file.write_at(0, &bytes, true).unwrap(), 2 * IO_ALIGN);
        disk.fail_matching(|call, _| call == Call::WriteDurable, Fault::Short, true);
        write_full(&*file, 0, &bytes, true).unwrap();
        disk.fail_matching(|call, _| call == Call::Sync, libc::EIO, true);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
        let mut buffer = AlignedBuffer::zeroed(4 * IO_ALIGN);
        disk.fail_matching(|call, _| call == Call::Read, Fault::Short, false);
        // Halves of halves, down to one unit, which cannot be shortened.
        assert_eq!(read_full(&*file, 0, &mut buffer).unwrap(), 4 * IO_ALIGN, "{}", inner.name());
        assert!(buffer.iter().all(|byte| *byte == 1));
        let halvings = (4 * IO_ALIGN / file.read_unit()).ilog2();
        assert_eq!(disk.fired_by().of_call(Call::Read), u64::from(halvings));
        disk.clear_faults();
        disk.fail_matching(|_, path| path.ends_with("g"), libc::EROFS, false);
        let refused = disk.open(&directory.join("g"), OpenMode::CREATE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
        assert_eq!(disk.list(directory).unwrap(), ["f"], "it had no effect");
    });
}

/// Set in the child processes of the tests below: what is to happen there.
const CHILD: &str = "TREERING_IO_TEST_CHILD";

/// Runs the test `child_process` alone in a process of its own; returns what it printed.
fn in_a_child(task: &str, directory: &Path) -> String {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture", "--test-threads=1"])
        .env(CHILD, task)
        .env("TREERING_IO_TEST_DIRECTORY", directory)
        .env_remove("TREERING_IO")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text
}

/// Does nothing unless a test below started this process.
#[test]
fn child_process() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let directory = PathBuf::from(std::env::var_os("TREERING_IO_TEST_DIRECTORY").unwrap());
    match task.as_str() {
        "refused" => {
            refuse_io_uring(libc::EPERM);
            let error = choose(IoChoice::Uring).unwrap_err();
            println!("[{error}]");
        }
        #[cfg(target_arch = "x86_64")]
        "interrupted" => return interrupted(&directory),
        "later" => {
            let Ok(disk) = UringDisk::probe() else { return };
            refuse_io_uring(libc::ENOMEM);
            // The probe left one ring; the second queue finds none and is refused another.
            let mut queues = [disk.queue(8), disk.queue(8)];
            println!("[{queues:?}]");
            for (index, queue) in queues.iter_mut().enumerate() {
                let path = directory.join(format!("later{index}"));
                let file = disk.open(&path, OpenMode::CREATE_DIRECT).unwrap();
                check_round_trip(&disk, &file, &mut **queue);
            }
            return;
        }
        other => panic!("{other}"),
    }
    let (disk, why) = choose(IoChoice::Auto).unwrap();
    println!("[{} because {why}]", disk.name());
    let file = disk.open(&directory.join("f"), OpenMode::CREATE_DIRECT).unwrap();
    check_round_trip(&*disk, &file, &mut *disk.queue(16));
}

#[test]
fn a_container_that_refuses_io_uring_gets_posix() {
    let directory = tempfile::tempdir().unwrap();
    let text = in_a_child("refused", directory.path());
    assert!(text.contains("[posix because posix: io_uring refused (EPERM)]"), "{text}");
    assert!(text.contains("[probe io_uring: Operation not permitted"), "{text}");
}

#[test]
fn a_ring_that_cannot_be_made_later_is_replaced_by_threads() {
    if UringDisk::probe().is_err() {
        return eprintln!("not run: io_uring is refused from the start");
    }
    let directory = tempfile::tempdir().unwrap();
    let text = in_a_child("later", directory.path());
    assert!(text.contains("[[UringQueue(") && text.contains(", PosixQueue"), "{text}");
}

/// Promise 4 on real files: a supervisor lets each system call fail with EINTR once before it goes through.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_signal_during_any_system_call_is_nobodys_business() {
    let directory = tempfile::tempdir().unwrap();
    let text = in_a_child("interrupted", directory.path());
    if let Some(why) = text.split("[not run: ").nth(1) {
        return eprintln!("not run: {why}");
    }
    for (call, _) in interruptible() {
        let ring = call == "io_uring_enter" && UringDisk::probe().is_err();
        let count = text.split(&format!("[{call} ")).nth(1).and_then(|rest| rest.split(']').next());
        let count: u32 = count.unwrap().parse().unwrap();
        assert!(count > 0 || ring, "{call} was never interrupted: {text}");
    }
}

/// The system calls of the real bodies that may say EINTR.
#[cfg(target_arch = "x86_64")]
fn interruptible() -> [(&'static str, i64); 13] {
    [
        ("openat", libc::SYS_openat),
        ("pread64", libc::SYS_pread64),
        ("pwrite64", libc::SYS_pwrite64),
        ("pwritev2", libc::SYS_pwritev2),
        ("fdatasync", libc::SYS_fdatasync),
        ("fsync", libc::SYS_fsync),
        ("ftruncate", libc::SYS_ftruncate),
        ("rename", libc::SYS_rename),
        ("unlink", libc::SYS_unlink),
        ("mkdir", libc::SYS_mkdir),
        ("flock", libc::SYS_flock),
        ("statfs", libc::SYS_statfs),
        ("io_uring_enter", libc::SYS_io_uring_enter),
    ]
}

/// The child's part: everything once more, with every call interrupted.
#[cfg(target_arch = "x86_64")]
fn interrupted(directory: &Path) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ANSWERS: [AtomicU64; 13] = [const { AtomicU64::new(0) }; 13];
    // The supervisor starts first: it is not under the filter. It ends with the process.
    let (sender, receiver) = std::sync::mpsc::channel();
    #[allow(clippy::disallowed_methods, reason = "a test")]
    let _supervisor = std::thread::spawn(move || {
        let listener: i32 = receiver.recv().unwrap();
        loop {
            // SAFETY: all zeros is what the kernel wants to be given.
            let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: a notice to fill in.
            if unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &mut notice) } != 0 {
                continue;
            }
            let number = i64::from(notice.data.nr);
            let kind = interruptible().iter().position(|(_, of)| *of == number).unwrap();
            let interrupts = ANSWERS[kind].fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            // SAFETY: plain numbers.
            let mut answer: libc::seccomp_notif_resp = unsafe { std::mem::zeroed() };
            answer.id = notice.id;
            match interrupts {
                true => answer.error = -libc::EINTR,
                false => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            }
            // SAFETY: an answer to read.
            unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
        }
    });
    let listener = supervise(&interruptible().map(|(_, number)| number));
    if listener < 0 {
        return println!("[not run: {}]", std::io::Error::last_os_error());
    }
    sender.send(listener).unwrap();
    let mut disks: Vec<Box<dyn Disk>> = vec![Box::new(PosixDisk::new())];
    disks.extend(UringDisk::probe().ok().map(|disk| Box::new(disk) as Box<dyn Disk>));
    for disk in disks {
        let directory = directory.join(disk.name());
        disk.create_directory(&directory.join("a/b")).unwrap();
        for mode in [OpenMode::CREATE, OpenMode::CREATE_DIRECT] {
            let path = directory.join(format!("{}", mode.direct));
            let file = disk.open(&path, mode).unwrap();
            check_round_trip(&*disk, &file, &mut *disk.queue(64));
            let bytes = AlignedBuffer::copy_of(&[1; IO_ALIGN]);
            write_full(&*file, 0, &bytes, true).unwrap();
            write_full(&*file, 0, &bytes, false).unwrap();
            file.sync_data().unwrap();
            file.set_size(IO_ALIGN as u64).unwrap();
            assert_eq!(read_whole(&*disk, &path, 1 << 20).unwrap(), [1; IO_ALIGN]);
            disk.rename(&path, &directory.join("moved")).unwrap();
            disk.sync_directory(&directory).unwrap();
            assert_eq!(disk.list(&directory).unwrap(), ["a", "moved"]);
            disk.remove(&directory.join("moved")).unwrap();
        }
        disk.map_shared(&directory.join("map"), 10_000).unwrap();
        drop(disk.lock(&directory.join("LOCK")).unwrap());
        drop(disk.lock(&directory.join("LOCK")).unwrap());
        assert!(disk.free_bytes(&directory).unwrap() > 0);
    }
    for ((name, _), answers) in interruptible().iter().zip(&ANSWERS) {
        println!("[{name} {}]", answers.load(Ordering::Relaxed).div_ceil(2));
    }
}

/// Puts this thread, and what it starts, under a filter that asks a supervisor about these system calls. Returns the descriptor
/// to listen at, or -1.
#[cfg(target_arch = "x86_64")]
fn supervise(calls: &[i64]) -> i32 {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The first word is the number of the system call.
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (index, call) in calls.iter().enumerate() {
        let compare = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *call as u32);
        let jt = (calls.len() - index) as u8;
        program.push(libc::sock_filter { jt, ..compare });
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a flag of this process, and a filter program that lives through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (operation, flags) =
            (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        libc::syscall(libc::SYS_seccomp, operation, flags, &filter) as i32
    }
}

/// Makes `io_uring_setup` fail with `errno` for this thread and what it starts, as a container's seccomp profile does.
fn refuse_io_uring(errno: i32) {
    let load_number = libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: 0, // offset of `nr` in seccomp_data
    };
    let compare = libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: libc::SYS_io_uring_setup as u32,
    };
    let answer =
        |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let refuse = answer(libc::SECCOMP_RET_ERRNO | errno as u32);
    let mut program = [load_number, compare, refuse, answer(libc::SECCOMP_RET_ALLOW)];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a flag of this process, and a filter program that lives through the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &filter), 0);
    }
}

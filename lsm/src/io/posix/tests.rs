//! What only the real body can show; the rest is in `tests/io_conformance.rs`.

use super::*;
use crate::io::{AlignedBuffer, Operation, Request, read_whole, write_full};

#[test]
fn a_file_system_without_direct_io_gets_a_buffered_file_that_says_so() {
    let disk = PosixDisk::new();
    let file = disk.open(Path::new("/proc/version"), OpenMode::READ_DIRECT).unwrap();
    assert!(!file.direct());
    assert!(file.read_at(0, &mut [0; 10]).unwrap() > 0);
}

#[test]
fn a_map_stands_on_written_blocks_not_on_holes() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("map");
    let disk = PosixDisk::new();
    let file = disk.open(&path, OpenMode::CREATE).unwrap();
    write_full(&*file, 0, b"kept", false).unwrap();
    let map = disk.map_shared(&path, 1 << 20).unwrap();
    file.sync_data().unwrap();
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
    // SAFETY: inside the map.
    unsafe { *map.pointer().add(4) = b'!' };
    assert!(read_whole(&disk, &path, 1 << 20).unwrap().starts_with(b"kept!\0"));
}

#[test]
fn a_queue_shorter_than_its_work_takes_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = PosixDisk::new();
    let file = disk.open(&directory.path().join("f"), OpenMode::CREATE).unwrap();
    for depth in [0, 1, 2, 30] {
        let mut queue = disk.queue(depth);
        for token in 0..200 {
            let buffer = AlignedBuffer::copy_of(&[token as u8; 512]);
            let (operation, offset) = (Operation::Write, token * 512);
            queue.push(Request { token, file: file.clone(), operation, offset, buffer });
            if token % 50 == 0 {
                queue.submit();
            }
        }
        assert_eq!(queue.in_flight(), 200);
        let mut seen: Vec<u64> = std::iter::from_fn(|| queue.wait()).map(|c| c.token).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }
}

//! What only the ring can show; the rest is in `tests/io_conformance.rs`. On a machine that refuses io_uring there is nothing
//! to show, and the tests say so.

use super::*;
use crate::io::{AlignedBuffer, Operation, Request};

fn disk() -> Option<UringDisk> {
    UringDisk::probe().map_err(|error| eprintln!("io_uring refused: {error}")).ok()
}

fn read(file: &Arc<dyn File>, token: u64) -> Request {
    let buffer = AlignedBuffer::zeroed(4096);
    let (operation, offset) = (Operation::Read, token * 4096);
    Request { token, file: file.clone(), operation, offset, buffer }
}

/// A direct file of `pages` pages, each full of its number.
fn numbered(disk: &UringDisk, path: &Path, pages: u64) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CREATE_DIRECT).unwrap();
    let mut queue = disk.queue(16);
    for token in 0..pages {
        let buffer = AlignedBuffer::copy_of(&[token as u8; 4096]);
        let (operation, offset) = (Operation::Write, token * 4096);
        queue.push(Request { token, file: file.clone(), operation, offset, buffer });
    }
    while let Some(completion) = queue.wait() {
        assert_eq!(completion.result.unwrap(), 4096);
    }
    file
}

#[test]
fn a_ring_serves_one_queue_after_another_and_several_at_once() {
    let Some(disk) = disk() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = numbered(&disk, &directory.path().join("f"), 64);
    for round in 0..20 {
        let mut queues: Vec<_> = (1..6).map(|depth| disk.queue(depth * 16)).collect();
        for queue in &mut queues {
            (0..64).for_each(|token| queue.push(read(&file, (token + round) % 64)));
            queue.submit();
        }
        // The first is dropped with its requests in flight; the others hand back the right bytes.
        drop(queues.remove(0));
        for queue in &mut queues {
            let mut count = 0;
            while let Some(completion) = queue.wait() {
                assert_eq!(completion.result.unwrap(), 4096);
                assert!(completion.buffer.iter().all(|byte| *byte == completion.token as u8));
                count += 1;
            }
            assert_eq!(count, 64);
        }
    }
}

#[test]
fn a_ring_that_fails_ends_its_requests_with_the_error_and_goes_on_without() {
    let Some(disk) = disk() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = numbered(&disk, &directory.path().join("f"), 8);
    let mut queue = UringQueue::new(Ring::take(8).unwrap(), 8);
    (0..4).for_each(|token| queue.push(read(&file, token)));
    queue.submit();
    queue.fail_for_test(&io::Error::from_raw_os_error(libc::ENXIO));
    (4..8).for_each(|token| queue.push(read(&file, token)));
    let mut good = 0;
    while let Some(completion) = queue.wait() {
        assert_eq!(completion.buffer.len(), 4096);
        match completion.result {
            Ok(4096) => good += 1,
            Ok(count) => panic!("{count} bytes"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENXIO)),
        }
    }
    assert!(good >= 4);
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn buffered_reads_and_the_tail_of_a_direct_file_come_through() {
    let Some(disk) = disk() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let file = numbered(&disk, &path, 4);
    file.set_size(4096 * 3 + 100).unwrap();
    for mode in [OpenMode::READ, OpenMode::READ_DIRECT] {
        let file = disk.open(&path, mode).unwrap();
        let mut queue = disk.queue(8);
        (0..5).for_each(|token| queue.push(read(&file, token)));
        let mut counts = [0; 5];
        while let Some(completion) = queue.wait() {
            counts[completion.token as usize] = completion.result.unwrap();
        }
        assert_eq!(counts, [4096, 4096, 4096, 100, 0]);
    }
}

//! kill -9 on a real process and real files: every acknowledged Buffered write is there afterwards.
//!
//! The test starts itself as a child that writes and, after each acknowledgement, stores the count in a file outside the
//! database. The parent kills it in the middle and compares.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use treering_lsm::{Db, IoChoice, Options};

const DIRECTORY: &str = "TREERING_KILL_TEST";
const KEYS: u64 = 50_000;

fn options(io: IoChoice) -> Options {
    let mut options = Options::default();
    options.io = io;
    options.memory_limit = 32 << 20;
    // Small memtables, so that flushes and compactions run when the blow falls.
    options.write_buffer_bytes = Some(1 << 20);
    options
}

fn key(number: u64) -> [u8; 8] {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % KEYS).to_be_bytes()
}

fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(40 + (number % 200) as usize, b'v');
    value
}

/// The child: only does something when the parent started it.
#[test]
fn child_that_is_killed() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let progress =
        fs::OpenOptions::new().read(true).write(true).open(directory.join("progress")).unwrap();
    let mut start = [0; 8];
    progress.read_exact_at(&mut start, 0).unwrap();
    let db = Db::open(directory.join("db"), options(IoChoice::Auto)).unwrap();
    for number in u64::from_le_bytes(start).. {
        db.put(&key(number), &value(number)).unwrap();
        progress.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
    }
}

fn start_child(directory: &Path, io: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    if io != "auto" {
        command.env("TREERING_IO", io);
    }
    command
        .args(["--exact", "child_that_is_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn acknowledged(directory: &Path) -> u64 {
    let bytes = fs::read(directory.join("progress")).unwrap();
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn kill_and_check(io: &str, choice: IoChoice, rounds: u64) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("progress"), 0u64.to_le_bytes()).unwrap();
    for round in 0..rounds {
        let before = acknowledged(directory.path());
        let mut child = start_child(directory.path(), io);
        // A little later each round, so that the blow meets different work.
        while acknowledged(directory.path()) < before + 3_000 + round * 7_919 {
            assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let count = acknowledged(directory.path());
        let db = Db::open(directory.path().join("db"), options(choice)).unwrap();
        let mut newest = std::collections::HashMap::new();
        for number in 0..count {
            newest.insert(key(number), number);
        }
        // One write may have been under way: applied, but not yet acknowledged.
        let pending = (key(count), value(count));
        for (key, number) in &newest {
            let found = db.get(key).unwrap().expect("an acknowledged write is gone");
            let is_pending = *key == pending.0 && found == pending.1;
            assert!(
                found == value(*number) || is_pending,
                "round {round}: write {number} is not what was acknowledged"
            );
        }
        let backend = db.stats().io_backend;
        assert!(choice == IoChoice::Auto || backend.starts_with(io), "{backend}");
        db.close().unwrap();
    }
}

#[test]
fn no_acknowledged_write_is_lost_to_kill_9() {
    kill_and_check("auto", IoChoice::Auto, 6);
}

#[test]
fn no_acknowledged_write_is_lost_to_kill_9_without_io_uring() {
    kill_and_check("posix", IoChoice::Posix, 3);
}

//! Asynchronous gets: as many as one likes in flight, from any thread, with the answers of plain gets.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use treering_lsm::io::Disk;
use treering_lsm::io::fault::{Call, FaultDisk};
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::sim::{Fault, SimDisk};
use treering_lsm::io::uring::UringDisk;
use treering_lsm::{
    Append, Background, Db, Environment, Error, GetFuture, IoChoice, KeyspaceOptions, Options,
    ReadOptions, WriteOptions,
};

const KEYS: u32 = 20_000;

fn key(number: u32) -> Vec<u8> {
    format!("key{number:06}").into_bytes()
}

fn value(number: u32) -> Vec<u8> {
    format!("{number:08}").repeat(20).into_bytes()
}

/// A small cache, so that most blocks must be read.
fn options(direct: bool) -> Options {
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.direct_io = direct;
    options
}

fn environment(disk: Arc<dyn Disk>) -> Environment {
    let system = Environment::system(IoChoice::Posix).unwrap();
    Environment { disk, background: Background::Threads, ..system }
}

/// Even keys are there, in tables; keys divisible by 10 were deleted again.
fn fill(db: &Db) {
    for number in (0..KEYS).step_by(2) {
        db.put(&key(number), &value(number)).unwrap();
    }
    db.flush().unwrap();
    for number in (0..KEYS).step_by(10) {
        db.delete(&key(number)).unwrap();
    }
    db.flush().unwrap();
    db.wait_for_compactions().unwrap();
}

fn expected(number: u32) -> Option<Vec<u8>> {
    (number.is_multiple_of(2) && !number.is_multiple_of(10)).then(|| value(number))
}

/// Values that are made of a put and operands in other tables, none of them cached.
#[test]
fn operands_and_what_they_are_for_are_read_one_after_the_other() {
    for disk in bodies() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open_in(environment(disk), directory.path(), options(false)).unwrap();
        let mut text = KeyspaceOptions::default();
        text.merge_operator = Some(Append::NAME.to_owned());
        text.level0_tables = 64;
        let text = db.create_keyspace("text", text).unwrap();
        for round in 0..4u8 {
            for number in 0..2000 {
                if round == 0 && number % 2 == 0 {
                    text.put(&key(number), &value(number)).unwrap();
                } else if round > 0 {
                    text.merge(&key(number), &[b'a' + round; 100]).unwrap();
                }
            }
            db.flush().unwrap();
        }
        let range = &key(500)[..]..&key(600)[..];
        text.delete_range(range.clone()).unwrap();
        text.merge(&key(550), b"new").unwrap();
        let cold = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        let futures = (0..2000).map(|number| text.get_async(&key(number), &cold)).collect();
        for (number, found) in wait_for_all(futures).into_iter().enumerate() {
            let number = number as u32;
            let mut expected = if number.is_multiple_of(2) { value(number) } else { Vec::new() };
            (1..4).for_each(|round| expected.extend([b'a' + round; 100]));
            let expected = match number {
                550 => Some(b"new".to_vec()),
                500..600 => None,
                _ => Some(expected),
            };
            assert_eq!(found.unwrap(), expected, "{number}");
            assert_eq!(text.get(&key(number)).unwrap().as_deref(), expected.as_deref());
        }
    }
}

fn bodies() -> Vec<Arc<dyn Disk>> {
    let mut bodies: Vec<Arc<dyn Disk>> = vec![Arc::new(PosixDisk::new())];
    match UringDisk::probe() {
        Ok(disk) => bodies.push(Arc::new(disk)),
        Err(error) => eprintln!("not run on uring: {error}"),
    }
    bodies
}

/// Wakes the one thread that waits.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// Waits for all of them; each is polled only after a wake.
fn wait_for_all(futures: Vec<GetFuture>) -> Vec<Result<Option<Vec<u8>>, Error>> {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut waiting: Vec<(usize, GetFuture)> = futures.into_iter().enumerate().collect();
    let mut results: Vec<_> = waiting.iter().map(|_| Err(Error::Closed)).collect();
    loop {
        waiting.retain_mut(|(index, future)| {
            match Pin::new(future).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(found) => {
                    results[*index] = found.map(|value| value.map(|value| value.to_vec()));
                    false
                }
                Poll::Pending => true,
            }
        });
        if waiting.is_empty() {
            return results;
        }
        bell.wait();
    }
}

/// An asynchronous get answers what a get answers, however many are in flight, on every body, through the page cache and past it.
#[test]
fn many_in_flight_give_what_get_gives() {
    for disk in bodies() {
        for direct in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let db = Db::open_in(environment(disk.clone()), directory.path(), options(direct));
            let db = db.unwrap();
            fill(&db);
            let cold = ReadOptions { fill_cache: false, ..ReadOptions::default() };
            for options in [ReadOptions::default(), cold] {
                let numbers: Vec<u32> = (0..1000).map(|i| (i * 7919) % (KEYS + 50)).collect();
                let keyspace = db.default_keyspace();
                let futures =
                    numbers.iter().map(|&number| keyspace.get_async(&key(number), &options));
                let results = wait_for_all(futures.collect());
                for (&number, found) in numbers.iter().zip(results) {
                    assert_eq!(found.unwrap(), expected(number), "{} {number}", disk.name());
                }
            }
            db.close().unwrap();
        }
    }
}

/// Polled only after a wake, as `wait_for_all`.
fn wait_for<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(Arc::clone(&bell));
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        bell.wait();
    }
}

/// A multi_get that is awaited sees one moment for all keys, whatever is written before the last of them is read.
#[test]
fn an_awaited_multi_get_sees_one_moment() {
    fn is_send<T: Send + 'static>(value: T) -> T {
        value
    }
    for disk in bodies() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open_in(environment(disk.clone()), directory.path(), options(true)).unwrap();
        fill(&db);
        let numbers: Vec<u32> = (0..600).map(|i| (i * 7919) % (KEYS + 50)).collect();
        let keys: Vec<Vec<u8>> = numbers.iter().map(|&number| key(number)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let keyspace = db.default_keyspace();
        let future = is_send(keyspace.multi_get_async(&keys, &ReadOptions::default()));
        for &number in numbers.iter().rev() {
            db.put(&key(number), b"new").unwrap();
        }
        db.compact().unwrap();
        for (&number, found) in numbers.iter().zip(wait_for(future)) {
            assert_eq!(found.unwrap().as_deref(), expected(number).as_deref(), "{}", disk.name());
        }
        assert!(wait_for(keyspace.multi_get_async(&[], &ReadOptions::default())).is_empty());
        let abandoned = keyspace.multi_get_async(&keys, &ReadOptions::default());
        drop(abandoned);
        let closed = keyspace.clone();
        db.close().unwrap();
        let found = wait_for(closed.multi_get_async(&keys[..2], &ReadOptions::default()));
        assert!(found.iter().all(|found| matches!(found, Err(Error::Closed))));
    }
}

/// A future sees the state of the moment of its call, also where that is a snapshot.
#[test]
fn a_future_sees_the_moment_of_its_call() {
    for disk in bodies() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open_in(environment(disk), directory.path(), options(true)).unwrap();
        fill(&db);
        let old = ReadOptions { snapshot: Some(db.snapshot()), ..ReadOptions::default() };
        let numbers: Vec<u32> = (2..400).step_by(2).collect();
        let keyspace = db.default_keyspace();
        let before: Vec<_> =
            numbers.iter().map(|&number| keyspace.get_async(&key(number), &old)).collect();
        for &number in &numbers {
            db.put(&key(number), b"new").unwrap();
        }
        db.compact().unwrap();
        let later = numbers.iter().map(|&number| keyspace.get_async(&key(number), &old));
        let later = wait_for_all(later.collect());
        for ((&number, before), later) in numbers.iter().zip(wait_for_all(before)).zip(later) {
            assert_eq!(before.unwrap(), expected(number));
            assert_eq!(later.unwrap(), expected(number));
            assert_eq!(db.get(&key(number)).unwrap().as_deref(), Some(&b"new"[..]));
        }
    }
}

/// Futures may be made on one thread and awaited on another, by several threads at once.
#[test]
fn futures_move_between_threads() {
    for disk in bodies() {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open_in(environment(disk), directory.path(), options(true)).unwrap();
        fill(&db);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let numbers: Vec<u32> = (0..300).map(|i| (i * 613 + thread * 11) % KEYS).collect();
                let futures: Vec<_> =
                    numbers.iter().map(|&number| db.get_async(&key(number))).collect();
                scope.spawn(move || {
                    for (number, found) in numbers.into_iter().zip(wait_for_all(futures)) {
                        assert_eq!(found.unwrap(), expected(number));
                    }
                });
            }
        });
    }
}

/// A read that fails is told to the one who asked, with the file; later gets go on.
#[test]
fn an_error_reaches_the_one_who_asked() {
    for inner in bodies() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(FaultDisk::new(inner, 3));
        let path: &Path = directory.path();
        let db = Db::open_in(environment(disk.clone()), path, options(true)).unwrap();
        fill(&db);
        let cold = ReadOptions { fill_cache: false, ..ReadOptions::default() };
        let keyspace = db.default_keyspace();
        // Opens the tables.
        let numbers: Vec<u32> = (2..2000).step_by(20).collect();
        let ask = || {
            let futures = numbers.iter().map(|&number| keyspace.get_async(&key(number), &cold));
            wait_for_all(futures.collect())
        };
        assert!(ask().iter().all(Result::is_ok));
        // Of the tables: the log may still be drained in the background.
        let is_table = |path: &Path| path.extension().is_some_and(|kind| kind == "sst");
        disk.fail_matching(
            move |call, path| call == Call::Read && is_table(path),
            Fault::Error(5),
            true,
        );
        let failed = ask();
        assert!(disk.fired() > 0, "no fault has fired");
        assert!(
            failed.iter().any(|found| matches!(found, Err(Error::Io { .. }))),
            "nobody was told"
        );
        disk.clear_faults();
        for (&number, found) in numbers.iter().zip(ask()) {
            assert_eq!(found.unwrap(), expected(number));
        }
    }
}

/// A dropped future holds up nobody, and closing answers or ends every other one.
#[test]
fn dropped_futures_and_a_closing_database_leave_nobody_waiting() {
    for disk in bodies() {
        for round in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let db = Db::open_in(environment(disk.clone()), directory.path(), options(true));
            let db = db.unwrap();
            fill(&db);
            let ask = |from: u32| -> Vec<GetFuture> {
                (0..500).map(|i| db.get_async(&key((from + i * 31) % KEYS))).collect()
            };
            drop(ask(round));
            let futures = ask(round + 5);
            let late = db.default_keyspace().clone();
            let results = std::thread::scope(|scope| {
                let waiter = scope.spawn(move || wait_for_all(futures));
                db.close().unwrap();
                waiter.join().unwrap()
            });
            for (i, found) in results.into_iter().enumerate() {
                match found {
                    Ok(found) => {
                        let number = (round + 5 + i as u32 * 31) % KEYS;
                        assert_eq!(found, expected(number));
                    }
                    Err(error) => assert!(matches!(error, Error::Closed), "{error}"),
                }
            }
            let refused = wait_for_all(vec![late.get_async(&key(2), &ReadOptions::default())]);
            assert!(matches!(refused[..], [Err(Error::Closed)]));
        }
    }
}

/// With manual background work nothing happens in another thread: the answer is there at once.
#[test]
fn in_manual_mode_the_caller_reads() {
    let disk = SimDisk::new(5);
    let mut options = options(false);
    options.write_buffer_bytes = Some(64 << 10);
    let db = Db::open_in(Environment::manual(Arc::new(disk)), "db", options).unwrap();
    db.default_keyspace().put_with(b"oak", b"600", &WriteOptions::sync()).unwrap();
    db.flush().unwrap();
    let mut future = db.get_async(b"oak");
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(found) => assert_eq!(found.unwrap().as_deref(), Some(&b"600"[..])),
        Poll::Pending => panic!("it waits for a thread that there is not"),
    }
}

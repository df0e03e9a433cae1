//! The group sync and the ring under every order of a few threads. See base/sync.rs for how to run them.

use super::*;
use crate::base::sync::check;
use crate::io::sim::SimDisk;
use loom::thread;
use std::collections::BTreeMap;
use std::time::Duration;

/// Every look takes as long as a leader waits for its group, so that the wait is one look.
#[derive(Debug, Default)]
struct FastClock {
    nanos: std::sync::atomic::AtomicU64,
}

impl Clock for FastClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.fetch_add(30_000, Ordering::Relaxed))
    }

    fn sleep(&self, _: Duration) {}
}

struct Device {
    group: SyncGroup,
    clock: FastClock,
    appended: AtomicU64,
    durable: AtomicU64,
    busy: AtomicBool,
}

impl Device {
    /// Appends something and syncs it, as a committer does.
    fn commit(&self) {
        let mine = self.appended.fetch_add(1, Ordering::Relaxed) + 1;
        self.group.run(&self.clock, || {
            assert!(!self.busy.swap(true, Ordering::Relaxed), "two writes at once");
            self.durable.store(self.appended.load(Ordering::Relaxed), Ordering::Relaxed);
            self.busy.store(false, Ordering::Relaxed);
        });
        assert!(self.durable.load(Ordering::Relaxed) >= mine, "back before its write");
    }
}

/// Red (a deadlock) if a leader does not wake its heir or its followers, or if a sleeper compares and sleeps in two steps; red ("back
/// before its write") if a leader closes its group after the write, if `finished` is stored Relaxed, or if `led` is cleared before
/// the write. `turn` may be stored Relaxed: the lock of the queue orders what it announces.
#[test]
fn loom_nobody_returns_before_a_write_that_began_after_the_call() {
    check("group", 3, || {
        let device = Arc::new(Device {
            group: SyncGroup::new(),
            clock: FastClock::default(),
            appended: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            busy: AtomicBool::new(false),
        });
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let device = Arc::clone(&device);
                thread::spawn(move || device.commit())
            })
            .collect();
        device.commit();
        threads.into_iter().for_each(|thread| thread.join().expect("a committer ends"));
    });
}

/// A third of the ring.
const RECORD_BYTES: usize = 10 << 10;

const START: LogStart = LogStart { epoch: 1, lsn: 0 };
const DIRECTORY: &str = "/log";

/// A log with the smallest ring.
fn log(disk: &Arc<dyn Disk>) -> Wal {
    let directory = Path::new(DIRECTORY);
    disk.create_directory(directory).expect("a simulated disk");
    let clock = Arc::new(FastClock::default());
    let options =
        WalOptions { ring_bytes: 32 << 10, segment_bytes: 64 << 10, spare_slots: 0, clock };
    let wal = Wal::create(disk, directory, options, START, &[]).expect("a new log");
    assert!(wal.stats().shared_ring);
    wal
}

fn append(wal: &Wal, number: u64) -> Lsn {
    wal.append(number, 1, &[&[number as u8; RECORD_BYTES]]).expect("the disk has space")
}

/// Red (an access in no order) if `publish` stores `appended` Relaxed (a drain copies bytes that are being written), or if
/// `write_out` stores `drained` Relaxed or before it has copied (the appender overwrites what is being copied).
#[test]
fn loom_the_appender_never_overwrites_what_is_not_drained() {
    check("ring", 2, || {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let wal = Arc::new(log(&disk));
        append(&wal, 1);
        let upto = append(&wal, 2);
        let (drainer, syncer) = (Arc::clone(&wal), Arc::clone(&wal));
        let drainer = thread::spawn(move || drainer.drain().expect("the disk has space"));
        let syncer = thread::spawn(move || syncer.sync(upto).expect("the disk has space"));
        // The first still fits, the second needs the place of the oldest.
        append(&wal, 3);
        append(&wal, 4);
        drainer.join().expect("the drainer ends");
        syncer.join().expect("the syncer ends");
        wal.close().expect("the disk has space");
        let mut records = BTreeMap::new();
        recover(&disk, Path::new(DIRECTORY), START, 0, &mut |sequence, _, batch| {
            records.insert(sequence, batch.to_vec());
            Ok(())
        })
        .expect("an undamaged log");
        assert_eq!(records.len(), 4);
        assert!(records.iter().all(|(number, batch)| batch == &vec![*number as u8; RECORD_BYTES]));
    });
}

/// Guards that `Wal::close` notes under the writer's lock that it is closed: a leader whose records are durable already, and who
/// has its promise still to write, would meet the ring of the next opening. In its present form not yet seen red.
#[test]
fn loom_no_promise_is_written_into_the_ring_after_close() {
    check("close", 4, || {
        let wal = Arc::new(log(&(Arc::new(SimDisk::new(1)) as Arc<dyn Disk>)));
        let upto = append(&wal, 1);
        let syncer = Arc::clone(&wal);
        let syncer = thread::spawn(move || syncer.sync(upto));
        // The close that waits for nobody: all is durable when it comes.
        while wal.durable_lsn() < upto {
            thread::yield_now();
        }
        wal.close().expect("the disk has space");
        // SAFETY: whoever closed the log is alone with the ring.
        unsafe { wal.ring.promise(0) };
        syncer.join().expect("the syncer ends").expect("the disk has space");
    });
}

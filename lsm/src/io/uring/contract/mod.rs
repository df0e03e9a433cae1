//! The contract between the queue and the ring, tried against a ring that answers as badly as a kernel may.
//!
//! One seed is one small world: a queue over a fake ring, up to a dozen requests, each with a file of its own in memory. What
//! the ring does comes from the seed: completions out of order and late, transfers that are short, stop inside a unit or move nothing,
//! EAGAIN, EINTR, ECANCELED and EIO for requests, EINTR, EBUSY and EAGAIN for the enter, half-submitted entries, completions
//! held back while more is submitted, and a ring that dies or is busy for ever with requests in flight. The queue is drained, or
//! dropped with requests in flight; whoever pushed has let go of the files at once.
//!
//! What must hold, and what turns it red (each was planted by hand, and seen within 100 seeds):
//! 1. Every request comes back exactly once, with its token, its buffer, and the bytes, count or error that its transfers
//!    ended with. Red: a short write taken for a whole one, ECANCELED taken for success or for an
//!    error, 0 bytes taken for the end of the file, a transfer that goes on inside a unit, a wrong token.
//! 2. A buffer in the ring is neither touched, freed nor used again: reads find the filling that the ring left, writes the bytes
//!    that were pushed; no new buffer overlaps one in the ring; no file in the ring is closed. Red: a slot used again before its
//!    completion, a byte stored into a buffer in the ring, a request that is dropped when the ring fails (its buffer alone: here,
//!    or as a double free).
//! 3. The ring is never overfull, is given back only when empty, and is not touched after it failed. Red: a depth above the
//!    entries, a `drop` that does not wait, a ring that is kept after it failed.
//! 4. Nobody waits for what will never come. Red: a completion that is dropped.
//! 5. Buffers are leaked only by a ring that failed, and only those that it had.

mod file;
mod ring;
mod world;

use self::file::FakeFile;
use self::ring::FakeRing;
use self::world::{Expected, Sheet, World, pattern};
use super::queue::UringQueue;
use crate::base::limits::IO_ALIGN;
use crate::base::random::Random;
use crate::io::{AlignedBuffer, Completion, Operation, Queue, Request};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

/// Requests of one world.
const REQUEST_COUNT_MAX: u64 = 12;
/// Longest transfer through a page cache in bytes.
const BUFFERED_BYTES_MAX: u64 = 200;
/// Sector of a device that takes direct reads of less than a page.
const SECTOR_BYTES: usize = 512;
/// Longest transfer past it in units: longer than what fits one entry of the fake ring.
const DIRECT_UNITS_MAX: u64 = 3;
/// Buffers that are asked for to see whether one that was leaked has been freed.
const PROBE_COUNT: usize = 4;
/// Mixed into the tokens, so that they are no indexes.
const TOKEN_MASK: u64 = 0x7265_6570_7472_6565;

/// What happened in one world, or in many of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Outcome {
    /// Requests that were pushed.
    pub requests: u64,
    /// Transfers that the ring carried out, whole or not.
    pub transfers: u64,
    /// Plain calls that the queue made instead.
    pub plain_calls: u64,
    /// Transfers that moved less than was asked, by the ring or a plain call.
    pub short: u64,
    /// Transfers that moved nothing.
    pub nothing: u64,
    /// EAGAIN for a request.
    pub again: u64,
    /// EINTR for a request.
    pub interrupted: u64,
    /// ECANCELED for a request.
    pub cancelled: u64,
    /// Errors that belong to a request for good.
    pub errors: u64,
    /// EINTR, EBUSY or EAGAIN for an enter.
    pub refused_enters: u64,
    /// Enters that submitted a part.
    pub partial_submits: u64,
    /// Rings that failed.
    pub deaths: u64,
    /// Requests whose buffer such a ring kept.
    pub leaked: u64,
    /// Queues that were dropped with requests in flight.
    pub dropped: u64,
}

impl Outcome {
    /// All that was not plain sailing. Many worlds without any have proved nothing.
    pub fn fired(&self) -> u64 {
        self.short
            + self.nothing
            + self.again
            + self.interrupted
            + self.cancelled
            + self.errors
            + self.refused_enters
            + self.partial_submits
            + self.deaths
            + self.dropped
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Outcome) {
        self.requests += other.requests;
        self.transfers += other.transfers;
        self.plain_calls += other.plain_calls;
        self.short += other.short;
        self.nothing += other.nothing;
        self.again += other.again;
        self.interrupted += other.interrupted;
        self.cancelled += other.cancelled;
        self.errors += other.errors;
        self.refused_enters += other.refused_enters;
        self.partial_submits += other.partial_submits;
        self.deaths += other.deaths;
        self.leaked += other.leaked;
        self.dropped += other.dropped;
    }
}

/// Runs the world of `seed`. The same seed runs the same world.
///
/// # Errors
/// What was broken, with the seed.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut driver = Driver::new(seed);
    let result = driver.drive().and_then(|()| driver.settle());
    let mut world = driver.world.lock();
    // What the ring saw explains what the driver saw.
    match world.wrong.take().map_or(result, Err) {
        Ok(()) => Ok(world.outcome),
        Err(what) => Err(format!("seed {seed}: {what}")),
    }
}

/// The user of the queue.
struct Driver {
    world: Arc<Mutex<World>>,
    /// `None` once it was dropped.
    queue: Option<UringQueue<FakeRing>>,
    random: Random,
    request_count: usize,
    files: Vec<Weak<FakeFile>>,
    returned: usize,
}

impl Driver {
    fn new(seed: u64) -> Driver {
        let mut random = Random::new(seed);
        let entries = 1 << random.below(4);
        let depth = 1 + random.below(entries + 4);
        let request_count = 1 + random.below(REQUEST_COUNT_MAX) as usize;
        let world = Arc::new(Mutex::new(World::new(random.next_u64(), entries as usize)));
        let queue = UringQueue::new(FakeRing::new(world.clone()), depth as usize);
        let files = Vec::with_capacity(request_count);
        Driver { world, queue: Some(queue), random, request_count, files, returned: 0 }
    }

    fn drive(&mut self) -> Result<(), String> {
        let leaves_early = self.random.one_in(3);
        while self.files.len() < self.request_count {
            match self.random.below(8) {
                0..=4 => self.push()?,
                5 => self.queue()?.submit(),
                _ => {
                    self.wait()?;
                }
            }
            self.check_in_flight()?;
        }
        if leaves_early {
            (0..self.random.below(4)).try_for_each(|_| self.wait().map(|_| ()))?;
            if self.random.one_in(2) {
                self.queue()?.submit();
            }
        } else {
            while self.wait()? {
                self.check_in_flight()?;
            }
            if self.returned < self.files.len() {
                return Err(format!("{} of {} came back", self.returned, self.files.len()));
            }
        }
        if self.returned < self.files.len() {
            self.world.lock().outcome.dropped += 1;
        }
        self.queue = None;
        Ok(())
    }

    fn queue(&mut self) -> Result<&mut UringQueue<FakeRing>, String> {
        self.queue.as_mut().ok_or_else(|| "the queue was dropped".to_owned())
    }

    fn check_in_flight(&mut self) -> Result<(), String> {
        let wanted = self.files.len() - self.returned;
        let found = self.queue()?.in_flight();
        if found == wanted { Ok(()) } else { Err(format!("{found} in flight, {wanted} expected")) }
    }

    fn push(&mut self) -> Result<(), String> {
        let random = &mut self.random;
        let index = self.files.len();
        let operation = if random.one_in(3) { Operation::Write } else { Operation::Read };
        let direct = random.one_in(3);
        // Every other direct read is of a device with small sectors.
        let unit = match (direct, operation) {
            (false, _) => 1,
            (true, Operation::Read) if index % 2 == 1 => SECTOR_BYTES,
            (true, _) => IO_ALIGN,
        };
        let length = if direct {
            (1 + random.below(DIRECT_UNITS_MAX)) as usize * IO_ALIGN - unit % IO_ALIGN
        } else {
            random.below(BUFFERED_BYTES_MAX) as usize
        };
        let offset = random.below(3) * unit as u64;
        // One read in four meets the end of its file, anywhere.
        let size = match random.below(4) {
            0 => random.below(offset + length as u64 + 1),
            _ => 1 << 40,
        };
        let shift = random.below(1 << 14) as usize;
        let mut buffer = AlignedBuffer::zeroed(length);
        if operation == Operation::Write {
            buffer.copy_from_slice(pattern(shift, offset, length));
        }
        let mut sheet =
            Sheet::new(operation, unit, offset, buffer.as_mut_ptr(), length, size, shift);
        sheet.stuck = random.one_in(64);
        let mut world = self.world.lock();
        world.check_fresh(&sheet)?;
        world.sheets.push(sheet);
        world.outcome.requests += 1;
        drop(world);
        let file = Arc::new(FakeFile::new(self.world.clone(), index, unit));
        self.files.push(Arc::downgrade(&file));
        let token = index as u64 ^ TOKEN_MASK;
        self.queue()?.push(Request { token, file, operation, offset, buffer });
        Ok(())
    }

    /// False if nothing is in flight.
    fn wait(&mut self) -> Result<bool, String> {
        let Some(completion) = self.queue()?.wait() else { return Ok(false) };
        self.returned += 1;
        self.check(&completion)?;
        Ok(true)
    }

    fn check(&self, completion: &Completion) -> Result<(), String> {
        let index = (completion.token ^ TOKEN_MASK) as usize;
        let mut world = self.world.lock();
        let Some(sheet) = world.sheets.get_mut(index) else {
            return Err(format!("token {:x} was never pushed", completion.token));
        };
        let fail = |what: &str| Err(format!("request {index}: {what}"));
        if std::mem::replace(&mut sheet.finished, true) {
            return fail("came back twice");
        }
        if sheet.in_ring != sheet.leaked {
            return fail("came back while the ring has it");
        }
        if !sheet.leaked && self.files[index].strong_count() > 0 {
            return fail("came back before its file was let go of");
        }
        let own_buffer = completion.buffer.as_ptr() == sheet.pointer.0.cast_const();
        if own_buffer == sheet.leaked || completion.buffer.len() != sheet.length {
            return fail("came back with another buffer");
        }
        let wanted = sheet.expected();
        let found = match &completion.result {
            Ok(count) => Expected::Count(*count),
            Err(error) => Expected::Error(error.raw_os_error().unwrap_or(0)),
        };
        if found != wanted {
            return fail(&format!("came back with {found:?}, {wanted:?} expected"));
        }
        let Expected::Count(count) = found else { return Ok(()) };
        if completion.buffer[..count] != *pattern(sheet.shift, sheet.offset, count) {
            return fail("came back with other bytes");
        }
        Ok(())
    }

    /// After the queue is gone: who still has what, and did what was pushed happen?
    fn settle(&mut self) -> Result<(), String> {
        let mut world = self.world.lock();
        let mut left = Ok(());
        for (index, sheet) in world.sheets.iter().enumerate() {
            let held = self.files[index].strong_count() > 0;
            let written = sheet.operation == Operation::Read
                || sheet.error.is_some()
                || sheet.done == sheet.length;
            let what = match (sheet.leaked, held) {
                (false, true) => "its file is still open",
                (true, false) => "closed while the failed ring has it",
                (false, false) if sheet.in_ring => "the ring has it after the queue is gone",
                (false, false) if !written => "the queue was dropped without writing it",
                _ => continue,
            };
            left = Err(format!("request {index}: {what}"));
        }
        if left.is_ok() && world.death.is_none() && !world.given_back {
            left = Err("the ring was not given back".to_owned());
        }
        left?;
        // Whoever asks the allocator now must not get memory that the failed ring may still write to.
        let leaked = world.sheets.iter().filter(|sheet| sheet.leaked);
        let probes = leaked.flat_map(|sheet| [sheet.length; PROBE_COUNT]);
        let probes: Vec<_> = probes.map(AlignedBuffer::zeroed).collect();
        for mut probe in probes {
            let (pointer, length) = (probe.as_mut_ptr(), probe.len());
            let sheet = Sheet::new(Operation::Read, 1, 0, pointer, length, 0, 0);
            world.check_fresh(&sheet)?;
        }
        world.check_leaked()?;
        self.reclaim(&mut world);
        Ok(())
    }

    /// Frees what a failed ring made the queue leak, so that millions of worlds fit the memory. Only after everything was
    /// found to be as it must.
    fn reclaim(&self, world: &mut World) {
        if world.death.is_none() {
            return;
        }
        world.is_over = true;
        let leaked = world.sheets.iter().zip(&self.files).filter(|(sheet, _)| sheet.leaked);
        for (sheet, file) in leaked {
            // SAFETY: the queue forgot this buffer and its one handle of the file (`settle` saw both alive), and nobody else
            // has them: the fake ring of this world is never entered again.
            unsafe {
                drop(AlignedBuffer::reclaim(sheet.pointer.0, sheet.length));
                if file.strong_count() == 1 {
                    Arc::decrement_strong_count(file.as_ptr());
                }
            }
        }
        // SAFETY: the queue forgot the ring, and with it one handle of the world; the driver holds another.
        unsafe { Arc::decrement_strong_count(Arc::as_ptr(&self.world)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Promise 1 of `io` and all of the contract above.
    #[test]
    fn no_ring_however_bad_loses_repeats_or_spoils_a_request() {
        const SEEDS: u64 = 20_000;
        let mut all = Outcome::default();
        for seed in 0..SEEDS {
            match run(seed) {
                Ok(outcome) => all.add(&outcome),
                Err(what) => panic!("{what}"),
            }
        }
        println!("{SEEDS} seeds: {all:?}");
        let counts = [
            all.short,
            all.nothing,
            all.again,
            all.interrupted,
            all.cancelled,
            all.errors,
            all.refused_enters,
            all.partial_submits,
            all.deaths,
            all.leaked,
            all.dropped,
        ];
        assert!(counts.iter().all(|count| *count > 100), "some kind hardly fired: {all:?}");
        assert!(all.requests > 5 * SEEDS && all.transfers > all.requests / 2);
    }

    #[test]
    fn the_same_seed_runs_the_same_world() {
        for seed in 0..200 {
            assert_eq!(run(seed), run(seed));
        }
    }
}

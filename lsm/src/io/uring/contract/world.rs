//! What the fake ring and the fake files share: one sheet for each request, and what the seed lets happen.

use super::Outcome;
use super::ring::Entry;
use crate::base::limits::IO_ALIGN;
use crate::base::random::Random;
use crate::io::{Operation, STALL_COUNT_MAX};
use std::collections::VecDeque;
use std::sync::LazyLock;

/// Odds are out of so many.
const ODDS: u64 = 256;
/// Plain calls that move nothing, in a row, of a file that is not stuck.
const PLAIN_STALLS_MAX: usize = 3;

/// The bytes of all files: each starts somewhere in them.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..1 << 13).flat_map(|_| random.next_u64().to_le_bytes()).collect()
});

/// What stands at `offset` of the file with this `shift`.
pub(super) fn pattern(shift: usize, offset: u64, length: usize) -> &'static [u8] {
    let start = shift + offset as usize;
    &PATTERN[start..start + length]
}

/// A pointer that may travel with its world; whoever follows it answers for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub(super) *mut u8);

// SAFETY: an address is only a number until somebody follows it.
unsafe impl Send for Address {}

/// How a request must end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Expected {
    Count(usize),
    /// With this errno; 0 for an error that has none.
    Error(i32),
}

/// Everything about one request and its file.
pub(super) struct Sheet {
    pub(super) operation: Operation,
    /// What its transfers must be multiples of.
    pub(super) unit: usize,
    pub(super) offset: u64,
    pub(super) pointer: Address,
    pub(super) length: usize,
    /// Size of the file that is read.
    pub(super) size: u64,
    pub(super) shift: usize,
    /// Plain writes move nothing, for ever.
    pub(super) stuck: bool,
    /// Bytes moved so far, from the start.
    pub(super) done: usize,
    /// The error that ends it.
    pub(super) error: Option<i32>,
    pub(super) in_ring: bool,
    pub(super) closed: bool,
    pub(super) finished: bool,
    pub(super) leaked: bool,
    stalls: usize,
}

impl Sheet {
    pub(super) fn new(
        operation: Operation,
        unit: usize,
        offset: u64,
        pointer: *mut u8,
        length: usize,
        size: u64,
        shift: usize,
    ) -> Sheet {
        Sheet {
            operation,
            unit,
            offset,
            pointer: Address(pointer),
            length,
            size,
            shift,
            stuck: false,
            done: 0,
            error: None,
            in_ring: false,
            closed: false,
            finished: false,
            leaked: false,
            stalls: 0,
        }
    }

    pub(super) fn expected(&self) -> Expected {
        match (self.error, self.operation) {
            (Some(code), _) => Expected::Error(code),
            (None, Operation::Read) => Expected::Count(self.available(self.offset, self.length)),
            // Only if its bytes have all been taken; otherwise no count is right.
            (None, Operation::Write) if self.done == self.length => Expected::Count(self.length),
            (None, Operation::Write) => Expected::Error(-1),
        }
    }

    /// Bytes of such a transfer that the file has, or takes.
    pub(super) fn available(&self, offset: u64, length: usize) -> usize {
        match self.operation {
            Operation::Read => self.size.saturating_sub(offset).min(length as u64) as usize,
            Operation::Write => length,
        }
    }

    /// Address range that belongs to its buffer, up to the next whole unit.
    fn range(&self) -> std::ops::Range<usize> {
        let start = self.pointer.0 as usize;
        start..start + self.length.max(1).next_multiple_of(IO_ALIGN)
    }
}

/// How a transfer ends.
pub(super) enum Fate {
    Moves(usize),
    Fails(i32),
}

/// Odds of each trouble in this world.
struct Mood {
    short: u64,
    nothing: u64,
    soft: u64,
    hard: u64,
    refused: u64,
    partial: u64,
    death: u64,
    /// Each entry in the ring completes at an enter, unless it is late.
    late: u64,
    /// Completions are held back until somebody waits for one.
    holds_back: bool,
    /// After so many enters the ring is busy for ever.
    busy_after: Option<u64>,
}

impl Mood {
    fn new(random: &mut Random) -> Mood {
        let late = [0, 64, 160, 240][random.below(4) as usize];
        let holds_back = random.one_in(4);
        if random.one_in(8) {
            let (short, nothing, soft, hard, refused, partial, death) = (0, 0, 0, 0, 0, 0, 0);
            let busy_after = None;
            return Mood {
                short,
                nothing,
                soft,
                hard,
                refused,
                partial,
                death,
                late,
                holds_back,
                busy_after,
            };
        }
        let mut odds = |most: u64| if random.one_in(2) { 0 } else { random.below(most) };
        Mood {
            short: odds(160),
            nothing: odds(64),
            soft: odds(128),
            hard: odds(32),
            refused: odds(128),
            partial: odds(128),
            death: odds(24),
            late,
            holds_back,
            busy_after: random.one_in(2048).then(|| random.below(6)),
        }
    }
}

pub(super) struct World {
    random: Random,
    mood: Mood,
    pub(super) entries: usize,
    pub(super) sheets: Vec<Sheet>,
    /// Pushed and not submitted.
    pub(super) submission: Vec<Entry>,
    /// Submitted and not completed.
    pub(super) kernel: Vec<Entry>,
    /// Completed and not popped: slot, result, sheet.
    pub(super) completion: VecDeque<(u64, i32, usize)>,
    pub(super) enter_count: u64,
    pub(super) busy_count: usize,
    /// The errno that it failed with.
    pub(super) death: Option<i32>,
    pub(super) given_back: bool,
    /// Everything was checked; what is dropped now may be.
    pub(super) is_over: bool,
    /// The first thing that was not as it must be.
    pub(super) wrong: Option<String>,
    pub(super) outcome: Outcome,
}

impl World {
    pub(super) fn new(seed: u64, entries: usize) -> World {
        let mut random = Random::new(seed);
        World {
            mood: Mood::new(&mut random),
            random,
            entries,
            sheets: Vec::with_capacity(super::REQUEST_COUNT_MAX as usize),
            submission: Vec::with_capacity(entries),
            kernel: Vec::with_capacity(entries),
            completion: VecDeque::with_capacity(entries),
            enter_count: 0,
            busy_count: 0,
            death: None,
            given_back: false,
            is_over: false,
            wrong: None,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn blame(&mut self, what: impl Into<String>) {
        if !self.is_over {
            self.wrong.get_or_insert_with(|| what.into());
        }
    }

    fn happens(&mut self, odds: u64) -> bool {
        odds > 0 && self.random.below(ODDS) < odds
    }

    pub(super) fn is_late(&mut self) -> bool {
        let odds = self.mood.late;
        self.happens(odds)
    }

    pub(super) fn holds_back(&self) -> bool {
        self.mood.holds_back
    }

    pub(super) fn is_busy_for_ever(&self) -> bool {
        self.mood.busy_after.is_some_and(|after| self.enter_count > after)
    }

    /// How many of the pushed entries this enter takes.
    pub(super) fn taken(&mut self) -> usize {
        let count = self.submission.len();
        let odds = self.mood.partial;
        if count > 1 && self.happens(odds) {
            self.outcome.partial_submits += 1;
            return 1 + self.random.below(count as u64 - 1) as usize;
        }
        count
    }

    /// The error of this enter, if it fails; true if for good.
    pub(super) fn enter_error(&mut self) -> Option<(i32, bool)> {
        let odds = self.mood.death;
        if self.happens(odds) {
            let code = [libc::EBADF, libc::ENXIO, libc::EFAULT, libc::ENOMEM];
            return Some((code[self.random.below(4) as usize], true));
        }
        let odds = self.mood.refused;
        self.happens(odds).then(|| {
            self.outcome.refused_enters += 1;
            let code = [libc::EINTR, libc::EBUSY, libc::EAGAIN];
            (code[self.random.below(3) as usize], false)
        })
    }

    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }

    /// Draws how a transfer ends, and enters it into the sheet.
    pub(super) fn fate(&mut self, index: usize, offset: u64, length: usize, plain: bool) -> Fate {
        let (short, nothing) = (self.mood.short, self.mood.nothing);
        let (soft, hard) = (self.mood.soft, self.mood.hard);
        if self.happens(hard) {
            self.outcome.errors += 1;
            // Said by a plain call, EAGAIN and ECANCELED leave the floor like any other.
            let code = [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ECANCELED];
            let code = code[self.random.below(if plain { 4 } else { 2 }) as usize];
            self.sheets[index].error = Some(code);
            return Fate::Fails(code);
        }
        if !plain && self.happens(soft) {
            let (code, count) = match self.random.below(3) {
                0 => (libc::EAGAIN, &mut self.outcome.again),
                1 => (libc::EINTR, &mut self.outcome.interrupted),
                _ => (libc::ECANCELED, &mut self.outcome.cancelled),
            };
            *count += 1;
            return Fate::Fails(code);
        }
        let sheet = &self.sheets[index];
        let available = sheet.available(offset, length);
        let is_write = sheet.operation == Operation::Write;
        let is_stuck = plain && is_write && sheet.stuck;
        let count = if is_stuck || ((is_write || !plain) && self.happens(nothing)) {
            self.outcome.nothing += 1;
            0
        } else if available > 1 && self.happens(short) {
            self.outcome.short += 1;
            1 + self.random.below(available as u64 - 1) as usize
        } else {
            available
        };
        Fate::Moves(self.moved(index, offset, count, available, plain))
    }

    /// Notes that `count` bytes are moved, or more, should a plain call have stalled too often.
    fn moved(
        &mut self,
        index: usize,
        offset: u64,
        count: usize,
        available: usize,
        plain: bool,
    ) -> usize {
        let sheet = &mut self.sheets[index];
        let unit = sheet.unit;
        let stalls = plain && count < available && count < unit;
        let mut count = count;
        sheet.stalls = if stalls { sheet.stalls + 1 } else { 0 };
        if sheet.stuck && sheet.operation == Operation::Write {
            if sheet.stalls > STALL_COUNT_MAX {
                sheet.error = Some(0);
            }
        } else if sheet.stalls > PLAIN_STALLS_MAX {
            sheet.stalls = 0;
            count = available;
        }
        let end = (offset - sheet.offset) as usize + count;
        sheet.done = sheet.done.max(end);
        count
    }

    /// Checks that a transfer belongs to its request, goes on where the last one stopped, and is not one too many.
    pub(super) fn check_transfer(
        &mut self,
        index: usize,
        operation: Operation,
        offset: u64,
        pointer: *const u8,
        length: usize,
    ) -> bool {
        let Some(sheet) = self.sheets.get(index) else {
            self.blame(format!("file {index} is of no request"));
            return false;
        };
        let start = (pointer as usize).wrapping_sub(sheet.pointer.0 as usize);
        let aligned = (pointer as usize | offset as usize | length).is_multiple_of(sheet.unit);
        let what = if sheet.in_ring {
            "a second transfer while the ring has it"
        } else if sheet.closed || sheet.finished {
            "a transfer after its end"
        } else if sheet.error.is_some() {
            "a transfer after its error"
        } else if operation != sheet.operation {
            "another operation"
        } else if offset.wrapping_sub(sheet.offset) != start as u64
            || start.saturating_add(length) > sheet.length
        {
            "bytes of another place"
        } else if start > sheet.done {
            "a transfer that leaves a gap"
        } else if !aligned {
            "an unaligned transfer of a direct file"
        } else {
            return true;
        };
        self.blame(format!("request {index}: {what}"));
        false
    }

    /// Checks that a new buffer is not one that the ring has: only freed memory is handed out again.
    pub(super) fn check_fresh(&self, fresh: &Sheet) -> Result<(), String> {
        let fresh = fresh.range();
        let taken = self.sheets.iter().enumerate().filter(|(_, sheet)| sheet.in_ring);
        for (index, range) in taken.map(|(index, sheet)| (index, sheet.range())) {
            if fresh.start < range.end && range.start < fresh.end {
                return Err(format!("the buffer of request {index} was freed in the ring"));
            }
        }
        Ok(())
    }

    /// Checks that nobody has touched what a failed ring still has.
    pub(super) fn check_leaked(&mut self) -> Result<(), String> {
        let entries = self.submission.iter().chain(&self.kernel);
        for entry in entries.filter(|entry| self.sheets[entry.sheet].leaked) {
            if !entry.is_untouched(&self.sheets[entry.sheet]) {
                return Err(format!("request {}: touched after the ring failed", entry.sheet));
            }
        }
        Ok(())
    }

    /// The ring fails for good. Whatever it has is lost to its owner.
    pub(super) fn die(&mut self, code: i32) {
        self.death = Some(code);
        self.outcome.deaths += 1;
        for sheet in self.sheets.iter_mut().filter(|sheet| sheet.in_ring) {
            sheet.leaked = true;
            sheet.error = Some(code);
            self.outcome.leaked += 1;
        }
    }
}

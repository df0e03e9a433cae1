//! What can be made to go wrong with a call, and when; shared by the `fault` and the `sim` body.

use crate::io::Operation;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The kinds of calls that are counted, traced and made to fail.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Call {
    /// `Disk::create_directory`.
    CreateDirectory = 1,
    /// `Disk::list`.
    List = 2,
    /// `Disk::open`.
    Open = 3,
    /// `Disk::remove`.
    Remove = 4,
    /// `Disk::rename`; its path is the source.
    Rename = 5,
    /// `Disk::sync_directory`.
    SyncDirectory = 6,
    /// `Disk::lock`.
    Lock = 7,
    /// `Disk::map_shared`.
    Map = 8,
    /// `Disk::free_bytes`.
    FreeBytes = 9,
    /// `File::read_at`, or a queued read.
    Read = 10,
    /// `File::write_at`, or a queued write.
    Write = 11,
    /// `File::write_at` with `durable`.
    WriteDurable = 12,
    /// `File::sync_data`.
    Sync = 13,
    /// `File::size`.
    Size = 14,
    /// `File::set_size`.
    SetSize = 15,
    /// `Disk::hard_link`; its path is the source.
    Link = 16,
}

impl Call {
    fn transfers(self) -> bool {
        matches!(self, Call::Read | Call::Write | Call::WriteDurable)
    }

    /// What a call that transfers does; only for those.
    pub(in crate::io) fn operation(self) -> Operation {
        if self == Call::Read { Operation::Read } else { Operation::Write }
    }

    fn syncs(self) -> bool {
        matches!(self, Call::Sync | Call::WriteDurable | Call::SyncDirectory)
    }
}

/// One way for a call to go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The call fails with this errno. A write that fails with EIO may have written a part; a sync that fails has
    /// synced nothing, and whether a later one may make up for it depends on the body. EINTR is met by one more try inside,
    /// as the real bodies do; it fires, and the caller sees nothing of it.
    Error(i32),
    /// A read or write transfers about half of what was asked (whole alignment units of a direct file). A queued request
    /// is carried on with, as the door promises.
    Short,
    /// One bit of the bytes read or written is wrong, and nobody says so.
    Flip,
    /// The call takes this much longer. The simulated disk has no time and does not know this fault.
    Delay(Duration),
    /// A sync or durable write says Ok and made nothing durable: a device that lies. No engine can promise anything
    /// on such a device; tests use it to see that they would notice.
    SyncIgnored,
}

impl Fault {
    /// Its kind, for the counts.
    pub fn kind(self) -> FaultKind {
        match self {
            Fault::Error(code) => FaultKind::Error(code),
            Fault::Short => FaultKind::Short,
            Fault::Flip => FaultKind::Flip,
            Fault::Delay(_) => FaultKind::Delay,
            Fault::SyncIgnored => FaultKind::SyncIgnored,
        }
    }
}

impl From<i32> for Fault {
    fn from(errno: i32) -> Fault {
        Fault::Error(errno)
    }
}

/// What the fired faults are counted by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FaultKind {
    /// [`Fault::Error`] with this errno.
    Error(i32),
    /// [`Fault::Short`].
    Short,
    /// [`Fault::Flip`].
    Flip,
    /// [`Fault::Delay`].
    Delay,
    /// [`Fault::SyncIgnored`].
    SyncIgnored,
    /// The simulated disk was full.
    Full,
}

/// Faults that have fired, by call and kind.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Fired {
    counts: BTreeMap<(Call, FaultKind), u64>,
}

impl Fired {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Those of one kind.
    pub fn of_kind(&self, kind: FaultKind) -> u64 {
        self.iter().filter(|(_, of, _)| *of == kind).map(|(_, _, count)| count).sum()
    }

    /// Those that struck one kind of call.
    pub fn of_call(&self, call: Call) -> u64 {
        self.iter().filter(|(of, _, _)| *of == call).map(|(_, _, count)| count).sum()
    }

    /// Every pair that has fired, with its count, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (Call, FaultKind, u64)> + '_ {
        self.counts.iter().map(|((call, kind), count)| (*call, *kind, *count))
    }

    pub(in crate::io) fn add(&mut self, call: Call, kind: FaultKind) {
        *self.counts.entry((call, kind)).or_default() += 1;
    }
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (call, kind, count)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{count} {kind:?} at {call:?}")?;
        }
        Ok(())
    }
}

/// A call as the rules see it.
#[derive(Clone, Copy, Debug)]
pub(in crate::io) struct Target<'a> {
    pub(in crate::io) call: Call,
    pub(in crate::io) path: &'a Path,
    /// Bytes asked for, of a transfer.
    pub(in crate::io) length: usize,
    /// Transfers are whole multiples of this.
    pub(in crate::io) unit: usize,
    /// Whether the body can make a call take longer.
    pub(in crate::io) has_time: bool,
}

impl<'a> Target<'a> {
    /// A call without bytes.
    pub(in crate::io) fn named(call: Call, path: &'a Path) -> Target<'a> {
        Target { call, path, length: 0, unit: 1, has_time: false }
    }

    /// The length of a short transfer, if it can be shortened at all.
    pub(in crate::io) fn shortened(&self) -> Option<usize> {
        let half = self.length / 2 / self.unit * self.unit;
        (self.call.transfers() && half > 0).then_some(half)
    }

    fn takes(&self, fault: Fault) -> bool {
        match fault {
            Fault::Error(_) => true,
            Fault::Short => self.shortened().is_some(),
            Fault::Flip => self.call.transfers() && self.length > 0,
            Fault::Delay(_) => self.has_time,
            Fault::SyncIgnored => self.call.syncs(),
        }
    }
}

pub(in crate::io) type Matcher = Arc<dyn Fn(Call, &Path) -> bool + Send + Sync>;

enum When {
    At(u64),
    Matching(Matcher),
}

struct Rule {
    when: When,
    fault: Fault,
    once: bool,
}

/// The armed faults, and the count of those that fired; the first rule that matches and applies wins.
#[derive(Default)]
pub(in crate::io) struct Faults {
    rules: Vec<Rule>,
    pub(in crate::io) fired: Fired,
}

impl Faults {
    pub(in crate::io) fn at(&mut self, index: u64, fault: Fault, once: bool) {
        self.rules.push(Rule { when: When::At(index), fault, once });
    }

    pub(in crate::io) fn matching(&mut self, matcher: Matcher, fault: Fault, once: bool) {
        self.rules.push(Rule { when: When::Matching(matcher), fault, once });
    }

    pub(in crate::io) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault of the call with this index, if one applies to it; a rule for one call is used up by it.
    pub(in crate::io) fn take(&mut self, index: u64, target: &Target<'_>) -> Option<Fault> {
        let position = self.rules.iter().position(|rule| {
            let hit = match &rule.when {
                When::At(at) if rule.once => *at == index,
                When::At(at) => *at <= index,
                When::Matching(matcher) => matcher(target.call, target.path),
            };
            hit && target.takes(rule.fault)
        })?;
        let fault = self.rules[position].fault;
        if self.rules[position].once {
            self.rules.remove(position);
        }
        self.fired.add(target.call, fault.kind());
        Some(fault)
    }
}

/// Flips the bit with this number.
pub(in crate::io) fn flip(bytes: &mut [u8], bit: u64) {
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
}

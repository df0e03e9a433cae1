//! One fault at one call: its kind, when it strikes, and which calls it can happen to.

use treering_lsm::io::sim::{Call, Fault};

/// One way for a call to go wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The device fails.
    Eio,
    /// The disk is full.
    Enospc,
    /// A read gives about half.
    ShortRead,
    /// A write takes about half.
    ShortWrite,
    /// Try again.
    Eagain,
    /// A signal came in between.
    Eintr,
    /// What an io_uring says of a request behind one that failed.
    Ecanceled,
    /// A bit of what was read is wrong.
    FlipRead,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 8] = [
        Kind::Eio,
        Kind::Enospc,
        Kind::ShortRead,
        Kind::ShortWrite,
        Kind::Eagain,
        Kind::Eintr,
        Kind::Ecanceled,
        Kind::FlipRead,
    ];

    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Eio => "eio",
            Kind::Enospc => "enospc",
            Kind::ShortRead => "short_read",
            Kind::ShortWrite => "short_write",
            Kind::Eagain => "eagain",
            Kind::Eintr => "eintr",
            Kind::Ecanceled => "ecanceled",
            Kind::FlipRead => "flip_read",
        }
    }

    pub(super) fn fault(self) -> Fault {
        match self {
            Kind::Eio => Fault::Error(libc::EIO),
            Kind::Enospc => Fault::Error(libc::ENOSPC),
            Kind::Eagain => Fault::Error(libc::EAGAIN),
            Kind::Eintr => Fault::Error(libc::EINTR),
            Kind::Ecanceled => Fault::Error(libc::ECANCELED),
            Kind::ShortRead | Kind::ShortWrite => Fault::Short,
            Kind::FlipRead => Fault::Flip,
        }
    }

    /// True if such a thing can happen to this call.
    pub fn meets(self, call: Call) -> bool {
        match self {
            Kind::ShortRead | Kind::FlipRead => call == Call::Read,
            Kind::ShortWrite => matches!(call, Call::Write | Call::WriteDurable),
            _ => true,
        }
    }

    /// True if the engine is told of it. What it is not told of must not be noticed, or be found by a checksum.
    pub fn is_error(self) -> bool {
        matches!(self, Kind::Eio | Kind::Enospc | Kind::Eagain | Kind::Ecanceled)
    }
}

/// A fault at one call, or from that call on.
#[derive(Clone, Copy, Debug)]
pub struct Strike {
    /// Index of the call, counted from the arming.
    pub index: u64,
    /// What happens.
    pub kind: Kind,
    /// Only there.
    pub once: bool,
}

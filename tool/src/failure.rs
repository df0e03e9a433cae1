//! How a command ends: with a verdict, or without an answer.

use std::fmt;
use std::io;
use treering_lsm::Error;

/// What a command that came to its end has found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// No damage.
    Sound,
    /// Damage, which was printed.
    Damaged,
}

impl Verdict {
    /// Sound if nothing was found.
    pub(crate) fn of(sound: bool) -> Verdict {
        if sound { Verdict::Sound } else { Verdict::Damaged }
    }
}

/// Why a command did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something that the caller must do differently.
    Refused(String),
    /// The engine's word.
    Engine(Error),
    /// The output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// A refusal.
    pub(crate) fn refused<T>(text: impl Into<String>) -> Result<T, Failure> {
        Err(Failure::Refused(text.into()))
    }

    /// Damage is an answer, everything else is none.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Engine(Error::Corruption { .. }) => 1,
            _ => 2,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text) => f.write_str(text),
            Failure::Engine(error) => error.fmt(f),
            Failure::Output(error) => write!(f, "cannot write the output: {error}"),
        }
    }
}

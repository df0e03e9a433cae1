//! The one error type of the crate.
//!
//! A variant says what was given, what is possible, and what to do. Programmer errors panic; everything that an operator, a client or a peer can
//! cause is a value of this type.

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, with what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is out of range or contradicts another.
    #[error("{setting}: {detail}")]
    InvalidSetting {
        /// Name of the setting.
        setting: &'static str,
        /// What was given and what is possible.
        detail: String,
    },
    /// Bytes from a peer or from disk are not what this crate writes.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// Which structure.
        what: &'static str,
        /// What was expected and found.
        detail: String,
    },
}

impl Error {
    /// A setting that cannot be used.
    pub fn invalid_setting(setting: &'static str, detail: impl Into<String>) -> Error {
        Error::InvalidSetting { setting, detail: detail.into() }
    }

    /// Bytes that cannot be read.
    pub fn malformed(what: &'static str, detail: impl Into<String>) -> Error {
        Error::Malformed { what, detail: detail.into() }
    }
}

//! The one error type of the crate.
//!
//! A variant carries where (file, offset), what was expected and found, and what the reader should do.
//! Operating errors and damaged data are values of this type; only programmer errors panic.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong, with what to do about it.
///
/// Cheap to clone: a failed write group hands the same error to each of its members.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "sync", "open", ...
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own words.
        source: Arc<io::Error>,
    },
    /// Bytes on disk are not what was written. Restore the file from a checkpoint or a replica.
    #[error("damaged data in {} at offset {offset}: {detail}; restore this file from a checkpoint or replica", path.display())]
    Corruption {
        /// The damaged file.
        path: PathBuf,
        /// Offset in bytes of the first damaged structure.
        offset: u64,
        /// What was expected and what was found.
        detail: String,
    },
    /// The directory exists but holds no Treering database, and creating one was not asked for or is unsafe.
    #[error("{} is not a Treering database: {detail}", path.display())]
    NotADatabase {
        /// The directory.
        path: PathBuf,
        /// What is missing or in the way, and what to do.
        detail: String,
    },
    /// A file was written by a newer release.
    #[error("{} has format version {found}, this release reads up to {supported}; open it with a newer release", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Version found in the file.
        found: u32,
        /// Newest version that this release reads.
        supported: u32,
    },
    /// Another process, or another handle of this process, has the database open.
    #[error("{} is open elsewhere (lock file held); close the other handle (in this process its clones, keyspaces and feeds hold it, too) or choose another directory", path.display())]
    Locked {
        /// The database directory.
        path: PathBuf,
    },
    /// A database is there, where none was to be: [`Options::error_if_exists`](crate::Options::error_if_exists).
    #[error("{} holds a database already, and error_if_exists is set; choose another directory", path.display())]
    DatabaseExists {
        /// The database directory.
        path: PathBuf,
    },
    /// The disk is full. Reads go on; writes resume by themselves when space returns.
    #[error("no space left for {}; free some space, writes then resume by themselves", path.display())]
    NoSpace {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// An earlier write or sync of the WAL or manifest failed. Reads go on; reopen the database to write again.
    #[error("the database stopped taking writes after: {cause}; reopen it to write again")]
    Poisoned {
        /// The first failure.
        cause: Arc<Error>,
    },
    /// A key is empty, or longer than [`limits::KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX).
    #[error("a key of {length} bytes; keys are 1 to {max} bytes long")]
    KeyTooLarge {
        /// Length of the key in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A value is longer than [`limits::VALUE_BYTES_MAX`](crate::limits::VALUE_BYTES_MAX).
    #[error(
        "a value of {length} bytes; values are at most {max} bytes long; split it over several keys"
    )]
    ValueTooLarge {
        /// Length of the value in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A batch is larger than [`limits::BATCH_BYTES_MAX`](crate::limits::BATCH_BYTES_MAX).
    #[error("a batch of {length} bytes; batches are at most {max} bytes; write it in parts")]
    BatchTooLarge {
        /// Encoded size of the batch in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An option is out of range or contradicts another.
    #[error("option {option}: {detail}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// What was given and what is possible.
        detail: String,
    },
    /// No keyspace of this name; create it first.
    #[error("no keyspace named {name:?}; create it with Db::create_keyspace")]
    KeyspaceNotFound {
        /// The name asked for.
        name: String,
    },
    /// A keyspace of this name is there already.
    #[error("a keyspace named {name:?} exists already; open it with Db::keyspace")]
    KeyspaceExists {
        /// The name asked for.
        name: String,
    },
    /// The keyspace of this handle was dropped. Nothing was read or written.
    #[error("keyspace {name:?} was dropped; make a new one with Db::create_keyspace")]
    KeyspaceDropped {
        /// Its name.
        name: String,
    },
    /// Another commit came first: nothing of this transaction was written. Run it again from its beginning.
    #[error(
        "key {} of keyspace {keyspace:?} was changed since this transaction began; run the transaction again",
        key.escape_ascii()
    )]
    Conflict {
        /// Name of the keyspace.
        keyspace: String,
        /// A key that the transaction relies on and that was changed.
        key: Vec<u8>,
    },
    /// A merge operator could not make a value of what was written to a key. Nothing is lost: put or delete the key, or mend the operator.
    #[error(
        "merge operator {operator:?} failed on key {}: {detail}; put or delete the key, or open with a mended operator",
        key.escape_ascii()
    )]
    Merge {
        /// Name of the operator.
        operator: String,
        /// The key.
        key: Vec<u8>,
        /// What it says.
        detail: String,
    },
    /// Changes that somebody wants to follow are not kept (any more). Copy the data anew, from a snapshot or checkpoint, and follow from there.
    #[error(
        "changes from sequence number {wanted} on are not to be had, those from {oldest} on are; copy the data anew and follow from there, or keep more (change_log_bytes)"
    )]
    ChangesGone {
        /// The sequence number that is missing.
        wanted: u64,
        /// The next one that is there, or will be.
        oldest: u64,
    },
    /// The database was opened by [`Db::open_read_only`](crate::Db::open_read_only). Nothing was written.
    #[error("the database was opened read-only; open it with Db::open to write")]
    ReadOnly,
    /// The database was closed.
    #[error("the database is closed; open it again")]
    Closed,
}

impl Error {
    /// Wraps an operating system error; a full disk becomes [`Error::NoSpace`].
    pub fn io(operation: &'static str, path: &Path, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::ENOSPC) | Some(libc::EDQUOT) => Error::NoSpace { path: path.to_owned() },
            _ => Error::Io { operation, path: path.to_owned(), source: Arc::new(source) },
        }
    }

    /// Damage found in `path` at `offset`.
    pub fn corruption(path: &Path, offset: u64, detail: impl Into<String>) -> Error {
        Error::Corruption { path: path.to_owned(), offset, detail: detail.into() }
    }

    /// An option that cannot be used.
    pub fn invalid_option(option: &'static str, detail: impl Into<String>) -> Error {
        Error::InvalidOption { option, detail: detail.into() }
    }

    /// True where the same call may succeed later without a reopen.
    pub fn is_retry_safe(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }
}

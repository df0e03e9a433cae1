//! The one error type of the crate.
//!
//! A variant says what was given, what is possible, and what to do. Programmer errors panic; everything that an operator, a client or a peer can
//! cause is a value of this type.

use crate::base::ids::NodeId;

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
    /// A replication factor that the nodes cannot hold on distinct ones.
    #[error(
        "{wanted} replicas wanted in {place}, where {found} nodes have a weight: add nodes, give drained ones a weight, or lower the factor"
    )]
    TooFewNodes {
        /// The cluster or a datacenter.
        place: String,
        /// Replicas of each tablet.
        wanted: u32,
        /// Nodes that could hold one.
        found: u32,
    },
    /// A node is in the list twice, so that two replicas could be one.
    #[error(
        "node {node} is listed twice: an id belongs to one node for ever, give the other a new one"
    )]
    NodeTwice {
        /// Which one.
        node: NodeId,
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

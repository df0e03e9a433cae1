//! What must follow from a call that failed, and what may.

use super::strike::Kind;
use treering_lsm::file::name::FileKind;
use treering_lsm::io::sim::Call;

/// A file of the database, or what is no file of it: the directory.
pub type Touched = Option<FileKind>;

/// A call that was made to fail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hit {
    /// The call.
    pub call: Call,
    /// Of which file.
    pub place: Touched,
    /// Its index.
    pub index: usize,
    /// The call before it.
    pub after: Option<(Call, Touched)>,
}

impl Hit {
    /// A write of a manifest that follows a sync of it: the mark behind an edit.
    pub fn is_mark(&self) -> bool {
        let of_manifest = matches!(self.place, Some(FileKind::Manifest(_)));
        of_manifest && self.call == Call::Write && self.after == Some((Call::Sync, self.place))
    }
}

/// What a failure means for the writes after it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Consequence {
    /// They go on.
    None,
    /// They may be refused until the database is opened again.
    MayPoison,
    /// They must be.
    MustPoison,
}

/// Why the engine may live with an error that nobody is told of; `None` if it may not. `opening` are the calls of the opening
/// in which it happened, counted from the hit; otherwise there are none.
pub(super) fn lives_with(
    hit: Hit,
    kind: Kind,
    opening: &[(Call, Touched)],
) -> Option<&'static str> {
    let reserve = (Call::Remove, Some(FileKind::Ballast));
    match (hit.call, hit.place) {
        // An opening that meets a full disk gives up the reserve and begins again.
        _ if kind == Kind::Enospc && opening.contains(&reserve) => Some("opened_anew"),
        // A file that stays behind is a stray: the next open removes it, or reuses it.
        (Call::Remove, _) => Some("remove"),
        // The reserve is a comfort.
        (_, Some(FileKind::Ballast)) => Some("ballast"),
        // A full disk is looked at again.
        (Call::FreeBytes, _) => Some("free_bytes"),
        // Every commit is written through to its segment instead.
        (Call::Map, Some(FileKind::Ring)) => Some("ring"),
        // The edit before it is durable; without its mark only less can be said about damage.
        (Call::Write, Some(FileKind::Manifest(_))) if hit.is_mark() => Some("mark"),
        // Space ahead of the log is a matter of speed; who needs it meets the full disk again.
        (Call::Open | Call::Write, Some(FileKind::Wal(_))) if kind == Kind::Enospc => {
            Some("space_ahead")
        }
        // An edit that meets a full disk is written again after the reserve was given up; a new manifest can wait, the old one
        // is in force; and so can what CURRENT says of its length.
        (_, Some(FileKind::Manifest(_) | FileKind::Temporary)) if kind == Kind::Enospc => {
            Some("manifest_full")
        }
        (Call::SyncDirectory, _)
            if kind == Kind::Enospc
                && matches!(hit.after, Some((Call::Write, Some(FileKind::Manifest(_))))) =>
        {
            Some("manifest_full")
        }
        _ => None,
    }
}

/// What it means for the writes after it: DURABILITY.md, 5 and 6.
pub(super) fn consequence(hit: Hit, kind: Kind) -> Consequence {
    let of_log = matches!(hit.place, Some(FileKind::Wal(_) | FileKind::Manifest(_)));
    let full = kind == Kind::Enospc;
    match hit.call {
        Call::Sync if of_log => Consequence::MustPoison,
        Call::Write | Call::Sync if hit.place == Some(FileKind::Temporary) && !full => {
            Consequence::MustPoison
        }
        Call::SyncDirectory | Call::Sync if !matches!(hit.place, Some(FileKind::Table(_))) => {
            Consequence::MayPoison
        }
        // A full disk is not a failure, wherever it is met.
        _ if full || hit.is_mark() => Consequence::None,
        Call::Write | Call::WriteDurable if of_log => Consequence::MustPoison,
        // Jobs are tried again; what is read, listed or removed changes nothing; without a map or a reserve it works as well.
        Call::Read | Call::Remove | Call::FreeBytes | Call::Map | Call::List => Consequence::None,
        _ if matches!(hit.place, Some(FileKind::Table(_) | FileKind::Ballast)) => Consequence::None,
        _ => Consequence::MayPoison,
    }
}

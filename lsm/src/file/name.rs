//! Names of the files of a database directory.
//!
//! ```text
//! LOCK              held while the database is open
//! CURRENT           names the manifest in force
//! MANIFEST-000001   log of version edits
//! 000012.sst        table with file number 12
//! 000003.wal        WAL segment, slot 3 (recycled in place)
//! 000120.chg        change file that begins with sequence number 120
//! RING              the newest WAL bytes, mapped shared
//! BALLAST           reserve that is given up when the disk is full
//! LOG               notes of a program that runs the database (db_bench); the engine lets it be
//! *.tmp             half-made; removed at open
//! ```

use crate::base::key::{FileNumber, SequenceNumber};
use crate::base::limits::NUMBER_MAX;
use std::path::{Path, PathBuf};

/// Name of the lock file.
pub const LOCK: &str = "LOCK";
/// Name of the file that names the manifest.
pub const CURRENT: &str = "CURRENT";
/// Name of the mapped ring of WAL bytes.
pub const RING: &str = "RING";
/// Name of the reserve file.
pub const BALLAST: &str = "BALLAST";

/// Name of a file that a program may keep notes in.
pub const LOG: &str = "LOG";

/// What a file of the directory is, from its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// `LOCK`.
    Lock,
    /// `CURRENT`.
    Current,
    /// `RING`.
    Ring,
    /// `BALLAST`.
    Ballast,
    /// `MANIFEST-n`.
    Manifest(FileNumber),
    /// `n.sst`.
    Table(FileNumber),
    /// `n.wal`, a segment slot.
    Wal(u64),
    /// `n.chg`, which begins with sequence number n.
    Changes(SequenceNumber),
    /// `LOG`.
    Notes,
    /// Something half-made.
    Temporary,
}

/// Path of a table.
pub fn table(directory: &Path, number: FileNumber) -> PathBuf {
    directory.join(format!("{:06}.sst", number.0))
}

/// Path of a manifest.
pub fn manifest(directory: &Path, number: FileNumber) -> PathBuf {
    directory.join(format!("MANIFEST-{:06}", number.0))
}

/// Path of a WAL segment slot.
pub fn wal(directory: &Path, slot: u64) -> PathBuf {
    directory.join(format!("{slot:06}.wal"))
}

/// Path of the change file that begins with a sequence number.
pub fn changes(directory: &Path, first: SequenceNumber) -> PathBuf {
    directory.join(format!("{first:06}.chg"))
}

/// What `name` is; `None` for a file that is not ours.
pub fn parse(name: &str) -> Option<FileKind> {
    match name {
        LOCK => return Some(FileKind::Lock),
        CURRENT => return Some(FileKind::Current),
        RING => return Some(FileKind::Ring),
        BALLAST => return Some(FileKind::Ballast),
        LOG => return Some(FileKind::Notes),
        _ => {}
    }
    let number = |text: &str| -> Option<u64> {
        let digits = text.len() >= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|&number| number <= NUMBER_MAX)
    };
    if let Some(rest) = name.strip_prefix("MANIFEST-") {
        return number(rest).map(|n| FileKind::Manifest(FileNumber(n)));
    }
    if let Some(rest) = name.strip_suffix(".sst") {
        return number(rest).map(|n| FileKind::Table(FileNumber(n)));
    }
    if let Some(rest) = name.strip_suffix(".wal") {
        return number(rest).map(FileKind::Wal);
    }
    if let Some(rest) = name.strip_suffix(".chg") {
        return number(rest).map(FileKind::Changes);
    }
    let known = |stem: &str| parse(stem).is_some();
    name.strip_suffix(".tmp").filter(|stem| known(stem)).map(|_| FileKind::Temporary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strange_file_is_never_taken_for_ours() {
        let directory = Path::new("d");
        let name = |path: PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
        assert_eq!(name(table(directory, FileNumber(7))).as_deref(), Some("000007.sst"));
        assert_eq!(parse("000007.sst"), Some(FileKind::Table(FileNumber(7))));
        assert_eq!(parse("1234567.wal"), Some(FileKind::Wal(1_234_567)));
        assert_eq!(parse("CURRENT.tmp"), Some(FileKind::Temporary));
        for strange in [
            "7.sst",
            "00000x.sst",
            "notes.tmp",
            "000007.sst.bak",
            "MANIFEST",
            "+00007.wal",
            "18446744073709551615.sst",
        ] {
            assert_eq!(parse(strange), None, "{strange}");
        }
    }
}

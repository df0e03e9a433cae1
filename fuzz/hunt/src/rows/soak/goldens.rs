//! Every database of every release that ever was opens, and shows what it held.

use crate::drive::{Failure, Tally};
use std::fs;
use std::path::{Path, PathBuf};
use treering_lsm::base::checksum;
use treering_lsm::{Db, Error, IoChoice, Options, ReadOptions};

/// Values up to so many bytes stand in the description as they are.
const SHOWN_BYTES_MAX: usize = 200;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../lsm/tests/golden")
}

pub(super) fn run(tally: &mut Tally) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("goldens: {error}");
    let mut count = 0;
    for entry in fs::read_dir(directory()).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            for io in [IoChoice::Auto, IoChoice::Posix] {
                open(&path, io).map_err(|failure| format!("{}: {failure}", path.display()))?;
            }
            count += 1;
        }
    }
    tally.note("goldens", count);
    if count == 0 { Err("there are no golden databases".to_owned()) } else { Ok(()) }
}

/// Opens a copy twice, first from the log and then from tables, and compares it with the text beside the original.
fn open(golden: &Path, io: IoChoice) -> Result<(), Failure> {
    let failed = |error: std::io::Error| error.to_string();
    let copy = tempfile::tempdir().map_err(failed)?;
    for entry in fs::read_dir(golden).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        fs::copy(entry.path(), copy.path().join(entry.file_name())).map_err(failed)?;
    }
    let text = fs::read_to_string(golden.with_extension("txt")).map_err(failed)?;
    let described: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for _ in 0..2 {
        let mut options = Options::default();
        options.io = io;
        options.memory_limit = 4 << 20;
        options.create_if_missing = false;
        let db = Db::open(copy.path(), options).map_err(|error| error.to_string())?;
        let shown = describe(&db).map_err(|error| error.to_string())?;
        if let Some(at) = (0..shown.len().max(described.len()))
            .find(|at| shown.get(*at).map(String::as_str) != described.get(*at).copied())
        {
            let (shown, described) = (shown.get(at), described.get(at));
            return Err(format!("shows {shown:?}, the description says {described:?}"));
        }
        db.verify().map_err(|error| format!("verify: {error}"))?;
        db.close().map_err(|error| format!("close: {error}"))?;
    }
    Ok(())
}

/// The contents as lines of a description.
fn describe(db: &Db) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> =
        db.stats().keyspaces.into_iter().map(|keyspace| keyspace.name).collect();
    names.sort();
    let mut lines = Vec::new();
    for name in names {
        for entry in db.keyspace(&name)?.range(.., &ReadOptions::default())? {
            let (key, value) = entry?;
            let value = match value.len() {
                0..=SHOWN_BYTES_MAX => value.escape_ascii().to_string(),
                length => format!("#{length} {:08x}", checksum::extend(0, &value)),
            };
            lines.push(format!("{name}\t{}\t{value}", key.escape_ascii()));
        }
    }
    Ok(lines)
}

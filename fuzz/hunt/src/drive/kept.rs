//! Seeds that once failed: each is a file, and each is run again by every run of the tests, for ever.
//!
//! ```text
//! seeds/02-31337.txt      hunt 2 --seed 31337 --n 1
//!                         what was found, and what mended it
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "a program beside the engine: its own files are plain files"
)]

use super::row::{Failure, Row};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A seed that failed once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Number of the row.
    pub row: u8,
    /// The seed.
    pub seed: u64,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// Keeps a seed that failed; returns the file. One that is there already stays as it is.
///
/// # Errors
/// The system's, if the file cannot be written.
pub fn keep(row: &Row, seed: u64, failure: &Failure) -> io::Result<PathBuf> {
    fs::create_dir_all(directory())?;
    let path = directory().join(format!("{:02}-{seed}.txt", row.number));
    if !path.exists() {
        let command = format!("hunt {} --seed {seed} --n 1", row.number);
        fs::write(&path, format!("{command}\n{failure}\n"))?;
    }
    Ok(path)
}

/// All kept seeds, by row.
///
/// # Errors
/// The system's; a file whose name is not `ROW-SEED.txt` is `InvalidData`.
pub fn kept() -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(directory()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        let parsed = name.strip_suffix(".txt").and_then(|stem| {
            let (row, seed) = stem.split_once('-')?;
            Some(Kept { row: row.parse().ok()?, seed: seed.parse().ok()? })
        });
        all.push(parsed.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("seeds/{name}: expected ROW-SEED.txt"),
            )
        })?);
    }
    all.sort_by_key(|kept| (kept.row, kept.seed));
    Ok(all)
}

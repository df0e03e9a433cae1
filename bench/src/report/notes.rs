//! The file LOG beside the data: which program works on it.
//!
//! RocksDB writes an information log of this name, and scripts (tools/benchmark.sh) take the version and the commit from its lines, by
//! the labels that stand here. The engine lets the file be.

use crate::report::local_time;
use std::io::Write;
use std::path::Path;

/// Adds a run's lines.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn write(directory: &Path) -> Result<(), String> {
    let path = directory.join(treering_lsm::file::name::LOG);
    let say = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file =
        std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(say)?;
    file.write_all(text().as_bytes()).map_err(say)
}

fn text() -> String {
    let (stamp, process) = (local_time::stamp(), std::process::id());
    let version = env!("CARGO_PKG_VERSION");
    let commit = env!("TREERING_COMMIT");
    format!(
        "{stamp}{process} RocksDB version: treering-{version}\n\
         {stamp}{process} Git sha {commit}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_and_commit_stand_in_the_fifth_field() {
        let text = text();
        for (line, label) in text.lines().zip(["RocksDB version:", "Git sha"]) {
            assert!(line.contains(label), "{line}");
            let fifth = line.split_whitespace().nth(4);
            assert!(fifth.is_some_and(|field| !field.is_empty()), "{line}");
        }
    }
}

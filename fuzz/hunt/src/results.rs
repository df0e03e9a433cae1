//! Recorded lines: `fuzz/results.txt` holds the newest line of every row, fuzz target and planted bug.
//!
//! A recorded line says, beside what the run printed, on which machine and at which commit it was run.

#![allow(
    clippy::disallowed_methods,
    reason = "a program beside the engine: its own files are plain files"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A line as its fields.
pub type Fields = BTreeMap<String, String>;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results.txt")
}

/// Splits a line into its fields.
pub fn fields(line: &str) -> Fields {
    let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What a line is about: a line with the same key replaces it.
fn key(line: &str) -> (String, u32, String) {
    let fields = fields(line);
    let get = |name: &str| fields.get(name).cloned().unwrap_or_default();
    match fields.get("planted") {
        Some(name) => ("planted".to_owned(), 0, name.clone()),
        None => (String::new(), get("row").parse().unwrap_or(0), get("target") + &get("part")),
    }
}

/// All recorded lines, by row.
///
/// # Errors
/// The system's.
pub fn lines() -> io::Result<Vec<String>> {
    match fs::read_to_string(path()) {
        Ok(text) => Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Records a line in the place of an older one about the same.
///
/// # Errors
/// The system's.
pub fn record(line: &str) -> io::Result<()> {
    let line = format!("{line} commit={} machine={}", commit(), machine());
    let mut all = lines()?;
    all.retain(|old| key(old) != key(&line));
    all.push(line);
    all.sort_by_cached_key(|line| key(line));
    fs::write(path(), all.join("\n") + "\n")
}

/// The commit of the sources, with a mark if they differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    let recorded = [":/", ":!/fuzz/results.txt", ":!/RELIABILITY.md", ":!/fuzz/hunt/seeds"];
    let changes = git(&[&["status", "--porcelain", "--"], &recorded[..]].concat());
    let same = changes.is_some_and(|changes| changes.is_empty());
    if same { commit } else { commit + "+" }
}

/// Processor, cores, memory and kernel, as one word.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let gibibytes = kilobytes.div_ceil(1 << 20);
    format!("{model},_{cores}_cores,_{gibibytes}_GiB,_Linux_{kernel}").replace(' ', "_")
}

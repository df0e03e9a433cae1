//! One thing that happens to the files of a database.

use crate::world::{Files, Specimen};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What is put behind the end of a file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extension {
    Zeros(usize),
    Garbage(u64, usize),
    Itself,
}

/// See the head of the file. Numbers of `older` count the states of a specimen.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Cut {
        file: String,
        length: usize,
    },
    Zero {
        file: String,
        range: Range<usize>,
    },
    /// The bytes at one place, also at another.
    Repeat {
        file: String,
        range: Range<usize>,
        to: usize,
    },
    /// Two stretches that do not overlap, the first before the second; what lies between moves if their lengths differ.
    Swap {
        file: String,
        first: Range<usize>,
        second: Range<usize>,
    },
    /// A stretch of one file where another one has bytes of its own.
    Across {
        from: String,
        range: Range<usize>,
        file: String,
        to: usize,
    },
    /// A stretch as it was.
    OldBytes {
        file: String,
        older: usize,
        range: Range<usize>,
    },
    /// A file as it was.
    OldFile {
        file: String,
        older: usize,
    },
    /// A file of an earlier state over one of another name.
    OldFileOver {
        from: String,
        older: usize,
        file: String,
    },
    Delete {
        file: String,
    },
    Over {
        from: String,
        file: String,
    },
    Rename {
        from: String,
        file: String,
    },
    Exchange {
        first: String,
        second: String,
    },
    Extend {
        file: String,
        with: Extension,
    },
    /// CURRENT as it was, and the manifest that it names, if that is another one than now.
    OldCurrent {
        older: usize,
    },
}

impl Change {
    /// Its kind, for counting.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Change::Cut { .. } => "cut",
            Change::Zero { .. } => "zeroed",
            Change::Repeat { .. } => "repeated",
            Change::Swap { .. } => "swapped",
            Change::Across { .. } => "across",
            Change::OldBytes { .. } => "old_bytes",
            Change::OldFile { .. } => "old_file",
            Change::OldFileOver { .. } => "old_file_over",
            Change::Delete { .. } => "deleted",
            Change::Over { .. } => "over",
            Change::Rename { .. } => "renamed",
            Change::Exchange { .. } => "exchanged",
            Change::Extend { .. } => "extended",
            Change::OldCurrent { .. } => "old_current",
        }
    }

    /// Makes the change.
    pub(super) fn apply(&self, specimen: &Specimen, files: &mut Files) {
        match self {
            Change::Cut { file, length } => edit(files, file, |bytes| bytes.truncate(*length)),
            Change::Zero { file, range } => edit(files, file, |bytes| bytes[range.clone()].fill(0)),
            Change::Repeat { file, range, to } => {
                edit(files, file, |bytes| bytes.copy_within(range.clone(), *to));
            }
            Change::Swap { file, first, second } => edit(files, file, |bytes| {
                let between = &bytes[first.end..second.start];
                let swapped = [&bytes[second.clone()], between, &bytes[first.clone()]].concat();
                bytes[first.start..second.end].copy_from_slice(&swapped);
            }),
            Change::Across { from, range, file, to } => {
                let source = Arc::clone(&specimen.files[from]);
                put(files, file, *to, &source[range.clone()]);
            }
            Change::OldBytes { file, older, range } => {
                let Some(source) = specimen.older[*older].get(file) else { return };
                let range = range.start.min(source.len())..range.end.min(source.len());
                put(files, file, range.start, &source[range]);
            }
            Change::OldFile { file, older } => {
                if let Some(source) = specimen.older[*older].get(file) {
                    files.insert(file.clone(), Arc::clone(source));
                }
            }
            Change::OldFileOver { from, older, file } => {
                if let Some(source) = specimen.older[*older].get(from) {
                    files.insert(file.clone(), Arc::clone(source));
                }
            }
            Change::Delete { file } => drop(files.remove(file)),
            Change::Over { from, file } => {
                files.insert(file.clone(), Arc::clone(&specimen.files[from]));
            }
            Change::Rename { from, file } => {
                files.remove(from);
                files.insert(file.clone(), Arc::clone(&specimen.files[from]));
            }
            Change::Exchange { first, second } => {
                files.insert(first.clone(), Arc::clone(&specimen.files[second]));
                files.insert(second.clone(), Arc::clone(&specimen.files[first]));
            }
            Change::Extend { file, with } => edit(files, file, |bytes| with.append_to(bytes)),
            Change::OldCurrent { older } => {
                let older = &specimen.older[*older];
                let Some(current) = older.get(CURRENT) else { return };
                files.insert(CURRENT.to_owned(), Arc::clone(current));
                for (name, bytes) in older.iter().filter(|(name, _)| name.starts_with("MANIFEST-"))
                {
                    files.entry(name.clone()).or_insert_with(|| Arc::clone(bytes));
                }
            }
        }
    }
}

const CURRENT: &str = treering_lsm::file::name::CURRENT;

impl Extension {
    fn append_to(self, bytes: &mut Vec<u8>) {
        match self {
            Extension::Zeros(count) => bytes.resize(bytes.len() + count, 0),
            Extension::Garbage(seed, count) => {
                let mut chance = crate::drive::Chance::new(seed);
                bytes.extend((0..count).map(|_| chance.draw() as u8));
            }
            Extension::Itself => bytes.extend_from_within(..),
        }
    }
}

fn edit(files: &mut Files, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(bytes) = files.get_mut(file) {
        change(Arc::make_mut(bytes));
    }
}

/// Writes over what is there; nothing grows.
fn put(files: &mut Files, file: &str, at: usize, source: &[u8]) {
    edit(files, file, |bytes| {
        let length = source.len().min(bytes.len().saturating_sub(at));
        bytes[at..at + length].copy_from_slice(&source[..length]);
    });
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

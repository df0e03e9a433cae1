//! Names of the simulated disk: directories, the files in them, and the changes that are not durable yet.

use super::state::errno;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Number of a file, never reused; names point to it.
pub(super) type FileId = u64;

/// The path without `.` components, so that every spelling finds the same file.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A change of names that `sync_directory` makes durable.
#[derive(Clone, Debug)]
pub(super) enum NameChange {
    /// A first name of a file, or one more.
    Create {
        path: PathBuf,
        file: FileId,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: FileId,
    },
    Unlink {
        path: PathBuf,
        file: FileId,
    },
}

impl NameChange {
    pub(super) fn file(&self) -> FileId {
        match self {
            NameChange::Create { file, .. }
            | NameChange::Rename { file, .. }
            | NameChange::Unlink { file, .. } => *file,
        }
    }

    /// True if `sync_directory(directory)` covers it. A rename across directories is one journal entry, covered by either.
    pub(super) fn touches(&self, directory: &Path) -> bool {
        match self {
            NameChange::Create { path, .. } | NameChange::Unlink { path, .. } => {
                parent(path) == directory
            }
            NameChange::Rename { from, to, .. } => {
                parent(from) == directory || parent(to) == directory
            }
        }
    }
}

/// Which names stand in which directory.
#[derive(Clone, Debug)]
pub(super) struct Names {
    directories: BTreeMap<PathBuf, BTreeMap<String, FileId>>,
}

impl Names {
    /// Only the root, and the working directory for relative paths.
    pub(super) fn new() -> Names {
        let roots = ["", "/"].map(|root| (PathBuf::from(root), BTreeMap::new()));
        Names { directories: BTreeMap::from(roots) }
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        for directory in path.ancestors() {
            let file_in_the_way = self
                .directories
                .get(parent(directory))
                .is_some_and(|names| names.contains_key(&name(directory)));
            if file_in_the_way {
                return Err(errno(libc::ENOTDIR));
            }
        }
        for directory in path.ancestors() {
            self.directories.entry(directory.to_owned()).or_default();
        }
        Ok(())
    }

    /// The file at `path`; `Ok(None)` if its directory is there and it is not.
    pub(super) fn lookup(&self, path: &Path) -> io::Result<Option<FileId>> {
        if self.directories.contains_key(path) {
            return Err(errno(libc::EISDIR));
        }
        let names = self.directories.get(parent(path)).ok_or_else(|| errno(libc::ENOENT))?;
        Ok(names.get(&name(path)).copied())
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let files = self.directories.get(path).ok_or_else(|| errno(libc::ENOENT))?;
        let below = self
            .directories
            .keys()
            .filter(|child| child.parent() == Some(path) && !child.as_os_str().is_empty());
        let mut names: Vec<String> = files.keys().cloned().chain(below.map(|d| name(d))).collect();
        names.sort();
        Ok(names)
    }

    /// Carries out a change. A name is taken away only from the file that the change is about, so that any subset of
    /// changes, in their order, leaves a sound tree.
    pub(super) fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Create { path, file } => self.insert(path, *file),
            NameChange::Unlink { path, file } => self.remove(path, *file),
            NameChange::Rename { to, file, .. } => {
                // Also from where an earlier rename, which was lost, would have taken it.
                for names in self.directories.values_mut() {
                    names.retain(|_, id| id != file);
                }
                self.insert(to, *file);
            }
        }
    }

    pub(super) fn contains(&self, file: FileId) -> bool {
        self.directories.values().any(|names| names.values().any(|id| *id == file))
    }

    /// Every file with its path.
    pub(super) fn files(&self) -> impl Iterator<Item = (PathBuf, FileId)> + '_ {
        self.directories.iter().flat_map(|(directory, names)| {
            names.iter().map(move |(name, file)| (directory.join(name), *file))
        })
    }

    fn insert(&mut self, path: &Path, file: FileId) {
        if let Some(names) = self.directories.get_mut(parent(path)) {
            names.insert(name(path), file);
        }
    }

    fn remove(&mut self, path: &Path, file: FileId) {
        if let Some(names) = self.directories.get_mut(parent(path)) {
            let name = name(path);
            if names.get(&name) == Some(&file) {
                names.remove(&name);
            }
        }
    }
}

//! The files of a database directory as values: taken from a disk, changed, and put on a fresh one.

use super::sizes::DIRECTORY;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::io::{Disk, OpenMode, read_whole, write_full};

/// Name of a file, its bytes. Cheap to clone: what is not changed is shared.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// What a reader of the database directory finds now.
///
/// # Errors
/// The disk's.
pub fn files_of(disk: &SimDisk) -> io::Result<Files> {
    let directory = Path::new(DIRECTORY);
    let names = disk.list(directory)?;
    let read = |name: String| {
        let bytes = read_whole(disk, &directory.join(&name), u64::MAX)?;
        Ok((name, Arc::new(bytes)))
    };
    names.into_iter().map(read).collect()
}

/// A disk with these files, all of it durable.
///
/// # Errors
/// The disk's.
pub fn disk_of(files: &Files) -> io::Result<SimDisk> {
    let disk = SimDisk::new(1);
    let directory = Path::new(DIRECTORY);
    disk.create_directory(directory)?;
    for (name, bytes) in files {
        let file = disk.open(&directory.join(name), OpenMode::CREATE)?;
        write_full(&*file, 0, bytes, false)?;
        file.sync_data()?;
    }
    disk.sync_directory(directory)?;
    Ok(disk.after_kill())
}

/// The first of `files` that is gone or changed on `disk`. New files do not count: a refused opening may leave half-made ones.
///
/// # Errors
/// The disk's.
pub fn first_changed(files: &Files, disk: &SimDisk) -> io::Result<Option<String>> {
    let found = files_of(disk)?;
    Ok(files.iter().find(|(name, bytes)| found.get(*name) != Some(bytes)).map(|(n, _)| n.clone()))
}

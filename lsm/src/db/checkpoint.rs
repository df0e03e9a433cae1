//! Checkpoints: a second database that shares the tables of this one by hard links, so that nothing is copied.
//!
//! ```text
//! flush → shapes → a link for every table → directory synced → manifest → CURRENT
//! ```
//!
//! Promises:
//! 1. A checkpoint is the state after some number of commits, all that were acknowledged before the call included: tables hold
//!    whole generations, and a batch lies in one.
//! 2. CURRENT comes last, after everything that it leads to is durable. What a crash or an error leaves in the directory before that is no
//!    database and says so when it is opened.
//! 3. The database itself is not changed. Tables that a compaction replaces meanwhile are kept until their links are made.

use crate::base::error::{Error, Result};
use crate::base::key::SequenceNumber;
use crate::base::planted::{Bug, planted};
use crate::db::engine::Engine;
use crate::db::spans::span;
use crate::file::manifest::ManifestWriter;
use crate::file::name;
use crate::format::edit::VersionEdit;
use crate::io::{Disk, OpenMode};
use crate::job::output::remove_all;
use crate::version::view::Shapes;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Engine {
    /// See [`Db::checkpoint`](crate::Db::checkpoint).
    pub(crate) fn checkpoint(&self, directory: &Path) -> Result<SequenceNumber> {
        let _span = span!("checkpoint", directory = %directory.display());
        let disk = &self.environment.disk;
        check_target(disk, directory)?;
        // What is visible now is in tables after the flush. More may be: the last sequence number of the manifest says nothing about
        // that, for commits go on while a generation is flushed.
        let sequence = self.current.visible();
        if !planted(Bug::CheckpointUnflushed) {
            self.flush_all()?;
        }
        let (snapshot, shapes) = self.whole_commits()?;
        disk.create_directory(directory).map_err(|e| Error::io("create", directory, e))?;
        let tables = shapes
            .iter()
            .flatten()
            .flat_map(|shape| shape.levels())
            .flat_map(|level| level.tables());
        let mut made: Vec<PathBuf> = Vec::new();
        let linked = tables.map(|table| table.number()).try_for_each(|number| {
            let from = name::table(&self.directory, number);
            let to = name::table(directory, number);
            disk.hard_link(&from, &to).map_err(|e| cannot_link(&to, e))?;
            made.push(to);
            self.jobs.check_open()
        });
        let number = self.jobs.new_file();
        made.push(name::manifest(directory, number));
        made.push(directory.join(name::CURRENT).with_extension("tmp"));
        // For the lock of whoever opens it first: a reader must be able to keep writers out.
        let lock = directory.join(name::LOCK);
        let locked = linked.and_then(|()| {
            let file = disk.open(&lock, OpenMode::CREATE);
            made.push(lock.clone());
            file.map(drop).map_err(|error| Error::io("create", &lock, error))
        });
        // Syncs the directory before it writes CURRENT.
        let written = locked
            .and_then(|()| ManifestWriter::create(disk, directory, number, &snapshot).map(drop));
        match written {
            Ok(()) => Ok(sequence),
            Err(error) => {
                // CURRENT may be there if only the last sync failed. It goes first: without its tables it would be damage.
                let current = [directory.join(name::CURRENT)];
                remove_all(&**disk, &current);
                let _as_well_as_may_be = disk.sync_directory(directory);
                remove_all(&**disk, &made);
                Err(error)
            }
        }
    }

    /// All that is in tables, at a moment when that is a prefix of the commits: what came in from outside may be younger than a generation
    /// that is not flushed yet. The shapes keep their tables from being unlinked.
    fn whole_commits(&self) -> Result<(VersionEdit, Shapes)> {
        let look = || {
            let versions = self.versions.lock();
            let (before, state) = (versions.outside(), self.schedule.state.lock());
            let waits = state.frozen.iter().any(|held| held.generation.number() < before);
            drop(state);
            let found = (!waits).then(|| (versions.checkpoint(), versions.shapes()));
            (before, found)
        };
        if let (_, Some(found)) = look() {
            return Ok(found);
        }
        // Nothing more comes in from outside while the commits are held, and a flush does not need them.
        let _commit = self.commit.lock();
        loop {
            match look() {
                (_, Some(found)) => return Ok(found),
                (before, None) => self.wait_until_flushed(before)?,
            }
        }
    }
}

/// The directory must be for the checkpoint alone.
fn check_target(disk: &Arc<dyn Disk>, directory: &Path) -> Result<()> {
    match disk.list(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("list", directory, error)),
        Ok(names) if names.is_empty() => Ok(()),
        Ok(names) => {
            let detail = format!(
                "{} holds {:?} already; choose a directory that is empty or not there yet",
                directory.display(),
                names[0]
            );
            Err(Error::invalid_option("directory", detail))
        }
    }
}

fn cannot_link(to: &Path, error: std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EXDEV) => {
            let detail = format!(
                "{} is on another file system, which hard links do not reach; choose one beside the database",
                to.display()
            );
            Error::invalid_option("directory", detail)
        }
        _ => Error::io("link", to, error),
    }
}

//! Export: a range of a keyspace as sorted files, for another database to ingest.
//!
//! Promises:
//! 1. The files hold what a reader of one moment sees: the newest values, operands merged, nothing that was deleted or has expired.
//! 2. After an error, or a crash before the call returns, what was made is of no use; after an error it is removed.
//! 3. The database is not changed, and nothing goes through its block cache.

use crate::base::error::{Error, Result};
use crate::base::guard_keys::GuardKeys;
use crate::base::options::KeyspaceOptions;
use crate::db::engine::Engine;
use crate::db::keyspace::{Keyspace, ReadOptions};
use crate::db::sorted_file::{SortedFile, SortedFileWriter};
use crate::db::spans::span;
use crate::job::output::remove_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Engine {
    /// Writes what `options` let a cursor see into files in `directory`, which is made if needed.
    pub(crate) fn export(
        self: &Arc<Self>,
        keyspace: &Keyspace,
        directory: &Path,
        options: &ReadOptions,
    ) -> Result<Vec<SortedFile>> {
        let _span = span!("export", directory = %directory.display());
        let (settings, shape) = {
            let versions = self.versions.lock();
            let state = versions.live(keyspace.id);
            let state = state.map(|state| (state.record.options.clone(), Arc::clone(&state.shape)));
            state.unwrap_or_default()
        };
        let disk = &self.environment.disk;
        disk.create_directory(directory).map_err(|e| Error::io("create", directory, e))?;
        let mut files = Files { engine: self, directory, settings: &settings, done: Vec::new() };
        let written = files.write(keyspace, shape.guards(), options);
        if written.is_err() {
            let paths: Vec<&PathBuf> = files.done.iter().map(|file| &file.path).collect();
            remove_all(&**disk, &paths);
        }
        written.map(|()| files.done)
    }
}

/// The files of one export.
struct Files<'a> {
    engine: &'a Arc<Engine>,
    directory: &'a Path,
    settings: &'a KeyspaceOptions,
    done: Vec<SortedFile>,
}

impl Files<'_> {
    fn write(
        &mut self,
        keyspace: &Keyspace,
        guards: &GuardKeys,
        options: &ReadOptions,
    ) -> Result<()> {
        let mut guards = guards.walk();
        let options = ReadOptions { fill_cache: false, ..options.clone() };
        let mut cursor = keyspace.cursor(&options)?;
        let mut is_entry = cursor.seek_to_first()?;
        while is_entry {
            let mut writer = self.next()?;
            guards.passes(cursor.key());
            loop {
                writer.put(cursor.key(), cursor.value())?;
                is_entry = cursor.next()?;
                let is_full = writer.file_bytes() >= self.settings.table_bytes;
                if !is_entry || is_full || guards.passes(cursor.key()) {
                    break;
                }
            }
            self.done.push(writer.finish()?);
            // A database that is closed meanwhile does not wait for us for long.
            self.engine.jobs.check_open()?;
        }
        Ok(())
    }

    fn next(&self) -> Result<SortedFileWriter> {
        let path = self.directory.join(format!("{:06}.sst", self.done.len() + 1));
        SortedFileWriter::create_on(&self.engine.environment.disk, &path, self.settings)
    }
}

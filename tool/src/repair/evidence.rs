//! What the files of a damaged database still say: its manifests, every table, read to its last byte.

use super::arrange::Arrangement;
use crate::database::Database;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::report;
use crate::wal::LogFiles;
use std::collections::BTreeSet;
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::manifest::walk;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::format::properties::Properties;
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::{Error, Result};

/// A table of which every byte is sound.
#[derive(Clone, Debug)]
pub(super) struct SoundTable {
    pub(super) info: TableInfo,
    pub(super) keyspace: u32,
    pub(super) properties: Properties,
}

/// See the head of the file.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The manifest that knows most, as far as it can be read.
    pub(super) base: Option<Manifest>,
    /// What `base` says is the whole truth: only tables that are damaged are missing from it.
    pub(super) base_is_whole: bool,
    pub(super) tables: Vec<SoundTable>,
    pub(super) damaged: Vec<(FileNumber, Error)>,
    pub(super) log_files: LogFiles,
    /// The largest number of a table or manifest.
    pub(super) highest: u64,
    /// Manifests, CURRENT and half-made files that are there.
    replaced: Vec<String>,
    pub(super) notes: Vec<String>,
}

impl Evidence {
    /// Reads everything.
    pub(super) fn gather(database: &Database) -> Result<Evidence> {
        let mut evidence = Evidence {
            base: None,
            base_is_whole: false,
            tables: Vec::new(),
            damaged: Vec::new(),
            log_files: LogFiles::read(database)?,
            highest: 0,
            replaced: Vec::new(),
            notes: Vec::new(),
        };
        let named = match walk::named(&database.disk, &database.path) {
            Ok(None) => {
                evidence.notes.push("CURRENT is missing".to_owned());
                None
            }
            Ok(named) => named,
            Err(error @ Error::Corruption { .. }) => {
                evidence.notes.push(report::damage_line(&error));
                None
            }
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in database.entries()? {
            match entry.kind {
                Some(FileKind::Manifest(number)) => {
                    evidence.highest = evidence.highest.max(number.0);
                    evidence.replaced.push(entry.name);
                    evidence.look_at_manifest(database, number, named)?;
                }
                Some(FileKind::Table(number)) => {
                    evidence.highest = evidence.highest.max(number.0);
                    numbers.push(number);
                }
                Some(FileKind::Current | FileKind::Temporary) => evidence.replaced.push(entry.name),
                _ => {}
            }
        }
        evidence.read_tables(database, &numbers)?;
        evidence.base_is_whole = evidence.is_whole();
        Ok(evidence)
    }

    /// Keeps a manifest if it knows more than the one before: the one in force, else the newer one.
    fn look_at_manifest(
        &mut self,
        database: &Database,
        number: FileNumber,
        named: Option<(FileNumber, u64)>,
    ) -> Result<()> {
        let vouched = named.filter(|(of, _)| *of == number).map(|(_, durable)| durable);
        let manifest = match Manifest::read(database, number, vouched) {
            Ok(manifest) => manifest,
            Err(error @ Error::Corruption { .. }) => {
                self.notes.push(report::damage_line(&error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(damage) = &manifest.walked.damage {
            self.notes.push(report::damage_line(damage));
        }
        let rank = |manifest: &Manifest| {
            (!manifest.state.keyspaces.is_empty(), manifest.vouched.is_some(), manifest.number)
        };
        if rank(&manifest).0 && self.base.as_ref().is_none_or(|base| rank(base) < rank(&manifest)) {
            self.base = Some(manifest);
        }
        Ok(())
    }

    fn read_tables(&mut self, database: &Database, numbers: &[FileNumber]) -> Result<()> {
        let mut total = 0;
        for &number in numbers {
            let path = name::table(&database.path, number);
            total += path.metadata().map_or(0, |data| data.len());
        }
        let progress = Progress::new("reading", total);
        let path_of = |number| name::table(&database.path, number);
        for &number in numbers {
            progress.at(&format!("{:06}.sst", number.0));
            let base = self.base.as_ref().map(|base| &base.state);
            // What was ingested is described by the manifest alone.
            let known = base.and_then(|state| state.ingested(number));
            let is_removed = base.is_some_and(|state| state.removed.contains(&number.0));
            let opened = match known {
                Some((_, info)) => database.open_table_as(info),
                None => database.open_table(number),
            };
            let read = opened.and_then(|reader| {
                reader.verify()?;
                let mut properties = reader.properties().clone();
                match known {
                    Some((keyspace, _)) => properties.keyspace = keyspace,
                    None if properties.info.ingested.is_some() && !is_removed => {
                        let detail = "it was ingested, and no manifest says into which keyspace and when; it is whole: ingest it again";
                        return Err(Error::corruption(&path_of(number), 0, detail));
                    }
                    None => {}
                }
                Ok(properties)
            });
            match read {
                Ok(properties) => {
                    progress.add(properties.info.file_bytes);
                    let (info, keyspace) = (properties.info.clone(), properties.keyspace);
                    self.tables.push(SoundTable { info, keyspace, properties });
                }
                // A newer table is sound for a newer release: taking it out would lose it.
                Err(error @ Error::NewerFormat { .. }) => return Err(error),
                Err(error) => self.damaged.push((number, error)),
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        let Some(base) = &self.base else { return false };
        let state = &base.state;
        let is_there = |number: u64| {
            self.tables.iter().any(|table| table.info.table_id == number)
                || self.damaged.iter().any(|(damaged, _)| damaged.0 == number)
        };
        let newest = state.named.last().copied().unwrap_or(0).max(base.number.0);
        base.walked.damage.is_none()
            && state.tables().all(|(_, _, info)| is_there(info.table_id))
            // A manifest that has lost its end does not know the newest tables, nor the newest run of the log.
            && self.tables.iter().all(|table| table.info.table_id <= newest)
            && self.log_files.epoch().is_none_or(|epoch| epoch <= state.log.epoch)
    }

    /// True if a manifest says that no database needs the table any more.
    pub(super) fn is_removed(&self, info: &TableInfo) -> bool {
        let removed = |base: &Manifest| base.state.removed.contains(&info.table_id);
        self.base.as_ref().is_some_and(removed)
    }

    /// The largest sequence number in tables, and what a manifest knows of one.
    pub(super) fn last_sequence(&self) -> u64 {
        let tables = self.tables.iter().map(|table| table.info.sequence_max);
        let known = self.base.as_ref().map(|base| base.state.last_sequence);
        tables.chain(known).max().unwrap_or(0)
    }

    /// A file number that nobody has had.
    pub(super) fn next_file(&self) -> u64 {
        let known = self.base.as_ref().map_or(0, |base| base.state.next_file);
        known.max(self.highest + 1)
    }

    /// What goes to the lost directory, and why.
    pub(super) fn lost(&self, arrangement: &Arrangement) -> Vec<(String, String)> {
        let replaced = self.replaced.iter().map(|name| (name.clone(), "replaced".to_owned()));
        let damaged = self
            .damaged
            .iter()
            .map(|(number, error)| (format!("{:06}.sst", number.0), report::damage_line(error)));
        let used: BTreeSet<u64> =
            arrangement.placed.iter().map(|(_, _, info)| info.table_id).collect();
        let unused = self.tables.iter().filter(|table| !used.contains(&table.info.table_id));
        let unused = unused.map(|table| {
            let merged = arrangement.merges.iter().any(|merge| merge.inputs.contains(&table.info));
            let why = if merged { "merged into new tables" } else { "the manifest has removed it" };
            (format!("{:06}.sst", table.info.table_id), why.to_owned())
        });
        replaced.chain(damaged).chain(unused).collect()
    }
}

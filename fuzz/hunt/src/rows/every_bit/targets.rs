//! What is flipped: files of a few databases that have between them every kind of file and of block.

use crate::drive::Failure;
use crate::world::{
    DIRECTORY, Files, Known, Map, NAMES, Recipe, Rest, Specimen, disk_of, files_of, open,
    other_options, tiny_options,
};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use treering_lsm::base::key::{FileNumber, KeyspaceId, Kind as TagKind, Tag};
use treering_lsm::base::options::MEMORY_LIMIT_MIN;
use treering_lsm::file::manifest;
use treering_lsm::file::name::{self, FileKind};
use treering_lsm::file::table_writer::{TableSpec, TableWriter};
use treering_lsm::format::edit::VersionEdit;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::mem::budget::MemoryBudget;
use treering_lsm::mem::cache::BlockCache;
use treering_lsm::version::set::VersionSet;
use treering_lsm::version::table::TableContext;
use treering_lsm::{Compression, FilterPolicy, KeyspaceOptions};

/// Bits of a case, about.
const SHARE_BITS: u64 = 256;

/// Kinds of files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Current,
    Manifest,
    Segment,
    Ring,
    Table,
    Ballast,
}

impl Kind {
    /// `None` for files without bytes.
    fn of(name: &str) -> Option<Kind> {
        match (name, name::parse(name)?) {
            (name::CURRENT, _) => Some(Kind::Current),
            (name::BALLAST, _) => Some(Kind::Ballast),
            (_, FileKind::Manifest(_)) => Some(Kind::Manifest),
            (_, FileKind::Table(_)) => Some(Kind::Table),
            (_, FileKind::Wal(_)) => Some(Kind::Segment),
            (_, FileKind::Ring) => Some(Kind::Ring),
            _ => None,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Current => "current",
            Kind::Manifest => "manifest",
            Kind::Segment => "segment",
            Kind::Ring => "ring",
            Kind::Table => "table",
            Kind::Ballast => "ballast",
        }
    }
}

/// A database whose files are flipped.
#[derive(Debug)]
pub(super) struct Database {
    name: &'static str,
    pub(super) specimen: Specimen,
    /// Its files; each flip is made on a copy.
    pub(super) disk: SimDisk,
    pub(super) known: Option<Known>,
}

/// A file to flip.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) database: Arc<Database>,
    pub(super) file: String,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Keyspaces that it can touch.
    pub(super) keyspaces: Vec<u8>,
}

impl Target {
    pub(super) fn name(&self) -> String {
        format!("{} of database {:?}", self.file, self.database.name)
    }

    pub(super) fn bits(&self) -> u64 {
        self.database.specimen.files[&self.file].len() as u64 * 8
    }

    /// Cases that it is divided into. An odd number, so that each meets all bits of a byte.
    pub(super) fn shares(&self) -> u64 {
        self.bits().div_ceil(SHARE_BITS) | 1
    }
}

/// The target of a case, and its share; `None` behind the last.
pub(super) fn cases(targets: &[Target], mut index: u64) -> Option<(&Target, u64)> {
    let mut left: Vec<&Target> = targets.iter().collect();
    let mut round = 0;
    loop {
        // All rounds that are alike at once: until the next target has no share left.
        let rounds = left.iter().map(|target| target.shares()).min()? - round;
        let count = left.len() as u64;
        if index < rounds * count {
            return Some((left[(index % count) as usize], round + index / count));
        }
        index -= rounds * count;
        round += rounds;
        left.retain(|target| target.shares() > round);
    }
}

/// All of them; made once.
pub(super) fn targets() -> Result<&'static [Target], Failure> {
    static TARGETS: OnceLock<Result<Vec<Target>, Failure>> = OnceLock::new();
    TARGETS.get_or_init(make).as_deref().map_err(Clone::clone)
}

fn recipe() -> Recipe {
    let mut options = tiny_options();
    // Otherwise each opening asks the system for the number of its cores.
    options.background_jobs = Some(2);
    options.default_keyspace.compression = [Compression::None; 7];
    Recipe {
        seed: 7,
        options,
        other: other_options(),
        commits: 150,
        keys: 40,
        value_bytes_end: 90,
        flush_every: 40,
        sync_one_in: 30,
        earlier_runs: 1,
        rest: Rest::Closed,
    }
}

fn make() -> Result<Vec<Target>, Failure> {
    let log = |kind| matches!(kind, Kind::Segment | Kind::Ring);
    let table = |kind| kind == Kind::Table;
    let mut all = Vec::new();
    let mut add = |name, specimen, pick: &dyn Fn(Kind) -> bool| -> Result<(), Failure> {
        all.extend(targets_of(name, specimen, pick)?);
        Ok(())
    };
    add("closed", Specimen::make(&recipe())?, &|_| true)?;
    let killed = Recipe { rest: Rest::Killed, ..recipe() };
    add("killed", Specimen::make(&killed)?, &|_| true)?;
    // Nothing is in tables, and the ring has the only copy of the end.
    let young = Recipe { flush_every: 0, commits: 60, earlier_runs: 0, ..killed };
    add("young", Specimen::make(&young)?, &log)?;
    // The segments have the only copy of all.
    let mut ringless = Specimen::make(&recipe())?;
    ringless.files.remove(name::RING);
    add("ringless", ringless, &log)?;
    for (name, recipe) in table_recipes() {
        add(name, Specimen::make(&recipe)?, &table)?;
    }
    add("partitioned", partitioned()?, &table)?;
    Ok(all)
}

/// Databases of which only the tables are flipped, with everything that a table may be made of.
fn table_recipes() -> Vec<(&'static str, Recipe)> {
    let with = |compression, filter| {
        let mut keyspace = tiny_options().default_keyspace;
        keyspace.compression = [compression; 7];
        keyspace.filter = filter;
        keyspace
    };
    let flushed = |default: KeyspaceOptions, other| {
        let mut recipe = Recipe { rest: Rest::Flushed, other, ..recipe() };
        recipe.options.default_keyspace = default;
        recipe
    };
    let none = Compression::None;
    let blocked = FilterPolicy::Blocked { bits: 10 };
    let standard = FilterPolicy::Standard { bits: 10 };
    let small = flushed(with(Compression::Lz4, blocked), with(Compression::Zstd, standard));
    let bare = flushed(with(none, FilterPolicy::None), with(none, blocked));
    vec![
        ("packed", Recipe { value_bytes_end: 300, commits: 60, flush_every: 25, ..small.clone() }),
        ("bare", Recipe { commits: 60, flush_every: 25, ..bare.clone() }),
        (
            "large-values",
            Recipe { value_bytes_end: 4_000, keys: 4, commits: 12, flush_every: 5, ..bare },
        ),
        (
            "large-packed",
            Recipe { value_bytes_end: 9_000, keys: 6, commits: 20, flush_every: 9, ..small },
        ),
    ]
}

/// A database whose default keyspace is one table with an index of two levels, which otherwise only large tables have.
fn partitioned() -> Result<Specimen, Failure> {
    let mut specimen = Specimen::make(&Recipe { rest: Rest::Flushed, commits: 80, ..recipe() })?;
    let disk = disk_of(&specimen.files).map_err(|error| error.to_string())?;
    let all = specimen.state(specimen.commits()).ok_or("a closed database has one state")?;
    replace_table(&disk, all, &specimen.options.default_keyspace)
        .map_err(|error| format!("partitioned: {error}"))?;
    let db = open(&disk, &specimen.options).map_err(|error| format!("partitioned: {error}"))?;
    // Opening removes what it replaced.
    db.close().map_err(|error| format!("partitioned: {error}"))?;
    specimen.files = files_of(&disk).map_err(|error| error.to_string())?;
    Ok(specimen)
}

fn replace_table(
    disk: &SimDisk,
    state: &Map,
    options: &KeyspaceOptions,
) -> treering_lsm::Result<()> {
    /// So short that a few blocks need several partitions.
    const FLAT_INDEX_BYTES_MAX: usize = 100;
    let directory = PathBuf::from(DIRECTORY);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let budget = MemoryBudget::new(MEMORY_LIMIT_MIN);
    let context = TableContext {
        disk: Arc::clone(&disk),
        directory: directory.clone(),
        direct: false,
        cache: BlockCache::new(Arc::clone(&budget)),
        budget,
        graveyard: Default::default(),
    };
    let Some(mut set) = VersionSet::recover(Arc::new(context))? else { return Ok(()) };
    let number = FileNumber(set.next_file());
    let spec = TableSpec {
        table_id: number.0,
        block_bytes: options.block_bytes,
        compression: options.compression[1],
        filter: options.filter,
        prefix_bytes: options.prefix_bytes,
        keyspace: KeyspaceId(0),
        level: 1,
        direct: false,
        applied: 0,
    };
    let mut writer = TableWriter::create(&disk, &name::table(&directory, number), spec)?;
    writer.set_flat_index_max(FLAT_INDEX_BYTES_MAX);
    for ((_, key), value) in state.range((0, Vec::new())..(1, Vec::new())) {
        writer.add(key, Tag::new(set.last_sequence(), TagKind::Put), value)?;
    }
    let mut edit =
        VersionEdit { added: vec![(KeyspaceId(0), 1, writer.finish()?)], ..Default::default() };
    for (level, tables) in set.keyspaces()[0].shape.levels().iter().enumerate() {
        let numbers = tables.tables().iter().map(|table| table.number());
        edit.removed.extend(numbers.map(|number| (KeyspaceId(0), level as u8, number)));
    }
    set.rewrite(FileNumber(number.0 + 1), &edit)?;
    set.close()
}

/// Cuts the zeros that are written ahead in segments down to a few blocks: they are as good as any others, and many.
fn trim_segments(files: &mut Files) {
    const BLOCK_BYTES: usize = 4096;
    for (_, bytes) in files.iter_mut().filter(|(name, _)| name.ends_with(".wal")) {
        let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let kept = used.next_multiple_of(BLOCK_BYTES) + BLOCK_BYTES;
        if kept < bytes.len() {
            Arc::make_mut(bytes).truncate(kept);
        }
    }
}

fn targets_of(
    name: &'static str,
    mut specimen: Specimen,
    pick: &dyn Fn(Kind) -> bool,
) -> Result<Vec<Target>, Failure> {
    trim_segments(&mut specimen.files);
    let disk = disk_of(&specimen.files).map_err(|error| error.to_string())?;
    let fresh = disk.after_kill();
    let db = open(&fresh, &specimen.options).map_err(|error| format!("{name}: {error}"))?;
    let known = Some(Known { trace: fresh.trace(), commits: specimen.commits() });
    drop(db);
    let keyspaces = keyspaces_of_tables(&disk).map_err(|error| format!("{name}: {error}"))?;
    let database = Arc::new(Database { name, specimen, disk, known });
    let mut targets = Vec::new();
    for file in database.specimen.files.keys() {
        let Some(kind) = Kind::of(file).filter(|kind| pick(*kind)) else { continue };
        let all = (0..NAMES.len() as u8).collect();
        let keyspaces = match kind {
            Kind::Table => {
                keyspaces.iter().filter(|(table, _)| table == file).map(|(_, k)| *k).collect()
            }
            _ => all,
        };
        let path = Path::new(DIRECTORY).join(file);
        let database = Arc::clone(&database);
        targets.push(Target { database, file: file.clone(), path, kind, keyspaces });
    }
    Ok(targets)
}

/// Every table that the manifest names, and whose it is.
fn keyspaces_of_tables(disk: &SimDisk) -> treering_lsm::Result<Vec<(String, u8)>> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let contents = manifest::read(&disk, Path::new(DIRECTORY))?;
    let edits = contents.map(|contents| contents.edits).unwrap_or_default();
    let added = edits.iter().flat_map(|edit| &edit.added);
    Ok(added.map(|(id, _, info)| (format!("{:06}.sst", info.table_id), id.0 as u8)).collect())
}

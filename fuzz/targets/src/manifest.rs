//! CURRENT, the manifest, and the version set that is made of them.
//!
//! ```text
//! input:  mode u8 │ number u8 │ durable u16 │ mode bit 2 set: length of CURRENT u8 │ CURRENT
//!         │ the bytes of the manifest            odd modes repair the checksums
//! ```
//!
//! Promise: any files give edits or an error that names one of them, and change nothing. Edits that were read are read back the same
//! after they have been written to a new manifest. A version set that was recovered holds only tables in order. Memory: the files and
//! the edits.

use crate::archive::{DIRECTORY, Files, disk_of, files_of};
use crate::input::Input;
use crate::{Target, repair, samples};
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::key::FileNumber;
use treering_lsm::file::manifest::{HEADER_BYTES, ManifestWriter, RECORD_HEADER_BYTES, read};
use treering_lsm::file::name;
use treering_lsm::io::Disk;
use treering_lsm::io::sim::SimDisk;
use treering_lsm::mem::budget::MemoryBudget;
use treering_lsm::mem::cache::BlockCache;
use treering_lsm::version::set::VersionSet;
use treering_lsm::version::table::TableContext;
use treering_lsm::{Error, Result};

pub(crate) const TARGET: Target = Target {
    name: "manifest",
    promise: "any CURRENT and manifest give edits that are the same written again, or an error that names the file",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let number = FileNumber(input.u8().into());
    let durable = input.u16();
    let name = name::manifest(Path::new(""), number).to_string_lossy().into_owned();
    let mut current = format!("{name} durable={durable} crc32c=").into_bytes();
    let repaired = !mode.is_multiple_of(2);
    if mode & 4 != 0 {
        let length = usize::from(input.u8());
        current = input.take(length).to_vec();
    }
    if repaired || mode & 4 == 0 {
        repair::current(&mut current);
    }
    let mut manifest = input.rest().to_vec();
    if repaired {
        repair::manifest(&mut manifest, number);
    }
    let files = Files::from([(name::CURRENT.to_owned(), current), (name, manifest)]);
    let disk = disk_of(&files);
    let outcome = check(&disk);
    assert_eq!(files_of(&disk), files, "reading changes nothing");
    match outcome {
        Ok(()) => {}
        Err(Error::Corruption { path, detail, .. }) => {
            assert!(path.starts_with(DIRECTORY) && !detail.is_empty());
        }
        Err(Error::NewerFormat { path, .. }) => assert!(path.starts_with(DIRECTORY)),
        Err(other) => panic!("not an error for damage: {other}"),
    }
}

fn check(disk: &SimDisk) -> Result<()> {
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let directory = Path::new(DIRECTORY);
    let contents = read(&handle, directory)?.expect("there is a CURRENT");
    assert!(!contents.edits.is_empty());
    write_again(&contents.edits)?;

    let budget = MemoryBudget::new(4 << 20);
    let context = Arc::new(TableContext {
        disk: handle,
        directory: directory.to_owned(),
        direct: false,
        cache: BlockCache::new(Arc::clone(&budget)),
        budget,
        graveyard: Default::default(),
    });
    let set = VersionSet::recover(context)?.expect("there is a CURRENT");
    for keyspace in set.keyspaces() {
        keyspace.record.options.validate().expect("options are checked when decoded");
        for level in &keyspace.shape.levels()[1..] {
            let ordered = |pair: &[Arc<_>]| range_of(&pair[0]).1 < range_of(&pair[1]).0;
            assert!(level.tables().windows(2).all(ordered));
            for table in level.tables() {
                let found = level.find(&table.info().smallest).map(|found| found.number());
                assert_eq!(found, Some(table.number()));
            }
        }
    }
    assert!(set.next_file() > contents.number.0);
    Ok(())
}

fn range_of(table: &treering_lsm::version::table::Table) -> (&[u8], &[u8]) {
    (&table.info().smallest, &table.info().largest)
}

fn write_again(edits: &[treering_lsm::format::edit::VersionEdit]) -> Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(disk_of(&Files::new()));
    let directory = Path::new(DIRECTORY);
    let (first, rest) = edits.split_first().expect("a manifest has an edit");
    let mut writer = ManifestWriter::create(&disk, directory, FileNumber(7), first)?;
    rest.iter().try_for_each(|edit| writer.append(edit))?;
    writer.put_in_force(&disk, directory)?;
    let again = read(&disk, directory)?.expect("it was put in force");
    assert_eq!(again.edits, edits);
    Ok(())
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (commits, close) in [(1, true), (40, true), (60, false)] {
        let files = samples::database(commits, close);
        let current = &files[name::CURRENT];
        let found = files.iter().find_map(|(name, bytes)| match name::parse(name)? {
            name::FileKind::Manifest(number) => Some((number.0 as u8, bytes)),
            _ => None,
        });
        let (number, manifest) = found.expect("a database has a manifest");
        for mode in [0, 1] {
            seeds.push([&[mode, number, 0, 0], &manifest[..]].concat());
            let length = current.len() as u8;
            seeds.push([&[mode | 4, number, 0, 0, length], &current[..], manifest].concat());
        }
        let torn = HEADER_BYTES + RECORD_HEADER_BYTES + 3;
        seeds.push([&[1, number, 0, 0], &manifest[..torn]].concat());
    }
    seeds
}

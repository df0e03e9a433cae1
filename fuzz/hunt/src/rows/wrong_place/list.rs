//! All changes that are made to one database.

use super::blocks::{data_blocks, fragments, table_boundaries};
use super::change::{Change, Extension};
use crate::drive::Chance;
use crate::world::Specimen;
use std::collections::BTreeSet;
use std::ops::Range;
use treering_lsm::file::name::{self, FileKind};

/// CURRENT and a manifest up to this length are cut at every byte: no checksum says how long a manifest is.
const CUT_EVERYWHERE_BYTES: usize = 8192;
/// Other files are cut at boundaries, so many at most, and at as many other places.
const CUTS: usize = 40;
/// Pairs of sectors, or of blocks, of a file.
const PAIRS: u64 = 30;
/// Stretches of older states, for each file and state.
const OLD_STRETCHES: u64 = 16;
/// Sectors that are zeroed in a file, of each size.
const ZEROED: usize = 96;
/// Pairs of files of different kinds.
const MIXED_PAIRS: u64 = 60;

const SECTORS: [usize; 2] = [512, 4096];

/// The changes of a database, in an order without meaning.
pub(super) fn changes(specimen: &Specimen, chance: &mut Chance) -> Vec<Change> {
    let mut all = Vec::new();
    for (name, bytes) in &specimen.files {
        let file = name.as_str();
        all.push(Change::Delete { file: file.to_owned() });
        if bytes.is_empty() {
            continue;
        }
        cuts(file, bytes, chance, &mut all);
        sectors(file, bytes, chance, &mut all);
        extensions(file, chance, &mut all);
        old_states(specimen, file, bytes.len(), chance, &mut all);
    }
    swapped_blocks(specimen, chance, &mut all);
    pairs(specimen, chance, &mut all);
    all.extend((0..specimen.older.len()).map(|older| Change::OldCurrent { older }));
    all
}

fn cuts(file: &str, bytes: &[u8], chance: &mut Chance, all: &mut Vec<Change>) {
    let mut lengths: BTreeSet<usize> = BTreeSet::new();
    let is_state = matches!(name::parse(file), Some(FileKind::Current | FileKind::Manifest(_)));
    if is_state && bytes.len() <= CUT_EVERYWHERE_BYTES {
        lengths.extend(0..bytes.len());
    } else {
        let mut boundaries = match name::parse(file) {
            Some(FileKind::Table(_)) => table_boundaries(bytes),
            Some(FileKind::Wal(_)) => fragments(bytes),
            _ => Vec::new(),
        };
        boundaries.extend((0..bytes.len()).step_by(SECTORS[1]));
        let stride = boundaries.len().div_ceil(CUTS).max(1);
        // Also one byte to each side.
        lengths
            .extend(boundaries.iter().step_by(stride).flat_map(|&at| at.saturating_sub(1)..at + 2));
        lengths.extend((0..CUTS).map(|_| chance.below(bytes.len() as u64) as usize));
    }
    let cut = |length| Change::Cut { file: file.to_owned(), length };
    all.extend(lengths.into_iter().filter(|&length| length < bytes.len()).map(cut));
}

/// Sectors that have something in them.
fn full_sectors(bytes: &[u8], size: usize) -> Vec<Range<usize>> {
    let sectors = (0..bytes.len()).step_by(size).map(|at| at..(at + size).min(bytes.len()));
    sectors.filter(|sector| bytes[sector.clone()].iter().any(|&byte| byte != 0)).collect()
}

fn sectors(file: &str, bytes: &[u8], chance: &mut Chance, all: &mut Vec<Change>) {
    let file = || file.to_owned();
    for size in SECTORS {
        let full = full_sectors(bytes, size);
        let stride = full.len().div_ceil(ZEROED).max(1);
        let zero = |range: &Range<usize>| Change::Zero { file: file(), range: range.clone() };
        all.extend(full.iter().step_by(stride).map(zero));
        if full.len() < 2 {
            continue;
        }
        for _ in 0..PAIRS {
            let (a, b) = (chance.pick(&full).clone(), chance.pick(&full).clone());
            // The last sector of a file may be a short one; a copy goes only where it fits.
            if a.start < b.start {
                all.push(Change::Swap { file: file(), first: a.clone(), second: b.clone() });
                all.push(Change::Repeat { file: file(), to: a.start, range: b });
            } else if b.start < a.start {
                all.push(Change::Repeat { file: file(), to: b.start, range: a });
            }
        }
    }
}

fn extensions(file: &str, chance: &mut Chance, all: &mut Vec<Change>) {
    let mut add = |with| all.push(Change::Extend { file: file.to_owned(), with });
    for count in [1, 7, 512, 4096, 40_000] {
        add(Extension::Zeros(count));
        add(Extension::Garbage(chance.draw(), count));
    }
    add(Extension::Itself);
}

fn old_states(
    specimen: &Specimen,
    file: &str,
    length: usize,
    chance: &mut Chance,
    all: &mut Vec<Change>,
) {
    for (older, files) in specimen.older.iter().enumerate() {
        if files.get(file).is_none_or(|bytes| *bytes == specimen.files[file]) {
            continue;
        }
        let file = || file.to_owned();
        all.push(Change::OldFile { file: file(), older });
        for _ in 0..OLD_STRETCHES {
            let size = *chance.pick(&SECTORS);
            let start = chance.below(length.div_ceil(size) as u64) as usize * size;
            let range = start..(start + size).min(length);
            all.push(Change::OldBytes { file: file(), older, range });
        }
    }
}

/// Data blocks at each other's place, in one table and between two.
fn swapped_blocks(specimen: &Specimen, chance: &mut Chance, all: &mut Vec<Change>) {
    let blocks: Vec<(&String, Vec<Range<usize>>)> = specimen
        .files
        .iter()
        .filter(|(name, _)| name.ends_with(".sst"))
        .map(|(name, bytes)| (name, data_blocks(bytes)))
        .filter(|(_, blocks)| !blocks.is_empty())
        .collect();
    for (file, blocks) in blocks.iter().filter(|(_, blocks)| blocks.len() > 1) {
        for _ in 0..PAIRS {
            let first = chance.below(blocks.len() as u64 - 1) as usize;
            let second = first + 1 + chance.below((blocks.len() - first - 1) as u64) as usize;
            let (first, second) = (blocks[first].clone(), blocks[second].clone());
            all.push(Change::Swap { file: (*file).clone(), first, second });
        }
    }
    for _ in 0..PAIRS * u64::from(blocks.len() > 1) {
        let ((from, source), (file, target)) = (chance.pick(&blocks), chance.pick(&blocks));
        let (range, to) = (chance.pick(source).clone(), chance.pick(target).start);
        all.push(Change::Across { from: (*from).clone(), range, file: (*file).clone(), to });
    }
}

fn pairs(specimen: &Specimen, chance: &mut Chance, all: &mut Vec<Change>) {
    let names: Vec<&String> = specimen.files.keys().collect();
    let alike = |a: &str, b: &str| {
        let kind = |name: &str| name::parse(name).map(|kind| std::mem::discriminant(&kind));
        kind(a) == kind(b)
    };
    for from in &names {
        for file in names.iter().filter(|file| *file != from && alike(from, file)) {
            let (from, file) = ((*from).clone(), (*file).clone());
            all.push(Change::Over { from: from.clone(), file: file.clone() });
            all.push(Change::Rename { from: from.clone(), file: file.clone() });
            all.push(Change::Exchange { first: from, second: file });
        }
        // A name that nobody has: a number that is free, or not ours at all.
        for free in ["000777.sst", "000777.wal", "MANIFEST-000777", "stranger"] {
            all.push(Change::Rename { from: (*from).clone(), file: free.to_owned() });
            all.push(Change::Over { from: (*from).clone(), file: free.to_owned() });
        }
    }
    for _ in 0..MIXED_PAIRS {
        let (from, file) = (chance.pick(&names), chance.pick(&names));
        all.push(Change::Over { from: (*from).clone(), file: (*file).clone() });
    }
    // Whatever of the same kind was there before, under a name of now: old manifests over the new one above all.
    for (older, files) in specimen.older.iter().enumerate() {
        for from in files.keys() {
            let gone = !specimen.files.contains_key(from);
            for file in names.iter().filter(|file| gone && alike(from, file)) {
                let (from, file) = (from.clone(), (*file).clone());
                all.push(Change::OldFileOver { from, older, file });
            }
        }
    }
}

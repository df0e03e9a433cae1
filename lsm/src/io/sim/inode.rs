//! One simulated file: what is seen, what is durable, and the changes in between.
//!
//! ```text
//!   durable ── change 0 ── change 1 ── ... ──> contents        (map, if any, lies over the first bytes of contents)
//! ```
//! Each change stands as pending (a sync will cover it), durable (it must survive; it is only here because an older
//! change is not durable), or abandoned (a sync failed on it; no later sync covers it).

use super::map::MapMemory;
use crate::base::random::Random;
use std::collections::VecDeque;
use std::sync::Arc;

/// Older pictures of a map that are kept for power cuts.
const SNAPSHOT_COUNT_MAX: usize = 2;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Pending,
    Durable,
    Abandoned,
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// `grows`: it made the file longer when it was made.
    Write {
        offset: u64,
        bytes: Arc<[u8]>,
        grows: bool,
    },
    SetSize(u64),
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) sequence: u64,
    pub(super) edit: Edit,
    pub(super) standing: Standing,
}

/// What a power cut does to the data of one change.
#[derive(Clone, Copy, Debug)]
pub(super) enum DataFate {
    Lost,
    Kept,
    /// Each sector of this many bytes survives `odds` times in 8.
    Torn {
        sector: u64,
        odds: u64,
    },
}

/// What a power cut does to the size that a change gives the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum SizeFate {
    Lost,
    Kept,
    /// A write that grew the file got as far as some boundary of this many bytes.
    Torn {
        sector: u64,
    },
}

/// What a power cut does to one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    pub(super) data: DataFate,
    pub(super) size: SizeFate,
}

impl Fate {
    pub(super) const KEPT: Fate = Fate { data: DataFate::Kept, size: SizeFate::Kept };
    pub(super) const LOST: Fate = Fate { data: DataFate::Lost, size: SizeFate::Lost };

    pub(super) fn whole(kept: bool) -> Fate {
        if kept { Fate::KEPT } else { Fate::LOST }
    }
}

/// What a power cut does to a map.
#[derive(Clone, Copy, Debug)]
pub(super) enum MapFate {
    Lost,
    Kept,
    /// Each page of this many bytes is lost, kept, or shows older bytes.
    Torn {
        page: usize,
    },
}

#[derive(Clone)]
pub(super) struct Map {
    pub(super) sequence: u64,
    pub(super) memory: Arc<MapMemory>,
    snapshots: Vec<Vec<u8>>,
}

/// A file being put together from changes that survived.
struct Image {
    /// May be longer than `size`: data that survived without its size.
    bytes: Vec<u8>,
    size: u64,
}

impl Image {
    fn apply(&mut self, edit: &Edit, fate: Fate, random: &mut Random) {
        match edit {
            Edit::SetSize(_) if matches!(fate.size, SizeFate::Lost) => {}
            Edit::SetSize(size) => self.cut_at(*size),
            Edit::Write { offset, bytes, .. } => {
                self.apply_data(*offset, bytes, fate.data, random);
                let end = offset + bytes.len() as u64;
                match fate.size {
                    SizeFate::Lost => {}
                    SizeFate::Kept => self.size = self.size.max(end),
                    SizeFate::Torn { sector } => {
                        let first = offset / sector;
                        let some = first + 1 + random.below(end.div_ceil(sector) - first);
                        self.size = self.size.max((some * sector).min(end));
                    }
                }
            }
        }
    }

    /// Applies a change that is durable. One that grew the file made the size durable as it was then: whatever older
    /// size is still undecided, this one replaces it.
    fn apply_durable(&mut self, edit: &Edit) {
        let mut no_chance = Random::new(0);
        self.apply(edit, Fate::KEPT, &mut no_chance);
        if let Edit::Write { offset, bytes, grows: true } = edit {
            self.cut_at(offset + bytes.len() as u64);
        }
    }

    fn cut_at(&mut self, size: u64) {
        self.bytes.truncate(size as usize);
        self.size = size;
    }

    fn apply_data(&mut self, offset: u64, bytes: &[u8], fate: DataFate, random: &mut Random) {
        match fate {
            DataFate::Lost => {}
            DataFate::Kept => self.put(offset, bytes),
            DataFate::Torn { sector, odds } => {
                let mut at = offset;
                let end = at + bytes.len() as u64;
                while at < end {
                    let next = (at / sector * sector + sector).min(end);
                    if random.below(8) < odds {
                        let range = (at - offset) as usize..(next - offset) as usize;
                        self.put(at, &bytes[range]);
                    }
                    at = next;
                }
            }
        }
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.size as usize, 0);
        self.bytes
    }
}

pub(super) struct Inode {
    contents: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pub(super) changes: VecDeque<Change>,
    pub(super) map: Option<Map>,
    /// Open files; the inode lives while there are any.
    pub(super) handles: usize,
    /// No name and no open file: its space was given back.
    pub(super) freed: bool,
}

impl Inode {
    pub(super) fn new() -> Inode {
        Inode::settled(Vec::new())
    }

    /// A file of which everything is durable.
    pub(super) fn settled(bytes: Vec<u8>) -> Inode {
        let contents = Arc::new(bytes);
        let durable = contents.clone();
        Inode { contents, durable, changes: VecDeque::new(), map: None, handles: 0, freed: false }
    }

    /// The same file for another process: shares nothing that either may change.
    pub(super) fn after_kill(&self) -> Inode {
        let map = self.map.as_ref().map(|map| Map {
            memory: Arc::new(MapMemory::new(&map.memory.to_vec())),
            ..map.clone()
        });
        Inode {
            contents: self.contents.clone(),
            durable: self.durable.clone(),
            changes: self.changes.clone(),
            map,
            handles: 0,
            freed: self.freed,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.contents.len() as u64
    }

    /// Copies what is there; returns the bytes copied.
    pub(super) fn read(&self, offset: u64, target: &mut [u8]) -> usize {
        let start = offset.min(self.size()) as usize;
        let length = target.len().min(self.contents.len() - start);
        target[..length].copy_from_slice(&self.contents[start..start + length]);
        if let Some(memory) = self.map.as_ref().map(|map| &map.memory) {
            let end = (start + length).min(memory.length());
            if start < end {
                memory.load(start, &mut target[..end - start]);
            }
        }
        length
    }

    pub(super) fn write(&mut self, sequence: u64, offset: u64, bytes: &[u8], standing: Standing) {
        if bytes.is_empty() {
            return;
        }
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let contents = Arc::make_mut(&mut self.contents);
        let grows = contents.len() < end;
        if grows {
            contents.resize(end, 0);
        }
        contents[start..end].copy_from_slice(bytes);
        if let Some(map) = &mut self.map {
            let covered = end.min(map.memory.length()).saturating_sub(start);
            if covered > 0 {
                map.memory.store(start, &bytes[..covered]);
                if standing == Standing::Durable {
                    for snapshot in &mut map.snapshots {
                        snapshot[start..start + covered].copy_from_slice(&bytes[..covered]);
                    }
                }
            }
        }
        self.record(Change {
            sequence,
            edit: Edit::Write { offset, bytes: bytes.into(), grows },
            standing,
        });
    }

    pub(super) fn set_size(&mut self, sequence: u64, size: u64) {
        if size == self.size() {
            return;
        }
        Arc::make_mut(&mut self.contents).resize(size as usize, 0);
        if let Some(map) = &self.map {
            let cut = map.memory.length().min(size as usize);
            map.memory.store(cut, &vec![0; map.memory.length() - cut]);
        }
        self.record(Change { sequence, edit: Edit::SetSize(size), standing: Standing::Pending });
    }

    /// Everything that is pending, and the map, becomes durable.
    pub(super) fn sync(&mut self, sequence: u64) {
        for change in &mut self.changes {
            if change.standing == Standing::Pending {
                change.standing = Standing::Durable;
            }
        }
        if let Some(map) = &mut self.map {
            let mut bytes = map.memory.to_vec();
            bytes.truncate(self.contents.len());
            map.snapshots.clear();
            self.changes.push_back(Change {
                sequence,
                edit: Edit::Write { offset: 0, bytes: bytes.into(), grows: false },
                standing: Standing::Durable,
            });
        }
        self.settle();
    }

    /// A sync failed: no later one covers what is pending now.
    pub(super) fn abandon(&mut self) {
        for change in &mut self.changes {
            if change.standing == Standing::Pending {
                change.standing = Standing::Abandoned;
            }
        }
    }

    /// Maps the first `length` bytes, which are there. `None` if another map of another length stands in the way.
    pub(super) fn map(&mut self, sequence: u64, length: usize) -> Option<Arc<MapMemory>> {
        assert!(length as u64 <= self.size());
        if let Some(map) = &self.map {
            if map.memory.length() >= length {
                return Some(map.memory.clone());
            }
            if Arc::strong_count(&map.memory) > 1 {
                return None;
            }
            // The stores through the old, shorter map stay pending as one change.
            let mut bytes = map.memory.to_vec();
            bytes.truncate(self.contents.len());
            self.map = None;
            self.write(sequence, 0, &bytes, Standing::Pending);
        }
        let memory = Arc::new(MapMemory::new(&self.contents[..length]));
        self.map = Some(Map { sequence, memory: memory.clone(), snapshots: Vec::new() });
        Some(memory)
    }

    /// Takes a picture of the map that a later power cut may show.
    pub(super) fn snapshot_map(&mut self, random: &mut Random) {
        if let Some(map) = &mut self.map {
            let picture = map.memory.to_vec();
            if map.snapshots.len() < SNAPSHOT_COUNT_MAX {
                map.snapshots.push(picture);
            } else {
                map.snapshots[random.below(SNAPSHOT_COUNT_MAX as u64) as usize] = picture;
            }
        }
    }

    /// The file after a power cut in which each change that is not durable meets the fate that `decide` says.
    pub(super) fn image(
        &self,
        decide: &mut dyn FnMut(&Change, &mut Random) -> Fate,
        map_fate: MapFate,
        random: &mut Random,
    ) -> Vec<u8> {
        let bytes = self.durable.as_ref().clone();
        let mut image = Image { size: bytes.len() as u64, bytes };
        for change in &self.changes {
            match change.standing {
                Standing::Durable => image.apply_durable(&change.edit),
                Standing::Pending | Standing::Abandoned => {
                    let fate = decide(change, random);
                    image.apply(&change.edit, fate, random);
                }
            }
        }
        let mut bytes = image.finish();
        if let Some(map) = &self.map {
            map.image(&mut bytes, map_fate, random);
        }
        bytes
    }

    /// Flips a bit at rest; false if the file is not that long.
    pub(super) fn flip_bit(&mut self, bit: u64) -> bool {
        let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        if byte >= self.contents.len() {
            return false;
        }
        Arc::make_mut(&mut self.contents)[byte] ^= mask;
        if let Some(target) = Arc::make_mut(&mut self.durable).get_mut(byte) {
            *target ^= mask;
        }
        if let Some(map) = self.map.as_ref().filter(|map| byte < map.memory.length()) {
            let mut old = [0];
            map.memory.load(byte, &mut old);
            map.memory.store(byte, &[old[0] ^ mask]);
        }
        true
    }

    fn record(&mut self, change: Change) {
        self.changes.push_back(change);
        self.settle();
    }

    /// Moves durable changes that have nothing undecided before them into the durable half.
    fn settle(&mut self) {
        if self.changes.front().is_none_or(|change| change.standing != Standing::Durable) {
            return;
        }
        let durable = Arc::make_mut(&mut self.durable);
        let bytes = std::mem::take(durable);
        let mut image = Image { size: bytes.len() as u64, bytes };
        while self.changes.front().is_some_and(|c| c.standing == Standing::Durable) {
            if let Some(change) = self.changes.pop_front() {
                image.apply_durable(&change.edit);
            }
        }
        *durable = image.finish();
    }
}

impl Map {
    fn image(&self, bytes: &mut [u8], fate: MapFate, random: &mut Random) {
        let length = bytes.len().min(self.memory.length());
        match fate {
            MapFate::Lost => {}
            MapFate::Kept => self.memory.load(0, &mut bytes[..length]),
            MapFate::Torn { page } => {
                let current = self.memory.to_vec();
                for start in (0..length).step_by(page) {
                    let range = start..(start + page).min(length);
                    let source = match random.below(2 + self.snapshots.len() as u64) as usize {
                        0 => continue,
                        1 => &current,
                        n => &self.snapshots[n - 2],
                    };
                    bytes[range.clone()].copy_from_slice(&source[range]);
                }
            }
        }
    }
}

//! Pictures of the simulated disk after the death of the process or a power cut.

use super::inode::{Change, DataFate, Edit, Fate, Inode, MapFate, SizeFate, Standing};
use super::names::{FileId, NameChange};
use super::state::State;
use crate::base::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Which pending changes a power cut takes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LossModel {
    /// All of them.
    DropAll,
    /// Those after some moment: the disk of a file system that orders everything.
    KeepPrefix,
    /// Any subset of names, writes and sizes; each write whole.
    AnySubset,
    /// Any subset, and of each write any subset of its 512-byte sectors; the size may stop between them.
    Tear512,
    /// Any subset, and of each write any subset of its 4096-byte sectors; the size may stop between them.
    Tear4096,
    /// All data that was not synced: any subset of names and sizes survives, so that files are empty or full of zeros.
    NamesOnly,
    /// One of the others, drawn from the seed for each file.
    Random,
}

impl LossModel {
    /// Every model, for tests that walk them.
    pub const ALL: [LossModel; 7] = [
        LossModel::DropAll,
        LossModel::KeepPrefix,
        LossModel::AnySubset,
        LossModel::Tear512,
        LossModel::Tear4096,
        LossModel::NamesOnly,
        LossModel::Random,
    ];

    fn pick(self, random: &mut Random) -> LossModel {
        match self {
            LossModel::Random => LossModel::ALL[random.below(6) as usize],
            model => model,
        }
    }
}

/// A change that is not durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PendingChange {
    /// Its number; ascending in the order of issue, unique on this disk.
    pub sequence: u64,
    /// What it is, for a human.
    pub what: String,
}

/// The draws that are made once for an image.
struct Cut {
    /// With `KeepPrefix`: the first change that is lost.
    horizon: u64,
    /// Other changes survive so many times in 8.
    odds: u64,
}

impl Cut {
    fn keeps(&self, model: LossModel, sequence: u64, random: &mut Random) -> bool {
        match model {
            LossModel::DropAll => false,
            LossModel::KeepPrefix => sequence < self.horizon,
            _ => random.below(8) < self.odds,
        }
    }

    fn fate(&self, model: LossModel, change: &Change, random: &mut Random) -> Fate {
        let kept = self.keeps(model, change.sequence, random);
        let data = match model {
            LossModel::DropAll | LossModel::KeepPrefix => return Fate::whole(kept),
            LossModel::NamesOnly => DataFate::Lost,
            LossModel::Tear512 if kept => DataFate::Torn { sector: 512, odds: self.odds },
            LossModel::Tear4096 if kept => DataFate::Torn { sector: 4096, odds: self.odds },
            _ if kept => DataFate::Kept,
            _ => DataFate::Lost,
        };
        let grown = matches!(change.edit, Edit::Write { grows: true, .. });
        let size = match model {
            _ if random.below(8) >= self.odds => SizeFate::Lost,
            // The size follows the data in steps.
            LossModel::Tear512 if grown && random.one_in(2) => SizeFate::Torn { sector: 512 },
            LossModel::Tear4096 if grown && random.one_in(2) => SizeFate::Torn { sector: 4096 },
            _ => SizeFate::Kept,
        };
        Fate { data, size }
    }

    fn map_fate(&self, model: LossModel, random: &mut Random) -> MapFate {
        match model {
            LossModel::DropAll | LossModel::NamesOnly => MapFate::Lost,
            LossModel::KeepPrefix if random.one_in(2) => MapFate::Kept,
            LossModel::KeepPrefix => MapFate::Lost,
            LossModel::Tear512 => MapFate::Torn { page: 512 },
            _ => MapFate::Torn { page: 4096 },
        }
    }
}

impl State {
    pub(super) fn after_kill(&self) -> State {
        let mut next = self.successor(self.random.clone().next_u64());
        next.names = self.names.clone();
        next.durable_names = self.durable_names.clone();
        next.name_changes = self.name_changes.clone();
        next.inodes = self.inodes.iter().map(|(id, inode)| (*id, inode.after_kill())).collect();
        let files: Vec<FileId> = next.inodes.keys().copied().collect();
        for file in files {
            next.free_space(file);
            next.collect(file);
        }
        next
    }

    pub(super) fn after_power_cut(&self, seed: u64, model: LossModel) -> State {
        let mut random = Random::new(seed);
        let pending = self.pending_sequences();
        let horizon = match pending.len() as u64 {
            0 => 0,
            count => {
                let index = random.below(count + 1) as usize;
                pending.iter().nth(index).copied().unwrap_or(u64::MAX)
            }
        };
        let cut = Cut { horizon, odds: 1 + random.below(7) };
        let names_model = model.pick(&mut random);
        let mut names_random = random.clone();
        self.image(
            &mut |sequence, _| cut.keeps(names_model, sequence, &mut names_random),
            &mut |inode| {
                let model = model.pick(&mut random);
                let map_fate = cut.map_fate(model, &mut random);
                let mut decide =
                    |change: &Change, random: &mut Random| cut.fate(model, change, random);
                inode.image(&mut decide, map_fate, &mut random)
            },
        )
    }

    pub(super) fn after_power_cut_keeping(&self, keep: &dyn Fn(u64) -> bool) -> State {
        let mut no_chance = Random::new(0);
        self.image(&mut |sequence, _| keep(sequence), &mut |inode| {
            let kept_map = inode.map.as_ref().is_some_and(|map| keep(map.sequence));
            let map_fate = if kept_map { MapFate::Kept } else { MapFate::Lost };
            let mut decide = |change: &Change, _: &mut Random| Fate::whole(keep(change.sequence));
            inode.image(&mut decide, map_fate, &mut no_chance)
        })
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = 0;
        let mut add = |bytes: &[u8]| hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, hash);
        for (path, file) in self.names.files() {
            add(path.as_os_str().as_encoded_bytes());
            if let Some(inode) = self.inodes.get(&file) {
                let mut bytes = vec![0; inode.size() as usize];
                inode.read(0, &mut bytes);
                add(&bytes);
            }
        }
        hash
    }

    pub(super) fn pending(&self) -> Vec<PendingChange> {
        let paths = self.paths();
        let path = |file: &FileId| paths.get(file).cloned().unwrap_or_else(|| format!("#{file}"));
        let mut all = Vec::new();
        for (sequence, change) in &self.name_changes {
            let what = match change {
                NameChange::Create { path, .. } => format!("create {}", path.display()),
                NameChange::Unlink { path, .. } => format!("unlink {}", path.display()),
                NameChange::Rename { from, to, .. } => {
                    format!("rename {} to {}", from.display(), to.display())
                }
            };
            all.push(PendingChange { sequence: *sequence, what });
        }
        for (id, inode) in &self.inodes {
            for change in inode.changes.iter().filter(|c| c.standing != Standing::Durable) {
                let what = match &change.edit {
                    Edit::Write { offset, bytes, .. } => {
                        format!("write {} bytes at {offset} of {}", bytes.len(), path(id))
                    }
                    Edit::SetSize(size) => format!("set size of {} to {size}", path(id)),
                };
                all.push(PendingChange { sequence: change.sequence, what });
            }
            if let Some(map) = &inode.map {
                let what = format!("stores into the map of {}", path(id));
                all.push(PendingChange { sequence: map.sequence, what });
            }
        }
        all.sort_by_key(|change| change.sequence);
        all
    }

    /// The disk with the names and contents that survive; only files that a name reaches.
    fn image(
        &self,
        keep_name: &mut dyn FnMut(u64, &NameChange) -> bool,
        contents: &mut dyn FnMut(&Inode) -> Vec<u8>,
    ) -> State {
        let mut names = self.durable_names.clone();
        for (sequence, change) in &self.name_changes {
            if keep_name(*sequence, change) {
                names.apply(change);
            }
        }
        let mut next = self.successor(self.random.clone().next_u64());
        for (_, file) in names.files() {
            if let Some(inode) = self.inodes.get(&file) {
                next.inodes.entry(file).or_insert_with(|| Inode::settled(contents(inode)));
            }
        }
        next.names = names.clone();
        next.durable_names = names;
        // What came back takes its space again, what went gives it back.
        next.free = self.free.map(|free| (free + self.used()).saturating_sub(next.used()));
        next
    }

    fn pending_sequences(&self) -> BTreeSet<u64> {
        let names = self.name_changes.iter().map(|(sequence, _)| *sequence);
        let changes = self.inodes.values().flat_map(|inode| inode.changes.iter());
        names.chain(changes.map(|change| change.sequence)).collect()
    }

    fn paths(&self) -> BTreeMap<FileId, String> {
        self.names.files().map(|(path, file)| (file, path.display().to_string())).collect()
    }
}

//! A setting: options of a database, the files that it stands on, and what is done to it beside the list.

use crate::drive::Chance;
use crate::world::{draw_keyspace_options, other_options, tiny_options};
use treering_lsm::{Compression, Durability, FilterPolicy, IoChoice, KeyspaceOptions, Options};

/// What a database stands on, and who works behind the scenes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// The simulated disk and the list's own thread: deterministic.
    Sim,
    /// The simulated disk and the database's threads.
    SimThreads,
    /// Files in a temporary directory, and the database's threads.
    Files(IoChoice),
}

/// How a process ends between two chapters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Close,
    Kill,
}

/// See the head of the file. "One in" counts operations of the list; 0 is never.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) body: Body,
    pub(super) options: Options,
    /// Options of the keyspaces that the list makes.
    pub(super) others: KeyspaceOptions,
    /// Decides about everything that is done beside the list, and about the simulated disk.
    pub(super) seed: u64,
    pub(super) steps: u64,
    pub(super) step_one_in: u64,
    pub(super) flush_one_in: u64,
    pub(super) compact_one_in: u64,
    pub(super) compact_range_one_in: u64,
    /// How the process may end at the end of a chapter.
    pub(super) ends: Vec<End>,
    /// Chapters, of which one ends so.
    pub(super) end_one_in: u64,
    /// Reads with `fill_cache` off, and with `read_ahead` off, once in so many.
    pub(super) no_fill_one_in: u64,
    pub(super) no_ahead_one_in: u64,
}

impl Setting {
    fn tiny(name: &str, seed: u64) -> Setting {
        Setting {
            name: name.to_owned(),
            body: Body::Sim,
            options: tiny_options(),
            others: other_options(),
            seed,
            steps: 1,
            step_one_in: 8,
            flush_one_in: 0,
            compact_one_in: 0,
            compact_range_one_in: 0,
            ends: Vec::new(),
            end_one_in: 1,
            no_fill_one_in: 0,
            no_ahead_one_in: 0,
        }
    }

    /// Changes the options of all keyspaces.
    fn keyspaces(&mut self, change: impl Fn(&mut KeyspaceOptions)) {
        change(&mut self.options.default_keyspace);
        change(&mut self.others);
    }

    /// On real files, where every flush and every opening waits for the device.
    fn on_files(&mut self, choice: IoChoice) {
        self.body = Body::Files(choice);
        self.options.write_buffer_bytes = Some(64 << 10);
        (self.ends, self.end_one_in) = (vec![End::Close], 4);
    }

    /// True if the same list gives the same trace.
    pub(super) fn is_deterministic(&self) -> bool {
        self.body == Body::Sim
    }
}

type Change = (&'static str, fn(&mut Setting));

/// The settings that every list is run under; each differs from the first in one thing, so that a difference names its cause.
const FIXED: [Change; 39] = [
    ("tiny", |_| {}),
    ("default options", |s| s.options = Options::default()),
    ("16 MiB", |s| s.options.memory_limit = 16 << 20),
    ("write buffer 64 KiB", |s| s.options.write_buffer_bytes = Some(64 << 10)),
    ("write buffer 1 MiB", |s| s.options.write_buffer_bytes = Some(1 << 20)),
    ("blocks of 64 KiB", |s| s.keyspaces(|k| k.block_bytes = 64 << 10)),
    ("blocks of 1 MiB", |s| s.keyspaces(|k| k.block_bytes = 1 << 20)),
    ("tables of 64 KiB", |s| s.keyspaces(|k| k.table_bytes = 64 << 10)),
    ("tables of 1 MiB", |s| s.keyspaces(|k| k.table_bytes = 1 << 20)),
    ("base of 256 KiB", |s| s.keyspaces(|k| k.level_base_bytes = 256 << 10)),
    ("fanout 10", |s| s.keyspaces(|k| k.level_fanout = 10)),
    ("fanout 100", |s| s.keyspaces(|k| k.level_fanout = 100)),
    ("one L0 table", |s| s.keyspaces(|k| k.level0_tables = 1)),
    ("64 L0 tables", |s| s.keyspaces(|k| k.level0_tables = 64)),
    ("no compression", |s| s.keyspaces(|k| k.compression = [Compression::None; 7])),
    ("LZ4", |s| s.keyspaces(|k| k.compression = [Compression::Lz4; 7])),
    ("Zstandard", |s| s.keyspaces(|k| k.compression = [Compression::Zstd; 7])),
    ("compression by level", |s| {
        let [none, lz4, zstd] = [Compression::None, Compression::Lz4, Compression::Zstd];
        s.keyspaces(|k| k.compression = [zstd, none, lz4, none, lz4, zstd, none]);
    }),
    ("no filter", |s| s.keyspaces(|k| k.filter = FilterPolicy::None)),
    ("blocked filter, 1 bit", |s| s.keyspaces(|k| k.filter = FilterPolicy::Blocked { bits: 1 })),
    ("blocked filter, 40 bits", |s| s.keyspaces(|k| k.filter = FilterPolicy::Blocked { bits: 40 })),
    ("standard filter, 1 bit", |s| s.keyspaces(|k| k.filter = FilterPolicy::Standard { bits: 1 })),
    ("standard filter, 20 bits", |s| {
        s.keyspaces(|k| k.filter = FilterPolicy::Standard { bits: 20 })
    }),
    ("direct", |s| s.options.direct_io = true),
    ("change log", |s| {
        s.options.change_log_bytes = 256 << 10;
        s.ends = vec![End::Close, End::Kill];
    }),
    ("class Sync", |s| s.options.durability = Durability::Sync),
    ("class None", |s| s.options.durability = Durability::None),
    ("no steps", |s| s.steps = 0),
    ("many steps", |s| (s.steps, s.step_one_in) = (8, 1)),
    ("flushes", |s| s.flush_one_in = 10),
    ("compactions", |s| s.compact_one_in = 40),
    ("compactions of ranges", |s| s.compact_range_one_in = 15),
    ("closes", |s| s.ends = vec![End::Close]),
    ("kills", |s| s.ends = vec![End::Kill]),
    ("closes and kills of class Sync, direct", |s| {
        s.ends = vec![End::Close, End::Kill];
        s.options.durability = Durability::Sync;
        s.options.direct_io = true;
    }),
    ("no cache filling, no read ahead", |s| (s.no_fill_one_in, s.no_ahead_one_in) = (1, 1)),
    ("threads", |s| {
        s.body = Body::SimThreads;
        s.ends = vec![End::Close, End::Kill];
    }),
    ("uring files", |s| {
        s.on_files(IoChoice::Uring);
        s.options.direct_io = true;
    }),
    ("posix files", |s| {
        s.on_files(IoChoice::Posix);
        s.compact_range_one_in = 500;
    }),
];

/// The fixed settings; the first one is what the others are compared with.
pub(super) fn fixed() -> Vec<Setting> {
    let make = |(number, (name, change)): (usize, &Change)| {
        let mut setting = Setting::tiny(name, number as u64);
        change(&mut setting);
        setting
    };
    FIXED.iter().enumerate().map(make).collect()
}

/// A setting with everything drawn.
pub(super) fn draw(chance: &mut Chance) -> Setting {
    let mut setting = Setting::tiny("drawn", chance.draw());
    let options = &mut setting.options;
    options.write_buffer_bytes = Some(16 << 10 << chance.below(6));
    options.memory_limit = 4 << 20 << chance.below(5);
    options.direct_io = chance.one_in(3);
    options.change_log_bytes = *chance.pick(&[0, 0, 64 << 10]);
    options.default_keyspace = draw_keyspace_options(chance);
    setting.others = draw_keyspace_options(chance);
    let none = Compression::None;
    let all = [none, Compression::Lz4, Compression::Zstd];
    let (compression, block, table) =
        ([none; 7].map(|_| *chance.pick(&all)), chance.below(8), chance.below(5));
    setting.options.default_keyspace.compression = compression;
    setting.options.default_keyspace.block_bytes = 1 << 10 << block;
    setting.others.table_bytes = 16 << 10 << table;
    let rare = |chance: &mut Chance, most: u64| match chance.one_in(2) {
        true => 0,
        false => 2 + chance.below(most),
    };
    setting.steps = chance.below(4);
    setting.step_one_in = 1 + chance.below(20);
    setting.flush_one_in = rare(chance, 60);
    setting.compact_one_in = rare(chance, 200);
    setting.compact_range_one_in = rare(chance, 60);
    setting.no_fill_one_in = rare(chance, 3);
    setting.no_ahead_one_in = rare(chance, 3);
    let ends = [&[][..], &[End::Close], &[End::Kill], &[End::Close, End::Kill]];
    setting.ends = chance.pick(&ends).to_vec();
    // A class that loses writes with the process only where no process ends.
    let classes = [Durability::Buffered, Durability::Sync, Durability::None];
    let possible = if setting.ends.is_empty() { &classes[..] } else { &classes[..2] };
    setting.options.durability = *chance.pick(possible);
    if chance.one_in(10) {
        setting.body = Body::SimThreads;
        setting.options.background_jobs = Some(2 + chance.below(3) as usize);
    }
    setting
}

//! What the tests of the program share: databases with a model of what is in them, and the program.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test; each binary uses its own part"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use treering_lsm::{Db, KeyspaceOptions, Options, ReadOptions, WriteOptions};

/// What each keyspace holds.
pub type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Keys that the tests use.
pub const KEYS: u64 = 6000;

/// SplitMix64: the same seed gives the same test.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

pub fn keyspace_options() -> KeyspaceOptions {
    let mut keyspace = KeyspaceOptions::default();
    keyspace.block_bytes = 1 << 10;
    keyspace.table_bytes = 16 << 10;
    keyspace.level_base_bytes = 16 << 10;
    keyspace.level_fanout = 2;
    keyspace.level0_tables = 2;
    keyspace
}

/// Limits so small that a few thousand writes fill several levels.
pub fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 4 << 20;
    options.write_buffer_bytes = Some(16 << 10);
    options.default_keyspace = keyspace_options();
    options
}

/// A database whose directory goes with it.
pub struct World {
    pub directory: tempfile::TempDir,
    pub model: Model,
    pub chance: Chance,
}

impl World {
    pub fn new(seed: u64) -> World {
        println!("seed {seed}");
        let model = Model::from([("default".to_owned(), BTreeMap::new())]);
        World { directory: tempfile::tempdir().unwrap(), model, chance: Chance(seed) }
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("db")
    }

    pub fn open(&self) -> Db {
        Db::open(self.path(), options()).unwrap()
    }

    /// Random puts, overwrites and deletes of `keys` keys in every keyspace of the model.
    pub fn write(&mut self, db: &Db, count: u64, keys: u64) {
        let names: Vec<String> = self.model.keys().cloned().collect();
        for number in 0..count {
            let name = &names[self.chance.below(names.len() as u64) as usize];
            let keyspace = match db.keyspace(name) {
                Ok(keyspace) => keyspace,
                Err(_) => db.create_keyspace(name, keyspace_options()).unwrap(),
            };
            let key = format!("key{:06}", self.chance.below(keys)).into_bytes();
            let map = self.model.get_mut(name).unwrap();
            if self.chance.below(4) == 0 {
                keyspace.delete_with(&key, &WriteOptions::default()).unwrap();
                map.remove(&key);
            } else {
                let value = format!("{number} {:x}", self.chance.below(u64::MAX)).repeat(3);
                keyspace.put(&key, value.as_bytes()).unwrap();
                map.insert(key, value.into_bytes());
            }
        }
    }

    /// A closed database with several levels, overwrites and deletes, and a log that is not in tables.
    pub fn filled(seed: u64) -> World {
        let mut world = World::new(seed);
        world.model.insert("other".to_owned(), BTreeMap::new());
        let db = world.open();
        world.write(&db, 16_000, KEYS);
        db.wait_for_compactions().unwrap();
        world.write(&db, 300, KEYS);
        db.close().unwrap();
        world
    }

    /// What the database holds, through cursors; each key is read by `get`, too.
    pub fn contents(&self) -> Model {
        let db = self.open();
        let mut model = Model::new();
        for name in db.keyspace_names() {
            let keyspace = db.keyspace(&name).unwrap();
            let all = keyspace.range(.., &ReadOptions::default()).unwrap();
            let map: BTreeMap<Vec<u8>, Vec<u8>> = all
                .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
                .collect();
            for number in 0..KEYS {
                let key = format!("key{number:06}").into_bytes();
                let got = keyspace.get(&key).unwrap();
                assert_eq!(
                    got.as_deref(),
                    map.get(&key).map(|value| &value[..]),
                    "{name} {number}"
                );
            }
            model.insert(name, map);
        }
        db.close().unwrap();
        model
    }

    /// Files whose names `wanted` says.
    pub fn files(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        files(&self.path(), wanted)
    }
}

pub fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

pub fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).unwrap();
    let at = at as usize % bytes.len();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

pub fn tool(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_treering-tool")).args(arguments).output().unwrap()
}

/// Standard output of a run that must end with `code`.
pub fn run(code: i32, arguments: &[&str]) -> String {
    let output = tool(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}\n{text}");
    text
}

/// What a run that could not answer says.
pub fn refusal(arguments: &[&str]) -> String {
    let output = tool(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

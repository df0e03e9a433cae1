//! `verify`: reads the whole database, with all its checksums, and checks what it finds.
//!
//! How much can be checked depends on what is known of the data:
//! 1. Nothing: every key has the form of a key, keys ascend, every value is a slice of the value buffer.
//! 2. The runs that made it: they are replayed, and every key must hold exactly what its last write left, no key may be
//!    missing and none too many. Inside one process the runs are known; a later one is told by --verify_benchmarks.
//! 3. All runs, but not how many writes the last of them made (its process was killed, or it wrote in the background):
//!    the database must be the state after some number of these writes.
//!
//! The replay holds four bytes per key (a hash of the value), six per key and thread if several threads wrote at once,
//! since then the last write of any of them may have won, and four more in case 3.

mod replay;
mod slices;

use crate::engine::{Engine, Failure, ReadOptions, say};
use crate::flags::Settings;
use crate::generate::value::{ValueBuffer, ValueSize};
use crate::list::FILL_100K_BYTES;
use replay::{Expected, Replay};
use serde_json::{Value, json};
use slices::Slices;

pub(crate) use replay::{Run, plan};

/// Hash of a key that is not there.
const ABSENT: u32 = 0;
/// Every so many keys are also looked for by a get.
const GET_EVERY: u64 = 16;
/// Differences that are described one by one.
const DESCRIBED_MAX: usize = 3;

/// What a check found.
pub(crate) struct Report {
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
    /// What was checked beside the checksums.
    pub(crate) checked: String,
    pub(crate) gets: u64,
}

impl Report {
    /// The figures for the JSON document.
    pub(crate) fn figures(&self) -> Value {
        json!({ "keys": self.keys, "bytes": self.bytes, "gets": self.gets, "checked": self.checked })
    }
}

/// Hash of a value; never [`ABSENT`].
fn hash(value: &[u8]) -> u32 {
    (xxhash_rust::xxh3::xxh3_64(value) as u32).max(1)
}

/// Differences found so far.
#[derive(Default)]
struct Differences {
    count: u64,
    described: Vec<String>,
}

impl Differences {
    fn add(&mut self, describe: impl FnOnce() -> String) {
        self.count += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(describe());
        }
    }

    fn into_result(self) -> Result<(), Failure> {
        if self.count == 0 {
            return Ok(());
        }
        Err(format!("{} differences: {}", self.count, self.described.join("; ")))
    }
}

/// Checks the database against `runs`, or against the form of keys and values alone if they are not known.
///
/// # Errors
/// The first differences, or the engine's error, as one line.
pub(crate) fn verify(
    settings: &Settings,
    engine: &Engine,
    runs: Option<&[Run]>,
) -> Result<Report, Failure> {
    engine.verify_tables()?;
    let Some(runs) = runs else {
        return verify_form(settings, engine);
    };
    let replay = Replay::new(settings, runs)?;
    match replay.open_run() {
        None => verify_exactly(settings, engine, &replay.expected()),
        Some(run) => verify_some_prefix(settings, engine, &replay, run),
    }
}

/// Calls `each` with every entry in order. Checks that keys ascend and every sixteenth is found by a get.
fn scan(
    engine: &Engine,
    differences: &mut Differences,
    mut each: impl FnMut(&[u8], &[u8], &mut Differences),
) -> Result<Report, Failure> {
    // A big scan must not push the working set out of the cache.
    let options = ReadOptions {
        snapshot: Some(engine.snapshot()),
        fill_cache: false,
        ..ReadOptions::default()
    };
    let mut cursor = engine.cursor(&options)?;
    let mut is_valid = cursor.seek_to_first().map_err(say)?;
    let mut report = Report { keys: 0, bytes: 0, checked: String::new(), gets: 0 };
    let mut before: Option<Vec<u8>> = None;
    while is_valid {
        let (key, value) = (cursor.key(), cursor.value());
        match &mut before {
            Some(before) => {
                if before.as_slice() >= key {
                    differences.add(|| format!("key {} does not ascend", hexadecimal(key)));
                }
                before.clear();
                before.extend_from_slice(key);
            }
            None => before = Some(key.to_vec()),
        }
        each(key, value, differences);
        if report.keys.is_multiple_of(GET_EVERY) {
            report.gets += 1;
            if engine.get(key)?.as_deref() != Some(value) {
                let key = hexadecimal(key);
                differences.add(|| format!("key {key}: a get and the scan do not agree"));
            }
        }
        report.keys += 1;
        report.bytes += (key.len() + value.len()) as u64;
        is_valid = cursor.next().map_err(say)?;
    }
    Ok(report)
}

fn verify_form(settings: &Settings, engine: &Engine) -> Result<Report, Failure> {
    let flags = &settings.flags;
    let format = settings.key_format(flags.key_size as usize);
    let longest = settings.value_size.max().max(FILL_100K_BYTES);
    let buffer = ValueBuffer::new(flags.compression_ratio, longest);
    let mut slices = Slices::new(&buffer);
    let has_length = |length: usize| match settings.value_size {
        // The values of fill100K have a length of their own, those of mixgraph have many.
        _ if length == FILL_100K_BYTES || flags.mix_put_ratio > 0.0 => true,
        ValueSize::Fixed(size) => length == size,
        ValueSize::Uniform(min, max) | ValueSize::Normal(min, max) => (min..=max).contains(&length),
    };
    let mut differences = Differences::default();
    let mut report = scan(engine, &mut differences, |key, value, differences| {
        if format.number(key).is_none() {
            differences.add(|| format!("key {} is none of these flags", hexadecimal(key)));
        } else if !has_length(value.len()) || !slices.contains(value) {
            let (key, length) = (hexadecimal(key), value.len());
            differences
                .add(|| format!("key {key}: its value of {length} bytes is none of these flags"));
        }
    })?;
    differences.into_result()?;
    report.checked = "keys and values have the form of these flags; \
                      give --seed and --verify_benchmarks to check each value"
        .to_owned();
    Ok(report)
}

fn verify_exactly(
    settings: &Settings,
    engine: &Engine,
    expected: &Expected,
) -> Result<Report, Failure> {
    let flags = &settings.flags;
    let format = settings.key_format(flags.key_size as usize);
    let mut differences = Differences::default();
    let mut seen = vec![0u64; (format.num as usize).div_ceil(64)];
    let mut report = scan(engine, &mut differences, |key, value, differences| {
        let Some(number) = format.number(key) else {
            return differences.add(|| format!("key {} was never written", hexadecimal(key)));
        };
        seen[number as usize / 64] |= 1 << (number % 64);
        if !expected.allows(number, hash(value)) {
            let key = hexadecimal(key);
            differences.add(|| match expected.allows(number, ABSENT) {
                true => format!("key {key} (number {number}) should not be there"),
                false => format!("key {key} (number {number}) has not the value written last"),
            });
        }
    })?;
    let mut key = format.buffer();
    for number in 0..format.num {
        let is_seen = seen[number as usize / 64] >> (number % 64) & 1 == 1;
        if !is_seen && !expected.allows(number, ABSENT) {
            format.write(number, &mut key);
            differences.add(|| format!("key {} (number {number}) is missing", hexadecimal(&key)));
        }
    }
    differences.into_result()?;
    report.checked = "every key and value is the one written last, none is missing".to_owned();
    Ok(report)
}

fn verify_some_prefix(
    settings: &Settings,
    engine: &Engine,
    replay: &Replay<'_>,
    run: &Run,
) -> Result<Report, Failure> {
    let flags = &settings.flags;
    let format = settings.key_format(flags.key_size as usize);
    let mut differences = Differences::default();
    let mut actual = vec![ABSENT; format.num as usize];
    let mut report =
        scan(engine, &mut differences, |key, value, differences| match format.number(key) {
            Some(number) => actual[number as usize] = hash(value),
            None => differences.add(|| format!("key {} was never written", hexadecimal(key))),
        })?;
    differences.into_result()?;
    let name = run.name.name;
    let (writes, wrong) = replay.nearest_prefix(run, &actual);
    if wrong > 0 {
        return Err(format!(
            "{wrong} keys differ from the state after any number of writes of {name}; nearest are {writes} writes"
        ));
    }
    report.checked = format!(
        "every key and value is the one written last, none is missing, after {writes} writes of {name}"
    );
    Ok(report)
}

fn hexadecimal(key: &[u8]) -> String {
    use std::fmt::Write;
    const SHOWN_MAX: usize = 40;
    let mut text = String::from("0x");
    for byte in key.iter().take(SHOWN_MAX) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    if key.len() > SHOWN_MAX {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Writes;

    fn settings(directory: &std::path::Path, line: &str) -> Settings {
        let line = format!("--db={} --num=3000 --seed=5 {line}", directory.display());
        let line = crate::flags::parse(line.split_whitespace().map(str::to_owned)).unwrap();
        Settings::new(line, 1).unwrap()
    }

    /// Runs a list, then verifies in a second opening of the database, told `told` about the first.
    fn run_and_verify(
        list: &str,
        flags: &str,
        told: &str,
        spoil: impl FnOnce(&Engine),
    ) -> Result<Report, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        crate::run::run(&settings(&path, &format!("--benchmarks={list} {flags}")))?;
        let told =
            if told.is_empty() { String::new() } else { format!("--verify_benchmarks={told}") };
        let flags = format!("--benchmarks=verify --use_existing_db=1 {told} {flags}");
        let settings = settings(&path, &flags);
        let engine = Engine::open(&settings)?;
        spoil(&engine);
        let runs: Vec<Run> =
            settings.earlier.iter().flatten().flat_map(|items| plan(&settings, items)).collect();
        let is_told = settings.earlier.is_some();
        let report = verify(&settings, &engine, is_told.then_some(&runs[..]));
        engine.close()?;
        report
    }

    #[test]
    fn a_later_process_finds_every_key_with_its_value() {
        for (list, flags) in [
            ("fillrandom,overwrite", ""),
            ("fillrandom,readrandom,overwrite[X2],compact,deleterandom", "--deletes=500"),
            ("filluniquerandom,updaterandom,readrandomwriterandom", ""),
            ("fillbatch,deleteseq,fillrandom[W1-X2]", "--batch_size=7 --threads=3"),
            ("fillseq,mixgraph", "--mix_put_ratio=0.5 --value_size=20"),
            ("fill100K,overwrite", "--writes=40"),
            ("fillrandom,overwrite", "--value_size_distribution_type=uniform --value_size_max=300"),
        ] {
            let report = run_and_verify(list, flags, list, |_| {});
            let report = report.unwrap_or_else(|error| panic!("{list} {flags}: {error}"));
            assert!(report.keys > 0 && report.checked.contains("written last"), "{list}");
        }
    }

    #[test]
    fn a_lost_changed_or_strange_entry_is_never_overlooked() {
        let list = "fillrandom,overwrite";
        let format = crate::generate::key::KeyFormat {
            key_size: 16,
            prefix_size: 0,
            keys_per_prefix: 0,
            num: 3000,
        };
        let error = |spoil: &dyn Fn(&Engine, &Writes, &[u8])| {
            let spoil = |engine: &Engine| {
                let options = ReadOptions::default();
                let mut cursor = engine.cursor(&options).unwrap();
                assert!(cursor.seek_to_first().unwrap());
                spoil(engine, &Writes::new(false, false), cursor.key());
            };
            run_and_verify(list, "", list, spoil).map(|_| ()).unwrap_err()
        };
        let lost = error(&|engine, writes, key| engine.delete(key, writes).unwrap());
        assert!(lost.starts_with("1 differences: ") && lost.ends_with("is missing"), "{lost}");
        let changed = error(&|engine, writes, key| engine.put(key, b"other", writes).unwrap());
        assert!(changed.contains("has not the value written last"), "{changed}");
        let strange = error(&|engine, writes, _| {
            let mut key = format.buffer();
            format.write(3001, &mut key);
            engine.put(&key, b"other", writes).unwrap();
        });
        assert!(strange.contains("was never written"), "{strange}");
        let told_wrong = run_and_verify(list, "", "fillrandom", |_| {});
        assert!(told_wrong.is_err());
    }

    #[test]
    fn the_length_of_a_background_writers_run_is_found() {
        let list = "fillrandom,readwhilewriting";
        let report = run_and_verify(list, "--reads=20000", list, |_| {}).unwrap();
        assert!(report.checked.contains("writes of readwhilewriting"), "{}", report.checked);
        let spoil = |engine: &Engine| {
            let mut cursor = engine.cursor(&ReadOptions::default()).unwrap();
            cursor.seek_to_first().unwrap();
            engine.put(cursor.key(), b"other", &Writes::new(false, false)).unwrap();
        };
        let error = run_and_verify(list, "--reads=2000", list, spoil).map(|_| ()).unwrap_err();
        assert!(error.starts_with("1 keys differ from the state after any number"), "{error}");
        let unknown =
            run_and_verify(list, "--reads=100", "fillrandom,readwhilewriting,overwrite", |_| {});
        assert!(unknown.is_err_and(|error| error.contains("readwhilewriting[N123]")));
    }

    #[test]
    fn a_run_that_was_cut_off_is_checked_up_to_its_last_write() {
        // 2500 of 3000 writes stand for a process that was killed.
        for list in ["fillrandom", "fillseq", "fillrandom,overwrite"] {
            let told = format!("{list}[N?]");
            let report = run_and_verify(list, "--writes=2500", &told, |_| {}).unwrap();
            assert!(report.checked.contains("after 2500 writes"), "{list}: {}", report.checked);
        }
    }

    #[test]
    fn a_search_past_the_end_of_an_ordered_run_ends_with_an_error() {
        let spoil = |engine: &Engine| {
            let key = engine.cursor(&ReadOptions::default()).and_then(|mut cursor| {
                cursor.seek_to_first().map_err(say)?;
                Ok(cursor.key().to_vec())
            });
            engine.put(&key.unwrap(), b"other", &Writes::new(false, false)).unwrap();
        };
        for list in ["fillseq", "filluniquerandom", "fillrandom"] {
            let error =
                run_and_verify(list, "", &format!("{list}[N?]"), spoil).map(|_| ()).unwrap_err();
            assert!(error.starts_with("1 keys differ"), "{list}: {error}");
        }
        let beyond = run_and_verify("fillseq", "--writes=4000", "fillseq", |_| {});
        assert!(beyond.is_err_and(|error| error.contains("went past --num")));
    }

    #[test]
    fn without_knowledge_the_form_is_still_checked() {
        let report = run_and_verify("fillrandom", "", "", |_| {}).unwrap();
        assert!(report.checked.contains("form of these flags"));
        let spoil = |engine: &Engine| {
            let writes = Writes::new(false, false);
            engine.put(b"a strange key", b"", &writes).unwrap();
        };
        let error = run_and_verify("fillrandom", "", "", spoil).map(|_| ()).unwrap_err();
        assert!(error.contains("is none of these flags"), "{error}");
    }
}

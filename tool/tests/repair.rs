//! Repair: whatever is lost of CURRENT, manifest and log, the contents afterwards are those of a model.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{Model, World, files, flip, options, run};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use treering_lsm::base::key::{FileNumber, KeyspaceId, Kind, Tag};
use treering_lsm::file::name;
use treering_lsm::file::table_writer::{TableSpec, TableWriter};
use treering_lsm::io::Disk;
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::{Compression, Db, FilterPolicy, IngestOptions, SortedFileWriter};

/// The usual seeds, or as many as TREERING_SEEDS says.
fn seeds(usual: u64) -> std::ops::RangeInclusive<u64> {
    let said = std::env::var("TREERING_SEEDS").ok().and_then(|text| text.parse().ok());
    1..=said.unwrap_or(usual)
}

/// The names of keyspaces are lost with the last manifest.
fn renamed(model: &Model) -> Model {
    let name = |name: &String| {
        if name == "default" { name.clone() } else { "recovered-1".to_owned() }
    };
    model.iter().map(|(old, map)| (name(old), map.clone())).collect()
}

fn repair(world: &World) -> String {
    let path = world.path();
    let path = path.to_str().unwrap();
    let names = || files(Path::new(path), |_| true);
    let before = names();
    let plan = run(0, &["repair", path, "--dry-run"]);
    assert!(plan.contains("nothing was changed"), "{plan}");
    assert_eq!(names(), before, "a dry run changes nothing");
    let told = run(0, &["repair", path]);
    run(0, &["check", path]);
    told
}

#[test]
fn nothing_is_lost_with_current_or_the_manifest_or_both() {
    // Promise: what a sound table or the log holds is in the repaired database, whatever else is gone.
    for seed in seeds(2) {
        for (lose_current, lose_manifest) in [(true, false), (false, true), (true, true)] {
            let world = World::filled(seed);
            let current = world.path().join("CURRENT");
            if lose_current {
                fs::remove_file(&current).unwrap();
            }
            if lose_manifest {
                world
                    .files(|name| name.starts_with("MANIFEST"))
                    .iter()
                    .for_each(|path| fs::remove_file(path).unwrap());
            }
            repair(&world);
            let expected = if lose_manifest { renamed(&world.model) } else { world.model.clone() };
            assert!(world.contents() == expected, "seed {seed}, {lose_current} {lose_manifest}");
            assert!(world.contents() == expected, "a second opening");
        }
    }
}

#[test]
fn range_deletes_and_operands_outlive_a_lost_current() {
    // The manifest tells them; without one the plan says what that means.
    let mut world = World::filled(11);
    let db = world.open();
    let mut counting = common::keyspace_options();
    counting.merge_operator = Some("counter".to_owned());
    counting.ttl = Some(std::time::Duration::from_secs(1 << 30));
    let counts = db.create_keyspace("counts", counting).unwrap();
    let keys: Vec<Vec<u8>> = world.model["default"].keys().cloned().collect();
    let (from, to) = (keys[keys.len() / 4].clone(), keys[keys.len() / 2].clone());
    db.delete_range(&from[..]..&to[..]).unwrap();
    world.model.get_mut("default").unwrap().retain(|key, _| *key < from || *key >= to);
    for _ in 0..3 {
        counts.merge(b"n", &2i64.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let model = BTreeMap::from([(b"n".to_vec(), 6i64.to_le_bytes().to_vec())]);
    world.model.insert("counts".to_owned(), model);
    let cut_into = db.stats().keyspaces[0].range_deletes;
    drop(counts);
    db.close().unwrap();
    assert!(cut_into > 0, "it has yet to be applied");
    let path = world.path();
    assert!(run(0, &["manifest", path.to_str().unwrap()]).contains("delete range"));
    fs::remove_file(path.join("CURRENT")).unwrap();
    let told = repair(&world);
    assert!(!told.contains("range deletes"), "{told}");
    assert!(world.contents() == world.model);
    world
        .files(|name| name.starts_with("MANIFEST"))
        .iter()
        .for_each(|m| fs::remove_file(m).unwrap());
    assert!(repair(&world).contains("range deletes"));
}

#[test]
fn an_ingested_file_is_kept_and_never_guessed_about() {
    // Promise: a manifest tells what it is; without one it is set aside whole, with what to do.
    let mut world = World::filled(12);
    let file = world.directory.path().join("made.sst");
    let mut writer = SortedFileWriter::create(&file, &common::keyspace_options()).unwrap();
    // In a keyspace of its own, where no compaction has a reason to rewrite it.
    let mut taken = BTreeMap::new();
    for (key, value) in [(b"key".to_vec(), b"new".to_vec()), (b"kez".to_vec(), b"1".to_vec())] {
        writer.put(&key, &value).unwrap();
        taken.insert(key, value);
    }
    world.model.insert("taken".to_owned(), taken);
    writer.finish().unwrap();
    let db = world.open();
    let keyspace = db.create_keyspace("taken", common::keyspace_options()).unwrap();
    keyspace.ingest(&[&file], &IngestOptions::default()).unwrap();
    drop(keyspace);
    db.close().unwrap();
    fs::remove_file(&file).unwrap();
    let path = world.path();
    let check = |world: &World| run(0, &["check", world.path().to_str().unwrap()]);
    check(&world);
    fs::remove_file(path.join("CURRENT")).unwrap();
    repair(&world);
    check(&world);
    assert!(world.contents() == world.model);

    world
        .files(|name| name.starts_with("MANIFEST"))
        .iter()
        .for_each(|m| fs::remove_file(m).unwrap());
    let told = repair(&world);
    assert!(told.contains("ingest it again"), "{told}");
    let lost = files(&path.join("lost-2"), |name| name.ends_with(".sst"));
    assert_eq!(lost.len(), 1, "{told}");
    let shown = run(0, &["table", lost[0].to_str().unwrap(), "--entries"]);
    assert!(shown.contains("outside of a database") && shown.contains("kez"), "{shown}");
    let db = world.open();
    let keyspace = db.create_keyspace("taken", common::keyspace_options()).unwrap();
    keyspace.ingest(&lost, &IngestOptions::default()).unwrap();
    drop(keyspace);
    db.close().unwrap();
    let taken = world.model.remove("taken").unwrap();
    let mut expected = renamed(&world.model);
    expected.insert("taken".to_owned(), taken);
    assert!(world.contents() == expected);
}

#[test]
fn a_manifest_that_was_cut_gives_what_it_still_says() {
    for (seed, keep_current) in [(4, true), (5, false), (6, true)] {
        let world = World::filled(seed);
        let manifest = world.files(|name| name.starts_with("MANIFEST")).pop().unwrap();
        let bytes = fs::read(&manifest).unwrap();
        fs::write(&manifest, &bytes[..bytes.len() / 2]).unwrap();
        if !keep_current {
            fs::remove_file(world.path().join("CURRENT")).unwrap();
        }
        repair(&world);
        let contents = world.contents();
        assert!(contents == world.model || contents == renamed(&world.model), "seed {seed}");
    }
}

#[test]
fn a_killed_database_that_wrote_little_is_replayed_from_its_ring() {
    // Guards: without a segment and without a manifest nothing but the ring says where the log stands.
    let mut world = World::new(7);
    let db = world.open();
    world.write(&db, 300, 2000);
    db.close().unwrap();
    let db = world.open();
    world.write(&db, 40, 2000);
    // A copy of an open database is what a kill leaves.
    let copy = world.directory.path().join("killed");
    fs::create_dir(&copy).unwrap();
    for path in world.files(|name| name != "CURRENT" && !name.starts_with("MANIFEST")) {
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    db.close().unwrap();
    fs::remove_dir_all(world.path()).unwrap();
    fs::rename(&copy, world.path()).unwrap();
    repair(&world);
    assert!(world.contents() == world.model);
}

#[test]
fn old_inputs_beside_the_outputs_of_a_compaction_change_nothing() {
    for seed in seeds(2) {
        let mut world = World::new(seed);
        let db = world.open();
        world.write(&db, 3000, 1500);
        db.flush().unwrap();
        let kept = world.directory.path().join("kept");
        // Links of all tables, from before the compaction.
        db.checkpoint(&kept).unwrap();
        db.compact().unwrap();
        world.write(&db, 300, 1500);
        db.close().unwrap();
        for path in files(&kept, |name| name.ends_with(".sst")) {
            let to = world.path().join(path.file_name().unwrap());
            if !to.exists() {
                fs::copy(&path, to).unwrap();
            }
        }
        fs::remove_file(world.path().join("CURRENT")).unwrap();
        world
            .files(|name| name.starts_with("MANIFEST"))
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
        repair(&world);
        assert!(world.contents() == world.model, "seed {seed}");
    }
}

#[test]
fn a_damaged_table_is_taken_out_and_kept() {
    let world = World::filled(10);
    let table = world.files(|name| name.ends_with(".sst")).pop().unwrap();
    flip(&table, 200);
    let name = table.file_name().unwrap().to_str().unwrap().to_owned();
    let told = repair(&world);
    assert!(told.contains(&format!("take out {name}")), "{told}");
    assert!(world.path().join("lost-1").join(&name).exists() && !table.exists());
    Db::open(world.path(), options()).unwrap().close().unwrap();
}

#[test]
fn a_damaged_log_keeps_every_record_that_can_be_read() {
    let mut world = World::new(11);
    let db = world.open();
    world.write(&db, 60, 2000);
    let before = world.model.clone();
    world.write(&db, 1, 2000);
    let bytes = world.files(|name| name.ends_with(".wal")).len();
    db.close().unwrap();
    println!("{bytes} segments");
    let path = world.path();
    let wal = run(0, &["--json", "wal", path.to_str().unwrap()]);
    let lines: Vec<serde_json::Value> =
        wal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.iter().rev().find(|line| line["sequence"].is_u64()).unwrap();
    let start = lines[0]["start"]["lsn"].as_u64().unwrap();
    let offset = 4096 + last["lsn"].as_u64().unwrap() - start;
    // The last record is damaged in both of its places.
    for path in world.files(|name| name.ends_with(".wal")) {
        flip(&path, offset + 20);
    }
    let ring = world.path().join("RING");
    let capacity = fs::metadata(&ring).unwrap().len() - 4096;
    flip(&ring, 4096 + last["lsn"].as_u64().unwrap() % capacity + 20);
    assert!(run(1, &["check", path.to_str().unwrap()]).contains("damaged"));
    let told = repair(&world);
    assert!(told.contains("go to a new log"), "{told}");
    assert!(world.contents() == before);
}

#[test]
fn a_sound_database_is_let_alone() {
    let world = World::filled(12);
    let path = world.path();
    let before: Vec<Vec<u8>> = world.files(|_| true).iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(run(0, &["repair", path.to_str().unwrap()]).contains("nothing to repair"));
    let after: Vec<Vec<u8>> = world.files(|_| true).iter().map(|p| fs::read(p).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn tables_that_contradict_each_other_are_merged() {
    // Guards: first-hit reads. Two tables, each newer than the other for one key, have no order; their entries have.
    let world = World::new(13);
    fs::create_dir(world.path()).unwrap();
    write_table(&world, 900, &[(b"a", 9, "newest"), (b"b", 2, "old"), (b"gone", 5, "old")]);
    write_table(&world, 901, &[(b"a", 3, "old"), (b"b", 8, "newest"), (b"gone", 7, "")]);
    let told = repair(&world);
    assert!(told.contains("a merge of 2 tables"), "{told}");
    let newest = |key: &[u8]| (key.to_vec(), b"newest".to_vec());
    assert_eq!(world.contents()["default"], [newest(b"a"), newest(b"b")].into());
}

#[test]
fn a_newer_entry_deep_in_the_tree_never_hides_one_above_it() {
    // Guards: the largest sequence number of a table is not its age. L5 has the newest entry of the keyspace, and an old one of `k`.
    let world = World::new(14);
    fs::create_dir(world.path()).unwrap();
    write_table(&world, 900, &[(b"k", 9, "newest")]);
    write_table(&world, 901, &[(b"a", 0, "newest"), (b"k", 3, "old"), (b"q", 20, "newest")]);
    repair(&world);
    let newest = |key: &[u8]| (key.to_vec(), b"newest".to_vec());
    let expected = [newest(b"a"), newest(b"k"), newest(b"q")];
    assert_eq!(world.contents()["default"], expected.into());
    let db = Db::open(world.path(), options()).unwrap();
    assert_eq!(db.get(b"k").unwrap().as_deref(), Some(&b"newest"[..]));
    db.close().unwrap();
}

/// A table of L5; an empty value is a tombstone.
fn write_table(world: &World, number: u64, entries: &[(&[u8], u64, &str)]) {
    let disk: Arc<dyn Disk> = Arc::new(PosixDisk::new());
    let path = name::table(&world.path(), FileNumber(number));
    let spec = TableSpec {
        table_id: number,
        block_bytes: 4096,
        compression: Compression::None,
        filter: FilterPolicy::Blocked { bits: 10 },
        prefix_bytes: None,
        keyspace: KeyspaceId(0),
        level: 5,
        direct: false,
        applied: 0,
    };
    let mut writer = TableWriter::create(&disk, &path, spec).unwrap();
    for (key, sequence, value) in entries {
        let kind = if value.is_empty() { Kind::Delete } else { Kind::Put };
        writer.add(key, Tag::new(*sequence, kind), value.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
}

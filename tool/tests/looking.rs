//! The commands that only look: what they print, and that they find every flipped bit in the right file.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod common;

use common::{World, flip, options, refusal, run};
use serde_json::Value;
use std::fs;
use std::path::Path;
use treering_lsm::{Db, WriteBatch};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A small database with known contents: a table, and a batch that is only in the log.
fn small() -> World {
    let world = World::new(0);
    let db = world.open();
    db.put(b"oak", b"600 years").unwrap();
    db.put(b"yew\x00\xff", b"2000").unwrap();
    db.delete(b"ash").unwrap();
    db.flush().unwrap();
    let ages = db.create_keyspace("ages", common::keyspace_options()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put(&ages, b"elm", b"300").unwrap();
    batch.delete(db.default_keyspace(), b"oak").unwrap();
    db.write(&batch, &Default::default()).unwrap();
    db.close().unwrap();
    world
}

#[test]
fn the_manifest_shows_edits_and_what_they_add_up_to() {
    let world = small();
    let path = world.path();
    let shown = run(0, &["manifest", text(&path)]);
    for part in
        ["make keyspace 1 \"ages\"", "+ 000002.sst to L0", "L0: 1 table", "\"ash\" to \"yew"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let document = &lines(&run(0, &["--json", "manifest", text(&path)]))[0];
    assert_eq!(document["keyspaces"][1]["name"], "ages");
    let manifest = world.files(|name| name.starts_with("MANIFEST")).pop().unwrap();
    assert!(run(0, &["manifest", text(&manifest)]).contains("in force"));
    flip(&manifest, 40);
    assert!(run(1, &["manifest", text(&manifest)]).contains("damaged"));
}

#[test]
fn the_log_shows_records_and_operations_and_its_end() {
    let world = small();
    let path = world.path();
    let shown = run(0, &["wal", text(&path), "--operations", "--values"]);
    for part in ["put keyspace 1 \"elm\" = \"300\"", "delete keyspace 0 \"oak\"", "clean end"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let end = lines(&run(0, &["wal", text(&path), "--json"])).pop().unwrap();
    assert_eq!((&end["records"], &end["operations"]), (&Value::from(1), &Value::from(2)));
    assert_eq!(end["end"]["why"], "clean end");
    fs::remove_file(path.join("RING")).unwrap();
    for segment in world.files(|name| name.ends_with(".wal")) {
        flip(&segment, 4100);
    }
    assert!(run(1, &["wal", text(&path)]).contains("damaged at LSN"));
}

#[test]
fn a_table_shows_properties_and_entries() {
    let world = small();
    let table = world.files(|name| name.ends_with(".sst")).pop().unwrap();
    let shown = run(0, &["table", text(&table), "--entries", "--verify"]);
    for part in [
        "1 tombstone",
        "blocked, 10 bits per key",
        "yew\\x00\\xff @2 put 4",
        "ash @3 delete 0",
        "sound",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let printed = lines(&run(0, &["table", text(&table), "--entries", "--json"]));
    assert_eq!(printed[0]["table"]["entries"], 3);
    assert_eq!(printed[2]["key"], "oak");
    // What the program prints as a key it takes as a key.
    assert_eq!(
        run(0, &["scan", text(&world.path()), "--from", "yew\\x00\\xff", "--keys-only"]),
        "yew\\x00\\xff\n"
    );
}

#[test]
fn a_clean_database_checks_and_every_flipped_bit_is_found_in_its_file() {
    // Promise: whatever byte of table, manifest or CURRENT is wrong, the check says so and names the file.
    let mut world = World::filled(21);
    let path = world.path();
    let shown = run(0, &["check", text(&path)]);
    assert!(shown.contains("sound"), "{shown}");
    let all = world.files(|_| true);
    let files: Vec<&str> = all.iter().map(|file| text(file)).collect();
    run(0, &[&["verify"], &files[..]].concat());
    for file in world
        .files(|name| name.ends_with(".sst") || name.starts_with("MANIFEST") || name == "CURRENT")
    {
        let intact = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        for _ in 0..2 {
            // The last mark of a manifest is promised to nobody; a table has four bytes that nobody reads.
            let at = world.chance.below(intact.len() as u64 * 3 / 4);
            flip(&file, at);
            let shown = run(1, &["check", text(&path)]);
            assert!(shown.contains(name), "{name} at {at}: {shown}");
            let shown = run(1, &["verify", text(&file)]);
            assert!(shown.contains("damaged") && shown.contains(name), "{shown}");
            fs::write(&file, &intact).unwrap();
        }
    }
    run(0, &["check", text(&path)]);
}

#[test]
fn a_damaged_log_is_found() {
    let world = small();
    let path = world.path();
    fs::remove_file(path.join("RING")).unwrap();
    let segment = world.files(|name| name.ends_with(".wal")).pop().unwrap();
    flip(&segment, 4100);
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(run(1, &["check", text(&path)]).contains(name));
    assert!(run(1, &["verify", text(&segment)]).contains("damaged"));
}

#[test]
fn missing_and_stray_files_are_named() {
    let world = small();
    let path = world.path();
    fs::write(path.join("000999.sst"), b"").unwrap();
    fs::write(path.join("notes"), b"").unwrap();
    let shown = run(0, &["check", text(&path)]);
    assert!(shown.contains("stray: 000999.sst") && shown.contains("stray: notes"), "{shown}");
    fs::remove_file(path.join("000002.sst")).unwrap();
    let document = &lines(&run(1, &["check", text(&path), "--json"]))[0];
    assert_eq!(document["verdict"], "damaged");
    assert_eq!(document["damage"][0]["file"], "000002.sst");
}

#[test]
fn an_open_database_is_refused() {
    let world = small();
    let db = world.open();
    let path = world.path();
    for command in ["check", "repair", "scan"] {
        assert!(refusal(&[command, text(&path)]).contains("is open elsewhere"), "{command}");
    }
    db.close().unwrap();
}

#[test]
fn a_checkpoint_that_was_never_opened_is_checked_without_a_change() {
    let world = small();
    let copy = world.directory.path().join("copy");
    let db = Db::open(world.path(), options()).unwrap();
    db.checkpoint(&copy).unwrap();
    db.close().unwrap();
    let before = common::files(&copy, |_| true);
    run(0, &["check", text(&copy)]);
    run(0, &["stats", text(&copy)]);
    assert_eq!(common::files(&copy, |_| true), before);
}

#[test]
fn stats_add_up() {
    let world = World::filled(22);
    let path = world.path();
    let shown = run(0, &["stats", text(&path)]);
    assert!(shown.contains("keyspace 1 \"other\"") && shown.contains("####"), "{shown}");
    let document = &lines(&run(0, &["stats", text(&path), "--json"]))[0];
    let check = &lines(&run(0, &["check", text(&path), "--json"]))[0];
    let levels = |keyspace: &Value| keyspace["levels"].as_array().unwrap().clone();
    let keyspaces = document["keyspaces"].as_array().unwrap();
    let entries: u64 =
        keyspaces.iter().flat_map(levels).map(|level| level["entries"].as_u64().unwrap()).sum();
    assert_eq!(Some(entries), check["entries"].as_u64());
    // What the tests of repair stand on: several levels.
    let used = levels(&keyspaces[0]).iter().filter(|level| level["tables"] != 0).count();
    assert!(used >= 3, "{shown}");
}

#[test]
fn a_scan_shows_what_was_asked_for() {
    let world = small();
    let path = world.path();
    let scan = |more: &[&str]| run(0, &[&["scan", text(&path)], more].concat());
    assert_eq!(scan(&[]), "yew\\x00\\xff = 2000\n");
    assert_eq!(scan(&["--keyspace", "ages"]), "elm = 300\n");
    assert_eq!(scan(&["--keyspace", "ages", "--hex"]), "656c6d = 333030\n");
    assert_eq!(scan(&["--keyspace", "ages", "--raw"]), "elm\t300\n");
    assert_eq!(scan(&["--keyspace", "ages", "--prefix", "\\x65", "--count"]), "1\n");
    assert_eq!(scan(&["--keyspace", "ages", "--to", "elm"]), "");
    assert_eq!(scan(&["--limit", "0"]), "");
    assert_eq!(lines(&scan(&["--json"]))[0]["key"], "yew\\x00\\xff");
    let said = refusal(&["scan", text(&path), "--keyspace", "age"]);
    assert!(said.contains("there are: default, ages"), "{said}");
}

#[test]
fn a_wrong_command_line_is_answered_with_what_is_right() {
    let world = small();
    let path = world.path();
    for (arguments, part) in [
        (&["chek", text(&path)][..], "'check'"),
        (&["scan", text(&path), "--from", "a\\q"], "begins none of"),
        (&["scan", text(&path), "--prefix", "a", "--from", "b"], "cannot be used with"),
        (&["wal", text(&path), "--values"], "--operations"),
        (&["check", "/nowhere/at/all"], "is not there"),
        (&["table", text(&path.join("CURRENT"))], "not named as a table is"),
        (&["verify"], "FILE"),
    ] {
        let said = refusal(arguments);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert!(run(0, &["repair", "--help"]).contains("may come back"));
    assert!(run(0, &["scan", "--help"]).contains("read-only"));
}

#[test]
fn change_files_are_checked_and_strange_ones_are_named() {
    let world = World::new(5);
    let mut options = common::options();
    options.change_log_bytes = 1 << 20;
    let db = treering_lsm::Db::open(world.path(), options).unwrap();
    for number in 0..2000u32 {
        db.put(&number.to_be_bytes(), &[1; 50]).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let path = world.path();
    run(0, &["check", text(&path)]);
    let files = world.files(|name| name.ends_with(".chg"));
    assert!(run(0, &["verify", text(&files[0])]).contains("commits, sequence numbers 1 to"));
    let stray = path.join("999999.chg");
    std::fs::copy(&files[0], &stray).unwrap();
    assert!(run(0, &["check", text(&path)]).contains("999999.chg (the manifest does not count it"));
    common::flip(&files[0], 60);
    run(1, &["verify", text(&files[0])]);
    assert!(run(1, &["check", text(&path)]).contains(".chg at offset 32"));
}

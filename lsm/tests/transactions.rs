//! Optimistic transactions: what they see, what they refuse, and what is left after a crash.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Chance, open, other_options, tiny_options};
use std::collections::BTreeMap;
use treering_lsm::io::sim::{Call, LossModel, SimDisk};
use treering_lsm::{Db, Durability, Error, Isolation, ReadOptions, Transaction, WriteOptions};

const ISOLATIONS: [Isolation; 2] = [Isolation::Snapshot, Isolation::Serializable];

fn fresh() -> Db {
    open(&SimDisk::new(1), &tiny_options()).unwrap()
}

fn commit(transaction: Transaction) -> Result<(), Error> {
    transaction.commit(&WriteOptions::default())
}

fn is_refused(transaction: Transaction) -> bool {
    match commit(transaction) {
        Ok(()) => false,
        Err(Error::Conflict { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_transaction_sees_its_own_writes_over_its_snapshot() {
    let db = fresh();
    let keyspace = db.default_keyspace();
    for name in ["a", "b", "c", "d"] {
        keyspace.put(name.as_bytes(), b"old").unwrap();
    }
    let mut transaction = db.transaction(Isolation::Serializable);
    keyspace.put(b"e", b"late").unwrap();
    transaction.put(keyspace, b"b", b"new").unwrap();
    transaction.put(keyspace, b"bb", b"new").unwrap();
    transaction.delete(keyspace, b"c").unwrap();
    transaction.delete(keyspace, b"z").unwrap();
    assert_eq!(transaction.get(keyspace, b"a").unwrap().unwrap(), b"old");
    assert_eq!(transaction.get(keyspace, b"b").unwrap().unwrap(), b"new");
    assert!(transaction.get(keyspace, b"c").unwrap().is_none());
    assert!(transaction.get(keyspace, b"e").unwrap().is_none());
    let keys = |transaction: &mut Transaction, from: &[u8], to: &[u8]| -> Vec<Vec<u8>> {
        transaction.range(keyspace, from..to).unwrap().map(|entry| entry.unwrap().0).collect()
    };
    assert_eq!(keys(&mut transaction, b"a", b"zz"), [&b"a"[..], b"b", b"bb", b"d"]);
    assert_eq!(keys(&mut transaction, b"b", b"c"), [&b"b"[..], b"bb"]);
    assert!(keys(&mut transaction, b"c", b"b").is_empty());
    assert!(keyspace.get(b"bb").unwrap().is_none(), "nobody else sees it before the commit");
}

#[test]
fn a_lost_update_is_refused_wherever_the_other_version_has_gone() {
    // Guards: a conflict is found in a memtable, in L0, after a compaction, and when the other commit was a delete.
    for isolation in ISOLATIONS {
        for moved in 0..4 {
            for is_delete in [false, true] {
                let db = fresh();
                db.put(b"k", b"0").unwrap();
                let mut loser = db.transaction(isolation);
                let mut winner = db.transaction(isolation);
                loser.put(db.default_keyspace(), b"k", b"loser").unwrap();
                match is_delete {
                    false => winner.put(db.default_keyspace(), b"k", b"winner").unwrap(),
                    true => winner.delete(db.default_keyspace(), b"k").unwrap(),
                }
                commit(winner).unwrap();
                if moved > 0 {
                    db.flush().unwrap();
                }
                if moved > 1 {
                    db.compact().unwrap();
                }
                if moved > 2 {
                    // Something newer of other keys on top.
                    db.put(b"j", b"1").unwrap();
                    db.flush().unwrap();
                }
                assert!(is_refused(loser), "{isolation:?}, moved {moved}, delete {is_delete}");
                let expected = (!is_delete).then_some(&b"winner"[..]);
                assert_eq!(db.get(b"k").unwrap().as_deref(), expected);
            }
        }
    }
}

#[test]
fn write_skew_passes_a_snapshot_and_not_a_serializable_transaction() {
    let skew = |isolation: Isolation, for_update: bool| {
        let db = fresh();
        let keyspace = db.default_keyspace().clone();
        let (mut one, mut two) = (db.transaction(isolation), db.transaction(isolation));
        for (transaction, read, written) in [(&mut one, b"a", b"b"), (&mut two, b"b", b"a")] {
            let found = match for_update {
                true => transaction.get_for_update(&keyspace, read),
                false => transaction.get(&keyspace, read),
            };
            assert!(found.unwrap().is_none());
            transaction.put(&keyspace, written, b"1").unwrap();
        }
        commit(one).unwrap();
        is_refused(two)
    };
    assert!(!skew(Isolation::Snapshot, false));
    assert!(skew(Isolation::Snapshot, true));
    assert!(skew(Isolation::Serializable, false));
}

#[test]
fn a_read_for_update_is_guarded_also_where_nothing_is_written() {
    for isolation in ISOLATIONS {
        let db = fresh();
        let keyspace = db.default_keyspace();
        let begin = || {
            let mut transaction = db.transaction(isolation);
            transaction.get_for_update(keyspace, b"lease").unwrap();
            transaction.get(keyspace, b"other").unwrap();
            transaction
        };
        let (quiet, beside, lost) = (begin(), begin(), begin());
        assert!(!is_refused(quiet));
        keyspace.put(b"other", b"1").unwrap();
        assert!(!is_refused(beside), "what was only read is the state at one moment");
        keyspace.put(b"lease", b"taken").unwrap();
        assert!(is_refused(lost));
    }
}

#[test]
fn a_range_that_cannot_be_read_on_ends_and_shows_no_own_writes_behind_the_gap() {
    let disk = SimDisk::new(1);
    let db = open(&disk, &tiny_options()).unwrap();
    let key = |number: u32| format!("key{number:04}").into_bytes();
    (0..2000).for_each(|number| db.put(&key(number), &[7; 200]).unwrap());
    db.compact().unwrap();
    let keyspace = db.default_keyspace();
    for from_the_start in [false, true] {
        let mut transaction = db.transaction(Isolation::Snapshot);
        transaction.put(keyspace, &key(1), b"own").unwrap();
        transaction.put(keyspace, b"zzz", b"own").unwrap();
        let mut range = transaction.range(keyspace, ..).unwrap();
        if !from_the_start {
            assert!(range.by_ref().take(3).all(|entry| entry.is_ok()));
        }
        let fired = disk.fired();
        disk.fail_matching(|call, _| call == Call::Read, libc::EIO, false);
        let rest: Vec<_> = range.by_ref().collect();
        disk.clear_faults();
        assert!(disk.fired() > fired);
        assert!(rest.last().unwrap().is_err(), "own writes follow the error");
        assert_eq!(rest.iter().filter(|entry| entry.is_err()).count(), 1);
        assert!(range.next().is_none());
    }
}

#[test]
fn a_phantom_is_a_conflict_of_a_serializable_transaction() {
    for flushed in [false, true] {
        let db = fresh();
        let keyspace = db.default_keyspace();
        let mut counts = db.transaction(Isolation::Serializable);
        let mut beside = db.transaction(Isolation::Serializable);
        let (from, to) = (&b"b"[..], &b"d"[..]);
        assert_eq!(counts.range(keyspace, from..to).unwrap().count(), 0);
        assert_eq!(beside.range(keyspace, to..).unwrap().count(), 0);
        counts.put(keyspace, b"count", b"0").unwrap();
        beside.put(keyspace, b"beside", b"0").unwrap();
        keyspace.put(b"c", b"phantom").unwrap();
        if flushed {
            db.flush().unwrap();
        }
        assert!(is_refused(counts));
        assert!(!is_refused(beside), "a change outside of its range is none of its business");
    }
}

#[test]
fn bad_input_changes_nothing_and_an_empty_transaction_commits() {
    let (db, other) = (fresh(), fresh());
    let mut transaction = db.transaction(Isolation::Snapshot);
    let refused = transaction.put(other.default_keyspace(), b"k", b"v");
    assert!(matches!(refused, Err(Error::InvalidOption { option: "transaction", .. })));
    let refused = transaction.put(db.default_keyspace(), b"", b"v");
    assert!(matches!(refused, Err(Error::KeyTooLarge { .. })));
    assert!(transaction.is_empty());
    db.put(b"k", b"v").unwrap();
    commit(transaction).unwrap();
    let mut late = db.transaction(Isolation::Snapshot);
    late.put(db.default_keyspace(), b"k", b"w").unwrap();
    db.close().unwrap();
    assert!(matches!(commit(late), Err(Error::Closed)));
}

type Map = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// A transaction of the model beside one of the database.
struct Running {
    real: Transaction,
    isolation: Isolation,
    begun: usize,
    snapshot: Map,
    writes: BTreeMap<(u8, Vec<u8>), Option<Vec<u8>>>,
    read: Vec<(u8, Vec<u8>, Vec<u8>)>,
}

/// What the changes since the beginning of a transaction mean for it.
fn conflicts(running: &Running, log: &[Vec<(u8, Vec<u8>)>]) -> bool {
    log[running.begun..].iter().flatten().any(|(keyspace, key)| {
        let reads =
            |(of, from, to): &(u8, Vec<u8>, Vec<u8>)| of == keyspace && from <= key && key < to;
        let is_read = running.read.iter().any(reads);
        running.writes.contains_key(&(*keyspace, key.clone()))
            || (running.isolation == Isolation::Serializable && is_read)
    })
}

/// Interleaved transactions and plain writes against a model that keeps a log of what every commit changed.
fn play(seed: u64, steps: usize) -> (usize, usize) {
    let mut chance = Chance(seed);
    let db = open(&SimDisk::new(seed), &tiny_options()).unwrap();
    let keyspaces =
        [db.default_keyspace().clone(), db.create_keyspace("other", other_options()).unwrap()];
    let mut state = Map::new();
    let mut log: Vec<Vec<(u8, Vec<u8>)>> = Vec::new();
    let mut running: Vec<Running> = Vec::new();
    let (mut committed, mut refused) = (0, 0);
    let draw = |chance: &mut Chance| {
        (chance.below(2) as u8, format!("key{:02}", chance.below(60)).into_bytes())
    };
    for step in 0..steps {
        let value =
            [format!("{step}:").into_bytes(), vec![b'v'; chance.below(300) as usize]].concat();
        match chance.below(24) {
            0..=3 if running.len() < 6 => {
                let isolation = ISOLATIONS[chance.below(2) as usize];
                running.push(Running {
                    real: db.transaction(isolation),
                    isolation,
                    begun: log.len(),
                    snapshot: state.clone(),
                    writes: BTreeMap::new(),
                    read: Vec::new(),
                });
            }
            4..=5 => {
                let (id, key) = draw(&mut chance);
                let keyspace = &keyspaces[usize::from(id)];
                match chance.one_in(3) {
                    true => {
                        keyspace.delete(&key).unwrap();
                        state.remove(&(id, key.clone()));
                    }
                    false => {
                        keyspace.put(&key, &value).unwrap();
                        state.insert((id, key.clone()), value);
                    }
                }
                log.push(vec![(id, key)]);
            }
            6 => drop(db.step().unwrap()),
            7 if chance.one_in(10) => db.flush().unwrap(),
            8 if chance.one_in(20) => db.compact().unwrap(),
            9..=14 if !running.is_empty() => {
                let at = chance.below(running.len() as u64) as usize;
                let one = &mut running[at];
                let (id, key) = draw(&mut chance);
                let keyspace = &keyspaces[usize::from(id)];
                match chance.one_in(4) {
                    true => {
                        one.real.delete(keyspace, &key).unwrap();
                        one.writes.insert((id, key), None);
                    }
                    false => {
                        one.real.put(keyspace, &key, &value).unwrap();
                        one.writes.insert((id, key), Some(value));
                    }
                }
            }
            15..=17 if !running.is_empty() => {
                let at = chance.below(running.len() as u64) as usize;
                let one = &mut running[at];
                let (id, key) = draw(&mut chance);
                let found = one.real.get(&keyspaces[usize::from(id)], &key).unwrap();
                let place = (id, key);
                let expected = match one.writes.get(&place) {
                    Some(own) => own.as_ref(),
                    None => one.snapshot.get(&place),
                };
                assert_eq!(
                    found.as_deref(),
                    expected.map(Vec::as_slice),
                    "seed {seed} step {step}"
                );
                if !one.writes.contains_key(&place) {
                    let end = [&place.1[..], &[0]].concat();
                    one.read.push((id, place.1, end));
                }
            }
            18 if !running.is_empty() => {
                let at = chance.below(running.len() as u64) as usize;
                let one = &mut running[at];
                let (id, from) = draw(&mut chance);
                let to = [&from[..4], b"9"].concat();
                let range =
                    one.real.range(&keyspaces[usize::from(id)], &from[..]..&to[..]).unwrap();
                let found: Vec<_> = range
                    .map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap())
                    .collect();
                let mut seen = one.snapshot.clone();
                for (place, own) in &one.writes {
                    match own {
                        Some(value) => seen.insert(place.clone(), value.clone()),
                        None => seen.remove(place),
                    };
                }
                let within = |(of, key): &(u8, Vec<u8>)| *of == id && from <= *key && *key < to;
                let expected: Vec<_> = seen
                    .into_iter()
                    .filter(|(place, _)| within(place))
                    .map(|((_, key), value)| (key, value))
                    .collect();
                assert_eq!(found, expected, "seed {seed} step {step}");
                one.read.push((id, from, to));
            }
            19..=20 if !running.is_empty() => {
                let at = chance.below(running.len() as u64) as usize;
                let one = running.swap_remove(at);
                let expected = !one.writes.is_empty() && conflicts(&one, &log);
                let writes = one.writes.clone();
                assert_eq!(is_refused(one.real), expected, "seed {seed} step {step}");
                refused += usize::from(expected);
                if !expected && !writes.is_empty() {
                    committed += 1;
                    log.push(writes.keys().cloned().collect());
                    for (place, own) in writes {
                        match own {
                            Some(value) => state.insert(place, value),
                            None => state.remove(&place),
                        };
                    }
                }
            }
            21 if !running.is_empty() => {
                let at = chance.below(running.len() as u64) as usize;
                running.swap_remove(at).real.rollback();
            }
            _ => {}
        }
    }
    drop(running);
    for (id, keyspace) in keyspaces.iter().enumerate() {
        let found = keyspace.range(.., &ReadOptions::default()).unwrap();
        let found: Vec<_> =
            found.map(|entry| entry.map(|(key, value)| (key, value.to_vec())).unwrap()).collect();
        let expected: Vec<_> = state
            .iter()
            .filter(|((of, _), _)| usize::from(*of) == id)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(found, expected, "seed {seed}");
    }
    (committed, refused)
}

#[test]
fn interleaved_transactions_do_what_a_model_does() {
    let (mut committed, mut refused) = (0, 0);
    for seed in 0..12 {
        let (more, fewer) = play(seed, 3000);
        committed += more;
        refused += fewer;
    }
    assert!(committed > 500 && refused > 300, "{committed} committed, {refused} refused");
}

#[test]
fn threads_that_count_together_lose_no_count() {
    // Guards: between the look for conflicts and the write nobody else can commit.
    const EACH: u32 = 300;
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open(directory.path(), tiny_options()).unwrap();
    let count = |found: Option<treering_lsm::PinnedSlice>| {
        found.map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()))
    };
    std::thread::scope(|scope| {
        for isolation in [Isolation::Snapshot, Isolation::Serializable, Isolation::Snapshot] {
            let db = &db;
            scope.spawn(move || {
                let mut done = 0;
                while done < EACH {
                    let mut transaction = db.transaction(isolation);
                    let before = count(transaction.get(db.default_keyspace(), b"count").unwrap());
                    let after = (before + 1).to_be_bytes();
                    transaction.put(db.default_keyspace(), b"count", &after).unwrap();
                    done += u32::from(!is_refused(transaction));
                }
            });
        }
    });
    assert_eq!(count(db.get(b"count").unwrap()), 3 * EACH);
}

#[test]
fn a_transaction_is_there_whole_or_not_at_all_after_a_crash() {
    // Guards: what a commit acknowledged survives as its class promises, and never a part of it.
    let mut whole = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let db = open(&disk, &tiny_options()).unwrap();
        let other = db.create_keyspace("other", other_options()).unwrap();
        let mut synced = 0u32;
        for number in 1..=20u32 {
            let mut transaction = db.transaction(Isolation::Serializable);
            let value = number.to_be_bytes();
            let before = transaction.get(&other, b"number").unwrap();
            assert_eq!(
                before.map_or(0, |v| u32::from_be_bytes(v[..].try_into().unwrap())),
                number - 1
            );
            transaction.put(db.default_keyspace(), b"number", &value).unwrap();
            transaction.put(&other, b"number", &value).unwrap();
            transaction.put(&other, format!("entry{number}").as_bytes(), &[7; 900]).unwrap();
            let is_sync = (u64::from(number) + seed).is_multiple_of(5);
            let durability = if is_sync { Durability::Sync } else { Durability::Buffered };
            transaction.commit(&WriteOptions { durability: Some(durability) }).unwrap();
            if is_sync {
                synced = number;
            }
            db.step().unwrap();
        }
        for image in [
            disk.after_power_cut(seed, LossModel::DropAll),
            disk.after_power_cut(seed + 1, LossModel::Random),
        ] {
            let db = open(&image, &tiny_options()).unwrap();
            let other = db.keyspace("other").unwrap();
            let number = |found: Option<treering_lsm::PinnedSlice>| {
                found.map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()))
            };
            let survived = number(other.get(b"number").unwrap());
            assert_eq!(survived, number(db.get(b"number").unwrap()), "seed {seed}");
            assert!(survived >= synced, "seed {seed}: {survived} of {synced}");
            for entry in 1..=20u32 {
                let found = other.get(format!("entry{entry}").as_bytes()).unwrap();
                assert_eq!(found.is_some(), entry <= survived, "seed {seed}");
            }
            whole += survived;
        }
    }
    assert!(whole > 0);
}

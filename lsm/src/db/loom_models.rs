//! Publication of commits, snapshots against flushes, and the life of a table, under every order of a few threads. See
//! base/sync.rs for how to run them.
//!
//! Views, memtables, snapshots, tables and burial are those of the engine; what stands for a flush is the real choice of versions,
//! written to another memtable instead of a table, for a table would be thousands of steps on the disk.

use crate::base::cursor::EntryCursor;
use crate::base::hash::key_hash;
use crate::base::key::{FileNumber, KeyspaceId, Kind, SequenceNumber, Tag};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{Mutex, check};
use crate::db::snapshot::Snapshots;
use crate::file::name;
use crate::format::table_info::TableInfo;
use crate::io::sim::{Call, SimDisk};
use crate::io::{Disk, OpenMode};
use crate::job::retain::{Retain, Verdict};
use crate::mem::arena::ArenaPool;
use crate::mem::budget::MemoryBudget;
use crate::mem::cache::BlockCache;
use crate::mem::generation::Generation;
use crate::version::shape::Shape;
use crate::version::table::{Table, TableContext};
use crate::version::view::{Current, View};
use loom::thread;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const KEY: &[u8] = b"key";

fn generation(number: u64, keyspaces: usize) -> Arc<Generation> {
    let arena = ArenaPool::new(16 << 10, 0).take(0).expect("memory for an arena");
    Arc::new(Generation::new(number, arena, &vec![Vec::new(); keyspaces]))
}

/// Puts the sequence number as the value of the key.
fn apply(generation: &Generation, keyspace: u32, sequence: SequenceNumber) {
    let tag = Tag::new(sequence, Kind::Put);
    let value = sequence.to_le_bytes();
    let fits = generation.insert(KeyspaceId(keyspace), KEY, key_hash(KEY), tag, &value);
    assert_eq!(fits, Some(true), "made with the generation");
}

/// The version of the key that a reader of `view` sees at `sequence`.
fn find(view: &View, keyspace: u32, sequence: SequenceNumber) -> Option<SequenceNumber> {
    let keyspace = KeyspaceId(keyspace);
    let mut memtables = view
        .generations()
        .filter(|generation| generation.may_hold(keyspace, key_hash(KEY)))
        .filter_map(|generation| generation.memtable(keyspace));
    memtables.find_map(|memtable| memtable.get(KEY, sequence)).map(|(tag, value)| {
        assert_eq!(value, tag.sequence().to_le_bytes());
        tag.sequence()
    })
}

fn freeze(current: &Current, next: &Arc<Generation>) {
    current.change(|view| View {
        active: Arc::clone(next),
        frozen: vec![Arc::clone(&view.active)],
        shapes: Vec::new(),
    });
}

/// Red if `Current::publish` stores Relaxed, if a commit publishes before it applies or publishes each operation by itself, or if
/// a commit goes into the new generation before the view has it.
#[test]
fn loom_a_reader_sees_all_of_a_batch_and_every_acknowledged_commit() {
    check("commit", 5, || {
        let first = generation(1, 2);
        let view = View { active: Arc::clone(&first), frozen: Vec::new(), shapes: Vec::new() };
        let current = Arc::new(Current::new(view, 0));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let committer = {
            let (current, acknowledged) = (Arc::clone(&current), Arc::clone(&acknowledged));
            thread::spawn(move || {
                let commit = |generation: &Generation, last: SequenceNumber| {
                    apply(generation, 0, last - 1);
                    apply(generation, 1, last);
                    current.publish(last);
                    acknowledged.store(last, Ordering::Release);
                };
                commit(&first, 2);
                let second = generation(2, 2);
                freeze(&current, &second);
                commit(&second, 4);
            })
        };
        let before = acknowledged.load(Ordering::Acquire);
        let (view, sequence) = current.read(None);
        let (left, right) = (find(&view, 0, sequence), find(&view, 1, sequence));
        assert_eq!(left.map(|left| left + 1), right, "half of a batch");
        assert!(right.unwrap_or(0) >= before, "an acknowledged commit is not seen");
        drop(view);
        committer.join().expect("the committer ends");
    });
}

/// What a flush leaves of a generation.
fn flush(frozen: &Generation, snapshots: Vec<SequenceNumber>) -> Arc<Generation> {
    let kept = generation(frozen.number(), 1);
    let mut retain = Retain::new(snapshots, false);
    let mut cursor = frozen.memtable(KeyspaceId(0)).expect("made with the generation").cursor();
    cursor.seek_to_first().expect("a memtable cursor does not fail");
    let mut same_key = false;
    while cursor.valid() {
        let verdict = retain.decide(cursor.key(), same_key, cursor.tag(), || true);
        if matches!(verdict, Verdict::Keep | Verdict::KeepOld) {
            apply(&kept, 0, cursor.tag().sequence());
        }
        same_key = true;
        cursor.next().expect("a memtable cursor does not fail");
    }
    kept
}

/// Red if `Snapshots::take` reads the visible number outside its lock, if a flush lists the snapshots before the last commit of its
/// generation is visible, or if `Current::read` takes the number first and the view second.
#[test]
fn loom_no_flush_drops_what_a_reader_or_a_snapshot_must_see() {
    check("snapshot", 4, || {
        let active = generation(1, 1);
        apply(&active, 0, 1);
        let view = View { active: Arc::clone(&active), frozen: Vec::new(), shapes: Vec::new() };
        let current = Arc::new(Current::new(view, 1));
        let snapshots = Arc::new(Snapshots::default());
        let writer = {
            let (current, snapshots) = (Arc::clone(&current), Arc::clone(&snapshots));
            thread::spawn(move || {
                apply(&active, 0, 2);
                current.publish(2);
                freeze(&current, &generation(2, 1));
                let kept = flush(&active, snapshots.list());
                current.change(|view| View { frozen: vec![kept], ..view.clone() });
            })
        };
        let (view, sequence) = current.read(None);
        assert_eq!(find(&view, 0, sequence), Some(sequence), "a reader without a snapshot");
        drop(view);
        let snapshot = snapshots.take(&current);
        let (view, sequence) = current.read(Some(snapshot.sequence()));
        assert_eq!(find(&view, 0, sequence), Some(sequence), "a snapshot");
        drop(view);
        writer.join().expect("the writer ends");
        let (view, _) = current.read(None);
        assert_eq!(find(&view, 0, sequence), Some(sequence), "a snapshot, later");
    });
}

/// Red if a table goes to the graveyard when it is marked and not when it is dropped, if it is marked only after the view has
/// let go of it (nobody buries it), or if a reader lets go of the view before it opens the table.
#[test]
fn loom_a_table_is_unlinked_once_and_never_under_a_reader() {
    check("table", 4, || {
        let disk = SimDisk::new(1);
        let directory = PathBuf::from("/db");
        disk.create_directory(&directory).expect("a simulated disk");
        let note: Arc<std::sync::Mutex<Vec<PathBuf>>> = Arc::default();
        {
            let note = Arc::clone(&note);
            let watch = move |call: Call, path: &Path| {
                if call == Call::Remove {
                    note.lock().expect("no holder panics").push(path.to_owned());
                }
                false
            };
            disk.fail_matching(watch, libc::EIO, false);
        }
        let budget = MemoryBudget::new(4 << 20);
        let context = Arc::new(TableContext {
            disk: Arc::new(disk.clone()),
            directory: directory.clone(),
            direct: false,
            cache: BlockCache::new(Arc::clone(&budget)),
            budget,
            graveyard: Mutex::default(),
        });
        let table = |number: u64| {
            disk.open(&name::table(&directory, FileNumber(number)), OpenMode::CREATE)
                .expect("a new file");
            let info = TableInfo { table_id: number, sequence_max: number, ..TableInfo::default() };
            Arc::new(Table::new(info, Arc::clone(&context)))
        };
        let shape = Shape::default().apply(&[], &[(0, table(1))], &directory).expect("a shape");
        let (old, new) = (Arc::new(shape), table(2));
        let view = View {
            active: generation(1, 0),
            frozen: Vec::new(),
            shapes: vec![Some(Arc::clone(&old))],
        };
        let current = Arc::new(Current::new(view, 0));
        let compaction = {
            let (current, context, directory) =
                (Arc::clone(&current), Arc::clone(&context), directory.clone());
            thread::spawn(move || {
                let gone = Arc::clone(&old.level(0).tables()[0]);
                let shape =
                    old.apply(&[(0, FileNumber(1))], &[(0, new)], &directory).expect("a shape");
                drop(old);
                gone.mark_obsolete();
                drop(gone);
                current.change(|view| View { shapes: vec![Some(Arc::new(shape))], ..view.clone() });
                while context.bury_one().is_some() {}
            })
        };
        let read = {
            let (current, context) = (Arc::clone(&current), Arc::clone(&context));
            move || {
                let view = current.view();
                for table in view.shapes[0].as_ref().expect("it is there").level(0).tables() {
                    let path = name::table(&context.directory, table.number());
                    let opened = context.disk.open(&path, OpenMode::READ);
                    assert!(opened.is_ok(), "{} is gone under a reader", path.display());
                }
                drop(view);
                while context.bury_one().is_some() {}
            }
        };
        let reader = thread::spawn(read.clone());
        read();
        reader.join().expect("the reader ends");
        compaction.join().expect("the compaction ends");
        while context.bury_one().is_some() {}
        let removed = note.lock().expect("no holder panics").clone();
        assert_eq!(removed, [name::table(&directory, FileNumber(1))]);
    });
}

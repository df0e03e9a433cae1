//! The memtable under every order of one applier and one or two readers. A leaf has four slots and a tower two levels here; all else is
//! the code that runs. See base/sync.rs for how to run them.

use crate::base::cursor::EntryCursor;
use crate::base::key::{Kind, Tag};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::check;
use crate::mem::arena::ArenaPool;
use crate::mem::leaf::LEAF_SLOTS;
use crate::mem::memtable::Memtable;
use loom::thread;
use std::sync::Arc;

/// A memtable, and how many of its keys are known to be published.
struct World {
    memtable: Arc<Memtable>,
    published: AtomicU64,
    keys: Vec<&'static [u8]>,
}

impl World {
    /// The first `before` keys are there when the threads start.
    fn new(prefix: &[u8], keys: &[&'static [u8]], before: usize) -> Arc<World> {
        let arena = ArenaPool::new(16 << 10, 0).take(0).expect("memory for an arena");
        let memtable = Arc::new(Memtable::new(arena, prefix));
        let world = World { memtable, published: AtomicU64::new(0), keys: keys.to_vec() };
        (0..before).for_each(|at| world.insert(at));
        Arc::new(world)
    }

    fn insert(&self, at: usize) {
        let tag = Tag::new(at as u64 + 1, Kind::Put);
        assert!(self.memtable.insert(self.keys[at], tag, &[at as u8]));
        self.published.store(at as u64 + 1, Ordering::Release);
    }

    /// Whatever is found under a key is what was put there; what is published is found.
    fn look_up(&self, at: usize) {
        let published = self.published.load(Ordering::Acquire) as usize;
        match self.memtable.get(self.keys[at], u64::MAX >> 8) {
            Some((tag, value)) => {
                assert_eq!((tag.sequence(), value), (at as u64 + 1, &[at as u8][..]))
            }
            None => assert!(at >= published, "key {at} of {published} is not found"),
        }
    }

    /// A cursor meets each key once, in order, and those that are published.
    fn walk(&self) {
        let published = self.published.load(Ordering::Acquire) as usize;
        let mut cursor = self.memtable.cursor();
        cursor.seek_to_first().expect("a memtable cursor does not fail");
        let mut met: Vec<Vec<u8>> = Vec::new();
        while cursor.valid() {
            assert!(met.last().is_none_or(|last| &last[..] < cursor.key()), "out of order");
            met.push(cursor.key().to_vec());
            cursor.next().expect("a memtable cursor does not fail");
        }
        for key in &self.keys[..published] {
            assert!(met.iter().any(|other| other == key), "a published key is not met");
        }
    }
}

fn run(world: &Arc<World>, before: usize, look: fn(&World), other_look: Option<fn(&World)>) {
    let applier = Arc::clone(world);
    let applier =
        thread::spawn(move || (before..applier.keys.len()).for_each(|at| applier.insert(at)));
    let other = other_look.map(|look| {
        let world = Arc::clone(world);
        thread::spawn(move || look(&world))
    });
    look(world);
    other.into_iter().for_each(|other| other.join().expect("the other reader ends"));
    applier.join().expect("the applier ends");
    (0..world.keys.len()).for_each(|at| world.look_up(at));
}

/// Red if `Leaf::append` stores `count` Relaxed (the reader looks into a slot that is being written), if `Skiplist::split` swings the
/// left leaf before it links the right tower, or if `set_leaf`, `publish` or `publish_root` store Relaxed.
#[test]
fn loom_a_reader_finds_what_is_published_while_its_leaf_splits() {
    check("search", 3, || {
        // The order of arrival is not the order of keys, so that the full leaf is split and not extended.
        let world = World::new(b"", &[b"d", b"a", b"c", b"b", b"e"], LEAF_SLOTS - 1);
        let look = |world: &World| {
            world.look_up(3);
            world.look_up(0);
            world.look_up(4);
        };
        run(&world, LEAF_SLOTS - 1, look, Some(|world| world.look_up(4)));
    });
}

/// Red if the cursor takes the tower after a leaf before the leaf, or does not cut the copy of a leaf at that tower.
#[test]
fn loom_a_cursor_meets_every_key_once_while_a_leaf_splits() {
    check("walk", 5, || {
        let world = World::new(b"", &[b"d", b"a", b"c", b"b", b"e"], LEAF_SLOTS - 1);
        run(&world, LEAF_SLOTS - 1, |world| world.walk(), None);
    });
}

/// Red if `publish_root` stores Relaxed, or if `rebuild` publishes its root before the last leaf is in.
#[test]
fn loom_a_reader_finds_what_is_published_while_the_index_is_rebuilt() {
    check("rebuild", 3, || {
        // Three keys have left the prefix that the list was told to expect.
        let world = World::new(b"user", &[b"user1", b"b", b"user0", b"a", b"c"], LEAF_SLOTS);
        let look = |world: &World| {
            world.look_up(1);
            world.look_up(4);
            world.look_up(0);
        };
        run(&world, LEAF_SLOTS, look, Some(|world| world.look_up(1)));
    });
}

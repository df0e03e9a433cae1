//! The unrolled skiplist: towers over append-only leaves.
//!
//! ```text
//!   level 2   [first]--------------------------------------->[k57]------------------>
//!   level 1   [first]--------------->[k31]------------------>[k57]------------------>
//!   level 0   [first]------>[k12]--->[k31]------>[k40]------>[k57]------>[k88]------>      towers, p = 1/2
//!                |            |        |           |           |           |
//!             k3 k9 k1     k12 k30   k31 k35    k40 k44     k57 k80     k88 k90            leaves: 128 slots in order of arrival,
//!                            k19                  k41         k60                          each slot an 8-byte head and an offset
//! ```
//!
//! The cost of a skiplist with one node per key is its chain of cache misses, about 1,300 ns an insert at half a million entries.
//! Here the upper index has one tower for some 90 entries and stays in L2, and a leaf is searched by one vector scan over its
//! heads: see memtable.rs for what it measures.
//!
//! **The leaf of a tower** holds the entries from the tower's separator up to the next tower's. An insert appends to it. When it
//! is full, it is split: its slots are sorted, two new leaves of 64 are written, a tower for the right one is linked in, and then
//! the old tower is swung to the left one. A full sorted leaf that would get a larger entry (ascending load) is left as it is,
//! once, and the new entry starts a leaf of its own, so that ascending load fills its leaves.
//!
//! Promises (one applier, any number of readers without locks):
//! 1. A published slot, separator or prefix never changes (see leaf.rs, tower.rs). A leaf replaced by a split stays as it is until
//!    the memtable is dropped; it holds everything of both halves up to the split.
//! 2. A right tower is linked (level 0 first) before the left leaf is swung. A reader loads the leaf (Acquire) before it looks at
//!    the link on level 0: if the leaf is the new left one, the link to the right one is seen, and a larger key moves on to it.
//! 3. So a reader that starts after an insert has returned (with a happens-before edge, such as the published sequence number)
//!    finds the entry; entries inserted meanwhile it may or may not find.
//! 4. An insert fits if `used() + insert_bytes(..) <= capacity()`, whatever it makes necessary. Splits are paid in advance: each
//!    entry beyond the 64th of a leaf reserves its share of three leaves in the arena (two for a split, one for an ascending start).
//! 5. The prefix (see prefix.rs) is the caller's hint until the first full leaf, which confirms it or teaches a better one. When
//!    more than 1/16 of the entries have left it, the index is rebuilt with a shorter one under a new [`Root`]; readers on
//!    the old root still have everything up to the change. Prefixes only get shorter, so this ends. Rebuilt leaves come
//!    from the heap, not from the arena (promise 4).
//!
//! Left out: concurrent appliers (on two cores one applier on this structure beats two on a classic skiplist), deletion, and a
//! search finger for ascending load (nothing to win: the right edge of the towers is hot anyway).

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::base::key::{self, Tag};
use crate::base::random::Random;
use crate::base::sync::fine::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use crate::mem::arena::{Applier, Arena};
use crate::mem::entry::{Entry, EntryUnit};
use crate::mem::leaf::{HALF, LEAF_SLOTS, Leaf, SKIP_PREFIX};
use crate::mem::prefix::Prefix;
use crate::mem::tower::{HEIGHT_MAX, Link, Tower, TowerMemory};

/// Arena bytes that a leaf can cost, alignment included.
const LEAF_CHARGE: usize = size_of::<Leaf>() + align_of::<Leaf>() - 8;

/// What an entry pays in advance for splits (promise 4).
const SHARE: usize = (3 * LEAF_CHARGE).div_ceil(HALF);

/// Heads equal between neighbours with different keys, of 128, from which a leaf gets heads of its own.
const CROWDED: usize = 16;

/// Equal heads in a leaf from which a search by comparisons is better than a look at each.
const MANY: u32 = 8;

/// A slot for sorting: head above, entry below. Equal heads need a comparison of the entries.
pub(super) type Pair = u128;

#[inline]
fn pair(head: u64, entry: EntryUnit) -> Pair {
    u128::from(head) << 64 | u128::from(entry)
}

#[inline]
pub(super) fn pair_head(pair: Pair) -> u64 {
    (pair >> 64) as u64
}

#[inline]
pub(super) fn pair_entry(pair: Pair) -> EntryUnit {
    pair as EntryUnit
}

/// Sorted entries of one keyspace in an arena.
pub(super) struct Skiplist {
    arena: Arc<Arena>,
    root: AtomicPtr<Root>,
    len: AtomicU64,
    index_bytes: AtomicUsize,
    /// Some entry came with a tag not above all earlier ones, so order of arrival is not order of tags.
    disordered: AtomicBool,
    writer: UnsafeCell<Writer>,
}

/// The index under one prefix.
pub(super) struct Root {
    pub(super) prefix: Prefix,
    pub(super) first: Tower,
    /// Levels in use; a reader may see an older number, and is only slower for it.
    pub(super) height: AtomicUsize,
}

/// What only the applier uses.
pub(super) struct Writer {
    pub(super) memory: TowerMemory,
    /// Every root so far, freed with the list.
    pub(super) roots: Vec<NonNull<Root>>,
    pub(super) hint: Prefix,
    pub(super) tag_max: Tag,
    pub(super) random: Random,
    /// Bytes reserved in the arena for the splits of this list's leaves.
    pub(super) reserved: usize,
    /// Entries that do not begin with the prefix.
    pub(super) strangers: u64,
    /// The prefix has been confirmed or learned.
    pub(super) settled: bool,
    /// Entries at which learning is tried again.
    pub(super) learn_at: u64,
}

/// Where a search has ended: the leaf that holds the place, its tower, and the tower after it, which is not passed.
#[derive(Clone, Copy)]
pub(super) struct Position<'a> {
    pub(super) tower: Tower,
    pub(super) leaf: &'a Leaf,
    pub(super) next: Option<Tower>,
}

// SAFETY: `writer` is used only under the arena's applier guard, which excludes a second thread; everything that readers share
// is atomic or constant once published (promises 1 and 2). Test: readers_find_everything_that_they_know_is_published.
unsafe impl Sync for Skiplist {}
// SAFETY: the list owns its roots and towers; nothing is tied to a thread.
unsafe impl Send for Skiplist {}

impl Skiplist {
    /// An empty list; allocates nothing until the first insert.
    pub(super) fn new(arena: Arc<Arena>, hint: Prefix) -> Skiplist {
        Skiplist {
            arena,
            root: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicU64::new(0),
            index_bytes: AtomicUsize::new(0),
            disordered: AtomicBool::new(false),
            writer: UnsafeCell::new(Writer {
                memory: TowerMemory::default(),
                roots: Vec::new(),
                hint,
                tag_max: Tag(0),
                random: Random::new(0x7472_6565_7269_6e67),
                reserved: 0,
                strangers: 0,
                settled: false,
                learn_at: 0,
            }),
        }
    }

    /// Arena bytes with which an insert is sure to fit (promise 4).
    pub(super) const fn insert_bytes(key_len: usize, value_len: usize) -> usize {
        Entry::bytes(key_len, value_len) + SHARE
    }

    /// Entries.
    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Heap bytes of towers and rebuilt leaves.
    pub(super) fn index_bytes(&self) -> usize {
        self.index_bytes.load(Ordering::Relaxed)
    }

    /// Base of the arena.
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.arena.base()
    }

    /// The entry at a unit that a published slot or tower has named.
    #[inline]
    pub(super) fn entry(&self, unit: EntryUnit) -> Entry<'_> {
        // SAFETY: units come from slots and towers of this list, which were published (Release) after the entry was written,
        // and the list holds the arena.
        unsafe { Entry::at(self.arena.base(), unit) }
    }

    /// The index as it is now; `None` before the first insert.
    #[inline]
    pub(super) fn root(&self) -> Option<&Root> {
        // SAFETY: roots are published complete (Release) and freed only with the list.
        unsafe { self.root.load(Ordering::Acquire).as_ref() }
    }

    /// The prefix in use, if it serves the keys so far: the hint for the next list.
    pub(super) fn prefix(&self) -> Option<&Prefix> {
        self.root().map(|root| &root.prefix)
    }

    /// The first tower, and its leaf.
    pub(super) fn first<'a>(&'a self, root: &'a Root) -> Position<'a> {
        self.at(root.first)
    }

    /// The last tower, and its leaf.
    pub(super) fn last<'a>(&'a self, root: &'a Root) -> Position<'a> {
        let mut tower = root.first;
        for level in (1..root.height.load(Ordering::Acquire)).rev() {
            // SAFETY: met on this level or a higher one.
            while let Some(next) = unsafe { tower.link(level) }.next() {
                tower = next;
            }
        }
        loop {
            let position = self.at(tower);
            match position.next {
                Some(next) => tower = next,
                None => return position,
            }
        }
    }

    /// The head of `key` in `leaf`.
    pub(super) fn leaf_head(&self, root: &Root, leaf: &Leaf, key: &[u8]) -> u64 {
        leaf.head(key, root.prefix.head(key))
    }

    /// The leaf of a tower of this list, and the tower after it.
    #[inline]
    pub(super) fn at(&self, tower: Tower) -> Position<'_> {
        let leaf = self.leaf(tower);
        // SAFETY: every tower has level 0.
        Position { tower, leaf, next: unsafe { tower.link(0) }.next() }
    }

    #[inline]
    fn leaf(&self, tower: Tower) -> &Leaf {
        // SAFETY: leaves are published complete (Release) and live as long as the list and its arena (promise 1).
        unsafe { &*tower.leaf() }
    }

    /// Finds the last tower whose separator is not after (`key`, `tag`).
    #[inline]
    pub(super) fn descend<'a>(&'a self, root: &'a Root, key: &[u8], tag: Tag) -> Position<'a> {
        self.descend_to(root, &Target { head: root.prefix.head(key), key, tag })
    }

    #[inline]
    fn descend_to<'a>(&'a self, root: &'a Root, target: &Target<'_>) -> Position<'a> {
        let mut tower = root.first;
        let mut refused = None;
        for level in (1..root.height.load(Ordering::Acquire)).rev() {
            // SAFETY: the search met `tower` on this level or a higher one.
            while let Ok(next) = self.step(unsafe { tower.link(level) }, &mut refused, target) {
                tower = next;
            }
        }
        loop {
            let leaf = self.leaf(tower);
            // SAFETY: every tower has level 0. The leaf was loaded before (promise 2).
            match self.step(unsafe { tower.link(0) }, &mut refused, target) {
                Ok(next) => tower = next,
                Err(next) => return Position { tower, leaf, next },
            }
        }
    }

    /// `Ok` with the neighbour behind `link` if it is not after the target, else `Err` with it. `refused` is the neighbour that was
    /// last found to be after the target, so that it is not compared again one level lower.
    #[inline]
    fn step(
        &self,
        link: &Link,
        refused: &mut Option<Tower>,
        target: &Target<'_>,
    ) -> Result<Tower, Option<Tower>> {
        let next = link.next();
        match next {
            Some(tower) if target.head >= link.hint() && next != *refused => {
                if self.stands_after(tower, target) {
                    *refused = next;
                    return Err(next);
                }
                Ok(tower)
            }
            _ => Err(next),
        }
    }

    /// True if the separator of `tower` sorts after the target.
    #[inline]
    fn stands_after(&self, tower: Tower, target: &Target<'_>) -> bool {
        if tower.head() != target.head {
            return tower.head() > target.head;
        }
        self.entry(tower.entry()).compare(target.key, target.tag).is_gt()
    }

    /// The newest version of `key` with a tag not above `tag`.
    #[inline]
    pub(super) fn find(&self, key: &[u8], tag: Tag) -> Option<Entry<'_>> {
        let root = self.root()?;
        let target = Target { head: root.prefix.head(key), key, tag };
        let Position { leaf, next, .. } = self.descend_to(root, &target);
        leaf.prefetch_heads();
        let count = leaf.count();
        let found = self.find_in_leaf(leaf, count, &target);
        if found.is_some() {
            return found;
        }
        // All versions in this leaf are newer: then the next one, if there is one, is the next separator.
        let next = next?;
        if next.head() != target.head {
            return None;
        }
        let entry = self.entry(next.entry());
        (entry.key() == key && entry.tag() <= tag).then_some(entry)
    }

    #[inline]
    fn find_in_leaf(&self, leaf: &Leaf, count: usize, target: &Target<'_>) -> Option<Entry<'_>> {
        let mut matches = leaf.matches(count, leaf.head(target.key, target.head));
        if matches.count_ones() > MANY {
            return self.find_among_many(leaf, count, matches, target);
        }
        let entries = leaf.entries(count);
        let mut best: Option<Entry<'_>> = None;
        while matches != 0 {
            let entry = self.entry(entries[matches.trailing_zeros() as usize]);
            matches &= matches - 1;
            best = better(best, entry, target);
        }
        best
    }

    /// The same where heads say little, as in a leaf full of versions of one key. The slots in order of arrival are looked at from
    /// the newest; as long as tags have come in order, the first that fits is the answer. The sorted slots are older (promise 2 of
    /// leaf.rs: they were there at the split, or came first) and are searched by comparison.
    #[cold]
    fn find_among_many(
        &self,
        leaf: &Leaf,
        count: usize,
        matches: u128,
        target: &Target<'_>,
    ) -> Option<Entry<'_>> {
        let sorted = leaf.sorted(count);
        let entries = leaf.entries(count);
        let disordered = self.disordered.load(Ordering::Relaxed);
        let mut best = None;
        for slot in (sorted..count).rev().filter(|&slot| matches >> slot & 1 == 1) {
            best = better(best, self.entry(entries[slot]), target);
            if best.is_some() && !disordered {
                return best;
            }
        }
        let at = entries[..sorted]
            .partition_point(|&unit| self.entry(unit).compare(target.key, target.tag).is_lt());
        match entries[..sorted].get(at) {
            Some(&unit) => better(best, self.entry(unit), target),
            None => best,
        }
    }

    /// Copies the first `count` slots of `leaf` into `pairs`, in the order of entries.
    pub(super) fn sort_leaf(&self, leaf: &Leaf, count: usize, pairs: &mut [Pair; LEAF_SLOTS]) {
        let sorted = leaf.sorted(count);
        let slots = leaf.heads(count).iter().zip(leaf.entries(count));
        if sorted == count {
            for (place, (&head, &entry)) in pairs.iter_mut().zip(slots) {
                *place = pair(head, entry);
            }
            return;
        }
        let mut unordered = [0; LEAF_SLOTS];
        for (place, (&head, &entry)) in unordered.iter_mut().zip(slots) {
            *place = pair(head, entry);
        }
        unordered[sorted..count].sort_unstable();
        merge(&unordered[..sorted], &unordered[sorted..count], &mut pairs[..count]);
        // Runs of equal heads are in no order yet.
        let mut start = 0;
        for run in pairs[..count].chunk_by_mut(|left, right| pair_head(*left) == pair_head(*right))
        {
            start += run.len();
            if run.len() > 1 {
                run.sort_unstable_by(|&left, &right| {
                    let right = self.entry(pair_entry(right));
                    self.entry(pair_entry(left)).compare(right.key(), right.tag())
                });
            }
        }
        debug_assert_eq!(start, count);
    }

    /// Inserts an entry; false if the arena is full, and then nothing has changed.
    pub(super) fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) -> bool {
        let applier = self.arena.applier();
        if !applier.has_room(Self::insert_bytes(key.len(), value.len())) {
            return false;
        }
        let Some(entry) = Entry::write(&applier, key, tag, value) else { return false };
        // SAFETY: the applier guard excludes every other insert, and only inserts use the writer's part.
        let writer = unsafe { &mut *self.writer.get() };
        if tag <= writer.tag_max {
            self.disordered.store(true, Ordering::Relaxed);
        }
        writer.tag_max = writer.tag_max.max(tag);
        let mut root = self.root().unwrap_or_else(|| self.plant(writer));
        let mut target = Target { head: root.prefix.head(key), key, tag };
        let mut position = self.descend_to(root, &target);
        let mut count = position.leaf.count();
        if count == LEAF_SLOTS {
            if let Some(better) = self.improve_prefix(&applier, writer, root, position.leaf) {
                root = better;
                target.head = root.prefix.head(key);
                position = self.descend_to(root, &target);
                count = position.leaf.count();
            }
            if count == LEAF_SLOTS {
                match self.split(&applier, writer, root, position, entry, &target) {
                    Split::Halves(half) => (position, count) = (half, half.leaf.count()),
                    Split::Extended => return self.note_insert(writer, root, &target),
                    Split::Full => return false,
                }
            }
        }
        let leaf = position.leaf;
        let head = leaf.head(key, target.head);
        let ascending = leaf.sorted(count) == count && self.is_above(leaf, count, head, &target);
        if count >= HALF {
            applier.reserve(SHARE);
            writer.reserved += SHARE;
        }
        // SAFETY: we hold the applier guard, and the leaf is not full.
        unsafe { leaf.append(count, head, entry, ascending) };
        self.note_insert(writer, root, &target)
    }

    #[inline]
    fn note_insert(&self, writer: &mut Writer, root: &Root, target: &Target<'_>) -> bool {
        // Only the extreme heads can be those of strangers.
        let extreme = target.head == 0 || target.head == u64::MAX;
        writer.strangers += u64::from(extreme && !root.prefix.fits(target.key));
        self.len.store(self.len.load(Ordering::Relaxed) + 1, Ordering::Release);
        true
    }

    /// True if the target sorts after the last of `count` sorted slots.
    #[inline]
    fn is_above(&self, leaf: &Leaf, count: usize, head: u64, target: &Target<'_>) -> bool {
        let Some(&last) = leaf.heads(count).last() else { return true };
        if last != head {
            return last < head;
        }
        let entry = self.entry(leaf.entries(count)[count - 1]);
        entry.compare(target.key, target.tag).is_lt()
    }

    /// Makes the first root: one tower, one empty leaf, the hint as prefix.
    #[cold]
    fn plant(&self, writer: &mut Writer) -> &Root {
        let at = writer.memory.leaf();
        // SAFETY: fresh memory of this list.
        let leaf = unsafe { Leaf::create(at, SKIP_PREFIX, [].into_iter()) };
        let first = writer.memory.tower(HEIGHT_MAX, 0, 0, leaf);
        let prefix = writer.hint.clone();
        self.publish_root(writer, Root { prefix, first, height: AtomicUsize::new(1) })
    }

    pub(super) fn publish_root(&self, writer: &mut Writer, root: Root) -> &Root {
        let root = NonNull::from(Box::leak(Box::new(root)));
        writer.roots.push(root);
        self.index_bytes.store(writer.memory.bytes(), Ordering::Relaxed);
        self.root.store(root.as_ptr(), Ordering::Release);
        // SAFETY: just made, and freed only with the list.
        unsafe { &*root.as_ptr() }
    }

    /// Makes place for the target, which belongs into the full leaf of `position`.
    #[cold]
    fn split<'a>(
        &'a self,
        applier: &Applier<'_>,
        writer: &mut Writer,
        root: &'a Root,
        position: Position<'a>,
        entry: EntryUnit,
        target: &Target<'_>,
    ) -> Split<'a> {
        let Position { tower, leaf, next } = position;
        let head = leaf.head(target.key, target.head);
        if !leaf.extended()
            && leaf.sorted(LEAF_SLOTS) == LEAF_SLOTS
            && self.is_above(leaf, LEAF_SLOTS, head, target)
        {
            let slots = [pair(head, entry)];
            let Some(right) = self.new_leaf(applier, writer, LEAF_CHARGE, leaf.skip(), &slots)
            else {
                return Split::Full;
            };
            leaf.set_extended();
            self.link(writer, root, entry, right);
            return Split::Extended;
        }
        let mut pairs = [0; LEAF_SLOTS];
        self.sort_leaf(leaf, LEAF_SLOTS, &mut pairs);
        let (lower, upper) = pairs.split_at_mut(HALF);
        let separator = pair_entry(upper[0]);
        let (mut lower_skip, mut upper_skip) = (leaf.skip(), leaf.skip());
        if self.is_crowded(lower) || self.is_crowded(upper) {
            let middle = self.entry(separator).key();
            if tower != root.first {
                let low = self.entry(tower.entry()).key();
                self.take_own_heads(lower, low, middle, &mut lower_skip);
            }
            if let Some(next) = next {
                let high = self.entry(next.entry()).key();
                self.take_own_heads(upper, middle, high, &mut upper_skip);
            }
        }
        // The leaf has paid 64 shares: three leaves, of which an extension has used up one.
        let paid = HALF * SHARE - if leaf.extended() { LEAF_CHARGE } else { 0 };
        let Some(left) = self.new_leaf(applier, writer, paid - LEAF_CHARGE, lower_skip, lower)
        else {
            return Split::Full;
        };
        let Some(right) = self.new_leaf(applier, writer, LEAF_CHARGE, upper_skip, upper) else {
            return Split::Full;
        };
        let added = self.link(writer, root, separator, right);
        tower.set_leaf(left);
        if self.stands_after(added, target) {
            Split::Halves(Position { tower, leaf: left, next: Some(added) })
        } else {
            Split::Halves(Position { tower: added, leaf: right, next })
        }
    }

    /// Allocates a leaf out of `paid` bytes of this list's reserve, all of which are released.
    fn new_leaf(
        &self,
        applier: &Applier<'_>,
        writer: &mut Writer,
        paid: usize,
        skip: u32,
        pairs: &[Pair],
    ) -> Option<&Leaf> {
        debug_assert!(paid >= LEAF_CHARGE && writer.reserved >= paid);
        applier.release(paid);
        writer.reserved -= paid;
        let at = applier.allocate(size_of::<Leaf>(), align_of::<Leaf>())?;
        let slots = pairs.iter().map(|&pair| (pair_head(pair), pair_entry(pair)));
        // SAFETY: just allocated with the size and alignment of a leaf, in the arena that the list holds.
        Some(unsafe { Leaf::create(at.cast().as_ptr(), skip, slots) })
    }

    /// True if the heads of sorted slots tell few of their keys apart.
    fn is_crowded(&self, pairs: &[Pair]) -> bool {
        let equal = |pair: &&[Pair]| pair_head(pair[0]) == pair_head(pair[1]);
        let key = |pair: Pair| self.entry(pair_entry(pair)).key();
        pairs.windows(2).filter(equal).filter(|pair| key(pair[0]) != key(pair[1])).count()
            >= CROWDED / 2
    }

    /// Gives a leaf for keys from `low` up to `high` heads of its own, after what these two share; so does every key in between.
    fn take_own_heads(&self, pairs: &mut [Pair], low: &[u8], high: &[u8], skip: &mut u32) {
        let shared = key::common_prefix(low, high);
        *skip = shared as u32;
        for place in pairs {
            let entry = pair_entry(*place);
            *place = pair(key::head(self.entry(entry).key(), shared), entry);
        }
    }

    /// Links a new tower for `leaf` into all its levels, lowest first.
    fn link(&self, writer: &mut Writer, root: &Root, separator: EntryUnit, leaf: &Leaf) -> Tower {
        let entry = self.entry(separator);
        let target =
            Target { head: root.prefix.head(entry.key()), key: entry.key(), tag: entry.tag() };
        let height = random_height(&mut writer.random);
        let added = writer.memory.tower(height, target.head, separator, leaf);
        let mut before = [root.first; HEIGHT_MAX];
        let mut tower = root.first;
        let mut refused = None;
        for level in (0..root.height.load(Ordering::Relaxed)).rev() {
            // SAFETY: as in `descend_to`.
            while let Ok(next) = self.step(unsafe { tower.link(level) }, &mut refused, &target) {
                tower = next;
            }
            before[level] = tower;
        }
        for (level, before) in before.iter().enumerate().take(height) {
            // SAFETY: `added` has `height` levels, the first tower has all, the others were met on this level.
            let (link, own) = unsafe { (before.link(level), added.link(level)) };
            own.copy(link);
            link.publish(added);
        }
        if height > root.height.load(Ordering::Relaxed) {
            root.height.store(height, Ordering::Release);
        }
        self.index_bytes.store(writer.memory.bytes(), Ordering::Relaxed);
        added
    }
}

impl Drop for Skiplist {
    fn drop(&mut self) {
        for &root in &self.writer.get_mut().roots {
            // SAFETY: leaked by `publish_root` and freed once, here, when nobody can reach the list any more.
            drop(unsafe { Box::from_raw(root.as_ptr()) });
        }
    }
}

/// What a search looks for.
struct Target<'k> {
    /// Head of `key` after the root's prefix.
    head: u64,
    key: &'k [u8],
    tag: Tag,
}

enum Split<'a> {
    /// The leaf was split; the entry belongs here.
    Halves(Position<'a>),
    /// A new leaf was started with the entry in it.
    Extended,
    /// The arena is full; promise 4 says that this does not happen.
    Full,
}

/// Height of a new tower, p = 1/2.
pub(super) fn random_height(random: &mut Random) -> usize {
    (1 + random.next_u64().trailing_ones() as usize).min(HEIGHT_MAX)
}

/// The newer of `best` and `entry`, if `entry` is a version of the target's key that it may see.
#[inline]
fn better<'a>(best: Option<Entry<'a>>, entry: Entry<'a>, target: &Target<'_>) -> Option<Entry<'a>> {
    let fits = entry.key() == target.key && entry.tag() <= target.tag;
    match best {
        _ if !fits => best,
        Some(other) if other.tag() >= entry.tag() => best,
        _ => Some(entry),
    }
}

/// Merges two sorted runs, without branches that depend on the order of the pairs.
fn merge(left: &[Pair], right: &[Pair], merged: &mut [Pair]) {
    let (mut at_left, mut at_right, mut at) = (0, 0, 0);
    while at_left < left.len() && at_right < right.len() {
        let (from_left, from_right) = (left[at_left], right[at_right]);
        let is_left = from_left <= from_right;
        merged[at] = if is_left { from_left } else { from_right };
        at_left += usize::from(is_left);
        at_right += usize::from(!is_left);
        at += 1;
    }
    let rest = if at_left < left.len() { &left[at_left..] } else { &right[at_right..] };
    merged[at..].copy_from_slice(rest);
}

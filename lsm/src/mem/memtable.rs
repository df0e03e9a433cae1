//! The memtable: one keyspace's part of what has been written since the last flush.
//!
//! An unrolled skiplist (skiplist.rs) over an arena (arena.rs) that several keyspaces of one generation may share. One applier at a
//! time inserts, under the commit lock; readers take no lock and count no references per read.
//!
//! Promises:
//! 1. An insert that has returned true is found by every `get` and cursor that starts after it (happens-before).
//! 2. `insert` returns true whenever `arena.used() + cost(..) <= arena.capacity()`, also in the middle of a batch whose costs were
//!    added up beforehand. False changes nothing.
//! 3. What `get` and cursors hand out stays in place until the last handle of the memtable is dropped.
//!
//! Measured on the 2-core test machine (AMD EPYC, family 25), one thread, 500,000 entries of 16 B keys and 100 B values, warm arena,
//! medians of 5 in ns, from quiet moments of a shared machine (beside other load everything takes longer: inserts by 1.2, gets by 1.4, the
//! BTreeMap by 1.7); std's BTreeMap with the same keys inline and values elsewhere beside it:
//!
//! ```text
//!   keys                            insert   get hit   get miss   iterate   back   BTreeMap insert
//!   8 random bytes + "00000000"        131       330        330        36     34               224
//!   "user" + 12 random digits          124       322        320        33     29               230
//!   16 random bytes                    120       315        320        32     29               212
//!   16 digits ascending                 33       270        136        11     14                93
//!   one key overwritten                160       130                   17     15
//!   32 B keys, equal heads             209       450        322        37     34
//! ```
//!
//! Gets are of keys in random order, each a cache miss in towers, leaf and entry. 194 arena bytes are used for a random entry of 116,
//! 175 for an ascending one, what is reserved for splits included.
//!
//! Range deletes stand beside the list, in a map behind a lock that readers take only if there are any.
//!
//! Left out: deletion (a delete is an entry of its own kind), and any judgement on sequence numbers: readers say what they may see.

use std::sync::Arc;

use crate::base::key::{Kind, SequenceNumber, Tag};
use crate::base::range_deletes::{RangeDeletes, Step};
use crate::base::sync::RwLock;
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::mem::arena::Arena;
use crate::mem::memtable_cursor::MemtableCursor;
use crate::mem::prefix::Prefix;
use crate::mem::skiplist::Skiplist;

/// Sorted entries of one keyspace in memory.
pub struct Memtable {
    list: Skiplist,
    /// Beside the entries: a range is found by any key in it.
    ranges: RwLock<RangeDeletes>,
    range_bytes: AtomicU64,
    newest: AtomicU64,
    hint: Prefix,
    tombstones: AtomicU64,
    data_bytes: AtomicU64,
}

impl Memtable {
    /// An empty memtable in `arena`; allocates nothing until the first insert. `prefix_hint` is what its keys will probably have in
    /// common: [`common_prefix`](Memtable::common_prefix) of the memtable before it, or nothing. A wrong hint costs speed only.
    pub fn new(arena: Arc<Arena>, prefix_hint: &[u8]) -> Memtable {
        let hint = Prefix::new(prefix_hint);
        Memtable {
            list: Skiplist::new(arena, hint.clone()),
            ranges: RwLock::default(),
            range_bytes: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            hint,
            tombstones: AtomicU64::new(0),
            data_bytes: AtomicU64::new(0),
        }
    }

    /// Arena bytes with which an insert is sure to fit, leaf splits included. Costs of several inserts add up.
    pub fn cost(key_len: usize, value_len: usize) -> usize {
        Skiplist::insert_bytes(key_len, value_len)
    }

    /// Inserts a version of a key. The caller is the one applier of the arena (holds the commit lock) and keeps keys and values
    /// within the limits of the crate; (`key`, `tag`) is not there yet. False means that the arena is full and nothing has changed.
    ///
    /// # Panics
    /// If another thread inserts into the same arena at this moment.
    pub fn insert(&self, key: &[u8], tag: Tag, value: &[u8]) -> bool {
        let inserted = self.list.insert(key, tag, value);
        if inserted {
            let bytes = (key.len() + value.len()) as u64;
            add(&self.data_bytes, bytes);
            self.newest.store(tag.sequence(), Ordering::Relaxed);
            if tag.kind() == Kind::Delete {
                add(&self.tombstones, 1);
            }
        }
        inserted
    }

    /// Deletes the keys from `start` to before `end`, without end if that is empty. The caller is the one applier, and sees to it
    /// that no reader ever stands between two numbers from `unseen_from` on. Takes heap memory, not the arena's:
    /// [`range_bytes`](Memtable::range_bytes).
    pub fn delete_range(
        &self,
        start: &[u8],
        end: &[u8],
        sequence: SequenceNumber,
        unseen_from: SequenceNumber,
    ) {
        let mut ranges = self.ranges.write();
        ranges.add_superseding(start, end, sequence, unseen_from);
        add(&self.data_bytes, (start.len() + end.len()) as u64);
        self.range_bytes.store(ranges.bytes() as u64, Ordering::Relaxed);
    }

    /// Memory of the range deletes; 0 if there are none.
    #[inline]
    pub fn range_bytes(&self) -> u64 {
        self.range_bytes.load(Ordering::Relaxed)
    }

    /// Hands what holds for `key` to `look`. Range deletes that were published before the call are there; later ones may be.
    pub fn range_at<T>(&self, key: &[u8], look: impl FnOnce(Step<'_>) -> T) -> T {
        look(self.ranges.read().at(key))
    }

    /// The first key from `lower` to before `upper` that a range delete newer than `than` covers.
    pub fn first_range_newer(
        &self,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        than: SequenceNumber,
    ) -> Option<Vec<u8>> {
        self.ranges.read().first_newer(lower, upper, than)
    }

    /// The range deletes of this moment.
    pub fn ranges(&self) -> RangeDeletes {
        if self.range_bytes() == 0 { RangeDeletes::default() } else { self.ranges.read().clone() }
    }

    /// Sequence number of the newest entry; 0 without entries. Range deletes do not count.
    #[inline]
    pub fn newest(&self) -> SequenceNumber {
        self.newest.load(Ordering::Relaxed)
    }

    /// The newest version of `key` that is not newer than `sequence`; a tombstone is an answer, too.
    #[inline]
    pub fn get(&self, key: &[u8], sequence: SequenceNumber) -> Option<(Tag, &[u8])> {
        let entry = self.list.find(key, Tag::seek(sequence))?;
        Some((entry.tag(), entry.value()))
    }

    /// Entries: versions, not keys.
    pub fn len(&self) -> u64 {
        self.list.len()
    }

    /// True before the first insert and the first range delete.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.range_bytes() == 0
    }

    /// Entries that are tombstones.
    pub fn tombstones(&self) -> u64 {
        self.tombstones.load(Ordering::Relaxed)
    }

    /// Bytes of keys and values.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Ordering::Relaxed)
    }

    /// Heap bytes beside the arena: the towers of the skiplist, usually below one per cent of the arena bytes used.
    pub fn index_bytes(&self) -> usize {
        self.list.index_bytes()
    }

    /// What the keys have in common as far as skipping it helps: the hint for the next memtable of the keyspace.
    pub fn common_prefix(&self) -> Vec<u8> {
        self.list.prefix().unwrap_or(&self.hint).bytes().to_vec()
    }

    /// A cursor over everything inserted before this call. Entries inserted later may or may not appear: filter by sequence.
    pub fn cursor(self: &Arc<Self>) -> MemtableCursor {
        MemtableCursor::new(Arc::clone(self))
    }

    pub(super) fn list(&self) -> &Skiplist {
        &self.list
    }
}

impl std::fmt::Debug for Memtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memtable")
            .field("len", &self.len())
            .field("data_bytes", &self.data_bytes())
            .finish_non_exhaustive()
    }
}

/// Adds to a counter that only the applier writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

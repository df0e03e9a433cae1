//! The towers of the skiplist, and the memory in which they stand.
//!
//! ```text
//!   0          8             16       24                   40
//!   +----------+-------------+--------+--------------------+--------------------+---
//!   | head u64 | entry u32.. | leaf * | hint u64 | next *  | hint u64 | next *  | ...   one link per level, level 0 first
//!   +----------+-------------+--------+--------------------+--------------------+---
//! ```
//!
//! One tower stands before every leaf, so there are few of them (about one for 90 entries), and together, apart from the
//! entries, they stay in the L2 cache. `hint` is the head of the tower that `next` points at, so that a search visits only towers
//! that it will pass.
//!
//! Promises:
//! 1. `head` and `entry` (the separator: the smallest entry that the leaf will ever hold) never change.
//! 2. Hints only decrease. The writer stores the hint first and `next` second (Release); a reader loads `next` first (Acquire) and
//!    the hint second. So a reader may see a hint that is too small for its `next`, and visits a tower for nothing, but never one
//!    that is too large.
//! 3. Towers are never freed before the memtable.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use crate::base::sync::Access;
use crate::base::sync::fine::{AtomicPtr, AtomicU64, Ordering};
use crate::mem::entry::EntryUnit;
use crate::mem::leaf::Leaf;

/// Levels of the tallest tower: enough for 2^20 leaves before searches grow longer than they should be.
pub(super) const HEIGHT_MAX: usize = if cfg!(loom) { 2 } else { 20 };

/// A tower, by address. Valid as long as the [`TowerMemory`] that it stands in, which the skiplist owns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Tower(NonNull<Header>);

#[derive(Debug)]
#[repr(C)]
struct Header {
    head: u64,
    entry: EntryUnit,
    leaf: AtomicPtr<Leaf>,
    access: Access,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Link {
    hint: AtomicU64,
    next: AtomicPtr<Header>,
}

impl Link {
    /// The neighbour on this level.
    #[inline]
    pub(super) fn next(&self) -> Option<Tower> {
        NonNull::new(self.next.load(Ordering::Acquire)).map(Tower)
    }

    /// A lower bound of the head of the neighbour that `next` answered just before; `u64::MAX` without one.
    #[inline]
    pub(super) fn hint(&self) -> u64 {
        self.hint.load(Ordering::Relaxed)
    }

    /// Points the link of a tower that nobody knows yet at what `other` points at.
    pub(super) fn copy(&self, other: &Link) {
        self.hint.store(other.hint(), Ordering::Relaxed);
        self.next.store(other.next.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Points the link at a tower with a head no larger than that of the present neighbour: publishes it on this level.
    pub(super) fn publish(&self, tower: Tower) {
        self.hint.store(tower.head(), Ordering::Relaxed);
        self.next.store(tower.0.as_ptr(), Ordering::Release);
    }
}

impl Tower {
    fn header(&self) -> &Header {
        // SAFETY: towers are made by `TowerMemory::tower` only and live as long as their memory (promise 3), which whoever holds
        // a tower keeps alive through its list.
        unsafe { self.0.as_ref() }
    }

    /// Head of the separator after the list's prefix.
    #[inline]
    pub(super) fn head(&self) -> u64 {
        let header = self.header();
        header.access.read();
        header.head
    }

    /// The separator. Meaningless for the first tower of a list, which stands before everything.
    #[inline]
    pub(super) fn entry(&self) -> EntryUnit {
        let header = self.header();
        header.access.read();
        header.entry
    }

    /// The leaf as it is now. The order matters: look at `link(0)` after this, never before.
    #[inline]
    pub(super) fn leaf(&self) -> *const Leaf {
        self.header().leaf.load(Ordering::Acquire)
    }

    /// Replaces the leaf by one that holds the same entries below the next separator.
    pub(super) fn set_leaf(&self, leaf: &Leaf) {
        self.header().leaf.store(std::ptr::from_ref(leaf).cast_mut(), Ordering::Release);
    }

    /// The link on `level`.
    ///
    /// # Safety
    /// `level` is below the height that the tower was made with. A tower met on a level has that level.
    #[inline]
    pub(super) unsafe fn link(&self, level: usize) -> &Link {
        // SAFETY: the links follow the header in the same allocation.
        unsafe { self.0.add(1).cast::<Link>().add(level).as_ref() }
    }
}

const CHUNK_BYTES_MIN: usize = 2 << 10;
const CHUNK_BYTES_MAX: usize = 64 << 10;
const CHUNK_ALIGN: usize = 64;

/// Chunks of heap memory for towers, and for the few leaves that no insert has paid for. Freed as a whole.
#[derive(Debug, Default)]
pub(super) struct TowerMemory {
    chunks: Vec<(NonNull<u8>, Layout)>,
    /// Bytes used of the last chunk.
    used: usize,
}

impl TowerMemory {
    /// Bytes of all chunks.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(|(_, layout)| layout.size()).sum()
    }

    /// Room for a leaf.
    pub(super) fn leaf(&mut self) -> *mut Leaf {
        self.allocate(Layout::new::<Leaf>()).cast().as_ptr()
    }

    /// A tower of `height` levels, all without neighbours.
    pub(super) fn tower(
        &mut self,
        height: usize,
        head: u64,
        entry: EntryUnit,
        leaf: &Leaf,
    ) -> Tower {
        assert!((1..=HEIGHT_MAX).contains(&height));
        let bytes = size_of::<Header>() + height * size_of::<Link>();
        let layout = Layout::from_size_align(bytes, align_of::<Header>())
            .expect("a tower is small and its alignment a power of two");
        let at = self.allocate(layout).cast::<Header>();
        let leaf = AtomicPtr::new(std::ptr::from_ref(leaf).cast_mut());
        // SAFETY: `allocate` gave room for the header and `height` links.
        unsafe {
            at.write(Header { head, entry, leaf, access: Access::written() });
            for level in 0..height {
                at.add(1).cast::<Link>().add(level).write(Link {
                    hint: AtomicU64::new(u64::MAX),
                    next: AtomicPtr::new(std::ptr::null_mut()),
                });
            }
        }
        Tower(at)
    }

    fn allocate(&mut self, layout: Layout) -> NonNull<u8> {
        let room = self.chunks.last().map_or(0, |(_, layout)| layout.size());
        let mut start = self.used.next_multiple_of(layout.align());
        if start + layout.size() > room {
            self.add_chunk(room * 2, layout.size());
            start = 0;
        }
        self.used = start + layout.size();
        let (chunk, _) = self.chunks[self.chunks.len() - 1];
        // SAFETY: `start + size` lies within the last chunk.
        unsafe { chunk.add(start) }
    }

    #[cold]
    fn add_chunk(&mut self, wanted: usize, needed: usize) {
        let bytes = wanted.clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX).max(needed);
        let layout = Layout::from_size_align(bytes, CHUNK_ALIGN)
            .expect("a chunk is small and its alignment a power of two");
        // SAFETY: the size is not zero.
        let Some(chunk) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        self.chunks.push((chunk, layout));
        self.used = 0;
    }
}

impl Drop for TowerMemory {
    fn drop(&mut self) {
        for &(chunk, layout) in &self.chunks {
            // SAFETY: allocated with this layout in `add_chunk`.
            unsafe { dealloc(chunk.as_ptr(), layout) };
        }
    }
}

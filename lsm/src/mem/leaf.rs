//! A leaf of the skiplist: up to 128 entries in the order in which they came.
//!
//! ```text
//!   0            4             8          12              64                        1088                    1600
//!   +------------+-------------+----------+---------------+-------------------------+-----------------------+
//!   | count u32  | sorted u32  | skip u32 | extended u8   | heads [u64; 128]        | entries [u32; 128]    |
//!   +------------+-------------+----------+---------------+-------------------------+-----------------------+
//! ```
//!
//! Append-only, so that an insert moves nothing and a reader needs no lock: it loads `count` and looks at that many slots as at
//! plain memory, with vector instructions. A leaf kept sorted would need a sequence lock and atomic loads of every slot, and
//! gains only in iteration.
//!
//! Promises:
//! 1. Slots below `count` never change. `count` grows by one (Release) after its slot is written; readers load it with Acquire.
//! 2. Slots below `sorted` (never above `count`) are in the order of entries: user key ascending, tag descending.
//! 3. All heads of a leaf are taken in the same way: after the memtable's prefix (`skip` = [`SKIP_PREFIX`]), or after the first
//!    `skip` bytes, which then all keys share that are ever looked for in this leaf.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use crate::base::key;
use crate::base::prefetch::prefetch;
use crate::base::sync::Access;
use crate::base::sync::fine::{AtomicBool, AtomicU32, Ordering};
use crate::mem::entry::EntryUnit;

/// Entries of a leaf; in a model so few that a split is a small thing.
pub(super) const LEAF_SLOTS: usize = if cfg!(loom) { 4 } else { 128 };

/// Entries of each half after a split.
pub(super) const HALF: usize = LEAF_SLOTS / 2;

/// Value of `skip` that says: heads are those of the memtable's prefix.
pub(super) const SKIP_PREFIX: u32 = u32::MAX;

/// One leaf. Lives in an arena or in the list's own memory, and is only reached through shared references.
#[repr(C, align(64))]
pub(super) struct Leaf {
    count: AtomicU32,
    sorted: AtomicU32,
    skip: u32,
    /// The applier's own note: a leaf for larger keys was once started to the right of this full one.
    extended: AtomicBool,
    heads: Heads,
    entries: UnsafeCell<[MaybeUninit<EntryUnit>; LEAF_SLOTS]>,
    accesses: [Access; LEAF_SLOTS],
}

#[repr(C, align(64))]
struct Heads(UnsafeCell<[MaybeUninit<u64>; LEAF_SLOTS]>);

const _: () = assert!(size_of::<Leaf>() == 64 + LEAF_SLOTS * 12 || cfg!(loom));

// SAFETY: slots are written by the one applier before `count` publishes them and are constant afterwards (promise 1). Test:
// readers_find_everything_that_they_know_is_published.
unsafe impl Sync for Leaf {}

impl Leaf {
    /// Makes a leaf at `at` out of (head, entry) pairs in the order of entries.
    ///
    /// # Safety
    /// `at` is aligned and valid for a leaf, nobody else knows of it, and the memory stays in place for `'a`.
    pub(super) unsafe fn create<'a>(
        at: *mut Leaf,
        skip: u32,
        pairs: impl ExactSizeIterator<Item = (u64, EntryUnit)>,
    ) -> &'a Leaf {
        let count = pairs.len();
        assert!(count <= LEAF_SLOTS);
        // SAFETY: the caller gives room for a leaf. Slots may stay as they are: they are `MaybeUninit`.
        unsafe {
            (&raw mut (*at).count).write(AtomicU32::new(count as u32));
            (&raw mut (*at).sorted).write(AtomicU32::new(count as u32));
            (&raw mut (*at).skip).write(skip);
            (&raw mut (*at).extended).write(AtomicBool::new(false));
            for slot in 0..LEAF_SLOTS {
                (&raw mut (*at).accesses[slot]).write(Access::written());
            }
            let leaf = &*at;
            for (slot, (head, entry)) in pairs.enumerate() {
                leaf.write_slot(slot, head, entry);
            }
            leaf
        }
    }

    /// # Safety
    /// `slot` is below [`LEAF_SLOTS`] and not published, and the caller is the only writer.
    #[inline]
    unsafe fn write_slot(&self, slot: usize, head: u64, entry: EntryUnit) {
        self.accesses[slot].write();
        // SAFETY: in bounds, and no reader looks at an unpublished slot.
        unsafe {
            self.heads.0.get().cast::<u64>().add(slot).write(head);
            self.entries.get().cast::<EntryUnit>().add(slot).write(entry);
        }
    }

    /// Adds an entry and publishes it. `ascending`: it belongs after all others, which are sorted.
    ///
    /// # Safety
    /// The caller is the only writer, and `count` is the current count and below [`LEAF_SLOTS`].
    #[inline]
    pub(super) unsafe fn append(&self, count: usize, head: u64, entry: EntryUnit, ascending: bool) {
        debug_assert!(count < LEAF_SLOTS && count == self.count());
        // SAFETY: slot `count` is not published, and the caller is the only writer.
        unsafe { self.write_slot(count, head, entry) };
        self.count.store(count as u32 + 1, Ordering::Release);
        if ascending {
            self.sorted.store(count as u32 + 1, Ordering::Release);
        }
    }

    /// Published slots.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire) as usize
    }

    /// Leading slots that are in order, of the first `count`.
    #[inline]
    pub(super) fn sorted(&self, count: usize) -> usize {
        (self.sorted.load(Ordering::Acquire) as usize).min(count)
    }

    /// See promise 3.
    #[inline]
    pub(super) fn skip(&self) -> u32 {
        self.skip
    }

    /// The head of `key` in this leaf, where `prefix_head` is its head after the memtable's prefix.
    #[inline]
    pub(super) fn head(&self, key: &[u8], prefix_head: u64) -> u64 {
        if self.skip == SKIP_PREFIX { prefix_head } else { key::head(key, self.skip as usize) }
    }

    /// The applier's note that a right neighbour was started; see the skiplist.
    pub(super) fn extended(&self) -> bool {
        self.extended.load(Ordering::Relaxed)
    }

    /// Sets the note.
    pub(super) fn set_extended(&self) {
        self.extended.store(true, Ordering::Relaxed);
    }

    /// Starts to bring all heads into the cache at once: waiting for the processor to notice the scan costs more.
    #[inline]
    pub(super) fn prefetch_heads(&self) {
        let heads = self.heads.0.get().cast::<u8>();
        for line in 0..LEAF_SLOTS * 8 / 64 {
            prefetch(heads.wrapping_add(line * 64));
        }
    }

    /// Heads of the first `count` slots, `count` being no more than [`count`](Self::count) has answered.
    #[inline]
    pub(super) fn heads(&self, count: usize) -> &[u64] {
        self.look_at(count);
        // SAFETY: published slots are written and never change (promise 1).
        unsafe { std::slice::from_raw_parts(self.heads.0.get().cast(), count) }
    }

    /// Entries of the first `count` slots, as above.
    #[inline]
    pub(super) fn entries(&self, count: usize) -> &[EntryUnit] {
        self.look_at(count);
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts(self.entries.get().cast(), count) }
    }

    #[inline]
    fn look_at(&self, count: usize) {
        debug_assert!(count <= self.count());
        self.accesses[..count].iter().for_each(Access::read);
    }

    /// Which of the first `count` slots have this head: bit `i` for slot `i`.
    #[inline]
    pub(super) fn matches(&self, count: usize, head: u64) -> u128 {
        matches(self.heads(count), head)
    }
}

#[inline]
fn matches(heads: &[u64], head: u64) -> u128 {
    let mut found = 0u128;
    let (chunks, rest) = heads.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let bits = matches_of_8(chunk, head);
        if bits != 0 {
            found |= u128::from(bits) << (index * 8);
        }
    }
    for (index, &other) in rest.iter().enumerate() {
        found |= u128::from(other == head) << (chunks.len() * 8 + index);
    }
    found
}

/// SSE2, which every x86-64 has, knows no comparison of 64-bit lanes: compare halves, and let each pair of halves agree.
#[cfg(target_arch = "x86_64")]
#[inline]
fn matches_of_8(heads: &[u64; 8], head: u64) -> u8 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of x86-64, and the four unaligned loads cover the eight heads exactly.
    unsafe {
        let needle = _mm_set1_epi64x(head as i64);
        let at = heads.as_ptr().cast::<__m128i>();
        let equal = |index: usize| {
            let halves = _mm_cmpeq_epi32(_mm_loadu_si128(at.add(index)), needle);
            _mm_and_si128(halves, _mm_shuffle_epi32::<0b10_11_00_01>(halves))
        };
        let low = _mm_packs_epi32(equal(0), equal(1));
        let high = _mm_packs_epi32(equal(2), equal(3));
        // Each head now owns two of sixteen bytes, both ones or both zeros.
        let pairs = _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32;
        if pairs == 0 {
            return 0;
        }
        (0..8).fold(0, |bits, index| bits | (((pairs >> (2 * index)) & 1) as u8) << index)
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn matches_of_8(heads: &[u64; 8], head: u64) -> u8 {
    heads
        .iter()
        .enumerate()
        .fold(0, |bits, (index, &other)| bits | u8::from(other == head) << index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    #[test]
    fn the_scan_finds_every_equal_head_and_reads_no_slot_past_the_count() {
        let mut random = Random::new(3);
        for count in 0..=LEAF_SLOTS {
            // Halves that agree while the whole does not are the trap of 32-bit comparisons.
            let heads: Vec<u64> =
                (0..count).map(|_| random.below(2) << 32 | random.below(2)).collect();
            for head in [0, 1, 1 << 32, 1 << 32 | 1, 2] {
                let expected = heads
                    .iter()
                    .enumerate()
                    .fold(0u128, |bits, (index, &other)| bits | u128::from(other == head) << index);
                assert_eq!(matches(&heads, head), expected);
            }
        }
    }
}

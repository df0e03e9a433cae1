//! One entry of a memtable, as it lies in the arena.
//!
//! ```text
//!   0            8             12              16
//!   +------------+-------------+---------------+-----------+-------------+---------------+
//!   | tag u64    | key_len u32 | value_len u32 | key bytes | value bytes | to 8 bytes    |   native byte order:
//!   +------------+-------------+---------------+-----------+-------------+---------------+   never on disk
//! ```
//!
//! Tag and lengths come first so that a comparison needs one cache line for a short key. Written once, before the entry is
//! published, and never changed.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::base::key::Tag;
use crate::base::prefetch::prefetch;
use crate::base::sync::Access;
use crate::mem::arena::{Applier, Arena, UNIT_BYTES};

/// Where the note of accesses stands, which only a model has.
const ACCESS_AT: usize = 16;
const HEADER_BYTES: usize = ACCESS_AT + size_of::<Access>();

/// Where an entry stands in its arena, in units of eight bytes.
pub(super) type EntryUnit = u32;

/// A view of an entry that lives as long as its arena is borrowed.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    at: NonNull<u8>,
    arena: PhantomData<&'a Arena>,
}

impl<'a> Entry<'a> {
    /// Arena bytes of an entry.
    pub(super) const fn bytes(key_len: usize, value_len: usize) -> usize {
        (HEADER_BYTES + key_len + value_len).next_multiple_of(UNIT_BYTES)
    }

    /// The entry at `unit`.
    ///
    /// # Safety
    /// `write` gave this unit in an arena whose base is `base`, that arena lives for `'a`, and the write happened before this call.
    #[inline]
    pub(super) unsafe fn at(base: NonNull<u8>, unit: EntryUnit) -> Entry<'a> {
        // SAFETY: the caller says that the unit lies in the arena, and that it was written.
        unsafe { base.add(unit as usize * UNIT_BYTES + ACCESS_AT).cast::<Access>().as_ref() }
            .read();
        // SAFETY: as above.
        Entry { at: unsafe { base.add(unit as usize * UNIT_BYTES) }, arena: PhantomData }
    }

    /// Writes an entry; `None` if the arena is full. Lengths are within the limits of the crate.
    #[inline]
    pub(super) fn write(
        applier: &Applier<'_>,
        key: &[u8],
        tag: Tag,
        value: &[u8],
    ) -> Option<EntryUnit> {
        let at = applier.allocate(Self::bytes(key.len(), value.len()), UNIT_BYTES)?;
        // SAFETY: `allocate` gave header, key and value their room, aligned to 8, and no reader knows of it yet.
        unsafe {
            at.cast::<u64>().write(tag.0);
            at.add(8).cast::<u32>().write(key.len() as u32);
            at.add(12).cast::<u32>().write(value.len() as u32);
            at.add(ACCESS_AT).cast::<Access>().write(Access::written());
            let key_at = at.add(HEADER_BYTES).as_ptr();
            key_at.copy_from_nonoverlapping(key.as_ptr(), key.len());
            key_at.add(key.len()).copy_from_nonoverlapping(value.as_ptr(), value.len());
        }
        Some(((at.addr().get() - applier.base().addr().get()) / UNIT_BYTES) as EntryUnit)
    }

    /// Starts to bring the entry's first two lines into the cache.
    #[inline]
    pub(super) fn prefetch(base: NonNull<u8>, unit: EntryUnit) {
        let at = base.as_ptr().wrapping_add(unit as usize * UNIT_BYTES);
        prefetch(at);
        prefetch(at.wrapping_add(64));
    }

    /// Sequence number and kind.
    #[inline]
    pub(super) fn tag(self) -> Tag {
        // SAFETY: `at` promises a written entry; see there.
        Tag(unsafe { self.at.cast::<u64>().read() })
    }

    #[inline]
    fn lengths(self) -> (usize, usize) {
        // SAFETY: as above.
        let [key, value] = unsafe { self.at.add(8).cast::<[u32; 2]>().read() };
        (key as usize, value as usize)
    }

    /// The user key.
    #[inline]
    pub(super) fn key(self) -> &'a [u8] {
        let (key_len, _) = self.lengths();
        // SAFETY: as above; the key follows the header.
        unsafe { std::slice::from_raw_parts(self.at.add(HEADER_BYTES).as_ptr(), key_len) }
    }

    /// The value.
    #[inline]
    pub(super) fn value(self) -> &'a [u8] {
        let (key_len, value_len) = self.lengths();
        // SAFETY: as above; the value follows the key.
        unsafe {
            std::slice::from_raw_parts(self.at.add(HEADER_BYTES + key_len).as_ptr(), value_len)
        }
    }

    /// Order of this entry against (`key`, `tag`): user key ascending, tag descending.
    #[inline]
    pub(super) fn compare(self, key: &[u8], tag: Tag) -> Ordering {
        self.key().cmp(key).then_with(|| tag.cmp(&self.tag()))
    }
}

//! Arenas: where a memtable generation keeps its entries and leaves.
//!
//! An arena is one contiguous anonymous map with a bump cursor. Nothing is freed singly: the last [`Arc<Arena>`] to go hands
//! the whole map back to its [`ArenaPool`], and the next generation gets it with its pages still in place. First-touch faults are
//! the reason for the pool: a fault on a huge page zeroes 2 MiB, about 220 us that some put would have to wait, while a warm
//! huge page is the fastest memory there is (raw copy of an entry: 18 ns warm and huge, 54 ns on fresh 4 KiB pages).
//! [`ArenaPool::prepare`] does the touching in the background.
//!
//! ```text
//!   base                cursor                                       capacity
//!    | entries and leaves |  free  ...                  | reserved     |
//!    +--------------------+-----------------------------+--------------+
//!    |<------------------ used = cursor + reserved ------------------->|   reserved has no place of its own, only a size
//! ```
//!
//! Bytes are *reserved* for work that is not due yet (the split of a leaf that fills up), so that the cost of an insert is a
//! fixed number and a caller who has checked the room for a whole batch cannot run out in the middle of it.
//!
//! Promises:
//! 1. Memory is not zeroed: a recycled map holds the bytes of earlier generations, and nothing may depend on them.
//! 2. Only what is allocated is touched, except by `prepare`.
//! 3. One `Applier` at a time; a second one is a programmer error and panics. Only the applier allocates.
//! 4. Addresses are stable until the arena is dropped.
//! 5. `resident_bytes` never says less than what the maps have touched.
//!
//! Left out: shrinking a pool whose arena size has grown out of use (drop the pool), and NUMA placement.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::error::{Error, Result};
use crate::base::sync::Mutex;
use crate::base::sync::atomic::AtomicBool;

/// Offsets inside an arena are counted in units of this many bytes and fit a `u32`.
pub(super) const UNIT_BYTES: usize = 8;

/// Largest arena in bytes (32 GiB): what a `u32` of units reaches.
pub const ARENA_BYTES_MAX: usize = UNIT_BYTES << 32;

/// Maps from this size up ask for huge pages.
const HUGE_FROM_BYTES: usize = 4 << 20;
const HUGE_PAGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4096;

/// Hands out arenas and keeps the maps of dropped ones for the next generation.
#[derive(Debug)]
pub struct ArenaPool {
    arena_bytes: usize,
    keep: usize,
    spares: Mutex<Vec<Region>>,
    resident: AtomicUsize,
}

impl ArenaPool {
    /// A pool of arenas of `arena_bytes` (rounded up to whole pages) that keeps up to `keep` spare maps. Maps nothing yet.
    pub fn new(arena_bytes: usize, keep: usize) -> Arc<ArenaPool> {
        let arena_bytes = arena_bytes.clamp(PAGE_BYTES, ARENA_BYTES_MAX);
        Arc::new(ArenaPool {
            arena_bytes: Region::round_up(arena_bytes),
            keep,
            spares: Mutex::new(Vec::new()),
            resident: AtomicUsize::new(0),
        })
    }

    /// An empty arena with a capacity of at least `bytes_min`: a standard one if that is enough (the warmest spare, if there
    /// is one), else one of its own size that is unmapped when it is dropped.
    ///
    /// # Errors
    /// [`Error::Io`] if the system has no memory to map, or if `bytes_min` is above [`ARENA_BYTES_MAX`]; a retry is safe.
    pub fn take(self: &Arc<Self>, bytes_min: usize) -> Result<Arc<Arena>> {
        let region = if bytes_min <= self.arena_bytes {
            match take_warmest(&mut self.spares.lock()) {
                Some(region) => region,
                None => Region::map(self.arena_bytes)?,
            }
        } else {
            Region::map(Region::round_up(bytes_min))?
        };
        Ok(Arc::new(Arena {
            pool: Arc::clone(self),
            region: ManuallyDrop::new(region),
            writer: WriterLine {
                cursor: AtomicUsize::new(0),
                reserved: AtomicUsize::new(0),
                applying: AtomicBool::new(false),
            },
        }))
    }

    /// Bytes that the pool's maps hold in memory: arenas in use and spares.
    pub fn resident_bytes(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Bytes of the spares and one arena in use: what the pool is meant to hold.
    fn resident_max(&self) -> usize {
        (self.keep + 1) * self.arena_bytes
    }

    /// Touches every page of one spare arena, mapping it if need be, so that no put meets a first-touch fault in it. Does
    /// nothing if a warm spare is there or the pool keeps none. For a background thread: takes milliseconds. If the system has
    /// no memory for it, nothing is lost: `take` tries again when an arena is really needed, and reports.
    pub fn prepare(&self) {
        let taken = {
            let mut spares = self.spares.lock();
            if self.keep == 0 || spares.iter().any(|spare| spare.touched() == spare.bytes) {
                return;
            }
            take_warmest(&mut spares)
        };
        // With as many maps as the pool is meant to have, the next spare comes from the next flush.
        let is_full = self.resident_bytes() + self.arena_bytes > self.resident_max();
        let Some(region) = taken.or_else(|| match is_full {
            true => None,
            false => Region::map(self.arena_bytes).ok(),
        }) else {
            return;
        };
        region.touch_all();
        self.note_touched(&region, region.bytes);
        self.give_back(region);
    }

    /// Raises the high-water mark of `region` to `end` bytes, rounded up to its page size.
    #[cold]
    fn note_touched(&self, region: &Region, end: usize) {
        let before = region.touched();
        let after = end.next_multiple_of(region.page_bytes).min(region.bytes);
        if after > before {
            region.touched.store(after, Ordering::Relaxed);
            self.resident.fetch_add(after - before, Ordering::Relaxed);
        }
    }

    /// Keeps a standard region if there is place, else unmaps it (or a colder one in its stead).
    fn give_back(&self, region: Region) {
        let surplus = if region.bytes == self.arena_bytes {
            let mut spares = self.spares.lock();
            spares.push(region);
            let too_many = spares.len() > self.keep || self.resident_bytes() > self.resident_max();
            if too_many { take_coldest(&mut spares) } else { None }
        } else {
            Some(region)
        };
        if let Some(region) = surplus {
            self.resident.fetch_sub(region.touched(), Ordering::Relaxed);
        }
    }
}

fn take_warmest(spares: &mut Vec<Region>) -> Option<Region> {
    let index = (0..spares.len()).max_by_key(|&index| spares[index].touched())?;
    Some(spares.swap_remove(index))
}

fn take_coldest(spares: &mut Vec<Region>) -> Option<Region> {
    let index = (0..spares.len()).min_by_key(|&index| spares[index].touched())?;
    Some(spares.swap_remove(index))
}

/// One generation's memory. Goes back to its pool when the last handle is dropped.
#[derive(Debug)]
pub struct Arena {
    pool: Arc<ArenaPool>,
    region: ManuallyDrop<Region>,
    writer: WriterLine,
}

/// What the applier writes with every insert, away from what the readers read.
#[derive(Debug)]
#[repr(align(128))]
struct WriterLine {
    cursor: AtomicUsize,
    reserved: AtomicUsize,
    applying: AtomicBool,
}

impl Arena {
    /// Bytes allocated or reserved.
    pub fn used(&self) -> usize {
        self.writer.cursor.load(Ordering::Relaxed) + self.writer.reserved.load(Ordering::Relaxed)
    }

    /// Bytes in all.
    pub fn capacity(&self) -> usize {
        self.region.bytes
    }

    /// Becomes the one applier until the guard is dropped.
    #[inline]
    pub(super) fn applier(&self) -> Applier<'_> {
        let others = self.writer.applying.swap(true, Ordering::Acquire);
        assert!(!others, "two threads insert into one arena at once; the commit lock must be held");
        Applier { arena: self }
    }

    /// Start of the arena; offset 0. Aligned to a page.
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.region.base
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the region is taken once, here, and not used afterwards.
        let region = unsafe { ManuallyDrop::take(&mut self.region) };
        self.pool.give_back(region);
    }
}

/// The right to allocate from an arena.
#[derive(Debug)]
pub(super) struct Applier<'a> {
    arena: &'a Arena,
}

impl Deref for Applier<'_> {
    type Target = Arena;

    #[inline]
    fn deref(&self) -> &Arena {
        self.arena
    }
}

impl Applier<'_> {
    /// Allocates `bytes` (a multiple of 8) at a multiple of `align` (a power of two from 8 to 4096); `None` if that would go
    /// into reserved room or past the end.
    #[inline]
    pub(super) fn allocate(&self, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        debug_assert!(bytes.is_multiple_of(UNIT_BYTES) && align >= UNIT_BYTES);
        let writer = &self.arena.writer;
        let start = writer.cursor.load(Ordering::Relaxed).next_multiple_of(align);
        let end = start.checked_add(bytes)?;
        let region = &self.arena.region;
        if end > region.bytes - writer.reserved.load(Ordering::Relaxed) {
            return None;
        }
        writer.cursor.store(end, Ordering::Relaxed);
        if end > region.touched() {
            self.arena.pool.note_touched(region, end);
        }
        // SAFETY: `start <= end <= region.bytes`, so this stays inside the map.
        Some(unsafe { region.base.add(start) })
    }

    /// True if `bytes` more can be allocated or reserved.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.arena.capacity() - self.arena.used()
    }

    /// Sets `bytes` aside. The caller has checked the room.
    #[inline]
    pub(super) fn reserve(&self, bytes: usize) {
        debug_assert!(self.has_room(bytes));
        let reserved = &self.arena.writer.reserved;
        reserved.store(reserved.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    /// Gives `bytes` set aside earlier free again.
    #[inline]
    pub(super) fn release(&self, bytes: usize) {
        let reserved = &self.arena.writer.reserved;
        debug_assert!(reserved.load(Ordering::Relaxed) >= bytes);
        reserved.store(reserved.load(Ordering::Relaxed).saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl Drop for Applier<'_> {
    #[inline]
    fn drop(&mut self) {
        self.arena.writer.applying.store(false, Ordering::Release);
    }
}

/// A map, and how much of it has been touched so far.
#[derive(Debug)]
struct Region {
    base: NonNull<u8>,
    bytes: usize,
    page_bytes: usize,
    touched: AtomicUsize,
}

// SAFETY: the region owns its map alone; who may write where is the business of the structures inside it.
unsafe impl Send for Region {}
// SAFETY: as above; the region itself only hands out the base address.
unsafe impl Sync for Region {}

impl Region {
    fn touched(&self) -> usize {
        self.touched.load(Ordering::Relaxed)
    }

    fn round_up(bytes: usize) -> usize {
        let page = if bytes >= HUGE_FROM_BYTES { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        bytes.checked_next_multiple_of(page).unwrap_or(usize::MAX)
    }

    fn map(bytes: usize) -> Result<Region> {
        let failed = |source| Error::io("map memory for", Path::new("a memtable arena"), source);
        if bytes > ARENA_BYTES_MAX {
            return Err(failed(std::io::Error::from(std::io::ErrorKind::OutOfMemory)));
        }
        let huge = bytes >= HUGE_FROM_BYTES;
        let (base, huge) = system::map(bytes, if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES })
            .map(|base| (base, huge && system::advise_huge(base, bytes)))
            .map_err(failed)?;
        let page_bytes = if huge { HUGE_PAGE_BYTES } else { PAGE_BYTES };
        Ok(Region { base, bytes, page_bytes, touched: AtomicUsize::new(0) })
    }

    /// Makes every page present and writable. The region is not in use.
    fn touch_all(&self) {
        if !system::populate(self.base, self.bytes) {
            for offset in (0..self.bytes).step_by(PAGE_BYTES) {
                // SAFETY: inside the map, which nobody else uses: the region is neither in an arena nor in the pool.
                unsafe { self.base.add(offset).write_volatile(0) };
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        system::unmap(self.base, self.bytes);
    }
}

#[cfg(not(miri))]
mod system {
    use std::io;
    use std::ptr::{self, NonNull};

    /// Maps `bytes` of private anonymous memory at a multiple of `align` (a multiple of the page size).
    pub(super) fn map(bytes: usize, align: usize) -> io::Result<NonNull<u8>> {
        let whole = bytes + align;
        // SAFETY: an anonymous map at an address that the kernel picks touches no existing memory.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = start.cast::<u8>();
        let lead = start.addr().next_multiple_of(align) - start.addr();
        let base = start.wrapping_add(lead);
        // SAFETY: both cuts lie inside the map just made and outside `base..base + bytes`.
        unsafe {
            if lead > 0 {
                libc::munmap(start.cast(), lead);
            }
            libc::munmap(base.add(bytes).cast(), align - lead);
        }
        NonNull::new(base).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    /// True if the kernel will back the map with huge pages.
    pub(super) fn advise_huge(base: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: the range is a map of ours; the advice changes no contents.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE) == 0 }
    }

    /// Faults all pages in for writing; false on kernels before 5.14.
    pub(super) fn populate(base: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: as above.
        unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) == 0 }
    }

    pub(super) fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: the region owned this map and is being dropped. Unmapping a whole map of ours cannot fail.
        unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    }
}

#[cfg(miri)]
mod system {
    use std::alloc::{Layout, alloc, dealloc};
    use std::io;
    use std::ptr::NonNull;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 4096).expect("a region is below 32 GiB")
    }

    pub(super) fn map(bytes: usize, _align: usize) -> io::Result<NonNull<u8>> {
        // SAFETY: a region is at least one page long.
        let base = unsafe { alloc(layout(bytes)) };
        NonNull::new(base).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    pub(super) fn advise_huge(_base: NonNull<u8>, _bytes: usize) -> bool {
        false
    }

    pub(super) fn populate(_base: NonNull<u8>, _bytes: usize) -> bool {
        false
    }

    pub(super) fn unmap(base: NonNull<u8>, bytes: usize) {
        // SAFETY: allocated by `map` with the same layout.
        unsafe { dealloc(base.as_ptr(), layout(bytes)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_database_does_not_pay_for_a_whole_arena() {
        // Promise 2: only what is allocated counts, and is, resident.
        let pool = ArenaPool::new(64 << 10, 2);
        let arena = pool.take(1).unwrap();
        assert_eq!((arena.used(), arena.capacity(), pool.resident_bytes()), (0, 64 << 10, 0));
        arena.applier().allocate(100 * 8, 8).unwrap();
        assert_eq!((arena.used(), pool.resident_bytes()), (800, 4096));
        drop(arena);
        assert_eq!(pool.resident_bytes(), 4096);
        pool.prepare();
        assert_eq!(pool.resident_bytes(), 64 << 10);
        pool.prepare();
        assert_eq!(pool.resident_bytes(), 64 << 10);
    }

    #[test]
    fn a_recycled_arena_is_empty_but_keeps_its_stale_bytes() {
        // Promise 1: tests elsewhere rely on this to prove that nothing reads stale bytes.
        let pool = ArenaPool::new(1 << 16, 1);
        let arena = pool.take(0).unwrap();
        let place = arena.applier().allocate(8, 8).unwrap();
        // SAFETY: just allocated.
        unsafe { place.write_bytes(0xee, 8) };
        drop(arena);
        let arena = pool.take(0).unwrap();
        assert_eq!(arena.used(), 0);
        let place = arena.applier().allocate(8, 8).unwrap();
        // SAFETY: the same place, written above.
        assert_eq!(unsafe { place.read() }, 0xee);
    }

    #[test]
    fn an_oversized_arena_is_never_pooled() {
        let pool = ArenaPool::new(1 << 16, 2);
        let arena = pool.take((1 << 16) + 1).unwrap();
        assert!(arena.capacity() > 1 << 16);
        arena.applier().allocate(1 << 16, 4096).unwrap();
        assert_eq!(pool.resident_bytes(), 1 << 16);
        drop(arena);
        assert_eq!(pool.resident_bytes(), 0);
        assert!(pool.take(usize::MAX).is_err());
    }

    #[test]
    fn the_pool_keeps_no_more_than_it_was_told() {
        let pool = ArenaPool::new(1 << 16, 1);
        let (first, second) = (pool.take(0).unwrap(), pool.take(0).unwrap());
        first.applier().allocate(8192, 8).unwrap();
        second.applier().allocate(4096, 8).unwrap();
        drop(first);
        drop(second);
        assert_eq!(pool.resident_bytes(), 8192, "the colder one was unmapped");
    }

    #[test]
    fn reserved_bytes_cannot_be_allocated() {
        let pool = ArenaPool::new(4096, 0);
        let arena = pool.take(0).unwrap();
        let applier = arena.applier();
        applier.reserve(96);
        assert_eq!(arena.used(), 96);
        assert!(applier.allocate(4096, 8).is_none());
        assert!(!applier.has_room(4001) && applier.has_room(4000));
        applier.allocate(4000, 8).unwrap();
        assert!(applier.allocate(8, 8).is_none());
        applier.release(96);
        applier.allocate(96, 8).unwrap();
        assert!(!applier.has_room(1));
    }

    #[test]
    #[cfg(not(miri))]
    fn a_large_arena_is_aligned_for_huge_pages() {
        let pool = ArenaPool::new(HUGE_FROM_BYTES, 1);
        let arena = pool.take(0).unwrap();
        assert_eq!(arena.base().addr().get() % HUGE_PAGE_BYTES, 0);
        arena.applier().allocate(8, 8).unwrap();
        assert!(pool.resident_bytes() <= HUGE_PAGE_BYTES);
    }

    #[test]
    #[should_panic(expected = "two threads insert")]
    fn a_second_applier_is_a_programmer_error() {
        let pool = ArenaPool::new(4096, 0);
        let arena = pool.take(0).unwrap();
        let _first = arena.applier();
        let _second = arena.applier();
    }
}

//! The largest allocation of a thread: a damaged length must not be believed before it is checked.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Without a destructor, so that an allocator may use it at any time.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and a note of the largest request of each thread.
#[derive(Debug)]
struct Noting;

#[global_allocator]
static ALLOCATOR: Noting = Noting;

/// Bytes of the largest allocation of this thread since the last call.
pub fn take_largest_allocation() -> u64 {
    LARGEST.with(|largest| largest.take()) as u64
}

#[inline]
fn note(bytes: usize) {
    LARGEST.with(|largest| {
        if bytes > largest.get() {
            largest.set(bytes);
        }
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Noting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_allocation_of_this_thread_is_noted_once() {
        take_largest_allocation();
        drop(Vec::<u8>::with_capacity(3 << 20));
        drop(vec![0u8; 1000]);
        assert_eq!(take_largest_allocation(), 3 << 20);
        assert!(take_largest_allocation() < 3 << 20);
    }
}

//! A heap buffer aligned for direct I/O, owned by whoever holds it: the caller, or a request in flight.

use crate::base::limits::IO_ALIGN;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes at an address that is a multiple of [`IO_ALIGN`], with a capacity that is one too.
pub struct AlignedBuffer {
    pointer: NonNull<u8>,
    capacity: usize,
    length: usize,
}

// SAFETY: the buffer owns its memory alone, like a Vec<u8>.
unsafe impl Send for AlignedBuffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// `length` zero bytes.
    pub fn zeroed(length: usize) -> AlignedBuffer {
        let capacity = length.max(1).next_multiple_of(IO_ALIGN);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a non-zero size.
        let pointer = unsafe { alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { handle_alloc_error(layout) };
        AlignedBuffer { pointer, capacity, length }
    }

    /// An empty buffer that can hold `capacity` bytes (rounded up).
    pub fn with_capacity(capacity: usize) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::zeroed(capacity);
        buffer.length = 0;
        buffer
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    /// Takes back a buffer that was forgotten.
    ///
    /// # Safety
    /// `pointer` is that of a buffer made by [`zeroed`](AlignedBuffer::zeroed) with this `length`, which nobody drops.
    pub(in crate::io) unsafe fn reclaim(pointer: *mut u8, length: usize) -> AlignedBuffer {
        let capacity = length.max(1).next_multiple_of(IO_ALIGN);
        let pointer = NonNull::new(pointer).expect("the pointer of a buffer");
        AlignedBuffer { pointer, capacity, length }
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the length; bytes beyond the old one are whatever was last written there (zeros at first).
    ///
    /// # Panics
    /// If `length` is above the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity, "length {length} above capacity {}", self.capacity);
        self.length = length;
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If they do not fit the capacity.
    pub fn extend(&mut self, bytes: &[u8]) {
        let start = self.length;
        self.set_length(start + bytes.len());
        self[start..].copy_from_slice(bytes);
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, IO_ALIGN).expect("capacity is below isize::MAX")
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.pointer.as_ptr(), Self::layout(self.capacity)) }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `length <= capacity` bytes are allocated and initialised (zeroed at birth).
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.length) }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.length) }
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBuffer({} of {} bytes)", self.length, self.capacity)
    }
}

//! Bytes that keep their owner alive: how a value leaves the engine without a copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Whatever owns the bytes: a cached block, a memtable, a vector.
pub trait Owner: Send + Sync {}
impl<T: Send + Sync> Owner for T {}

/// A read-only view of bytes inside a block or memtable that stays alive as long as the slice does.
///
/// Holding one pins that block (about 4 KiB) or memtable (up to the write buffer); copy with `to_vec` to keep a value
/// for long.
pub struct PinnedSlice {
    owner: Option<Arc<dyn Owner>>,
    pointer: *const u8,
    length: usize,
}

// SAFETY: the bytes are immutable while `owner` lives, and the owner itself is Send + Sync.
unsafe impl Send for PinnedSlice {}
// SAFETY: as above; only shared reads are possible.
unsafe impl Sync for PinnedSlice {}

impl PinnedSlice {
    /// A slice of nothing.
    pub fn empty() -> PinnedSlice {
        PinnedSlice { owner: None, pointer: std::ptr::NonNull::dangling().as_ptr(), length: 0 }
    }

    /// Pins `bytes`, which live inside `owner`.
    ///
    /// # Safety
    /// `bytes` stay in place and unchanged until the last clone of `owner` is dropped.
    #[inline]
    pub unsafe fn new(owner: Arc<dyn Owner>, bytes: &[u8]) -> PinnedSlice {
        PinnedSlice { owner: Some(owner), pointer: bytes.as_ptr(), length: bytes.len() }
    }
}

impl From<Vec<u8>> for PinnedSlice {
    fn from(bytes: Vec<u8>) -> PinnedSlice {
        let owner: Arc<Vec<u8>> = Arc::new(bytes);
        let (pointer, length) = (owner.as_ptr(), owner.len());
        PinnedSlice { owner: Some(owner), pointer, length }
    }
}

impl Clone for PinnedSlice {
    fn clone(&self) -> Self {
        PinnedSlice { owner: self.owner.clone(), pointer: self.pointer, length: self.length }
    }
}

impl Deref for PinnedSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `new` demands that the bytes live and stay unchanged as long as `owner`, which we hold; an empty slice
        // has a dangling but aligned pointer. Test: a_slice_outlives_every_other_handle.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl AsRef<[u8]> for PinnedSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PinnedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for PinnedSlice {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for PinnedSlice {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_outlives_every_other_handle() {
        let slice = PinnedSlice::from(vec![1, 2, 3]);
        let copy = slice.clone();
        drop(slice);
        assert_eq!(copy, [1, 2, 3]);
        assert_eq!(PinnedSlice::empty(), []);
    }
}

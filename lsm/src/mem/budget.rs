//! The one memory knob: what everything beside the block cache holds, and so what is left for the cache.
//!
//! Holders of memory take a [`Charge`] and keep it as long as the memory; it gives the bytes back when dropped. The cache gets the
//! limit less all charges, but never less than a sixteenth of the limit: with no cache at all every read would pay a
//! decompression. Charges are never refused (a memtable that must exist, exists); the cache yields instead.
//!
//! Promise: after every change of a charge the cache's capacity follows, within one step (a 128th of the limit).

use crate::base::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// What memory is used for, beside the block cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    /// Memtables and their arenas.
    Memtables = 0,
    /// Filters and indexes of open tables.
    TableMetadata = 1,
    /// Buffers of flushes and compactions.
    Jobs = 2,
}

const USE_COUNT: usize = 3;
/// The cache never gets less than this share of the limit.
const CACHE_SHARE_MIN: u64 = 16;
/// The cache is told only of changes above this share of the limit: resizing takes all its locks.
const STEP_SHARE: u64 = 128;

/// Told when the capacity left for the cache has changed.
pub(crate) trait CapacityListener: Send + Sync {
    fn capacity_changed(&self, bytes: u64);
}

/// The memory limit of a database and who uses how much of it.
pub struct MemoryBudget {
    limit: u64,
    used: [AtomicU64; USE_COUNT],
    /// The capacity that the listener was last told.
    told: AtomicU64,
    listener: Mutex<Option<Weak<dyn CapacityListener>>>,
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: u64) -> Arc<MemoryBudget> {
        Arc::new(MemoryBudget {
            limit,
            used: [const { AtomicU64::new(0) }; USE_COUNT],
            told: AtomicU64::new(limit),
            listener: Mutex::new(None),
        })
    }

    /// Charges `bytes`; the charge may later grow and shrink.
    pub fn charge(self: &Arc<Self>, used_for: Use, bytes: u64) -> Charge {
        let mut charge = Charge { budget: Arc::clone(self), used_for, bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// Bytes charged for one use.
    pub fn used(&self, used_for: Use) -> u64 {
        self.used[used_for as usize].load(Ordering::Relaxed)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// What is left for the block cache in bytes.
    pub fn cache_capacity(&self) -> u64 {
        let charged = self.used.iter().map(|used| used.load(Ordering::Relaxed)).sum();
        self.limit.saturating_sub(charged).max(self.limit / CACHE_SHARE_MIN)
    }

    pub(crate) fn set_listener(&self, listener: Weak<dyn CapacityListener>) {
        *self.listener.lock() = Some(listener);
        self.told.store(self.cache_capacity(), Ordering::Relaxed);
    }

    fn tell(&self) {
        let step = self.limit / STEP_SHARE;
        if self.cache_capacity().abs_diff(self.told.load(Ordering::Relaxed)) <= step {
            return;
        }
        let listener = self.listener.lock();
        // Under the lock, so that of two changes the later one is told last.
        let capacity = self.cache_capacity();
        self.told.store(capacity, Ordering::Relaxed);
        if let Some(listener) = listener.as_ref().and_then(Weak::upgrade) {
            listener.capacity_changed(capacity);
        }
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "MemoryBudget({} bytes, {} left for the cache)",
            self.limit,
            self.cache_capacity()
        )
    }
}

/// Bytes that somebody holds. Dropping it gives them back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    used_for: Use,
    bytes: u64,
}

impl Charge {
    /// Bytes charged now.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows or shrinks the charge to `bytes`.
    pub fn set(&mut self, bytes: u64) {
        let used = &self.budget.used[self.used_for as usize];
        if bytes >= self.bytes {
            used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        self.budget.tell();
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_charge_leaves_nothing_behind() {
        let budget = MemoryBudget::new(1000);
        let mut first = budget.charge(Use::Memtables, 300);
        let second = budget.charge(Use::TableMetadata, 100);
        assert_eq!(budget.cache_capacity(), 600);
        first.set(900);
        assert_eq!((budget.used(Use::Memtables), budget.cache_capacity()), (900, 62));
        first.set(10);
        drop(second);
        assert_eq!(budget.cache_capacity(), 990);
        drop(first);
        assert_eq!((budget.used(Use::Memtables), budget.cache_capacity()), (0, 1000));
    }
}

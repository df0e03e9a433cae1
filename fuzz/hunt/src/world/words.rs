//! Numbers that two processes share and that survive the death of either: a mapped file outside the database.
//!
//! A store is there for the parent whatever happens to the child afterwards, and in the order in which the child made its
//! stores.

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use treering_lsm::io::posix::PosixDisk;
use treering_lsm::io::{Disk, SharedMap};

/// The mapped file.
#[derive(Debug)]
pub struct Words {
    map: Box<dyn SharedMap>,
}

impl Words {
    /// Opens or makes a file of `count` numbers, new ones 0.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, count: usize) -> io::Result<Words> {
        let map = PosixDisk::new().map_shared(path, count * size_of::<AtomicU64>())?;
        Ok(Words { map })
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        let count = self.map.length() / size_of::<AtomicU64>();
        // SAFETY: the map is aligned to a page, lives as long as `self`, and everybody who shares it uses atomics.
        unsafe { std::slice::from_raw_parts(self.map.pointer().cast(), count) }
    }
}

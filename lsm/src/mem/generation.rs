//! A generation: the memtables of all keyspaces between two switches of the WAL segment.
//!
//! All memtables of a generation share one arena and are frozen and flushed together, so that one point of the log divides
//! what is in tables from what must be replayed, and one idle keyspace never holds old log segments back.

use crate::base::key::KeyspaceId;
use crate::mem::arena::Arena;
use crate::mem::memtable::Memtable;
use std::sync::Arc;

/// See the head of the file.
#[derive(Debug)]
pub struct Generation {
    number: u64,
    arena: Arc<Arena>,
    memtables: Vec<Arc<Memtable>>,
}

impl Generation {
    /// An empty generation with one memtable per keyspace; `prefixes[i]` is the hint for keyspace `i`.
    pub fn new(number: u64, arena: Arc<Arena>, prefixes: &[Vec<u8>]) -> Generation {
        let memtable = |prefix: &Vec<u8>| Arc::new(Memtable::new(Arc::clone(&arena), prefix));
        let memtables = prefixes.iter().map(memtable).collect();
        Generation { number, arena, memtables }
    }

    /// Its number; later generations have larger ones.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The memtable of a keyspace; `None` for one made after this generation.
    #[inline]
    pub fn memtable(&self, keyspace: KeyspaceId) -> Option<&Arc<Memtable>> {
        self.memtables.get(keyspace.0 as usize)
    }

    /// All memtables with their keyspaces.
    pub fn memtables(&self) -> impl Iterator<Item = (KeyspaceId, &Arc<Memtable>)> {
        self.memtables
            .iter()
            .enumerate()
            .map(|(index, memtable)| (KeyspaceId(index as u32), memtable))
    }

    /// Bytes taken from the arena.
    #[inline]
    pub fn used(&self) -> usize {
        self.arena.used()
    }

    /// Bytes of the arena.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// True if nothing was written.
    pub fn is_empty(&self) -> bool {
        self.memtables.iter().all(|memtable| memtable.is_empty())
    }

    /// Hints for the next generation.
    pub fn prefixes(&self) -> Vec<Vec<u8>> {
        self.memtables.iter().map(|memtable| memtable.common_prefix()).collect()
    }
}

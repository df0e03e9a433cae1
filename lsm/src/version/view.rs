//! What a read looks at: the generations and the shapes of all keyspaces at one moment.
//!
//! A view is immutable and replaced as a whole. A reader takes the view first and the visible sequence number second:
//! then the view holds everything that was acknowledged before the read began, and nothing that the view holds has been
//! dropped by a later compaction.

use crate::base::key::KeyspaceId;
use crate::mem::generation::Generation;
use crate::version::shape::Shape;
use std::sync::Arc;

/// See the head of the file.
#[derive(Clone, Debug)]
pub struct View {
    /// Takes writes.
    pub active: Arc<Generation>,
    /// Waiting for their flush, newest first.
    pub frozen: Vec<Arc<Generation>>,
    /// Tables by keyspace number.
    pub shapes: Vec<Arc<Shape>>,
}

impl View {
    /// The generations, newest first.
    #[inline]
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// The tables of a keyspace.
    #[inline]
    pub fn shape(&self, keyspace: KeyspaceId) -> Option<&Arc<Shape>> {
        self.shapes.get(keyspace.0 as usize)
    }
}

//! What a read looks at: the generations and the shapes of all keyspaces at one moment.
//!
//! A view is immutable and replaced as a whole. A reader takes the view first and the visible sequence number second:
//! then the view holds everything that was acknowledged before the read began, and nothing that the view holds has been
//! dropped by a later compaction.

use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::sync::atomic::{AtomicU64, Ordering};
use crate::base::sync::{ArcSwap, Mutex, ViewOf};
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
    pub shapes: Shapes,
}

/// Shapes by keyspace number; none for a keyspace that was dropped.
pub type Shapes = Vec<Option<Arc<Shape>>>;

impl View {
    /// The generations, newest first.
    #[inline]
    pub fn generations(&self) -> impl Iterator<Item = &Arc<Generation>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// The tables of a keyspace; `None` if it was dropped. Then its memtables count for nothing.
    #[inline]
    pub fn shape(&self, keyspace: KeyspaceId) -> Option<&Arc<Shape>> {
        self.shapes.get(keyspace.0 as usize)?.as_ref()
    }
}

/// The view of now, and up to which sequence number it may be read.
#[derive(Debug)]
pub struct Current {
    view: ArcSwap<View>,
    /// Held while the view is replaced.
    change: Mutex<()>,
    visible: AtomicU64,
}

impl Current {
    /// Starts with `view`, of which everything up to `visible` may be read.
    pub fn new(view: View, visible: SequenceNumber) -> Current {
        Current {
            view: ArcSwap::from_pointee(view),
            change: Mutex::new(()),
            visible: AtomicU64::new(visible),
        }
    }

    /// What a reader takes: the view first, then the sequence number, unless it reads at a snapshot of its own.
    #[inline]
    pub fn read(&self, snapshot: Option<SequenceNumber>) -> (ViewOf<View>, SequenceNumber) {
        let view = self.view.load();
        let sequence = snapshot.unwrap_or_else(|| self.visible());
        (view, sequence)
    }

    /// The view alone.
    #[inline]
    pub fn view(&self) -> ViewOf<View> {
        self.view.load()
    }

    /// The view, to be held for longer.
    #[inline]
    pub fn view_full(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Everything up to here may be read.
    #[inline]
    pub fn visible(&self) -> SequenceNumber {
        self.visible.load(Ordering::Acquire)
    }

    /// Shows what was written up to `last`. One caller at a time, with rising numbers: the holder of the commit lock.
    #[inline]
    pub fn publish(&self, last: SequenceNumber) {
        self.visible.store(last, Ordering::Release);
    }

    /// Replaces the view. `change` sees the present one.
    pub fn change(&self, change: impl FnOnce(&View) -> View) {
        let _one_writer = self.change.lock();
        let next = change(&self.view.load());
        self.view.store(Arc::new(next));
    }
}

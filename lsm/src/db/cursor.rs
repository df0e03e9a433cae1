//! Cursors and ranges: sorted reads over memtables and tables as of one moment.

use crate::base::error::{Error, Result};
use crate::base::key::KeyspaceId;
use crate::base::slice::PinnedSlice;
use crate::db::engine::Engine;
use crate::db::histograms::{Histograms, Timed};
use crate::db::keyspace::{Keyspace, ReadOptions};
use crate::file::bounds::Bounds;
use crate::file::table_cursor::{ReadAhead, TableCursorOptions};
use crate::version::deleted::Deleted;
use crate::version::level_cursor::LevelCursor;
use crate::version::merge::MergeCursor;
use crate::version::source::Source;
use crate::version::view::View;
use crate::version::visible::VisibleCursor;
use std::fmt;
use std::sync::{Arc, Weak};

/// Deleted entries in a row that make a scan ask for a flush and a compaction of them: about a millisecond's worth.
const PASSED_MANY: usize = 4096;

impl Engine {
    pub(crate) fn cursor(
        self: &Arc<Self>,
        keyspace: KeyspaceId,
        options: &ReadOptions,
    ) -> Result<Cursor> {
        self.health.check_open()?;
        let view = self.current.view_full();
        let visible = self.current.visible();
        let sequence = match &options.snapshot {
            Some(snapshot) => snapshot.sequence_in(&self.snapshots)?,
            None => visible,
        };
        let Some(shape) = view.shape(keyspace) else { return Err(self.dropped(keyspace)) };
        let sources = sources(&view, keyspace, options)?;
        let deleted = Deleted::of(&view, keyspace, sequence);
        let operator = shape.operator().cloned();
        let (engine, histograms) = (Arc::downgrade(self), self.histograms.clone());
        let origin = Origin { engine, keyspace, options: options.clone(), histograms };
        let inner = VisibleCursor::new(
            MergeCursor::new(sources),
            sequence,
            options.lower_bound.clone(),
            options.upper_bound.clone(),
        );
        Ok(Cursor { inner: inner.without(deleted).merging(operator), origin })
    }
}

/// Every source of a view that may hold something between the bounds, newest first.
fn sources(view: &Arc<View>, keyspace: KeyspaceId, options: &ReadOptions) -> Result<Vec<Source>> {
    let read_ahead = if options.read_ahead { ReadAhead::Auto } else { ReadAhead::Off };
    let table_options = TableCursorOptions { fill_cache: options.fill_cache, read_ahead };
    let is_bounded = options.lower_bound.is_some() || options.upper_bound.is_some();
    let bounds = is_bounded.then(|| {
        let (lower, upper) = (options.lower_bound.clone(), options.upper_bound.clone());
        Arc::new(Bounds { lower, upper })
    });
    let mut sources = Vec::with_capacity(16);
    for generation in view.generations() {
        if let Some(memtable) =
            generation.memtable(keyspace).filter(|memtable| !memtable.is_empty())
        {
            sources.push(Source::Memtable(memtable.cursor()));
        }
    }
    let Some(shape) = view.shape(keyspace) else { return Ok(sources) };
    let below = |key: &[u8]| options.lower_bound.as_deref().is_some_and(|bound| key < bound);
    let above = |key: &[u8]| options.upper_bound.as_deref().is_some_and(|bound| key >= bound);
    for table in shape.level(0).tables() {
        if !below(&table.info().largest) && !above(&table.info().smallest) {
            let mut cursor = table.reader()?.cursor(table_options);
            bounds.iter().for_each(|bounds| cursor.set_bounds(Arc::clone(bounds)));
            sources.push(Source::Table(Box::new(cursor)));
        }
    }
    for (index, level) in shape.levels().iter().enumerate().skip(1) {
        if !level.is_empty() {
            let mut cursor = LevelCursor::over_level(Arc::clone(shape), index, table_options);
            bounds.iter().for_each(|bounds| cursor.set_bounds(Arc::clone(bounds)));
            sources.push(Source::Level(Box::new(cursor)));
        }
    }
    Ok(sources)
}

/// A position in a keyspace, movable both ways. It sees one moment: later writes do not show.
///
/// A move returns whether the cursor stands on an entry afterwards; after an `Err` it does not.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
/// db.put(b"a", b"1")?;
/// db.put(b"c", b"3")?;
/// let mut cursor = db.default_keyspace().cursor(&Default::default())?;
/// assert!(cursor.seek(b"b")?);
/// assert_eq!((cursor.key(), cursor.value()), (&b"c"[..], &b"3"[..]));
/// assert!(cursor.prev()?);
/// assert_eq!(cursor.key(), b"a");
/// assert!(!cursor.prev()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cursor {
    inner: Merged,
    origin: Origin,
}

type Merged = VisibleCursor<MergeCursor<Source>>;

/// What a cursor was made from.
struct Origin {
    /// A cursor does not keep the database open.
    engine: Weak<Engine>,
    keyspace: KeyspaceId,
    /// Its snapshot keeps what is needed from being compacted away under a cursor that opens tables later.
    options: ReadOptions,
    histograms: Option<Arc<Histograms>>,
}

impl Cursor {
    /// Lets go of the memtables and tables that the cursor keeps alive, and goes on with those of now: for cursors that live long.
    ///
    /// A cursor without a snapshot sees the newest state from then on, one with a snapshot what it saw before. It stays on its key,
    /// or moves on to the next if that is gone; true if it stands on an entry afterwards.
    ///
    /// # Errors
    /// As [`Keyspace::cursor`] (the cursor is as before then) and as a seek. [`Error::Closed`](crate::Error::Closed) after the database was closed.
    ///
    /// ```
    /// # let directory = tempfile::tempdir()?;
    /// # let db = treering_lsm::Db::open(directory.path(), Default::default())?;
    /// db.put(b"a", b"1")?;
    /// let mut cursor = db.default_keyspace().cursor(&Default::default())?;
    /// cursor.seek_to_first()?;
    /// db.put(b"a", b"2")?;
    /// assert_eq!(cursor.value(), b"1");
    /// assert!(cursor.refresh()?);
    /// assert_eq!(cursor.value(), b"2");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refresh(&mut self) -> Result<bool> {
        let engine = self.origin.engine.upgrade().ok_or(Error::Closed)?;
        let fresh = engine.cursor(self.origin.keyspace, &self.origin.options)?;
        let before = std::mem::replace(self, fresh);
        if before.valid() { self.seek(before.key()) } else { Ok(false) }
    }

    /// True while the cursor stands on an entry.
    #[inline]
    pub fn valid(&self) -> bool {
        self.inner.valid()
    }

    /// The key.
    ///
    /// # Panics
    /// If the cursor is not valid; so do `value` and `pin_value`.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.inner.key()
    }

    /// The value, until the next move.
    #[inline]
    pub fn value(&self) -> &[u8] {
        self.inner.value()
    }

    /// The value, kept alive by itself, without a copy.
    pub fn pin_value(&self) -> PinnedSlice {
        self.inner.pin_value()
    }

    /// Has deleted entries cleared away if the move met very many of them.
    #[inline]
    fn watch(&self, moved: Result<bool>) -> Result<bool> {
        if self.inner.passed() >= PASSED_MANY
            && let Some(engine) = self.origin.engine.upgrade()
        {
            engine.clear_the_way_of_scans(self.origin.keyspace);
        }
        moved
    }

    /// Seeks, and times it if times are kept.
    #[inline]
    fn timed(&mut self, seek: impl FnOnce(&mut Merged) -> Result<bool>) -> Result<bool> {
        let moved = match &self.origin.histograms {
            None => seek(&mut self.inner),
            Some(histograms) => histograms.timed(Timed::Seek, || seek(&mut self.inner)),
        };
        self.watch(moved)
    }

    /// Moves to the first key at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<bool> {
        self.timed(|inner| inner.seek(key))
    }

    /// Moves to the last key at or before `key`.
    pub fn seek_for_prev(&mut self, key: &[u8]) -> Result<bool> {
        self.timed(|inner| inner.seek_for_prev(key))
    }

    /// Moves to the first key.
    pub fn seek_to_first(&mut self) -> Result<bool> {
        self.timed(|inner| inner.seek_to_first())
    }

    /// Moves to the last key.
    pub fn seek_to_last(&mut self) -> Result<bool> {
        self.timed(|inner| inner.seek_to_last())
    }

    /// Moves to the next key. On a cursor that is not valid it does nothing.
    #[inline]
    #[allow(
        clippy::should_implement_trait,
        reason = "a cursor lends its entries, an Iterator cannot"
    )]
    pub fn next(&mut self) -> Result<bool> {
        if !self.inner.valid() {
            return Ok(false);
        }
        let moved = self.inner.next();
        self.watch(moved)
    }

    /// Moves to the previous key. On a cursor that is not valid it does nothing.
    #[inline]
    pub fn prev(&mut self) -> Result<bool> {
        if !self.inner.valid() {
            return Ok(false);
        }
        let moved = self.inner.prev();
        self.watch(moved)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.valid() {
            true => write!(f, "Cursor(b\"{}\")", self.key().escape_ascii()),
            false => write!(f, "Cursor(not positioned)"),
        }
    }
}

/// The entries of a range, from both ends: a [`DoubleEndedIterator`] of owned keys and pinned values.
#[derive(Debug)]
pub struct Range {
    front: Cursor,
    /// Made when the back is first asked for.
    back: Option<Cursor>,
    keyspace: Keyspace,
    options: ReadOptions,
    front_started: bool,
    done: bool,
}

impl Range {
    pub(crate) fn new(keyspace: &Keyspace, mut options: ReadOptions) -> Result<Range> {
        // Both ends must see the same moment.
        let engine = &keyspace.handle.engine;
        options.snapshot.get_or_insert_with(|| engine.snapshots.take(&engine.current));
        let front = keyspace.cursor(&options)?;
        Ok(Range {
            front,
            back: None,
            keyspace: keyspace.clone(),
            options,
            front_started: false,
            done: false,
        })
    }

    fn step_front(&mut self) -> Result<Option<(Vec<u8>, PinnedSlice)>> {
        let found =
            if self.front_started { self.front.next()? } else { self.front.seek_to_first()? };
        self.front_started = true;
        let met = |back: &Cursor| !back.valid() || back.key() <= self.front.key();
        if !found || self.back.as_ref().is_some_and(met) {
            self.done = true;
            return Ok(None);
        }
        Ok(Some((self.front.key().to_vec(), self.front.pin_value())))
    }

    fn step_back(&mut self) -> Result<Option<(Vec<u8>, PinnedSlice)>> {
        let (back, found) = match &mut self.back {
            Some(back) => {
                let found = back.prev()?;
                (back, found)
            }
            None => {
                let back = self.back.insert(self.keyspace.cursor(&self.options)?);
                let found = back.seek_to_last()?;
                (back, found)
            }
        };
        let met = self.front_started
            && (!self.front.valid() || (found && back.key() <= self.front.key()));
        if !found || met {
            self.done = true;
            return Ok(None);
        }
        Ok(Some((back.key().to_vec(), back.pin_value())))
    }

    fn finish<T>(&mut self, step: Result<Option<T>>) -> Option<Result<T>> {
        self.done |= !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, PinnedSlice)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step_front();
        self.finish(step)
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step_back();
        self.finish(step)
    }
}

impl std::iter::FusedIterator for Range {}

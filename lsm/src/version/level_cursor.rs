//! A cursor over a sorted level: its disjoint tables one after the other, each opened when it is reached.

use crate::base::cursor::{EntryCursor, Target};
use crate::base::error::Result;
use crate::base::key::{SequenceNumber, Tag};
use crate::base::slice::PinnedSlice;
use crate::file::bounds::Bounds;
use crate::file::table_cursor::{TableCursor, TableCursorOptions};
use crate::version::shape::Shape;
use crate::version::table::Table;
use std::sync::Arc;

/// The tables that a [`LevelCursor`] walks over.
#[derive(Debug)]
enum Tables {
    /// A whole level of a shape, which stays alive with the cursor.
    Level(Arc<Shape>, usize),
    /// Chosen tables, sorted and disjoint.
    List(Vec<Arc<Table>>),
}

impl Tables {
    #[inline]
    fn list(&self) -> &[Arc<Table>] {
        match self {
            Tables::Level(shape, level) => shape.level(*level).tables(),
            Tables::List(tables) => tables,
        }
    }

    fn lower_bound(&self, key: &[u8]) -> usize {
        match self {
            Tables::Level(shape, level) => shape.level(*level).lower_bound(key),
            Tables::List(tables) => tables.partition_point(|table| &table.info().largest[..] < key),
        }
    }
}

/// See the head of the file.
#[derive(Debug)]
pub struct LevelCursor {
    tables: Tables,
    options: TableCursorOptions,
    bounds: Option<Arc<Bounds>>,
    index: usize,
    current: Option<TableCursor>,
}

impl LevelCursor {
    /// Over all tables of a sorted level.
    pub fn over_level(shape: Arc<Shape>, level: usize, options: TableCursorOptions) -> LevelCursor {
        LevelCursor::new(Tables::Level(shape, level), options)
    }

    /// Over sorted, disjoint tables.
    pub fn over_tables(tables: Vec<Arc<Table>>, options: TableCursorOptions) -> LevelCursor {
        LevelCursor::new(Tables::List(tables), options)
    }

    fn new(tables: Tables, options: TableCursorOptions) -> LevelCursor {
        LevelCursor { tables, options, bounds: None, index: usize::MAX, current: None }
    }

    /// Reads nothing ahead beyond these bounds, and opens no table there of itself.
    pub fn set_bounds(&mut self, bounds: Arc<Bounds>) {
        self.bounds = Some(bounds);
    }

    /// Opens the only table where `target` can lie, without a move in it; none if there is no such table.
    pub fn choose(&mut self, target: Target<'_>) -> Result<()> {
        let tables = self.tables.list();
        let index = match target {
            Target::First => 0,
            Target::Last => tables.len().wrapping_sub(1),
            Target::At(key, _) => self.tables.lower_bound(key),
            Target::Before(key) => {
                let index = self.tables.lower_bound(key);
                let begins_below =
                    tables.get(index).is_some_and(|table| &table.info().smallest[..] < key);
                if begins_below { index } else { index.wrapping_sub(1) }
            }
        };
        self.open(index).map(drop)
    }

    /// The cursor in the chosen table.
    #[inline]
    pub fn chosen(&mut self) -> Option<&mut TableCursor> {
        self.current.as_mut()
    }

    /// Finishes the move for which the table was chosen and the cursor in it was aimed.
    pub fn land(&mut self, target: Target<'_>) -> Result<()> {
        if let Some(cursor) = &mut self.current {
            cursor.land(target)?;
        }
        match target {
            Target::First | Target::At(..) => self.skip_forward(),
            Target::Last | Target::Before(_) => self.skip_backward(),
        }
    }

    /// Makes the cursor of table `index` the current one; false past either end.
    fn open(&mut self, index: usize) -> Result<bool> {
        if self.current.is_some() && self.index == index {
            return Ok(true);
        }
        self.current = None;
        let Some(table) = self.tables.list().get(index) else { return Ok(false) };
        let mut cursor = table.reader()?.cursor(self.options);
        if let Some(bounds) = &self.bounds {
            cursor.set_bounds(Arc::clone(bounds));
        }
        self.current = Some(cursor);
        self.index = index;
        Ok(true)
    }

    /// Moves to the first entry of the next tables while the current one has no entry left.
    fn skip_forward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|cursor| !cursor.valid()) {
            let next = self.index + 1;
            let is_beyond =
                |bounds: &Bounds, table: &Table| bounds.ends_before(&table.info().smallest);
            if self.is_out(next, is_beyond) {
                self.current = None;
            } else if self.open(next)?
                && let Some(cursor) = &mut self.current
            {
                cursor.seek_to_first()?;
            }
        }
        Ok(())
    }

    /// Moves to the last entry of the tables before while the current one has no entry left.
    fn skip_backward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|cursor| !cursor.valid()) {
            let before = self.index.wrapping_sub(1);
            let is_before =
                |bounds: &Bounds, table: &Table| bounds.begins_after(&table.info().largest);
            if self.is_out(before, is_before) {
                self.current = None;
            } else if self.open(before)?
                && let Some(cursor) = &mut self.current
            {
                cursor.seek_to_last()?;
            }
        }
        Ok(())
    }

    /// True if a table lies out of the bounds, as `is_out` judges.
    fn is_out(&self, index: usize, is_out: impl FnOnce(&Bounds, &Table) -> bool) -> bool {
        let table = self.tables.list().get(index);
        self.bounds.as_ref().zip(table).is_some_and(|(bounds, table)| is_out(bounds, table))
    }

    #[inline]
    fn cursor(&self) -> &TableCursor {
        self.current.as_ref().expect("called only while valid")
    }
}

impl EntryCursor for LevelCursor {
    #[inline]
    fn valid(&self) -> bool {
        self.current.as_ref().is_some_and(EntryCursor::valid)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor().key()
    }

    #[inline]
    fn tag(&self) -> Tag {
        self.cursor().tag()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.cursor().value()
    }

    fn pin_value(&self) -> PinnedSlice {
        self.cursor().pin_value()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        self.go(Target::First)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.go(Target::Last)
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        self.go(Target::At(key, tag))
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.go(Target::Before(key))
    }

    fn go(&mut self, target: Target<'_>) -> Result<()> {
        self.choose(target)?;
        if let Some(cursor) = &mut self.current {
            cursor.aim(target)?;
        }
        self.land(target)
    }

    /// Tables of which nothing can stay are passed without being opened.
    fn next_past(&mut self, key: Option<&[u8]>, below: SequenceNumber) -> Result<()> {
        let tables = self.tables.list();
        let is_old = |table: &Table| table.info().sequence_max < below;
        let ends_before = |table: &Table| key.is_none_or(|key| &table.info().largest[..] < key);
        if !tables.get(self.index).is_some_and(|table| is_old(table)) {
            return self.next();
        }
        let passed = tables[self.index..].iter();
        let passed = passed.take_while(|table| is_old(table) && ends_before(table)).count();
        let index = self.index + passed;
        let begins_at_key = tables.get(index).is_some_and(|table| is_old(table));
        if self.open(index)?
            && let Some(cursor) = &mut self.current
        {
            match key {
                Some(key) if begins_at_key => cursor.seek(key, Tag::MAX)?,
                _ => cursor.seek_to_first()?,
            }
        }
        self.skip_forward()
    }

    fn prev_past(&mut self, key: &[u8], below: SequenceNumber) -> Result<()> {
        let tables = self.tables.list();
        let is_old = |table: &Table| table.info().sequence_max < below;
        let begins_after = |table: &Table| &table.info().smallest[..] >= key;
        if !tables.get(self.index).is_some_and(|table| is_old(table)) {
            return self.prev();
        }
        let passed = tables[..=self.index].iter().rev();
        let passed = passed.take_while(|table| is_old(table) && begins_after(table)).count();
        let index = self.index.wrapping_sub(passed);
        let ends_before_key = tables.get(index).is_some_and(|table| is_old(table));
        if self.open(index)?
            && let Some(cursor) = &mut self.current
        {
            if ends_before_key { cursor.seek_before(key)? } else { cursor.seek_to_last()? }
        }
        self.skip_backward()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.current {
            cursor.next()?;
            if !cursor.valid() {
                return self.skip_forward();
            }
        }
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.current {
            cursor.prev()?;
            if !cursor.valid() {
                return self.skip_backward();
            }
        }
        Ok(())
    }
}

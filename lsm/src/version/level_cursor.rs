//! A cursor over a sorted level: its disjoint tables one after the other, each opened when it is reached.

use crate::base::cursor::EntryCursor;
use crate::base::error::Result;
use crate::base::key::Tag;
use crate::base::slice::PinnedSlice;
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
    index: usize,
    current: Option<TableCursor>,
}

impl LevelCursor {
    /// Over all tables of a sorted level.
    pub fn over_level(shape: Arc<Shape>, level: usize, options: TableCursorOptions) -> LevelCursor {
        LevelCursor {
            tables: Tables::Level(shape, level),
            options,
            index: usize::MAX,
            current: None,
        }
    }

    /// Over sorted, disjoint tables.
    pub fn over_tables(tables: Vec<Arc<Table>>, options: TableCursorOptions) -> LevelCursor {
        LevelCursor { tables: Tables::List(tables), options, index: usize::MAX, current: None }
    }

    /// Makes the cursor of table `index` the current one; false past either end.
    fn open(&mut self, index: usize) -> Result<bool> {
        if self.current.is_some() && self.index == index {
            return Ok(true);
        }
        self.current = None;
        let Some(table) = self.tables.list().get(index) else { return Ok(false) };
        self.current = Some(table.reader()?.cursor(self.options));
        self.index = index;
        Ok(true)
    }

    /// Moves to the first entry of the next tables while the current one has no entry left.
    fn skip_forward(&mut self) -> Result<()> {
        while self.current.as_ref().is_some_and(|cursor| !cursor.valid()) {
            if self.open(self.index + 1)?
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
            if self.open(before)?
                && let Some(cursor) = &mut self.current
            {
                cursor.seek_to_last()?;
            }
        }
        Ok(())
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
        if self.open(0)?
            && let Some(cursor) = &mut self.current
        {
            cursor.seek_to_first()?;
        }
        self.skip_forward()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let last = self.tables.list().len().wrapping_sub(1);
        if self.open(last)?
            && let Some(cursor) = &mut self.current
        {
            cursor.seek_to_last()?;
        }
        self.skip_backward()
    }

    fn seek(&mut self, key: &[u8], tag: Tag) -> Result<()> {
        let index = self.tables.lower_bound(key);
        if self.open(index)?
            && let Some(cursor) = &mut self.current
        {
            cursor.seek(key, tag)?;
        }
        self.skip_forward()
    }

    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        // The table that may hold `key` can begin at it; then the entry before is the last one of the table before.
        let index = self.tables.lower_bound(key).min(self.tables.list().len().wrapping_sub(1));
        if self.open(index)?
            && let Some(cursor) = &mut self.current
        {
            cursor.seek_before(key)?;
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

//! The shape of a keyspace: an immutable set of levels. A new one is made for every version edit; readers keep theirs.

use crate::base::error::{Error, Result};
use crate::base::key::FileNumber;
use crate::base::limits::LEVEL_COUNT;
use crate::version::level::Level;
use crate::version::table::Table;
use std::path::Path;
use std::sync::Arc;

/// All levels of one keyspace at one moment.
#[derive(Clone, Debug)]
pub struct Shape {
    levels: [Level; LEVEL_COUNT],
}

impl Default for Shape {
    fn default() -> Self {
        Shape { levels: std::array::from_fn(|_| Level::default()) }
    }
}

impl Shape {
    /// The levels, L0 first.
    #[inline]
    pub fn levels(&self) -> &[Level; LEVEL_COUNT] {
        &self.levels
    }

    /// One level.
    #[inline]
    pub fn level(&self, level: usize) -> &Level {
        &self.levels[level]
    }

    /// Number of tables.
    pub fn table_count(&self) -> usize {
        self.levels.iter().map(|level| level.tables().len()).sum()
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(Level::bytes).sum()
    }

    /// The deepest level that holds a table.
    pub fn deepest(&self) -> Option<usize> {
        (0..LEVEL_COUNT).rev().find(|&level| !self.levels[level].is_empty())
    }

    /// This shape after removals and additions.
    ///
    /// # Errors
    /// [`Error::Corruption`] of the manifest at `manifest`, if a removed table is not there, an added one is there already, or
    /// tables of a sorted level overlap.
    pub fn apply(
        &self,
        removed: &[(usize, FileNumber)],
        added: &[(usize, Arc<Table>)],
        manifest: &Path,
    ) -> Result<Shape> {
        let wrong = |detail: String| Error::corruption(manifest, 0, detail);
        let mut shape = self.clone();
        for level in 0..LEVEL_COUNT {
            let gone: Vec<_> =
                removed.iter().filter(|(at, _)| *at == level).map(|(_, number)| *number).collect();
            let new: Vec<_> =
                added.iter().filter(|(at, _)| *at == level).map(|(_, table)| table).collect();
            if gone.is_empty() && new.is_empty() {
                continue;
            }
            let mut tables = self.levels[level].tables().to_vec();
            for number in gone {
                let before = tables.len();
                tables.retain(|table| table.number() != number);
                if tables.len() == before {
                    return Err(wrong(format!(
                        "table {} is removed from L{level}, which has none",
                        number.0
                    )));
                }
            }
            for table in new {
                if tables.iter().any(|present| present.number() == table.number()) {
                    return Err(wrong(format!(
                        "table {} is added twice to L{level}",
                        table.number().0
                    )));
                }
                tables.push(Arc::clone(table));
            }
            shape.levels[level] =
                if level == 0 { Level::overlapping(tables) } else { Level::disjoint(tables) };
            let sorted = shape.levels[level].tables();
            if level > 0
                && sorted.windows(2).any(|pair| pair[0].info().largest >= pair[1].info().smallest)
            {
                return Err(wrong(format!("tables of L{level} overlap")));
            }
        }
        Ok(shape)
    }
}

//! The shape of a keyspace: an immutable set of levels, and the range deletes over them. A new one is made for every version edit; readers keep theirs.

use crate::base::compaction_filter::CompactionFilter;
use crate::base::error::{Error, Result};
use crate::base::guard_keys::GuardKeys;
use crate::base::key::{FileNumber, SequenceNumber};
use crate::base::limits::LEVEL_COUNT;
use crate::base::merge::MergeOperator;
use crate::base::range_deletes::{RangeDeletes, Step};
use crate::version::level::Level;
use crate::version::table::Table;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// All levels of one keyspace at one moment.
#[derive(Clone, Debug)]
pub struct Shape {
    levels: [Level; LEVEL_COUNT],
    ranges: Arc<RangeDeletes>,
    covered: OnceLock<Vec<Covered>>,
    cut_into: OnceLock<Vec<(usize, Arc<Table>)>>,
    rules: Arc<Rules>,
}

/// What holds for the entries and tables of a keyspace beside what they say themselves.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What operands mean.
    pub operator: Option<Arc<dyn MergeOperator>>,
    /// What compactions ask.
    pub filter: Option<Arc<dyn CompactionFilter>>,
    /// Where tables are cut.
    pub guards: GuardKeys,
}

/// A table of which every entry is deleted by ranges.
#[derive(Clone, Debug)]
pub struct Covered {
    /// Its level.
    pub level: usize,
    /// The table.
    pub table: Arc<Table>,
    /// The oldest moment at which all of it is deleted.
    pub since: SequenceNumber,
}

impl Default for Shape {
    fn default() -> Self {
        let levels = std::array::from_fn(|_| Level::default());
        Shape {
            levels,
            ranges: Arc::default(),
            covered: OnceLock::new(),
            cut_into: OnceLock::new(),
            rules: Arc::default(),
        }
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

    /// The range deletes that something in the tables may still fall under.
    #[inline]
    pub fn ranges(&self) -> &Arc<RangeDeletes> {
        &self.ranges
    }

    /// This shape with other range deletes.
    pub fn with_ranges(&self, ranges: RangeDeletes) -> Shape {
        let (covered, cut_into) = (OnceLock::new(), OnceLock::new());
        Shape { ranges: Arc::new(ranges), covered, cut_into, ..self.clone() }
    }

    /// What operands mean in this keyspace.
    #[inline]
    pub fn operator(&self) -> Option<&Arc<dyn MergeOperator>> {
        self.rules.operator.as_ref()
    }

    /// What compactions ask in this keyspace.
    pub fn filter(&self) -> Option<&Arc<dyn CompactionFilter>> {
        self.rules.filter.as_ref()
    }

    /// Where tables of this keyspace are cut.
    pub fn guards(&self) -> &GuardKeys {
        &self.rules.guards
    }

    /// All of them.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// This shape under other rules.
    pub fn with_rules(&self, rules: Arc<Rules>) -> Shape {
        Shape { rules, ..self.clone() }
    }

    /// True if `sequence`, a range delete over the keys of `step`, may still hide something in a table.
    pub fn needs(&self, step: Step<'_>, sequence: SequenceNumber) -> bool {
        // From the first key of the step to before its end, that is: to the last table that begins before it.
        let (from, to) = (step.from.unwrap_or_default(), step.to);
        self.levels.iter().enumerate().any(|(number, level)| {
            let start = if number == 0 { 0 } else { level.lower_bound(from) };
            let meets = |table: &&Arc<Table>| {
                let info = table.info();
                &info.largest[..] >= from && to.is_none_or(|to| &info.smallest[..] < to)
            };
            let tables = level.tables()[start..].iter();
            let begins = |table: &&Arc<Table>| {
                number == 0 || to.is_none_or(|to| &table.info().smallest[..] < to)
            };
            let mut tables = tables.take_while(begins).filter(meets);
            tables.any(|table| {
                table.info().sequence_min < sequence && table.info().applied < sequence
            })
        })
    }

    /// True if an entry of `table`, one of this shape's, may be deleted by a range that its making did not know.
    pub fn is_cut_into(&self, table: &Table) -> bool {
        let info = table.info();
        !self.ranges.is_empty()
            && self.ranges.any_newer(
                &info.smallest,
                &info.largest,
                info.applied.max(info.sequence_min),
            )
    }

    /// True if a rewrite of `table` would apply a range delete, with no snapshot older than `oldest`.
    pub fn has_to_apply(&self, table: &Table, oldest: SequenceNumber) -> bool {
        let info = table.info();
        let known = info.applied.max(info.sequence_min);
        self.ranges.count_between(&info.smallest, &info.largest, known, oldest) > 0
    }

    /// The tables that range deletes cut into, with their levels; those that most do first. Found at the first call.
    pub fn cut_into(&self) -> &[(usize, Arc<Table>)] {
        self.cut_into.get_or_init(|| {
            let levels = self.levels.iter().enumerate();
            let tables = levels.flat_map(|(number, level)| {
                level.tables().iter().map(move |table| (number, Arc::clone(table)))
            });
            let cuts = tables.map(|(level, table)| {
                let info = table.info();
                let known = info.applied.max(info.sequence_min);
                let cuts = self.ranges.count_between(
                    &info.smallest,
                    &info.largest,
                    known,
                    SequenceNumber::MAX,
                );
                (cuts, level, table)
            });
            let mut cuts: Vec<_> = cuts.filter(|(cuts, ..)| *cuts > 0).collect();
            cuts.sort_by_key(|(cuts, level, table)| {
                std::cmp::Reverse((*cuts, *level, table.number()))
            });
            cuts.into_iter().map(|(_, level, table)| (level, table)).collect()
        })
    }

    /// Tables that hold nothing but what ranges deleted. Found at the first call.
    pub fn covered(&self) -> &[Covered] {
        if self.ranges.is_empty() {
            return &[];
        }
        self.covered.get_or_init(|| {
            let mut covered = Vec::new();
            for (level, tables) in self.levels.iter().enumerate() {
                for table in tables.tables() {
                    let info = table.info();
                    let than = info.sequence_max.max(info.applied);
                    let since = self.ranges.all_newer(&info.smallest, &info.largest, than);
                    let of_table = |since| Covered { level, table: Arc::clone(table), since };
                    covered.extend(since.map(of_table));
                }
            }
            covered
        })
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
        (shape.covered, shape.cut_into) = (OnceLock::new(), OnceLock::new());
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

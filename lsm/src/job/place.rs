//! Where a table that comes in from outside goes: a pure function of a shape.
//!
//! All of it is newer than everything that is there, so it may stand at any level above which nothing of its key range is, and beside
//! nothing of it. The deepest such level saves the most compactions.

use crate::base::limits::LEVEL_COUNT;
use crate::base::options::KeyspaceOptions;
use crate::base::planted::{Bug, planted};
use crate::job::pick;
use crate::version::shape::Shape;

/// The level for a table of these keys.
pub fn level_for(
    shape: &Shape,
    options: &KeyspaceOptions,
    smallest: &[u8],
    largest: &[u8],
) -> usize {
    let meets =
        |level: usize| shape.level(level).overlapping_tables(smallest, largest).next().is_some();
    if planted(Bug::IngestTooDeep) && !meets(LEVEL_COUNT - 1) {
        return LEVEL_COUNT - 1;
    }
    // What a compaction that is running will write may lie anywhere between its smallest and its largest key.
    if meets(0) || meets_work(shape, smallest, largest) {
        return 0;
    }
    let free = (1..LEVEL_COUNT).take_while(|&level| !meets(level)).last().unwrap_or(0);
    // Above the base level a table would have to be merged down at once.
    let base = pick::targets(&pick::level_bytes(shape), options).base_level;
    if free < base { 0 } else { free }
}

/// True if the keys lie within what running compactions read.
fn meets_work(shape: &Shape, smallest: &[u8], largest: &[u8]) -> bool {
    let tables = shape.levels().iter().flat_map(|level| level.tables());
    let busy = || tables.clone().filter(|table| table.is_busy()).map(|table| table.info());
    let first = busy().map(|info| &info.smallest[..]).min();
    let last = busy().map(|info| &info.largest[..]).max();
    first.zip(last).is_some_and(|(first, last)| first <= largest && smallest <= last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::table_info::TableInfo;
    use crate::io::sim::SimDisk;
    use crate::mem::budget::MemoryBudget;
    use crate::mem::cache::BlockCache;
    use crate::version::table::{Table, TableContext};
    use std::path::Path;
    use std::sync::Arc;

    fn shape_of(tables: &[(usize, u64, &[u8], &[u8])]) -> Shape {
        let budget = MemoryBudget::new(4 << 20);
        let context = Arc::new(TableContext {
            disk: Arc::new(SimDisk::new(1)),
            directory: "/db".into(),
            direct: false,
            cache: BlockCache::new(Arc::clone(&budget)),
            budget,
            graveyard: crate::base::sync::Mutex::default(),
        });
        let made = tables.iter().map(|&(level, table_id, smallest, largest)| {
            let (smallest, largest) = (smallest.to_vec(), largest.to_vec());
            let file_bytes = 1 << 20;
            let info =
                TableInfo { table_id, file_bytes, smallest, largest, ..TableInfo::default() };
            (level, Arc::new(Table::new(info, Arc::clone(&context))))
        });
        let made: Vec<_> = made.collect();
        Shape::default().apply(&[], &made, Path::new("/db/MANIFEST")).unwrap()
    }

    #[test]
    fn a_table_from_outside_never_goes_below_what_is_older() {
        // Guards: a reader finds the newest version first, level by level.
        let options = KeyspaceOptions::default();
        let level = |shape: &Shape, smallest: &[u8], largest: &[u8]| {
            level_for(shape, &options, smallest, largest)
        };
        assert_eq!(level(&Shape::default(), b"a", b"z"), 6);
        let shape = shape_of(&[(0, 1, b"c", b"d"), (5, 2, b"m", b"p"), (6, 3, b"a", b"k")]);
        assert_eq!(level(&shape, b"d", b"e"), 0);
        assert_eq!(level(&shape, b"x", b"z"), 6);
        assert_eq!(level(&shape, b"e", b"f"), 5);
        // Level 4 is above the base level.
        assert_eq!(level(&shape, b"l", b"m"), 0);
    }

    #[test]
    fn a_table_from_outside_keeps_out_of_the_way_of_a_running_compaction() {
        // Guards: the output of a compaction overlaps nothing of its level.
        let shape = shape_of(&[(6, 2, b"c", b"d"), (6, 3, b"p", b"q")]);
        let options = KeyspaceOptions::default();
        assert_eq!(level_for(&shape, &options, b"f", b"g"), 6);
        let inputs = shape.level(6).tables();
        assert!(inputs.iter().all(|table| table.try_reserve()));
        assert_eq!(level_for(&shape, &options, b"f", b"g"), 0);
        assert_eq!(level_for(&shape, &options, b"x", b"y"), 6);
    }
}

//! Compaction: merges the inputs of a plan into new tables of the output level.
//!
//! Promises:
//! 1. No input is changed or removed; the caller forgets inputs only by the same manifest edit that adds the outputs.
//! 2. Versions of one user key are never split over two tables.
//! 3. On any error, also when the database closes, no output file is left.

use crate::base::compaction_filter::CompactionFilter;
use crate::base::error::Result;
use crate::base::guard_keys::GuardWalk;
use crate::base::key::SequenceNumber;
use crate::base::limits::{IO_ALIGN, LEVEL_COUNT};
use crate::base::range_deletes::RangeDeletes;
use crate::file::table_cursor::{ReadAhead, TableCursorOptions};
use crate::format::table_info::TableInfo;
use crate::job::counters::LevelWork;
use crate::job::filtering::Filtering;
use crate::job::output::{JobContext, Output};
use crate::job::pick::Plan;
use crate::job::retain::Retain;
use crate::job::rewrite::{Meaning, Questions, rewrite};
use crate::version::level_cursor::LevelCursor;
use crate::version::merge::MergeCursor;
use crate::version::source::Source;
use crate::version::table::Table;
use std::sync::Arc;

/// Bytes of a request of a compaction, where there are not too many sources.
const CHUNK_BYTES_MAX: u64 = 256 << 10;
/// The shortest request that is worth a system call.
const CHUNK_BYTES_MIN: u64 = 32 << 10;
/// Memory for what is read ahead of all sources.
const READ_AHEAD_BYTES: u64 = 8 << 20;
/// Buffers of a source at most.
const SOURCE_BUFFERS: u64 = 4;

/// What a compaction has made.
#[derive(Debug)]
pub struct Compacted {
    /// Tables of the output level.
    pub tables: Vec<TableInfo>,
    /// What was done.
    pub work: LevelWork,
    /// What the filter has changed has this sequence number or a larger one: no reader may see both states.
    pub touched: Option<SequenceNumber>,
}

/// Runs a plan to merge; `filter` is asked about what none of the snapshots sees.
///
/// # Errors
/// [`Error::Corruption`](crate::Error::Corruption) of an input, an I/O error, or [`Error::Closed`](crate::Error::Closed).
pub fn compact(
    context: &JobContext,
    plan: &Plan,
    snapshots: Vec<SequenceNumber>,
    filter: Option<Arc<dyn CompactionFilter>>,
) -> Result<Compacted> {
    let mut work = LevelWork { jobs: 1, ..LevelWork::default() };
    for (level, table) in &plan.inputs {
        let bytes = table.info().file_bytes;
        if *level == plan.output_level {
            work.read_lower_bytes += bytes;
        } else {
            work.read_upper_bytes += bytes;
        }
    }
    let ranges = RangeDeletes::clone(plan.shape.ranges());
    let mut retain = Retain::new(snapshots, is_bottom(plan)).without(ranges);
    if plan.options.ttl.is_some() {
        retain = retain.keeping_numbers();
    }
    let infos = plan.inputs.iter().map(|(_, table)| table.info());
    // Expiry sets ranges under numbers that are older than entries: of those no table knows by its entries.
    let known = match plan.options.ttl {
        None => infos.map(|info| info.sequence_max.max(info.applied)).max().unwrap_or(0),
        Some(_) => infos.map(|info| info.applied).min().unwrap_or(0),
    };
    let output = Output::new(context, plan.keyspace, plan.output_level, &plan.options);
    let mut output = output.warm(is_hot(plan)).applied(retain.applied(known));
    let mut cuts = Cuts::new(plan);
    let mut cursor = MergeCursor::new(sources(plan)?);
    let cut_before = |key: &[u8], table_bytes| cuts.due(key, table_bytes);
    let below = |key: &[u8]| covered_below(plan, key);
    let questions = Questions { cut_before, covers_below: below };
    let operator = plan.shape.operator().cloned();
    let mut filtering = Filtering::new(filter, plan.output_level);
    let meaning = Meaning { operator, filtering: &mut filtering };
    rewrite(context, &mut cursor, &mut retain, meaning, &mut output, &mut work, questions)?;
    let tables = output.finish()?;
    work.wrote(&tables);
    work.filter_removed = filtering.removed;
    work.filter_replaced = filtering.replaced;
    work.filter_failures = filtering.failed;
    Ok(Compacted { tables, work, touched: filtering.touched })
}

/// L0 tables each by themselves, newest first; the tables of a sorted level one after the other.
fn sources(plan: &Plan) -> Result<Vec<Source>> {
    let level0 = plan.inputs.iter().filter(|(level, _)| *level == 0).count();
    let read_ahead = ReadAhead::Full { chunk_bytes: chunk_bytes(level0 as u64 + 1) };
    let options = TableCursorOptions { fill_cache: false, read_ahead };
    let mut sources = Vec::new();
    for level in 0..LEVEL_COUNT {
        let tables: Vec<Arc<Table>> = plan
            .inputs
            .iter()
            .filter(|(at, _)| *at == level)
            .map(|(_, table)| Arc::clone(table))
            .collect();
        if level == 0 {
            for table in tables {
                sources.push(Source::Table(Box::new(table.reader()?.cursor(options))));
            }
        } else if !tables.is_empty() {
            sources.push(Source::Level(Box::new(LevelCursor::over_tables(tables, options))));
        }
    }
    Ok(sources)
}

/// How long the requests are with so many sources: long ones cost less CPU, but all of them take memory at once.
fn chunk_bytes(sources: u64) -> u64 {
    let share = READ_AHEAD_BYTES / (sources * SOURCE_BUFFERS);
    share.next_multiple_of(IO_ALIGN as u64).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX)
}

/// True if at least half of what the plan reads is in the cache: then its output takes that place.
fn is_hot(plan: &Plan) -> bool {
    let (mut bytes, mut cached) = (0.0, 0.0);
    for (_, table) in &plan.inputs {
        let size = table.info().file_bytes as f64;
        bytes += size;
        cached += table.opened().map_or(0.0, |reader| reader.cached_share() * size);
    }
    cached * 2.0 >= bytes
}

/// True if no level below the output holds anything of the plan's key range.
fn is_bottom(plan: &Plan) -> bool {
    let Some((smallest, largest)) = plan.key_range() else { return true };
    let below = &plan.shape.levels()[plan.output_level + 1..];
    below.iter().all(|level| level.overlapping_tables(smallest, largest).next().is_none())
}

/// True if a level below the output may hold `key`.
fn covered_below(plan: &Plan, key: &[u8]) -> bool {
    plan.shape.levels()[plan.output_level + 1..].iter().any(|level| level.find(key).is_some())
}

/// Where output tables are cut: at guard keys, at table size, and before a table would meet too much of the level below.
struct Cuts<'a> {
    guards: GuardWalk<'a>,
    grandparents: &'a [Arc<Table>],
    index: usize,
    met_bytes: u64,
    met_bytes_max: u64,
    table_bytes: u64,
}

impl<'a> Cuts<'a> {
    fn new(plan: &'a Plan) -> Cuts<'a> {
        let below = plan.shape.levels().get(plan.output_level + 1);
        let table_bytes = plan.options.table_bytes;
        Cuts {
            guards: plan.shape.guards().walk(),
            grandparents: below.map_or(&[], |level| level.tables()),
            index: 0,
            met_bytes: 0,
            met_bytes_max: table_bytes.saturating_mul(u64::from(plan.options.level_fanout)),
            table_bytes,
        }
    }

    #[inline]
    fn due(&mut self, key: &[u8], written_bytes: u64) -> bool {
        while let Some(table) = self.grandparents.get(self.index) {
            if &table.info().largest[..] >= key {
                break;
            }
            if written_bytes > 0 {
                self.met_bytes += table.info().file_bytes;
            }
            self.index += 1;
        }
        let due = self.guards.passes(key)
            || written_bytes >= self.table_bytes
            || (written_bytes > 0 && self.met_bytes > self.met_bytes_max);
        if due {
            self.met_bytes = 0;
        }
        due
    }
}

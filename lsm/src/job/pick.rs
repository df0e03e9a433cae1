//! Which compaction to run next: a pure function of a shape.
//!
//! Leveled compaction with dynamic level sizes (as RocksDB's level_compaction_dynamic_level_bytes): the last level sets the
//! sizes, each level above is `fanout` times smaller, and L0 goes straight to the first level that has a size, the *base
//! level*. So the last level always holds about 90 % of the data and space amplification stays near 1.1.
//!
//! Promises:
//! 1. All inputs are free, and they are closed under overlap: every L0 table older than a chosen one that meets it, and
//!    every output-level table that meets the chosen range, is chosen too. So a newer version never sinks below an older one.
//! 2. A score of 1 or more means work; the plan with the highest score comes first.

use crate::base::key::{KeyspaceId, SequenceNumber};
use crate::base::limits::LEVEL_COUNT;
use crate::base::options::KeyspaceOptions;
use crate::version::shape::Shape;
use crate::version::table::Table;
use std::sync::Arc;

/// Range deletes that take more memory than this have tables rewritten for them alone, so that they can be forgotten.
const RANGE_BYTES_SOFT: usize = 1 << 20;

/// Fewer tombstones than this do not make a table dense.
const DENSE_TOMBSTONES_MIN: u64 = 256;

/// Score of forgetting tables that ranges have deleted.
const SCORE_DROP: f64 = 1000.0;

/// What a compaction does with its inputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Merges them.
    Merge,
    /// Moves them down by name, without reading them.
    Move,
    /// Forgets them: ranges have deleted all that they hold.
    Drop,
}

/// A compaction to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose tables.
    pub keyspace: KeyspaceId,
    /// Where the output goes.
    pub output_level: usize,
    /// Inputs with their levels; the newest L0 table first.
    pub inputs: Vec<(usize, Arc<Table>)>,
    /// What happens to the inputs.
    pub action: Action,
    /// The shape that the plan was made from.
    pub shape: Arc<Shape>,
    /// The keyspace's options.
    pub options: KeyspaceOptions,
}

impl Plan {
    /// Reserves all inputs, or none.
    pub fn reserve(&self) -> bool {
        for (index, (_, table)) in self.inputs.iter().enumerate() {
            if !table.try_reserve() {
                self.inputs[..index].iter().for_each(|(_, reserved)| reserved.release());
                return false;
            }
        }
        true
    }

    /// Gives the inputs back.
    pub fn release(&self) {
        self.inputs.iter().for_each(|(_, table)| table.release());
    }

    /// Smallest and largest key of all inputs.
    pub fn key_range(&self) -> Option<(&[u8], &[u8])> {
        range_of(self.inputs.iter().map(|(_, table)| table))
    }
}

/// Sizes that the levels should have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Targets {
    /// Where L0 is merged to.
    pub base_level: usize,
    /// Bytes by level; `u64::MAX` for levels above the base and for L0.
    pub bytes: [u64; LEVEL_COUNT],
}

/// Computes the level sizes from what the levels hold.
pub fn targets(level_bytes: &[u64; LEVEL_COUNT], options: &KeyspaceOptions) -> Targets {
    let last = LEVEL_COUNT - 1;
    let fanout = u64::from(options.level_fanout);
    let base_max = options.level_base_bytes;
    let base_min = base_max / fanout;
    let mut bytes = [u64::MAX; LEVEL_COUNT];
    let Some(first) = (1..LEVEL_COUNT).find(|&level| level_bytes[level] > 0) else {
        bytes[last] = base_max;
        return Targets { base_level: last, bytes };
    };
    let largest = (first..LEVEL_COUNT).map(|level| level_bytes[level]).max().unwrap_or(0);
    let mut size = largest;
    for _ in first..last {
        size /= fanout;
    }
    let mut base_level = first;
    if size <= base_min {
        size = base_min + 1;
    } else {
        while base_level > 1 && size > base_max {
            base_level -= 1;
            size /= fanout;
        }
        size = size.min(base_max);
    }
    for slot in &mut bytes[base_level..] {
        // No level below the base is asked to be smaller than a full base level.
        *slot = size.max(base_max);
        size = size.saturating_mul(fanout);
    }
    Targets { base_level, bytes }
}

/// How much a level asks for work; 1 and more means that it should get some. Tables that are busy do not count.
pub fn scores(shape: &Shape, options: &KeyspaceOptions) -> [f64; LEVEL_COUNT] {
    let targets = targets(&level_bytes(shape), options);
    let mut scores = [0.0; LEVEL_COUNT];
    let count = shape.level(0).tables().len() as f64;
    let l0_bytes = shape.level(0).bytes() as f64;
    let by_count = count / f64::from(options.level0_tables);
    scores[0] = by_count.max(l0_bytes / options.level_base_bytes as f64);
    for (level, score) in scores.iter_mut().enumerate().take(LEVEL_COUNT - 1).skip(1) {
        let free: u64 = free_tables(shape, level).map(|table| table.info().file_bytes).sum();
        *score = match level < targets.base_level {
            // Leftovers from before the base moved down: they must sink.
            true if free > 0 => 2.0,
            true => 0.0,
            false => free as f64 / targets.bytes[level] as f64,
        };
    }
    scores
}

/// Bytes of every level.
pub fn level_bytes(shape: &Shape) -> [u64; LEVEL_COUNT] {
    std::array::from_fn(|level| shape.level(level).bytes())
}

/// Bytes that compaction still has to move so that every level has its size: what pacing looks at.
pub fn debt(shape: &Shape, options: &KeyspaceOptions) -> u64 {
    let bytes = level_bytes(shape);
    let targets = targets(&bytes, options);
    let l0_due = shape.level(0).tables().len() >= options.level0_tables as usize;
    let mut coming = if l0_due { bytes[0] } else { 0 };
    let mut debt = if l0_due { bytes[0] + bytes[targets.base_level] } else { 0 };
    for level in targets.base_level..LEVEL_COUNT - 1 {
        let excess = (bytes[level] + coming).saturating_sub(targets.bytes[level]);
        coming = excess;
        if excess > 0 && bytes[level] > 0 {
            let ratio = bytes[level + 1] as f64 / bytes[level] as f64;
            debt += (excess as f64 * (ratio.min(f64::from(options.level_fanout)) + 1.0)) as u64;
        }
    }
    debt
}

/// What a pick has to know beside the shape.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// No snapshot is older.
    pub oldest: SequenceNumber,
    /// Scans of the keyspace have met many deleted entries in a row: these are now worth a compaction of their own.
    pub is_scanned: bool,
}

/// True if something is due, whether or not its inputs are busy.
pub fn is_due(shape: &Shape, options: &KeyspaceOptions, now: Circumstances) -> bool {
    urgencies(shape, options, now).iter().any(|score| *score >= 1.0)
        || shape.covered().iter().any(|covered| covered.since <= now.oldest)
        || applies_ranges(shape, now)
            && shape.cut_into().iter().any(|(_, table)| shape.has_to_apply(table, now.oldest))
}

/// True if tables are rewritten only to apply range deletes.
fn applies_ranges(shape: &Shape, now: Circumstances) -> bool {
    shape.ranges().bytes() > if now.is_scanned { 0 } else { RANGE_BYTES_SOFT }
}

/// The scores, raised to 1 where scans stumble over tombstones that can sink.
fn urgencies(shape: &Shape, options: &KeyspaceOptions, now: Circumstances) -> [f64; LEVEL_COUNT] {
    let mut scores = scores(shape, options);
    for (level, score) in scores.iter_mut().enumerate().take(LEVEL_COUNT - 1) {
        if now.is_scanned && shape.level(level).tables().iter().any(|table| is_dense(table)) {
            *score = score.max(1.0);
        }
    }
    scores
}

/// True for a table of which most entries are tombstones.
fn is_dense(table: &Table) -> bool {
    let info = table.info();
    info.tombstone_count >= DENSE_TOMBSTONES_MIN && info.tombstone_count * 2 > info.entry_count
}

/// The most urgent compaction of a keyspace with its score, or `None` if nothing is due or its inputs are busy.
pub fn pick(
    keyspace: KeyspaceId,
    shape: &Arc<Shape>,
    options: &KeyspaceOptions,
    now: Circumstances,
) -> Option<(f64, Plan)> {
    let plan = |output_level, inputs, action| Plan {
        keyspace,
        output_level,
        inputs,
        action,
        shape: Arc::clone(shape),
        options: options.clone(),
    };
    let covered = shape.covered().iter().filter(|covered| covered.since <= now.oldest);
    let covered: Inputs = covered
        .filter(|covered| !covered.table.is_busy())
        .map(|covered| (covered.level, Arc::clone(&covered.table)))
        .collect();
    if let Some((level, _)) = covered.last() {
        // Nothing gives back more for less.
        return Some((SCORE_DROP, plan(*level, covered, Action::Drop)));
    }
    let scores = urgencies(shape, options, now);
    let mut order: Vec<usize> =
        (0..LEVEL_COUNT - 1).filter(|&level| scores[level] >= 1.0).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let base_level = targets(&level_bytes(shape), options).base_level;
    for level in order {
        let inputs =
            if level == 0 { pick_level0(shape, base_level) } else { pick_sorted(shape, level) };
        if let Some((output_level, inputs)) = inputs {
            let is_move = can_move(shape, level, output_level, &inputs, options);
            let action = if is_move { Action::Move } else { Action::Merge };
            return Some((scores[level], plan(output_level, inputs, action)));
        }
    }
    if applies_ranges(shape, now) {
        let cut_into = shape
            .cut_into()
            .iter()
            .filter(|(_, table)| !table.is_busy() && shape.has_to_apply(table, now.oldest));
        for &(level, ref table) in cut_into {
            if level > 0 {
                // Rewritten where it is: nothing passes anything.
                return Some((1.0, plan(level, vec![(level, Arc::clone(table))], Action::Merge)));
            }
            if let Some((output_level, inputs)) = pick_level0(shape, base_level) {
                return Some((1.0, plan(output_level, inputs, Action::Merge)));
            }
        }
    }
    None
}

type Inputs = Vec<(usize, Arc<Table>)>;

/// All of L0 into the base level. A level between that still holds leftovers of the range must go along.
fn pick_level0(shape: &Shape, base_level: usize) -> Option<(usize, Inputs)> {
    let upper = shape.level(0).tables();
    if upper.iter().any(|table| table.is_busy()) {
        return None;
    }
    let (smallest, largest) = range_of(upper.iter())?;
    // The first level below that meets the range takes the output, so that nothing newer passes something older.
    let output_level = (1..base_level)
        .find(|&level| shape.level(level).overlapping_tables(smallest, largest).next().is_some())
        .unwrap_or(base_level);
    let inputs = upper.iter().map(|table| (0, Arc::clone(table))).collect();
    with_lower(shape, output_level, smallest, largest, inputs)
}

/// The table of a sorted level whose merge costs least per byte, tombstone-dense ones first.
fn pick_sorted(shape: &Shape, level: usize) -> Option<(usize, Inputs)> {
    let output_level = level + 1;
    let cost = |table: &Arc<Table>| {
        let info = table.info();
        let below = shape.level(output_level).overlapping_tables(&info.smallest, &info.largest);
        let below: u64 = below.map(|lower| lower.info().file_bytes).sum();
        (!is_dense(table), below.saturating_mul(1024) / info.file_bytes.max(1), info.table_id)
    };
    let mut candidates: Vec<_> =
        free_tables(shape, level).map(|table| (cost(table), table)).collect();
    candidates.sort_by_key(|(cost, _)| *cost);
    candidates.into_iter().find_map(|(_, table)| {
        let info = table.info();
        let inputs = vec![(level, Arc::clone(table))];
        with_lower(shape, output_level, &info.smallest, &info.largest, inputs)
    })
}

/// Adds the output level's tables that meet the range; `None` if one is busy.
fn with_lower(
    shape: &Shape,
    output_level: usize,
    smallest: &[u8],
    largest: &[u8],
    mut inputs: Inputs,
) -> Option<(usize, Inputs)> {
    for table in shape.level(output_level).overlapping_tables(smallest, largest) {
        if table.is_busy() {
            return None;
        }
        inputs.push((output_level, Arc::clone(table)));
    }
    Some((output_level, inputs))
}

/// True if the inputs can be handed down by name: nothing to merge, same compression, not too much overlap two levels down.
fn can_move(
    shape: &Shape,
    level: usize,
    output: usize,
    inputs: &Inputs,
    options: &KeyspaceOptions,
) -> bool {
    if options.compression[level] != options.compression[output] {
        return false;
    }
    // The filter wants to see what sinks, and tables that span a guard key are cut.
    let is_to_be_cut = inputs.iter().any(|(_, table)| is_to_be_cut(shape, table));
    if shape.filter().is_some() || is_to_be_cut {
        return false;
    }
    // Tombstones that a merge might drop are not handed on.
    if inputs.iter().any(|(at, table)| *at != level || is_dense(table)) {
        return false;
    }
    let mut ranges: Vec<_> =
        inputs.iter().map(|(_, t)| (&t.info().smallest, &t.info().largest)).collect();
    ranges.sort();
    if ranges.windows(2).any(|pair| pair[0].1 >= pair[1].0) {
        return false;
    }
    let Some((smallest, largest)) = range_of(inputs.iter().map(|(_, table)| table)) else {
        return false;
    };
    let below: u64 = match shape.levels().get(output + 1) {
        Some(grandparents) => grandparents
            .overlapping_tables(smallest, largest)
            .map(|table| table.info().file_bytes)
            .sum(),
        None => 0,
    };
    below <= options.table_bytes.saturating_mul(u64::from(options.level_fanout))
}

/// True for a table that goes over a guard key.
fn is_to_be_cut(shape: &Shape, table: &Table) -> bool {
    shape.guards().cut(&table.info().smallest, &table.info().largest)
}

/// Everything that meets a key range, in all levels, to be merged into the last level; `None` if it is there already
/// without tombstones and range deletes to apply.
///
/// The range grows downwards: what a chosen table meets in a deeper level is older and must go along; what lies above is newer
/// and may stay. The caller sees to it that nothing is busy.
pub fn whole_range(
    keyspace: KeyspaceId,
    shape: &Arc<Shape>,
    options: &KeyspaceOptions,
    range: Option<(&[u8], &[u8])>,
) -> Option<Plan> {
    let all = shape.levels().iter().flat_map(|level| level.tables());
    let (mut smallest, mut largest) = match range {
        Some(range) => range,
        None => range_of(all)?,
    };
    let mut inputs: Inputs = Vec::new();
    for level in 0..LEVEL_COUNT {
        loop {
            let met = || shape.level(level).overlapping_tables(smallest, largest);
            let Some((low, high)) = range_of(met()) else { break };
            let grown = low < smallest || high > largest;
            (smallest, largest) = (low.min(smallest), high.max(largest));
            // In L0 a wider range may meet more tables; sorted levels are closed after one round.
            if !grown || level > 0 {
                let chosen: Vec<_> =
                    if level == 0 { met().collect() } else { exact(shape, level, low, high) };
                inputs.extend(chosen.into_iter().map(|table| (level, Arc::clone(table))));
                break;
            }
        }
    }
    let last = LEVEL_COUNT - 1;
    let is_clean = |table: &Table| table.info().tombstone_count == 0 && !shape.is_cut_into(table);
    // A filter may have more to say, now or always.
    let is_settled = |(level, table): &(usize, Arc<Table>)| {
        *level == last && is_clean(table) && !is_to_be_cut(shape, table) && shape.filter().is_none()
    };
    if inputs.iter().all(is_settled) {
        return None;
    }
    let level = inputs.iter().map(|(level, _)| *level).min().unwrap_or(0);
    let is_move = can_move(shape, level, last, &inputs, options)
        && inputs.iter().all(|(_, table)| is_clean(table));
    let action = if is_move { Action::Move } else { Action::Merge };
    let (shape, options) = (Arc::clone(shape), options.clone());
    Some(Plan { keyspace, output_level: last, inputs, action, shape, options })
}

fn exact<'a>(
    shape: &'a Shape,
    level: usize,
    smallest: &[u8],
    largest: &[u8],
) -> Vec<&'a Arc<Table>> {
    shape.level(level).overlapping_tables(smallest, largest).collect()
}

fn free_tables(shape: &Shape, level: usize) -> impl Iterator<Item = &Arc<Table>> {
    shape.level(level).tables().iter().filter(|table| !table.is_busy())
}

fn range_of<'a>(tables: impl Iterator<Item = &'a Arc<Table>>) -> Option<(&'a [u8], &'a [u8])> {
    tables
        .map(|table| (&table.info().smallest[..], &table.info().largest[..]))
        .reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))
}

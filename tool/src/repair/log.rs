//! Where the next open begins to replay, when the manifest that said so is lost.
//!
//! The log is one chain, and every suffix of it that holds what is not in tables yet may be replayed: a record that is in tables, too,
//! comes with the same sequence number, and whatever was newer than it comes after it in the same suffix. A record without its
//! successors must not be replayed: it would stand above entries that have lost their number at the bottom of the tree. So
//! the mark is the first byte of a segment from which the chain is whole, the last one before which every operation is in tables (a
//! flush gives a keyspace all its operations up to a sequence number). Segments that were used again leave holes in front of it.
//!
//! Writes of class None are in no log. Where more of the log is replayed than is missing from tables (all that a keyspace has has sunk to the
//! bottom, so that no number says how far it was flushed), an older logged value of such a key may come back.
//!
//! Where the chain of what is needed is broken, what can be read of it is written to a new log, and the old files go to the lost
//! directory: the next open would refuse a log that ends before what it promised.

use super::evidence::Evidence;
use crate::database::Database;
use crate::report::count;
use crate::wal::Segment;
use std::collections::BTreeMap;
use treering_lsm::Result;
use treering_lsm::file::wal::walk::{self, Gap};
use treering_lsm::file::wal::{self, LogStart};
use treering_lsm::format::batch::BatchReader;
use treering_lsm::format::edit::LogMark;
use treering_lsm::format::log::frame_ceil;

/// What happens to the log.
#[derive(Clone, Debug)]
pub(super) enum LogFate {
    /// It stays, and is replayed by the next open.
    Kept,
    /// Its records are written to a new one.
    Rewritten {
        /// Where the old log is read from.
        from: LogStart,
    },
}

/// See the head of the file.
#[derive(Clone, Debug)]
pub(super) struct LogPlan {
    /// What the new manifest says.
    pub(super) mark: LogMark,
    pub(super) fate: LogFate,
    /// Records that the next open replays.
    pub(super) records: u64,
    /// Keyspaces that its operations name.
    pub(super) keyspace_count: u32,
    /// Names of all its files.
    pub(super) files: Vec<String>,
}

/// A record that was read.
#[derive(Clone, Copy, Debug)]
struct Seen {
    lsn: u64,
    /// All its operations are in tables.
    in_tables: bool,
}

impl LogPlan {
    /// Reads the log.
    pub(super) fn make(
        database: &Database,
        evidence: &Evidence,
        notes: &mut Vec<String>,
    ) -> Result<LogPlan> {
        let known = evidence.base.as_ref().map(|base| base.state.log);
        let found = evidence.log_files.epoch();
        let epoch = found.max(known.map(|mark| mark.epoch)).unwrap_or(0);
        let known = known.filter(|mark| mark.epoch == epoch);
        let lowest = evidence.log_files.lowest(epoch).unwrap_or(0);
        // A manifest that has lost its end names a start that was right once: what lies before it is in tables.
        let lsn = known.map_or(lowest, |mark| frame_ceil(mark.lsn).max(mark.lsn));
        let from = LogStart { epoch, lsn };
        let promised = evidence.base.as_ref().filter(|_| known.is_some());
        let promised = promised.map_or(0, |base| base.state.promised);

        let mut plan = LogPlan {
            mark: LogMark { epoch, lsn },
            fate: LogFate::Kept,
            records: 0,
            keyspace_count: 0,
            files: Vec::new(),
        };
        let slots = evidence.log_files.segments.iter().map(|segment| segment.slot);
        plan.files.extend(slots.map(|slot| format!("{slot:06}.wal")));
        plan.files.extend(evidence.log_files.has_ring.then(|| "RING".to_owned()));

        let in_tables = flushed_up_to(evidence);
        let mut seen: Vec<Seen> = Vec::new();
        let walked = walk::walk(&database.disk, &database.path, from, &mut |record| {
            let mut all = true;
            let operations =
                BatchReader::new(record.batch, record.count).map_while(|item| item.ok());
            for (operation, sequence) in operations.zip(record.sequence..) {
                let id = operation.keyspace.0;
                plan.keyspace_count = plan.keyspace_count.max(id + 1);
                all &= in_tables.get(&id).is_some_and(|&flushed| sequence <= flushed);
            }
            seen.push(Seen { lsn: record.lsn, in_tables: all });
            Ok(())
        })?;
        let released = walked.holes.iter().filter(|hole| is_reuse(evidence, epoch, hole));
        let released = released.map(|hole| hole.lsns.end).max().unwrap_or(from.lsn);
        let from = LogStart { epoch, lsn: released };
        let left = seen.iter().filter(|record| record.lsn < released && !record.in_tables).count();
        if left > 0 {
            notes.push(format!(
                "{} before LSN {released} are taken for old ones: the segment behind them was used again, so tables held them",
                count(left as u64, "record")
            ));
        }
        seen.retain(|record| record.lsn >= released);
        for start in starts(evidence, from, &seen) {
            let start = LogStart { epoch, lsn: start };
            // Its word is what the next open goes by.
            let apply = &mut |_, _, _: &[u8]| Ok(());
            let recovered = wal::recover(&database.disk, &database.path, start, promised, apply);
            let wanted = seen.iter().filter(|record| record.lsn >= start.lsn).count() as u64;
            if recovered.is_ok_and(|recovered| recovered.records == wanted) {
                plan.mark.lsn = start.lsn;
                plan.records = wanted;
                return Ok(plan);
            }
        }
        plan.fate = LogFate::Rewritten { from };
        plan.records = seen.len() as u64;
        let end = walked.end.lsns.start;
        plan.mark = LogMark { epoch: epoch + 1, lsn: frame_ceil(end.max(walked.promised)) };
        let holes = walked.holes.iter().filter(|hole| hole.lsns.start >= released);
        for gap in holes.chain([&walked.end]) {
            notes.push(format!(
                "the log cannot be read at LSN {} ({} at offset {}); records that stood there are lost",
                gap.lsns.start,
                gap.path.display(),
                gap.offset
            ));
        }
        Ok(plan)
    }

    /// In words.
    pub(super) fn line(&self) -> String {
        let LogMark { epoch, lsn } = self.mark;
        let records = count(self.records, "record");
        match self.fate {
            LogFate::Kept => {
                format!("stays; the next open replays {records} from epoch {epoch}, LSN {lsn}")
            }
            LogFate::Rewritten { .. } => format!(
                "damaged; {records} that can be read go to a new log from epoch {epoch}, LSN {lsn}"
            ),
        }
    }
}

/// By keyspace, the sequence number up to which its operations are in tables. None where a table is lost: the log may still hold it.
fn flushed_up_to(evidence: &Evidence) -> BTreeMap<u32, u64> {
    let mut flushed = BTreeMap::new();
    if evidence.damaged.is_empty() {
        for table in &evidence.tables {
            let highest = flushed.entry(table.keyspace).or_insert(0);
            *highest = table.info.sequence_max.max(*highest);
        }
    }
    flushed
}

/// True for a hole that a released segment has left when its file was used again: whole segments, and no file that could be one of them.
fn is_reuse(evidence: &Evidence, epoch: u64, hole: &Gap) -> bool {
    let files = &evidence.log_files;
    let unreadable = |segment: &Segment| segment.header.is_none() && !segment.is_spare;
    hole.impossible.is_none()
        && hole.lsns.start == frame_ceil(hole.lsns.start)
        && files.bases(epoch).contains(&hole.lsns.end)
        && !files.bases(epoch).contains(&hole.lsns.start)
        && !files.segments.iter().any(unreadable)
}

/// Where the replay may begin, best first: the last segment before which everything is in tables, or an earlier one.
fn starts(evidence: &Evidence, from: LogStart, seen: &[Seen]) -> Vec<u64> {
    let mut starts = vec![from.lsn];
    if !evidence.base_is_whole {
        let needed = seen.iter().find(|record| !record.in_tables).map(|record| record.lsn);
        let last = needed.unwrap_or(u64::MAX);
        let bases = evidence.log_files.bases(from.epoch);
        starts.extend(bases.into_iter().filter(|base| (from.lsn + 1..=last).contains(base)));
    }
    starts.reverse();
    starts
}

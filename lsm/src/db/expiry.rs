//! Time to live: entries that are older than their keyspace allows are deleted, all at once, by their sequence number.
//!
//! Now and then the database notes the time and the last sequence number (a *time mark*, in the manifest). When a mark is older than a
//! keyspace's time to live, everything up to its number has expired: a range delete of all keys under that number goes to the manifest, as
//! if a flush had brought it. Hiding, dropping whole tables and forgetting it in the end are those of every range delete. So an entry carries no
//! time, a read asks no clock, and retention costs one small manifest record per interval.
//!
//! Promises:
//! 1. Nothing expires before its time (on a wall clock that is not set ahead), also after a crash: the numbers up to a mark are never given
//!    out again, because the record with the mark says that they are taken.
//!    A clock that is ahead for a moment makes what was written before expire early, and no more: from then on the database goes by a time of its own,
//!    which never goes back and is no slower than the monotonic clock.
//! 2. While the database is open, an entry is gone within four intervals after its time: the mark, the look at it, the flush
//!    of a memtable that holds it, and the range delete may each be one away.
//!
//! Entries of such a keyspace keep their numbers in the last level, too. Operands that were folded have the number of the newest one.
//!
//! What was written after the last mark before a crash counts as written when the database is opened again.

use crate::base::error::Result;
use crate::base::key::SequenceNumber;
use crate::base::options::MEMTABLE_COUNT_MAX;
use crate::base::range_deletes::RangeDelete;
use crate::base::sync::Mutex;
use crate::db::engine::Engine;
use crate::format::edit::{TimeMark, VersionEdit};
use crate::version::set::VersionSet;
use crate::version::view::View;
use std::time::Duration;

/// Intervals in the shortest time to live.
const INTERVALS: u32 = 32;
/// Shortest interval.
const INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Longest interval.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// When expiry was last looked after.
#[derive(Debug, Default)]
pub(crate) struct Expiry {
    /// By the monotonic clock; `None`: never.
    last: Mutex<Option<Duration>>,
    /// The time in use, and the monotonic clock then.
    time: Mutex<Option<(u64, Duration)>>,
}

/// What is to be done now.
struct Due {
    edit: VersionEdit,
    /// No mark before the last one of this time (milliseconds since 1970) is needed any more.
    oldest_needed: u64,
    /// Up to here entries have expired, of some keyspace.
    expired: SequenceNumber,
}

fn interval(versions: &VersionSet) -> Option<Duration> {
    let shortest = versions.keyspaces().iter().filter_map(|k| k.record.options.ttl).min()?;
    Some((shortest / INTERVALS).clamp(INTERVAL_MIN, INTERVAL_MAX))
}

impl Engine {
    /// How often there is something to do; `None` if nothing ever expires.
    pub(crate) fn expiry_interval(&self) -> Option<Duration> {
        interval(&self.versions.lock())
    }

    /// Makes what is too old expire; true if something did. Does nothing before an interval is over, or while another thread is at it.
    pub(crate) fn expire(&self) -> Result<bool> {
        let Some(mut last) = self.expiry.last.try_lock() else { return Ok(false) };
        if self.check_writable().is_err() {
            return Ok(false);
        }
        let due = {
            let versions = self.versions.lock();
            let Some(interval) = interval(&versions) else { return Ok(false) };
            let now = self.environment.clock.now();
            if last.is_some_and(|last| now < last + interval) {
                return Ok(false);
            }
            *last = Some(now);
            self.due(&versions)
        };
        let expires = !due.edit.range_deletes.is_empty();
        let frozen = self.freeze_expired(due.expired)?;
        if due.edit.time_marks.is_empty() && due.edit.range_deletes.is_empty() {
            return Ok(frozen);
        }
        self.install_due(due.edit)?;
        self.versions.lock().forget_time_marks_before(due.oldest_needed);
        Ok(frozen || expires)
    }

    /// Where the range of an expiry comes after the last commit it takes that number, for all readers to see it and no commit to get it.
    fn install_due(&self, mut edit: VersionEdit) -> Result<()> {
        let show = |view: &View, shapes| View { shapes, ..view.clone() };
        let last = edit.range_deletes.iter().map(|(_, range)| range.sequence).max();
        let mut commit = self.commit.lock();
        let Some(taken) = last.filter(|&last| last > commit.sequence) else {
            drop(commit);
            return self.install(&edit, show);
        };
        commit.sequence = taken;
        self.changes.iter().for_each(|changes| changes.append_void(taken));
        edit.last_sequence = edit.last_sequence.max(Some(taken));
        self.install(&edit, show)?;
        self.current.publish(taken);
        drop(commit);
        self.changes.iter().for_each(|changes| changes.tell());
        Ok(())
    }

    /// Milliseconds since 1970, by a clock that never goes back and never stands still.
    fn time(&self, versions: &VersionSet) -> u64 {
        let (wall, now) =
            (self.environment.clock.wall().as_millis() as u64, self.environment.clock.now());
        let mut time = self.expiry.time.lock();
        let before = match *time {
            Some((millis, at)) => millis + now.saturating_sub(at).as_millis() as u64,
            None => versions.last_time_mark().map_or(0, |mark| mark.millis),
        };
        let millis = wall.max(before);
        // As long as the wall clock is behind, the parts of milliseconds add up.
        if time.is_none() || wall >= before {
            *time = Some((millis, now));
        }
        millis
    }

    /// Has a memtable flushed that holds something expired: ranges of the manifest are for what is in tables.
    fn freeze_expired(&self, expired: SequenceNumber) -> Result<bool> {
        let mut commit = self.commit.lock();
        let holds_expired = !commit.active.is_empty() && commit.active_since < expired;
        let has_place = (self.schedule.frozen_count() as u64) < MEMTABLE_COUNT_MAX - 1;
        if holds_expired && has_place {
            self.freeze(&mut commit, 0, 0)?;
        }
        Ok(holds_expired && has_place)
    }

    /// An edit that notes what has been written by now, if anything ever expires: also when the database closes, for nobody will know later.
    pub(crate) fn time_note(&self, versions: &VersionSet) -> VersionEdit {
        let mut edit = VersionEdit::default();
        if interval(versions).is_none() {
            return edit;
        }
        // In this order: what is visible was written before the time that is noted for it.
        let visible = self.current.visible();
        let millis = self.time(versions);
        let news = |mark: TimeMark| mark.sequence < visible && mark.millis < millis;
        if versions.last_time_mark().is_none_or(news) {
            edit.last_sequence = Some(visible);
            edit.time_marks.push(TimeMark { millis, sequence: visible });
        }
        edit
    }

    fn due(&self, versions: &VersionSet) -> Due {
        let mut edit = self.time_note(versions);
        let time = self.time(versions);
        let (mut oldest_needed, mut expired) = (time, 0);
        for keyspace in versions.keyspaces() {
            let Some(ttl) = keyspace.record.options.ttl else { continue };
            let millis = time.saturating_sub(ttl.as_millis() as u64);
            oldest_needed = oldest_needed.min(millis);
            let sequence = versions.written_by(millis);
            expired = expired.max(sequence);
            let tables = keyspace.shape.levels().iter().flat_map(|level| level.tables());
            let mut infos = tables.map(|table| table.info());
            let is_needed =
                infos.any(|info| info.sequence_min <= sequence && info.applied < sequence);
            // As a range delete has a number of its own, it hides only what is older: the mark itself is hidden by the one after it.
            let after = sequence + 1;
            if sequence > 0 && is_needed && keyspace.shape.ranges().at(&[0]).newest(after) < after {
                let range = RangeDelete { start: vec![0], end: Vec::new(), sequence: after };
                edit.range_deletes.push((keyspace.record.id, range));
            }
        }
        Due { edit, oldest_needed, expired }
    }
}

//! Bugs that can be planted, to see whether the tests see them.
//!
//! A checker that has never been red proves nothing. Built with `--cfg planted`, the engine carries the bugs below, one line
//! each; at most one is awake, and `hunt planted` looks which row of the scoreboard catches it. Without that cfg
//! `planted` is the constant `false` and the lines are gone; with it, a build without debug assertions is refused, so
//! that no release can carry them.

#[cfg(all(planted, not(debug_assertions)))]
compile_error!("--cfg planted is for builds with debug assertions, never for a release");

macro_rules! bugs {
    ($($bug:ident = $name:literal: $what:literal;)*) => {
        /// What is wrong while the bug is awake.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(crate) enum Bug {
            $(#[doc = $what] $bug,)*
        }

        /// All bugs: name, and what is wrong.
        #[cfg(planted)]
        pub const BUGS: &[(&str, &str)] = &[$(($name, $what),)*];
    };
}

bugs! {
    WalSyncSkipped = "wal-sync-skipped": "segments of the log are not synced";
    WalWriteNotDurable = "wal-write-not-durable": "the one durable write of a sync group is a plain one";
    WalDirectorySyncSkipped = "wal-directory-sync-skipped": "the name of a new log segment is not synced";
    AcknowledgedBeforeWrite = "acknowledged-before-write": "a Sync write is acknowledged before the device has it";
    FailedSyncRetried = "failed-sync-retried": "a failed sync of the log is tried again, and believed";
    WalErrorForgotten = "wal-error-forgotten": "a failed write of the log does not poison it";
    LogStartsTooLate = "log-starts-too-late": "the manifest says that the log begins behind writes which are in no table yet";
    DrainedBeforeWritten = "drained-before-written": "ring bytes count as drained before they are written";
    PromiseIgnored = "promise-ignored": "a log that ends before what it promised is taken for a torn tail";
    FragmentChecksumSkipped = "fragment-checksum-skipped": "checksums of log fragments are not looked at";
    EpochNotRaised = "epoch-not-raised": "the log of a new run looks like that of the run before";
    RingNotRead = "ring-not-read": "recovery does not look at the ring";
    SequenceReused = "sequence-reused": "every commit begins with the last sequence number of the one before";
    BatchCutInReplay = "batch-cut-in-replay": "recovery drops the last operation of a batch";
    ManifestSyncSkipped = "manifest-sync-skipped": "edits of the manifest are not synced";
    ManifestChecksumSkipped = "manifest-checksum-skipped": "checksums of manifest records are not looked at";
    ManifestErrorForgotten = "manifest-error-forgotten": "a failed manifest write does not poison the database";
    CurrentNotSynced = "current-not-synced": "CURRENT is renamed before its bytes are synced";
    CurrentDirectorySyncSkipped = "current-directory-sync-skipped": "the rename of CURRENT is not synced";
    TableSyncSkipped = "table-sync-skipped": "new tables are not synced";
    TableDirectorySyncSkipped = "table-directory-sync-skipped": "names of new tables are not synced";
    InputsRemovedEarly = "inputs-removed-early": "inputs of a compaction are unlinked before the manifest forgets them";
    StraysRemovedEarly = "strays-removed-early": "opening removes strays before the new manifest is in force";
    BlockChecksumSkipped = "block-checksum-skipped": "checksums of table blocks are not looked at";
    PlaceIgnored = "place-ignored": "checksums do not cover file and offset";
    ShortReadIgnored = "short-read-ignored": "a short read counts as a whole one";
    ShortWriteIgnored = "short-write-ignored": "a short write counts as a whole one";
    TableWriteErrorSwallowed = "table-write-error-swallowed": "a failed write of a table is ignored";
    TombstoneDroppedEarly = "tombstone-dropped-early": "a tombstone goes although an older version lies below";
    SnapshotsIgnored = "snapshots-ignored": "compaction does not ask for live snapshots";
    RangeForgottenEarly = "range-forgotten-early": "a range delete is forgotten although a table still needs it";
    RangeCrossesSnapshot = "range-crosses-snapshot": "a compaction applies a range delete to what a snapshot before it sees";
    NumberLostUnderRange = "number-lost-under-range": "an entry under a range delete loses the number by which it is newer";
    OperandsReversed = "operands-reversed": "a read merges operands in the wrong order";
    IngestUnderMemtable = "ingest-under-memtable": "an ingest does not wait until what it replaces has left the memtables";
    IngestTooDeep = "ingest-too-deep": "a table from outside goes to the last level whatever lies above";
    DropTakesWrites = "drop-takes-writes": "a dropped keyspace goes on taking writes";
    CheckpointUnflushed = "checkpoint-unflushed": "a checkpoint leaves out what is in memory";
    LostUnderLargeBatch = "lost-under-large-batch": "a large batch keeps the first operation of a key, not the last";
    PhantomsIgnored = "phantoms-ignored": "a serializable commit does not look at the ranges that it read";
    FilterForgetsKey = "filter-forgets-key": "the filter of a table lacks its last key";
    FilterForgetsPrefix = "filter-forgets-prefix": "the filter of a table lacks the prefix of its first key";
    UpperBoundIgnored = "upper-bound-ignored": "a backward scan begins behind its upper bound";
    NoSpacePoisons = "no-space-poisons": "a full disk counts as a failure for good";
    PoisonClosesWell = "poison-closes-well": "closing a poisoned database says Ok";
    CancelledIsDone = "cancelled-is-done": "a cancelled request of the ring counts as carried out";
    BatchPublishedEarly = "batch-published-early": "a commit is visible before all of it is in the memtable";
}

/// The bug that is awake, from 1 on; 0 for none.
#[cfg(planted)]
static AWAKE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Wakes the bug with this name, or none; false if there is no such bug.
#[cfg(planted)]
pub fn wake(name: Option<&str>) -> bool {
    let index = match name {
        None => 0,
        Some(name) => match BUGS.iter().position(|(bug, _)| *bug == name) {
            Some(index) => index + 1,
            None => return false,
        },
    };
    AWAKE.store(index, std::sync::atomic::Ordering::SeqCst);
    true
}

/// The name of the bug that is awake.
#[cfg(planted)]
pub fn awake() -> Option<&'static str> {
    let index = AWAKE.load(std::sync::atomic::Ordering::SeqCst);
    index.checked_sub(1).map(|index| BUGS[index].0)
}

/// True while `bug` is awake; the constant `false` without `--cfg planted`.
#[inline(always)]
pub(crate) fn planted(bug: Bug) -> bool {
    #[cfg(planted)]
    return AWAKE.load(std::sync::atomic::Ordering::Relaxed) == bug as usize + 1;
    #[cfg(not(planted))]
    {
        let _asleep_for_ever = bug;
        false
    }
}

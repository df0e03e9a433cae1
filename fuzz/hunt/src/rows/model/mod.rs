//! Row 9: random operations against sorted maps that remember versions.
//!
//! One case is one disk and 50,000 operations on it: writes of every class and kind (merges, batches larger than a memtable, ingests of files, optimistic transactions), reads of every kind, old moments held by snapshots,
//! cursors and pinned values, a copy that follows the change feed, and now and then a close or a death of the process, with a
//! look at what is left by somebody who may not change it. Limits are so small that up to seven
//! levels exist. What was reached on the way (levels that answered, merges, tombstones, versions for snapshots) is noted.

mod coverage;
mod follower;
mod oracle;
mod reads;
mod span;
mod transactions;
mod walk;
mod world;
mod writes;

use crate::drive::{Case, Chance, Failure, Row, Tally};
use world::World;

pub(super) const ROW: Row = Row {
    number: 9,
    name: "model",
    promise: "whatever happens behind the scenes, the database answers as a sorted map that remembers versions",
    unit: "operations",
    ci_cases: 24,
    nightly: 1_000_000_000,
    parallel: true,
    run,
};

/// Operations of one case: writes, and reads of one key or one step of a cursor, each compared.
const OPERATIONS: u64 = 50_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Put,
    Delete,
    DeleteRange,
    Merge,
    Batch,
    LargeBatch,
    Ingest,
    Transaction,
    Refused,
    Get,
    MultiGet,
    Walk,
    WalkOn,
    Range,
    Pin,
    Snapshot,
    Follow,
    Step,
    Settle,
    Flush,
    CompactRange,
    Compact,
    CreateKeyspace,
    DropKeyspace,
    GuardKeys,
    Checkpoint,
    Reopen,
}

/// How often each kind is drawn.
const WEIGHTS: [(Kind, u64); 27] = [
    (Kind::Put, 34_000),
    (Kind::Delete, 9_000),
    (Kind::DeleteRange, 600),
    (Kind::Merge, 2_000),
    (Kind::Batch, 2_000),
    (Kind::LargeBatch, 10),
    (Kind::Ingest, 60),
    (Kind::Transaction, 1_500),
    (Kind::Refused, 20),
    (Kind::Get, 40_000),
    (Kind::MultiGet, 1_500),
    (Kind::Walk, 1_500),
    (Kind::WalkOn, 600),
    (Kind::Range, 600),
    (Kind::Pin, 100),
    (Kind::Snapshot, 200),
    (Kind::Follow, 100),
    (Kind::Step, 3_000),
    (Kind::Settle, 10),
    (Kind::Flush, 60),
    (Kind::CompactRange, 12),
    (Kind::Compact, 3),
    (Kind::CreateKeyspace, 6),
    (Kind::DropKeyspace, 3),
    (Kind::GuardKeys, 6),
    (Kind::Checkpoint, 3),
    (Kind::Reopen, 15),
];

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let mut world = World::new(Chance::new(seed))?;
    let result = live(&mut world);
    tally.checked(world.operations);
    result.map_err(|(kind, failure)| {
        format!("operation {} ({kind:?}): {failure}", world.operations)
    })?;
    world.finish(tally)?;
    Ok(Case::Done)
}

fn live(world: &mut World) -> Result<(), (Kind, Failure)> {
    let total: u64 = WEIGHTS.iter().map(|(_, weight)| weight).sum();
    while world.operations < OPERATIONS {
        let mut draw = world.chance.below(total);
        let kind = WEIGHTS.iter().find(|(_, weight)| {
            let is_it = draw < *weight;
            draw = draw.saturating_sub(*weight);
            is_it
        });
        let kind = kind.expect("a draw below the sum of all weights").0;
        world.operations += 1;
        world.operate(kind).map_err(|failure| (kind, failure))?;
    }
    Ok(())
}

impl World {
    fn operate(&mut self, kind: Kind) -> Result<(), Failure> {
        match kind {
            Kind::Put => self.put(),
            Kind::Delete => self.delete(),
            Kind::DeleteRange => self.delete_range(),
            Kind::Merge => self.merge(),
            Kind::Batch => self.batch(),
            Kind::LargeBatch => self.large_batch(),
            Kind::Ingest => self.ingest(),
            Kind::Transaction => self.transaction(),
            Kind::Refused => self.refused(),
            Kind::Get => self.get(),
            Kind::MultiGet => self.multi_get(),
            Kind::Walk => self.walk(),
            Kind::WalkOn => self.walk_on(),
            Kind::Range => self.range(),
            Kind::Pin => self.pin(),
            Kind::Snapshot => self.snapshot(),
            Kind::Follow => self.follow(),
            Kind::Step => self.step(),
            Kind::Settle => self.settle(),
            Kind::Flush => self.flush(),
            Kind::CompactRange => self.compact_range(),
            Kind::Compact => self.compact(),
            Kind::CreateKeyspace => self.create_keyspace(),
            Kind::DropKeyspace => self.drop_keyspace(),
            Kind::GuardKeys => self.guard_keys(),
            Kind::Checkpoint => self.checkpoint(),
            Kind::Reopen => self.reopen(),
        }
    }
}

//! Workloads: short scripts of different characters, each with a disk on which it begins.
//!
//! A workload comes in any number of variants: the same character, other draws. Its disk is made once and copied for every
//! run; a run without faults says how many calls it makes, and that it makes them every time.

use super::account::{Account, Promise};
use super::consequence::Touched;
use super::play::Player;
use super::probe::{NO_MAPS, Probe};
use super::script::{Scribe, Step};
use super::sizes::tiny_options;
use crate::drive::{Chance, Failure};
use std::fmt;
use std::sync::OnceLock;
use treering_lsm::io::sim::{Call, Fault, LossModel, SimDisk};
use treering_lsm::{Durability, Options};

/// Calls of a run without faults that nothing exceeds.
const CALLS_MAX: usize = 100_000;

/// Variants of each workload.
pub const VARIANTS: u64 = 5;

/// How the script before leaves the disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// There was none: the disk is empty.
    Empty,
    /// The database was closed.
    Closed,
    /// The process was killed.
    Killed,
}

struct Plan {
    options: Options,
    /// The file system has no shared maps.
    plain_ring: bool,
    left: Left,
    before: Vec<Step>,
    steps: Vec<Step>,
}

/// A kind of script.
#[derive(Clone, Copy)]
pub struct Workload {
    /// Its name in the report.
    pub name: &'static str,
    plan: fn(&mut Scribe) -> Plan,
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub const WORKLOADS: [Workload; 13] = [
    Workload { name: "birth", plan: birth },
    Workload { name: "synced", plan: synced },
    Workload { name: "buffered", plan: buffered },
    Workload { name: "compaction", plan: compaction },
    Workload { name: "reads", plan: reads },
    Workload { name: "keyspaces", plan: keyspaces },
    Workload { name: "recovery", plan: recovery },
    Workload { name: "snapshots", plan: snapshots },
    Workload { name: "batches", plan: batches },
    Workload { name: "direct", plan: direct },
    Workload { name: "manifest", plan: manifest },
    Workload { name: "reopening", plan: reopening },
    Workload { name: "plain_ring", plan: plain_ring },
];

impl Plan {
    fn usual(scribe: &mut Scribe, before: Vec<Step>) -> Plan {
        let steps = scribe.take();
        Plan { options: tiny_options(), plain_ring: false, left: Left::Closed, before, steps }
    }
}

/// A few tables in both keyspaces.
fn some_tables(scribe: &mut Scribe) -> Vec<Step> {
    scribe.add(Step::CreateKeyspace(1));
    for _ in 0..60 {
        scribe.write_some(10);
    }
    scribe.add(Step::Flush);
    scribe.add(Step::Settle);
    scribe.take()
}

/// A database is made.
fn birth(scribe: &mut Scribe) -> Plan {
    scribe.add(Step::CreateKeyspace(1));
    for _ in 0..30 {
        scribe.write_some(4);
    }
    scribe.add(Step::Reopen);
    for _ in 0..20 {
        scribe.write_some(4);
    }
    scribe.add(Step::Flush);
    scribe.add(Step::Close);
    Plan { left: Left::Empty, ..Plan::usual(scribe, Vec::new()) }
}

/// Mostly Sync writes.
fn synced(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for _ in 0..120 {
        scribe.write_some(2);
        if scribe.chance.one_in(4) {
            scribe.add(Step::Background(1));
        }
    }
    Plan::usual(scribe, before)
}

/// Buffered writes, drained and flushed in between.
fn buffered(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for _ in 0..110 {
        let count = 1 + scribe.chance.below(8);
        scribe.write(Durability::Buffered, count, 5, 600);
        if scribe.chance.one_in(3) {
            scribe.add(Step::Background(1));
        }
    }
    scribe.write_some(1);
    Plan::usual(scribe, before)
}

/// Flush, compact, flush.
fn compaction(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for round in 0..6 {
        for _ in 0..25 {
            scribe.write_some(20);
        }
        scribe.add(Step::Flush);
        scribe.add(if round % 3 == 2 { Step::Compact } else { Step::Settle });
    }
    scribe.add(Step::Verify);
    Plan::usual(scribe, before)
}

/// Reads of all kinds, nothing cached, hardly a write.
fn reads(scribe: &mut Scribe) -> Plan {
    scribe.add(Step::CreateKeyspace(1));
    for _ in 0..5 {
        for _ in 0..40 {
            scribe.write(Durability::Buffered, 4, 5, 300);
        }
        scribe.add(Step::Flush);
    }
    scribe.add(Step::Settle);
    let before = scribe.take();
    for round in 0..6 {
        scribe.get(12);
        scribe.multi_get(12);
        scribe.scan(round == 0);
        scribe.seek(4);
        scribe.write_some(2);
        if round == 3 {
            // Cold again.
            scribe.add(Step::Reopen);
        }
    }
    scribe.add(Step::Verify);
    Plan::usual(scribe, before)
}

/// Keyspaces are made and written to.
fn keyspaces(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for number in 2..6 {
        scribe.add(Step::CreateKeyspace(number));
        scribe.keyspaces = number + 1;
        for _ in 0..12 {
            scribe.write_some(4);
        }
        if number % 2 == 0 {
            scribe.add(Step::Flush);
        }
    }
    scribe.add(Step::Reopen);
    scribe.get(10);
    scribe.add(Step::Compact);
    Plan::usual(scribe, before)
}

/// The process was killed with several memtables of log, synced and not.
fn recovery(scribe: &mut Scribe) -> Plan {
    let mut before = some_tables(scribe);
    for _ in 0..150 {
        scribe.write(Durability::Buffered, 3, 5, 400);
        if scribe.chance.one_in(20) {
            scribe.write_some(1);
        }
    }
    before.extend(scribe.take());
    scribe.get(6);
    for _ in 0..10 {
        scribe.write_some(3);
    }
    scribe.add(Step::Settle);
    scribe.scan(true);
    scribe.add(Step::Reopen);
    scribe.multi_get(6);
    Plan { left: Left::Killed, ..Plan::usual(scribe, before) }
}

/// Tombstones and old versions under snapshots that come and go.
fn snapshots(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for round in 0..5 {
        for _ in 0..20 {
            scribe.write(Durability::Buffered, 5, 2, 150);
        }
        scribe.add(Step::Hold);
        scribe.add(Step::Flush);
        scribe.add(if round % 2 == 0 { Step::Settle } else { Step::Compact });
        scribe.add(Step::ScanHeld);
        if round >= 2 {
            scribe.add(Step::Release);
        }
    }
    scribe.write_some(1);
    Plan::usual(scribe, before)
}

/// Batches larger than a memtable, and than half the ring.
fn batches(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for round in 0..12 {
        let durability = if round % 3 == 0 { Durability::Sync } else { Durability::Buffered };
        let bytes = [2_000, 8_000, 600][round % 3];
        scribe.write(durability, 30, 8, bytes);
        scribe.write_some(4);
        scribe.add(Step::Background(1));
    }
    scribe.add(Step::Flush);
    scribe.get(6);
    Plan::usual(scribe, before)
}

/// Tables past the page cache.
fn direct(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for _ in 0..4 {
        for _ in 0..20 {
            scribe.write_some(6);
        }
        scribe.add(Step::Flush);
        scribe.get(6);
        scribe.multi_get(8);
    }
    scribe.add(Step::Compact);
    scribe.scan(true);
    scribe.add(Step::Reopen);
    scribe.seek(3);
    let mut plan = Plan::usual(scribe, before);
    plan.options.direct_io = true;
    plan
}

/// Keys so long that the manifest is soon written anew, and never a compaction that would shorten it.
fn manifest(scribe: &mut Scribe) -> Plan {
    scribe.key_prefix = vec![b'k'; 60_000];
    scribe.keyspaces = 1;
    let mut plan = Plan::usual(scribe, Vec::new());
    plan.options.default_keyspace.level0_tables = 64;
    for _ in 0..11 {
        scribe.write(Durability::Buffered, 1, 50, 100);
        scribe.write_some(3);
        scribe.add(Step::Flush);
    }
    scribe.add(Step::Reopen);
    scribe.get(2);
    plan.steps = scribe.take();
    plan
}

/// Closing and opening.
fn reopening(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for _ in 0..4 {
        for _ in 0..10 {
            scribe.write_some(8);
        }
        scribe.add(Step::Background(1));
        scribe.add(Step::Reopen);
    }
    scribe.write_some(3);
    scribe.add(Step::Close);
    Plan::usual(scribe, before)
}

/// The file system has no shared maps: every commit goes to its segment at once.
fn plain_ring(scribe: &mut Scribe) -> Plan {
    let before = some_tables(scribe);
    for _ in 0..80 {
        scribe.write_some(5);
        if scribe.chance.one_in(6) {
            scribe.add(Step::Background(1));
        }
    }
    scribe.write(Durability::Buffered, 30, 8, 8_000);
    scribe.add(Step::Reopen);
    scribe.write_some(2);
    Plan { plain_ring: true, ..Plan::usual(scribe, before) }
}

/// A workload with its disk, and what a run without faults does.
#[derive(Debug)]
pub struct Prepared {
    /// Which one.
    pub name: &'static str,
    /// Options of every opening.
    pub options: Options,
    /// What is done.
    pub steps: Vec<Step>,
    /// Every call of a run without faults.
    pub trace: Vec<(Call, Touched)>,
    /// The number of the next mark.
    pub next_number: usize,
    account: Account,
    disk: SimDisk,
    plain_ring: bool,
}

impl Prepared {
    /// Makes the disk of a variant and runs it, twice.
    ///
    /// # Errors
    /// Anything that fails without a fault, and a second run that differs from the first.
    pub fn new(workload: &Workload, variant: u64) -> Result<Prepared, Failure> {
        let named = |failure| format!("{} without faults: {failure}", workload.name);
        let mut scribe = Scribe::new(Chance::new(variant));
        let plan = (workload.plan)(&mut scribe);
        let next_number = scribe.next_number();
        let disk = SimDisk::new(variant);
        let mut prepared = Prepared {
            name: workload.name,
            options: plan.options,
            steps: plan.steps,
            trace: Vec::new(),
            next_number,
            account: Account::default(),
            disk: disk.clone(),
            plain_ring: plan.plain_ring,
        };
        if plan.left != Left::Empty {
            let probe = Probe::arm(&disk, None, CALLS_MAX);
            let account = Account::default();
            let mut player = Player::new(&disk, &probe, None, &prepared.options, account);
            player.play(&plan.before).map_err(named)?;
            prepared.disk = disk.after_kill();
            if plan.left == Left::Closed {
                player.play_step(&Step::Close).map_err(named)?;
                prepared.disk = disk.after_power_cut(variant, LossModel::DropAll);
            }
            prepared.account = player.account.clone();
        }
        let (trace, hash) = prepared.run_well().map_err(named)?;
        let (_, hash_again) = prepared.run_well().map_err(named)?;
        if hash != hash_again {
            return Err(named("a second run makes other calls".to_owned()));
        }
        prepared.trace = trace;
        Ok(prepared)
    }

    /// A disk and a account of its own for one run.
    pub fn begin(&self) -> (SimDisk, Account) {
        (self.disk.after_kill(), self.account.clone())
    }

    /// Says that the disk has no shared maps, if that is the character of the workload. After the probe was armed.
    pub fn limit(&self, disk: &SimDisk) {
        if self.plain_ring {
            disk.fail_matching(|call, _| call == Call::Map, Fault::Error(NO_MAPS), false);
        }
    }

    fn run_well(&self) -> Result<(Vec<(Call, Touched)>, u64), Failure> {
        let (disk, account) = self.begin();
        let probe = Probe::arm(&disk, None, CALLS_MAX);
        self.limit(&disk);
        let mut player = Player::new(&disk, &probe, None, &self.options, account);
        player.play(&self.steps)?;
        let (trace, hash) = (probe.trace(), disk.trace());
        if let Some(found) = player.contents()? {
            player.account.check(&found, Promise::Kill)?;
        }
        Ok((trace, hash))
    }
}

/// The workloads of a variant, below [`VARIANTS`].
///
/// # Errors
/// As [`Prepared::new`].
pub fn variant(number: u64) -> Result<&'static [Prepared], Failure> {
    type All = Result<Vec<Prepared>, Failure>;
    static VARIANT: [OnceLock<All>; VARIANTS as usize] =
        [const { OnceLock::new() }; VARIANTS as usize];
    let make = || WORKLOADS.iter().map(|workload| Prepared::new(workload, number)).collect();
    match VARIANT[number as usize].get_or_init(make) {
        Ok(all) => Ok(all),
        Err(failure) => Err(failure.clone()),
    }
}

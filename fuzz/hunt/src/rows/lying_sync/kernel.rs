//! The real kernel: a database on a [`ThinDisk`] writes until the device takes no more.
//!
//! ```text
//! write until a sync fails ──┬── power cut ──────────────────────────────┬── open, compare, write, open again
//!                            └── device grows, open, write ── power cut ─┘
//! ```

use super::thin_disk::ThinDisk;
use crate::drive::{Chance, Failure, Tally};
use crate::world::{
    Account, Change, Commit, KEYSPACES, Map, Outcome, Promise, in_private_mounts, mark, scan_named,
};
use std::sync::Arc;
use treering_lsm::{
    Db, Durability, Environment, Error, IoChoice, Options, ReadOptions, WriteBatch, WriteOptions,
};

/// Writes that are tried at most; they are several times what the device takes.
const WRITES_MAX: usize = 20_000;
/// Refusals after which the writer has understood.
const REFUSALS_MAX: usize = 200;
/// Writes after the database was opened again.
const WRITES_LATER: usize = 60;

pub(super) fn run(seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    let ran = in_private_mounts(|| {
        let mut disk = match ThinDisk::make() {
            Ok(disk) => disk,
            Err(error) => return Err(format!("the disk cannot be made: {error}")),
        };
        case(&mut disk, seed, tally)
    });
    if ran.is_none() {
        tally.note("kernel_skipped", 1);
    }
    ran.unwrap_or(Ok(()))
}

fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 16 << 20;
    options.write_buffer_bytes = Some(512 << 10);
    options.default_keyspace.table_bytes = 2 << 20;
    options.default_keyspace.level_base_bytes = 4 << 20;
    options
}

fn open(disk: &ThinDisk, io: IoChoice) -> Result<Db, Error> {
    Db::open_in(Environment::system(io)?, disk.directory(), options())
}

fn everything(db: &Db) -> Result<Map, Failure> {
    scan_named(db, &KEYSPACES, &ReadOptions::default()).map_err(|error| format!("scan: {error}"))
}

/// Somebody who writes and keeps account.
struct Writer {
    chance: Chance,
    account: Account,
    number: usize,
    /// A write said that the database takes none any more.
    refused: bool,
    errors: u64,
}

impl Writer {
    /// One write of some kilobytes that do not compress.
    fn write(&mut self, db: &Db, sync_one_in: u64) -> Result<(), Failure> {
        let key = format!("key{:05}", self.chance.below(4_000)).into_bytes();
        let length = self.chance.below(6_000) as usize;
        let mut value = Vec::with_capacity(length + 8);
        while value.len() < length {
            value.extend_from_slice(&self.chance.draw().to_le_bytes());
        }
        let number = self.number;
        self.number += 1;
        let commit: Arc<Commit> = Arc::new(vec![
            Change::put(0, key, value),
            Change::put(0, mark(number), number.to_string()),
        ]);
        let mut batch = WriteBatch::new();
        for change in commit.iter() {
            let added = change.add_to(&mut batch, db.default_keyspace());
            added.map_err(|error| error.to_string())?;
        }
        let sync = self.chance.one_in(sync_one_in);
        let durability = if sync { Durability::Sync } else { Durability::Buffered };
        let outcome = match db.write(&batch, &WriteOptions { durability: Some(durability) }) {
            Ok(()) if self.refused => {
                return Err("a write was acknowledged after log or manifest failed".to_owned());
            }
            Ok(()) if sync => Outcome::Durable,
            Ok(()) => Outcome::Acknowledged,
            Err(Error::NoSpace { .. }) => Outcome::Refused,
            Err(Error::Io { .. } | Error::Poisoned { .. }) => {
                self.refused = true;
                Outcome::Refused
            }
            Err(error) => return Err(format!("a write: {error}")),
        };
        self.errors += u64::from(outcome == Outcome::Refused);
        self.account.note(number, &commit, outcome);
        Ok(())
    }
}

fn case(disk: &mut ThinDisk, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
    let mut chance = Chance::new(seed);
    let io = if chance.one_in(2) { IoChoice::Posix } else { IoChoice::Auto };
    let (sync_one_in, cut_at_once) = (1 + chance.below(30), chance.one_in(2));
    let db = open(disk, io).map_err(|error| format!("first open: {error}"))?;
    let (account, number) = (Account::default(), 0);
    let mut writer = Writer { chance, account, number, refused: false, errors: 0 };
    let mut refusals = 0;
    while refusals < REFUSALS_MAX && writer.number < WRITES_MAX {
        let before = writer.errors;
        writer.write(&db, sync_one_in)?;
        refusals += usize::from(writer.errors > before);
    }
    tally.fired("kernel_sync", u64::from(writer.errors > 0));
    tally.note("kernel_errors", writer.errors);
    if writer.errors == 0 {
        return Err("the device never filled".to_owned());
    }
    let found = everything(&db).map_err(|failure| format!("still open: {failure}"))?;
    writer.account.note_shown(&found);
    writer.account.check(&found, Promise::Kill).map_err(|failure| format!("open: {failure}"))?;
    let shown = |error| format!("the disk: {error}");
    if cut_at_once {
        disk.cut_power(|| drop(db)).map_err(shown)?;
    } else {
        disk.grow().map_err(shown)?;
        drop(db);
        live_on(disk, io, &mut writer, tally)?;
    }
    tally.fired("kernel_cut", 1);
    let db = open(disk, io).map_err(|error| format!("does not open after the cut: {error}"))?;
    let found = everything(&db).map_err(|failure| format!("cut: {failure}"))?;
    writer.account.check(&found, Promise::Cut).map_err(|failure| format!("cut: {failure}"))?;
    db.verify().map_err(|error| format!("verify: {error}"))?;
    db.close().map_err(|error| format!("close: {error}"))?;
    tally.checked(1);
    tally.note("kernel_cases", 1);
    Ok(())
}

/// Opens the database where the kernel has lost what readers still see, writes on top of that, and pulls the plug.
fn live_on(
    disk: &mut ThinDisk,
    io: IoChoice,
    writer: &mut Writer,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let shown = |error| format!("the disk: {error}");
    let db = match open(disk, io) {
        Ok(db) => db,
        // ext4 may have given up its journal; then it takes a mount to go on.
        Err(Error::Io { .. } | Error::NoSpace { .. }) => {
            tally.note("kernel_read_only", 1);
            return disk.cut_power(|| ()).map_err(shown);
        }
        Err(error) => return Err(format!("does not open in place: {error}")),
    };
    let found = everything(&db).map_err(|failure| format!("in place: {failure}"))?;
    writer
        .account
        .check(&found, Promise::Kill)
        .map_err(|failure| format!("in place: {failure}"))?;
    writer.account.settle(found, Vec::new());
    (writer.refused, writer.errors) = (false, 0);
    for _ in 0..WRITES_LATER {
        writer.write(&db, 3)?;
    }
    tally.note("kernel_reopened", 1);
    disk.cut_power(|| drop(db)).map_err(shown)
}

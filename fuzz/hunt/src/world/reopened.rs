//! A disk on which somebody worked, opened again without faults.

use super::account::{Account, Promise};
use super::history::{Map, scan_named};
use super::script::KEYSPACES;
use super::sizes::open;
use crate::drive::Failure;
use treering_lsm::io::sim::{LossModel, SimDisk};
use treering_lsm::{Db, Options, ReadOptions, WriteOptions};

/// Opens an image and compares; `again` also reads every table, writes, cuts the power and opens once more.
///
/// # Errors
/// A promise that was broken.
pub fn check_reopened(
    image: &SimDisk,
    options: &Options,
    account: &Account,
    promise: Promise,
    again: bool,
) -> Result<(), Failure> {
    let db = open(image, options).map_err(|error| format!("does not open: {error}"))?;
    let found = everything(&db)?;
    account.check(&found, promise)?;
    account.check_keyspaces(&db.keyspace_names())?;
    if !again {
        return Ok(());
    }
    db.verify().map_err(|error| format!("verify: {error}"))?;
    let put = db.default_keyspace().put_with(b"~after", b"1", &WriteOptions::sync());
    put.map_err(|error| format!("takes no write: {error}"))?;
    let image = image.after_power_cut(1, LossModel::DropAll);
    drop(db);
    let db = open(&image, options).map_err(|error| format!("second open: {error}"))?;
    let mut again = everything(&db)?;
    let kept = again.remove(&(0, b"~after".to_vec()));
    if kept.is_none() || again != found {
        return Err("what a recovery showed, or a Sync write after it, is lost".to_owned());
    }
    Ok(())
}

fn everything(db: &Db) -> Result<Map, Failure> {
    scan_named(db, &KEYSPACES, &ReadOptions::default()).map_err(|error| format!("scan: {error}"))
}

//! The process that takes over while the other has closed the database, and is killed at work, perhaps on a full disk.

use super::{Sizes, options};
use crate::rows::kill::{AT_WORK, write_for_ever};
use crate::world::{End, Ledger};
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use treering_lsm::Db;

/// Words: directory outside the image, seconds, seed.
pub(in crate::rows) fn run(words: &[String]) -> ExitCode {
    match work(words) {
        Ok(never) => match never {},
        Err(end) => ExitCode::from(end.say()),
    }
}

fn work(arguments: &[String]) -> Result<Infallible, End> {
    let wrong = || End::Found(format!("arguments of the child: {arguments:?}"));
    let [outside, seconds, seed] = arguments else { return Err(wrong()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong());
    let sizes = Sizes::of(Duration::from_secs(number(seconds)?));
    let outside = Path::new(outside);
    let ledger = Ledger::open(&outside.join("ledger"), sizes.plan);
    let ledger = ledger.map_err(|error| End::Found(format!("ledger: {error}")))?;
    let db = Db::open(outside.join("mount/db"), options()).map_err(End::of)?;
    ledger.state().store(AT_WORK, Ordering::Release);
    Err(write_for_ever(&db, &ledger, number(seed)?, true))
}

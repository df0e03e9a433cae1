//! The child: opens the database, compares it with the ledger, and writes until it is killed.

use super::{AT_WORK, OPEN, OPENING, io, ledger, options, plan};
use crate::drive::Chance;
use crate::world::{End, Ledger, Load, NAMES, Trouble, other_options};
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, Error};

/// Between two tries to write on a full disk.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Words: directory, seed, life.
pub(in crate::rows) fn run(words: &[String]) -> ExitCode {
    match work(words) {
        Ok(never) => match never {},
        Err(end) => ExitCode::from(end.say()),
    }
}

fn work(arguments: &[String]) -> Result<Infallible, End> {
    let wrong = || End::Found(format!("arguments of the child: {arguments:?}"));
    let [directory, seed, life] = arguments else { return Err(wrong()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong());
    let (seed, life) = (number(seed)?, number(life)?);
    let directory = Path::new(directory);
    let ledger = ledger(directory, plan(seed)).map_err(End::Found)?;
    ledger.state().store(OPENING, Ordering::Release);
    let db = Db::open(directory.join("db"), options(seed, io(life))).map_err(End::of)?;
    ledger.state().store(OPEN, Ordering::Release);
    make_keyspaces(&db).map_err(End::of)?;
    ledger.verify(&db).map_err(End::Found)?;
    ledger.state().store(AT_WORK, Ordering::Release);
    Err(write_for_ever(&db, &ledger, seed ^ life << 32, false))
}

/// Makes the second keyspace if it is not there.
pub(super) fn make_keyspaces(db: &Db) -> Result<(), Error> {
    match db.keyspace(NAMES[1]) {
        Err(Error::KeyspaceNotFound { .. }) => {
            db.create_keyspace(NAMES[1], other_options()).map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// Load in all threads, until one of them finds something: that ends the process. `patient` threads go on trying on a full disk.
pub(in crate::rows) fn write_for_ever(db: &Db, ledger: &Ledger, seed: u64, patient: bool) -> End {
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..ledger.plan().threads {
            let sender = sender.clone();
            scope.spawn(move || {
                let chance = Chance::new(seed.wrapping_add(thread as u64));
                sender.send(write(db, ledger, thread, chance, patient))
            });
        }
        scope.spawn(move || sender.send(look_after(db, Chance::new(!seed), patient)));
        let end = ended.recv().expect("the threads end only by sending");
        std::process::exit(i32::from(end.say()))
    })
}

fn write(db: &Db, ledger: &Ledger, thread: usize, chance: Chance, patient: bool) -> End {
    let mut load = match Load::new(db, ledger, thread, chance) {
        Ok(load) => load,
        Err(error) => return End::of(error),
    };
    loop {
        match load.step() {
            Ok(()) => {}
            Err(Trouble::Refused(Error::NoSpace { .. })) if patient => {
                SystemClock::new().sleep(FULL_PAUSE);
            }
            Err(Trouble::Refused(error)) => return End::of(error),
            Err(Trouble::Found(failure)) => return End::Found(failure),
        }
    }
}

/// Flushes, compacts and waits.
fn look_after(db: &Db, mut chance: Chance, patient: bool) -> End {
    loop {
        let done = match chance.below(20) {
            0 => db.flush(),
            1 => db.compact(),
            _ => {
                SystemClock::new().sleep(Duration::from_millis(chance.below(40)));
                Ok(())
            }
        };
        match done {
            Ok(()) => {}
            Err(Error::NoSpace { .. }) if patient => {}
            Err(error) => return End::of(error),
        }
    }
}

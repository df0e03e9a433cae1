//! The child: opens the database and works until the file system goes.

use super::writers::{Pen, Script, words_of};
use super::{OPEN, OPENING, WORDS_FIRST, io, options};
use crate::drive::Chance;
use crate::world::{End, NAMES, Words, batch, contents, other_options};
use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, Error, WriteOptions};

/// Words: directory outside the image, seed, life, writers, mode.
pub(in crate::rows) fn run(words: &[String]) -> ExitCode {
    match work(words) {
        Ok(never) => match never {},
        Err(end) => ExitCode::from(end.say()),
    }
}

fn work(arguments: &[String]) -> Result<Infallible, End> {
    let wrong = || End::Found(format!("arguments of the child: {arguments:?}"));
    let [outside, seed, life, writers, mode] = arguments else { return Err(wrong()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong());
    let (seed, life, writers) = (number(seed)?, number(life)?, number(writers)? as usize);
    let outside = Path::new(outside);
    let words = Words::open(&outside.join("words"), WORDS_FIRST + words_of(writers))
        .map_err(|error| End::Found(error.to_string()))?;
    words[0].store(OPENING, Ordering::Release);
    let db = Db::open(outside.join("mount/db"), options(seed, io(life))).map_err(End::of)?;
    if let Err(Error::KeyspaceNotFound { .. }) = db.keyspace(NAMES[1]) {
        db.create_keyspace(NAMES[1], other_options()).map_err(End::of)?;
    }
    words[0].store(OPEN, Ordering::Release);
    if mode == "open" {
        loop {
            SystemClock::new().sleep(Duration::from_secs(1));
        }
    }
    let (sender, failed) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let pen = Pen::new(&words[WORDS_FIRST..], writers, writer);
            let script = Script::new(seed, life, writer, pen.first());
            let (db, sender) = (&db, sender.clone());
            scope.spawn(move || sender.send(write(db, script, pen)));
        }
        let db = &db;
        scope.spawn(move || sender.send(look_after(db, &mut Chance::new(seed ^ life))));
        // The first thread that fails ends the process: nothing is closed in an orderly way when the power goes.
        let result = failed.recv().expect("the threads end only by sending");
        let end = End::of(result.err().unwrap_or(Error::Closed));
        std::process::exit(i32::from(end.say()))
    })
}

/// Writes until something fails.
fn write(db: &Db, mut script: Script, mut pen: Pen<'_>) -> Result<(), Error> {
    loop {
        let (commit, durability) = script.next_commit();
        let commit = pen.try_commit(commit);
        db.write(&batch(db, &commit)?, &WriteOptions { durability: Some(durability) })?;
        pen.acknowledged(durability);
    }
}

/// Flushes, compacts, reads and waits until something fails.
fn look_after(db: &Db, chance: &mut Chance) -> Result<(), Error> {
    loop {
        match chance.below(8) {
            0 => db.flush()?,
            1 => db.compact()?,
            2 => drop(contents(db)?),
            3 => drop(db.snapshot()),
            _ => SystemClock::new().sleep(Duration::from_micros(chance.below(5_000))),
        }
    }
}

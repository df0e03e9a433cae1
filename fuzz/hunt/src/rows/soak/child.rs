//! The process that lives through the soak.

#![allow(clippy::disallowed_methods, reason = "looks at a directory from outside")]

use super::filler::Filler;
use super::process::{Memory, descriptors};
use super::session::Session;
use super::{KILLED_TASK, LONG, Sizes, keyspace_options, options};
use crate::drive::{Chance, Failure, Tally};
use crate::rows::kill::AT_WORK;
use crate::world::{Child, End, Ledger, Load, NAMES, Trouble, check_directory};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, Error};

/// After space has come back, every writer writes again within this time.
const RESUME_MAX: Duration = Duration::from_secs(5);
/// Within this time writers notice that the disk is full.
const NOTICE_MAX: Duration = Duration::from_secs(60);
/// The longest wait for the process that is killed to get to work.
const TAKE_OVER_MAX: Duration = Duration::from_secs(60);
/// Of the disk, so much is left when nobody fills it.
const FREE_PERCENT: u64 = 20;
/// Load before it is known what the database at work needs.
const WARM_UP: Duration = Duration::from_secs(20);
/// Tries to open the database on a full disk.
const OPENS_WHILE_FULL: usize = 3;
const PAUSE: Duration = Duration::from_millis(5);

/// Words: directory outside the image, seconds, seed.
pub(in crate::rows) fn run(words: &[String]) -> ExitCode {
    let mut tally = Tally::default();
    let result = soak(words, &mut tally);
    println!("checked seconds {}", tally.n);
    tally.fired.iter().for_each(|(kind, count)| println!("fired {kind} {count}"));
    tally.notes.iter().for_each(|(name, count)| println!("note {name} {count}"));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => ExitCode::from(End::Found(failure).say()),
    }
}

fn soak(arguments: &[String], tally: &mut Tally) -> Result<(), Failure> {
    let wrong = || format!("arguments of the child: {arguments:?}");
    let [outside, seconds, seed] = arguments else { return Err(wrong()) };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong());
    let (length, seed) = (Duration::from_secs(number(seconds)?), number(seed)?);
    let sizes = Sizes::of(length);
    let outside = Path::new(outside);
    let ledger = Ledger::open(&outside.join("ledger"), sizes.plan);
    let mut soak = Soak {
        chance: Chance::new(seed),
        clock: SystemClock::new(),
        length,
        outside: outside.to_owned(),
        path: outside.join("mount/db"),
        filler: Filler::new(outside.join("mount/filler")),
        occupant: Filler::new(outside.join("mount/occupant")),
        image_bytes: sizes.image_bytes,
        ledger: Arc::new(ledger.map_err(|error| format!("ledger: {error}"))?),
        memory: Memory::default(),
        descriptors: None,
    };
    let result = soak.live(tally);
    tally.checked(soak.clock.now().as_secs());
    result?;
    soak.memory.end(length >= LONG, tally)?;
    tally.note("fds_first", soak.descriptors.unwrap_or(0));
    tally.note("fds_last", descriptors()?);
    Ok(())
}

struct Soak {
    chance: Chance,
    clock: SystemClock,
    length: Duration,
    outside: PathBuf,
    path: PathBuf,
    /// Takes the last of the space, and gives it back.
    filler: Filler,
    /// Has the rest of four fifths of it, for good.
    occupant: Filler,
    image_bytes: u64,
    ledger: Arc<Ledger>,
    memory: Memory,
    /// With the database closed.
    descriptors: Option<u64>,
}

impl Soak {
    fn live(&mut self, tally: &mut Tally) -> Result<(), Failure> {
        self.load()?;
        while self.clock.now() < self.length {
            self.round(tally)?;
        }
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.length >= LONG
    }

    fn open(&self) -> Result<Db, Error> {
        Db::open(&self.path, options())
    }

    /// Makes the database and writes every key; then the disk is brought to four fifths.
    fn load(&mut self) -> Result<(), Failure> {
        let db = self.open().map_err(|error| error.to_string())?;
        let made = db.create_keyspace(NAMES[1], keyspace_options());
        made.map_err(|error| error.to_string())?;
        let ledger = &*self.ledger;
        let fill = |thread: usize| -> Result<(), Failure> {
            let load = Load::new(&db, ledger, thread, Chance::new(0));
            match load.map_err(|error| error.to_string())?.fill() {
                Ok(()) => Ok(()),
                Err(Trouble::Refused(error)) => Err(format!("filling: {error}")),
                Err(Trouble::Found(failure)) => Err(failure),
            }
        };
        std::thread::scope(|scope| {
            let fill = &fill;
            let threads: Vec<_> =
                (0..ledger.plan().threads).map(|t| scope.spawn(move || fill(t))).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
            })
        })?;
        self.leave_a_fifth(&db)?;
        db.close().map_err(|error| format!("close: {error}"))
    }

    /// Lets somebody else have what the database at work does not need of four fifths of the disk.
    fn leave_a_fifth(&mut self, db: &Db) -> Result<(), Failure> {
        let session = Session::new(self.ledger.plan().threads);
        let until = self.clock.now() + if self.is_long() { WARM_UP } else { WARM_UP / 10 };
        let least = std::thread::scope(|scope| {
            session.start(scope, db, &self.ledger, 0);
            let mut least = u64::MAX;
            while self.clock.now() < until && session.check().is_ok() {
                least = least.min(self.filler.free_bytes().unwrap_or(0));
                self.clock.sleep(PAUSE);
            }
            session.stop();
            least
        });
        session.check()?;
        let left = self.image_bytes * FREE_PERCENT / 100;
        let spare = least.checked_sub(left).ok_or("the disk is too small for this load")?;
        self.occupant.take(spare).map_err(|error| format!("occupant: {error}"))
    }

    /// Some cycles on one opening, then what is done while it is closed.
    fn round(&mut self, tally: &mut Tally) -> Result<(), Failure> {
        let db = self.open().map_err(|error| format!("open: {error}"))?;
        let ledger = Arc::clone(&self.ledger);
        ledger.verify(&db).map_err(|failure| format!("after opening: {failure}"))?;
        let cycles = if self.is_long() { 3 + self.chance.below(6) } else { 1 };
        let full_at_end = self.chance.one_in(2);
        let seed = self.chance.draw();
        let session = Session::new(ledger.plan().threads);
        let result = std::thread::scope(|scope| {
            session.start(scope, &db, &ledger, seed);
            let mut result = (0..cycles).try_for_each(|_| self.cycle(&session, tally));
            if full_at_end {
                result = result.and_then(|()| self.fill_up(&session));
            }
            session.stop();
            result
        });
        // What a thread has found explains more than what came of it.
        session.check().and(result)?;
        tally.note("operations", session.operations.into_inner());
        tally.note("reads_while_full", session.reads_while_full.into_inner());
        tally.fired("no_space", session.refusals.into_inner());
        let db = match full_at_end {
            true => self.reopen_while_full(db, tally)?,
            false => db,
        };
        self.come_to_rest(db, tally)?;
        self.let_another_be_killed(seed, tally)
    }

    /// Load, a full disk, and back.
    fn cycle(&mut self, session: &Session, tally: &mut Tally) -> Result<(), Failure> {
        let most = if self.is_long() { 8_000 } else { 800 };
        let until = self.clock.now() + Duration::from_millis(most / 4 + self.chance.below(most));
        while self.clock.now() < until {
            session.check()?;
            self.clock.sleep(PAUSE);
        }
        self.memory.sample()?;
        self.fill_up(session)?;
        let until = self.clock.now() + Duration::from_millis(50 + self.chance.below(500));
        while self.clock.now() < until {
            self.take_all()?;
            session.check()?;
            self.clock.sleep(PAUSE);
        }
        tally.note("enospc_cycles", 1);
        let begin = self.clock.now();
        self.give_back()?;
        while !session.none_refused() {
            session.check()?;
            if self.clock.now() - begin > RESUME_MAX {
                let free = self.filler.free_bytes().map_err(|error| error.to_string())?;
                let held = self.directory_bytes()?;
                return Err(format!(
                    "writers do not resume within {RESUME_MAX:?}; {free} bytes are free, the database holds {held}"
                ));
            }
            self.clock.sleep(PAUSE);
        }
        tally.note("resumed", 1);
        tally.note_max("max_resume_ms", (self.clock.now() - begin).as_millis() as u64);
        Ok(())
    }

    /// Takes all space until every writer is refused.
    fn fill_up(&mut self, session: &Session) -> Result<(), Failure> {
        let begin = self.clock.now();
        while !session.all_refused() {
            self.take_all()?;
            session.check()?;
            if self.clock.now() - begin > NOTICE_MAX {
                return Err(format!("writers go on for {NOTICE_MAX:?} on a full disk"));
            }
            self.clock.sleep(PAUSE);
        }
        Ok(())
    }

    fn take_all(&mut self) -> Result<(), Failure> {
        self.filler.take(u64::MAX).map_err(|error| format!("filler: {error}"))
    }

    fn give_back(&mut self) -> Result<(), Failure> {
        self.filler.empty().map_err(|error| format!("filler: {error}"))
    }

    /// Closes and opens on the full disk: that works or is refused and changes nothing, and works once there is space.
    fn reopen_while_full(&mut self, db: Db, tally: &mut Tally) -> Result<Db, Failure> {
        match db.close() {
            Ok(()) | Err(Error::NoSpace { .. }) => {}
            Err(error) => return Err(format!("close on a full disk: {error}")),
        }
        let mut bytes = self.directory_bytes()?;
        for _ in 0..OPENS_WHILE_FULL {
            self.take_all()?;
            match self.open() {
                Ok(db) => {
                    tally.note("opened_while_full", 1);
                    let verified = self.ledger.verify(&db);
                    verified.map_err(|failure| format!("opened on a full disk: {failure}"))?;
                    match db.close() {
                        Ok(()) | Err(Error::NoSpace { .. }) => {}
                        Err(error) => return Err(format!("close on a full disk: {error}")),
                    }
                    bytes = self.directory_bytes()?;
                }
                Err(Error::NoSpace { .. }) => {
                    tally.note("open_refused_while_full", 1);
                    let now = self.directory_bytes()?;
                    if now > bytes {
                        return Err(format!("an open that was refused left {} bytes", now - bytes));
                    }
                    bytes = now;
                }
                Err(error) => return Err(format!("open on a full disk: {error}")),
            }
        }
        self.give_back()?;
        let db = self.open().map_err(|error| format!("open once there is space: {error}"))?;
        Ok(db)
    }

    fn directory_bytes(&self) -> Result<u64, Failure> {
        let failed = |error: std::io::Error| error.to_string();
        let entries = fs::read_dir(&self.path).map_err(failed)?;
        let sizes = entries.map(|entry| Ok(entry?.metadata()?.len()));
        sizes.sum::<std::io::Result<u64>>().map_err(failed)
    }

    /// Compares everything, closes, and looks at what is left.
    fn come_to_rest(&mut self, db: Db, tally: &mut Tally) -> Result<(), Failure> {
        self.wait_for_compactions(&db)?;
        tally.note_max("max_keys", self.ledger.verify(&db)?);
        db.verify().map_err(|error| format!("verify: {error}"))?;
        let stats = db.stats();
        db.close().map_err(|error| format!("close: {error}"))?;
        tally.note_max("max_disk_mb", check_directory(&self.path, &stats)? >> 20);
        let now = descriptors()?;
        let first = *self.descriptors.get_or_insert(now);
        tally.note("closed", 1);
        if now == first {
            Ok(())
        } else {
            Err(format!("{now} descriptors after closing, {first} the first time"))
        }
    }

    /// Waits until no compaction is due. One that met the full disk is tried again by itself, but first its error shows.
    fn wait_for_compactions(&self, db: &Db) -> Result<(), Failure> {
        let begin = self.clock.now();
        loop {
            match db.wait_for_compactions() {
                Ok(()) => return Ok(()),
                Err(Error::NoSpace { .. }) if self.clock.now() - begin < RESUME_MAX => {
                    self.clock.sleep(PAUSE);
                }
                Err(error) => return Err(format!("compactions: {error}")),
            }
        }
    }

    /// Another process opens the database, writes, and is killed: half of the time on a full disk.
    fn let_another_be_killed(&mut self, seed: u64, tally: &mut Tally) -> Result<(), Failure> {
        self.ledger.state().store(0, Ordering::Release);
        let path = self.outside.to_string_lossy().into_owned();
        let words = [path, self.length.as_secs().to_string(), seed.to_string()];
        let child = Child::start(KILLED_TASK, words);
        let mut child = child.map_err(|error| format!("child: {error}"))?;
        let begin = self.clock.now();
        while self.ledger.state().load(Ordering::Acquire) != AT_WORK {
            if child.has_ended() {
                return child.kill(false);
            }
            if self.clock.now() - begin > TAKE_OVER_MAX {
                return Err("the other process does not open the database".to_owned());
            }
            self.clock.sleep(PAUSE);
        }
        let full = self.chance.one_in(2);
        let until = self.clock.now() + Duration::from_millis(self.chance.below(700));
        while self.clock.now() < until {
            if full {
                self.take_all()?;
            }
            self.clock.sleep(PAUSE);
        }
        child.kill(false)?;
        self.give_back()?;
        tally.fired("kill", 1);
        Ok(())
    }
}

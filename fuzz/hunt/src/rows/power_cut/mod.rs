//! Row 3: the plug is pulled on a real ext4 under a real io_uring.
//!
//! One case is one file system, a loop device over memory, with several lives. In each a child writes with several threads,
//! flushes, compacts and reads until the power goes: the device stops, or `FS_IOC_SHUTDOWN` ends the file system. What ext4 had
//! not put on the device is gone. The child is killed, the file system mounted again (which replays its journal), the
//! database opened and compared with what stands outside of it. Openings are cut too.
//!
//! What is asked (see `writers`): each writer's commits are there as a prefix that holds every promised one, and so are all
//! writers' commits together. Two recoveries of one image come to the same.

#![allow(clippy::disallowed_methods, reason = "the files of the row are real ones")]

mod child;
mod writers;

pub(super) use child::run as child;

use crate::drive::{Case, Chance, Failure, Row, Tally};
use crate::world::{
    Child, Image, Map, Plug, Words, contents, in_private_mounts, outside_directory,
};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use treering_lsm::base::clock::{Clock, SystemClock};
use treering_lsm::{Db, IoChoice, Options};
use writers::{Writers, words_of};

pub(super) const ROW: Row = Row {
    number: 3,
    name: "power-cut",
    promise: "after the plug is pulled on ext4 the database opens and holds a prefix of its commits with every promised one",
    unit: "cuts",
    ci_cases: 6,
    nightly: 10_000,
    parallel: true,
    run,
};

/// An ext4 on a loop device was made here.
static MADE: AtomicBool = AtomicBool::new(false);

/// Name of the child's task.
pub(super) const TASK: &str = "power-cut";

/// How the power goes, the same in all lives of a file system, so that a case of the first kind can never be excused.
const DEVICE: &[Plug] = &[Plug::DeviceStopped];
const FILE_SYSTEM: &[Plug] = &[Plug::JournalFlushed, Plug::JournalLost];

/// Lives of one file system.
const LIVES: u64 = 12;
const IMAGE_BYTES: u64 = 64 << 20;
/// The longest that writers work before a cut.
const WORK_MICROS_MAX: u64 = 60_000;
/// The longest wait for a child to get somewhere.
const CHILD_SECONDS_MAX: u64 = 60;

/// What the child is at: `words[0]`.
const STARTED: u64 = 0;
const OPENING: u64 = 1;
const OPEN: u64 = 2;
/// Words before those of the writers.
const WORDS_FIRST: usize = 8;

/// Options of a case; parent and child draw the same.
fn options(seed: u64, io: IoChoice) -> Options {
    let mut options = crate::world::tiny_options();
    options.io = io;
    options.memory_limit = 16 << 20;
    let sizes = [16 << 10, 64 << 10, 256 << 10, 1 << 20];
    options.write_buffer_bytes = Some(*Chance::new(seed).pick(&sizes));
    options
}

/// io_uring and plain calls take turns.
fn io(life: u64) -> IoChoice {
    if life.is_multiple_of(2) { IoChoice::Auto } else { IoChoice::Posix }
}

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let outside = outside_directory().map_err(|error| format!("temporary directory: {error}"))?;
    let done = in_private_mounts(|| {
        let mount_point = outside.path().join("mount");
        fs::create_dir(&mount_point).map_err(|error| error.to_string())?;
        let image = match Image::make(IMAGE_BYTES, &mount_point) {
            Ok(image) => image,
            // A machine that has made one can make another.
            Err(error) if MADE.load(Ordering::Relaxed) => return Err(format!("an image: {error}")),
            Err(_) => return Ok(Case::Impossible),
        };
        MADE.store(true, Ordering::Relaxed);
        Power::new(seed, outside.path(), image)?.run(tally)
    });
    done.unwrap_or(Ok(Case::Impossible))
}

struct Power<'a> {
    seed: u64,
    chance: Chance,
    plugs: &'static [Plug],
    outside: &'a Path,
    image: Image,
    words: Words,
    writers: Writers,
    clock: SystemClock,
}

impl Power<'_> {
    fn new(seed: u64, outside: &Path, image: Image) -> Result<Power<'_>, Failure> {
        let mut chance = Chance::new(seed);
        let plugs = if chance.one_in(3) { FILE_SYSTEM } else { DEVICE };
        let writers = Writers::new(1 + chance.below(3) as usize);
        let words = Words::open(&outside.join("words"), WORDS_FIRST + words_of(writers.count()))
            .map_err(|error| format!("words: {error}"))?;
        Ok(Power { seed, chance, plugs, outside, image, words, writers, clock: SystemClock::new() })
    }

    fn run(mut self, tally: &mut Tally) -> Result<Case, Failure> {
        for life in 0..LIVES {
            if let Err(failure) = self.live(life, tally) {
                return self.blame(format!("life {life}: {failure}"), tally);
            }
        }
        Ok(Case::Done)
    }

    /// Whose fault it was.
    fn blame(&mut self, failure: Failure, tally: &mut Tally) -> Result<Case, Failure> {
        let excused = self.plugs != DEVICE && self.image.is_damaged().unwrap_or(false);
        if !excused {
            return Err(failure);
        }
        tally.note("ext4_damaged", 1);
        Ok(Case::Done)
    }

    fn live(&mut self, life: u64, tally: &mut Tally) -> Result<(), Failure> {
        self.writers.begin(&self.words[WORDS_FIRST..]);
        let at_work = !self.chance.one_in(8);
        let wait = self.chance.below(1 + self.chance.clone().below(WORK_MICROS_MAX));
        self.cut(life, "work", at_work.then_some(wait), tally)?;
        self.writers.end(self.seed, life, &self.words[WORDS_FIRST..])?;
        let mut reference = None;
        for round in 0..self.chance.below(6).saturating_sub(2) {
            if round == 0 && self.chance.one_in(4) {
                reference = Some(self.contents_of_a_copy()?);
            }
            self.cut(life, "open", None, tally)?;
        }
        let found = self.look(life)?;
        if reference.is_some_and(|reference| reference != found) {
            return Err("two recoveries of one image came to different contents".to_owned());
        }
        self.writers.check(&found, tally)
    }

    /// Starts a child and pulls the plug under it: `work` microseconds after it has opened the database, or while it is opening.
    fn cut(
        &mut self,
        life: u64,
        mode: &str,
        work: Option<u64>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        self.words[0].store(STARTED, Ordering::Release);
        let (seed, life) = (self.seed.to_string(), life.to_string());
        let writers = self.writers.count().to_string();
        let path = self.outside.to_string_lossy().into_owned();
        let words = [path, seed, life, writers, mode.to_owned()];
        let mut child = Child::start(TASK, words).map_err(|error| format!("child: {error}"))?;
        self.wait_for(&mut child, if work.is_some() { OPEN } else { OPENING })?;
        let wait = work.unwrap_or_else(|| self.chance.below(12_000));
        self.clock.sleep(Duration::from_micros(wait));
        if child.has_ended() {
            return child.kill(false);
        }
        let plug = *self.chance.pick(self.plugs);
        let was_open = self.words[0].load(Ordering::Acquire) == OPEN;
        self.image.pull(plug).map_err(|error| format!("shutdown: {error}"))?;
        // A Sync write that is acknowledged from now on is a lie; give it the time to be told.
        self.clock.sleep(Duration::from_micros(self.chance.below(2_000)));
        child.kill(true)?;
        let again = self.image.unmount().and_then(|()| self.image.mount());
        again.map_err(|error| format!("the file system does not come back: {error}"))?;
        let kind = match plug {
            Plug::DeviceStopped => "device_stopped",
            Plug::JournalFlushed => "journal_flushed",
            Plug::JournalLost => "journal_lost",
        };
        tally.fired(kind, 1);
        tally.note(if was_open { "cut_at_work" } else { "cut_while_opening" }, 1);
        tally.checked(1);
        Ok(())
    }

    fn wait_for(&self, child: &mut Child, state: u64) -> Result<(), Failure> {
        let begin = self.clock.now();
        while self.words[0].load(Ordering::Acquire) < state {
            if child.has_ended() {
                return child.kill(false);
            }
            if (self.clock.now() - begin).as_secs() > CHILD_SECONDS_MAX {
                return Err("the child does not open the database".to_owned());
            }
            self.clock.sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Opens the database, reads and verifies all of it, and closes it.
    fn look(&self, life: u64) -> Result<Map, Failure> {
        let path = self.outside.join("mount/db");
        let db = Db::open(path, options(self.seed, io(life + 1)))
            .map_err(|error| format!("does not open: {error}"))?;
        let found = contents(&db).map_err(|error| format!("scan: {error}"))?;
        db.verify().map_err(|error| format!("verify: {error}"))?;
        db.close().map_err(|error| format!("close: {error}"))?;
        Ok(found)
    }

    /// What a copy of the directory shows when it is opened.
    fn contents_of_a_copy(&self) -> Result<Map, Failure> {
        let copy = self.outside.join("copy");
        let copied = copy_directory(&self.outside.join("mount/db"), &copy);
        copied.map_err(|error| format!("copy: {error}"))?;
        let opened = Db::open(&copy, options(self.seed, IoChoice::Posix));
        let found = opened.and_then(|db| contents(&db));
        let found = found.map_err(|error| format!("the copy does not open: {error}"))?;
        fs::remove_dir_all(&copy).map_err(|error| error.to_string())?;
        Ok(found)
    }
}

/// Copies the files of a directory, which may not be there.
fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir(to)?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

//! Row 17: a long life on a small disk that fills up again and again, and the files of old releases.
//!
//! One case lasts as long as the run has time. A process of its own keeps a database under mixed load on an ext4 that is
//! four fifths full. A filler takes the rest until writes are refused; reads go on and are compared; the filler goes, and
//! writing must come back by itself. In between the database is closed, looked at from outside, written by a process that is
//! killed, reopened and compared whole. The process that lives through all of it must not grow, nor keep descriptors.

#![allow(clippy::disallowed_methods, reason = "the files of the row are real ones")]

mod child;
mod filler;
mod goldens;
mod killed;
mod process;
mod session;

pub(super) use child::run as child;
pub(super) use killed::run as killed;

use crate::drive::{Case, Failure, Row, Tally};
use crate::world::{Child, Image, Plan, in_private_mounts, outside_directory};
use std::fs;
use std::path::Path;
use std::time::Duration;
use treering_lsm::{KeyspaceOptions, Options};

pub(super) const ROW: Row = Row {
    number: 17,
    name: "soak",
    promise: "a full disk loses nothing and passes by itself; memory, descriptors and files stay what they were; old files open",
    unit: "seconds",
    ci_cases: 1,
    nightly: 10_800,
    parallel: false,
    run,
};

/// Name of the task of the process that soaks, and of the one that is killed.
pub(super) const TASK: &str = "soak";
pub(super) const KILLED_TASK: &str = "soak-killed";

/// A run without a time.
const SHORTEST: Duration = Duration::from_secs(15);
/// From here on the disk is large, and growth of memory can be told from noise.
const LONG: Duration = Duration::from_secs(300);

/// Sizes of a soak, from its length.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    image_bytes: u64,
    plan: Plan,
}

impl Sizes {
    fn of(length: Duration) -> Sizes {
        let (image_bytes, keys) =
            if length >= LONG { (256 << 20, 50_000) } else { (96 << 20, 10_000) };
        Sizes { image_bytes, plan: Plan { threads: 2, keys, value_bytes: 400 } }
    }
}

/// Small next to the disk, so that a compaction needs a part of it only.
fn options() -> Options {
    let mut options = Options::default();
    options.memory_limit = 24 << 20;
    options.write_buffer_bytes = Some(2 << 20);
    options.default_keyspace = keyspace_options();
    options
}

fn keyspace_options() -> KeyspaceOptions {
    let mut options = KeyspaceOptions::default();
    options.table_bytes = 1 << 20;
    options.level_base_bytes = 4 << 20;
    options.level_fanout = 4;
    options
}

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    goldens::run(tally)?;
    let units = tally.left.units.map(Duration::from_secs);
    let length = tally.left.time.or(units).unwrap_or(SHORTEST).max(SHORTEST);
    let outside = outside_directory().map_err(|error| format!("temporary directory: {error}"))?;
    let done = in_private_mounts(|| {
        let mount_point = outside.path().join("mount");
        fs::create_dir(&mount_point).map_err(|error| error.to_string())?;
        let Ok(_image) = Image::make(Sizes::of(length).image_bytes, &mount_point) else {
            return Ok(Case::Impossible);
        };
        soak(seed, length, outside.path(), tally)
    });
    done.unwrap_or(Ok(Case::Impossible))
}

fn soak(seed: u64, length: Duration, outside: &Path, tally: &mut Tally) -> Result<Case, Failure> {
    let path = outside.to_string_lossy().into_owned();
    let child = Child::start(TASK, [path, length.as_secs().to_string(), seed.to_string()]);
    let (output, result) = child.map_err(|error| format!("child: {error}"))?.finish();
    for line in output.lines() {
        let wrong = || format!("the child said {line:?}");
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, name, count] = words[..] else { return Err(wrong()) };
        let count = count.parse().map_err(|_| wrong())?;
        match kind {
            "checked" => tally.checked(count),
            "fired" => tally.fired(name, count),
            "note" if name.starts_with("max_") => tally.note_max(name, count),
            "note" => tally.note(name, count),
            _ => return Err(wrong()),
        }
    }
    result.map(|()| Case::Done)
}

//! Scans of prefixes, measured with and without prefix filters: of prefixes that are there and of ones that are not, in a database whose tables overlap.
//!
//! ```text
//! cargo run --release -p treering-bench --example prefixes -- [DIRECTORY] [USERS] [ITEMS] [ROUNDS]
//! ```
//! A key is a user (8 bytes, hashed) and an item (8 bytes). Every second user has items, written in random order. Checks the counts that it finds.
#![allow(clippy::disallowed_methods, reason = "it measures real time on real files")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;
use treering_lsm::{Db, KeyspaceOptions, Options, ReadOptions};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Scans of one measurement.
const SCANS: u64 = 20_000;
const VALUE_BYTES: usize = 100;

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn fill(path: &Path, prefix_bytes: Option<u16>, users: u64, items: u64) -> Outcome<Db> {
    let mut keyspace = KeyspaceOptions::default();
    keyspace.table_bytes = 8 << 20;
    keyspace.level_base_bytes = 32 << 20;
    keyspace.prefix_bytes = prefix_bytes;
    let mut options = Options::default();
    options.write_buffer_bytes = Some(8 << 20);
    options.default_keyspace = keyspace;
    let db = Db::open(path, options)?;
    for number in 0..users / 2 * items {
        let (user, item) = (mix(number) % (users / 2) * 2, mix(!number) % items);
        let key = [mix(user).to_be_bytes(), item.to_be_bytes()].concat();
        db.put(&key, &[number as u8; VALUE_BYTES])?;
    }
    db.flush()?;
    db.wait_for_compactions()?;
    Ok(db)
}

/// Microseconds a scan, and entries found.
fn scan(db: &Db, users: u64, is_there: bool, round: u64) -> Outcome<(f64, u64)> {
    let (mut found, started) = (0, Instant::now());
    for number in 0..SCANS {
        let user = mix(number + round * SCANS) % (users / 2) * 2 + u64::from(!is_there);
        let prefix = mix(user).to_be_bytes();
        for entry in db.default_keyspace().prefix(&prefix, &ReadOptions::default())? {
            entry?;
            found += 1;
        }
    }
    Ok((started.elapsed().as_secs_f64() * 1e6 / SCANS as f64, found))
}

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (users, items, rounds) = (number(200_000)?, number(10)?, number(5)?);
    let home = tempfile::tempdir_in(directory)?;
    let without = fill(&home.path().join("without"), None, users, items)?;
    let with = fill(&home.path().join("with"), Some(8), users, items)?;
    println!("{}\n{}", without.default_keyspace().shape(), with.default_keyspace().shape());
    println!("microseconds a scan     without      with");
    for round in 0..rounds {
        for is_there in [true, false] {
            let (slow, found) = scan(&without, users, is_there, round)?;
            let (fast, same) = scan(&with, users, is_there, round)?;
            if found != same || (found == 0) == is_there {
                return Err(format!("{found} entries without filters, {same} with them").into());
            }
            let what = if is_there { "there" } else { "absent" };
            println!("{what:<20} {slow:>10.2} {fast:>9.2}");
        }
    }
    Ok(())
}

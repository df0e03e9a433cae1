//! `scan`: the entries of a keyspace, through an open database.
//!
//! It is opened read-only: nothing is changed, and what the log holds is read into memory.

use crate::arguments::Scan;
use crate::database::Database;
use crate::failure::{Failure, Verdict};
use crate::key_text::{escape, hexadecimal};
use serde_json::json;
use std::io::Write;
use treering_lsm::{Db, Error, Keyspace, Options, Range, ReadOptions};

/// Runs the command.
pub(crate) fn run(arguments: &Scan, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    Database::at(&arguments.directory)?;
    let mut options = Options::default();
    // For the log; of the blocks none is read twice.
    options.memory_limit = 1 << 30;
    let db = Db::open_read_only(&arguments.directory, options)?;
    let keyspace = match db.keyspace(&arguments.keyspace) {
        Err(Error::KeyspaceNotFound { name }) => {
            let there = db.keyspace_names().join(", ");
            return Failure::refused(format!("no keyspace named {name:?}; there are: {there}"));
        }
        other => other?,
    };
    let mut count = 0u64;
    let limit = arguments.limit.unwrap_or(u64::MAX);
    for entry in range(&keyspace, arguments)?.take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let (key, value) = entry?;
        count += 1;
        if !arguments.count {
            print(&key, &value, arguments, json, out)?;
        }
    }
    if arguments.count && json {
        writeln!(out, "{}", json!({ "count": count }))?;
    } else if arguments.count {
        writeln!(out, "{count}")?;
    }
    drop(keyspace);
    db.close()?;
    Ok(Verdict::Sound)
}

fn range(keyspace: &Keyspace, arguments: &Scan) -> Result<Range, Error> {
    let options = ReadOptions { fill_cache: false, ..ReadOptions::default() };
    if let Some(prefix) = &arguments.prefix {
        return keyspace.prefix(&prefix.0, &options);
    }
    let (from, to) = (arguments.from.as_ref(), arguments.to.as_ref());
    match (from.map(|key| &key.0[..]), to.map(|key| &key.0[..])) {
        (Some(from), Some(to)) => keyspace.range(from..to, &options),
        (Some(from), None) => keyspace.range(from.., &options),
        (None, Some(to)) => keyspace.range(..to, &options),
        (None, None) => keyspace.range(.., &options),
    }
}

fn print(
    key: &[u8],
    value: &[u8],
    arguments: &Scan,
    json: bool,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let text = |bytes: &[u8]| if arguments.hex { hexadecimal(bytes) } else { escape(bytes) };
    if arguments.raw {
        out.write_all(key)?;
        if !arguments.keys_only {
            out.write_all(b"\t")?;
            out.write_all(value)?;
        }
        return out.write_all(b"\n");
    }
    match (json, arguments.keys_only) {
        (true, true) => writeln!(out, "{}", json!({ "key": text(key) })),
        (true, false) => {
            writeln!(out, "{}", json!({ "key": text(key), "value": text(value) }))
        }
        (false, true) => writeln!(out, "{}", text(key)),
        (false, false) => writeln!(out, "{} = {}", text(key), text(value)),
    }
}

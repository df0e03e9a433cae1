//! `table`: what a table says of itself, its entries, and whether all of it is sound.

use crate::arguments::Table;
use crate::database::{Database, file_name};
use crate::failure::{Failure, Verdict};
use crate::key_text::{escape, escape_short};
use crate::progress::Progress;
use crate::report;
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use treering_lsm::Error;
use treering_lsm::base::cursor::EntryCursor;
use treering_lsm::file::name::FileKind;
use treering_lsm::file::table_cursor::{ReadAhead, TableCursorOptions};
use treering_lsm::file::table_reader::{TableCheck, TableReader};
use treering_lsm::format::properties::Properties;

/// How all commands read tables from front to back: past the caches.
pub(crate) const SCAN: TableCursorOptions = TableCursorOptions {
    fill_cache: false,
    read_ahead: ReadAhead::Full { chunk_bytes: 256 << 10 },
};

/// Runs the command.
pub(crate) fn run(arguments: &Table, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let (database, kind) = Database::of_file(&arguments.file)?;
    let Some(FileKind::Table(number)) = kind else {
        let name = file_name(&arguments.file);
        return Failure::refused(format!("{name} is not named as a table is, 000012.sst"));
    };
    let table = match database.open_table(number) {
        Err(error @ Error::Corruption { .. }) => return print_damage(&error, json, out),
        other => other?,
    };
    let checked = arguments.verify.then(|| {
        let progress = Progress::new("verifying", table.properties().info.file_bytes);
        progress.at(&file_name(&arguments.file));
        table.verify()
    });
    if json {
        print_json(table.properties(), checked.as_ref(), out)?;
    } else {
        print(table.properties(), out)?;
    }
    if arguments.entries {
        print_entries(&table, json, out)?;
    }
    match checked {
        Some(Err(error @ Error::Corruption { .. })) if !json => print_damage(&error, json, out),
        Some(Err(Error::Corruption { .. })) => Ok(Verdict::Damaged),
        Some(Err(error)) => Err(error.into()),
        Some(Ok(check)) if !json => {
            writeln!(out, "sound: {}", check_line(&check))?;
            Ok(Verdict::Sound)
        }
        _ => Ok(Verdict::Sound),
    }
}

/// What a full check went through, in words.
pub(crate) fn check_line(check: &TableCheck) -> String {
    format!(
        "{}, {}, {} of them {}",
        report::count(check.blocks, "block"),
        report::count(check.entries, "entry"),
        check.tombstones,
        if check.tombstones == 1 { "a tombstone" } else { "tombstones" },
    )
}

fn print_damage(error: &Error, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    if json {
        writeln!(out, "{}", json!({ "damage": report::damage_json(error) }))?;
    } else {
        writeln!(out, "damaged: {}", report::damage_line(error))?;
    }
    Ok(Verdict::Damaged)
}

/// Bytes per byte stored, of the data blocks.
pub(crate) fn compression_ratio(properties: &Properties) -> f64 {
    let beside = properties.index_bytes + properties.filter_bytes;
    let stored = properties.info.file_bytes.saturating_sub(beside);
    properties.data_bytes as f64 / stored.max(1) as f64
}

fn print(properties: &Properties, out: &mut dyn Write) -> std::io::Result<()> {
    let info = &properties.info;
    let per_key = |bytes: u64| bytes as f64 * 8.0 / properties.key_count.max(1) as f64;
    let mean = |bytes: u64| bytes as f64 / info.entry_count.max(1) as f64;
    writeln!(out, "table {:06}.sst", info.table_id)?;
    if let Some(ingested) = info.ingested {
        writeln!(out, "  made           outside of a database, as {:x}", ingested.made_as)?;
    }
    writeln!(out, "  keyspace       {}, written for L{}", properties.keyspace, properties.level)?;
    writeln!(out, "  format version {}", properties.creation_version)?;
    writeln!(
        out,
        "  file           {} bytes ({})",
        info.file_bytes,
        report::bytes(info.file_bytes)
    )?;
    writeln!(
        out,
        "  entries        {}, of them {}; {} distinct keys",
        info.entry_count,
        report::count(info.tombstone_count, "tombstone"),
        properties.key_count
    )?;
    writeln!(out, "  sequences      {} to {}", info.sequence_min, info.sequence_max)?;
    writeln!(
        out,
        "  keys           \"{}\" to \"{}\", mean {:.1} bytes",
        escape_short(&info.smallest),
        escape_short(&info.largest),
        mean(info.raw_key_bytes)
    )?;
    writeln!(out, "  values         mean {:.1} bytes", mean(info.raw_value_bytes))?;
    writeln!(
        out,
        "  data           {} blocks of about {}, largest {}, {:?}, {:.2} to 1",
        properties.block_count,
        report::bytes(u64::from(properties.block_bytes)),
        report::bytes(u64::from(properties.largest_block)),
        properties.compression,
        compression_ratio(properties)
    )?;
    writeln!(
        out,
        "  index          {}, {:.1} bits per key",
        report::bytes(properties.index_bytes),
        per_key(properties.index_bytes)
    )?;
    writeln!(
        out,
        "  filter         {}: {}, {:.1} bits per key found",
        report::filter(properties.filter),
        report::bytes(properties.filter_bytes),
        per_key(properties.filter_bytes)
    )?;
    match properties.prefix_bytes {
        Some(bytes) => writeln!(out, "  prefixes       of {bytes} bytes, in the filter"),
        None => Ok(()),
    }
}

fn print_json(
    properties: &Properties,
    checked: Option<&Result<TableCheck, Error>>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let damage = match checked {
        Some(Err(error)) => report::damage_json(error),
        _ => serde_json::Value::Null,
    };
    let document = json!({
        "table": report::table_json(&properties.info),
        "format_version": properties.creation_version,
        "keyspace": properties.keyspace,
        "level": properties.level,
        "compression": format!("{:?}", properties.compression).to_lowercase(),
        "filter": report::filter(properties.filter),
        "prefix_bytes": properties.prefix_bytes,
        "block_bytes": properties.block_bytes,
        "largest_block": properties.largest_block,
        "blocks": properties.block_count,
        "keys": properties.key_count,
        "index_bytes": properties.index_bytes,
        "filter_bytes": properties.filter_bytes,
        "data_bytes": properties.data_bytes,
        "verified": checked.map(Result::is_ok),
        "damage": damage,
    });
    writeln!(out, "{document}")
}

fn print_entries(table: &Arc<TableReader>, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut cursor = table.cursor(SCAN);
    cursor.seek_to_first()?;
    while cursor.valid() {
        let (key, tag) = (cursor.key(), cursor.tag());
        let (kind, length) = (report::kind(tag.kind()), cursor.value().len());
        if json {
            let line = json!({
                "key": escape(key), "sequence": tag.sequence(), "kind": kind, "value_bytes": length
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{} @{} {kind} {length}", escape(key), tag.sequence())?;
        }
        cursor.next()?;
    }
    Ok(())
}

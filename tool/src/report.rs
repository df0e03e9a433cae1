//! What the commands print in common: sizes for people, tables in one line, keyspace options, damage.

use crate::database::file_name;
use crate::key_text::{escape, escape_short};
use serde_json::{Value, json};
use treering_lsm::base::key::Kind;
use treering_lsm::format::table_info::TableInfo;
use treering_lsm::{Error, FilterPolicy, KeyspaceOptions};

/// A size in the largest unit that leaves a number above 1.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// "1 table", "2 tables".
pub(crate) fn count(number: u64, what: &str) -> String {
    match (number, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {what}s"),
    }
}

/// A table in one line.
pub(crate) fn table_line(info: &TableInfo) -> String {
    format!(
        "{:06}.sst {:>10}  seq {}..={}  {}, {}  \"{}\" to \"{}\"",
        info.table_id,
        bytes(info.file_bytes),
        info.sequence_min,
        info.sequence_max,
        count(info.entry_count, "entry"),
        count(info.tombstone_count, "tombstone"),
        escape_short(&info.smallest),
        escape_short(&info.largest),
    )
}

/// A table as JSON.
pub(crate) fn table_json(info: &TableInfo) -> Value {
    json!({
        "number": info.table_id,
        "file_bytes": info.file_bytes,
        "tail_offset": info.tail_offset,
        "smallest": escape(&info.smallest),
        "largest": escape(&info.largest),
        "entries": info.entry_count,
        "tombstones": info.tombstone_count,
        "sequence_min": info.sequence_min,
        "sequence_max": info.sequence_max,
        "raw_key_bytes": info.raw_key_bytes,
        "raw_value_bytes": info.raw_value_bytes,
    })
}

/// A filter policy in words.
pub(crate) fn filter(policy: FilterPolicy) -> String {
    match policy {
        FilterPolicy::None => "none".to_owned(),
        FilterPolicy::Blocked { bits } => format!("blocked, {bits} bits per key"),
        FilterPolicy::Standard { bits } => format!("standard, {bits} bits per key"),
    }
}

/// Options of a keyspace in one line.
pub(crate) fn options_line(options: &KeyspaceOptions) -> String {
    let compression: Vec<String> =
        options.compression.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    format!(
        "blocks {}, compression {}, filter {}, tables {}, level base {}, fanout {}, {} in L0",
        bytes(u64::from(options.block_bytes)),
        compression.join("/"),
        filter(options.filter),
        bytes(options.table_bytes),
        bytes(options.level_base_bytes),
        options.level_fanout,
        options.level0_tables,
    )
}

/// Options of a keyspace as JSON.
pub(crate) fn options_json(options: &KeyspaceOptions) -> Value {
    let compression: Vec<String> =
        options.compression.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect();
    json!({
        "block_bytes": options.block_bytes,
        "compression": compression,
        "filter": filter(options.filter),
        "table_bytes": options.table_bytes,
        "level_base_bytes": options.level_base_bytes,
        "level_fanout": options.level_fanout,
        "level0_tables": options.level0_tables,
    })
}

/// The kind of an entry or operation.
pub(crate) fn kind(kind: Kind) -> String {
    format!("{kind:?}").to_lowercase()
}

/// What is wrong, in one line, beginning with file and offset.
pub(crate) fn damage_line(error: &Error) -> String {
    match error {
        Error::Corruption { path, offset, detail } => {
            format!("{} at offset {offset}: {detail}", file_name(path))
        }
        other => other.to_string(),
    }
}

/// What is wrong, as JSON.
pub(crate) fn damage_json(error: &Error) -> Value {
    match error {
        Error::Corruption { path, offset, detail } => {
            json!({ "file": file_name(path), "offset": offset, "reason": detail })
        }
        other => json!({ "reason": other.to_string() }),
    }
}

//! `stats`: what each level holds, from the manifest and what the tables say of themselves.

use crate::database::Database;
use crate::failure::{Failure, Verdict};
use crate::manifest::Manifest;
use crate::report::bytes;
use crate::table::compression_ratio;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use treering_lsm::limits::LEVEL_COUNT;

/// Columns of the longest bar.
const BAR_COLUMNS: usize = 40;

/// Sums over the tables of a level.
#[derive(Clone, Copy, Debug, Default)]
struct LevelSums {
    tables: u64,
    bytes: u64,
    entries: u64,
    tombstones: u64,
    keys: u64,
    key_bytes: u64,
    value_bytes: u64,
    filter_bytes: u64,
    /// Uncompressed, and what is stored for it.
    data_bytes: u64,
    stored_bytes: f64,
}

impl LevelSums {
    fn ratio(&self) -> f64 {
        if self.stored_bytes == 0.0 { 1.0 } else { self.data_bytes as f64 / self.stored_bytes }
    }

    fn per(sum: u64, count: u64) -> f64 {
        sum as f64 / count.max(1) as f64
    }
}

/// Runs the command.
pub(crate) fn run(directory: &Path, json: bool, out: &mut dyn Write) -> Result<Verdict, Failure> {
    let database = Database::at(directory)?;
    database.must_hold_something()?;
    let manifest = Manifest::sound(&database)?;
    let mut documents: Vec<Value> = Vec::new();
    for keyspace in &manifest.state.keyspaces {
        let mut levels = [LevelSums::default(); LEVEL_COUNT];
        for (sums, tables) in levels.iter_mut().zip(&keyspace.levels) {
            for info in tables {
                let reader = database.open_table_as(info)?;
                let properties = reader.properties();
                sums.tables += 1;
                sums.bytes += info.file_bytes;
                sums.entries += info.entry_count;
                sums.tombstones += info.tombstone_count;
                sums.keys += properties.key_count;
                sums.key_bytes += info.raw_key_bytes;
                sums.value_bytes += info.raw_value_bytes;
                sums.filter_bytes += properties.filter_bytes;
                sums.data_bytes += properties.data_bytes;
                sums.stored_bytes += properties.data_bytes as f64 / compression_ratio(properties);
            }
        }
        let record = &keyspace.record;
        if json {
            documents.push(json!({
                "id": record.id.0, "name": record.name,
                "levels": levels.iter().map(level_json).collect::<Vec<_>>(),
            }));
        } else {
            writeln!(out, "keyspace {} \"{}\"", record.id.0, record.name.escape_debug())?;
            print(&levels, out)?;
        }
    }
    if json {
        writeln!(out, "{}", json!({ "keyspaces": documents }))?;
    }
    Ok(Verdict::Sound)
}

fn print(levels: &[LevelSums; LEVEL_COUNT], out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "  level tables      bytes     entries tombstones  ratio filter b/key  key B  value B"
    )?;
    let largest = levels.iter().map(|sums| sums.bytes).max().unwrap_or(0).max(1);
    for (level, sums) in levels.iter().enumerate().filter(|(_, sums)| sums.tables > 0) {
        let columns = (sums.bytes as f64 / largest as f64 * BAR_COLUMNS as f64).ceil() as usize;
        writeln!(
            out,
            "  L{level}    {:>6} {:>10} {:>11} {:>10} {:>6.2} {:>12.1} {:>6.1} {:>8.1}  {}",
            sums.tables,
            bytes(sums.bytes),
            sums.entries,
            sums.tombstones,
            sums.ratio(),
            LevelSums::per(sums.filter_bytes * 8, sums.keys),
            LevelSums::per(sums.key_bytes, sums.entries),
            LevelSums::per(sums.value_bytes, sums.entries - sums.tombstones),
            "#".repeat(columns)
        )?;
    }
    if levels.iter().all(|sums| sums.tables == 0) {
        writeln!(out, "  no tables")?;
    }
    Ok(())
}

fn level_json(sums: &LevelSums) -> Value {
    json!({
        "tables": sums.tables,
        "bytes": sums.bytes,
        "entries": sums.entries,
        "tombstones": sums.tombstones,
        "compression_ratio": sums.ratio(),
        "filter_bits_per_key": LevelSums::per(sums.filter_bytes * 8, sums.keys),
        "key_bytes_mean": LevelSums::per(sums.key_bytes, sums.entries),
        "value_bytes_mean": LevelSums::per(sums.value_bytes, sums.entries - sums.tombstones),
    })
}

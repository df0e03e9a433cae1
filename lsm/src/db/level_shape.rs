//! The shape of a keyspace as a person sees it: how full its levels are, and of what.

use crate::base::key::KeyspaceId;
use crate::base::limits::LEVEL_COUNT;
use crate::db::engine::Engine;
use crate::job::pick;
use std::fmt;

/// Characters of the longest bar.
const BAR_WIDTH: u64 = 24;

/// One level of a [`LevelShape`].
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ShapeLevel {
    /// 0 to 6.
    pub level: usize,
    /// Tables.
    pub tables: u64,
    /// Those of the tables that a compaction has at present.
    pub busy_tables: u64,
    /// Bytes of the tables.
    pub bytes: u64,
    /// Bytes that the level should have; `None` for L0, which is measured in tables, and for levels that should be empty.
    pub target_bytes: Option<u64>,
    /// How much the level asks for compaction; 1 and more means that it gets some.
    pub score: f64,
    /// Entries, tombstones and hidden versions included.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
}

impl ShapeLevel {
    /// Share of the entries that are tombstones, 0 to 1.
    pub fn tombstone_share(&self) -> f64 {
        self.tombstones as f64 / self.entries.max(1) as f64
    }
}

/// The levels of a keyspace at one moment. Made by [`Keyspace::shape`](crate::Keyspace::shape); its `Display` is a small table with
/// a bar for the bytes of each level.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LevelShape {
    /// Name of the keyspace.
    pub keyspace: String,
    /// Its levels, L0 first, all seven.
    pub levels: Vec<ShapeLevel>,
}

impl LevelShape {
    /// Bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }

    /// Tables of all levels.
    pub fn tables(&self) -> u64 {
        self.levels.iter().map(|level| level.tables).sum()
    }
}

impl Engine {
    /// See [`Keyspace::shape`](crate::Keyspace::shape).
    pub(crate) fn level_shape(&self, id: KeyspaceId) -> LevelShape {
        let (record, shape) = {
            let versions = self.versions.lock();
            let keyspace = &versions.keyspaces()[id.0 as usize];
            (keyspace.record.clone(), keyspace.shape.clone())
        };
        let targets = pick::targets(&pick::level_bytes(&shape), &record.options);
        let scores = pick::scores(&shape, &record.options);
        let level = |level: usize| {
            let tables = shape.level(level).tables();
            let sum = |part: fn(&crate::format::table_info::TableInfo) -> u64| {
                tables.iter().map(|table| part(table.info())).sum()
            };
            ShapeLevel {
                level,
                tables: tables.len() as u64,
                busy_tables: tables.iter().filter(|table| table.is_busy()).count() as u64,
                bytes: shape.level(level).bytes(),
                target_bytes: Some(targets.bytes[level]).filter(|&bytes| bytes < u64::MAX),
                score: scores[level],
                entries: sum(|info| info.entry_count),
                tombstones: sum(|info| info.tombstone_count),
            }
        };
        LevelShape { keyspace: record.name, levels: (0..LEVEL_COUNT).map(level).collect() }
    }
}

impl fmt::Display for LevelShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "keyspace {:?}: {} tables, {}",
            self.keyspace,
            self.tables(),
            size(self.bytes())
        )?;
        writeln!(f, "level  tables  busy       size     target  score  deleted")?;
        let largest = self.levels.iter().map(|level| level.bytes).max().unwrap_or(0).max(1);
        for level in self.levels.iter().filter(|level| level.tables > 0) {
            let target = level.target_bytes.map_or("-".to_owned(), size);
            let width = (level.bytes.saturating_mul(BAR_WIDTH) / largest).max(1) as usize;
            writeln!(
                f,
                "L{:<4} {:>7} {:>5} {:>10} {target:>10} {:>6.2} {:>6.1} %  {}",
                level.level,
                level.tables,
                level.busy_tables,
                size(level.bytes),
                level.score,
                level.tombstone_share() * 100.0,
                "#".repeat(width)
            )?;
        }
        Ok(())
    }
}

/// Bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    let kib = bytes as f64 / 1024.0;
    match bytes {
        0..0x10_0000 => format!("{kib:.1} KiB"),
        0x10_0000..0x4000_0000 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / (1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_is_drawn_for_a_person() {
        let level = |level, tables, bytes, target_bytes, tombstones| ShapeLevel {
            level,
            tables,
            bytes,
            target_bytes,
            entries: 100,
            tombstones,
            score: 0.5,
            busy_tables: 0,
        };
        let levels = vec![
            level(0, 2, 1 << 20, None, 0),
            level(5, 0, 0, None, 0),
            level(6, 7, 96 << 20, Some(256 << 20), 25),
        ];
        let shape = LevelShape { keyspace: "oaks".to_owned(), levels };
        let drawn = "keyspace \"oaks\": 9 tables, 97.0 MiB\n\
            level  tables  busy       size     target  score  deleted\n\
            L0          2     0    1.0 MiB          -   0.50    0.0 %  #\n\
            L6          7     0   96.0 MiB  256.0 MiB   0.50   25.0 %  ########################\n";
        assert_eq!(shape.to_string(), drawn);
    }
}

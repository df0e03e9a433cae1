//! The table on the screen, a line when a row is done.

use super::{Document, short};
use crate::engines;
use crate::row::Row;

/// A row's line: medians, ratios, and whether its target is reached.
pub(crate) fn line(row: &Row, document: &Document) -> String {
    let mut line = format!("{:<26}", row.name);
    for engine in engines::NAMES.iter().chain(&["device"]) {
        if let Some(spread) = document.throughput(row.name, engine) {
            line += &format!(" {engine} {:>7}/s", short(spread.median));
        }
    }
    for peer in &engines::NAMES[1..] {
        if let Some(ratio) = document.ratio(row.name, peer).filter(|_| row.measures_throughput()) {
            line += &format!("  {ratio:.2}x {peer}");
        }
    }
    if let Some((reached, text)) = document.verdict(row) {
        line += &format!("  [{} {text}]", if reached { "ok:" } else { "MISSED:" });
    }
    for (engine, error) in document.failures.get(row.name).into_iter().flatten() {
        line += &format!("\n  {engine} failed: {error}");
    }
    line
}

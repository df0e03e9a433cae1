//! Where the data blocks of a table and the fragments of a log lie, read as FORMAT.md describes them.

use std::ops::Range;

const FOOTER_BYTES: usize = 64;
const FRAME_TRAILER_BYTES: usize = 8;
const LOG_HEADER_BYTES: usize = 4096;
const LOG_FRAME_BYTES: usize = 32 << 10;
const FRAGMENT_HEADER_BYTES: usize = 7;

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*word) as usize)
}

/// The data blocks of an intact table with a flat index; none of another.
pub(super) fn data_blocks(table: &[u8]) -> Vec<Range<usize>> {
    offsets(table).unwrap_or_default().windows(2).map(|ends| ends[0]..ends[1]).collect()
}

fn offsets(table: &[u8]) -> Option<Vec<usize>> {
    let footer = &table[table.len().checked_sub(FOOTER_BYTES)?..];
    if word(footer, 12)? != 1 {
        return None;
    }
    let start = word(footer, 32)?;
    let index = table.get(start..start + word(footer, 36)? - FRAME_TRAILER_BYTES)?;
    let count = word(index, index.len() - 8)?;
    let at = count * 8 + (count + 1) * 4;
    (0..=count).map(|block| word(index, at + block * 4)).collect()
}

/// Where the parts of a table begin: blocks, and all that the footer names.
pub(super) fn table_boundaries(table: &[u8]) -> Vec<usize> {
    let mut all: Vec<usize> = data_blocks(table).iter().map(|block| block.end).collect();
    if let Some(start) = table.len().checked_sub(FOOTER_BYTES) {
        let footer = &table[start..];
        all.extend([24, 32, 40, 48, 52].iter().filter_map(|&at| word(footer, at)));
        all.push(start);
    }
    all
}

/// Where the fragments begin in a segment whose bytes are in the order of the log.
pub(super) fn fragments(segment: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    let mut at = LOG_HEADER_BYTES;
    while let Some(header) = segment.get(at..at + FRAGMENT_HEADER_BYTES) {
        let left = LOG_FRAME_BYTES - (at - LOG_HEADER_BYTES) % LOG_FRAME_BYTES;
        if left < FRAGMENT_HEADER_BYTES || header[6] == 0 {
            if header.iter().all(|&byte| byte == 0) && left == LOG_FRAME_BYTES {
                break;
            }
            at += left;
            continue;
        }
        all.push(at);
        at += FRAGMENT_HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]]));
    }
    all
}

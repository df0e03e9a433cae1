//! Where FORMAT.md says that a flipped bit is seen whatever else is there.

use super::targets::Kind;

/// Bytes of a mark at the end of a manifest.
const MARK_BYTES: usize = 17;
/// Bytes of a table's footer, and the place of the tail offset in it.
const FOOTER_BYTES: usize = 64;
const TAIL_OFFSET_AT: usize = 52;
/// The tail of a table begins at a multiple of this; zeros, which nobody reads, stand before it.
const TAIL_ALIGN: usize = 64;

/// True where reads or `verify` must find damage to this byte of a file.
pub(super) fn must_be_found(kind: Kind, bytes: &[u8], at: usize) -> bool {
    match kind {
        Kind::Current => true,
        // The last mark says only what nobody asks any more.
        Kind::Manifest => at < bytes.len() - MARK_BYTES,
        Kind::Table => !is_padding(bytes, at),
        // Segments and ring hold the same bytes twice, and bytes that are dead.
        Kind::Segment | Kind::Ring | Kind::Ballast => false,
    }
}

fn is_padding(table: &[u8], at: usize) -> bool {
    let footer = &table[table.len() - FOOTER_BYTES..];
    let word = footer[TAIL_OFFSET_AT..].first_chunk::<4>().expect("a footer has 64 bytes");
    let tail = u32::from_le_bytes(*word) as usize;
    (tail.saturating_sub(TAIL_ALIGN - 1)..tail).contains(&at)
        && table[at..tail].iter().all(|&byte| byte == 0)
}

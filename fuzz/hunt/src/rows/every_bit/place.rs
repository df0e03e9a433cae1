//! Where FORMAT.md says that a flipped bit is seen whatever else is there.

use super::targets::Kind;

/// Bytes of a mark at the end of a manifest.
const MARK_BYTES: usize = 17;

/// True where reads or `verify` must find damage to this byte of a file of `length` bytes.
pub(super) fn must_be_found(kind: Kind, length: usize, at: usize) -> bool {
    match kind {
        Kind::Current | Kind::Table => true,
        // The last mark says only what nobody asks any more.
        Kind::Manifest => at < length - MARK_BYTES,
        // Segments and ring hold the same bytes twice, and bytes that are dead.
        Kind::Segment | Kind::Ring | Kind::Ballast => false,
    }
}

//! The one hash of a user key, computed once per operation and reused by every filter and fingerprint.

/// 64-bit XXH3 of the user key. Part of the table format: filters and fingerprints on disk are made from it.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

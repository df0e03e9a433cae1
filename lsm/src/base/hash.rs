//! The one hash of a user key, computed once per operation and reused by every filter and fingerprint.

/// 64-bit XXH3 of the user key. Part of the table format: filters and fingerprints on disk are made from it.
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// So that a prefix and the key that is equal to it are two things in a filter. Part of the table format.
const PREFIX_SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash of the first bytes of a key, for a filter that also holds prefixes.
#[inline]
pub fn prefix_hash(prefix: &[u8]) -> u64 {
    key_hash(prefix) ^ PREFIX_SALT
}

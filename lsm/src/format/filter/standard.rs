//! The classic Bloom filter, from the crate `bloomfilter`, over the 64-bit hash of the key.
//!
//! Its bytes are the crate's own (a header with version, probe count and seed, then the bits); our frame around them carries the
//! checksum. Several cache misses and two SipHashes per query: the blocked policy is the faster one, this one has a few
//! fewer false positives.

use bloomfilter::Bloom;

/// Fixed, so that the same keys give the same bytes. Keys that an attacker chose could collide in any case, by XXH3.
const SEED: [u8; 32] = *b"treering standard filter seed 01";
/// Version u8, byte count u64, probe count u32, seed.
const HEADER_BYTES: usize = 1 + 8 + 4 + 32;
/// More probes than any number of bits per key calls for.
const PROBES_MAX: u32 = 64;

pub(super) fn build(hashes: &[u64], bits_per_key: u8) -> Vec<u8> {
    let items = hashes.len().max(1);
    let bytes = (items * usize::from(bits_per_key)).div_ceil(8).max(8);
    let mut bloom = Bloom::<u64>::new_with_seed(bytes, items, &SEED)
        .expect("sizes are above 0, the crate's only condition");
    for hash in hashes {
        bloom.set(hash);
    }
    bloom.into_bytes()
}

/// A filter being read.
#[derive(Debug)]
pub(super) struct Standard {
    bloom: Bloom<u64>,
}

impl Standard {
    pub(super) fn parse(bytes: &[u8]) -> Result<Standard, String> {
        if bytes.len() <= HEADER_BYTES {
            return Err(format!("a standard filter of {} bytes", bytes.len()));
        }
        let bloom =
            Bloom::from_slice(bytes).map_err(|error| format!("standard filter: {error}"))?;
        if bloom.number_of_hash_functions() > PROBES_MAX {
            let probes = bloom.number_of_hash_functions();
            return Err(format!("a standard filter with {probes} probes"));
        }
        Ok(Standard { bloom })
    }

    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.bloom.check(&hash)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.bloom.as_slice().len() + size_of::<Standard>()
    }
}

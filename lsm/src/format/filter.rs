//! The filter of a table: says "not here" for nearly all keys that the table does not hold, and never for one that it holds.
//!
//! ```text
//! filter bits    bytes           as the policy lays them out
//! footer         | policy u8 | bits per key u8 | probes u8 | 0 u8 | key count u32 | zeros 8 |
//! ```
//!
//! The bits come first, so that a filter which begins at a cache line of the file stays aligned in the buffer that it is read
//! into. Policy and parameters stand in the file: a table is read by what it says, not by today's options. A policy that this
//! release does not know means no filter, not an error: the answers stay right and only cost more.
//!
//! Keyed by user key, through the one 64-bit hash of [`crate::base::hash`].

mod blocked;
mod standard;

use crate::base::options::FilterPolicy;
use crate::base::planted::{Bug, planted};
use crate::io::AlignedBuffer;
use blocked::Blocked;
use standard::Standard;
use std::ops::Range;
use std::sync::Arc;

/// Alignment of the filter bits in the file and in memory.
pub const FILTER_ALIGN: usize = 64;
const FOOTER_BYTES: usize = 16;
const BLOCKED: u8 = 1;
const STANDARD: u8 = 2;

/// Builds the filter of a table from the hashes of its distinct user keys. `None` where the policy has none.
pub fn build(policy: FilterPolicy, hashes: &[u64]) -> Option<Vec<u8>> {
    let hashes = if planted(Bug::FilterForgetsKey) { &hashes[..hashes.len() - 1] } else { hashes };
    let (id, bits, probes, mut out) = match policy {
        FilterPolicy::None => return None,
        FilterPolicy::Blocked { bits } => {
            let probes = blocked::probes(bits);
            (BLOCKED, bits, probes, blocked::build(hashes, bits, probes))
        }
        FilterPolicy::Standard { bits } => (STANDARD, bits, 0, standard::build(hashes, bits)),
    };
    out.extend_from_slice(&[id, bits, probes, 0]);
    out.extend_from_slice(&u32::try_from(hashes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    Some(out)
}

/// A filter being read, over bytes shared with the rest of the table's tail.
#[derive(Debug)]
pub struct Filter {
    body: Body,
    policy: FilterPolicy,
}

#[derive(Debug)]
enum Body {
    None,
    Blocked(Blocked),
    Standard(Box<Standard>),
}

impl Filter {
    /// No filter: everything may be there.
    pub fn none() -> Filter {
        Filter { body: Body::None, policy: FilterPolicy::None }
    }

    /// Checks the filter in `bytes[range]`.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(bytes: Arc<AlignedBuffer>, range: Range<usize>) -> Result<Filter, String> {
        let all = bytes.get(range.clone()).ok_or("the filter lies outside of its file")?;
        let Some((bits, footer)) = all.split_last_chunk::<FOOTER_BYTES>() else {
            return Err(format!("a filter of {} bytes, shorter than its footer", all.len()));
        };
        let [id, bits_per_key, probes, ..] = *footer;
        match id {
            BLOCKED => {
                let range = range.start..range.start + bits.len();
                let body = Body::Blocked(Blocked::parse(bytes, range, probes)?);
                Ok(Filter { body, policy: FilterPolicy::Blocked { bits: bits_per_key } })
            }
            STANDARD => {
                let body = Body::Standard(Box::new(Standard::parse(bits)?));
                Ok(Filter { body, policy: FilterPolicy::Standard { bits: bits_per_key } })
            }
            _ => Ok(Filter::none()),
        }
    }

    /// The policy that the filter was built by.
    pub fn policy(&self) -> FilterPolicy {
        self.policy
    }

    /// Asks for the cache line that `may_contain` will read.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Body::Blocked(blocked) = &self.body {
            blocked.prefetch(hash);
        }
    }

    /// False only if no key with this hash is in the table.
    #[inline]
    pub fn may_contain(&self, hash: u64) -> bool {
        match &self.body {
            Body::None => true,
            Body::Blocked(blocked) => blocked.may_contain(hash),
            Body::Standard(standard) => standard.may_contain(hash),
        }
    }

    /// Bytes that it keeps resident beside the shared tail.
    pub fn heap_bytes(&self) -> usize {
        match &self.body {
            Body::Standard(standard) => standard.heap_bytes(),
            Body::None | Body::Blocked(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::key_hash;

    fn parse(bytes: &[u8]) -> Result<Filter, String> {
        Filter::parse(Arc::new(AlignedBuffer::copy_of(bytes)), 0..bytes.len())
    }

    fn hashes(range: Range<u64>) -> Vec<u64> {
        range.map(|i| key_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn a_key_of_the_table_is_never_denied_and_others_mostly_are() {
        // (policy, largest accepted false positive rate; theory at 10 bits: 0.96 % blocked, 0.82 % standard)
        let cases = [
            (FilterPolicy::Blocked { bits: 1 }, 0.70),
            (FilterPolicy::Blocked { bits: 5 }, 0.13),
            (FilterPolicy::Blocked { bits: 10 }, 0.0112),
            (FilterPolicy::Blocked { bits: 20 }, 0.0005),
            (FilterPolicy::Blocked { bits: 40 }, 0.0001),
            (FilterPolicy::Standard { bits: 1 }, 0.70),
            (FilterPolicy::Standard { bits: 10 }, 0.0100),
            (FilterPolicy::Standard { bits: 40 }, 0.0001),
        ];
        for (policy, rate_max) in cases {
            for count in [1u64, 7, 1000, 50_000] {
                let members = hashes(0..count);
                let bytes = build(policy, &members).expect("the policy has a filter");
                let filter = parse(&bytes).expect("a built filter parses");
                assert_eq!(filter.policy(), policy);
                for &hash in &members {
                    filter.prefetch(hash);
                    assert!(filter.may_contain(hash), "{policy:?} denies a member of {count}");
                }
                if count < 50_000 {
                    continue;
                }
                let strangers = hashes(1 << 40..(1 << 40) + 200_000);
                let positives = strangers.iter().filter(|hash| filter.may_contain(**hash)).count();
                let rate = positives as f64 / strangers.len() as f64;
                assert!(rate <= rate_max, "{policy:?}: {rate}");
            }
        }
    }

    #[test]
    fn an_unknown_policy_is_no_filter_and_a_wrong_filter_never_panics() {
        for policy in [FilterPolicy::Blocked { bits: 10 }, FilterPolicy::Standard { bits: 10 }] {
            let good = build(policy, &hashes(0..100)).expect("the policy has a filter");
            let mut unknown = good.clone();
            let at = unknown.len() - FOOTER_BYTES;
            unknown[at] = 77;
            let filter = parse(&unknown).expect("unknown is not an error");
            assert!(hashes(1000..2000).iter().all(|hash| filter.may_contain(*hash)));
            for cut in 0..good.len() {
                if let Ok(filter) = parse(&good[..cut]) {
                    filter.may_contain(cut as u64);
                }
            }
            for bit in 0..good.len() * 8 {
                let mut damaged = good.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                if let Ok(filter) = parse(&damaged) {
                    for hash in hashes(0..5) {
                        filter.may_contain(hash);
                    }
                }
            }
        }
    }
}

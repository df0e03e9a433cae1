//! The filters, both policies.
//!
//! ```text
//! input:  mode u8 │ even: the bytes of a filter                      odd: bits u8 │ hash u64 ...
//! ```
//!
//! Promise: any bytes are refused in words or become a filter that answers for every hash; a filter that was built never denies
//! a member. Memory: a copy of the bits.

use crate::Target;
use crate::input::Input;
use std::sync::Arc;
use treering_lsm::FilterPolicy;
use treering_lsm::base::hash::key_hash;
use treering_lsm::format::filter::{Filter, build};
use treering_lsm::io::AlignedBuffer;

pub(crate) const TARGET: Target = Target {
    name: "filter",
    promise: "any bytes are refused or become a filter that answers; a built filter denies no member",
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    if mode.is_multiple_of(2) {
        let bytes = input.rest();
        if let Ok(filter) = parse(bytes) {
            ask(&filter);
            assert!(filter.heap_bytes() <= bytes.len() + 4096);
        }
        return;
    }
    let bits = 1 + input.u8() % 40;
    let policy = match mode & 2 {
        0 => FilterPolicy::Blocked { bits },
        _ => FilterPolicy::Standard { bits },
    };
    let mut hashes = Vec::new();
    while !input.is_empty() {
        hashes.push(input.u64());
    }
    let bytes = build(policy, &hashes).expect("both policies have a filter");
    let filter = parse(&bytes).expect("what was built is a filter");
    assert_eq!(filter.policy(), policy);
    for hash in hashes {
        filter.prefetch(hash);
        assert!(filter.may_contain(hash), "{policy:?} denies a member");
    }
    ask(&filter);
}

fn parse(bytes: &[u8]) -> Result<Filter, String> {
    Filter::parse(Arc::new(AlignedBuffer::copy_of(bytes)), 0..bytes.len())
}

fn ask(filter: &Filter) {
    for hash in
        [0, 1, 1 << 32, u64::MAX].into_iter().chain((0..32u32).map(|i| key_hash(&[i as u8])))
    {
        filter.prefetch(hash);
        filter.may_contain(hash);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let hashes: Vec<u64> = (0..50u8).map(|i| key_hash(&[i])).collect();
    let mut seeds = Vec::new();
    for policy in [
        FilterPolicy::Blocked { bits: 1 },
        FilterPolicy::Blocked { bits: 10 },
        FilterPolicy::Blocked { bits: 40 },
        FilterPolicy::Standard { bits: 1 },
        FilterPolicy::Standard { bits: 10 },
    ] {
        for count in [1, 50] {
            let filter = build(policy, &hashes[..count]).expect("both policies have a filter");
            seeds.push([&[0][..], &filter].concat());
        }
    }
    for mode in [1, 3] {
        let members: Vec<u8> = hashes[..20].iter().flat_map(|hash| hash.to_le_bytes()).collect();
        seeds.push([&[mode, 9][..], &members].concat());
        seeds.push(vec![mode, 0]);
    }
    seeds
}

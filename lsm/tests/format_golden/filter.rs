//! FORMAT.md, "Filter": both policies, rebuilt bit by bit from the keys of the table.

use crate::bytes::Walk;
use crate::table::{Met, hash};

/// `asked` is what the properties say: policy in the low byte, bits per key above it.
pub fn check_filter(bytes: &[u8], asked: u64, keys: &[&[u8]], met: &mut Met) {
    let (body, footer) = bytes.split_at(bytes.len() - 16);
    let mut walk = Walk::new("filter footer", footer);
    let [policy, bits, probes] = [walk.u8(), walk.u8(), walk.u8()];
    walk.zeros(1);
    assert_eq!(walk.u32() as usize, keys.len());
    walk.zeros(8);
    walk.end();
    assert_eq!(asked, u64::from(policy) | u64::from(bits) << 8);
    met.filters[usize::from(policy)] += 1;
    match policy {
        1 => {
            let steps = [3, 4, 6, 7, 9, 11, 12, 15, 17, 19, 23, 26];
            let step = 1 + steps.iter().filter(|&&from| bits >= from).count() as u8;
            assert_eq!(probes, if bits < 26 { step } else { (bits - 1) / 2 });
            assert_eq!(body, blocked(keys, bits, probes));
        }
        2 => {
            assert_eq!(probes, 0);
            standard(body, keys, bits);
        }
        other => panic!("policy {other}"),
    }
}

fn blocked(keys: &[&[u8]], bits: u8, probes: u8) -> Vec<u8> {
    let lines = (keys.len() * usize::from(bits)).div_ceil(512).max(1);
    let mut out = vec![0; lines * 64];
    for key in keys {
        let hash = hash(key);
        let line = ((u128::from(hash >> 32) * lines as u128) >> 32) as usize;
        let mut mixed = hash as u32;
        for _ in 0..probes {
            mixed = mixed.wrapping_mul(0x9e37_79b9);
            let bit = (mixed >> 23) as usize;
            out[line * 64 + bit / 8] |= 1 << (bit % 8);
        }
    }
    out
}

fn standard(body: &[u8], keys: &[&[u8]], bits: u8) {
    let mut walk = Walk::new("standard filter", body);
    assert_eq!(walk.u8(), 1);
    let bytes = walk.u64() as usize;
    let probes = u64::from(walk.u32());
    let first = [walk.u64(), walk.u64()];
    let second = [walk.u64(), walk.u64()];
    assert_eq!(&body[13..45], b"treering standard filter seed 01");
    let found = walk.take(bytes);
    walk.end();
    assert_eq!(bytes, (keys.len() * usize::from(bits)).div_ceil(8).max(8));
    let best = (bytes as f64 * 8.0 / keys.len() as f64 * std::f64::consts::LN_2).round();
    assert_eq!(probes, (best as u64).max(1));

    let mut out = vec![0; bytes];
    for key in keys {
        let hashes = [siphash13(first, hash(key)), siphash13(second, hash(key))];
        for probe in 0..probes {
            let place = match probe {
                0 | 1 => hashes[probe as usize],
                _ => hashes[0].wrapping_add(probe.wrapping_mul(hashes[1])) % 0xffff_ffff_ffff_ffc5,
            };
            let bit = (place % (bytes as u64 * 8)) as usize;
            out[bit / 8] |= 1 << (bit % 8);
        }
    }
    assert_eq!(found, out);
}

/// SipHash-1-3 of one little-endian u64.
fn siphash13(key: [u64; 2], message: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in [message, 8 << 56] {
        v[3] ^= word;
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..3).for_each(|_| round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

//! A placement as bytes: what was written comes back, and nothing else does.

use crate::cluster::{Cluster, Draw};
use treering_replication::Error;
use treering_replication::base::ids::NodeId;
use treering_replication::base::token::Tablets;
use treering_replication::placement::Placement;
use xxhash_rust::xxh3::xxh3_64;

fn malformed(bytes: &[u8]) -> String {
    match Placement::decode(bytes) {
        Err(Error::Malformed { what: "placement", detail }) => detail,
        other => panic!("{other:?}"),
    }
}

/// Makes the checksum right again.
fn seal(bytes: &mut [u8]) {
    if let Some((body, checksum)) = bytes.split_last_chunk_mut::<8>() {
        *checksum = xxh3_64(body).to_le_bytes();
    }
}

#[test]
fn the_bytes_of_version_1_never_change() {
    // Promise: they are in the metadata log.
    let ids = [7, 300, 300, 9].map(NodeId).to_vec();
    let placement = Placement::from_lists(Tablets::new(2).unwrap(), 2, ids).unwrap();
    let bytes = placement.encode().unwrap();
    let body = [
        b"TRPL\x01\0\x02\0\x02\0\0\0\x03\0\0\0".as_slice(),
        b"\x07\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x2c\x01\0\0\0\0\0\0",
        b"\0\0\x02\0\x02\0\x01\0",
    ]
    .concat();
    assert_eq!(bytes[..bytes.len() - 8], body);
    assert_eq!(bytes[bytes.len() - 8..], xxh3_64(&body).to_le_bytes());
    assert_eq!(Placement::decode(&bytes).unwrap(), placement);
}

#[test]
fn a_placement_survives_the_wire() {
    let mut draw = Draw(11);
    for _ in 0..50 {
        let placement = Cluster::draw(&mut draw).place(None).unwrap();
        let bytes = placement.encode().unwrap();
        assert_eq!(Placement::decode(&bytes).unwrap(), placement);
    }
}

#[test]
fn a_damaged_byte_is_never_read_as_a_placement() {
    let mut draw = Draw(12);
    let mut cluster = Cluster::draw(&mut draw);
    cluster.tablets = Tablets::new(64).unwrap();
    let bytes = cluster.place(None).unwrap().encode().unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << draw.below(8);
        malformed(&damaged);
        malformed(&bytes[..at]);
    }
    malformed(&[&bytes[..], &[0]].concat());
}

#[test]
fn hostile_bytes_with_a_right_checksum_never_panic_or_lie() {
    // Promise: what decodes is a placement, and its encoding is these very bytes.
    let seed = 13;
    println!("seed {seed}");
    let mut draw = Draw(seed);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..200 {
        let mut cluster = Cluster::draw(&mut draw);
        cluster.tablets = Tablets::new(1 << draw.below(7)).unwrap();
        let bytes = cluster.place(None).unwrap().encode().unwrap();
        for _ in 0..100 {
            let mut hostile = bytes.clone();
            for _ in 0..1 + draw.below(3) {
                // Mostly the header and the indices, where a lie is most likely to pass.
                let at = match draw.below(3) {
                    0 => draw.below(16.min(hostile.len() as u64)),
                    _ => draw.below(hostile.len() as u64),
                } as usize;
                match draw.below(4) {
                    0 => hostile[at] = draw.next() as u8,
                    1 => hostile[at] = [0, 1, 2, 0xff][draw.below(4) as usize],
                    2 => hostile.truncate(at.max(1)),
                    _ => hostile.insert(at, draw.next() as u8),
                }
            }
            seal(&mut hostile);
            match Placement::decode(&hostile) {
                Ok(placement) => {
                    assert_eq!(placement.encode().unwrap(), hostile);
                    read += 1;
                }
                Err(Error::Malformed { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        let mut noise: Vec<u8> = (0..draw.below(200)).map(|_| draw.next() as u8).collect();
        seal(&mut noise);
        malformed(&noise);
    }
    println!("{read} read, {refused} refused");
    assert!(read > 100 && refused > 1000);
}

#[test]
fn a_newer_version_says_upgrade_and_a_huge_claim_allocates_nothing() {
    let ids = vec![NodeId(1)];
    let bytes = Placement::from_lists(Tablets::new(1).unwrap(), 1, ids).unwrap().encode().unwrap();
    let mut newer = bytes.clone();
    newer[4] = 2;
    assert!(malformed(&newer).contains("version 2; this release reads 1, upgrade it"));
    let mut huge = bytes;
    huge[12..16].fill(0xff);
    seal(&mut huge);
    assert!(malformed(&huge).contains("4294967295 nodes"));
}

#[test]
fn lists_that_are_no_placement_are_refused() {
    let tablets = Tablets::new(2).unwrap();
    let made = |count, ids: &[u64]| {
        let ids = ids.iter().map(|&id| NodeId(id)).collect();
        Placement::from_lists(tablets, count, ids).map_err(|error| error.to_string())
    };
    assert!(made(2, &[1, 2, 3, 3]).unwrap_err().contains("n3 twice in the list of t1"));
    assert!(made(2, &[1, 2, 3]).unwrap_err().contains("3 ids; these tablets need 4"));
    assert!(made(0, &[]).unwrap_err().contains("0 replicas a tablet"));
    assert!(made(17, &[]).unwrap_err().contains("17 replicas a tablet"));
    assert_eq!(made(1, &[4, 4]).unwrap().nodes(), [NodeId(4)]);
}

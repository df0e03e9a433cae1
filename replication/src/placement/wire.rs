//! A placement as bytes, for the metadata log and for peers.
//!
//! ```text
//!  0       4         6          8          12         16
//! +-------+---------+----------+----------+----------+----------------+----------------------+----------+
//! | magic | version | replicas | tablets  | nodes    | node ids       | lists                | checksum |
//! | TRPL  | u16 = 1 | u16 = N  | u32 = T  | u32 = M  | M x u64,       | T x N x u16: indices | XXH3-64  |
//! |       |         |          |          |          | rising         | into the node ids    | u64      |
//! +-------+---------+----------+----------+----------+----------------+----------------------+----------+
//! ```
//!
//! All numbers little-endian; the checksum covers everything before it. Indices instead of ids make a placement of 4096 tablets x 3 replicas 24 KiB instead of 96. One
//! placement has one encoding (ids rise, each is used, nothing follows), so that equal placements have equal bytes and can be compared by checksum.
//!
//! Decoding trusts nothing: it allocates no more than a few times the bytes that it was given, and answers [`Error::Malformed`] for all that this file does not write.

use super::map::Placement;
use super::zones::{NODE_COUNT_MAX, REPLICA_COUNT_MAX};
use crate::base::error::{Error, Result};
use crate::base::ids::NodeId;
use crate::base::token::Tablets;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 4] = *b"TRPL";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 8;

/// A node's index must fit `u16`.
const _: () = assert!(NODE_COUNT_MAX <= 1 << 16);

fn malformed(detail: impl Into<String>) -> Error {
    Error::malformed("placement", detail)
}

impl Placement {
    /// The placement as bytes.
    ///
    /// ```
    /// use treering_replication::base::{ids::NodeId, token::Tablets};
    /// use treering_replication::placement::Placement;
    ///
    /// let lists = [1, 2, 2, 3].map(NodeId).to_vec();
    /// let placement = Placement::from_lists(Tablets::new(2)?, 2, lists)?;
    /// let mut bytes = placement.encode()?;
    /// assert_eq!(Placement::decode(&bytes)?, placement);
    /// bytes[20] ^= 1;
    /// assert!(Placement::decode(&bytes).is_err());
    /// # Ok::<(), treering_replication::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for a placement on more than 65536 nodes, which only [`Placement::from_lists`] can make.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let nodes = self.nodes();
        if nodes.len() > 1 << 16 {
            let detail = format!("{} hold something; 65536 can be encoded", nodes.len());
            return Err(Error::invalid_setting("nodes", detail));
        }
        let width = usize::from(self.replica_count());
        let list_bytes = self.tablets().count() as usize * width * 2;
        let length = HEADER_BYTES + nodes.len() * 8 + list_bytes + CHECKSUM_BYTES;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.replica_count().to_le_bytes());
        bytes.extend_from_slice(&self.tablets().count().to_le_bytes());
        bytes.extend_from_slice(&(nodes.len() as u32).to_le_bytes());
        for node in &nodes {
            bytes.extend_from_slice(&node.0.to_le_bytes());
        }
        let indices: HashMap<NodeId, u16> = nodes.iter().copied().zip(0..=u16::MAX).collect();
        for (_, list) in self.lists() {
            for node in list {
                bytes.extend_from_slice(&indices[node].to_le_bytes());
            }
        }
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads back what [`Placement::encode`] wrote.
    ///
    /// # Errors
    /// [`Error::Malformed`] for everything else, a newer version among it.
    pub fn decode(bytes: &[u8]) -> Result<Placement> {
        let Some((body, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(malformed(format!("{} bytes are too few", bytes.len())));
        };
        let Some((header, mut rest)) = body.split_at_checked(HEADER_BYTES) else {
            return Err(malformed(format!("{} bytes are too few", bytes.len())));
        };
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        if header[..4] != MAGIC {
            return Err(malformed("no placement begins so"));
        }
        if u16_at(4) != VERSION {
            let detail = format!("version {}; this release reads {VERSION}, upgrade it", u16_at(4));
            return Err(malformed(detail));
        }
        if u64::from_le_bytes(*checksum) != xxh3_64(body) {
            return Err(malformed("the checksum does not match; fetch it again from a peer"));
        }
        let replica_count = u16_at(6);
        let tablets = Tablets::new(u32_at(8)).map_err(|error| malformed(error.to_string()))?;
        let node_count = u32_at(12);
        if replica_count == 0 || replica_count > REPLICA_COUNT_MAX || node_count > 1 << 16 {
            let detail = format!("{replica_count} replicas on {node_count} nodes");
            return Err(malformed(detail));
        }
        let slots = u64::from(tablets.count()) * u64::from(replica_count);
        if rest.len() as u64 != u64::from(node_count) * 8 + slots * 2 {
            return Err(malformed(format!(
                "{} bytes for {node_count} nodes and {slots} replicas",
                bytes.len()
            )));
        }
        let nodes = take_nodes(&mut rest, node_count as usize)?;
        let replicas = lists(rest, &nodes)?;
        Placement::from_lists(tablets, replica_count, replicas)
            .map_err(|error| malformed(error.to_string()))
    }
}

/// Takes the node ids from the front of `rest`, which is long enough.
fn take_nodes(rest: &mut &[u8], count: usize) -> Result<Vec<NodeId>> {
    let (ids, lists) = rest.split_at(count * 8);
    *rest = lists;
    let (ids, _) = ids.as_chunks::<8>();
    let nodes: Vec<NodeId> = ids.iter().map(|id| NodeId(u64::from_le_bytes(*id))).collect();
    if nodes.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(malformed("node ids do not rise"));
    }
    Ok(nodes)
}

/// The ids behind the indices.
fn lists(bytes: &[u8], nodes: &[NodeId]) -> Result<Vec<NodeId>> {
    let (indices, _) = bytes.as_chunks::<2>();
    let mut used = vec![false; nodes.len()];
    let mut replicas = Vec::with_capacity(indices.len());
    for index in indices {
        let index = usize::from(u16::from_le_bytes(*index));
        let Some(&node) = nodes.get(index) else {
            return Err(malformed(format!("replica on node {index} of {}", nodes.len())));
        };
        used[index] = true;
        replicas.push(node);
    }
    if let Some(idle) = used.iter().position(|used| !used) {
        return Err(malformed(format!("{} is listed and holds nothing", nodes[idle])));
    }
    Ok(replicas)
}

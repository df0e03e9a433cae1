//! Nodes, the zones that they stand in, and how many replicas of one tablet each zone holds.
//!
//! A datacenter holds racks, a rack holds nodes; a rack is known by its datacenter and its name. From the factor and the sizes of the zones alone follow two
//! numbers for each zone: the fewest and the most replicas of *any* tablet in it. They differ by at most one, and they are the whole of
//! the spreading rule:
//!
//! > A zone holds two more replicas of a tablet than its sibling only where that sibling has no node left.
//!
//! So a second replica never enters a rack while another rack of the datacenter has none, nor a third while another has one. The bounds say it thus: let L be the
//! largest level with sum(min(size, L)) <= replicas; then each zone holds min(size, L) or min(size, L + 1).
//!
//! Bounds over nested zones ("a laminar family") have a property that everything above rests on: whatever real shares of the nodes satisfy the bounds in sum
//! over all tablets, there are tablets that satisfy them one by one with each node at its share rounded down or up. (Lay the nodes on a
//! line in the order of the tree, each as long as its share, and let tablet t take the points t, t + T, t + 2 T, ...: systematic sampling, Madow 1949. A zone as long as
//! x T is hit x times, rounded down or up.) So nothing that passes [`Zones::new`] can fail later.
//!
//! A node of weight 0 holds nothing and counts for no size: that is how a node is drained.

use crate::base::error::{Error, Result};
use crate::base::ids::NodeId;
use std::collections::BTreeMap;
use std::ops::Range;

/// Most nodes that a placement is made for.
pub const NODE_COUNT_MAX: usize = 1024;
/// Largest weight of a node.
pub const WEIGHT_MAX: u32 = 1_000_000;
/// Most replicas of a tablet, over all datacenters.
pub const REPLICA_COUNT_MAX: u16 = 16;

/// A node as placement sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// Who it is.
    pub id: NodeId,
    /// How much it should hold beside the others; only the ratio of weights counts. 0 drains it. At most [`WEIGHT_MAX`].
    pub weight: u32,
    /// The datacenter that it stands in.
    pub datacenter: String,
    /// The rack in that datacenter.
    pub rack: String,
}

impl Node {
    /// A node with its place.
    pub fn new(id: NodeId, weight: u32, datacenter: &str, rack: &str) -> Node {
        Node { id, weight, datacenter: datacenter.to_owned(), rack: rack.to_owned() }
    }
}

/// How many replicas each tablet of a keyspace has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Factor {
    /// So many in all, spread over datacenters as evenly as these have nodes.
    Total(u16),
    /// So many in each datacenter that is named; none in the others.
    PerDatacenter(BTreeMap<String, u16>),
}

impl Factor {
    /// Replicas of a tablet over all datacenters.
    pub fn replica_count(&self) -> u32 {
        match self {
            Factor::Total(count) => u32::from(*count),
            Factor::PerDatacenter(counts) => counts.values().map(|&count| u32::from(count)).sum(),
        }
    }
}

/// The fewest and the most replicas of one tablet in a zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: u32,
    pub(super) high: u32,
}

#[derive(Debug)]
pub(super) struct Datacenter {
    pub(super) racks: Range<usize>,
    pub(super) bounds: Bounds,
}

#[derive(Debug)]
pub(super) struct Rack {
    pub(super) nodes: Range<usize>,
    pub(super) bounds: Bounds,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: NodeId,
    pub(super) weight: u32,
}

/// The nodes that can hold data, in the order of datacenter, rack and id, with the bounds of their zones.
#[derive(Debug)]
pub(super) struct Zones {
    pub(super) datacenters: Vec<Datacenter>,
    pub(super) racks: Vec<Rack>,
    pub(super) nodes: Vec<Member>,
    pub(super) replica_count: u32,
}

impl Zones {
    /// The zones of these nodes under this factor; the order of the list does not matter.
    ///
    /// # Errors
    /// Everything that would leave a tablet with too few replicas, or that is out of range.
    pub(super) fn new(nodes: &[Node], factor: &Factor) -> Result<Zones> {
        check_nodes(nodes)?;
        check_factor(factor)?;
        let mut tree: BTreeMap<&str, BTreeMap<&str, Vec<&Node>>> = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.weight > 0) {
            let racks = tree.entry(&node.datacenter).or_default();
            racks.entry(&node.rack).or_default().push(node);
        }
        let datacenter_bounds = match factor {
            Factor::Total(count) => spread(*count, &tree)?,
            Factor::PerDatacenter(counts) => exact(counts, &mut tree)?,
        };
        let mut zones = Zones {
            datacenters: Vec::new(),
            racks: Vec::new(),
            nodes: Vec::new(),
            replica_count: factor.replica_count(),
        };
        for (racks, bounds) in tree.into_values().zip(datacenter_bounds) {
            zones.push_datacenter(racks, bounds);
        }
        Ok(zones)
    }

    fn push_datacenter(&mut self, racks: BTreeMap<&str, Vec<&Node>>, bounds: Bounds) {
        let sizes: Vec<u32> = racks.values().map(|nodes| nodes.len() as u32).collect();
        let first_rack = self.racks.len();
        for (mut nodes, bounds) in racks.into_values().zip(even(&sizes, bounds)) {
            nodes.sort_by_key(|node| node.id);
            let first = self.nodes.len();
            self.nodes.extend(nodes.iter().map(|n| Member { id: n.id, weight: n.weight }));
            self.racks.push(Rack { nodes: first..self.nodes.len(), bounds });
        }
        self.datacenters.push(Datacenter { racks: first_rack..self.racks.len(), bounds });
    }
}

/// Bounds of zones of these sizes that together hold `total` replicas of a tablet: as even as the sizes allow.
fn even(sizes: &[u32], total: Bounds) -> Vec<Bounds> {
    let at_level = |level: u32| sizes.iter().map(|&size| size.min(level)).sum::<u32>();
    let largest = sizes.iter().copied().max().unwrap_or(0);
    // The largest level that the fewest replicas reach; then one more replica is still below the next level.
    let level = (0..=largest).rev().find(|&level| at_level(level) <= total.low).unwrap_or(0);
    let next = if at_level(level) == total.high { level } else { level + 1 };
    sizes.iter().map(|&size| Bounds { low: size.min(level), high: size.min(next) }).collect()
}

type Tree<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Node>>>;

fn size(racks: &BTreeMap<&str, Vec<&Node>>) -> u32 {
    racks.values().map(|nodes| nodes.len() as u32).sum()
}

/// Bounds of the datacenters where one number holds for all of them.
fn spread(count: u16, tree: &Tree<'_>) -> Result<Vec<Bounds>> {
    let sizes: Vec<u32> = tree.values().map(size).collect();
    let (wanted, found) = (u32::from(count), sizes.iter().sum());
    if found < wanted {
        return Err(Error::TooFewNodes { place: "the cluster".to_owned(), wanted, found });
    }
    Ok(even(&sizes, Bounds { low: wanted, high: wanted }))
}

/// Bounds of the datacenters where each has its number; those without one are taken out of the tree.
fn exact(counts: &BTreeMap<String, u16>, tree: &mut Tree<'_>) -> Result<Vec<Bounds>> {
    for (name, &count) in counts {
        let (wanted, found) = (u32::from(count), tree.get(name.as_str()).map_or(0, size));
        if found < wanted {
            return Err(Error::TooFewNodes { place: format!("datacenter {name}"), wanted, found });
        }
    }
    tree.retain(|name, _| counts.contains_key(*name));
    let bounds = |count: u16| Bounds { low: u32::from(count), high: u32::from(count) };
    Ok(tree.keys().map(|name| bounds(counts[*name])).collect())
}

fn check_nodes(nodes: &[Node]) -> Result<()> {
    if nodes.len() > NODE_COUNT_MAX {
        let detail = format!("{} given; at most {NODE_COUNT_MAX} are possible", nodes.len());
        return Err(Error::invalid_setting("nodes", detail));
    }
    let mut ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Error::NodeTwice { node: pair[0] });
    }
    if let Some(node) = nodes.iter().find(|node| node.weight > WEIGHT_MAX) {
        let detail = format!("{} has {}; 0 to {WEIGHT_MAX} is possible", node.id, node.weight);
        return Err(Error::invalid_setting("weight", detail));
    }
    if !nodes.is_empty() && nodes.iter().all(|node| node.weight == 0) {
        let detail = format!("all {} nodes have 0, so none could hold data", nodes.len());
        return Err(Error::invalid_setting("weight", detail));
    }
    Ok(())
}

fn check_factor(factor: &Factor) -> Result<()> {
    let refuse = |detail: String| Err(Error::invalid_setting("replication factor", detail));
    let count = factor.replica_count();
    if count == 0 || count > u32::from(REPLICA_COUNT_MAX) {
        return refuse(format!("{count} given; 1 to {REPLICA_COUNT_MAX} is possible"));
    }
    if let Factor::PerDatacenter(counts) = factor
        && let Some((name, _)) = counts.iter().find(|(_, count)| **count == 0)
    {
        return refuse(format!("0 for datacenter {name}; leave the datacenter out instead"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(sizes: &[u32], low: u32, high: u32) -> Vec<(u32, u32)> {
        even(sizes, Bounds { low, high }).iter().map(|b| (b.low, b.high)).collect()
    }

    #[test]
    fn no_rack_is_doubled_while_another_is_empty() {
        // Promise: bounds are as even as sizes allow.
        assert_eq!(bounds(&[4, 4, 4], 3, 3), [(1, 1), (1, 1), (1, 1)]);
        assert_eq!(bounds(&[4, 4, 4, 4], 3, 3), [(0, 1); 4]);
        assert_eq!(bounds(&[4, 4], 3, 3), [(1, 2), (1, 2)]);
        assert_eq!(bounds(&[9, 1], 5, 5), [(4, 4), (1, 1)], "the small rack is full");
        assert_eq!(bounds(&[3, 3], 2, 3), [(1, 2), (1, 2)], "one more fits the same bounds");
        assert_eq!(bounds(&[2, 1], 3, 3), [(2, 2), (1, 1)], "all nodes are needed");
    }
}

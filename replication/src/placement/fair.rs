//! The fair share of each node: in proportion to its weight, as near as the zones allow.
//!
//! Where no zone is in the way the share is replicas x weight / sum of weights. Zones can be in the way: of three racks under factor 3 each holds a
//! replica of every tablet, whatever its weight, and no node can hold a tablet twice. Then shares are bent, and there is exactly one best way to bend them: the shares of the
//! bounded tree for which no replica could go to a node that is emptier for its weight. It is at once the one whose
//! fullest nodes are least full, whose emptiest are least empty, and which has the least sum of squared errors per weight, because nested bounds make a base polyhedron (Fujishige,
//! "Lexicographically optimal base of a polymatroid with respect to a weight vector", 1980). So "within 5 % of the weights" means within 5 % of this share.
//!
//! How it is found: let a water level rise; a node holds level x weight, a zone its nodes' sum, each kept inside its bounds. Guess the level from what still
//! floats; if the sum comes out too small, every zone at its upper bound is there for good, if too large, every one at its lower; repeat. All numbers are whole multiples of
//! one denominator, so nothing is rounded before the end and every machine finds the same shares.
//!
//! A share x is then met by x rounded down or up, so that a node of 32 replicas or more is within 1/32 = 3.2 % of it.

use super::zones::Zones;
use std::cmp::Ordering;

/// A fraction of whole numbers: how many replicas a node should hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fair {
    numerator: u64,
    denominator: u64,
}

impl Fair {
    pub(super) fn floor(self) -> u32 {
        (self.numerator / self.denominator) as u32
    }

    pub(super) fn ceil(self) -> u32 {
        self.numerator.div_ceil(self.denominator) as u32
    }

    pub(super) fn value(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

/// The fair share of each node of `zones`, in their order, in replicas of `tablet_count` tablets.
pub(super) fn fair_shares(zones: &Zones, tablet_count: u32) -> Vec<Fair> {
    let mut tree = Tree::new(zones, tablet_count);
    tree.fill(0, u64::from(zones.replica_count) * u64::from(tablet_count));
    tree.shares
}

/// A zone or a node.
struct Vertex {
    parent: usize,
    /// One past the last vertex below this one: vertices stand in preorder.
    end: usize,
    low: u64,
    high: u64,
    /// Weight and index of a node; none of a zone.
    node: Option<(u64, usize)>,
    /// Held at one of its bounds, whatever the level.
    fixed: Option<u64>,
}

struct Tree {
    vertices: Vec<Vertex>,
    shares: Vec<Fair>,
}

impl Tree {
    fn new(zones: &Zones, tablet_count: u32) -> Tree {
        let tablets = u64::from(tablet_count);
        let mut vertices: Vec<Vertex> = Vec::new();
        let mut push = |parent: usize, low: u32, high: u32, node| {
            let (low, high) = (u64::from(low) * tablets, u64::from(high) * tablets);
            vertices.push(Vertex { parent, end: 0, low, high, node, fixed: None });
            vertices.len() - 1
        };
        let root = push(0, zones.replica_count, zones.replica_count, None);
        for datacenter in &zones.datacenters {
            let above = push(root, datacenter.bounds.low, datacenter.bounds.high, None);
            for rack in &zones.racks[datacenter.racks.clone()] {
                let above = push(above, rack.bounds.low, rack.bounds.high, None);
                for index in rack.nodes.clone() {
                    push(above, 0, 1, Some((u64::from(zones.nodes[index].weight), index)));
                }
            }
        }
        for at in (0..vertices.len()).rev() {
            let end = vertices[at].end.max(at + 1);
            vertices[at].end = end;
            let parent = vertices[at].parent;
            vertices[parent].end = vertices[parent].end.max(end);
        }
        let shares = vec![Fair { numerator: 0, denominator: 1 }; zones.nodes.len()];
        Tree { vertices, shares }
    }

    /// Shares `total` out below the zone `top`.
    fn fill(&mut self, top: usize, total: u64) {
        let end = self.vertices[top].end;
        self.vertices[top + 1..end].iter_mut().for_each(|vertex| vertex.fixed = None);
        // Each round fixes a vertex or is the last.
        while self.settle(top, total) {}
        let (rest, weight) = self.floating(top, total);
        let mut at = top + 1;
        while at < end {
            let vertex = &self.vertices[at];
            match (vertex.fixed, vertex.node) {
                (None, None) => at += 1,
                (None, Some((own, index))) => {
                    self.shares[index] = Fair { numerator: own * rest, denominator: weight };
                    at += 1;
                }
                (Some(amount), Some((_, index))) => {
                    self.shares[index] = Fair { numerator: amount, denominator: 1 };
                    at += 1;
                }
                (Some(amount), None) => {
                    let next = vertex.end;
                    self.fill(at, amount);
                    at = next;
                }
            }
        }
    }

    /// What of `total` is not fixed, and the weight of the nodes that share it.
    fn floating(&self, top: usize, total: u64) -> (u64, u64) {
        let (mut rest, mut weight) = (total, 0);
        let mut at = top + 1;
        while at < self.vertices[top].end {
            let vertex = &self.vertices[at];
            if let Some(amount) = vertex.fixed {
                rest -= amount;
                at = vertex.end;
                continue;
            }
            weight += vertex.node.map_or(0, |(weight, _)| weight);
            at += 1;
        }
        (rest, weight)
    }

    /// Guesses the level and fixes what is out of bounds for good. False when the level is right.
    fn settle(&mut self, top: usize, total: u64) -> bool {
        let (rest, weight) = self.floating(top, total);
        if weight == 0 {
            debug_assert_eq!(rest, 0, "bounds admit the total");
            return false;
        }
        let end = self.vertices[top].end;
        // In units of 1 / weight: what stands below each vertex before its own bounds.
        let mut sums = vec![0u64; end - top];
        for at in (top + 1..end).rev() {
            let vertex = &self.vertices[at];
            if let Some((own, _)) = vertex.node {
                sums[at - top] = own * rest;
            }
            let held = match vertex.fixed {
                Some(amount) => amount * weight,
                None => sums[at - top].clamp(vertex.low * weight, vertex.high * weight),
            };
            sums[vertex.parent - top] += held;
        }
        let order = sums[0].cmp(&(total * weight));
        self.fix(top, order, &sums, weight);
        order != Ordering::Equal
    }

    /// Fixes the topmost vertices that `order` says will stay at their bound.
    fn fix(&mut self, top: usize, order: Ordering, sums: &[u64], weight: u64) {
        let mut at = top + 1;
        while at < self.vertices[top].end {
            let vertex = &mut self.vertices[at];
            let sum = sums[at - top];
            if vertex.fixed.is_none() {
                if order != Ordering::Greater && sum > vertex.high * weight {
                    vertex.fixed = Some(vertex.high);
                } else if order != Ordering::Less && sum < vertex.low * weight {
                    vertex.fixed = Some(vertex.low);
                }
            }
            at = if vertex.fixed.is_some() { vertex.end } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::zones::{Factor, Node};
    use super::*;
    use crate::base::ids::NodeId;

    fn shares(nodes: &[(u32, &str, &str)], factor: u16) -> Vec<f64> {
        let nodes: Vec<Node> = nodes
            .iter()
            .enumerate()
            .map(|(id, (weight, datacenter, rack))| {
                Node::new(NodeId(id as u64), *weight, datacenter, rack)
            })
            .collect();
        let zones = Zones::new(&nodes, &Factor::Total(factor)).unwrap();
        fair_shares(&zones, 1024).iter().map(|fair| fair.value() / 1024.0).collect()
    }

    #[test]
    fn weights_rule_where_zones_are_not_in_the_way() {
        let free = shares(&[(1, "a", "1"), (2, "a", "1"), (3, "a", "1")], 1);
        assert_eq!(free, [1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
    }

    #[test]
    fn a_node_never_gets_a_tablet_twice_and_the_others_take_its_rest() {
        let bent = shares(&[(9, "a", "1"), (1, "a", "1"), (2, "a", "1")], 2);
        assert_eq!(bent, [1.0, 1.0 / 3.0, 2.0 / 3.0]);
    }

    #[test]
    fn a_light_rack_holds_a_replica_of_everything_when_there_are_as_few_racks_as_replicas() {
        let bent = shares(&[(4, "a", "1"), (4, "a", "1"), (1, "a", "2"), (1, "a", "2")], 2);
        assert_eq!(bent, [0.5; 4]);
        let bent = shares(&[(4, "a", "1"), (4, "a", "2"), (1, "b", "1"), (3, "b", "1")], 2);
        assert_eq!(bent, [0.5, 0.5, 0.25, 0.75]);
    }

    #[test]
    fn a_bent_rack_inside_a_bent_datacenter_is_still_shared_out_whole() {
        // Two in each datacenter; in a, rack 1 is as full as it can be; the lone node of rack 2 is held at everything.
        let bent =
            shares(&[(1, "a", "1"), (1, "a", "1"), (9, "a", "2"), (5, "b", "1"), (5, "b", "1")], 4);
        assert_eq!(bent, [0.5, 0.5, 1.0, 1.0, 1.0]);
    }
}

//! Random clusters and what happens to them, from a seed.

use std::collections::BTreeMap;
use treering_replication::Error;
use treering_replication::base::ids::NodeId;
use treering_replication::base::token::Tablets;
use treering_replication::placement::{Factor, Node, Placement, Request, Share, Shares, place};

/// SplitMix64 (Steele, Lea and Flood, 2014): every cluster here follows from its seed.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A cluster that can change.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) factor: Factor,
    pub(crate) tablets: Tablets,
    pub(crate) racks: u64,
    pub(crate) datacenters: u64,
    pub(crate) next_id: u64,
}

impl Cluster {
    /// 3 to 64 nodes in 1 to 3 datacenters of 1 to 5 racks, factor 1 to 5, 64 to 4096 tablets; small ones are drawn more often.
    pub(crate) fn draw(draw: &mut Draw) -> Cluster {
        let (datacenters, racks) = (1 + draw.below(3), 1 + draw.below(5));
        let exponent = [6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 10, 11, 12][draw.below(14) as usize];
        let most = [3, 6, 14, 30, 62][draw.below(5) as usize];
        let mut cluster = Cluster {
            nodes: Vec::new(),
            factor: Factor::Total(1),
            tablets: Tablets::new(1 << exponent).unwrap(),
            racks,
            datacenters,
            next_id: 1,
        };
        for _ in 0..3 + draw.below(most) {
            cluster.join(draw);
        }
        cluster.factor = cluster.draw_factor(draw);
        cluster
    }

    pub(crate) fn draw_factor(&self, draw: &mut Draw) -> Factor {
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        for node in &self.nodes {
            *sizes.entry(node.datacenter.clone()).or_default() += 1;
        }
        if draw.below(2) == 0 {
            return Factor::Total(1 + draw.below(5.min(self.nodes.len() as u64)) as u16);
        }
        let mut counts = BTreeMap::new();
        let mut left = 5;
        for (name, size) in sizes {
            let count = draw.below(1 + left.min(size)) as u16;
            left -= u64::from(count);
            if count > 0 {
                counts.insert(name, count);
            }
        }
        if counts.is_empty() { Factor::Total(1) } else { Factor::PerDatacenter(counts) }
    }

    pub(crate) fn draw_weight(draw: &mut Draw) -> u32 {
        match draw.below(4) {
            0 => 1 + draw.below(1000) as u32,
            1 => [50, 200, 300][draw.below(3) as usize],
            _ => 100,
        }
    }

    pub(crate) fn join(&mut self, draw: &mut Draw) {
        let node = Node::new(
            NodeId(self.next_id),
            Self::draw_weight(draw),
            &format!("dc{}", draw.below(self.datacenters)),
            &format!("r{}", draw.below(self.racks)),
        );
        self.next_id += 1 + draw.below(3);
        self.nodes.push(node);
    }

    pub(crate) fn place(&self, previous: Option<&Placement>) -> Result<Placement, Error> {
        place(&Request {
            nodes: &self.nodes,
            factor: &self.factor,
            tablets: self.tablets,
            previous,
        })
    }

    pub(crate) fn shares(&self, placement: &Placement) -> Vec<Share> {
        Shares::of(placement, &self.nodes, &self.factor).unwrap().nodes
    }

    /// One of join, leave, drain, replace, re-weigh, re-zone, another factor.
    pub(crate) fn change(&mut self, event: u64, draw: &mut Draw) {
        let at = draw.below(self.nodes.len() as u64) as usize;
        match event {
            0 => self.join(draw),
            1 => drop(self.nodes.remove(at)),
            2 => self.nodes[at].weight = 0,
            3 => {
                self.nodes[at].id = NodeId(self.next_id);
                self.next_id += 1;
            }
            4 => self.nodes[at].weight = Self::draw_weight(draw),
            5 => self.nodes[at].rack = format!("r{}", draw.below(self.racks + 1)),
            _ => self.factor = self.draw_factor(draw),
        }
    }
}

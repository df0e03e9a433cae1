//! What must hold of a placement, said without knowing how one is found.

use crate::cluster::Cluster;
use std::collections::{BTreeSet, HashMap};
use treering_replication::base::ids::{NodeId, TabletId};
use treering_replication::placement::{Factor, Placement, Share};

/// Replicas of one tablet by datacenter and by rack.
pub(crate) type Counts = (Vec<usize>, Vec<usize>);

/// Replicas of one tablet in the zones, and how many nodes these have: what the rule is about.
pub(crate) struct Zones {
    /// Zone of each node that can hold data: datacenter, rack.
    pub(crate) of: HashMap<NodeId, (usize, usize)>,
    pub(crate) datacenter_sizes: Vec<usize>,
    /// Datacenter and size of each rack.
    pub(crate) racks: Vec<(usize, usize)>,
    pub(crate) exact: Option<Vec<usize>>,
}

impl Zones {
    pub(crate) fn new(cluster: &Cluster) -> Zones {
        let mut datacenters: Vec<&str> = Vec::new();
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut zones =
            Zones { of: HashMap::new(), datacenter_sizes: vec![], racks: vec![], exact: None };
        for node in cluster.nodes.iter().filter(|node| node.weight > 0) {
            if let Factor::PerDatacenter(counts) = &cluster.factor
                && !counts.contains_key(&node.datacenter)
            {
                continue;
            }
            let datacenter = datacenters.iter().position(|name| *name == node.datacenter);
            let datacenter = datacenter.unwrap_or_else(|| {
                datacenters.push(&node.datacenter);
                zones.datacenter_sizes.push(0);
                datacenters.len() - 1
            });
            let name = (node.datacenter.as_str(), node.rack.as_str());
            let rack = names.iter().position(|other| *other == name).unwrap_or_else(|| {
                names.push(name);
                zones.racks.push((datacenter, 0));
                names.len() - 1
            });
            zones.datacenter_sizes[datacenter] += 1;
            zones.racks[rack].1 += 1;
            zones.of.insert(node.id, (datacenter, rack));
        }
        if let Factor::PerDatacenter(counts) = &cluster.factor {
            zones.exact = Some(datacenters.iter().map(|d| usize::from(counts[*d])).collect());
        }
        zones
    }

    pub(crate) fn count(&self, list: &[NodeId]) -> Counts {
        let mut counts = (vec![0; self.datacenter_sizes.len()], vec![0; self.racks.len()]);
        for node in list {
            let (datacenter, rack) = self.of[node];
            counts.0[datacenter] += 1;
            counts.1[rack] += 1;
        }
        counts
    }

    /// The rule of spreading, pair by pair.
    pub(crate) fn is_spread(&self, (datacenters, racks): &Counts) -> bool {
        if let Some(exact) = &self.exact
            && datacenters != exact
        {
            return false;
        }
        let bad = |most: usize, least: usize, room: usize| most >= least + 2 && least < room;
        let by_datacenter = (0..datacenters.len()).any(|a| {
            (0..datacenters.len())
                .any(|b| bad(datacenters[a], datacenters[b], self.datacenter_sizes[b]))
        });
        let by_rack = (0..racks.len()).any(|a| {
            (0..racks.len()).any(|b| {
                self.racks[a].0 == self.racks[b].0 && bad(racks[a], racks[b], self.racks[b].1)
            })
        });
        !(by_rack || self.exact.is_none() && by_datacenter)
    }
}

/// Rules 1, 2 and 4 of the module, and what Shares says of them.
pub(crate) fn check_placement(cluster: &Cluster, placement: &Placement) {
    let zones = Zones::new(cluster);
    for (tablet, list) in placement.lists() {
        assert_eq!(list.len() as u32, cluster.factor.replica_count());
        assert!((1..list.len()).all(|at| !list[..at].contains(&list[at])), "{tablet}: {list:?}");
        assert!(list.iter().all(|node| zones.of.contains_key(node)), "{tablet}: {list:?}");
        assert!(zones.is_spread(&zones.count(list)), "{tablet}: {list:?}");
    }
    let width = u32::from(placement.replica_count());
    for share in cluster.shares(placement) {
        let held: Vec<_> = placement.tablets_of(share.node.id).collect();
        assert_eq!(held.len() as u32, share.replicas);
        let error = (f64::from(share.replicas) - share.ideal).abs();
        assert!(error < 1.0 + 1e-9, "{share:?}");
        if share.ideal >= 32.0 {
            assert!(share.error_percent().abs() <= 5.0, "{share:?}");
        }
        let firsts = held.iter().filter(|(_, place)| *place == 0).count() as u32;
        assert_eq!(firsts, share.primaries);
        assert!(firsts == share.replicas / width || firsts == share.replicas.div_ceil(width));
    }
}

pub(crate) fn copies(previous: &Placement, next: &Placement) -> u32 {
    let new = |(tablet, list): (TabletId, &[NodeId])| {
        let before = previous.replicas(tablet);
        list.iter().filter(|node| !before.contains(node)).count() as u32
    };
    next.lists().map(new).sum()
}

/// Looks for a placement under the same rule and shares that copies fewer replicas.
///
/// Vertices are the nodes and one that stands for rounding; an edge from a to b says that one replica can go from a to b, at the change of copies. The difference of two placements is a
/// sum of cycles of such edges, so the cheaper one exists exactly where there is a cycle of negative cost (Klein, 1967). Answers whether one was found.
pub(crate) fn could_copy_fewer(cluster: &Cluster, previous: &Placement, next: &Placement) -> bool {
    let zones = Zones::new(cluster);
    let nodes: Vec<NodeId> =
        cluster.nodes.iter().map(|node| node.id).filter(|id| zones.of.contains_key(id)).collect();
    let index: HashMap<NodeId, usize> = nodes.iter().copied().zip(0..).collect();
    let rounding = nodes.len();
    let none = i32::MAX / 2;
    let mut costs = vec![vec![none; rounding + 1]; rounding + 1];
    let mut seen_counts: HashMap<(Vec<usize>, usize, usize), bool> = HashMap::new();
    for (tablet, list) in next.lists() {
        let before = previous.replicas(tablet);
        let counts = zones.count(list);
        for &from in list {
            for &to in nodes.iter().filter(|node| !list.contains(node)) {
                let (left, entered) = (zones.of[&from], zones.of[&to]);
                let allowed = left.1 == entered.1
                    || *seen_counts.entry((counts.1.clone(), left.1, entered.1)).or_insert_with(
                        || {
                            let mut counts = counts.clone();
                            counts.0[left.0] -= 1;
                            counts.1[left.1] -= 1;
                            counts.0[entered.0] += 1;
                            counts.1[entered.1] += 1;
                            zones.is_spread(&counts)
                        },
                    );
                if allowed {
                    let cost = i32::from(before.contains(&from)) - i32::from(before.contains(&to));
                    let edge = &mut costs[index[&from]][index[&to]];
                    *edge = cost.min(*edge);
                }
            }
        }
    }
    for share in cluster.shares(next) {
        let Some(&at) = index.get(&share.node.id) else { continue };
        // A whole share leaves no choice; a fraction is far from whole, as denominators are small.
        let (low, high) = ((share.ideal + 1e-6).floor(), (share.ideal - 1e-6).ceil());
        let held = f64::from(share.replicas);
        if held > low {
            costs[rounding][at] = 0;
        }
        if held < high {
            costs[at][rounding] = 0;
        }
    }
    // Bellman and Ford, from everywhere at once.
    let mut distances = vec![0; rounding + 1];
    for _ in 0..=rounding + 1 {
        let mut better = false;
        for from in 0..=rounding {
            for to in 0..=rounding {
                let through = distances[from] + costs[from][to];
                if costs[from][to] < none && through < distances[to] {
                    distances[to] = through;
                    better = true;
                }
            }
        }
        if !better {
            return false;
        }
    }
    true
}

impl Zones {
    /// Every way to count one tablet's replicas by racks that the rule allows.
    pub(crate) fn all_counts(&self, replica_count: usize) -> BTreeSet<Counts> {
        let mut found = BTreeSet::new();
        let mut racks = vec![0; self.racks.len()];
        self.extend_counts(0, replica_count, &mut racks, &mut found);
        found
    }

    fn extend_counts(
        &self,
        rack: usize,
        left: usize,
        racks: &mut Vec<usize>,
        found: &mut BTreeSet<Counts>,
    ) {
        if rack == racks.len() {
            let mut datacenters = vec![0; self.datacenter_sizes.len()];
            for (count, (datacenter, _)) in racks.iter().zip(&self.racks) {
                datacenters[*datacenter] += count;
            }
            let counts = (datacenters, racks.clone());
            if left == 0 && self.is_spread(&counts) {
                found.insert(counts);
            }
            return;
        }
        for count in 0..=left.min(self.racks[rack].1) {
            racks[rack] = count;
            self.extend_counts(rack + 1, left - count, racks, found);
        }
        racks[rack] = 0;
    }
}

/// The definition of a fair share: no part of a replica could go from a fuller node to an emptier one, full and empty by weight. Answers how many pairs of nodes the zones
/// kept from being equal.
///
/// A pair is blocked where the emptier holds every tablet, or where a zone of one that is not of the other is at the most (the least) that any tablet may have in it. That
/// single exchanges suffice is a property of nested bounds (Murota, "Discrete Convex Analysis", 2003).
pub(crate) fn check_fair(cluster: &Cluster, shares: &[Share]) -> usize {
    let zones = Zones::new(cluster);
    let tablets = f64::from(cluster.tablets.count());
    let able: Vec<&Share> =
        shares.iter().filter(|share| zones.of.contains_key(&share.node.id)).collect();
    let counts = zones.all_counts(cluster.factor.replica_count() as usize);
    let bounds = |of: &dyn Fn(&Counts) -> usize| {
        let low = counts.iter().map(of).min().unwrap();
        let high = counts.iter().map(of).max().unwrap();
        (low as f64 * tablets, high as f64 * tablets)
    };
    // Of each zone: is it at its least, is it at its most?
    let tight = |sum: f64, (low, high): (f64, f64)| (sum < low + 1e-6, sum > high - 1e-6);
    let sum = |is_in: &dyn Fn(&(usize, usize)) -> bool| {
        let inside = able.iter().filter(|share| is_in(&zones.of[&share.node.id]));
        inside.map(|share| share.ideal).sum::<f64>()
    };
    let datacenters: Vec<_> = (0..zones.datacenter_sizes.len())
        .map(|zone| tight(sum(&|of| of.0 == zone), bounds(&|counts| counts.0[zone])))
        .collect();
    let racks: Vec<_> = (0..zones.racks.len())
        .map(|zone| tight(sum(&|of| of.1 == zone), bounds(&|counts| counts.1[zone])))
        .collect();
    let total: f64 = able.iter().map(|share| share.ideal).sum();
    let wanted = tablets * f64::from(cluster.factor.replica_count());
    assert!((total - wanted).abs() < 1e-6 * wanted, "{total} of {wanted}");
    let mut blocked = 0;
    for empty in &able {
        for full in &able {
            let level = |share: &Share| share.ideal / f64::from(share.node.weight);
            if level(empty) + 1e-9 * level(full) >= level(full) {
                continue;
            }
            let (to, from) = (zones.of[&empty.node.id], zones.of[&full.node.id]);
            let by_datacenter = to.0 != from.0 && (datacenters[to.0].1 || datacenters[from.0].0);
            let by_rack = to.1 != from.1 && (racks[to.1].1 || racks[from.1].0);
            let holds_all = empty.ideal > tablets - 1e-6;
            assert!(holds_all || by_datacenter || by_rack, "{empty:?} {full:?} {cluster:?}");
            blocked += 1;
        }
    }
    blocked
}

//! Which nodes hold a tablet: the placement of fewest moves, as one flow of least cost.
//!
//! ```text
//!            N - sum(low)          high - low        high - low           1            floor
//!   source --------------> tablet -----------> (t,dc) --------> (t,rack) ----> node ------------> sink
//!      |                                         ^                 ^             |  one if share     ^
//!      |  low - sum(low of its racks)            |                 |             v  is not whole     |
//!      +-----------------------------------------+                 |           spare ----------------+
//!      |  low                                                      |                 N T - sum(floor)
//!      +-----------------------------------------------------------+
//! ```
//!
//! One unit is one replica. What a zone must hold at least comes straight from the source, so a flow that empties the source respects every
//! lower bound; as many units as there are replicas fill the sink, so each node ends at its fair share rounded down or up. The edge from a rack to a node costs 0 if the
//! node already holds the tablet and 1 if it must first be copied there: the flow's cost *is* the number of copies, and no placement under the same rule and shares has fewer.
//! That the source can always be emptied is proved in the opening of [`super::zones`].
//!
//! The graph is Garage's idea ("Optimal partition assignment in Garage", Mendes 2022), which splits each partition into what must and what may share a zone. Different here: racks
//! nest in datacenters, both have exact bounds; shares are exact instead of as large as the smallest node allows; and moves are in the flow's cost from
//! the start, where Garage looks for negative cycles afterwards.
//!
//! Tablets, zones and nodes are tried in the order of a hash, so that which node holds a tablet says little about who else does. Two nodes share few tablets: the copies that
//! replace a lost node are then read from many. And each node has tablets of every kind to give: with zones in a fixed order some had none that could enter a new node's rack, and
//! joins cost up to a fifth more. The hash of a candidate is divided by its weight, a draw in the manner of rendezvous hashing (Thaler and Ravishankar, 1998), so that heavy
//! nodes come early in more lists.

use super::fair::Fair;
use super::flow::Network;
use super::map::Placement;
use super::zones::{Bounds, Member, Zones};
use crate::base::ids::{NodeId, TabletId};
use crate::base::token::Tablets;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// A scattered number that is the same everywhere.
pub(super) fn scatter(tablet: TabletId, salt: u64) -> u64 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&tablet.0.to_le_bytes());
    bytes[4..].copy_from_slice(&salt.to_le_bytes());
    xxh3_64(&bytes)
}

/// All tablets, scattered.
pub(super) fn scattered(tablets: Tablets) -> Vec<TabletId> {
    let mut order: Vec<TabletId> = tablets.all().collect();
    order.sort_by_cached_key(|&tablet| scatter(tablet, u64::MAX));
    order
}

/// The vertices that are not of one tablet.
struct Vertices {
    node_count: usize,
    first_tablet: usize,
    /// Vertices of a tablet: itself, its datacenters, its racks.
    stride: usize,
}

impl Vertices {
    const SOURCE: usize = 0;
    const SINK: usize = 1;
    const SPARE: usize = 2;
    const FIRST_NODE: usize = 3;

    fn new(zones: &Zones) -> Vertices {
        let node_count = zones.nodes.len();
        let stride = 1 + zones.datacenters.len() + zones.racks.len();
        Vertices { node_count, first_tablet: Self::FIRST_NODE + node_count, stride }
    }

    fn count(&self, tablets: Tablets) -> usize {
        self.first_tablet + tablets.count() as usize * self.stride
    }
}

/// The holders of each tablet, as indices into the nodes of `zones`, without an order.
pub(super) fn assign(
    zones: &Zones,
    shares: &[Fair],
    tablets: Tablets,
    previous: Option<&Placement>,
) -> Vec<Vec<u16>> {
    let vertices = Vertices::new(zones);
    let mut network = Network::new(vertices.count(tablets));
    let order = scattered(tablets);
    let mut choices = Vec::with_capacity(order.len());
    for (place, &tablet) in order.iter().enumerate() {
        let held = previous.map_or(&[][..], |previous| previous.replicas(tablet));
        let first = vertices.first_tablet + place * vertices.stride;
        let mut costs = vec![i8::from(previous.is_some()); vertices.node_count];
        for (cost, node) in costs.iter_mut().zip(&zones.nodes) {
            if held.contains(&node.id) {
                *cost = 0;
            }
        }
        choices.push(add_tablet(&mut network, zones, tablet, first, &costs));
    }
    let replica_count = u64::from(zones.replica_count) * u64::from(tablets.count());
    add_shares(&mut network, shares, replica_count);
    let sent = network.run(Vertices::SOURCE, Vertices::SINK);
    assert_eq!(sent, replica_count, "bounds of nested zones can always be met");

    let mut holders = vec![Vec::new(); order.len()];
    for (tablet, choices) in order.into_iter().zip(choices) {
        let taken = choices.into_iter().filter(|&(edge, _)| network.carried(edge) == 1);
        holders[tablet.0 as usize] = taken.map(|(_, node)| node).collect();
    }
    holders
}

/// A node's place in the queue for a tablet: a scattered number, the smaller the better, by weight.
fn draw(tablet: TabletId, node: &Member) -> (u64, NodeId) {
    (scatter(tablet, node.id.0) / u64::from(node.weight), node.id)
}

fn sorted<K: Ord>(indices: Range<usize>, key: impl FnMut(&usize) -> K) -> Vec<usize> {
    let mut sorted: Vec<usize> = indices.collect();
    sorted.sort_by_cached_key(key);
    sorted
}

/// Adds what belongs to one tablet; answers its edges to nodes.
fn add_tablet(
    network: &mut Network,
    zones: &Zones,
    tablet: TabletId,
    first: usize,
    costs: &[i8],
) -> Vec<(usize, u16)> {
    let spare = |bounds: Bounds| bounds.high - bounds.low;
    let first_datacenter = first + 1;
    let first_rack = first_datacenter + zones.datacenters.len();
    let draws: Vec<(u64, NodeId)> = zones.nodes.iter().map(|node| draw(tablet, node)).collect();
    // A zone is as lucky as the luckiest of its nodes.
    let of_rack = |&rack: &usize| zones.racks[rack].nodes.clone().map(|node| draws[node]).min();
    let of_datacenter = |&datacenter: &usize| {
        zones.datacenters[datacenter].racks.clone().map(|rack| of_rack(&rack)).min()
    };
    let mut choices = Vec::with_capacity(zones.nodes.len());
    let mut free = zones.replica_count;
    for datacenter in sorted(0..zones.datacenters.len(), of_datacenter) {
        let at = first_datacenter + datacenter;
        let datacenter = &zones.datacenters[datacenter];
        let mut owed = datacenter.bounds.low;
        free -= owed;
        for rack in sorted(datacenter.racks.clone(), of_rack) {
            let below = first_rack + rack;
            let rack = &zones.racks[rack];
            network.edge(Vertices::SOURCE, below, rack.bounds.low, 0);
            network.edge(at, below, spare(rack.bounds), 0);
            owed -= rack.bounds.low;
            for node in sorted(rack.nodes.clone(), |&node| draws[node]) {
                let edge = network.edge(below, Vertices::FIRST_NODE + node, 1, costs[node]);
                choices.push((edge, node as u16));
            }
        }
        network.edge(Vertices::SOURCE, at, owed, 0);
        network.edge(first, at, spare(datacenter.bounds), 0);
    }
    network.edge(Vertices::SOURCE, first, free, 0);
    choices
}

/// Adds what each node may hold.
fn add_shares(network: &mut Network, shares: &[Fair], replica_count: u64) {
    let mut spare = replica_count;
    for (index, share) in shares.iter().enumerate() {
        let node = Vertices::FIRST_NODE + index;
        network.edge(node, Vertices::SINK, share.floor(), 0);
        network.edge(node, Vertices::SPARE, share.ceil() - share.floor(), 0);
        spare -= u64::from(share.floor());
    }
    // Below the number of nodes.
    network.edge(Vertices::SPARE, Vertices::SINK, spare as u32, 0);
}

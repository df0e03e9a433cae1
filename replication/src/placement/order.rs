//! The order of a tablet's replicas: who is asked first.
//!
//! The first of the list is the tablet's primary: where an engine wants one node to lead, or a coordinator one to ask, it is this one. So each node should be first as often
//! as its replicas deserve: of q replicas under factor N, q / N rounded down or up. The second place matters likewise when the first is down, and so on, so every place
//! is shared out the same way: each replica that is left takes a place with equal right, which is a fractional solution of a bipartite flow, so
//! a whole one exists next to it. Among these the flow keeps as many at their place as it can, first place first: leadership that moves is a pause.

use super::assign::{scatter, scattered};
use super::flow::Network;
use super::map::Placement;
use super::zones::Zones;
use crate::base::ids::{NodeId, TabletId};
use crate::base::token::Tablets;

const SOURCE: usize = 0;
const SINK: usize = 1;
const SPARE: usize = 2;
const FIRST_NODE: usize = 3;

/// Puts the holders of every tablet in order: tablet by tablet, one list after the other.
pub(super) fn preference_lists(
    zones: &Zones,
    tablets: Tablets,
    mut holders: Vec<Vec<u16>>,
    previous: Option<&Placement>,
) -> Vec<NodeId> {
    let width = zones.replica_count as usize;
    let mut lists = vec![NodeId(0); holders.len() * width];
    for place in 0..width {
        let chosen = choose(zones, tablets, &holders, |tablet| {
            previous.and_then(|previous| previous.replicas(tablet).get(place).copied())
        });
        for (tablet, node) in chosen.into_iter().enumerate() {
            lists[tablet * width + place] = zones.nodes[usize::from(node)].id;
            holders[tablet].retain(|&holder| holder != node);
        }
    }
    lists
}

/// One of the holders of each tablet, so that every node is chosen as often as it deserves.
fn choose(
    zones: &Zones,
    tablets: Tablets,
    holders: &[Vec<u16>],
    before: impl Fn(TabletId) -> Option<NodeId>,
) -> Vec<u16> {
    let node_count = zones.nodes.len();
    let first_tablet = FIRST_NODE + node_count;
    let mut network = Network::new(first_tablet + holders.len());
    let mut held = vec![0u32; node_count];
    let mut choices = Vec::new();
    for tablet in scattered(tablets) {
        let index = tablet.0 as usize;
        network.edge(SOURCE, first_tablet + index, 1, 0);
        let before = before(tablet);
        let mut candidates = holders[index].clone();
        candidates.sort_by_cached_key(|&node| {
            // Another salt than that of the holders: a place is not decided by the same draw.
            scatter(tablet, !zones.nodes[usize::from(node)].id.0)
        });
        for node in candidates {
            let at = usize::from(node);
            held[at] += 1;
            let cost = i8::from(before.is_some_and(|id| id != zones.nodes[at].id));
            choices.push((
                index,
                node,
                network.edge(first_tablet + index, FIRST_NODE + at, 1, cost),
            ));
        }
    }
    let left = holders.first().map_or(1, |holders| holders.len() as u32);
    let mut spare = holders.len() as u32;
    for (index, held) in held.into_iter().enumerate() {
        let node = FIRST_NODE + index;
        network.edge(node, SINK, held / left, 0);
        network.edge(node, SPARE, u32::from(held % left > 0), 0);
        spare -= held / left;
    }
    network.edge(SPARE, SINK, spare, 0);
    let sent = network.run(SOURCE, SINK);
    assert_eq!(
        sent,
        holders.len() as u64,
        "each replica taking a place with equal right is a flow"
    );

    let mut chosen = vec![0; holders.len()];
    for (tablet, node, edge) in choices {
        if network.carried(edge) == 1 {
            chosen[tablet] = node;
        }
    }
    chosen
}

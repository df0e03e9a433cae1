//! What changes between two placements: for each tablet who leaves and who joins.
//!
//! A tablet changes in *slots*. A slot pairs the replica that leaves with the one that takes its place; while both exist, the slot has acknowledged a write when both have, so that a
//! majority of slots is a majority of the old set and of the new one. That works best when both stand in one zone: pairs are made
//! inside a rack first, then inside a datacenter (so that LOCAL_QUORUM keeps its count), then with whoever is left.
//! A slot with one side only is a factor that grows or shrinks. Replicas that stay are in no move, whatever their place in the list.

use super::map::Placement;
use super::zones::Node;
use crate::base::error::{Error, Result};
use crate::base::ids::{NodeId, TabletId};
use std::collections::HashMap;

/// One replica of one tablet that changes its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Move {
    /// What moves.
    pub tablet: TabletId,
    /// Who gives it up; nobody where the factor grows.
    pub leaving: Option<NodeId>,
    /// Who takes it; nobody where the factor shrinks.
    pub joining: Option<NodeId>,
}

/// What must move to get from `previous` to `next`, in the order of the ring.
///
/// `nodes` tells the zones, best of both the old nodes and the new; a node that is not in it is taken to stand alone. Of a node that is in it twice the last place counts.
///
/// # Errors
/// [`Error::InvalidSetting`] if the two cut the ring differently.
pub fn moves(previous: &Placement, next: &Placement, nodes: &[Node]) -> Result<Vec<Move>> {
    check_same_ring(previous, next.tablets().count())?;
    let places: HashMap<NodeId, (&str, &str)> =
        nodes.iter().map(|n| (n.id, (n.datacenter.as_str(), n.rack.as_str()))).collect();
    let place = |node: NodeId| places.get(&node).copied();
    let same_rack = |a, b| place(a).is_some() && place(a) == place(b);
    let datacenter = |node| place(node).map(|(datacenter, _)| datacenter);
    let same_datacenter = |a, b| datacenter(a).is_some() && datacenter(a) == datacenter(b);

    let mut found = Vec::new();
    for (tablet, list) in next.lists() {
        let before = previous.replicas(tablet);
        let missing_in = |other: &[NodeId], node: &NodeId| !other.contains(node);
        let mut leaving: Vec<NodeId> =
            before.iter().copied().filter(|node| missing_in(list, node)).collect();
        let mut joining: Vec<NodeId> =
            list.iter().copied().filter(|node| missing_in(before, node)).collect();
        let mut pair = |near: &dyn Fn(NodeId, NodeId) -> bool| {
            leaving.retain(|&old| {
                let Some(at) = joining.iter().position(|&new| near(old, new)) else { return true };
                let new = joining.remove(at);
                found.push(Move { tablet, leaving: Some(old), joining: Some(new) });
                false
            });
        };
        pair(&same_rack);
        pair(&same_datacenter);
        pair(&|_, _| true);
        found.extend(leaving.iter().map(|&n| Move { tablet, leaving: Some(n), joining: None }));
        found.extend(joining.iter().map(|&n| Move { tablet, leaving: None, joining: Some(n) }));
    }
    Ok(found)
}

/// A keyspace keeps its number of tablets for life.
pub(super) fn check_same_ring(previous: &Placement, tablet_count: u32) -> Result<()> {
    let before = previous.tablets().count();
    if before != tablet_count {
        let detail = format!(
            "the previous placement has {before}, this one {tablet_count}; a keyspace keeps its number"
        );
        return Err(Error::invalid_setting("tablets", detail));
    }
    Ok(())
}

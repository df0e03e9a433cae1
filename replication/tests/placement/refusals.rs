//! What would strand data is refused by name, and says what to do.

use std::collections::BTreeMap;
use treering_replication::base::ids::NodeId;
use treering_replication::base::token::Tablets;
use treering_replication::placement::{
    Factor, NODE_COUNT_MAX, Node, PAIR_COUNT_MAX, Placement, REPLICA_COUNT_MAX, Request,
    WEIGHT_MAX, moves, place,
};
use treering_replication::{Error, Result};

fn nodes(count: u64) -> Vec<Node> {
    (0..count).map(|id| Node::new(NodeId(id), 100, "east", "a")).collect()
}

fn placed(nodes: &[Node], factor: &Factor) -> Result<Placement> {
    let tablets = Tablets::new(64)?;
    place(&Request { nodes, factor, tablets, previous: None })
}

fn setting(nodes: &[Node], factor: &Factor) -> String {
    match placed(nodes, factor) {
        Err(Error::InvalidSetting { setting, detail }) => format!("{setting}: {detail}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_factor_that_the_nodes_cannot_hold_is_refused() {
    let few = |place: &str, wanted, found| {
        Err(Error::TooFewNodes { place: place.to_owned(), wanted, found })
    };
    assert_eq!(placed(&nodes(2), &Factor::Total(3)), few("the cluster", 3, 2));
    assert_eq!(placed(&[], &Factor::Total(1)), few("the cluster", 1, 0));
    let mut drained = nodes(3);
    drained[1].weight = 0;
    assert_eq!(placed(&drained, &Factor::Total(3)), few("the cluster", 3, 2));
    let per = |east, west| {
        let counts = [("east", east), ("west", west)].map(|(name, n)| (name.to_owned(), n));
        Factor::PerDatacenter(BTreeMap::from(counts))
    };
    assert_eq!(placed(&nodes(3), &per(2, 1)), few("datacenter west", 1, 0));
    assert_eq!(placed(&nodes(3), &per(4, 1)), few("datacenter east", 4, 3));
    let text = placed(&nodes(2), &Factor::Total(3)).unwrap_err().to_string();
    assert!(text.contains("3 replicas wanted in the cluster, where 2 nodes"), "{text}");
}

#[test]
fn a_factor_out_of_range_is_refused() {
    for count in [0, REPLICA_COUNT_MAX + 1] {
        let text = setting(&nodes(30), &Factor::Total(count));
        assert!(text.starts_with(&format!("replication factor: {count} given; 1 to 16")), "{text}");
    }
    let zero = BTreeMap::from([("east".to_owned(), 2), ("west".to_owned(), 0)]);
    assert!(setting(&nodes(30), &Factor::PerDatacenter(zero)).contains("0 for datacenter west"));
    let none = Factor::PerDatacenter(BTreeMap::new());
    assert!(setting(&nodes(30), &none).starts_with("replication factor: 0 given"));
    // Sums that do not fit 16 bits are no way around the limit.
    let many = (0..5).map(|at| (format!("dc{at}"), u16::MAX)).collect();
    assert!(setting(&nodes(30), &Factor::PerDatacenter(many)).contains("327675 given"));
}

#[test]
fn a_list_of_nodes_that_contradicts_itself_is_refused() {
    let mut twice = nodes(3);
    twice[2].id = NodeId(0);
    twice[2].rack = "b".to_owned();
    assert_eq!(placed(&twice, &Factor::Total(2)), Err(Error::NodeTwice { node: NodeId(0) }));
    let mut heavy = nodes(3);
    heavy[1].weight = WEIGHT_MAX + 1;
    assert!(setting(&heavy, &Factor::Total(2)).contains("n1 has 1000001; 0 to 1000000"));
    let mut empty = nodes(3);
    empty.iter_mut().for_each(|node| node.weight = 0);
    assert!(setting(&empty, &Factor::Total(2)).contains("all 3 nodes have 0"));
    let crowd = nodes(NODE_COUNT_MAX as u64 + 1);
    assert!(setting(&crowd, &Factor::Total(2)).contains("1025 given; at most 1024"));
}

#[test]
fn a_ring_that_was_cut_otherwise_is_refused() {
    let nodes = nodes(3);
    let before = placed(&nodes, &Factor::Total(2)).unwrap();
    let factor = Factor::Total(2);
    let tablets = Tablets::new(128).unwrap();
    let request = Request { nodes: &nodes, factor: &factor, tablets, previous: Some(&before) };
    let text = place(&request).unwrap_err().to_string();
    assert!(text.contains("the previous placement has 64, this one 128"), "{text}");
    let next = place(&Request { previous: None, ..request }).unwrap();
    assert!(moves(&before, &next, &nodes).is_err());
}

#[test]
fn a_placement_too_large_to_compute_is_refused() {
    let nodes = nodes(512);
    let tablets = Tablets::new(1 << 16).unwrap();
    let request = Request { nodes: &nodes, factor: &Factor::Total(1), tablets, previous: None };
    let text = place(&request).unwrap_err().to_string();
    assert!(text.contains(&format!("at most {PAIR_COUNT_MAX}")), "{text}");
}

#[test]
fn extreme_weights_and_full_zones_are_no_overflow() {
    // Promise: every weight and factor in range can be placed.
    let mut nodes = nodes(17);
    for (at, node) in nodes.iter_mut().enumerate() {
        node.weight = if at % 2 == 0 { WEIGHT_MAX } else { 1 };
        node.rack = format!("r{}", at % 5);
    }
    for count in [1, 8, REPLICA_COUNT_MAX] {
        let placement = placed(&nodes, &Factor::Total(count)).unwrap();
        assert_eq!(placement.replica_count(), count);
    }
}

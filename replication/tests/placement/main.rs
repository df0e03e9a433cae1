//! Placement over thousands of random clusters: rule, shares, moves, order, refusals, bytes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod bytes;
mod cluster;
mod oracle;
mod refusals;

use cluster::{Cluster, Draw};
use oracle::{Zones, check_fair, check_placement, copies, could_copy_fewer};
use std::collections::{BTreeSet, HashMap};
use treering_replication::Error;
use treering_replication::base::ids::NodeId;
use treering_replication::base::token::Tablets;
use treering_replication::placement::{Factor, Node, Placement, Request, Shares, moves, place};

#[test]
fn a_random_cluster_never_copies_more_than_it_must() {
    // Promise: the rule, the shares, the order and the least number of copies, through join, leave, drain, replace, re-weigh, re-zone and another factor.
    let seed = 1;
    println!("seed {seed}");
    let mut draw = Draw(seed);
    let (mut changes, mut refused, mut copied, mut forced) = (0, 0, 0u64, 0u64);
    for number in 0..2000 {
        let mut cluster = Cluster::draw(&mut draw);
        let mut placement = cluster.place(None).unwrap();
        check_placement(&cluster, &placement);
        for step in 0..2 {
            let before = cluster.clone();
            let event = (number + step * 3) % 7;
            cluster.change(event, &mut draw);
            let next = match cluster.place(Some(&placement)) {
                Ok(next) => next,
                Err(Error::TooFewNodes { .. } | Error::InvalidSetting { .. }) => {
                    cluster = before;
                    refused += 1;
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            check_placement(&cluster, &next);
            let moved = copies(&placement, &next);
            let fewer = could_copy_fewer(&cluster, &placement, &next);
            assert!(!fewer, "cluster {number}, event {event}: {moved} copies; {cluster:?}");
            forced += u64::from(copies_at_least(&cluster, &placement));
            copied += u64::from(moved);
            changes += 1;
            placement = next;
        }
    }
    println!("{changes} changes, {refused} refused; {copied} copies, {forced} at least");
    assert!(changes > 3500 && refused > 10);
    assert!(copied * 100 <= forced * 110);
}

/// A lower bound that knows no zones: what nodes lack of their shares, or what those that are gone or drained held.
fn copies_at_least(cluster: &Cluster, before: &Placement) -> u32 {
    let shares = cluster.shares(before);
    let lacking = shares.iter().map(|s| (s.ideal.floor() as u32).saturating_sub(s.replicas));
    let stranded = shares.iter().filter(|share| share.ideal == 0.0).map(|share| share.replicas);
    let grown = u32::from(before.replica_count()) <= cluster.factor.replica_count();
    lacking.sum::<u32>().max(if grown { stranded.sum() } else { 0 })
}

#[test]
fn a_long_life_never_makes_joins_and_leaves_dearer() {
    // Promise: placements that came out of many changes give replicas away as readily as a first one.
    let mut draw = Draw(7);
    let nodes = (0..24).map(|id| {
        Node::new(NodeId(id), 100, &format!("dc{}", id % 2), &format!("r{}", id / 2 % 4))
    });
    let mut cluster = Cluster {
        nodes: nodes.collect(),
        factor: Factor::Total(3),
        tablets: Tablets::new(512).unwrap(),
        racks: 4,
        datacenters: 2,
        next_id: 24,
    };
    let mut placement = cluster.place(None).unwrap();
    let (mut copied, mut least) = (0, 0);
    for _ in 0..60 {
        let event = if cluster.nodes.len() < 20 { 0 } else { draw.below(2) };
        cluster.change(event, &mut draw);
        let next = cluster.place(Some(&placement)).unwrap();
        check_placement(&cluster, &next);
        copied += copies(&placement, &next);
        least += copies_at_least(&cluster, &placement);
        placement = next;
    }
    println!("{copied} copies, {least} at least");
    assert!(copied * 100 <= least * 105);
}

#[test]
fn no_placement_at_all_copies_fewer_where_all_can_be_tried() {
    // Promise: the least number of copies, against every placement of a tiny cluster.
    let seed = 2;
    println!("seed {seed}");
    let mut draw = Draw(seed);
    let mut copied = 0;
    for _ in 0..150 {
        let mut cluster = Cluster::draw(&mut draw);
        cluster.nodes.truncate(5);
        cluster.tablets = Tablets::new(4).unwrap();
        cluster.factor = Factor::Total(1 + draw.below(2) as u16);
        let before = cluster.place(None).unwrap();
        let event = draw.below(6);
        cluster.change(event, &mut draw);
        if cluster.nodes.len() > 5 {
            cluster.nodes.remove(0);
        }
        let Ok(next) = cluster.place(Some(&before)) else { continue };
        assert_eq!(copies(&before, &next), least_copies(&cluster, &before), "{cluster:?}");
        copied += copies(&before, &next);
    }
    assert!(copied > 100, "something moves");
}

/// The fewest copies of any placement under the rule and the shares, by trying all.
fn least_copies(cluster: &Cluster, before: &Placement) -> u32 {
    let zones = Zones::new(cluster);
    let able: Vec<NodeId> = zones.of.keys().copied().collect();
    let width = cluster.factor.replica_count();
    let sets: Vec<Vec<NodeId>> = (0u32..1 << able.len())
        .filter(|set| set.count_ones() == width)
        .map(|set| (0..able.len()).filter(|at| set >> at & 1 == 1).map(|at| able[at]).collect())
        .filter(|set: &Vec<NodeId>| zones.is_spread(&zones.count(set)))
        .collect();
    let shares = cluster.shares(before);
    let mut least = u32::MAX;
    let tablets: Vec<_> = cluster.tablets.all().collect();
    let mut digits = vec![0; tablets.len()];
    loop {
        let mut held: HashMap<NodeId, u32> = HashMap::new();
        let mut copied = 0;
        for (&tablet, &digit) in tablets.iter().zip(&digits) {
            for node in &sets[digit] {
                *held.entry(*node).or_default() += 1;
                copied += u32::from(!before.replicas(tablet).contains(node));
            }
        }
        let fair = shares.iter().all(|share| {
            let held = f64::from(held.get(&share.node.id).copied().unwrap_or(0));
            (held - share.ideal).abs() < 1.0 - 1e-6
        });
        if fair {
            least = least.min(copied);
        }
        let Some(at) = digits.iter().position(|&digit| digit + 1 < sets.len()) else {
            return least;
        };
        digits[..at].fill(0);
        digits[at] += 1;
    }
}

#[test]
fn a_share_is_never_bent_further_than_the_zones_force() {
    // Promise: the ideal of every node is the one nearest to the weights; it equals them where no zone is in the way.
    let seed = 3;
    println!("seed {seed}");
    let mut draw = Draw(seed);
    let (mut blocked, mut free) = (0, 0);
    for _ in 0..400 {
        let cluster = Cluster::draw(&mut draw);
        let placement = cluster.place(None).unwrap();
        let shares = cluster.shares(&placement);
        let pairs = check_fair(&cluster, &shares);
        if pairs == 0 && matches!(cluster.factor, Factor::Total(_)) {
            assert!(shares.iter().all(|share| !share.is_bent()), "{shares:?}");
            free += 1;
        }
        blocked += pairs;
    }
    println!("{blocked} pairs kept apart by zones; {free} clusters without any");
    assert!(blocked > 1000 && free > 50);
}

#[test]
fn the_order_of_the_node_list_never_matters() {
    // Promise: same input, same placement.
    let mut draw = Draw(4);
    for _ in 0..100 {
        let mut cluster = Cluster::draw(&mut draw);
        let first = cluster.place(None).unwrap();
        cluster.change(4, &mut draw);
        let second = cluster.place(Some(&first)).unwrap();
        let mut shuffled = cluster.clone();
        for at in (1..shuffled.nodes.len()).rev() {
            shuffled.nodes.swap(at, draw.below(at as u64 + 1) as usize);
        }
        assert_eq!(shuffled.place(Some(&first)).unwrap(), second);
    }
}

#[test]
fn nothing_moves_where_nothing_changed() {
    // Promise: not a replica, not a place in a list.
    let mut draw = Draw(5);
    for _ in 0..100 {
        let cluster = Cluster::draw(&mut draw);
        let placement = cluster.place(None).unwrap();
        assert_eq!(cluster.place(Some(&placement)).unwrap(), placement);
    }
}

#[test]
fn the_moves_lead_from_one_placement_to_the_other() {
    // Promise: each slot once, paired inside a rack or a datacenter where that is possible.
    let mut draw = Draw(6);
    let mut in_rack = 0;
    for number in 0..300 {
        let mut cluster = Cluster::draw(&mut draw);
        let before = cluster.place(None).unwrap();
        let mut known = cluster.nodes.clone();
        cluster.change(number % 7, &mut draw);
        let Ok(next) = cluster.place(Some(&before)) else { continue };
        known.extend(cluster.nodes.iter().cloned());
        let found = moves(&before, &next, &known).unwrap();
        assert_eq!(
            found.iter().filter(|m| m.joining.is_some()).count() as u32,
            copies(&before, &next)
        );
        let place: HashMap<NodeId, (&str, &str)> =
            known.iter().map(|n| (n.id, (n.datacenter.as_str(), n.rack.as_str()))).collect();
        for (tablet, list) in before.lists() {
            let mut set: BTreeSet<NodeId> = list.iter().copied().collect();
            let slots: Vec<_> = found.iter().filter(|m| m.tablet == tablet).collect();
            for slot in &slots {
                assert!(slot.leaving.is_none_or(|node| set.remove(&node)), "{slot:?}");
            }
            for slot in &slots {
                assert!(slot.joining.is_none_or(|node| set.insert(node)), "{slot:?}");
            }
            assert_eq!(set, next.replicas(tablet).iter().copied().collect());
            let pairs: Vec<_> = slots
                .iter()
                .filter_map(|m| Some((place[&m.leaving?], place[&m.joining?])))
                .collect();
            in_rack += pairs.iter().filter(|(old, new)| old == new).count();
            // No two slots could be paired better by exchanging partners.
            for (a, b) in pairs.iter().flat_map(|a| pairs.iter().map(move |b| (a, b))) {
                assert!(a.0 == a.1 || b.0 == b.1 || a.0 != b.1, "{a:?} {b:?}");
            }
        }
    }
    assert!(in_rack > 1000);
}

#[test]
fn a_lost_node_is_copied_from_many_others() {
    // Promise: tablets are scattered, so that no single node must feed the whole repair.
    let nodes: Vec<Node> =
        (0..24).map(|id| Node::new(NodeId(id), 100, "dc", &format!("r{}", id % 3))).collect();
    let factor = Factor::Total(3);
    let tablets = Tablets::new(1024).unwrap();
    let request = Request { nodes: &nodes, factor: &factor, tablets, previous: None };
    let placement = place(&request).unwrap();
    for node in &nodes {
        let mut partners: HashMap<NodeId, u32> = HashMap::new();
        for (tablet, _) in placement.tablets_of(node.id) {
            for partner in placement.replicas(tablet).iter().filter(|id| **id != node.id) {
                *partners.entry(*partner).or_default() += 1;
            }
        }
        // 128 tablets with two partners each, in the 16 nodes of the other racks: 16 each where perfectly even.
        assert_eq!(partners.len(), 16, "{partners:?}");
        assert!(partners.values().all(|&shared| shared <= 40), "{partners:?}");
    }
}

#[test]
fn a_table_of_shares_says_who_is_off_and_why() {
    // Promise: an operator sees weight, ideal, error, bends and drains.
    let mut nodes = vec![
        Node::new(NodeId(1), 100, "east", "a"),
        Node::new(NodeId(2), 300, "east", "b"),
        Node::new(NodeId(3), 100, "east", "b"),
    ];
    let factor = Factor::Total(2);
    let tablets = Tablets::new(64).unwrap();
    let request = Request { nodes: &nodes, factor: &factor, tablets, previous: None };
    let placement = place(&request).unwrap();
    nodes[2].weight = 0;
    let shares = Shares::of(&placement, &nodes, &factor).unwrap();
    assert_eq!(
        shares.to_string(),
        "\
datacenter  rack    node   weight  primaries  replicas      ideal    error
east        a         n1      100         32        64       64.0*   +0.0%  ████████████████████████
            b         n2      300         24        48       64.0*  -25.0%  ██████████████████
                      n3        0          8        16        0.0   drains  ██████
64 tablets x 2 replicas on 3 nodes; largest error 25.0%
* its zone, or holding every tablet once, allows no share nearer to its weight
"
    );
}

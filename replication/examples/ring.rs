//! Prints a ring as an operator would see it, then what moves when nodes come and go, and how long placing took.
//!
//! `cargo run --release -p treering-replication --example ring`
#![allow(
    clippy::disallowed_methods,
    reason = "an example shows how long placing takes; nothing depends on it"
)]

use std::collections::BTreeMap;
use std::time::Instant;
use treering_replication::base::ids::NodeId;
use treering_replication::base::token::Tablets;
use treering_replication::placement::{Factor, Node, Placement, Request, Shares, moves, place};

type Failure = Box<dyn std::error::Error>;

/// A cluster with equal nodes, but for every fifth, which weighs twice as much.
fn cluster(node_count: u64, datacenters: u64, racks: u64) -> Vec<Node> {
    let node = |id: u64| {
        let weight = if id % 5 == 4 { 200 } else { 100 };
        let rack = format!("r{}", id / datacenters % racks);
        Node::new(NodeId(id), weight, &format!("dc{}", id % datacenters), &rack)
    };
    (0..node_count).map(node).collect()
}

/// What happens to a cluster.
fn events(nodes: &[Node]) -> Vec<(&'static str, Vec<Node>)> {
    let last = nodes.len() - 1;
    let changed = |change: &dyn Fn(&mut Vec<Node>)| {
        let mut nodes = nodes.to_vec();
        change(&mut nodes);
        nodes
    };
    let new = NodeId(1000);
    vec![
        ("first", nodes.to_vec()),
        ("nothing", nodes.to_vec()),
        ("join", changed(&|nodes| nodes.push(Node { id: new, ..nodes[last].clone() }))),
        ("leave", changed(&|nodes| drop(nodes.remove(last)))),
        ("drain", changed(&|nodes| nodes[last].weight = 0)),
        ("replace", changed(&|nodes| nodes[last].id = new)),
        ("weight x2", changed(&|nodes| nodes[last].weight *= 2)),
        ("other rack", changed(&|nodes| nodes[last].rack = "r0".to_owned())),
    ]
}

/// Replicas that must be copied whatever the algorithm: those that nodes lack, and those of nodes that may hold none.
fn copies_at_least(before: &Placement, nodes: &[Node], factor: &Factor) -> Result<u32, Failure> {
    let shares = Shares::of(before, nodes, factor)?.nodes;
    let lacking = shares.iter().map(|s| (s.ideal.floor() as u32).saturating_sub(s.replicas));
    let stranded = shares.iter().filter(|s| s.ideal == 0.0).map(|s| s.replicas);
    Ok(lacking.sum::<u32>().max(stranded.sum()))
}

fn table(title: &str, nodes: &[Node], factor: &Factor, tablet_count: u32) -> Result<(), Failure> {
    let tablets = Tablets::new(tablet_count)?;
    println!("\n{title}: {} nodes, {tablet_count} tablets, {factor:?}", nodes.len());
    println!(
        "{:<12} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "event", "copies", "at least", "of all", "error", "ms"
    );
    let mut first: Option<Placement> = None;
    for (event, nodes) in events(nodes) {
        let start = Instant::now();
        let request = Request { nodes: &nodes, factor, tablets, previous: first.as_ref() };
        let placement = place(&request)?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        let before = first.get_or_insert_with(|| placement.clone());
        let copies = moves(before, &placement, &nodes)?.len();
        let all = f64::from(tablet_count) * f64::from(factor.replica_count());
        println!(
            "{event:<12} {copies:>8} {:>8} {:>7.1}% {:>7.2}% {ms:>8.1}",
            copies_at_least(before, &nodes, factor)?,
            copies as f64 / all * 100.0,
            Shares::of(&placement, &nodes, factor)?.error_percent_max(),
        );
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut nodes = cluster(7, 1, 3);
    let factor = Factor::Total(3);
    let tablets = Tablets::new(256)?;
    let mut placement =
        place(&Request { nodes: &nodes, factor: &factor, tablets, previous: None })?;
    println!("{}", Shares::of(&placement, &nodes, &factor)?);
    println!("dc0/r1 gets a new node, n6 drains; before anything has moved:");
    nodes.push(Node::new(NodeId(7), 100, "dc0", "r1"));
    nodes[6].weight = 0;
    println!("{}", Shares::of(&placement, &nodes, &factor)?);
    let previous = Some(&placement);
    placement = place(&Request { nodes: &nodes, factor: &factor, tablets, previous })?;
    println!("and after:");
    println!("{}", Shares::of(&placement, &nodes, &factor)?);

    let both = BTreeMap::from([("dc0".to_owned(), 3), ("dc1".to_owned(), 2)]);
    table("one rack", &cluster(4, 1, 1), &factor, 1024)?;
    table("three racks", &cluster(9, 1, 3), &factor, 1024)?;
    table("five racks", &cluster(25, 1, 5), &factor, 1024)?;
    table("two datacenters", &cluster(24, 2, 4), &Factor::PerDatacenter(both), 1024)?;
    table("three datacenters", &cluster(64, 3, 5), &Factor::Total(5), 4096)?;
    Ok(())
}

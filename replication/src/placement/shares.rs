//! How much each node holds beside what it should: the ring as an operator wants to see it.

use super::fair::fair_shares;
use super::map::Placement;
use super::zones::{Factor, Node, Zones};
use crate::base::error::Result;
use crate::base::ids::NodeId;
use std::collections::HashMap;
use std::fmt;

/// Widest bar of a row, in characters.
const BAR_WIDTH: usize = 24;

/// What one node holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The node, with its weight and place; weight 0 and no place where the list does not know it.
    pub node: Node,
    /// Replicas that it holds.
    pub replicas: u32,
    /// Tablets whose list it opens.
    pub primaries: u32,
    /// Replicas that its weight deserves, as near as zones allow: the share that placement aims at, and meets to less than one replica.
    pub ideal: f64,
    /// Replicas that its weight alone would deserve, were there no racks and could a node hold a tablet twice; with one factor for all, were there no datacenters either.
    pub by_weight: f64,
}

impl Share {
    /// How far the node is from its ideal, in percent of it; 0 for a node that should hold nothing and does.
    pub fn error_percent(&self) -> f64 {
        let difference = f64::from(self.replicas) - self.ideal;
        if difference == 0.0 {
            return 0.0;
        }
        difference / self.ideal * 100.0
    }

    /// Whether zones give it another share than its weight would.
    pub fn is_bent(&self) -> bool {
        (self.ideal - self.by_weight).abs() > 1e-9 * self.by_weight.max(1.0)
    }
}

/// The shares of all nodes, in the order of datacenter, rack and id. `Display` prints a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// Node by node.
    pub nodes: Vec<Share>,
    tablet_count: u32,
    replica_count: u16,
}

impl Shares {
    /// What each node of the list, and each other node that still holds something, holds under `placement`.
    ///
    /// # Errors
    /// As [`place`](super::place): the list and the factor say what would be ideal.
    pub fn of(placement: &Placement, nodes: &[Node], factor: &Factor) -> Result<Shares> {
        let zones = Zones::new(nodes, factor)?;
        let tablet_count = placement.tablets().count();
        let mut held: HashMap<NodeId, (u32, u32)> = HashMap::new();
        for (_, list) in placement.lists() {
            for (place, node) in list.iter().enumerate() {
                let (replicas, primaries) = held.entry(*node).or_default();
                *replicas += 1;
                *primaries += u32::from(place == 0);
            }
        }
        let ideals: HashMap<NodeId, f64> = zones
            .nodes
            .iter()
            .map(|node| node.id)
            .zip(fair_shares(&zones, tablet_count).into_iter().map(|fair| fair.value()))
            .collect();
        let by_weight = weight_alone(nodes, factor, tablet_count, &ideals);
        let mut shares = Vec::new();
        for node in nodes {
            let (replicas, primaries) = held.remove(&node.id).unwrap_or_default();
            let ideal = ideals.get(&node.id).copied().unwrap_or(0.0);
            let by_weight = by_weight.get(&node.id).copied().unwrap_or(0.0);
            shares.push(Share { node: node.clone(), replicas, primaries, ideal, by_weight });
        }
        shares.extend(held.into_iter().map(|(id, (replicas, primaries))| Share {
            node: Node::new(id, 0, "", ""),
            replicas,
            primaries,
            ideal: 0.0,
            by_weight: 0.0,
        }));
        shares.sort_by(|a, b| {
            let key = |share: &Share| share.node.id;
            (&a.node.datacenter, &a.node.rack, key(a)).cmp(&(
                &b.node.datacenter,
                &b.node.rack,
                key(b),
            ))
        });
        Ok(Shares { nodes: shares, tablet_count, replica_count: placement.replica_count() })
    }

    /// The largest error of a node that should hold something, in percent of its ideal.
    pub fn error_percent_max(&self) -> f64 {
        let aimed = self.nodes.iter().filter(|share| share.ideal > 0.0);
        aimed.map(|share| share.error_percent().abs()).fold(0.0, f64::max)
    }
}

/// What each node that can hold data deserves by its weight alone: among all, or among its datacenter's where each has its own factor.
fn weight_alone(
    nodes: &[Node],
    factor: &Factor,
    tablet_count: u32,
    able: &HashMap<NodeId, f64>,
) -> HashMap<NodeId, f64> {
    // The group in which weights are compared, and its factor.
    let group = |datacenter: &str| match factor {
        Factor::Total(count) => (String::new(), *count),
        Factor::PerDatacenter(counts) => {
            (datacenter.to_owned(), counts.get(datacenter).copied().unwrap_or(0))
        }
    };
    let mut weights: HashMap<String, u64> = HashMap::new();
    for node in nodes {
        *weights.entry(group(&node.datacenter).0).or_default() += u64::from(node.weight);
    }
    let able = nodes.iter().filter(|node| able.contains_key(&node.id));
    let deserved = able.map(|node| {
        let (name, count) = group(&node.datacenter);
        let replicas = f64::from(count) * f64::from(tablet_count);
        (node.id, replicas * f64::from(node.weight) / weights[&name] as f64)
    });
    deserved.collect()
}

/// A bar of eighths of characters.
fn bar(part: f64) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (part.clamp(0.0, 1.0) * (BAR_WIDTH * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |title: &str, text: fn(&Share) -> &str| {
            let longest = self.nodes.iter().map(|share| text(share).chars().count()).max();
            longest.unwrap_or(0).max(title.len())
        };
        let datacenter_width = width("datacenter", |share| &share.node.datacenter);
        let rack_width = width("rack", |share| &share.node.rack);
        let fullest = self.nodes.iter().map(|share| share.replicas).max().unwrap_or(0).max(1);
        writeln!(
            f,
            "{:<datacenter_width$}  {:<rack_width$}  {:>6}  {:>7}  {:>9}  {:>8}  {:>9}   {:>6}",
            "datacenter", "rack", "node", "weight", "primaries", "replicas", "ideal", "error"
        )?;
        let (mut above, mut bent) = (None, false);
        for share in &self.nodes {
            let place = (&share.node.datacenter, &share.node.rack);
            let repeated = above == Some(place);
            let datacenter = match above {
                Some((datacenter, _)) if datacenter == place.0 => "",
                _ => place.0,
            };
            above = Some(place);
            let mark = if share.is_bent() { "*" } else { " " };
            bent |= share.is_bent();
            let error = match share.error_percent() {
                error if error.is_finite() => format!("{error:+.1}%"),
                _ => "drains".to_owned(),
            };
            let row = format!(
                "{datacenter:<datacenter_width$}  {:<rack_width$}  {:>6}  {:>7}  {:>9}  {:>8}  {:>9.1}{mark}  {error:>6}  {}",
                if repeated { "" } else { place.1.as_str() },
                share.node.id.to_string(),
                share.node.weight,
                share.primaries,
                share.replicas,
                share.ideal,
                bar(f64::from(share.replicas) / f64::from(fullest)),
            );
            writeln!(f, "{}", row.trim_end())?;
        }
        writeln!(
            f,
            "{} tablets x {} replicas on {} nodes; largest error {:.1}%",
            self.tablet_count,
            self.replica_count,
            self.nodes.iter().filter(|share| share.replicas > 0).count(),
            self.error_percent_max()
        )?;
        if bent {
            writeln!(
                f,
                "* its zone, or holding every tablet once, allows no share nearer to its weight"
            )?;
        }
        Ok(())
    }
}

//! Placement: which nodes hold which tablet, and what must move when nodes come and go.
//!
//! [`place`] is a pure function. From the nodes (weight, datacenter, rack), the factor, the tablets and the placement before, it makes a [`Placement`]: for each tablet the
//! ordered list of its nodes. Same input, same answer, whatever the order of the node list; so every node can check what the metadata log says.
//!
//! What it promises:
//! 1. **Distinct nodes, spread zones.** A datacenter (under one factor for all) or a rack holds two more replicas of a tablet than its sibling only where the sibling has no
//!    node left. In short: no second replica in a rack while another rack that could take it has none.
//! 2. **Shares by weight.** Each node holds its fair share rounded down or up: in proportion to its weight, as near as rule 1 allows, and where it does not there is
//!    one nearest (the rule that defines it is in `fair.rs`). From 32 replicas per node on that is within 1/32 = 3.2 %.
//! 3. **Fewest moves.** No placement under rules 1 and 2 copies fewer replicas than this one, seen from the placement before.
//! 4. **Balanced lists.** Each node is first of a list (primary) as often as its replicas deserve, rounded down or up, then second, and so on; of such orders it
//!    keeps, place by place, the one that changes fewest lists.
//! 5. **Refusal before damage.** A factor that the nodes cannot hold, a node twice, weights out of range: typed errors, no placement.
//!
//! # Why a flow
//! Three ways were built and compared on 60 random changes of each kind (4 to 29 nodes of weights 50 to 200 in 1 to 5 racks, factor 1 to 5, 256 tablets; a machine of 2 cores).
//! Copies are in multiples of the least possible (of all changes together, and of the worst one of more than 20 copies):
//!
//! | way | join | leave | replace | double a weight | largest error of a share | time |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | flow of least cost (this one) | 1.00 | 1.00 | 1.00 | 1.00 | under 1 replica | 0.8 to 1.1 ms |
//! | greedy balancer, swapping through a third node where stuck | 1.16 (1.65) | 1.05 (1.29) | 1.05 (1.25) | 1.29 (1.63) | 4 replicas | 0.5 to 0.9 ms |
//! | weighted rendezvous, load bounded at 1.05 x share | 1.16 (1.73) | 1.12 (1.88) | 1.66 (3.00) | 1.23 (2.46) | 74 replicas | 0.3 to 0.6 ms |
//!
//! Rendezvous needs no placement before it, which is its charm, but we have one; and its bound cannot be kept together with the spreading of zones. The greedy way costs more copies,
//! ends off balance now and then, and nothing tells that it did. The flow is optimal by construction, and the tests hold a certificate against it: no cycle of exchanges would save a copy.
//!
//! Shares could be let slip by a few percent to save copies. Against the least number of copies with every share within 5 %, exact shares cost 4 % more copies at a join, 1 % at a leave, none at a
//! replacement and 8 % when a weight changes (2500 random clusters). That was not taken: small errors would stay for good, and an operator who changes a weight by 4 % means it.
//!
//! What is left out: sizes and load of single tablets (they are taken as equal; the hash of tokens makes them so), and splitting tablets (a keyspace keeps their number).
//!
//! # Example
//! ```
//! use treering_replication::base::{ids::{NodeId, TabletId}, token::Tablets};
//! use treering_replication::placement::{Factor, Node, Request, Shares, moves, place};
//!
//! let mut nodes: Vec<Node> = (1..=4)
//!     .map(|id| Node::new(NodeId(id), 100, "east", if id % 2 == 0 { "a" } else { "b" }))
//!     .collect();
//! let factor = Factor::Total(2);
//! let tablets = Tablets::new(256)?;
//! let before = place(&Request { nodes: &nodes, factor: &factor, tablets, previous: None })?;
//! assert_eq!(before.replicas(TabletId(7)).len(), 2);
//!
//! // A node of twice the size joins rack a, which holds one replica of each tablet: half of these go to the new node, and nothing else moves.
//! nodes.push(Node::new(NodeId(5), 200, "east", "a"));
//! let after = place(&Request { nodes: &nodes, factor: &factor, tablets, previous: Some(&before) })?;
//! let moved = moves(&before, &after, &nodes)?;
//! assert!(moved.iter().all(|m| m.joining == Some(NodeId(5))));
//! assert_eq!(moved.len(), 128);
//! println!("{}", Shares::of(&after, &nodes, &factor)?);
//! # Ok::<(), treering_replication::Error>(())
//! ```

mod assign;
mod fair;
mod flow;
mod map;
mod moves;
mod order;
mod shares;
mod wire;
mod zones;

pub use map::Placement;
pub use moves::{Move, moves};
pub use shares::{Share, Shares};
pub use zones::{Factor, NODE_COUNT_MAX, Node, REPLICA_COUNT_MAX, WEIGHT_MAX};

use crate::base::error::{Error, Result};
use crate::base::token::Tablets;
use zones::Zones;

/// Most pairs of a tablet and a node that may hold it. Memory while placing is about 40 bytes a pair.
pub const PAIR_COUNT_MAX: u64 = 1 << 24;

/// What a placement is made from.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// All nodes that may hold data, and those that drain (weight 0). One that is gone is simply not in the list.
    pub nodes: &'a [Node],
    /// Replicas of each tablet.
    pub factor: &'a Factor,
    /// How the ring is cut.
    pub tablets: Tablets,
    /// Where everything is now; none for a new keyspace. It may have another factor.
    pub previous: Option<&'a Placement>,
}

/// The placement with fair shares and the fewest moves.
///
/// # Errors
/// - [`Error::TooFewNodes`]: the factor is larger than the number of nodes with a weight, in all or in a datacenter.
/// - [`Error::NodeTwice`]: an id is in the list twice.
/// - [`Error::InvalidSetting`]: a weight, the factor, the number of nodes or of pairs is out of range, every weight is 0, or the previous placement has another number of tablets.
///
/// # Cost
/// 1024 tablets over 9 nodes: a few ms. 4096 over 64: 0.1 s and 15 MB. 65536 over 256, the most that is possible: 6 to 8 s and 700 MB, so not on a thread that serves.
pub fn place(request: &Request<'_>) -> Result<Placement> {
    let zones = Zones::new(request.nodes, request.factor)?;
    let tablet_count = request.tablets.count();
    if let Some(previous) = request.previous {
        moves::check_same_ring(previous, tablet_count)?;
    }
    let pairs = zones.nodes.len() as u64 * u64::from(tablet_count);
    if pairs > PAIR_COUNT_MAX {
        let detail = format!("{pairs} pairs of them; at most {PAIR_COUNT_MAX} are possible");
        return Err(Error::invalid_setting("tablets x nodes", detail));
    }
    let shares = fair::fair_shares(&zones, tablet_count);
    let holders = assign::assign(&zones, &shares, request.tablets, request.previous);
    let lists = order::preference_lists(&zones, request.tablets, holders, request.previous);
    // At most REPLICA_COUNT_MAX, as the zones were checked.
    Placement::from_lists(request.tablets, zones.replica_count as u16, lists)
}

//! The placement itself: for every tablet the ordered list of the nodes that hold it.
//!
//! One flat list, `replica_count` ids a tablet, so that a lookup is one multiplication and hands out a slice.
//!
//! Promises: (1) every tablet has the same number of replicas, at least one; (2) no node is twice in a list. What a placement does not know is why: weights and zones
//! are those of the node list that it was made from.

use super::zones::REPLICA_COUNT_MAX;
use crate::base::error::{Error, Result};
use crate::base::ids::{NodeId, TabletId};
use crate::base::token::Tablets;

/// Who holds what, in which order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placement {
    tablets: Tablets,
    replica_count: u16,
    replicas: Vec<NodeId>,
}

impl Placement {
    /// A placement from lists made elsewhere: `replica_count` ids for each tablet, one list after the other.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] if the count is 0 or above [`REPLICA_COUNT_MAX`], if there are too few or too many ids, or if a list names a node twice.
    pub fn from_lists(
        tablets: Tablets,
        replica_count: u16,
        replicas: Vec<NodeId>,
    ) -> Result<Placement> {
        let refuse = |detail: String| Err(Error::invalid_setting("placement", detail));
        if replica_count == 0 || replica_count > REPLICA_COUNT_MAX {
            return refuse(format!(
                "{replica_count} replicas a tablet; 1 to {REPLICA_COUNT_MAX} is possible"
            ));
        }
        let wanted = u64::from(tablets.count()) * u64::from(replica_count);
        if replicas.len() as u64 != wanted {
            return refuse(format!("{} ids; these tablets need {wanted}", replicas.len()));
        }
        for (tablet, list) in replicas.chunks_exact(usize::from(replica_count)).enumerate() {
            let twice = |at: &usize| list[..*at].contains(&list[*at]);
            if let Some(at) = (1..list.len()).find(twice) {
                return refuse(format!("{} twice in the list of t{tablet}", list[at]));
            }
        }
        Ok(Placement { tablets, replica_count, replicas })
    }

    /// How the ring is cut.
    pub fn tablets(&self) -> Tablets {
        self.tablets
    }

    /// Replicas of each tablet, over all datacenters.
    pub fn replica_count(&self) -> u16 {
        self.replica_count
    }

    /// The nodes that hold a tablet, the primary first.
    ///
    /// # Panics
    /// If there is no such tablet.
    #[inline]
    pub fn replicas(&self, tablet: TabletId) -> &[NodeId] {
        let width = usize::from(self.replica_count);
        let first = tablet.0 as usize * width;
        &self.replicas[first..first + width]
    }

    /// The tablets that a node holds, each with the node's place in its list (0: primary), in the order of the ring.
    ///
    /// # Cost
    /// Walks all lists.
    pub fn tablets_of(&self, node: NodeId) -> impl Iterator<Item = (TabletId, usize)> + '_ {
        self.lists().filter_map(move |(tablet, list)| {
            Some((tablet, list.iter().position(|&holder| holder == node)?))
        })
    }

    /// Every tablet with its list.
    pub fn lists(&self) -> impl Iterator<Item = (TabletId, &[NodeId])> + '_ {
        self.tablets.all().zip(self.replicas.chunks_exact(usize::from(self.replica_count)))
    }

    /// The nodes that hold anything, by id.
    pub fn nodes(&self) -> Vec<NodeId> {
        let mut nodes = self.replicas.clone();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

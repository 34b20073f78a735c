//! In-sync sets that leaders here ask the controller for. Knows nothing of who carries them there.

use tidelog_replication::InSyncProposal;

use super::handle::Handle;
use super::upstream::Replica;

/// An in-sync set that a leader here asks for. It waits for a newer partition epoch, or for [`super::Command::AlterationFailed`], so
/// each partition has one at most.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposed {
    /// The partition.
    pub replica: Replica,
    /// What it asks for.
    pub proposal: InSyncProposal,
}

impl Replica {
    /// The partition that `handle` stands for.
    #[must_use]
    pub fn of(handle: &Handle) -> Self {
        Self { topic_id: handle.topic_id(), partition: handle.partition() }
    }
}

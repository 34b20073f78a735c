//! What travels between brokers and the controller. Knows nothing of how.

use tidelog_coordination::ClusterImage;
use tidelog_coordination::command::Registration;
use tidelog_protocol::{BrokerEpoch, BrokerId, FolderStamp, LeaderEpoch, MetadataIndex, Monotonic, PartitionEpoch};
use tidelog_replication::{
    EpochEndAnswer, FollowAnswer, FollowTerms, InSyncProposal, Membership, Offer, ReplicaProgress,
};

use super::disk::Batch;

/// Who can send and receive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// A broker.
    Broker(BrokerId),
    /// The broker that runs the controller, wherever it is.
    Controller,
}

/// One message.
#[derive(Clone, Debug)]
pub enum Message {
    /// A follower asks where an epoch ended.
    EpochEnd {
        /// Whom it takes for the leader's leadership.
        leader_epoch: LeaderEpoch,
        /// The epoch.
        epoch: LeaderEpoch,
    },
    /// The leader's answer.
    EpochEndAnswer(EpochEndAnswer),
    /// A follower asks for its stream.
    Follow {
        /// On which terms.
        terms: FollowTerms,
        /// Matches the answer to the question.
        attempt: u32,
    },
    /// The leader's answer.
    FollowAnswer {
        /// The answer.
        answer: FollowAnswer,
        /// Of the question.
        attempt: u32,
    },
    /// The leader pushes.
    Item {
        /// The leader's offsets.
        offer: Offer,
        /// The batches.
        batches: Vec<Batch>,
    },
    /// A follower reports.
    Progress(ReplicaProgress),
    /// A broker has started.
    Register {
        /// Life of its folder.
        incarnation: u8,
        /// See [`super::disk::Disk::closed_cleanly`].
        closed_cleanly: Option<BrokerEpoch>,
        /// See [`super::disk::Disk::stamps`].
        stamps: Vec<FolderStamp>,
        /// What the controller said of it before.
        older_than: Option<BrokerEpoch>,
    },
    /// The broker's folder is older than its last registration: nothing was done.
    FolderIsOlder {
        /// That registration.
        than: BrokerEpoch,
    },
    /// It is registered.
    Registered {
        /// Its registration.
        epoch: BrokerEpoch,
    },
    /// The controller knows a later registration of the broker, or none.
    RegisterAnew,
    /// A broker is alive.
    Heartbeat {
        /// Who.
        broker: Registration,
        /// How far it has applied the metadata.
        applied: MetadataIndex,
        /// When it sent this, by its own clock.
        sent_at: Monotonic,
    },
    /// The controller heard it.
    HeartbeatAnswer {
        /// From the heartbeat.
        sent_at: Monotonic,
        /// It has no lease.
        fenced: bool,
    },
    /// A leader wants another in-sync set.
    AlterInSync {
        /// Who.
        leader: Registration,
        /// What.
        proposal: InSyncProposal,
    },
    /// The controller's answer.
    AlterInSyncAnswer {
        /// From the proposal.
        partition_epoch: PartitionEpoch,
        /// What holds now, as of this index; `None` where it was refused.
        held: Option<(MetadataIndex, LeaderEpoch, Membership)>,
    },
    /// The metadata has changed.
    Image(ClusterImage),
}

//! AlterInSync: a leader changes who is in sync with it, for many partitions at once. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, MetadataIndex, PartitionEpoch, PartitionId, TopicId};
use crate::message;
use crate::messages::Fault;

message! {
    /// A replica that shall be in sync.
    pub struct InSyncReplica {
        /// The broker that holds it.
        1 broker_id: BrokerId,
        /// The registration under which it caught up; not looked at for one that is in sync already.
        1 broker_epoch: BrokerEpoch,
    }
}

message! {
    /// Another set of replicas in sync with one partition.
    pub struct InSyncChange {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The leadership.
        1 leader_epoch: LeaderEpoch,
        /// The state that the change was made from; the change is refused where it is not the present one.
        1 partition_epoch: PartitionEpoch,
        /// All that shall be in sync, the leader included. Without the leader it gives the lead up: to those named, who are in sync already, or
        /// to whoever the controller finds complete.
        1 in_sync: Vec<InSyncReplica>,
    }
}

message! {
    /// Changes who is in sync. Answered by the controller; NotController elsewhere, FencedBroker where the whole request is refused.
    pub struct AlterInSyncRequest {
        /// The leader.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// The changes, one for a partition.
        1 partitions: Vec<InSyncChange>,
    }
}

message! {
    /// Who is in sync with one partition now.
    pub struct InSyncState {
        /// The broker that leads it.
        1 leader: Option<BrokerId>,
        /// The leadership.
        1 leader_epoch: LeaderEpoch,
        /// Version of this state.
        1 partition_epoch: PartitionEpoch,
        /// All that are in sync.
        1 in_sync: Vec<BrokerId>,
    }
}

message! {
    /// What became of one change: exactly one of both stands here.
    pub struct InSyncOutcome {
        /// The state that holds now.
        1 state: Option<InSyncState>,
        /// Why it was refused.
        1 fault: Option<Fault>,
    }
}

message! {
    /// What became of the changes. A leader goes by it once it has applied the metadata as of that record: a topic's minimum of
    /// replicas in sync may have changed before.
    pub struct AlterInSyncResponse {
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// In the order of the request.
        1 partitions: Vec<InSyncOutcome>,
    }
}

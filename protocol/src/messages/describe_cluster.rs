//! DescribeCluster: who is there, who decides, and how many partitions are not as they should be.

use crate::ids::{BrokerEpoch, BrokerId, ClusterId, ControllerEpoch, IncarnationId, MetadataIndex};
use crate::{message, wire_enum};

wire_enum! {
    /// How a broker stands to the cluster.
    pub enum BrokerStanding {
        /// It has a lease: it leads, and counts as in sync.
        0 Serving,
        /// It has no lease: it leads nothing.
        1 Fenced,
        /// It is shutting down and hands over what it leads.
        2 Leaving,
    }
}

message! {
    /// How is the cluster?
    pub struct DescribeClusterRequest {}
}

message! {
    /// A broker of the cluster and what it holds.
    pub struct BrokerDescription {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// Which life of its data folder.
        1 incarnation: IncarnationId,
        /// Host name or IP address to dial.
        1 host: String,
        /// TCP port.
        1 port: u16,
        /// Where it stands.
        1 rack: Option<String>,
        /// How it stands to the cluster.
        1 standing: BrokerStanding,
        /// It is being emptied.
        1 draining: bool,
        /// Milliseconds of lease that are left; absent where it has none, or where the answer is not the controller's.
        1 lease_left_ms: Option<u32>,
        /// Replicas that it holds, those being copied included.
        1 replicas: u32,
        /// Those of them in sync.
        1 in_sync: u32,
        /// Partitions that it leads.
        1 leaders: u32,
        /// Partitions that prefer it as leader.
        1 preferred: u32,
    }
}

message! {
    /// How many partitions there are, and how many are not as they should be. A partition may count in several.
    pub struct PartitionCounts {
        /// All.
        1 partitions: u32,
        /// Without a leader.
        1 offline: u32,
        /// With a replica that is not in sync; one that is still being copied does not count.
        1 under_replicated: u32,
        /// With fewer in sync than the topic's minimum: they take no records with acks=all.
        1 below_minimum: u32,
        /// Being reassigned.
        1 moving: u32,
        /// Led by another than the preferred replica.
        1 not_preferred: u32,
    }
}

message! {
    /// How the cluster is, as of one record of the metadata log.
    pub struct DescribeClusterResponse {
        /// The cluster.
        1 cluster_id: ClusterId,
        /// The broker that runs the controller; absent while there is none.
        1 controller: Option<BrokerId>,
        /// Its epoch.
        1 controller_epoch: ControllerEpoch,
        /// The brokers that vote on metadata.
        1 voters: Vec<BrokerId>,
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// What the metadata log may hold.
        1 feature_level: u16,
        /// The brokers, by id.
        1 brokers: Vec<BrokerDescription>,
        /// How many partitions are how.
        1 partitions: PartitionCounts,
        /// The brokers that will vote once the change of voters that is under way is done; empty where none is.
        4 next_voters: Vec<BrokerId>,
    }
}

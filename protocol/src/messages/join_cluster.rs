//! JoinCluster: a broker wants to be a member of the metadata quorum, as a learner. Between brokers only.

use crate::ids::{BrokerId, ClusterId, IncarnationId};
use crate::message;
use crate::messages::RaftMembership;

message! {
    /// Asks to be taken in; asking again changes nothing. Any broker of the cluster may be asked.
    pub struct JoinClusterRequest {
        /// The cluster that its data folder belongs to.
        1 cluster_id: ClusterId,
        /// The broker.
        1 broker_id: BrokerId,
        /// Which life of its data folder.
        1 incarnation: IncarnationId,
        /// Host name or IP address to dial.
        1 host: String,
        /// TCP port.
        1 port: u16,
    }
}

message! {
    /// It is a member.
    pub struct JoinClusterResponse {
        /// Everyone who is.
        1 membership: RaftMembership,
    }
}

//! RegisterBroker: a broker has started and wants to be part of the cluster. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, ClusterId, FolderStamp, IncarnationId, MetadataIndex};
use crate::message;

message! {
    /// A broker has started. Answered by the controller; NotController elsewhere.
    pub struct RegisterBrokerRequest {
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
        /// Where it stands.
        1 rack: Option<String>,
        /// The registration under which it last closed all its logs cleanly; absent after a crash and at its first start.
        1 closed_cleanly: Option<BrokerEpoch>,
        /// The stamps that its data folder knows of, from the last one that the cluster is known to have heard, the newest last. Where the cluster
        /// heard another one since, the folder is an older copy.
        11 stamps: Vec<FolderStamp>,
    }
}

message! {
    /// The broker is registered, and fenced until a heartbeat says that it has caught up.
    pub struct RegisterBrokerResponse {
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// Its data folder is an older copy: it counts as if it held nothing until it has caught up.
        11 is_older_copy: bool,
    }
}

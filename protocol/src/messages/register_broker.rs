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
        /// The stamps that its data folder knows of, from the last one that the cluster is known to have heard, the newest last.
        11 stamps: Vec<FolderStamp>,
        /// The registration that its folder is known to be older than; said once the controller has answered so.
        11 older_than: Option<BrokerEpoch>,
    }
}

message! {
    /// The broker is registered, and fenced until a heartbeat says that it has caught up; or nothing was done, as its folder is an older copy.
    pub struct RegisterBrokerResponse {
        /// Its registration; the last one where nothing was done.
        1 broker_epoch: BrokerEpoch,
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// Nothing was done: the folder does not know the stamp that the cluster heard last, under this registration. Either it is an older copy, or
        /// the request is of an earlier life. Asked again with this epoch, it is registered as one that holds nothing until it has caught up.
        11 older_than: Option<BrokerEpoch>,
    }
}

//! StampFolder: a broker has drawn another stamp for its data folder, and noted it there. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, FolderStamp};
use crate::message;

message! {
    /// From now on the folder of this broker is to know the newest of these stamps. FencedBroker where it does not know the last one that was
    /// heard: the request is an earlier one. Decided where the controller runs.
    pub struct StampFolderRequest {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// All that its folder knows, durably, from the last one that the cluster is known to have heard; the newest last.
        1 stamps: Vec<FolderStamp>,
    }
}

message! {
    /// The cluster knows it.
    pub struct StampFolderResponse {}
}

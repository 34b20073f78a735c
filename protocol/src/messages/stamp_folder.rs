//! StampFolder: a broker has drawn another stamp for its data folder, and noted it there. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, FolderStamp};
use crate::message;

message! {
    /// From now on the folder of this broker is to know this stamp. Decided where the controller runs.
    pub struct StampFolderRequest {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// Noted durably in its folder.
        1 stamp: FolderStamp,
    }
}

message! {
    /// The cluster knows it.
    pub struct StampFolderResponse {}
}

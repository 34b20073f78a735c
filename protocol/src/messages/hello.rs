//! Hello: the first exchange on every connection.

use crate::ids::{BrokerId, ClusterId, IncarnationId};
use crate::message;

message! {
    /// A broker introduces itself to another. Either side refuses the other as WrongPeer where something does not match.
    pub struct PeerHello {
        /// The cluster that it belongs to.
        2 cluster_id: ClusterId,
        /// The broker that dials.
        2 broker_id: BrokerId,
        /// Which life of its data folder.
        2 incarnation: IncarnationId,
        /// The broker that it means to dial; absent where it takes any.
        2 expects: Option<BrokerId>,
    }
}

message! {
    /// The client introduces itself.
    pub struct HelloRequest {
        /// Name of the application, for logs and metrics; may be empty.
        1 client_id: String,
        /// Name and version of the client library.
        1 software: String,
        /// Which broker it is; absent where it is none.
        2 peer: Option<PeerHello>,
    }
}

message! {
    /// An API that the broker serves.
    pub struct ServedApi {
        /// Its number.
        1 api: u16,
        /// The protocol version that introduced it.
        1 since: u16,
    }
}

message! {
    /// The broker introduces itself and says which limits hold.
    pub struct HelloResponse {
        /// The cluster.
        1 cluster_id: ClusterId,
        /// This broker.
        1 broker_id: BrokerId,
        /// Name and version of the broker.
        1 software: String,
        /// The largest frame it accepts, in bytes.
        1 frame_bytes_max: u32,
        /// The largest record batch it accepts unless a topic says otherwise, in bytes.
        1 batch_bytes_max: u32,
        /// Requests that may be unanswered at once on this connection; more are read later.
        1 requests_in_flight_max: u32,
        /// What it serves.
        1 apis: Vec<ServedApi>,
        /// Which life of its data folder.
        2 incarnation: IncarnationId,
    }
}

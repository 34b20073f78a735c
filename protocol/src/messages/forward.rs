//! Forward: a broker hands on to the controller what was asked of it. Between brokers only.

use bytes::Bytes;

use crate::ids::MetadataIndex;
use crate::message;

message! {
    /// A request of another API, as it came. NotController where the receiver does not run the controller.
    pub struct ForwardRequest {
        /// The API.
        1 api: u16,
        /// The body, at the version of this connection.
        1 body: Bytes,
    }
}

message! {
    /// The answer to it.
    pub struct ForwardResponse {
        /// The metadata as of which it holds.
        1 as_of: MetadataIndex,
        /// The body of the answer, at the version of this connection.
        1 body: Bytes,
    }
}

//! RaftSnapshot: the leader of the metadata quorum sends a snapshot piece by piece. Between brokers only.

use crate::message;
use crate::messages::RaftBallot;

message! {
    /// A piece of a snapshot. Its bytes stand in the payload.
    pub struct RaftSnapshotRequest {
        /// Who leads.
        1 ballot: RaftBallot,
        /// Which snapshot; a piece of another one begins anew.
        1 snapshot_id: String,
        /// Where the piece begins, in bytes.
        1 position: u64,
        /// Bytes of the whole.
        1 total_bytes: u64,
        /// CRC32C of the whole.
        1 checksum: u32,
    }
}

message! {
    /// Where the next piece begins, or that the whole is installed.
    pub struct RaftSnapshotResponse {
        /// The ballot that holds for the one who answers.
        1 ballot: RaftBallot,
        /// Bytes that have arrived; all of them: it is installed.
        1 arrived_bytes: u64,
    }
}
